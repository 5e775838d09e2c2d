/* SPDX-License-Identifier: MIT */
/* base.h - attributes, bits and assertions. No state, no system, usable from anywhere.
 *
 * Three strengths of assertion:
 *   CHECK        every build; for what would otherwise damage memory
 *   ASSERT       builds with ALLOT_DEBUG
 *   ASSERT_SLOW  builds with ALLOT_DEBUG=2; for walks
 */
#ifndef BASE_BASE_H
#define BASE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define NOINLINE __attribute__((noinline))
#define COLD __attribute__((noinline, cold))
#define INLINE static inline __attribute__((always_inline))
#define NODISCARD __attribute__((warn_unused_result))
#define NORETURN __attribute__((noreturn))
#define CACHE_LINE 64
#define CACHE_ALIGNED __attribute__((aligned(CACHE_LINE)))

/* Writes "allot: internal fault: ..." and aborts. Defined by room os, the first that can write. */
NORETURN COLD void base_check_failed(const char *expression, const char *file, int line);

#define CHECK(x) (LIKELY(x) ? (void)0 : base_check_failed(#x, __FILE__, __LINE__))
#if defined(ALLOT_DEBUG)
#define ASSERT(x) CHECK(x)
#else
#define ASSERT(x) ((void)sizeof((x) ? 1 : 0))
#endif
#if defined(ALLOT_DEBUG) && ALLOT_DEBUG >= 2
#define ASSERT_SLOW(x) CHECK(x)
#else
#define ASSERT_SLOW(x) ((void)sizeof((x) ? 1 : 0))
#endif

/* An allot_field of a table that <allot/root.h> describes. */
#define ROOT_FIELD(type, field)                                                                                        \
    {                                                                                                                  \
        offsetof(type, field), sizeof(((type *)0)->field)                                                              \
    }

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

INLINE bool is_power_of_two(size_t n)
{
    return n != 0 && (n & (n - 1)) == 0;
}

/* to is a power of two; the sum must not overflow. */
INLINE size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) & ~(to - 1);
}

INLINE size_t round_down(size_t n, size_t to)
{
    return n & ~(to - 1);
}

INLINE void *ptr_add(const void *p, size_t bytes)
{
    return (char *)(uintptr_t)p + bytes;
}

/* The distance from begin to p, for p at or behind begin. */
INLINE size_t ptr_diff(const void *p, const void *begin)
{
    return (uintptr_t)p - (uintptr_t)begin;
}

/* n is not 0. */
INLINE unsigned bit_lowest(uint64_t n)
{
    return (unsigned)__builtin_ctzll(n);
}

INLINE unsigned bit_highest(uint64_t n)
{
    return 63u - (unsigned)__builtin_clzll(n);
}

INLINE unsigned bit_count(uint64_t n)
{
    return (unsigned)__builtin_popcountll(n);
}

INLINE size_t size_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

INLINE size_t size_max(size_t a, size_t b)
{
    return a > b ? a : b;
}

#endif
