/* SPDX-License-Identifier: MIT */
/* class.c - the table of sizes.
 *
 *     16 32 ... 128 | 144 160 ... 256 | 288 ... 512 | ... | 4608 ... 8192 | 9216 ... | ... 524288
 *
 * Eight classes to a doubling: a block is at most an eighth larger than what was asked for, above 128 bytes.
 */
#include "heap/heap_internal.h"
#include "os/os.h"

#define LINEAR_CLASSES 8u
#define MEDIUM_BLOCKS_LEAST 8u
#define MEDIUM_BLOCKS_MOST 64u

unsigned class_of(size_t bytes)
{
    if (bytes <= 128) {
        return bytes == 0 ? 0 : (unsigned)((bytes - 1) / BLOCK_ALIGN);
    }
    unsigned doubling = bit_highest(bytes - 1);
    return LINEAR_CLASSES + (doubling - 7) * 8 + (unsigned)((bytes - 1) >> (doubling - 3) & 7);
}

size_t heap_class_size(unsigned c)
{
    if (c < LINEAR_CLASSES) {
        return (c + 1) * BLOCK_ALIGN;
    }
    unsigned doubling = (c - LINEAR_CLASSES) / 8;
    size_t step = (size_t)BLOCK_ALIGN << doubling;
    return ((size_t)128 << doubling) + ((c - LINEAR_CLASSES) % 8 + 1) * step;
}

unsigned class_aligned(size_t bytes, size_t align)
{
    unsigned c = class_of(size_max(bytes, align));
    while (c < CLASS_COUNT && heap_class_size(c) % align != 0) {
        c++;
    }
    return c;
}

/* The fewest granules that hold enough blocks and waste at most a 32nd. */
unsigned class_medium_granules(unsigned c)
{
    size_t size = heap_class_size(c);
    size_t granules = round_up(size * MEDIUM_BLOCKS_LEAST, GRANULE_BYTES) >> GRANULE_SHIFT;
    for (;; granules++) {
        size_t space = granules << GRANULE_SHIFT;
        size_t blocks = space / size;
        if ((space - blocks * size) * 32 <= space || blocks >= MEDIUM_BLOCKS_MOST) {
            return (unsigned)granules;
        }
    }
}

size_t heap_good_size(size_t bytes)
{
    if (bytes <= MEDIUM_LARGEST) {
        return heap_class_size(class_of(bytes));
    }
    return bytes > LARGE_MOST ? bytes : round_up(bytes, os_page_bytes());
}
