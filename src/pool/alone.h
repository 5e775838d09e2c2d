/* SPDX-License-Identifier: MIT */
/* alone.h - a cheaper compare-and-swap while the process has one thread.
 *
 * Then only signal handlers can come between, and they come between instructions: the bus need not be locked, which is
 * most of the time that malloc and free of a pool take. libc says whether there is one thread, as its own malloc asks
 * it; it says no before the second one starts. Memory that processes share is never treated so.
 *
 * A thread that was made without libc (a bare clone of the program's own) isn't known to it, and must not use the
 * static pools beside a first thread that libc takes for the only one.
 */
#ifndef POOL_ALONE_H
#define POOL_ALONE_H

#include "base/atomic.h"
#include "base/base.h"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define ALONE_IS_SEEN 0
#endif
#elif defined(__SANITIZE_THREAD__)
#define ALONE_IS_SEEN 0
#endif
#if !defined(ALONE_IS_SEEN) && defined(__x86_64__) && defined(__GLIBC__) && !defined(WEAK_H)
#define ALONE_IS_SEEN 1
extern char __libc_single_threaded __attribute__((weak)); /* since glibc 2.32 */
#else
#undef ALONE_IS_SEEN
#define ALONE_IS_SEEN 0
#endif

/* Where libc says that there is one thread; a byte that is 0 for good until alone_start. */
extern _Atomic(const volatile char *) alone_flag;

INLINE void alone_start(void)
{
#if ALONE_IS_SEEN
    if (&__libc_single_threaded != NULL) {
        store_relaxed(&alone_flag, &__libc_single_threaded); /* each time the same */
    }
#endif
}

INLINE bool is_alone(void)
{
#if ALONE_IS_SEEN
    return *load_relaxed(&alone_flag) != 0; /* relaxed: the pointers lead to valid bytes, both */
#else
    return false;
#endif
}

#if ALONE_IS_SEEN
/* Atomic against signal handlers of the only thread. Orders the compiler. */
INLINE bool cas_alone(_Atomic uint64_t *p, uint64_t *expected, uint64_t desired)
{
    bool done;
    __asm__ volatile("cmpxchgq %[desired], %[p]"
                     : "=@ccz"(done), [p] "+m"(*p), "+a"(*expected)
                     : [desired] "r"(desired)
                     : "memory");
    return done;
}
#else
#define cas_alone(p, expected, desired) cas_weak_seq_cst(p, expected, desired)
#endif

#endif
