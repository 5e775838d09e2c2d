/* SPDX-License-Identifier: MIT */
/* heap_twice.c - two threads free one block at the same instant. Whatever the lists look like then, it is reported when
 * the block comes up at the latest: no list is followed in a circle, and no slab leaves with a live block in it. */
#include "child.h"

#include <pthread.h>
#include <signal.h>

#include "heap/heap_internal.h"
#include "map/map.h"

#define BYTES 8192
enum { n_rounds = 100, n_races = 2 };

/* ---- the states that two such frees leave ------------------------------------------------------------------- */

static void set_form(struct block *b, const struct block *next, uintptr_t form)
{
    store_relaxed(&b->link, (uintptr_t)next);
    store_relaxed(&b->sum, (uintptr_t)next ^ (uintptr_t)b ^ heap_secret() ^ form);
}

static void *send_one(void *p)
{
    store_relaxed(&heap_current, HEAP_CLOSED); /* so that it is sent at once */
    heap_free(p);
    return NULL;
}

static void free_elsewhere(void *p)
{
    pthread_t thread;
    EXPECT(pthread_create(&thread, NULL, send_one, p) == 0);
    pthread_join(thread, NULL);
}

static struct heap *own_heap(void)
{
    alarm(20);
    heap_free(heap_malloc(1));
    return load_relaxed(&heap_current);
}

/* Both were sent alone: the second one found the block itself as the first of the inbox. */
static struct heap *heap_with_a_block_that_leads_to_itself(struct block *b)
{
    struct heap *h = own_heap();
    set_form(b, b, FORM_SENT);
    store_relaxed(&h->inbox, b);
    return h;
}

static void collect_a_block_that_leads_to_itself(void *unused)
{
    (void)unused;
    own_heap();
    heap_with_a_block_that_leads_to_itself(heap_malloc(BYTES));
    heap_thread_flush();
}

static void sort_a_block_that_leads_to_itself(void *unused)
{
    (void)unused;
    own_heap();
    void *other = heap_malloc(BYTES);
    struct heap *h = heap_with_a_block_that_leads_to_itself(heap_malloc(BYTES));
    store_relaxed(&h->away, true);
    add_relaxed(&h->inbox_bytes, MIB);
    free_elsewhere(other);
}

/* Two chains that were sent one after the other share a block, which now leads back. */
static void sort_a_circle(void *unused)
{
    (void)unused;
    struct heap *h = own_heap();
    struct block *a = heap_malloc(BYTES);
    struct block *b = heap_malloc(BYTES);
    struct block *c = heap_malloc(BYTES);
    void *other = heap_malloc(BYTES);
    set_form(a, b, FORM_SENT);
    set_form(b, c, FORM_SENT);
    set_form(c, a, FORM_SENT);
    store_relaxed(&h->inbox, a);
    store_relaxed(&h->away, true);
    add_relaxed(&h->inbox_bytes, MIB);
    free_elsewhere(other);
}

/* All blocks but one of a slab were sorted; then one of these is sent again by the slower of its two frees. */
static void sort_a_block_for_another_one(void *unused)
{
    (void)unused;
    enum { n_blocks = GRANULE_BYTES / BYTES };
    struct heap *h = own_heap();
    struct block *blocks[2 * n_blocks];
    struct block *in_slab[n_blocks];
    void *other = heap_malloc(16);
    for (size_t i = 0; i < 2 * n_blocks; i++) {
        blocks[i] = heap_malloc(BYTES);
    }
    struct slab *slab = slab_of(blocks[n_blocks]);
    size_t n = 0;
    for (size_t i = 0; i < 2 * n_blocks; i++) {
        if (slab_of(blocks[i]) == slab) {
            in_slab[n++] = blocks[i];
        }
    }
    EXPECT(n == n_blocks);
    for (size_t i = 1; i < n; i++) {
        store_relaxed(&h->away, true);
        add_relaxed(&h->inbox_bytes, MIB);
        free_elsewhere(in_slab[i]);
    }
    EXPECT(slab->n_sorted == n - 1 && slab->sorted == in_slab[n - 1]);
    struct block *again = in_slab[n / 2];
    struct block *others = (struct block *)load_relaxed(&again->link);
    EXPECT(others != NULL);
    set_form(again, NULL, FORM_SENT);
    store_relaxed(&h->inbox, again);
    store_relaxed(&h->away, true);
    add_relaxed(&h->inbox_bytes, MIB);
    free_elsewhere(other);
    EXPECT(map_tag_heap(map_tag(in_slab[0])) == h->number); /* it is live, so the slab stays */
    heap_thread_flush();
}

/* The other thread marked it last, and has it in its outbox too. */
static void *flush_a_block_with_anothers_mark(void *p)
{
    struct block *b = p;
    heap_free(heap_malloc(1));
    heap_free(b);
    store_relaxed(&b->sum, load_relaxed(&b->sum) ^ 3);
    EXPECT(block_is_free(b));
    heap_thread_flush();
    return NULL;
}

static void flush_anothers_mark(void *unused)
{
    (void)unused;
    own_heap();
    pthread_t thread;
    EXPECT(pthread_create(&thread, NULL, flush_a_block_with_anothers_mark, heap_malloc(BYTES)) == 0);
    pthread_join(thread, NULL);
}

static void each_is_reported_as_a_double_free(void **state)
{
    (void)state;
    static void (*const cases[])(void *) = {
        collect_a_block_that_leads_to_itself,
        sort_a_block_that_leads_to_itself,
        sort_a_circle,
        sort_a_block_for_another_one,
        flush_anothers_mark,
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct child child = child_run(cases[i], NULL);
        if (!WIFSIGNALED(child.status) || WTERMSIG(child.status) != SIGABRT ||
            strstr(child.said, "allot: double free of") == NULL) {
            print_message("case %zu: status %#x, said: %s\n", i, (unsigned)child.status, child.said);
            fail();
        }
    }
}

/* ---- the race itself ---------------------------------------------------------------------------------------- */

static struct {
    _Atomic(void *) block;
    _Atomic unsigned n_ready;
    _Atomic unsigned n_faults;
    bool alone[2];
} race;

static bool count_fault(const struct fault *fault, const char *line)
{
    (void)fault;
    (void)line;
    add_relaxed(&race.n_faults, 1);
    return true;
}

static void *free_at_once(void *alone)
{
    heap_free(heap_malloc(1));
    if (alone != NULL) {
        store_relaxed(&heap_current, HEAP_CLOSED);
    }
    add_acq_rel(&race.n_ready, 1);
    while (load_acquire(&race.n_ready) < 2) {
    }
    heap_free(load_relaxed(&race.block));
    heap_thread_flush();
    return NULL;
}

static void free_at_once_many_times(void *unused)
{
    (void)unused;
    own_heap();
    fault_set_handler(count_fault);
    for (size_t round = 0; round < n_rounds; round++) {
        pthread_t threads[2];
        store_relaxed(&race.n_faults, 0);
        store_relaxed(&race.n_ready, 0);
        store_relaxed(&race.block, heap_malloc(64));
        for (size_t i = 0; i < 2; i++) {
            EXPECT(pthread_create(&threads[i], NULL, free_at_once, race.alone[i] ? &race : NULL) == 0);
        }
        pthread_join(threads[0], NULL);
        pthread_join(threads[1], NULL);
        heap_thread_flush();
        EXPECT(load_relaxed(&race.n_faults) > 0); /* one was told, and the block is free once */
    }
}

/* Found late, it ends the process: then by that name. */
static void a_race_is_always_reported(void **state)
{
    (void)state;
    for (size_t i = 0; i < 3 * n_races; i++) {
        race.alone[0] = i % 3 > 0;
        race.alone[1] = i % 3 > 1;
        struct child child = child_run(free_at_once_many_times, NULL);
        bool was_late = WIFSIGNALED(child.status) && WTERMSIG(child.status) == SIGABRT &&
                        strstr(child.said, "allot: double free of") != NULL;
        if (child.status != 0 && !was_late) {
            print_message("case %zu: status %#x, said: %s\n", i, (unsigned)child.status, child.said);
            fail();
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_is_reported_as_a_double_free),
        cmocka_unit_test(a_race_is_always_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
