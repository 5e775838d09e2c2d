/* SPDX-License-Identifier: MIT */
/* classes.c - the sizes that small blocks come in. */
#include "pool/pool_internal.h"

/* As many blocks as 16 KiB hold, but no more than the anchor has bits for; then just the units that these take. */
#define BLOCKS(size) (unsigned)((16 * KIB) / (size) < 63 ? (16 * KIB) / (size) : 63)
#define CLASS(size)                                                                                                    \
    {                                                                                                                  \
        .empty = ANCHOR_OPEN | (((uint64_t)1 << BLOCKS(size)) - 1), .bytes = (size),                                   \
        .inverse = (uint32_t)((((uint64_t)1 << 32) + (size)-1) / (size)), .blocks = (uint8_t)BLOCKS(size),             \
        .units = (uint8_t)((BLOCKS(size) * (size) + UNIT_BYTES - 1) / UNIT_BYTES)                                      \
    }
#define FOUR(step) CLASS(5 * (step)), CLASS(6 * (step)), CLASS(7 * (step)), CLASS(8 * (step))

const struct pool_class pool_classes[CLASS_SLOTS] = {
    {0},        CLASS(16),  CLASS(32), CLASS(48), CLASS(64), CLASS(80), CLASS(96),
    CLASS(112), CLASS(128), FOUR(32),  FOUR(64),  FOUR(128), FOUR(256), FOUR(512),
};
_Static_assert(8 * 512 == CLASS_BYTES_MOST, "the last class");
_Static_assert(8 + 5 * 4 == CLASS_LAST, "the number of classes");
