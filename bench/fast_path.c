/* SPDX-License-Identifier: MIT */
/* fast_path.c - mallocs and frees for bench/instructions to count, each made from a function of its own.
 *
 *     allot_fast_path [BYTES]
 *
 * Idea.        A profile tells what each function's calls cost together. So that one call can be told from the next,
 *              each stands alone in a function: counted_malloc_0, counted_free_0, counted_malloc_1, ... Lists are
 *              filled first, and some blocks stay live, so that all of these calls find what they need.
 */
#include <stdio.h>
#include <stdlib.h>

#define N_WARM_UP 128

static volatile int last_counted;

/* The store of n keeps the functions apart, and the call of free from becoming a jump out of its function. */
#define COUNTED(n)                                                                                                     \
    static __attribute__((noinline)) void counted_malloc_##n(void *volatile *block, size_t bytes)                      \
    {                                                                                                                  \
        *block = malloc(bytes);                                                                                        \
        last_counted = n;                                                                                              \
    }                                                                                                                  \
    static __attribute__((noinline)) void counted_free_##n(void *volatile *block)                                      \
    {                                                                                                                  \
        free(*block);                                                                                                  \
        last_counted = n;                                                                                              \
    }

#define CALL(n)                                                                                                        \
    counted_malloc_##n(&block, bytes);                                                                                 \
    *(volatile char *)block = 1;                                                                                       \
    counted_free_##n(&block);

/* clang-format off */
#define FOR_EACH(X)                                                                                                    \
    X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)                              \
    X(16) X(17) X(18) X(19) X(20) X(21) X(22) X(23) X(24) X(25) X(26) X(27) X(28) X(29) X(30) X(31)
/* clang-format on */

FOR_EACH(COUNTED)

static void fill_lists(size_t bytes)
{
    static void *block[N_WARM_UP];
    for (size_t i = 0; i < N_WARM_UP; i++) {
        block[i] = malloc(bytes);
    }
    for (size_t i = 0; i < N_WARM_UP; i += 2) {
        free(block[i]);
    }
}

int main(int argc, char **argv)
{
    void *volatile block = NULL;
    size_t bytes = argc >= 2 ? (size_t)atoi(argv[1]) : 48;
    fill_lists(bytes);
    FOR_EACH(CALL)
    return last_counted == 31 ? 0 : 1;
}
