/* SPDX-License-Identifier: MIT */
/* names.c - the standard C names. What each does stands with its twin in allot/allot.h.
 *
 * <stdlib.h> and <malloc.h> are left out but for the two structs: some libcs declare these functions as macros, or with
 * attributes that differ.
 */
#include "malloc/malloc_internal.h"

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#define EXPORT __attribute__((visibility("default")))

EXPORT void *malloc(size_t bytes);
EXPORT void free(void *p);
EXPORT void *calloc(size_t n, size_t item_bytes);
EXPORT void *realloc(void *p, size_t bytes);
EXPORT void *reallocarray(void *p, size_t n, size_t item_bytes);
EXPORT void *aligned_alloc(size_t align, size_t bytes);
EXPORT void *memalign(size_t align, size_t bytes);
EXPORT int posix_memalign(void **out, size_t align, size_t bytes);
EXPORT void *valloc(size_t bytes);
EXPORT void *pvalloc(size_t bytes);
EXPORT size_t malloc_usable_size(void *p);
EXPORT void free_sized(void *p, size_t bytes);
EXPORT void free_aligned_sized(void *p, size_t align, size_t bytes);
EXPORT int malloc_trim(size_t keep_bytes);
EXPORT int mallopt(int parameter, int value);
EXPORT void malloc_stats(void);
/* The stream is libc's FILE, which no header of ours needs to know. */
#if !defined(__GLIBC__)
EXPORT int malloc_info(int options, void *stream);
#endif

void *malloc(size_t bytes)
{
    return heap_malloc(bytes);
}

void free(void *p)
{
    heap_free(p);
}

void *calloc(size_t n, size_t item_bytes)
{
    return heap_calloc(n, item_bytes);
}

void *realloc(void *p, size_t bytes)
{
    return heap_realloc(p, bytes);
}

void *reallocarray(void *p, size_t n, size_t item_bytes)
{
    return family_reallocarray(p, n, item_bytes);
}

void *aligned_alloc(size_t align, size_t bytes)
{
    return family_aligned_alloc(align, bytes);
}

void *memalign(size_t align, size_t bytes)
{
    return family_memalign(align, bytes);
}

int posix_memalign(void **out, size_t align, size_t bytes)
{
    return family_posix_memalign(out, align, bytes);
}

void *valloc(size_t bytes)
{
    return family_valloc(bytes);
}

void *pvalloc(size_t bytes)
{
    return family_pvalloc(bytes);
}

size_t malloc_usable_size(void *p)
{
    return heap_usable(p);
}

void free_sized(void *p, size_t bytes)
{
    heap_free_sized(p, bytes);
}

void free_aligned_sized(void *p, size_t align, size_t bytes)
{
    heap_free_aligned_sized(p, align, bytes);
}

int malloc_trim(size_t keep_bytes)
{
    return heap_trim(keep_bytes) != 0;
}

int mallopt(int parameter, int value)
{
    return allot_mallopt(parameter, value);
}

void malloc_stats(void)
{
    allot_malloc_stats();
}

#if defined(__GLIBC__)
EXPORT int malloc_info(int options, FILE *stream)
{
    return allot_malloc_info(options, stream);
}

EXPORT struct mallinfo2 mallinfo2(void)
{
    struct allot_mallinfo2 info = allot_mallinfo2();
    return (struct mallinfo2){
        .arena = info.arena,
        .ordblks = info.ordblks,
        .hblks = info.hblks,
        .hblkhd = info.hblkhd,
        .uordblks = info.uordblks,
        .fordblks = info.fordblks,
        .keepcost = info.keepcost,
    };
}

/* Its fields are ints: what doesn't fit is cut to the largest that does. */
static int narrow(size_t n)
{
    return n > INT32_MAX ? INT32_MAX : (int)n;
}

EXPORT struct mallinfo mallinfo(void)
{
    struct allot_mallinfo2 info = allot_mallinfo2();
    return (struct mallinfo){
        .arena = narrow(info.arena),
        .ordblks = narrow(info.ordblks),
        .hblks = narrow(info.hblks),
        .hblkhd = narrow(info.hblkhd),
        .uordblks = narrow(info.uordblks),
        .fordblks = narrow(info.fordblks),
        .keepcost = narrow(info.keepcost),
    };
}
#else
int malloc_info(int options, void *stream)
{
    return allot_malloc_info(options, stream);
}
#endif
