/* SPDX-License-Identifier: MIT */
/* pool_threads.c - all pools under threads that free each other's blocks; then nothing may be live, and the public
 * pool's area must be one free piece again.
 *
 *     pool_threads [seconds [threads]]
 */
#include "pool_stress.h"

#include <pthread.h>

static double seconds = 2;
static unsigned n_threads = 8;
static const struct source *source;
static size_t most;
static double until;

static allot_pool *private_pool;

static void *take_in_private(size_t bytes)
{
    return allot_pool_malloc_in(private_pool, bytes);
}

static void give_in_private(void *block)
{
    allot_pool_free_in(private_pool, block);
}

static void *work(void *context)
{
    uint32_t seed = (uint32_t)(uintptr_t)context * 2654435761u + 1;
    do {
        for (int i = 0; i < 1000; i++) {
            one_step(source, &seed, most);
        }
    } while (now_seconds() < until);
    return NULL;
}

static void run(const struct source *which, size_t most_bytes)
{
    source = which;
    most = most_bytes;
    until = now_seconds() + seconds;
    pthread_t threads[64];
    for (uintptr_t i = 0; i < n_threads; i++) {
        pthread_create(&threads[i], NULL, work, (void *)(i + 1));
    }
    for (unsigned i = 0; i < n_threads; i++) {
        pthread_join(threads[i], NULL);
    }
    drain(source);
}

int main(int argc, char **argv)
{
    static const struct source public_source = {"public", allot_pool_malloc, allot_pool_free};
    static const struct source heap_source = {"heap", take_heap, pool_free};
    static const struct source private_source = {"private", take_in_private, give_in_private};
    seconds = argc > 1 ? atof(argv[1]) : seconds;
    n_threads = argc > 2 ? (unsigned)atoi(argv[2]) : n_threads;

    run(&public_source, 100000);
    expect_nothing_live(&pool_public, "public");
    void *all = allot_pool_malloc(2 << 20);
    if (all == NULL) {
        die("the area is not whole again", NULL);
    }
    allot_pool_free(all);

    run(&heap_source, 600000);
    expect_nothing_live(&pool_of_heap, "heap");

    static _Alignas(64) char buffer[700000];
    if (allot_pool_create(buffer, sizeof buffer, &private_pool) != 0) {
        die("no private pool", NULL);
    }
    run(&private_source, 10000); /* too small for all slots: much is refused */
    expect_nothing_live((struct pool *)private_pool, "private");
    return 0;
}
