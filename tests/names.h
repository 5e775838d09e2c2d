/* SPDX-License-Identifier: MIT */
/* names.h - one test, two sets of names. With ALLOT_TEST_TWINS the standard names mean allot's twins, so that a test of
 * malloc runs on allot_malloc beside the malloc that the program has: in builds with a sanitizer, and of the core
 * library. With ALLOT_TEST_STANDARD the test speaks to the libc it is linked to, to see that the test itself is right:
 * only what every malloc promises is tested then.
 *
 * Include it after the system's headers.
 */
#ifndef TESTS_NAMES_H
#define TESTS_NAMES_H

#include <errno.h>
#include <malloc.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "allot/allot.h"

#ifdef ALLOT_TEST_TWINS
#define malloc allot_malloc
#define calloc allot_calloc
#define realloc allot_realloc
#define reallocarray allot_reallocarray
#define free allot_free
#define aligned_alloc allot_aligned_alloc
#define posix_memalign allot_posix_memalign
#define memalign allot_memalign
#define valloc allot_valloc
#define pvalloc allot_pvalloc
#define malloc_usable_size allot_malloc_usable_size
#define malloc_trim allot_malloc_trim
#define mallopt allot_mallopt
#define mallinfo2 allot_mallinfo2
#define malloc_info allot_malloc_info
#define malloc_stats allot_malloc_stats
#define free_sized allot_free_sized
#define free_aligned_sized allot_free_aligned_sized
#else
/* Not every libc's headers know these, though the library defines them. */
void free_sized(void *block, size_t size_bytes);
void free_aligned_sized(void *block, size_t alignment, size_t size_bytes);
void *reallocarray(void *block, size_t n, size_t item_bytes);
void *memalign(size_t alignment, size_t size_bytes);
void *valloc(size_t size_bytes);
void *pvalloc(size_t size_bytes);
#ifndef __GLIBC__
int malloc_trim(size_t keep_bytes);
int mallopt(int parameter, int value);
int malloc_info(int options, FILE *stream);
void malloc_stats(void);
#endif
#endif

#ifndef __GLIBC__
#define M_MXFAST 1
#define M_TRIM_THRESHOLD (-1)
#define M_TOP_PAD (-2)
#define M_MMAP_THRESHOLD (-3)
#define M_MMAP_MAX (-4)
#define M_CHECK_ACTION (-5)
#define M_PERTURB (-6)
#define M_ARENA_TEST (-7)
#define M_ARENA_MAX (-8)
#endif

/* A sanitizer's shadow grows with what is touched: then the resident set says nothing about the heap. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define RESIDENT_SET_IS_TELLING false
#else
#define RESIDENT_SET_IS_TELLING true
#endif

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define PAGE ((size_t)sysconf(_SC_PAGESIZE))
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* A number that the compiler knows nothing about: no warning about a size that no object can have. */
static inline size_t opaque(size_t n)
{
    __asm__ volatile("" : "+r"(n));
    return n;
}

/* A pointer that the compiler knows nothing about: no assumption about what free did to it. */
static inline void *hide(const void *p)
{
    __asm__ volatile("" : "+r"(p));
    return (void *)(uintptr_t)p;
}

static inline bool is_aligned(const void *p, size_t alignment)
{
    return ((uintptr_t)p & (alignment - 1)) == 0;
}

/* xorshift64*: the same numbers from the same seed everywhere. */
static inline uint64_t random_next(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(2685821657736338717);
}

static inline size_t random_below(uint64_t *state, size_t n)
{
    return (size_t)((random_next(state) >> 11) % n);
}

/* ---- patterns: bytes that depend on the place and on a seed ------------------------------------------------- */

static inline unsigned char pattern_byte(size_t i, unsigned seed)
{
    return (unsigned char)((i * 167 + (i >> 8) * 29 + seed * 73 + 1) & 0xff);
}

static inline void pattern_fill(void *block, size_t n, unsigned seed)
{
    unsigned char *bytes = block;
    for (size_t i = 0; i < n; i++) {
        bytes[i] = pattern_byte(i, seed);
    }
}

/* The first place that differs, n when none does. */
static inline size_t pattern_first_wrong(const void *block, size_t n, unsigned seed)
{
    const unsigned char *bytes = block;
    for (size_t i = 0; i < n; i++) {
        if (bytes[i] != pattern_byte(i, seed)) {
            return i;
        }
    }
    return n;
}

static inline bool pattern_holds(const void *block, size_t n, unsigned seed)
{
    return pattern_first_wrong(block, n, seed) == n;
}

static inline bool all_zero(const void *block, size_t n)
{
    const unsigned char *bytes = block;
    return n == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, n - 1) == 0);
}

/* ---- sizes at which something changes ------------------------------------------------------------------------ */

#define MOST_SIZES 2048

static inline size_t sizes_around(size_t *out, size_t n, size_t size)
{
    if (size > 0) {
        out[n++] = size - 1;
    }
    out[n++] = size;
    out[n++] = size + 1;
    return n;
}

/* Sizes that can be had: 0, around every class, page, granule, slab and threshold, up to most. */
static inline size_t sizes_possible(size_t out[MOST_SIZES], size_t most)
{
    const size_t marks[] = {0,         2 * PAGE,
                            3 * PAGE,  8 * KIB,
                            16 * KIB,  32 * KIB,
                            64 * KIB,  128 * KIB,
                            192 * KIB, 256 * KIB,
                            512 * KIB, MIB,
                            2 * MIB,   4 * MIB,
                            8 * MIB,   16 * MIB,
                            32 * MIB,  64 * MIB,
                            128 * MIB, GIB,
                            2 * GIB,   4 * GIB - 64 * KIB,
                            4 * GIB,   4 * GIB + 64 * KIB};
    size_t n = 0;
    size_t all[MOST_SIZES];
#ifdef ALLOT_TEST_STANDARD
    for (size_t size = 16; size <= 8 * KIB; size += size < 256 ? 16 : size / 8) {
        n = sizes_around(all, n, size);
    }
#else
    size_t classes[MOST_SIZES / 4];
    size_t n_classes = allot_size_classes(classes, COUNT(classes));
    for (size_t i = 0; i < n_classes && i < COUNT(classes); i++) {
        n = sizes_around(all, n, classes[i]);
    }
#endif
    n = sizes_around(all, n, PAGE);
    for (size_t i = 0; i < COUNT(marks); i++) {
        n = sizes_around(all, n, marks[i]);
    }
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (all[i] <= most) {
            out[kept++] = all[i];
        }
    }
    return kept;
}

/* Sizes that nobody can have. */
#define SIZES_IMPOSSIBLE                                                                                               \
    {                                                                                                                  \
        (size_t) PTRDIFF_MAX - 64 * KIB, (size_t)PTRDIFF_MAX - 4096, (size_t)PTRDIFF_MAX - 1, (size_t)PTRDIFF_MAX,     \
            (size_t)PTRDIFF_MAX + 1, SIZE_MAX - 64 * KIB, SIZE_MAX - 4096, SIZE_MAX - 16, SIZE_MAX - 1, SIZE_MAX       \
    }

#endif
