/* SPDX-License-Identifier: MIT */
/* twins.c - the malloc family as allot_*: see allot/allot.h. */
#include "malloc/malloc_internal.h"

void *allot_malloc(size_t size_bytes)
{
    return heap_malloc(size_bytes);
}

void allot_free(void *block)
{
    heap_free(block);
}

void *allot_calloc(size_t n, size_t item_bytes)
{
    return heap_calloc(n, item_bytes);
}

void *allot_realloc(void *block, size_t size_bytes)
{
    return heap_realloc(block, size_bytes);
}

void *allot_reallocarray(void *block, size_t n, size_t item_bytes)
{
    return family_reallocarray(block, n, item_bytes);
}

void *allot_aligned_alloc(size_t alignment, size_t size_bytes)
{
    return family_aligned_alloc(alignment, size_bytes);
}

void *allot_memalign(size_t alignment, size_t size_bytes)
{
    return family_memalign(alignment, size_bytes);
}

int allot_posix_memalign(void **out, size_t alignment, size_t size_bytes)
{
    return family_posix_memalign(out, alignment, size_bytes);
}

void *allot_valloc(size_t size_bytes)
{
    return family_valloc(size_bytes);
}

void *allot_pvalloc(size_t size_bytes)
{
    return family_pvalloc(size_bytes);
}

size_t allot_malloc_usable_size(const void *block)
{
    return heap_usable(block);
}

void allot_free_sized(void *block, size_t size_bytes)
{
    heap_free_sized(block, size_bytes);
}

void allot_free_aligned_sized(void *block, size_t alignment, size_t size_bytes)
{
    heap_free_aligned_sized(block, alignment, size_bytes);
}

int allot_malloc_trim(size_t keep_bytes)
{
    return heap_trim(keep_bytes) != 0;
}

size_t allot_good_size(size_t size_bytes)
{
    return heap_good_size(size_bytes);
}

size_t allot_size_classes(size_t *out, size_t n)
{
    for (unsigned c = 0; c < CLASS_COUNT && c < n; c++) {
        out[c] = heap_class_size(c);
    }
    return CLASS_COUNT;
}

int allot_try_expand(void *block, size_t size_bytes)
{
    return heap_try_expand(block, size_bytes);
}

size_t allot_malloc_batch(size_t size_bytes, void **out, size_t n)
{
    return heap_malloc_batch(size_bytes, out, n);
}

void allot_free_batch(void *const *blocks, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        heap_free(blocks[i]);
    }
}

size_t allot_trim(size_t keep_bytes)
{
    return heap_trim(keep_bytes);
}

void allot_thread_flush(void)
{
    heap_thread_flush();
}

void allot_thread_idle(void)
{
    heap_thread_idle();
}
