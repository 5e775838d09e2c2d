/* SPDX-License-Identifier: MIT */
/* private.c - pools in memory that the caller gives.
 *
 *     buffer   struct pool | segs[] | tops[][] | books of segment 0, 1, ... | units of segment 0, 1, ...
 *
 * All segments but the last are whole ones. All places are distances, so each process may map the buffer where it
 * likes.
 *
 * Orders.  OP10  magic is stored last, with release; attach acquires it: the books are there. root likewise.
 */
#include "pool/pool_internal.h"

#include "allot/pool.h"

#include <errno.h>
#include <string.h>

#define BYTES_MOST ((size_t)1 << 40)
#define MAGIC_CLOSED 1 /* being made */

struct layout {
    size_t segs;
    size_t tops;
    size_t books;
    size_t data;
    size_t n_units;
    unsigned n_segments;
    unsigned n_granules;
};

static struct layout layout_for(size_t n_units)
{
    struct layout layout = {.n_units = n_units};
    layout.n_granules = (unsigned)((n_units + GRANULE_UNITS - 1) / GRANULE_UNITS);
    layout.n_segments = (layout.n_granules + SEGMENT_GRANULES - 1) / SEGMENT_GRANULES;
    layout.segs = round_up(sizeof(struct pool), CACHE_LINE);
    layout.tops = layout.segs + round_up(layout.n_segments * sizeof(int64_t), CACHE_LINE);
    size_t top_words = (layout.n_segments + 63) / 64;
    layout.books = layout.tops + round_up(CLASS_SLOTS * top_words * sizeof(uint64_t), CACHE_LINE);
    size_t whole = layout.n_segments == 0 ? 0 : (layout.n_segments - 1) * SEGMENT_BOOKS(SEGMENT_GRANULES);
    size_t rest = layout.n_granules - (layout.n_segments == 0 ? 0 : layout.n_segments - 1) * SEGMENT_GRANULES;
    layout.data = layout.books + whole + SEGMENT_BOOKS(rest);
    return layout;
}

/* As many units as fit behind their own books, the first at a multiple of its size in the buffer's address space. */
static struct layout layout_of(const void *buffer, size_t bytes)
{
    for (size_t n = bytes / UNIT_BYTES;; n -= n / 256 + 1) {
        struct layout layout = layout_for(n);
        size_t align = bytes >= MIB ? 4096 : UNIT_BYTES;
        layout.data = round_up((uintptr_t)buffer + layout.data, align) - (uintptr_t)buffer;
        if (layout.data < bytes && (bytes - layout.data) / UNIT_BYTES >= n) {
            return layout;
        }
        if (n <= 1) {
            layout.n_units = 0;
            return layout;
        }
    }
}

static void make_segment(struct pool *pool, const struct layout *layout, unsigned i)
{
    size_t distance = layout->books + i * SEGMENT_BOOKS(SEGMENT_GRANULES);
    struct segment *segment = (struct segment *)(void *)((char *)pool + distance);
    unsigned n_granules = (unsigned)size_min(SEGMENT_GRANULES, layout->n_granules - i * SEGMENT_GRANULES);
    store_relaxed(&segment->data, (int64_t)(layout->data + i * SEGMENT_BYTES - distance));
    store_relaxed(&segment->n_granules, n_granules);
    unsigned units = (unsigned)(layout->n_units % GRANULE_UNITS);
    if (i + 1 == layout->n_segments && units != 0) {
        /* What lies behind the end is used for good. */
        store_relaxed(&segment->used[n_granules - 1], UINT64_MAX << units);
    }
    store_release(&pool_segs(pool)[i], (int64_t)distance); /* OP5 */
}

int allot_pool_create(void *buffer, size_t bytes, allot_pool **out)
{
    if (buffer == NULL || out == NULL || (uintptr_t)buffer % CACHE_LINE != 0 || bytes < ALLOT_POOL_BYTES_LEAST ||
        bytes > BYTES_MOST) {
        return EINVAL;
    }
    struct layout layout = layout_of(buffer, bytes);
    struct pool *pool = buffer;
    store_relaxed(&pool->magic, MAGIC_CLOSED); /* relaxed: nobody attaches before there is a pool */
    memset((char *)buffer + sizeof pool->magic, 0, layout.data - sizeof pool->magic);
    pool->bytes = bytes;
    pool->data = (int64_t)layout.data;
    pool->n_units = layout.n_units;
    pool->segments_most = layout.n_segments;
    store_relaxed(&pool->n_segments, layout.n_segments);
    store_relaxed(&pool->tops, (int64_t)layout.tops);
    store_relaxed(&pool->segs, (int64_t)layout.segs);
    for (unsigned i = 0; i < layout.n_segments; i++) {
        make_segment(pool, &layout, i);
    }
    store_release(&pool->magic, POOL_MAGIC); /* OP10 */
    *out = (allot_pool *)pool;
    return 0;
}

int allot_pool_attach(void *buffer, size_t bytes, allot_pool **out)
{
    if (buffer == NULL || out == NULL || (uintptr_t)buffer % CACHE_LINE != 0 || bytes < ALLOT_POOL_BYTES_LEAST) {
        return EINVAL;
    }
    struct pool *pool = buffer;
    uint64_t magic = load_acquire(&pool->magic); /* OP10 */
    if (magic != POOL_MAGIC || pool->bytes != bytes) {
        return magic == 0 || magic == MAGIC_CLOSED ? EAGAIN : EINVAL;
    }
    *out = (allot_pool *)pool;
    return 0;
}

/* ---- from address to block ---------------------------------------------------------------------------------- */

static bool owns(struct pool *pool, const void *p)
{
    return ptr_diff(p, (char *)pool + pool->data) < pool->n_units * UNIT_BYTES;
}

static bool find_in(struct pool *pool, const void *p, struct found *out)
{
    *out = (struct found){0};
    if (!owns(pool, p)) {
        return false;
    }
    struct spot at = {.number = (unsigned)(ptr_diff(p, (char *)pool + pool->data) / SEGMENT_BYTES)};
    at.segment = pool_segment(pool, at.number);
    return find_in_segment(pool, &at, p, out);
}

/* ---- the functions ------------------------------------------------------------------------------------------ */

void *allot_pool_malloc_in(allot_pool *pool, size_t size_bytes)
{
    return pool_malloc_shared((struct pool *)pool, size_bytes, 16);
}

void *allot_pool_calloc_in(allot_pool *pool, size_t n, size_t item_bytes)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, item_bytes, &bytes)) {
        return NULL;
    }
    void *block = pool_malloc_shared((struct pool *)pool, bytes, 16);
    return block == NULL ? NULL : memset(block, 0, bytes);
}

void *allot_pool_aligned_alloc_in(allot_pool *pool, size_t alignment, size_t size_bytes)
{
    return is_power_of_two(alignment) ? pool_malloc_shared((struct pool *)pool, size_bytes, alignment) : NULL;
}

void allot_pool_free_in(allot_pool *pool, void *block)
{
    struct found found;
    if (block == NULL) {
        return;
    }
    if (find_in((struct pool *)pool, block, &found)) {
        found_give(&found, block);
    } else {
        found_report("invalid free", block, &found, /* covered */ false);
    }
}

void *allot_pool_realloc_in(allot_pool *pool, void *block, size_t size_bytes)
{
    struct found found;
    if (block == NULL) {
        return allot_pool_malloc_in(pool, size_bytes);
    }
    if (size_bytes == 0) {
        allot_pool_free_in(pool, block);
        return NULL;
    }
    bool covered = find_in((struct pool *)pool, block, &found);
    return found_live(block, &found, covered, FAULT_REALLOC(found, covered, block))
               ? found_realloc(&found, block, size_bytes)
               : NULL;
}

size_t allot_pool_usable_size_in(allot_pool *pool, const void *block)
{
    struct found found;
    if (block == NULL) {
        return 0;
    }
    bool covered = find_in((struct pool *)pool, block, &found);
    return found_live(block, &found, covered, "invalid pointer") ? found.block.bytes : 0;
}

int allot_pool_owns_in(allot_pool *pool, const void *address)
{
    return owns((struct pool *)pool, address);
}

size_t allot_pool_reserve_in(allot_pool *pool, size_t size_bytes)
{
    return units_reserve((struct pool *)pool, size_bytes);
}

int allot_pool_stats_in(allot_pool *pool, allot_pool_report *report)
{
    return pool_report((struct pool *)pool, report);
}

/* ---- numbers for addresses ---------------------------------------------------------------------------------- */

size_t allot_pool_offset(allot_pool *pool, const void *address)
{
    return owns((struct pool *)pool, address) ? ptr_diff(address, pool) : 0;
}

void *allot_pool_at(allot_pool *pool, size_t offset)
{
    char *address = (char *)pool + offset;
    return owns((struct pool *)pool, address) ? address : NULL;
}

void allot_pool_set_root(allot_pool *pool, const void *address)
{
    store_release(&((struct pool *)pool)->root, allot_pool_offset(pool, address)); /* OP10 */
}

void *allot_pool_root(allot_pool *pool)
{
    return allot_pool_at(pool, load_acquire(&((struct pool *)pool)->root)); /* OP10 */
}
