/* SPDX-License-Identifier: MIT */
/* leak.h - what nothing points to any more: blocks of malloc and of the pools, arenas, collected mappings.
 *
 * The search is that of allot/gcmap.h: the other threads stand still, and every word that a pointer can lie in is
 * looked at. A block is
 *
 *     definitely lost    nothing points to it but, at most, itself
 *     indirectly lost    only lost ones point to it
 *     possibly lost      only pointers into its middle are left, or what is possibly lost points to it
 *     still reachable    otherwise
 *
 * An arena's blocks are its contents: a pointer to any of them, or to the arena, keeps it. ALLOT_OPTIONS=leaks looks at
 * exit and prints.
 *
 * The labels of the comments are those of allot.h.
 */
#ifndef ALLOT_LEAK_H
#define ALLOT_LEAK_H

#include "allot/allot.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    ALLOT_LEAK_PRINT = 1,    /* groups and a summary to standard error */
    ALLOT_LEAK_REACHABLE = 2 /* groups of what is still reachable as well */
};

typedef struct allot_leak_count {
    size_t n; /* blocks, arenas and mappings */
    size_t bytes;
} allot_leak_count;

typedef struct allot_leak_report {
    size_t abi_size; /* in: sizeof(allot_leak_report), by ALLOT_LEAK_REPORT_INIT */
    allot_leak_count definite;
    allot_leak_count indirect;
    allot_leak_count possible;
    allot_leak_count reachable;
    allot_leak_count suppressed; /* in none of the others */
    unsigned long thread;        /* that could not be read; 0: none */
    const char *why;             /* there is no answer, in words; "" when there is */
} allot_leak_report;

/* clang-format off */
#define ALLOT_LEAK_REPORT_INIT {sizeof(allot_leak_report), {0, 0}, {0, 0}, {0, 0}, {0, 0}, {0, 0}, 0, ""}
/* clang-format on */

/* allot_leak_check - find leaks now.
 *
 *   flags       ALLOT_LEAK_
 *   report      receives the counts; NULL: not wanted
 *   returns     0; otherwise there is no answer: the errors of allot_gcmap_collect; EINVAL: report is of an unknown
 * size. errno is kept threads     any; the others stand still meanwhile signals     not safe fork        usable in the
 * child at once errors      by the return value
 */
ALLOT_API int allot_leak_check(unsigned flags, allot_leak_report *report);

/* allot_leak_suppress - leave out what was allocated by a stack that one of these suppressions matches.
 *
 * Files that the environment variable ALLOT_SUPPRESSIONS names, with colons between them, are read before the first
 * check. Stacks are known in check mode.
 *
 *   text        in LeakSanitizer's form (leak:PATTERN) or in Valgrind's ({ name Memcheck:Leak fun:PATTERN ... }); kept
 *   returns     how many suppressions were read; what can't be read is said on standard error
 *   threads     any
 *   signals     not safe
 *   fork        the child inherits it
 *   errors      0 when there were none, or no memory
 */
ALLOT_API size_t allot_leak_suppress(const char *text);

#ifdef __cplusplus
}
#endif
#endif
