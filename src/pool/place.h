/* SPDX-License-Identifier: MIT */
/* place.h - where the caller runs, so that CPUs use superblocks of their own. A guess is good enough. */
#ifndef POOL_PLACE_H
#define POOL_PLACE_H

#include "base/base.h"

#if defined(__GLIBC__) && defined(__x86_64__) && !defined(__ILP32__)
#define PLACE_BY_RSEQ 1
/* glibc 2.35 and later register each thread for restartable sequences, and the kernel keeps its CPU's number there. */
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned __rseq_size __attribute__((weak));
#else
#define PLACE_BY_RSEQ 0
#endif

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

INLINE unsigned place_now(void)
{
#if PLACE_BY_RSEQ
    if (LIKELY(&__rseq_size != NULL && __rseq_size != 0)) {
        const char *self = __builtin_thread_pointer();
        int cpu = *(const volatile int *)(const volatile void *)(self + __rseq_offset + 4); /* struct rseq: cpu_id */
        if (LIKELY(cpu >= 0)) {
            return (unsigned)cpu;
        }
    }
#endif
    return place_by_thread();
}

#endif
