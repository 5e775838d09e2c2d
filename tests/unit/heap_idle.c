/* SPDX-License-Identifier: MIT */
/* heap_idle.c - a heap whose thread has ended is served by who frees to it, and never waited for. */
#include "child.h"

#include <pthread.h>

#include "heap/heap_internal.h"

enum { n_blocks = 8 };
static void *blocks[n_blocks];
static size_t block_bytes;

static void *take_and_end(void *unused)
{
    (void)unused;
    heap_start(); /* so that the thread's end is seen */
    for (size_t i = 0; i < n_blocks; i++) {
        blocks[i] = heap_malloc(block_bytes);
    }
    return NULL;
}

static struct heap *heap_of_a_thread_that_ended(void)
{
    pthread_t thread;
    EXPECT(pthread_create(&thread, NULL, take_and_end, NULL) == 0);
    pthread_join(thread, NULL);
    struct heap *h = heap_by_index(heap_count() - 1);
    EXPECT(h != NULL && load_relaxed(&h->state) == HEAP_IDLE);
    return h;
}

/* Somebody has the lock and doesn't go on: a thread that was stopped, or the one that a handler has interrupted. */
static void free_while_the_lock_is_held(void *unused)
{
    (void)unused;
    alarm(20);
    heap_free(heap_malloc(1));
    block_bytes = 100000;
    struct heap *h = heap_of_a_thread_that_ended();
    EXPECT(sort_lock_try(h));
    for (size_t i = 0; i < n_blocks; i++) {
        heap_free(blocks[i]);
    }
    EXPECT(load_relaxed(&h->medium_inbox) != NULL && load_relaxed(&h->state) == HEAP_IDLE);
    sort_unlock(h);
    heap_serve_idle(h);
    EXPECT(load_relaxed(&h->medium_inbox) == NULL);
}

static void nobody_waits_for_the_lock_of_an_idle_heap(void **state)
{
    (void)state;
    child_succeeds(free_while_the_lock_is_held, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_waits_for_the_lock_of_an_idle_heap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
