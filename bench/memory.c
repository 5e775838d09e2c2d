/* SPDX-License-Identifier: MIT */
/* memory.c - what stays resident: after a burst, and where the sizes in use change. */
#define _GNU_SOURCE
#include "bench.h"

#include <stdlib.h>
#include <unistd.h>

#define MIB ((size_t)1024 * 1024)

static void shuffle(void **block, size_t n, uint64_t *state)
{
    for (size_t i = n; i > 1; i--) {
        size_t j = bench_random(state) % i;
        void *other = block[i - 1];
        block[i - 1] = block[j];
        block[j] = other;
    }
}

/* ---- burst, then idle --------------------------------------------------------------------------------------- */

/* 200 MiB of blocks of 16 to 1024 bytes, freed in random order; then the process sleeps for two seconds. */
static void run_burst(unsigned effort)
{
    size_t bytes_wanted = bench_scaled(200 * MIB, effort);
    void **block = bench_map(bytes_wanted / 16 * sizeof(void *));
    uint64_t state = BENCH_SEED;
    size_t n = 0;
    double begin = bench_cpu_ns();
    for (size_t bytes = 0; bytes < bytes_wanted; n++) {
        size_t size = bench_sizes[n % BENCH_TABLE];
        block[n] = bench_touch(malloc(size));
        bench_touch_last(block[n], size);
        bytes += size;
    }
    double took = bench_cpu_ns() - begin;
    bench_set_books(n * sizeof(void *));
    bench_report("full_kib", (double)bench_rss_kib());
    shuffle(block, n, &state);
    begin = bench_cpu_ns();
    for (size_t i = 0; i < n; i++) {
        free(block[i]);
    }
    took += bench_cpu_ns() - begin;
    bench_report("freed_kib", (double)bench_rss_kib());
    sleep(2);
    bench_report("idle_kib", (double)bench_rss_kib());
    bench_report("ns", took / (double)n);
}

/* ---- one size after another --------------------------------------------------------------------------------- */

/* Fill with values of one size, delete nine in ten at random, fill with another size to the same number of bytes. */
static void refill(size_t first_bytes, size_t second_bytes, size_t bytes_wanted)
{
    size_t n = bytes_wanted / first_bytes;
    size_t n_kept = n / 10;
    size_t n_second = (n - n_kept) * first_bytes / second_bytes;
    void **block = bench_map((n + n_second) * sizeof(void *));
    uint64_t state = BENCH_SEED;
    double begin = bench_cpu_ns();
    for (size_t i = 0; i < n; i++) {
        block[i] = bench_touch(malloc(first_bytes));
        bench_touch_last(block[i], first_bytes);
    }
    double took = bench_cpu_ns() - begin;
    shuffle(block, n, &state);
    begin = bench_cpu_ns();
    for (size_t i = n_kept; i < n; i++) {
        free(block[i]);
    }
    took += bench_cpu_ns() - begin;
    bench_set_books(n * sizeof(void *));
    bench_report("deleted_kib", (double)bench_rss_kib());
    begin = bench_cpu_ns();
    for (size_t i = 0; i < n_second; i++) {
        block[n + i] = bench_touch(malloc(second_bytes));
        bench_touch_last(block[n + i], second_bytes);
    }
    took += bench_cpu_ns() - begin;
    bench_set_books((n + n_second) * sizeof(void *));
    bench_report("final_kib", (double)bench_rss_kib());
    bench_report("ns", took / (double)(n + n_second));
}

static void run_refill_small(unsigned effort)
{
    refill(64, 96, bench_scaled(64 * MIB, effort));
}

static void run_refill_medium(unsigned effort)
{
    refill(1000, 1500, bench_scaled(256 * MIB, effort));
}

static void run_refill_large(unsigned effort)
{
    refill(6000, 20000, bench_scaled(256 * MIB, effort));
}

const bench_case memory_cases[] = {
    {"burst", "200 MiB of 16 to 1024 bytes, freed in random order, then idle for 2 s", run_burst},
    {"refill-small", "64 MiB of 64 bytes, nine in ten deleted, refilled with 96 bytes", run_refill_small},
    {"refill-medium", "256 MiB of 1,000 bytes, nine in ten deleted, refilled with 1,500 bytes", run_refill_medium},
    {"refill-large", "256 MiB of 6,000 bytes, nine in ten deleted, refilled with 20,000 bytes", run_refill_large},
    {NULL, NULL, NULL},
};
