/* SPDX-License-Identifier: MIT */
/* check.h - misuse found, by whom and where: guards, quarantine, mismatches, the report.
 *
 *                          by default                  in check mode (option check)
 *     a block is           one in about sample_rate    every one: noted, with a tail of canary bytes behind what was
 *                          between guard pages         asked for, filled; between guard pages while few are, then
 *                                                      one now and then, large ones always
 *     a freed block is     the guard pages' longer     filled and held back in quarantine, looked at when it leaves
 *     at exit              nothing                     all blocks are looked at, and what is lost is told
 *
 * Check mode is a heap whose lists are empty: all of malloc and free comes here by the hooks (base/hooks.h), and what
 * isn't between guard pages is a block of the heap itself. What is known of a block is in its note, out of line.
 *
 * Threads.   Any. Locks are tried, not waited for: who can't have one does without.
 * Signals.   What takes and gives is async-signal-safe. A handler that interrupts the heap gets the pool's blocks,
 * which aren't checked. Fork.      The child's blocks are its own; what a lost thread was about to do to the quarantine
 * is given up. Orders.    O34 hooks; O37 notes; O38 the locks; O39 what waits for their holders.
 */
#ifndef CHECK_CHECK_H
#define CHECK_CHECK_H

#include "base/base.h"

/* Once, when libc is up: what can't be done earlier. */
void check_start(void);

/* At the process's end: the last look at all blocks. Whether option leaks was given and something is lost. */
bool check_exit(void);
/* Leaks are told here, a fault each: in check mode, and when every block is sampled. */
bool check_tells_leaks(void);

/* Looks at all blocks now; how many faults were reported. */
size_t check_all(void);

/* What is known of the block that covers an address, besides what the heap tells. */
struct check_answer {
    const void *block; /* NULL: nothing */
    size_t bytes;      /* as it was asked for */
    bool live;
    uint32_t take_stack; /* numbers of the depot */
    uint32_t give_stack;
    unsigned long take_thread;
    unsigned long give_thread;
};
void check_ask(const void *address, struct check_answer *answer);

struct fault;

/* Is called with each fault, its line, and the whole report as text, for programs that report in their own way; while
 * it runs, nobody else reports. NULL: nobody is. */
typedef void (*check_listener)(const struct fault *fault, const char *line, const char *text, void *context);
void check_set_listener(check_listener listener, void *context);

#endif
