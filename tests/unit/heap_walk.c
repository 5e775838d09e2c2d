/* SPDX-License-Identifier: MIT */
/* heap_walk.c - the walk visits every block once and says of each what is true. */
#include "unit.h"

#include <pthread.h>

enum { most_seen = 400000, most_mine = 20000 };

struct seen {
    uintptr_t base;
    size_t size_bytes;
    allot_state state;
};

static struct seen seen[most_seen];
static size_t n_seen;
static size_t n_inexact;
static size_t n_malformed;

static int note(const allot_info *info, void *context)
{
    (void)context;
    if (n_seen < most_seen) {
        seen[n_seen++] = (struct seen){(uintptr_t)info->base, info->size_bytes, info->state};
    }
    n_inexact += info->exact != 1;
    n_malformed += info->abi_size != sizeof *info || info->offset != 0 || info->base == NULL || info->size_bytes == 0 ||
                   (info->state != ALLOT_STATE_LIVE && info->state != ALLOT_STATE_FREE) ||
                   (info->room != ALLOT_ROOM_HEAP && info->room != ALLOT_ROOM_POOL);
    return 0;
}

static int by_base(const void *a, const void *b)
{
    const struct seen *x = a;
    const struct seen *y = b;
    return (x->base > y->base) - (x->base < y->base);
}

/* Sorting by hand: qsort may allocate. */
static void sift(size_t root, size_t n)
{
    for (size_t child; (child = 2 * root + 1) < n; root = child) {
        if (child + 1 < n && by_base(&seen[child], &seen[child + 1]) < 0) {
            child++;
        }
        if (by_base(&seen[root], &seen[child]) >= 0) {
            return;
        }
        struct seen kept = seen[root];
        seen[root] = seen[child];
        seen[child] = kept;
    }
}

static void sort_seen(void)
{
    for (size_t i = n_seen / 2; i-- > 0;) {
        sift(i, n_seen);
    }
    for (size_t n = n_seen; n > 1; n--) {
        struct seen kept = seen[0];
        seen[0] = seen[n - 1];
        seen[n - 1] = kept;
        sift(0, n - 1);
    }
}

static const struct seen *find_seen(const void *block)
{
    size_t low = 0;
    size_t high = n_seen;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (seen[middle].base < (uintptr_t)block) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < n_seen && seen[low].base == (uintptr_t)block ? &seen[low] : NULL;
}

static void look(void)
{
    n_seen = 0;
    n_inexact = 0;
    n_malformed = 0;
    assert_int_equal(allot_walk(note, NULL), 0);
    assert_true(n_seen < most_seen);
    assert_int_equal(n_malformed, 0);
    sort_seen();
    for (size_t i = 0; i + 1 < n_seen; i++) {
        if (seen[i].base + seen[i].size_bytes > seen[i + 1].base) {
            fail_msg("blocks %#jx and %#jx overlap or are visited twice", (uintmax_t)seen[i].base,
                     (uintmax_t)seen[i + 1].base);
        }
    }
}

static void assert_seen_live(void *block)
{
    const struct seen *found = find_seen(block);
    if (found == NULL || found->state != ALLOT_STATE_LIVE || found->size_bytes != malloc_usable_size(block)) {
        fail_msg("live block %p of %zu bytes: %s", block, malloc_usable_size(block),
                 found == NULL                      ? "not visited"
                 : found->state != ALLOT_STATE_LIVE ? "told free"
                                                    : "wrong size");
    }
}

static void assert_not_seen_live(const void *block)
{
    const struct seen *found = find_seen(block);
    assert_true(found == NULL || found->state == ALLOT_STATE_FREE);
}

static void *mine[most_mine];

static size_t size_of(size_t i)
{
    return i % 997 == 0 ? 40 * MIB / (i / 997 + 1) : i % 101 == 0 ? 1000 + i * 17 : i % 700;
}

static void fill_mine(void)
{
    for (size_t i = 0; i < most_mine; i++) {
        mine[i] = malloc(size_of(i));
        assert_non_null(mine[i]);
    }
}

static void every_live_block_is_seen_live_and_every_freed_one_is_not(void **state)
{
    (void)state;
    fill_mine();
    look();
    for (size_t i = 0; i < most_mine; i++) {
        assert_seen_live(mine[i]);
    }
    for (size_t i = 0; i < most_mine; i++) {
        if (i % 3 != 0) {
            free(mine[i]);
        }
    }
    look();
    for (size_t i = 0; i < most_mine; i++) {
        if (i % 3 == 0) {
            assert_seen_live(mine[i]);
        } else {
            assert_not_seen_live(mine[i]);
        }
    }
    for (size_t i = 0; i < most_mine; i += 3) {
        free(mine[i]);
    }
    look();
    for (size_t i = 0; i < most_mine; i++) {
        assert_not_seen_live(mine[i]);
    }
}

static void one_thread_gets_an_exact_walk(void **state)
{
    (void)state;
    look();
    assert_int_equal(n_inexact, 0);
}

static void sums_equal_the_figures(void **state)
{
    (void)state;
    fill_mine();
    for (size_t i = 0; i < most_mine; i += 2) {
        free(mine[i]);
    }
    allot_stats_report stats = ALLOT_STATS_INIT;
    assert_int_equal(allot_stats(&stats), 0);
    look();
    size_t n_live = 0;
    size_t live_bytes = 0;
    size_t n_free = 0;
    size_t free_bytes = 0;
    for (size_t i = 0; i < n_seen; i++) {
        bool live = seen[i].state == ALLOT_STATE_LIVE;
        n_live += live;
        live_bytes += live ? seen[i].size_bytes : 0;
        n_free += !live;
        free_bytes += live ? 0 : seen[i].size_bytes;
    }
    assert_int_equal(n_live, stats.n_live_blocks);
    assert_int_equal(live_bytes, stats.live_bytes);
    assert_int_equal(n_free, stats.n_free_blocks);
    assert_int_equal(free_bytes, stats.free_bytes);
    for (size_t i = 1; i < most_mine; i += 2) {
        free(mine[i]);
    }
}

static int stop_at_third(const allot_info *info, void *context)
{
    (void)info;
    int *n = context;
    return ++*n == 3 ? 42 : 0;
}

static void the_visitor_can_end_the_walk(void **state)
{
    (void)state;
    fill_mine();
    int n = 0;
    assert_int_equal(allot_walk(stop_at_third, &n), 42);
    assert_int_equal(n, 3);
    for (size_t i = 0; i < most_mine; i++) {
        free(mine[i]);
    }
}

static void *free_some(void *argument)
{
    (void)argument;
    for (size_t i = 1; i < most_mine; i += 2) {
        free(mine[i]);
    }
    return NULL;
}

static void *take_some(void *argument)
{
    (void)argument;
    fill_mine();
    return NULL;
}

static void run_thread(void *(*work)(void *))
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, work, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static void blocks_taken_and_freed_by_threads_that_ended_are_told_right(void **state)
{
    (void)state;
    run_thread(take_some);
    look();
    for (size_t i = 0; i < most_mine; i++) {
        assert_seen_live(mine[i]);
    }
    run_thread(free_some);
    look();
    for (size_t i = 0; i < most_mine; i++) {
        if (i % 2 == 0) {
            assert_seen_live(mine[i]);
        } else {
            assert_not_seen_live(mine[i]);
        }
    }
    for (size_t i = 0; i < most_mine; i += 2) {
        free(mine[i]);
    }
}

static _Atomic int busy;

static void *churn(void *argument)
{
    (void)argument;
    uint64_t seed = 5;
    void *slots[100] = {NULL};
    while (busy) {
        size_t i = random_below(&seed, COUNT(slots));
        free(slots[i]);
        slots[i] = malloc(random_below(&seed, 3000));
    }
    for (size_t i = 0; i < COUNT(slots); i++) {
        free(slots[i]);
    }
    return NULL;
}

/* While a thread is at work, what is live or free throughout is told right. */
static void a_walk_beside_a_busy_thread_tells_quiet_blocks_right(void **state)
{
    (void)state;
    fill_mine();
    for (size_t i = 1; i < most_mine; i += 2) {
        free(mine[i]);
    }
    busy = 1;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, churn, NULL), 0);
    for (int round = 0; round < 50; round++) {
        n_seen = 0;
        n_malformed = 0;
        allot_walk(note, NULL);
        assert_int_equal(n_malformed, 0);
        sort_seen();
        for (size_t i = 0; i < most_mine; i += 2) {
            assert_seen_live(mine[i]);
        }
    }
    busy = 0;
    pthread_join(thread, NULL);
    for (size_t i = 0; i < most_mine; i += 2) {
        free(mine[i]);
    }
}

static void aligned_blocks_are_visited_at_their_base(void **state)
{
    (void)state;
    void *blocks[40];
    for (size_t i = 0; i < COUNT(blocks); i++) {
        blocks[i] = memalign((size_t)16 << i % 18, 1 + i * 331);
    }
    look();
    for (size_t i = 0; i < COUNT(blocks); i++) {
        assert_seen_live(blocks[i]);
        free(blocks[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_thread_gets_an_exact_walk),
        cmocka_unit_test(every_live_block_is_seen_live_and_every_freed_one_is_not),
        cmocka_unit_test(sums_equal_the_figures),
        cmocka_unit_test(the_visitor_can_end_the_walk),
        cmocka_unit_test(aligned_blocks_are_visited_at_their_base),
        cmocka_unit_test(blocks_taken_and_freed_by_threads_that_ended_are_told_right),
        cmocka_unit_test(a_walk_beside_a_busy_thread_tells_quiet_blocks_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
