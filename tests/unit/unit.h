/* SPDX-License-Identifier: MIT */
/* unit.h - cmocka, with what it wants included before it. */
#ifndef TESTS_UNIT_UNIT_H
#define TESTS_UNIT_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../names.h"

/* Writes both ends of a block: what is not there faults, what is shared is found by the neighbour. */
static inline void touch_ends(void *block, size_t n)
{
    unsigned char *bytes = hide(block);
    size_t edge = n < 128 ? n / 2 : 64;
    memset(bytes, 0xa5, edge);
    memset(bytes + n - edge, 0x5a, edge);
    if ((n & 1) != 0 && n < 128) {
        bytes[n / 2] = 0x33;
    }
}

/* A block as every function of the family must give it, used to its last byte and freed. */
static inline void check_block_and_free(void *block, size_t size, size_t alignment)
{
    assert_non_null(block);
    assert_true(is_aligned(block, alignment < 16 ? 16 : alignment));
    size_t usable = malloc_usable_size(block);
    assert_true(usable >= size);
    touch_ends(block, usable);
    free(block);
}

#endif
