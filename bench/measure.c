/* SPDX-License-Identifier: MIT */
/* measure.c - clocks, RSS, chunks and threads for the cases. Allocates nothing itself. */
#define _GNU_SOURCE
#include "bench.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MAX_THREADS 16

static double clock_ns(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

double bench_wall_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

double bench_cpu_ns(void)
{
    return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

void bench_report(const char *key, double value)
{
    printf("%s %.4f\n", key, value);
}

void bench_fail(const char *what)
{
    fprintf(stderr, "allot_bench: %s\n", what);
    abort();
}

size_t bench_scaled(size_t n, unsigned effort)
{
    size_t scaled = n * effort / 100;
    return scaled > 0 ? scaled : 1;
}

static size_t books_kib;

void bench_set_books(size_t bytes)
{
    books_kib = bytes / 1024;
}

/* The number after key in a file of /proc, less the case's own books. */
static size_t proc_kib(const char *path, const char *key)
{
    char text[4096];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
    if (fd >= 0) {
        close(fd);
    }
    text[n > 0 ? n : 0] = '\0';
    const char *found = strstr(text, key);
    if (found == NULL) {
        bench_fail("cannot read /proc/self");
        return 0;
    }
    return strtoul(found + strlen(key), NULL, 10) - books_kib;
}

/* smaps_rollup counts pages; the counters behind VmRSS may lag by a batch for each CPU. */
size_t bench_rss_kib(void)
{
    return proc_kib("/proc/self/smaps_rollup", "Rss:");
}

size_t bench_anonymous_kib(void)
{
    return proc_kib("/proc/self/smaps_rollup", "Anonymous:");
}

size_t bench_peak_kib(void)
{
    return proc_kib("/proc/self/status", "VmHWM:");
}

void bench_timed(void (*step)(void *context, size_t ops), void *context, size_t ops_each, size_t n_chunks)
{
    double total = 0;
    double least = 1e18;
    step(context, ops_each);
    for (size_t i = 0; i < n_chunks; i++) {
        double begin = bench_cpu_ns();
        step(context, ops_each);
        double took = bench_cpu_ns() - begin;
        total += took;
        least = took < least ? took : least;
    }
    bench_report("ns", total / ((double)ops_each * (double)n_chunks));
    bench_report("least_ns", least / (double)ops_each);
}

typedef struct thread_start {
    void (*body)(size_t index);
    size_t index;
    pthread_barrier_t *gate;
} thread_start;

static void *thread_main(void *argument)
{
    thread_start *start = argument;
    pthread_barrier_wait(start->gate);
    start->body(start->index);
    return NULL;
}

void bench_threads(void (*body)(size_t index), size_t n, size_t ops)
{
    pthread_t threads[MAX_THREADS];
    thread_start starts[MAX_THREADS];
    pthread_barrier_t gate;
    if (n > MAX_THREADS || pthread_barrier_init(&gate, NULL, (unsigned)n + 1) != 0) {
        bench_fail("too many threads");
    }
    for (size_t i = 0; i < n; i++) {
        starts[i] = (thread_start){body, i, &gate};
        if (pthread_create(&threads[i], NULL, thread_main, &starts[i]) != 0) {
            bench_fail("cannot start a thread");
        }
    }
    double wall = bench_wall_ns();
    double cpu = bench_cpu_ns();
    pthread_barrier_wait(&gate);
    for (size_t i = 0; i < n; i++) {
        pthread_join(threads[i], NULL);
    }
    bench_report("ns", (bench_wall_ns() - wall) / (double)ops);
    bench_report("cpu_ns", (bench_cpu_ns() - cpu) / (double)ops);
    pthread_barrier_destroy(&gate);
}

void *bench_map(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        bench_fail("cannot map");
    }
    return memory;
}
