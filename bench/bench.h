/* SPDX-License-Identifier: MIT */
/* bench.h - what the cases of the benchmark share.
 *
 * Idea.        One process runs one case on whatever malloc the process has, and prints "key value" lines. The
 *              runner (bench/run) starts one process per case and allocator, so that no case inherits another's heap
 *              and peak RSS is the case's own. All books of a case lie in static or mapped memory, never in the heap
 *              that is being measured.
 * Keys.        ns           time per operation. CPU time of the process where one thread runs, so that neighbours on
 *                           a busy machine count less; wall time where threads wait for each other
 *              least_ns     the same of the quickest of the chunks that the case was cut into
 *              cpu_ns       CPU time per operation of all threads, where ns is wall time
 *              peak_kib     peak RSS of the process; other keys that end in _kib are RSS at a moment the case names
 * Reads with.  main.c (the table of cases), bench/README.md
 */
#ifndef ALLOT_BENCH_H
#define ALLOT_BENCH_H

#include <stddef.h>
#include <stdint.h>

/* A case does its work once. effort is in percent: 100 is the full measurement, less is for a quick look. */
typedef struct bench_case {
    const char *name;
    const char *what;
    void (*run)(unsigned effort);
} bench_case;

/* Tables end with a NULL name. */
extern const bench_case small_cases[];
extern const bench_case large_cases[];
extern const bench_case thread_cases[];
extern const bench_case memory_cases[];

/* ---- measuring ---------------------------------------------------------------------------------------------- */

double bench_wall_ns(void);
double bench_cpu_ns(void);
size_t bench_rss_kib(void);
/* Without the pages of files, which are mapped 16 at a time when a function runs for the first time. */
size_t bench_anonymous_kib(void);
size_t bench_peak_kib(void);
void bench_report(const char *key, double value);
void bench_fail(const char *what);

/* Pages of the case's own books, all resident: taken off every RSS and peak that is asked for from now on. */
void bench_set_books(size_t bytes);

/* n scaled by effort, at least 1. */
size_t bench_scaled(size_t n, unsigned effort);

/* Call step(context, ops_each) once to warm up and n_chunks times under the clock; reports ns and least_ns. */
void bench_timed(void (*step)(void *context, size_t ops), void *context, size_t ops_each, size_t n_chunks);

/* Start n threads on body(index) at one moment, wait for all; reports ns and cpu_ns for ops operations in total. */
void bench_threads(void (*body)(size_t index), size_t n, size_t ops);

/* ---- helpers of the cases ----------------------------------------------------------------------------------- */

/* Zeroed memory that doesn't come from malloc. */
void *bench_map(size_t bytes);

/* xorshift: the same numbers in every process. */
static inline uint64_t bench_random(uint64_t *state)
{
    uint64_t s = *state;
    s ^= s << 13;
    s ^= s >> 7;
    s ^= s << 17;
    return *state = s;
}

#define BENCH_SEED UINT64_C(88172645463325252)

/* Tables of random numbers, so that the clock sees the allocator more than the generator. */
#define BENCH_TABLE ((size_t)1 << 16)
extern uint16_t bench_sizes[BENCH_TABLE]; /* 16 to 1024 */
extern uint32_t bench_picks[BENCH_TABLE]; /* any 32 bits */

/* Use the block, so that neither compiler nor kernel can leave it out. */
static inline void *bench_touch(void *block)
{
    if (block == NULL) {
        bench_fail("out of memory");
    }
    *(volatile char *)block = 1;
    return block;
}

static inline void bench_touch_last(void *block, size_t size_bytes)
{
    ((volatile char *)block)[size_bytes - 1] = 1;
}

static inline void bench_touch_pages(void *block, size_t size_bytes)
{
    for (size_t i = 0; i < size_bytes; i += 4096) {
        ((volatile char *)block)[i] = 1;
    }
}

#endif
