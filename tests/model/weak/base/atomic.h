/* SPDX-License-Identifier: MIT */
/* atomic.h - stands in for src/base/atomic.h, so that the pool's own sources run on the weak memory of weak.c. */
#ifndef BASE_ATOMIC_H
#define BASE_ATOMIC_H

#include "weak.h"

#define load_relaxed(p) weak_load(p, sizeof *(p), RELAXED)
#define load_acquire(p) weak_load(p, sizeof *(p), ACQUIRE)
#define load_seq_cst(p) weak_load(p, sizeof *(p), SEQ_CST)
#define store_relaxed(p, v) weak_store(p, sizeof *(p), (uint64_t)(v), RELAXED)
#define store_release(p, v) weak_store(p, sizeof *(p), (uint64_t)(v), RELEASE)
#define store_seq_cst(p, v) weak_store(p, sizeof *(p), (uint64_t)(v), SEQ_CST)
#define xchg_acq_rel(p, v) weak_change(p, sizeof *(p), CHANGE_SET, (uint64_t)(v), ACQ_REL)
#define add_relaxed(p, v) weak_change(p, sizeof *(p), CHANGE_ADD, (uint64_t)(v), RELAXED)
#define sub_relaxed(p, v) weak_change(p, sizeof *(p), CHANGE_ADD, 0 - (uint64_t)(v), RELAXED)
#define or_relaxed(p, v) weak_change(p, sizeof *(p), CHANGE_OR, (uint64_t)(v), RELAXED)
#define or_seq_cst(p, v) weak_change(p, sizeof *(p), CHANGE_OR, (uint64_t)(v), SEQ_CST)
#define and_release(p, v) weak_change(p, sizeof *(p), CHANGE_AND, (uint64_t)(v), RELEASE)
#define and_acq_rel(p, v) weak_change(p, sizeof *(p), CHANGE_AND, (uint64_t)(v), ACQ_REL)
#define and_seq_cst(p, v) weak_change(p, sizeof *(p), CHANGE_AND, (uint64_t)(v), SEQ_CST)
#define cas_weak_relaxed(p, e, v) weak_cas(p, sizeof *(p), e, (uint64_t)(v), RELAXED, RELAXED)
#define cas_weak_release(p, e, v) weak_cas(p, sizeof *(p), e, (uint64_t)(v), RELEASE, RELAXED)
#define cas_weak_acquire(p, e, v) weak_cas(p, sizeof *(p), e, (uint64_t)(v), ACQUIRE, RELAXED)
#define cas_weak_acq_rel(p, e, v) weak_cas(p, sizeof *(p), e, (uint64_t)(v), ACQ_REL, ACQUIRE)
#define cas_weak_seq_cst(p, e, v) weak_cas(p, sizeof *(p), e, (uint64_t)(v), SEQ_CST, RELAXED)
#define cas_relaxed(p, e, v) weak_cas(p, sizeof *(p), e, (uint64_t)(v), RELAXED, RELAXED)
#define cas_acquire(p, e, v) weak_cas(p, sizeof *(p), e, (uint64_t)(v), ACQUIRE, RELAXED)
#define cas_acq_rel(p, e, v) weak_cas(p, sizeof *(p), e, (uint64_t)(v), ACQ_REL, ACQUIRE)

#endif
