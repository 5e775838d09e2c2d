/* SPDX-License-Identifier: MIT */
/* pool_stress.h - threads that allocate and free at random, also each other's blocks, and notice any block that two
 * have at the same time or whose contents somebody else wrote.
 *
 * A live block is full of a word made of its address and its size; a freed one is wiped first. Blocks wait in a table
 * of slots that all threads, handlers and (in shared memory) processes exchange with.
 */
#ifndef TESTS_STRESS_POOL_STRESS_H
#define TESTS_STRESS_POOL_STRESS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "allot/pool.h"
#include "pool/pool.h"

#define N_SLOTS 1024

struct source {
    const char *name;
    void *(*take)(size_t bytes);
    void (*give)(void *block);
};

static struct table {
    _Atomic(size_t *) slots[N_SLOTS];
    _Atomic uint64_t n_taken;
    _Atomic uint64_t n_refused;
} table;

static inline void die(const char *what, const void *block)
{
    char line[160];
    int n = snprintf(line, sizeof line, "FAILED: %s at %p\n", what, block);
    if (write(2, line, (size_t)n) < 0) {
        _exit(4);
    }
    _exit(3);
}

static inline size_t stamp_of(const size_t *block, size_t bytes)
{
    return ((uintptr_t)block * UINT64_C(0x9e3779b97f4a7c15)) ^ bytes;
}

/* Word 0 is the size, the rest is stamped. bytes is at least 16 and a multiple of 8. */
static inline void stamp(size_t *block, size_t bytes)
{
    block[0] = bytes;
    for (size_t i = 1; i < bytes / sizeof *block; i++) {
        block[i] = stamp_of(block, bytes);
    }
}

static inline void check_and_wipe(size_t *block)
{
    size_t bytes = block[0];
    for (size_t i = 1; i < bytes / sizeof *block; i++) {
        if (block[i] != stamp_of(block, bytes)) {
            die("a live block was written to", block);
        }
        block[i] = 0;
    }
    block[0] = 0;
}

static inline uint32_t next_random(uint32_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    return *seed;
}

/* Mostly small, all classes, now and then a run, and for pools that grow a mapping. */
static inline size_t random_bytes(uint32_t r, size_t most)
{
    size_t bytes = r % 64 == 0 ? (r >> 6) % most : r % 8 == 0 ? (r >> 3) % 5000 : (r >> 3) % 200;
    bytes = bytes / 8 * 8;
    return bytes < 16 ? 16 : bytes;
}

static inline void one_step(const struct source *source, uint32_t *seed, size_t most)
{
    uint32_t r = next_random(seed);
    size_t *fresh = NULL;
    if (r % 16 != 0) {
        size_t bytes = random_bytes(next_random(seed), most);
        fresh = source->take(bytes);
        if (fresh == NULL) {
            atomic_fetch_add(&table.n_refused, 1);
        } else {
            stamp(fresh, bytes);
            atomic_fetch_add_explicit(&table.n_taken, 1, memory_order_relaxed);
        }
    }
    size_t *old = atomic_exchange(&table.slots[(r >> 8) % N_SLOTS], fresh);
    if (old != NULL) {
        check_and_wipe(old);
        source->give(old);
    }
}

static inline void drain(const struct source *source)
{
    for (size_t i = 0; i < N_SLOTS; i++) {
        size_t *old = atomic_exchange(&table.slots[i], NULL);
        if (old != NULL) {
            check_and_wipe(old);
            source->give(old);
        }
    }
}

static inline double now_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static inline void *take_heap(size_t bytes)
{
    return pool_malloc(&pool_of_heap, bytes, 16);
}

static inline void expect_nothing_live(struct pool *pool, const char *name)
{
    struct pool_figures figures;
    pool_figures(pool, &figures);
    printf("%s: %llu blocks taken, %llu refused; %zu live at the end, %zu segments, %zu KiB given back\n", name,
           (unsigned long long)table.n_taken, (unsigned long long)table.n_refused, figures.n_live_blocks,
           figures.n_segments, figures.purged_bytes / 1024);
    if (figures.n_live_blocks != 0) {
        die("blocks were lost", NULL);
    }
    table.n_taken = table.n_refused = 0;
}

#endif
