/* SPDX-License-Identifier: MIT */
/* classes.c - the sizes that small blocks come in. */
#include "pool/pool_internal.h"

/* As many blocks as 16 KiB hold, but no more than the anchor has bits for; then just the units that these take. */
#define BLOCKS(size) (unsigned)((16 * KIB) / (size) < 63 ? (16 * KIB) / (size) : 63)
#define CLASS(size)                                                                                                    \
    {                                                                                                                  \
        .empty = ANCHOR_OPEN | (((uint64_t)1 << BLOCKS(size)) - 1), .bytes = (size),                                   \
        .inverse = (uint32_t)((((uint64_t)1 << 32) + (size)-1) / (size))                                               \
    }
#define SHAPE(size)                                                                                                    \
    {                                                                                                                  \
        .blocks = (uint8_t)BLOCKS(size), .units = (uint8_t)((BLOCKS(size) * (size) + UNIT_BYTES - 1) / UNIT_BYTES)     \
    }
#define FOUR(of, step) of(5 * (step)), of(6 * (step)), of(7 * (step)), of(8 * (step))
#define EACH(of)                                                                                                       \
    {0}, of(16), of(32), of(48), of(64), of(80), of(96), of(112), of(128), FOUR(of, 32), FOUR(of, 64), FOUR(of, 128),  \
        FOUR(of, 256), FOUR(of, 512)

const struct pool_class pool_classes[CLASS_SLOTS] = {EACH(CLASS)};
const struct pool_class_shape pool_class_shapes[CLASS_SLOTS] = {EACH(SHAPE)};
_Static_assert(8 * 512 == CLASS_BYTES_MOST, "the last class");
_Static_assert(8 + 5 * 4 == CLASS_LAST, "the number of classes");

#define X2(n) n, n
#define X4(n) X2(n), X2(n)
#define X8(n) X4(n), X4(n)
#define X16(n) X8(n), X8(n)
#define X32(n) X16(n), X16(n)

const uint8_t pool_class_numbers[CLASS_BYTES_MOST / 16 + 1] = {
    1,      1,       2,       3,       4,       5,       6,       7,       8,       X2(9),
    X2(10), X2(11),  X2(12),  X4(13),  X4(14),  X4(15),  X4(16),  X8(17),  X8(18),  X8(19),
    X8(20), X16(21), X16(22), X16(23), X16(24), X32(25), X32(26), X32(27), X32(28),
};
