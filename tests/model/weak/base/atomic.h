/* SPDX-License-Identifier: MIT */
/* atomic.h - stands in for src/base/atomic.h, so that the pool's own sources run on the weak memory of weak.c. */
#ifndef BASE_ATOMIC_H
#define BASE_ATOMIC_H

#include "weak.h"

#define WEAK_TYPE(p) __typeof__(*(p) + 0) /* without _Atomic */
#define WEAK_TYPED(p, expression)                                                                                      \
    ({                                                                                                                 \
        WEAK_TYPE(p) weak_value = (WEAK_TYPE(p))(expression);                                                          \
        weak_value;                                                                                                    \
    })
#define WEAK_LOAD(p, order) ((WEAK_TYPE(p))weak_load(p, sizeof *(p), order))
#define WEAK_STORE(p, v, order) weak_store(p, sizeof *(p), (uint64_t)(v), order)
#define WEAK_CHANGE(p, change, v, order) WEAK_TYPED(p, weak_change(p, sizeof *(p), change, (uint64_t)(v), order))
#define WEAK_CAS(p, e, v, order, failed) weak_cas(p, sizeof *(p), e, (uint64_t)(v), order, failed)

#define load_relaxed(p) WEAK_LOAD(p, RELAXED)
#define load_acquire(p) WEAK_LOAD(p, ACQUIRE)
#define load_seq_cst(p) WEAK_LOAD(p, SEQ_CST)
#define store_relaxed(p, v) WEAK_STORE(p, v, RELAXED)
#define store_release(p, v) WEAK_STORE(p, v, RELEASE)
#define store_seq_cst(p, v) WEAK_STORE(p, v, SEQ_CST)
#define add_relaxed(p, v) WEAK_CHANGE(p, CHANGE_ADD, v, RELAXED)
#define sub_relaxed(p, v) WEAK_CHANGE(p, CHANGE_ADD, 0 - (uint64_t)(v), RELAXED)
#define or_relaxed(p, v) WEAK_CHANGE(p, CHANGE_OR, v, RELAXED)
#define add_seq_cst(p, v) WEAK_CHANGE(p, CHANGE_ADD, v, SEQ_CST)
#define or_seq_cst(p, v) WEAK_CHANGE(p, CHANGE_OR, v, SEQ_CST)
#define and_release(p, v) WEAK_CHANGE(p, CHANGE_AND, v, RELEASE)
#define and_acq_rel(p, v) WEAK_CHANGE(p, CHANGE_AND, v, ACQ_REL)
#define and_seq_cst(p, v) WEAK_CHANGE(p, CHANGE_AND, v, SEQ_CST)
#define cas_weak_relaxed(p, e, v) WEAK_CAS(p, e, v, RELAXED, RELAXED)
#define cas_weak_release(p, e, v) WEAK_CAS(p, e, v, RELEASE, RELAXED)
#define cas_weak_acquire(p, e, v) WEAK_CAS(p, e, v, ACQUIRE, RELAXED)
#define cas_weak_acq_rel(p, e, v) WEAK_CAS(p, e, v, ACQ_REL, ACQUIRE)
#define cas_weak_seq_cst(p, e, v) WEAK_CAS(p, e, v, SEQ_CST, RELAXED)
#define cas_relaxed(p, e, v) WEAK_CAS(p, e, v, RELAXED, RELAXED)
#define cas_acquire(p, e, v) WEAK_CAS(p, e, v, ACQUIRE, RELAXED)
#define cas_acq_rel(p, e, v) WEAK_CAS(p, e, v, ACQ_REL, ACQUIRE)

#endif
