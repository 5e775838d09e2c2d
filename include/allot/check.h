/* SPDX-License-Identifier: MIT */
/* check.h - misuse: looking for it now, hearing of it whole, and asking where a block came from.
 *
 * What is found without being asked, by default, in check mode (ALLOT_OPTIONS=check) and of sampled blocks, stands in
 * allot_check(7). Each comment uses the labels that allot.h explains.
 */
#ifndef ALLOT_CHECK_H
#define ALLOT_CHECK_H

#include <allot/allot.h>

#ifdef __cplusplus
extern "C" {
#endif

/* allot_check - look at every block now: at what lies beyond live ones, and at freed ones that are held back.
 *
 *   returns     how many faults were found and reported; always 0 but in check mode and when every block is sampled
 *   threads     any; blocks that other threads take or give meanwhile may be passed over
 *   signals     not safe
 *   fork        usable in the child at once
 *   errors      misuse: what it finds. With option halt=0, or a handler that continues, it goes on to the last block
 */
ALLOT_API size_t allot_check(void);

/* allot_set_report_listener - be given every report as text: what was done, the stacks, the bytes, a hint.
 *
 *   listener    is called after the line is written, and before the error handler; while it runs, other threads' faults
 *               have their line and no more. It should neither allocate nor fault. NULL: nobody listens
 *   error       as the error handler gets it; report: the text that follows its line. Both for the time of the call
 *   threads     any; it is called on the thread that made the faulty call or access
 *   signals     safe
 *   fork        the child inherits it
 *   errors      none
 */
typedef void (*allot_report_listener)(const allot_error *error, const char *report, void *context);
ALLOT_API void allot_set_report_listener(allot_report_listener listener, void *context);

typedef struct allot_history {
    size_t abi_size;        /* in: sizeof(allot_history), by ALLOT_HISTORY_INIT */
    const void *block;      /* NULL: nothing is known: by default that is so of all but sampled blocks */
    size_t requested_bytes; /* as they were asked for */
    int live;               /* 0: freed, and still known */
    unsigned long taken_by; /* threads, by the OS's number; 0: not yet */
    unsigned long given_by;
    size_t n_taken_at; /* call stacks, innermost first: return addresses */
    size_t n_given_at;
    const void *taken_at[64];
    const void *given_at[64];
} allot_history;

/* clang-format off */
#define ALLOT_HISTORY_INIT {sizeof(allot_history), NULL, 0, 0, 0, 0, 0, 0, {NULL}, {NULL}}
/* clang-format on */

/* allot_block_history - where does the block that covers an address come from, and where did it go?
 *
 *   address     any 64-bit value
 *   history     in: abi_size. out: the answer
 *   returns     0; EINVAL when history is NULL or of an unknown size
 *   threads     any
 *   signals     safe
 *   fork        usable in the child at once
 *   errors      by the return value
 */
ALLOT_API int allot_block_history(const void *address, allot_history *history);

#ifdef __cplusplus
}
#endif
#endif
