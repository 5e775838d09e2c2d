/* SPDX-License-Identifier: MIT */
/* weak.h - a model checker for lock-free code: all interleavings of two or three threads, and all values that C11 lets
 * their atomic loads read.
 *
 * Idea.        Each thread is a coroutine that stops before each atomic operation. Memory keeps, for each location, all
 *              values ever stored, in order; a thread has a view, the oldest value of each location that it may still
 *              read. A load may take any value not older than that (stale reads); acquire joins the view that a
 *              release put beside the value. Read-modify-writes take the newest. Sequentially consistent loads read
 *              nothing older than the newest sequentially consistent store to that location.
 *              Every execution is a list of choices (which thread, which value); they are gone through depth first,
 *              each from the start. What a thread will do is a function of what its operations returned, and what
 *              memory holds is a function of what all did: so a hash of the threads' histories names the state, and
 *              a state that was seen before is not gone into again.
 * Limits.      Stores to one location become visible in the order of execution, and loads are not delayed behind later
 *              stores of the same thread (no load buffering). Read-modify-writes don't fail without cause. Plain data
 *              is checked by weak_own: who writes must have seen the last write.
 * Fails on.    weak_fail, an execution of more than WEAK_DEEPEST operations (no progress), a race on plain data.
 */
#ifndef WEAK_H
#define WEAK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WEAK_THREADS 3
#define WEAK_DEEPEST 400

/* Bits: 1 acquires, 2 releases, 4 takes part in the single order. */
enum weak_order { RELAXED = 0, ACQUIRE = 1, RELEASE = 2, ACQ_REL = 3, SEQ_CST = 7 };
enum weak_change { CHANGE_SET, CHANGE_ADD, CHANGE_OR, CHANGE_AND };

uint64_t weak_load(const volatile void *p, size_t bytes, enum weak_order order);
void weak_store(volatile void *p, size_t bytes, uint64_t value, enum weak_order order);
uint64_t weak_change(volatile void *p, size_t bytes, enum weak_change change, uint64_t value, enum weak_order order);
bool weak_cas(volatile void *p, size_t bytes, void *expected, uint64_t value, enum weak_order order,
              enum weak_order failed);

/* Plain data at p, which stands for a block: the calling thread reads it, expects old there, and writes fresh. */
void weak_own(const void *p, uint64_t old, uint64_t fresh);

unsigned weak_thread(void); /* 0 outside of threads */
unsigned weak_place(void);

struct weak_scenario {
    const char *name;
    void (*prepare)(void);              /* alone, before; once */
    void (*bodies[WEAK_THREADS])(void); /* NULL: no such thread */
    void (*check)(unsigned unfinished); /* alone; when at most this one thread (a bit) hasn't ended */
    unsigned places;                    /* modulo 100: 0: a place a thread; 1: one for all */
};

/* Explores the scenario on memory of so many bytes. Returns the number of executions, 0 when a failure was found: it is
 * printed, with the choices that lead there, unless quiet. */
unsigned long weak_explore(const struct weak_scenario *scenario, void *memory, size_t bytes, bool quiet);
extern unsigned long weak_states;

/* A statement failed: says so; doesn't return when called by a thread of the model. */
void weak_fail(const char *what);

/* Faults put in on purpose, to see that they are found. 0: none. */
extern unsigned weak_fault;
enum { FAULT_NONE, FAULT_LOADS_NOT_SEQ_CST, FAULT_NO_RELEASE, FAULT_NO_ACQUIRE, FAULT_STORES_NOT_SEQ_CST, FAULT_LAST };

#endif
