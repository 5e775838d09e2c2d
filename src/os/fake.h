/* SPDX-License-Identifier: MIT */
/* fake.h - an OS that fails on command, for tests.
 *
 * fake.c stands before the platform's own file: each call for memory is counted, and refused when its turn has come.
 * So a test can fail the k-th call for k = 1, 2, 3 ... until a run meets no failure any more:
 *
 *     for (size_t k = 1; ; k++) {
 *         fake_fail(FAKE_ANY, k, 1);
 *         run();
 *         if (fake_failures() == 0) { break; }
 *     }
 *
 * Threads.   Any; the count is one for all threads. To be set while no other thread runs.
 */
#ifndef OS_FAKE_H
#define OS_FAKE_H

#include <stddef.h>

enum fake_kind {
    FAKE_RESERVE, /* os_reserve, os_reserve_readable */
    FAKE_COMMIT,
    FAKE_PURGE,
    FAKE_RELEASE,
    FAKE_MAP,
    FAKE_REMAP, /* os_remap, os_extend */
    FAKE_BREAK,
    FAKE_ADVISE, /* os_huge_never, os_huge_wanted */
    FAKE_FORK_WORD,
    FAKE_ANY /* the calls of every kind, counted together */
};

/* From now on the first-th call of that kind fails (1 is the next one), and those that follow it: n in all. Replaces
 * what was asked for before, and sets the counts to 0. n 0: nothing fails. */
void fake_fail(enum fake_kind kind, size_t first, size_t n);

/* Calls of that kind, and failures on command, since fake_fail was called last. */
size_t fake_calls(enum fake_kind kind);
size_t fake_failures(void);

#endif
