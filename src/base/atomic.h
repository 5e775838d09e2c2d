/* SPDX-License-Identifier: MIT */
/* atomic.h - C11 atomics with the memory order in the name. The only file that names memory_order_*.
 *
 * So `grep -rn _release src` lists every place that publishes something, and each names what it pairs with.
 */
#ifndef BASE_ATOMIC_H
#define BASE_ATOMIC_H

#include <stdatomic.h>

#define load_relaxed(p) atomic_load_explicit(p, memory_order_relaxed)
#define load_acquire(p) atomic_load_explicit(p, memory_order_acquire)
#define store_relaxed(p, v) atomic_store_explicit(p, v, memory_order_relaxed)
#define store_release(p, v) atomic_store_explicit(p, v, memory_order_release)
#define xchg_relaxed(p, v) atomic_exchange_explicit(p, v, memory_order_relaxed)
#define xchg_acquire(p, v) atomic_exchange_explicit(p, v, memory_order_acquire)
#define xchg_acq_rel(p, v) atomic_exchange_explicit(p, v, memory_order_acq_rel)
#define add_relaxed(p, v) atomic_fetch_add_explicit(p, v, memory_order_relaxed)
#define sub_relaxed(p, v) atomic_fetch_sub_explicit(p, v, memory_order_relaxed)
#define add_acq_rel(p, v) atomic_fetch_add_explicit(p, v, memory_order_acq_rel)
#define sub_acq_rel(p, v) atomic_fetch_sub_explicit(p, v, memory_order_acq_rel)
#define or_relaxed(p, v) atomic_fetch_or_explicit(p, v, memory_order_relaxed)
#define or_acq_rel(p, v) atomic_fetch_or_explicit(p, v, memory_order_acq_rel)
#define and_release(p, v) atomic_fetch_and_explicit(p, v, memory_order_release)
#define and_acq_rel(p, v) atomic_fetch_and_explicit(p, v, memory_order_acq_rel)

/* For two threads that each write one word and then read the other's: at least one must see the other's write. */
#define load_seq_cst(p) atomic_load_explicit(p, memory_order_seq_cst)
#define store_seq_cst(p, v) atomic_store_explicit(p, v, memory_order_seq_cst)
#define add_seq_cst(p, v) atomic_fetch_add_explicit(p, v, memory_order_seq_cst)
#define or_seq_cst(p, v) atomic_fetch_or_explicit(p, v, memory_order_seq_cst)
#define and_seq_cst(p, v) atomic_fetch_and_explicit(p, v, memory_order_seq_cst)

/* expected is a pointer; on failure it holds what was found, read relaxed unless the name says acquire. */
#define cas_weak_relaxed(p, expected, v)                                                                               \
    atomic_compare_exchange_weak_explicit(p, expected, v, memory_order_relaxed, memory_order_relaxed)
#define cas_weak_release(p, expected, v)                                                                               \
    atomic_compare_exchange_weak_explicit(p, expected, v, memory_order_release, memory_order_relaxed)
#define cas_weak_acquire(p, expected, v)                                                                               \
    atomic_compare_exchange_weak_explicit(p, expected, v, memory_order_acquire, memory_order_relaxed)
#define cas_weak_seq_cst(p, expected, v)                                                                               \
    atomic_compare_exchange_weak_explicit(p, expected, v, memory_order_seq_cst, memory_order_relaxed)
#define cas_weak_acq_rel(p, expected, v)                                                                               \
    atomic_compare_exchange_weak_explicit(p, expected, v, memory_order_acq_rel, memory_order_acquire)
#define cas_acquire(p, expected, v)                                                                                    \
    atomic_compare_exchange_strong_explicit(p, expected, v, memory_order_acquire, memory_order_relaxed)
#define cas_acq_rel(p, expected, v)                                                                                    \
    atomic_compare_exchange_strong_explicit(p, expected, v, memory_order_acq_rel, memory_order_acquire)
#define cas_relaxed(p, expected, v)                                                                                    \
    atomic_compare_exchange_strong_explicit(p, expected, v, memory_order_relaxed, memory_order_relaxed)

/* Orders the compiler alone, against a signal handler on the same thread. */
#define signal_fence() atomic_signal_fence(memory_order_seq_cst)

#endif
