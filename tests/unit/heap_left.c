/* SPDX-License-Identifier: MIT */
/* heap_left.c - a thread leaves a call for good, by siglongjmp out of a handler, while it collects what others have
 * freed. When it ends everything comes back. Each case builds what such a call has left at one of its instructions. */
#include "child.h"

#include <pthread.h>

#include "heap/heap_internal.h"

enum { n_blocks = 96 };
static void *blocks[n_blocks];

struct left {
    size_t bytes;
    size_t kept_every;             /* of the blocks, every so manieth is the thread's still when it leaves; 0: none */
    bool away;                     /* others sort what they free */
    void (*leave)(struct heap *h); /* inside a slow path, with nothing locked */
};

static void *free_others(void *every)
{
    for (size_t i = 0; i < n_blocks; i++) {
        if ((uintptr_t)every == 0 || i % (uintptr_t)every != 0) {
            heap_free(blocks[i]);
            blocks[i] = NULL;
        }
    }
    return NULL;
}

static void by_a_thread(void *(*run)(void *), const void *argument)
{
    pthread_t thread;
    EXPECT(pthread_create(&thread, NULL, run, (void *)(uintptr_t)argument) == 0);
    pthread_join(thread, NULL);
}

static struct heap *left_heap;

static void *take_and_leave(void *argument)
{
    const struct left *left = argument;
    heap_start(); /* so that the thread's end is seen */
    for (size_t i = 0; i < n_blocks; i++) {
        blocks[i] = heap_malloc(left->bytes);
        EXPECT(blocks[i] != NULL);
    }
    left_heap = load_relaxed(&heap_current);
    store_relaxed(&left_heap->away, left->away);
    by_a_thread(free_others, (void *)(uintptr_t)left->kept_every);
    struct heap *h = heap_enter();
    EXPECT(h == left_heap);
    left->leave(h);
    return NULL;
}

static size_t bytes_to_count;

static int count_block(const struct heap_answer *answer, void *n)
{
    *(size_t *)n += !answer->pool && answer->bytes == bytes_to_count;
    return 0;
}

static void leave_and_look(void *argument)
{
    const struct left *left = argument;
    alarm(20);
    heap_free(heap_malloc(1)); /* so that this thread doesn't take the other one's heap over */
    by_a_thread(take_and_leave, left);
    EXPECT(load_relaxed(&left_heap->state) == HEAP_IDLE && load_relaxed(&left_heap->sort_lock) == 0);
    free_others(NULL);
    heap_thread_flush();
    size_t n = 0;
    bytes_to_count = heap_good_size(left->bytes);
    heap_walk(count_block, &n);
    EXPECT(n == 0); /* every slab is whole, so all have left */
}

static void everything_comes_back(const struct left *left)
{
    child_succeeds(leave_and_look, (void *)(uintptr_t)left);
}

/* ---- small blocks ------------------------------------------------------------------------------------------- */

static void with_the_inbox_in_sight(struct heap *h)
{
    h->collecting = load_relaxed(&h->inbox);
    EXPECT(h->collecting != NULL);
}

static void with_the_inbox_in_hand(struct heap *h)
{
    with_the_inbox_in_sight(h);
    store_relaxed(&h->inbox, NULL);
}

static struct slab *sorted_slab(struct heap *h, size_t bytes)
{
    struct slab *slab = h->sorted[class_of(bytes)];
    EXPECT(slab != NULL && slab->sorted != NULL && sort_lock_try(h));
    return slab;
}

static void with_a_sorted_list_in_sight(struct heap *h)
{
    h->collecting = sorted_slab(h, 4096)->sorted;
}

static void with_a_sorted_list_in_hand(struct heap *h)
{
    struct slab *slab = sorted_slab(h, 4096);
    h->collecting = slab->sorted;
    slab->sorted = NULL;
    slab->n_sorted = 0;
}

/* Seen in the inbox, and sorted by others before it could be taken. */
static void with_what_others_sorted_in_sight(struct heap *h)
{
    h->collecting = sorted_slab(h, 4096)->sorted;
    sort_unlock(h);
}

static void small_blocks_in_hand_come_back(void **state)
{
    (void)state;
    static const struct left cases[] = {
        {4096, 0, false, with_the_inbox_in_sight},         {4096, 0, false, with_the_inbox_in_hand},
        {4096, 7, false, with_the_inbox_in_sight},         {4096, 7, false, with_the_inbox_in_hand},
        {4096, 7, true, with_a_sorted_list_in_sight},      {4096, 7, true, with_a_sorted_list_in_hand},
        {4096, 7, true, with_what_others_sorted_in_sight},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        everything_comes_back(&cases[i]);
    }
}

/* ---- medium blocks ------------------------------------------------------------------------------------------ */

static void medium_in_sight(struct heap *h)
{
    EXPECT(sort_lock_try(h));
    h->medium_chain_next = CHAIN_NOT_TAKEN;
    h->medium_chain = load_relaxed(&h->medium_inbox);
    EXPECT(h->medium_chain != NULL && h->medium_chain->remote_next != NULL);
}

static void medium_taken(struct heap *h)
{
    medium_in_sight(h);
    store_relaxed(&h->medium_inbox, NULL);
}

static void medium_at_hand(struct heap *h)
{
    medium_taken(h);
    h->medium_chain_next = h->medium_chain;
}

static void medium_begun(struct heap *h)
{
    medium_at_hand(h);
    h->medium_chain_free = load_relaxed(&h->medium_chain->free);
    h->medium_chain_next = h->medium_chain->remote_next;
}

static void medium_put(struct heap *h)
{
    medium_begun(h);
    struct medium *m = h->medium_chain;
    store_relaxed(&m->free, load_relaxed(&m->free) | load_relaxed(&m->remote));
}

static void medium_done(struct heap *h)
{
    medium_put(h);
    store_relaxed(&h->medium_chain->remote, 0);
}

/* And while the thread stands there, others send the slab again, and will once more. */
static void medium_sent_again(struct heap *h)
{
    medium_done(h);
    by_a_thread(free_others, (void *)(uintptr_t)10);
    EXPECT(load_relaxed(&h->medium_inbox) != NULL);
}

static void medium_blocks_in_hand_come_back(void **state)
{
    (void)state;
    static const struct left cases[] = {
        {100000, 0, false, medium_in_sight}, {100000, 0, false, medium_taken},      {100000, 0, false, medium_at_hand},
        {100000, 0, false, medium_begun},    {100000, 0, false, medium_put},        {100000, 0, false, medium_done},
        {100000, 5, false, medium_begun},    {100000, 5, false, medium_put},        {100000, 5, false, medium_done},
        {100000, 5, false, medium_in_sight}, {100000, 5, false, medium_sent_again},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        everything_comes_back(&cases[i]);
    }
}

/* ---- who sorted for others ---------------------------------------------------------------------------------- */

static void *leave_while_sorting(void *argument)
{
    struct heap *owner = argument;
    heap_free(heap_malloc(1));
    EXPECT(heap_enter() != NULL && sort_lock_try(owner));
    owner->sorting = load_relaxed(&owner->inbox);
    EXPECT(owner->sorting != NULL);
    store_relaxed(&owner->inbox, NULL);
    return NULL;
}

static void leave_anothers_lock(void *unused)
{
    (void)unused;
    alarm(20);
    heap_start();
    for (size_t i = 0; i < n_blocks; i++) {
        blocks[i] = heap_malloc(4096);
    }
    struct heap *h = load_relaxed(&heap_current);
    by_a_thread(free_others, NULL);
    by_a_thread(leave_while_sorting, h);
    EXPECT(load_relaxed(&h->sort_lock) == 0);
    heap_thread_flush();
    size_t n = 0;
    bytes_to_count = 4096;
    heap_walk(count_block, &n);
    EXPECT(n == 0);
}

static void a_sorter_that_left_gives_up_the_lock_and_what_it_held(void **state)
{
    (void)state;
    child_succeeds(leave_anothers_lock, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_blocks_in_hand_come_back),
        cmocka_unit_test(medium_blocks_in_hand_come_back),
        cmocka_unit_test(a_sorter_that_left_gives_up_the_lock_and_what_it_held),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
