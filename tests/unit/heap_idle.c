/* SPDX-License-Identifier: MIT */
/* heap_idle.c - a heap whose thread has ended is served by who frees to it, and never waited for; what a fork or a jump
 * out of a handler left half done is made whole. */
#include "child.h"

#include <pthread.h>

#include "heap/heap_internal.h"

enum { n_blocks = 8, n_many = 4000 };
static void *blocks[n_many];
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

/* ---- locks of lost threads ---------------------------------------------------------------------------------- */

static void *free_all(void *n)
{
    for (size_t i = 0; i < (uintptr_t)n; i++) {
        heap_free(blocks[i]);
    }
    return NULL;
}

static void fork_while_a_thread_sorts(void *unused)
{
    (void)unused;
    heap_start();
    block_bytes = 100000;
    for (size_t i = 0; i < n_blocks; i++) {
        blocks[i] = heap_malloc(block_bytes);
    }
    struct heap *h = load_relaxed(&heap_current);
    store_relaxed(&h->sort_lock, 1); /* nobody's that is left in the child */
    pid_t pid = fork();
    if (pid == 0) {
        pthread_t thread;
        EXPECT(load_relaxed(&h->sort_lock) == 0);
        EXPECT(pthread_create(&thread, NULL, free_all, (void *)n_blocks) == 0);
        pthread_join(thread, NULL);
        heap_thread_flush();
        EXPECT(load_relaxed(&h->medium_inbox) == NULL);
        _exit(0);
    }
    int status = -1;
    EXPECT(waitpid(pid, &status, 0) == pid && status == 0);
}

static void a_child_opens_the_locks_of_lost_threads(void **state)
{
    (void)state;
    child_succeeds(fork_while_a_thread_sorts, NULL);
}

/* ---- what is carved and what is live ------------------------------------------------------------------------ */

/* A sleeping owner's slabs are sent off by others: it may not take their blocks for live ones for ever. */
static void count_what_others_sent_off(void *unused)
{
    (void)unused;
    void *own[64];
    heap_start();
    for (size_t round = 0; round < 20; round++) {
        for (size_t i = 0; i < n_many; i++) {
            blocks[i] = heap_malloc(4096);
            EXPECT(blocks[i] != NULL);
        }
        pthread_t thread;
        EXPECT(pthread_create(&thread, NULL, free_all, (void *)n_many) == 0);
        pthread_join(thread, NULL);
    }
    for (size_t round = 0; round < 3; round++) {
        for (size_t i = 0; i < 64; i++) {
            own[i] = heap_malloc(4096);
        }
        for (size_t i = 0; i < 64; i++) {
            heap_free(own[i]);
        }
    }
    struct heap *h = load_relaxed(&heap_current);
    EXPECT(h->bins[class_of(4096)].n_carved <= 2 * n_many);
}

static void slabs_that_others_sent_off_are_counted_off(void **state)
{
    (void)state;
    child_succeeds(count_what_others_sent_off, NULL);
}

static size_t n_faults;

static bool count_fault(const struct fault *fault, const char *line)
{
    (void)line;
    EXPECT(strcmp(fault->name, "invalid free") == 0);
    n_faults++;
    return true;
}

static void free_what_was_never_cut(void *unused)
{
    (void)unused;
    void *p = heap_malloc(48);
    char *never = granule_begin(p) + GRANULE_BYTES - 48;
    fault_set_handler(count_fault);
    heap_free(never);
    EXPECT(n_faults == 1);
    struct heap *h = load_relaxed(&heap_current);
    EXPECT(sort_lock_try(h));
    slabs_rebuild(h);
    sort_unlock(h);
    heap_free(never);
    EXPECT(n_faults == 2);
    for (size_t i = 0; i < 2000; i++) {
        EXPECT(heap_malloc(48) != NULL);
    }
    heap_free(never); /* cut by now */
    EXPECT(n_faults == 2);
}

static void a_rebuilt_slab_knows_what_was_never_cut(void **state)
{
    (void)state;
    child_succeeds(free_what_was_never_cut, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_child_opens_the_locks_of_lost_threads),
        cmocka_unit_test(slabs_that_others_sent_off_are_counted_off),
        cmocka_unit_test(a_rebuilt_slab_knows_what_was_never_cut),
        cmocka_unit_test(nobody_waits_for_the_lock_of_an_idle_heap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
