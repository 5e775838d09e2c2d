/* SPDX-License-Identifier: MIT */
/* place.h - where the caller runs, so that CPUs use superblocks of their own. A guess is good enough. */
#ifndef POOL_PLACE_H
#define POOL_PLACE_H

#include "base/atomic.h"
#include "base/base.h"

#if defined(__GLIBC__) && defined(__x86_64__) && !defined(__ILP32__)
#define PLACE_BY_CPU 1
/* glibc 2.35 and later register each thread for restartable sequences, and the kernel keeps its CPU's number there. */
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned __rseq_size __attribute__((weak));
#else
#define PLACE_BY_CPU 0
#endif

/* From the thread pointer to the CPU's number; 0 while that isn't known. Set by place_start. */
extern _Atomic ptrdiff_t place_cpu_offset;

INLINE void place_start(void)
{
#if PLACE_BY_CPU
    if (&__rseq_size != NULL && __rseq_size != 0) {
        store_relaxed(&place_cpu_offset, __rseq_offset + 4); /* struct rseq: cpu_id. Each time the same */
    }
#endif
}

/* A number that threads share seldom and keep for good: from the thread pointer, or else from the stack. */
INLINE unsigned place_by_thread(void)
{
#if defined(__x86_64__) || defined(__aarch64__)
    uintptr_t self = (uintptr_t)__builtin_thread_pointer();
#else
    uintptr_t self = (uintptr_t)__builtin_frame_address(0) >> 4;
#endif
    return (unsigned)((uint64_t)(self >> 12) * UINT64_C(0x9e3779b97f4a7c15) >> 56);
}

/* Any number; in a thread that the kernel doesn't know by rseq it is a large one, and as good as any. */
INLINE unsigned place_now(void)
{
#if PLACE_BY_CPU
    ptrdiff_t offset = load_relaxed(&place_cpu_offset);
    if (LIKELY(offset != 0)) {
        const char *self = __builtin_thread_pointer();
        return *(const volatile unsigned *)(const volatile void *)(self + offset);
    }
#endif
    return place_by_thread();
}

#endif
