/* SPDX-License-Identifier: MIT */
/* public.c - allot/pool.h on the public pool. */
#include "pool/pool_internal.h"

#include "allot/pool.h"

#include <errno.h>
#include <string.h>

void *allot_pool_malloc(size_t size_bytes)
{
    return pool_malloc(&pool_public, size_bytes, 16);
}

void *allot_pool_calloc(size_t n, size_t item_bytes)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, item_bytes, &bytes)) {
        return NULL;
    }
    void *block = pool_malloc(&pool_public, bytes, 16);
    return block == NULL || pool_is_fresh(block) ? block : memset(block, 0, bytes);
}

void *allot_pool_realloc(void *block, size_t size_bytes)
{
    if (block == NULL) {
        return allot_pool_malloc(size_bytes);
    }
    if (size_bytes == 0) {
        pool_free(block);
        return NULL;
    }
    return pool_realloc(block, size_bytes);
}

void *allot_pool_aligned_alloc(size_t alignment, size_t size_bytes)
{
    return is_power_of_two(alignment) ? pool_malloc(&pool_public, size_bytes, alignment) : NULL;
}

void allot_pool_free(void *block)
{
    pool_free(block);
}

size_t allot_pool_usable_size(const void *block)
{
    return block == NULL ? 0 : pool_usable(block, "invalid pointer");
}

int allot_pool_owns(const void *address)
{
    return pool_of(address) == &pool_public;
}

void allot_pool_enable_mmap(void)
{
    pool_enable_growth(&pool_public);
}

int allot_pool_mmap_enabled(void)
{
    return (load_relaxed(&pool_public.flags) & POOL_GROWS) != 0;
}

size_t allot_pool_reserve(size_t size_bytes)
{
    pool_start(&pool_public);
    return units_reserve(&pool_public, size_bytes);
}

size_t allot_pool_trim(void)
{
    return pool_trim(&pool_public);
}

int pool_report(struct pool *pool, allot_pool_report *report)
{
    if (report == NULL || report->abi_size != sizeof *report) {
        return EINVAL;
    }
    struct pool_figures figures;
    pool_figures(pool, &figures);
    report->memory_bytes = figures.segment_bytes + figures.mapping_bytes;
    report->n_live_blocks = figures.n_live_blocks;
    report->live_bytes = figures.live_bytes;
    report->free_bytes = figures.free_bytes;
    report->n_mappings = figures.n_mappings;
    report->mapping_bytes = figures.mapping_bytes;
    report->purged_bytes = figures.purged_bytes;
    return 0;
}

int allot_pool_stats(allot_pool_report *report)
{
    pool_start(&pool_public);
    return pool_report(&pool_public, report);
}
