/* SPDX-License-Identifier: MIT */
/* threads.c - several threads: handing blocks over, keeping to themselves, sharing, coming and going, forking.
 *
 * Orders.      Ring: the producer's release of `put` publishes the slots before it to the consumer's acquire; the
 *              consumer's release of `got` gives the slots back. Shared slots: exchange acquire-release, so that the
 *              taker sees the block that the putter wrote.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- producers and consumers -------------------------------------------------------------------------------- */

#define MOST_PAIRS 4
#define RING_SLOTS 1024
#define BATCH 32

/* One producer, one consumer. */
typedef struct ring {
    _Alignas(128) atomic_size_t put;
    _Alignas(128) atomic_size_t got;
    _Alignas(128) void *slot[RING_SLOTS];
} ring;

static ring rings[MOST_PAIRS][MOST_PAIRS]; /* by producer, by consumer */
static size_t n_pairs;
static size_t batches_each; /* from each producer to each consumer */

static void produce(ring *to, size_t *next)
{
    size_t put = atomic_load_explicit(&to->put, memory_order_relaxed);
    while (put + BATCH - atomic_load_explicit(&to->got, memory_order_acquire) > RING_SLOTS) {
        sched_yield();
    }
    for (size_t i = 0; i < BATCH; i++) {
        to->slot[(put + i) % RING_SLOTS] = bench_touch(malloc(bench_sizes[(*next)++ % BENCH_TABLE] / 2));
    }
    atomic_store_explicit(&to->put, put + BATCH, memory_order_release);
}

static void consume(ring *from)
{
    size_t got = atomic_load_explicit(&from->got, memory_order_relaxed);
    while (atomic_load_explicit(&from->put, memory_order_acquire) - got < BATCH) {
        sched_yield();
    }
    for (size_t i = 0; i < BATCH; i++) {
        free(bench_touch(from->slot[(got + i) % RING_SLOTS]));
    }
    atomic_store_explicit(&from->got, got + BATCH, memory_order_release);
}

static void pair_body(size_t index)
{
    size_t next = index * 997;
    for (size_t b = 0; b < batches_each; b++) {
        for (size_t other = 0; other < n_pairs; other++) {
            if (index < n_pairs) {
                produce(&rings[index][other], &next);
            } else {
                consume(&rings[other][index - n_pairs]);
            }
        }
    }
}

static void run_pairs(size_t n, size_t blocks)
{
    n_pairs = n;
    batches_each = blocks / (BATCH * n * n);
    batches_each = batches_each > 0 ? batches_each : 1;
    bench_threads(pair_body, 2 * n, batches_each * BATCH * n * n);
}

static void run_pairs_1(unsigned effort)
{
    run_pairs(1, bench_scaled(6000000, effort));
}

static void run_pairs_4(unsigned effort)
{
    run_pairs(4, bench_scaled(6000000, effort));
}

/* ---- each its own, all share -------------------------------------------------------------------------------- */

#define MOST_THREADS 8
#define N_OWN 1000
#define N_SHARED 10000

static _Alignas(128) void *own_slot[MOST_THREADS][N_OWN];
static _Atomic(void *) shared_slot[N_SHARED];
static size_t ops_each;

static void own_body(size_t index)
{
    void **slot = own_slot[index];
    for (size_t i = 0, next = index * 997; i < ops_each; i++, next++) {
        size_t at = bench_picks[next % BENCH_TABLE] % N_OWN;
        free(slot[at]);
        slot[at] = bench_touch(malloc(bench_sizes[next * 7 % BENCH_TABLE]));
    }
}

static void share_body(size_t index)
{
    for (size_t i = 0, next = index * 997; i < ops_each; i++, next++) {
        size_t at = bench_picks[next % BENCH_TABLE] % N_SHARED;
        void *mine = bench_touch(malloc(bench_sizes[next * 7 % BENCH_TABLE]));
        free(atomic_exchange_explicit(&shared_slot[at], mine, memory_order_acq_rel));
    }
}

static void run_many(void (*body)(size_t index), size_t n, size_t ops)
{
    ops_each = ops / n > 0 ? ops / n : 1;
    bench_threads(body, n, ops_each * n);
}

static void run_own_1(unsigned effort)
{
    run_many(own_body, 1, bench_scaled(10000000, effort));
}

static void run_own_2(unsigned effort)
{
    run_many(own_body, 2, bench_scaled(20000000, effort));
}

static void run_own_8(unsigned effort)
{
    run_many(own_body, 8, bench_scaled(20000000, effort));
}

static void run_share_1(unsigned effort)
{
    run_many(share_body, 1, bench_scaled(5000000, effort));
}

static void run_share_2(unsigned effort)
{
    run_many(share_body, 2, bench_scaled(5000000, effort));
}

static void run_share_8(unsigned effort)
{
    run_many(share_body, 8, bench_scaled(5000000, effort));
}

/* ---- born and dead ------------------------------------------------------------------------------------------ */

#define N_BORN_AT_ONCE 4
#define N_TAKEN 64
#define N_LEFT 8

/* Takes some blocks, frees most, leaves the rest to the thread that joins it. */
static void *short_life(void *argument)
{
    void **left = argument;
    void *taken[N_TAKEN];
    for (size_t i = 0; i < N_TAKEN; i++) {
        taken[i] = bench_touch(malloc(bench_sizes[i]));
    }
    for (size_t i = 0; i < N_TAKEN; i++) {
        if (i < N_LEFT) {
            left[i] = taken[i];
        } else {
            free(taken[i]);
        }
    }
    return NULL;
}

static void generation(void)
{
    pthread_t threads[N_BORN_AT_ONCE];
    void *left[N_BORN_AT_ONCE][N_LEFT];
    for (size_t i = 0; i < N_BORN_AT_ONCE; i++) {
        if (pthread_create(&threads[i], NULL, short_life, left[i]) != 0) {
            bench_fail("cannot start a thread");
        }
    }
    for (size_t i = 0; i < N_BORN_AT_ONCE; i++) {
        pthread_join(threads[i], NULL);
        for (size_t j = 0; j < N_LEFT; j++) {
            free(left[i][j]);
        }
    }
}

/* Growth counts from after the first 400 threads, when stacks and heaps stand. */
static void run_born(unsigned effort)
{
    size_t generations = bench_scaled(100000, effort) / N_BORN_AT_ONCE;
    for (size_t i = 0; i < 100; i++) {
        generation();
    }
    size_t before = bench_anonymous_kib();
    double wall = bench_wall_ns();
    double cpu = bench_cpu_ns();
    for (size_t i = 0; i < generations; i++) {
        generation();
    }
    double n = (double)(generations * N_BORN_AT_ONCE);
    bench_report("ns", (bench_wall_ns() - wall) / n);
    bench_report("cpu_ns", (bench_cpu_ns() - cpu) / n);
    bench_report("growth_kib", (double)bench_anonymous_kib() - (double)before);
}

/* ---- a thousand at once ------------------------------------------------------------------------------------- */

#define N_THOUSAND 1000
#define STACK_BYTES ((size_t)64 * 1024)

static atomic_size_t n_ready;
static pthread_mutex_t door = PTHREAD_MUTEX_INITIALIZER; /* held until all may go */

static void *few_blocks(void *argument)
{
    void *block[8];
    (void)argument;
    for (size_t i = 0; i < 8; i++) {
        block[i] = bench_touch(malloc(16u << i % 4));
    }
    atomic_fetch_add_explicit(&n_ready, 1, memory_order_release);
    pthread_mutex_lock(&door);
    pthread_mutex_unlock(&door);
    for (size_t i = 0; i < 8; i++) {
        free(block[i]);
    }
    return NULL;
}

static void run_thousand(unsigned effort)
{
    static pthread_t threads[N_THOUSAND];
    pthread_attr_t attributes;
    (void)effort;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    pthread_mutex_lock(&door);
    double begin = bench_cpu_ns();
    for (size_t i = 0; i < N_THOUSAND; i++) {
        if (pthread_create(&threads[i], &attributes, few_blocks, NULL) != 0) {
            bench_fail("cannot start a thread");
        }
    }
    while (atomic_load_explicit(&n_ready, memory_order_acquire) < N_THOUSAND) {
        usleep(1000);
    }
    bench_report("live_kib", (double)bench_rss_kib());
    pthread_mutex_unlock(&door);
    for (size_t i = 0; i < N_THOUSAND; i++) {
        pthread_join(threads[i], NULL);
    }
    bench_report("ns", (bench_cpu_ns() - begin) / N_THOUSAND);
}

/* ---- forks -------------------------------------------------------------------------------------------------- */

static atomic_bool stop;

static void *busy(void *argument)
{
    void *slot[100] = {NULL};
    (void)argument;
    for (size_t next = 0; !atomic_load_explicit(&stop, memory_order_relaxed); next++) {
        size_t at = bench_picks[next % BENCH_TABLE] % 100;
        free(slot[at]);
        slot[at] = bench_touch(malloc(bench_sizes[next % BENCH_TABLE]));
    }
    for (size_t i = 0; i < 100; i++) {
        free(slot[i]);
    }
    return NULL;
}

static void fork_once(void)
{
    pid_t child = fork();
    if (child == 0) {
        for (size_t i = 0; i < 1000; i++) {
            free(bench_touch(malloc(bench_sizes[i])));
        }
        _exit(0);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
        bench_fail("a forked child failed");
    }
}

/* One operation is a fork, a thousand blocks taken and freed in the child, and its end. */
static void run_forks(unsigned effort)
{
    enum { N_BUSY = 4 };
    pthread_t threads[N_BUSY];
    size_t n_forks = bench_scaled(150, effort);
    for (size_t i = 0; i < N_BUSY; i++) {
        if (pthread_create(&threads[i], NULL, busy, NULL) != 0) {
            bench_fail("cannot start a thread");
        }
    }
    double begin = bench_wall_ns();
    for (size_t i = 0; i < n_forks; i++) {
        fork_once();
    }
    bench_report("ns", (bench_wall_ns() - begin) / (double)n_forks);
    atomic_store_explicit(&stop, true, memory_order_relaxed);
    for (size_t i = 0; i < N_BUSY; i++) {
        pthread_join(threads[i], NULL);
    }
}

const bench_case thread_cases[] = {
    {"hand-over-1", "1 producer, 1 consumer, 8 to 512 bytes", run_pairs_1},
    {"hand-over-4", "4 producers, 4 consumers, each to each, 8 to 512 bytes", run_pairs_4},
    {"own-1", "1 thread, random replace in 1,000 slots of its own, 16 to 1024 bytes", run_own_1},
    {"own-2", "2 threads, each in slots of its own", run_own_2},
    {"own-8", "8 threads, each in slots of its own", run_own_8},
    {"share-1", "1 thread, random exchange in 10,000 atomic slots, 16 to 1024 bytes", run_share_1},
    {"share-2", "2 threads, all in the same 10,000 slots", run_share_2},
    {"share-8", "8 threads, all in the same 10,000 slots", run_share_8},
    {"born", "100,000 threads born and dead, 4 at a time, 64 blocks each; one thread", run_born},
    {"thousand", "1,000 live threads with 8 blocks each; one thread", run_thousand},
    {"forks", "150 forks with 4 busy threads; one fork", run_forks},
    {NULL, NULL, NULL},
};
