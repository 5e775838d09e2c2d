/* SPDX-License-Identifier: MIT */
/* pool_test.h - what the pool's tests share: catching misuse reports, and filling a pool. */
#ifndef TESTS_UNIT_POOL_TEST_H
#define TESTS_UNIT_POOL_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "allot/pool.h"
#include "map/map.h"
#include "pool/pool.h"

static struct {
    unsigned n;
    char name[32];
    char line[400];
} caught;

static inline bool catch_fault(const struct fault *fault, const char *line)
{
    caught.n++;
    snprintf(caught.name, sizeof caught.name, "%s", fault->name);
    snprintf(caught.line, sizeof caught.line, "%s", line);
    return true;
}

/* The call inside must be found out, under that name. Its report goes to standard error as well. */
#define expect_fault(expected, call)                                                                                   \
    do {                                                                                                               \
        fault_set_handler(catch_fault);                                                                                \
        caught.n = 0;                                                                                                  \
        call;                                                                                                          \
        assert_int_equal(caught.n, 1);                                                                                 \
        assert_string_equal(caught.name, expected);                                                                    \
        fault_set_handler(NULL);                                                                                       \
    } while (0)

static inline bool aligned_to(const void *p, size_t alignment)
{
    return (uintptr_t)p % alignment == 0;
}

/* Takes blocks of one size until there are none, as a list through their first words. Returns how many. */
static inline size_t fill(void *(*take)(void *, size_t), void *pool, size_t size, void **list)
{
    size_t n = 0;
    for (void **block; (block = take(pool, size)) != NULL; n++) {
        *block = *list;
        *list = block;
    }
    return n;
}

static inline void give_all(void (*give)(void *, void *), void *pool, void **list)
{
    while (*list != NULL) {
        void *next = *(void **)*list;
        give(pool, *list);
        *list = next;
    }
}

static inline void *take_public(void *pool, size_t size)
{
    (void)pool;
    return allot_pool_malloc(size);
}

static inline void give_public(void *pool, void *block)
{
    (void)pool;
    allot_pool_free(block);
}

static inline void *take_private(void *pool, size_t size)
{
    return allot_pool_malloc_in(pool, size);
}

static inline void give_private(void *pool, void *block)
{
    allot_pool_free_in(pool, block);
}

#endif
