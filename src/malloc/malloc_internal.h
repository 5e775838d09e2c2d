/* SPDX-License-Identifier: MIT */
/* malloc_internal.h - the malloc family once, for two sets of names: the standard ones and their allot_ twins.
 *
 * malloc and free are inlined into either, so that neither costs a jump.
 */
#ifndef MALLOC_MALLOC_INTERNAL_H
#define MALLOC_MALLOC_INTERNAL_H

#include "heap/heap.h"
#include "map/map.h"
#include "os/os.h"

#include <allot/allot.h>
#include <errno.h>

/* This library's own allot_version, whatever that name means to the rest of the process. */
extern __typeof__(allot_version) version_here __attribute__((visibility("hidden")));

/* A fault as programs are told of it. */
INLINE allot_error error_of(const struct fault *fault, const char *line)
{
    return (allot_error){
        .abi_size = sizeof(allot_error),
        .name = fault->name,
        .address = fault->address,
        .block = fault->block,
        .block_bytes = fault->block_bytes,
        .offset = fault->block == NULL ? 0 : (size_t)((uintptr_t)fault->address - (uintptr_t)fault->block),
        .state = fault->block == NULL ? "" : fault->state,
        .thread = os_thread_id(),
        .line = line,
    };
}

#define NO_BLOCK(error) (errno = (error), (void *)NULL)

INLINE void *family_reallocarray(void *p, size_t n, size_t item_bytes)
{
    size_t bytes;
    return __builtin_mul_overflow(n, item_bytes, &bytes) ? NO_BLOCK(ENOMEM) : heap_realloc(p, bytes);
}

INLINE void *family_aligned_alloc(size_t align, size_t bytes)
{
    return is_power_of_two(align) ? heap_aligned_as(KIND_MALLOC, align, bytes) : NO_BLOCK(EINVAL);
}

/* As glibc does: an alignment that is no power of two is rounded up to one. */
INLINE void *family_memalign(size_t align, size_t bytes)
{
    if (align > SIZE_MAX / 2 + 1) {
        return NO_BLOCK(EINVAL);
    }
    size_t power = align <= 1 ? 1 : (size_t)2 << bit_highest(align - 1);
    return heap_aligned_as(KIND_MALLOC, power, bytes);
}

INLINE int family_posix_memalign(void **out, size_t align, size_t bytes)
{
    if (!is_power_of_two(align) || align % sizeof(void *) != 0) {
        return EINVAL;
    }
    int saved = errno;
    void *p = heap_aligned_as(KIND_MALLOC, align, bytes);
    errno = saved;
    if (p == NULL) {
        return ENOMEM;
    }
    *out = p;
    return 0;
}

INLINE void *family_valloc(size_t bytes)
{
    return heap_aligned_as(KIND_MALLOC, os_page_bytes(), bytes);
}

INLINE void *family_pvalloc(size_t bytes)
{
    size_t page = os_page_bytes();
    return bytes > PTRDIFF_MAX - page ? NO_BLOCK(ENOMEM)
                                      : heap_aligned_as(KIND_MALLOC, page, round_up(size_max(bytes, 1), page));
}

#endif
