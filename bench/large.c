/* SPDX-License-Identifier: MIT */
/* large.c - one thread, large blocks. An operation is a free and a malloc in a random slot. */
#include "bench.h"

#include <stdlib.h>

#define N_CHUNKS 10
#define N_MEDIUM 200
#define N_HUGE 8

static void *slot[N_MEDIUM];
static uint64_t state = BENCH_SEED;

static size_t medium_bytes(void)
{
    return 4096 + bench_random(&state) % (252 * 1024 + 1);
}

static void medium_step(void *context, size_t ops)
{
    (void)context;
    for (size_t i = 0; i < ops; i++) {
        size_t at = bench_random(&state) % N_MEDIUM;
        size_t bytes = medium_bytes();
        free(slot[at]);
        slot[at] = bench_touch(malloc(bytes));
        bench_touch_last(slot[at], bytes);
    }
}

static void medium_calloc_step(void *context, size_t ops)
{
    (void)context;
    for (size_t i = 0; i < ops; i++) {
        size_t at = bench_random(&state) % N_MEDIUM;
        size_t bytes = medium_bytes();
        free(slot[at]);
        slot[at] = bench_touch(calloc(1, bytes));
        bench_touch_last(slot[at], bytes);
    }
}

/* 64 KiB doubled up to ten times, then a random part more: as many blocks of each magnitude. Every page is written. */
static void huge_step(void *context, size_t ops)
{
    (void)context;
    for (size_t i = 0; i < ops; i++) {
        size_t at = bench_random(&state) % N_HUGE;
        size_t bytes = (size_t)65536 << bench_random(&state) % 10;
        bytes += bench_random(&state) % bytes;
        free(slot[at]);
        slot[at] = bench_touch(malloc(bytes));
        bench_touch_pages(slot[at], bytes);
    }
}

static void run_medium(unsigned effort)
{
    bench_timed(medium_step, NULL, bench_scaled(100000, effort), N_CHUNKS);
}

static void run_medium_calloc(unsigned effort)
{
    bench_timed(medium_calloc_step, NULL, bench_scaled(8000, effort), N_CHUNKS);
}

static void run_huge(unsigned effort)
{
    bench_timed(huge_step, NULL, bench_scaled(60, effort), N_CHUNKS);
}

const bench_case large_cases[] = {
    {"medium", "random replace in 200 slots, 4 to 256 KiB", run_medium},
    {"medium-calloc", "the same with calloc", run_medium_calloc},
    {"huge", "random replace in 8 slots, 64 KiB to 64 MiB, every page written", run_huge},
    {NULL, NULL, NULL},
};
