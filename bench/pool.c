/* SPDX-License-Identifier: MIT */
/* pool.c - the pool beside AO_malloc, the heap and libc's malloc, in one process and one run.
 *
 *     pool [seconds a cell]
 *
 * ns of CPU time a pair (malloc, a touch, free), best of five; fewer is better.
 *
 *     pair      one block of 48 bytes, again and again
 *     random    replace a block at random among 4,000 of 16 to 128 bytes
 *     burst     5,000 blocks of 64 bytes, then all freed in order
 *     2 thr     the pair on 2 threads at once, one size
 *     8 thr     the pair on 8 threads at once, one size
 *     hand over one thread allocates, another frees, 64 blocks of 48 bytes at a time
 */
#include "allot/pool.h"
#include "allot/allot.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Declared here, as the other library's header may not be there and ours has the same names. */
__attribute__((weak)) void *AO_malloc(size_t bytes);
__attribute__((weak)) void AO_free(void *block);
__attribute__((weak)) void AO_malloc_enable_mmap(void);

typedef struct allocator {
    const char *name;
    void *(*take)(size_t);
    void (*give)(void *);
} allocator;

static double seconds_a_cell = 0.15;

static double now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void pair(const allocator *a, unsigned long n)
{
    for (unsigned long i = 0; i < n; i++) {
        char *block = a->take(48);
        *(volatile char *)block = 1;
        a->give(block);
    }
}

static void random_replace(const allocator *a, unsigned long n)
{
    enum { SLOTS = 4000 };
    static char *slots[SLOTS];
    unsigned seed = 1;
    for (unsigned long i = 0; i < n; i++) {
        seed = seed * 1103515245u + 12345u;
        char **slot = &slots[(seed >> 8) % SLOTS];
        a->give(*slot);
        *slot = a->take(16 + (seed >> 20) % 113);
        **slot = 1;
    }
    for (int i = 0; i < SLOTS; i++) {
        a->give(slots[i]);
        slots[i] = NULL;
    }
}

static void burst(const allocator *a, unsigned long n)
{
    enum { BLOCKS = 5000 };
    static char *blocks[BLOCKS];
    for (unsigned long done = 0; done < n; done += BLOCKS) {
        for (int i = 0; i < BLOCKS; i++) {
            *(volatile char *)(blocks[i] = a->take(64)) = 1;
        }
        for (int i = 0; i < BLOCKS; i++) {
            a->give(blocks[i]);
        }
    }
}

/* ---- threads ------------------------------------------------------------------------------------------------ */

struct job {
    const allocator *a;
    unsigned long n;
    pthread_barrier_t *start;
    double cpu;
};

static void *pair_thread(void *context)
{
    struct job *job = context;
    pair(job->a, 1000);
    pthread_barrier_wait(job->start);
    double before = now(CLOCK_THREAD_CPUTIME_ID);
    pair(job->a, job->n);
    job->cpu = now(CLOCK_THREAD_CPUTIME_ID) - before;
    return NULL;
}

static double with_threads(const allocator *a, unsigned long n, unsigned n_threads)
{
    pthread_t threads[8];
    struct job jobs[8];
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, n_threads);
    double cpu = 0;
    for (unsigned i = 0; i < n_threads; i++) {
        jobs[i] = (struct job){.a = a, .n = n, .start = &start};
        pthread_create(&threads[i], NULL, pair_thread, &jobs[i]);
    }
    for (unsigned i = 0; i < n_threads; i++) {
        pthread_join(threads[i], NULL);
        cpu += jobs[i].cpu;
    }
    pthread_barrier_destroy(&start);
    return cpu / (double)n / n_threads;
}

enum { HANDED = 64 };
static struct channel {
    _Alignas(64) _Atomic unsigned full;
    void *blocks[HANDED];
} channel;

static void *consumer(void *context)
{
    struct job *job = context;
    for (unsigned long done = 0; done < job->n; done += HANDED) {
        while (atomic_load_explicit(&channel.full, memory_order_acquire) == 0) {
            sched_yield();
        }
        for (int i = 0; i < HANDED; i++) {
            job->a->give(channel.blocks[i]);
        }
        atomic_store_explicit(&channel.full, 0, memory_order_release);
    }
    return NULL;
}

static double hand_over(const allocator *a, unsigned long n)
{
    struct job job = {.a = a, .n = n / HANDED * HANDED};
    pthread_t thread;
    pthread_create(&thread, NULL, consumer, &job);
    double before = now(CLOCK_PROCESS_CPUTIME_ID);
    for (unsigned long done = 0; done < job.n; done += HANDED) {
        void *blocks[HANDED];
        for (int i = 0; i < HANDED; i++) {
            *(volatile char *)(blocks[i] = a->take(48)) = 1;
        }
        while (atomic_load_explicit(&channel.full, memory_order_acquire) != 0) {
            sched_yield();
        }
        memcpy(channel.blocks, blocks, sizeof blocks);
        atomic_store_explicit(&channel.full, 1, memory_order_release);
    }
    pthread_join(thread, NULL);
    return (now(CLOCK_PROCESS_CPUTIME_ID) - before) / (double)job.n;
}

/* ---- cells -------------------------------------------------------------------------------------------------- */

static double measure(const allocator *a, int column, unsigned long n)
{
    static void (*const single[])(const allocator *, unsigned long) = {pair, random_replace, burst};
    if (column < 3) {
        double before = now(CLOCK_THREAD_CPUTIME_ID);
        single[column](a, n);
        return (now(CLOCK_THREAD_CPUTIME_ID) - before) / (double)n;
    }
    return column == 3 ? with_threads(a, n, 2) : column == 4 ? with_threads(a, n / 4, 8) : hand_over(a, n);
}

static double cell(const allocator *a, int column)
{
    unsigned long n = 20000;
    double once = measure(a, column, n);
    n = (unsigned long)(seconds_a_cell * 1e9 / (once < 1 ? 1 : once)) / 5 + 20000;
    double best = 1e30;
    for (int i = 0; i < 5; i++) {
        double t = measure(a, column, n);
        best = t < best ? t : best;
    }
    return best;
}

int main(int argc, char **argv)
{
    const allocator allocators[] = {
        {"pool", allot_pool_malloc, allot_pool_free},
        {"AO_malloc", AO_malloc, AO_free},
        {"libc malloc", malloc, free},
        {"allot heap", allot_malloc, allot_free},
    };
    static const char *const columns[] = {"pair", "random", "burst", "2 thr", "8 thr", "hand over"};
    seconds_a_cell = argc > 1 ? atof(argv[1]) : seconds_a_cell;
    allot_pool_enable_mmap();
    if (AO_malloc_enable_mmap != NULL) {
        AO_malloc_enable_mmap();
    }
    printf("%-12s", "ns");
    for (int c = 0; c < 6; c++) {
        printf("%10s", columns[c]);
    }
    printf("\n");
    for (int i = 0; i < 4; i++) {
        if (allocators[i].take == NULL) {
            printf("%-12s not linked in\n", allocators[i].name);
            continue;
        }
        printf("%-12s", allocators[i].name);
        for (int c = 0; c < 6; c++) {
            printf("%10.1f", cell(&allocators[i], c));
            fflush(stdout);
        }
        printf("\n");
    }
    return 0;
}
