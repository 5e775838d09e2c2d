/* SPDX-License-Identifier: MIT */
/* small.c - one thread, small blocks: what most programs do most of the time. An operation is a malloc and a free. */
#include "bench.h"

#include <stdlib.h>

#define N_CHUNKS 20
#define MOST_LIVE 50000
#define N_MIXED 10000
#define BLOCK_BYTES 48

static void *slot[MOST_LIVE];

/* ---- one size, so many live --------------------------------------------------------------------------------- */

static void live_step(void *context, size_t ops)
{
    size_t n = *(const size_t *)context;
    for (size_t done = 0; done < ops; done += n) {
        for (size_t i = 0; i < n; i++) {
            slot[i] = bench_touch(malloc(BLOCK_BYTES));
        }
        for (size_t i = 0, at = 0; i < n; i++) {
            free(slot[at]);
            at += 7;
            at = at >= n ? at - n : at;
        }
    }
}

static void one_step(void *context, size_t ops)
{
    (void)context;
    for (size_t i = 0; i < ops; i++) {
        free(bench_touch(malloc(BLOCK_BYTES)));
    }
}

static void run_one(unsigned effort)
{
    bench_timed(one_step, NULL, bench_scaled(2000000, effort), N_CHUNKS);
}

static void run_live_200(unsigned effort)
{
    size_t n = 200;
    bench_timed(live_step, &n, bench_scaled(5000, effort) * n, N_CHUNKS);
}

static void run_live_50000(unsigned effort)
{
    size_t n = MOST_LIVE;
    bench_timed(live_step, &n, bench_scaled(10, effort) * n, N_CHUNKS);
}

/* ---- 16 to 1024 bytes mixed --------------------------------------------------------------------------------- */

typedef enum order { LAST_FIRST, FIRST_FIRST } order;

static void mixed_step(void *context, size_t ops)
{
    static size_t next;
    order in = *(const order *)context;
    for (size_t done = 0; done < ops; done += N_MIXED) {
        for (size_t i = 0; i < N_MIXED; i++) {
            slot[i] = bench_touch(malloc(bench_sizes[next++ % BENCH_TABLE]));
        }
        for (size_t i = 0; i < N_MIXED; i++) {
            free(slot[in == FIRST_FIRST ? i : N_MIXED - 1 - i]);
        }
    }
}

static void run_lifo(unsigned effort)
{
    order in = LAST_FIRST;
    bench_timed(mixed_step, &in, bench_scaled(50, effort) * N_MIXED, N_CHUNKS);
}

static void run_fifo(unsigned effort)
{
    order in = FIRST_FIRST;
    bench_timed(mixed_step, &in, bench_scaled(50, effort) * N_MIXED, N_CHUNKS);
}

static void random_step(void *context, size_t ops)
{
    (void)context;
    static size_t next;
    for (size_t i = 0; i < ops; i++, next++) {
        size_t at = bench_picks[next % BENCH_TABLE] % N_MIXED;
        free(slot[at]);
        slot[at] = bench_touch(malloc(bench_sizes[next * 7 % BENCH_TABLE]));
    }
}

static void run_random(unsigned effort)
{
    bench_timed(random_step, NULL, bench_scaled(500000, effort), N_CHUNKS);
}

static void calloc_step(void *context, size_t ops)
{
    (void)context;
    static size_t next;
    for (size_t i = 0; i < ops; i++, next++) {
        size_t at = bench_picks[next % BENCH_TABLE] % N_MIXED;
        free(slot[at]);
        slot[at] = bench_touch(calloc(1, bench_sizes[next * 7 % BENCH_TABLE]));
    }
}

static void run_calloc(unsigned effort)
{
    bench_timed(calloc_step, NULL, bench_scaled(250000, effort), N_CHUNKS);
}

/* ---- realloc ------------------------------------------------------------------------------------------------ */

/* 64 blocks grow from 16 bytes to 64 KiB by a quarter at a time, in turns. An operation is one realloc. */
static void realloc_step(void *context, size_t ops)
{
    (void)context;
    enum { N_BLOCKS = 64, GROWN_BYTES = 64 * 1024 };
    for (size_t done = 0; done < ops;) {
        for (size_t bytes = 16; bytes <= GROWN_BYTES; bytes += bytes / 4) {
            for (size_t i = 0; i < N_BLOCKS; i++, done++) {
                slot[i] = bench_touch(realloc(slot[i], bytes));
                bench_touch_last(slot[i], bytes);
            }
        }
        for (size_t i = 0; i < N_BLOCKS; i++) {
            free(slot[i]);
            slot[i] = NULL;
        }
    }
}

static void run_realloc(unsigned effort)
{
    bench_timed(realloc_step, NULL, bench_scaled(40000, effort), N_CHUNKS);
}

const bench_case small_cases[] = {
    {"one", "one 48-byte block, taken and freed", run_one},
    {"live-200", "200 live 48-byte blocks, freed in stride order", run_live_200},
    {"live-50000", "50,000 live 48-byte blocks, freed in stride order", run_live_50000},
    {"lifo", "10,000 blocks of 16 to 1024 bytes, freed last in first out", run_lifo},
    {"fifo", "10,000 blocks of 16 to 1024 bytes, freed first in first out", run_fifo},
    {"random", "random replace in 10,000 slots, 16 to 1024 bytes", run_random},
    {"calloc", "random replace in 10,000 slots with calloc, 16 to 1024 bytes", run_calloc},
    {"realloc", "64 blocks growing from 16 bytes to 64 KiB in turns; one realloc", run_realloc},
    {NULL, NULL, NULL},
};
