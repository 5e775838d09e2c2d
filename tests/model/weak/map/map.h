/* SPDX-License-Identifier: MIT */
/* map.h - stands in for src/map/map.h: the model's pools don't grow, so nothing is ever in the map. */
#ifndef MAP_MAP_H
#define MAP_MAP_H

#include "base/base.h"

#define GRANULE_SHIFT 16
#define GRANULE_BYTES ((size_t)1 << GRANULE_SHIFT)
#define CHUNK_GRANULES ((size_t)64)
#define DESCRIPTOR_BYTES 128
#define MAP_CODE_POOL 0xe1

static inline uint32_t map_make_tag(uint32_t heap_number, uint32_t code)
{
    return heap_number << 8 | code;
}

static inline uint32_t map_tag_heap(uint32_t tag)
{
    return tag >> 8;
}

static inline uint32_t map_tag_code(uint32_t tag)
{
    return tag & 0xff;
}

static inline uint32_t map_tag(const void *p)
{
    (void)p;
    return 0;
}

bool map_init(const void *near);
static inline uint32_t map_tag_acquire(const void *p)
{
    return map_tag(p);
}

/* No mapping of its own is ever made here, so nobody asks. */
static inline int map_each_chunk(int (*visit)(char *begin, void *context), void *context)
{
    (void)visit;
    (void)context;
    return 0;
}

int map_add(void *begin, size_t bytes);
void *map_descriptor(const void *address);
void map_set(void *begin, size_t n_granules, uint32_t tag);
void *map_books(size_t bytes);

struct fault {
    const char *name;
    const void *address;
    const void *block;
    size_t block_bytes;
    const char *state;
    bool fatal;
};
void fault_report(const struct fault *fault);

#endif
