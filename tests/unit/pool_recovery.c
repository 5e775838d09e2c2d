/* SPDX-License-Identifier: MIT */
/* pool_recovery.c - memory that one size used up serves every other, and goes back to the OS. */
#include "pool_test.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

static const size_t sizes[] = {16, 48, 64, 100, 256, 300, 1000, 1024, 2000, 3000, 4096, 5000, 20000, 100000, 1000000};
#define N_SIZES (sizeof sizes / sizeof sizes[0])

/* AO_malloc: what one size had was lost to the others. */
static void exhaustion_by_one_size_is_no_loss_to_another(void **state)
{
    (void)state;
    size_t least[N_SIZES];
    for (size_t i = 0; i < N_SIZES; i++) {
        void *list = NULL;
        least[i] = fill(take_public, NULL, sizes[i], &list);
        give_all(give_public, NULL, &list);
    }
    assert_true(least[0] > 120000);
    for (size_t i = 0; i < N_SIZES; i++) {
        for (size_t j = 0; j < N_SIZES; j++) {
            void *list = NULL;
            fill(take_public, NULL, sizes[i], &list);
            assert_null(allot_pool_malloc(sizes[i]));
            give_all(give_public, NULL, &list);
            size_t n = fill(take_public, NULL, sizes[j], &list);
            /* An idle superblock or two in between may cost a row its place. */
            assert_true(n + 1 + least[j] / 32 >= least[j]);
            give_all(give_public, NULL, &list);
        }
    }
    void *all = allot_pool_malloc(2 << 20);
    assert_non_null(all);
    allot_pool_free(all);
}

static void memory_that_blocks_need_is_little_more_than_their_size(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_SIZES; i++) {
        void *list = NULL;
        size_t n = fill(take_public, NULL, sizes[i], &list);
        give_all(give_public, NULL, &list);
        if (sizes[i] >= 64 && sizes[i] <= 20000) {
            assert_true(n * sizes[i] >= (size_t)((2 << 20) / 1.34));
        }
    }
}

static void a_freed_block_is_found_again_in_a_full_pool(void **state)
{
    (void)state;
    void *list = NULL;
    fill(take_public, NULL, 48, &list);
    void *block = list;
    for (int i = 0; i < 1000; i++) {
        void *next = *(void **)block;
        allot_pool_free(block);
        void *again = allot_pool_malloc(33);
        assert_ptr_equal(again, block);
        assert_null(allot_pool_malloc(33));
        *(void **)again = next;
        block = next;
    }
    give_all(give_public, NULL, &list);
}

static void *fill_and_check(void *arg)
{
    void *list = NULL;
    size_t *n = arg;
    *n = fill(take_public, NULL, 64, &list);
    give_all(give_public, NULL, &list);
    return NULL;
}

static void what_other_threads_left_is_found(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        pthread_t thread;
        size_t n = 0;
        assert_int_equal(pthread_create(&thread, NULL, fill_and_check, &n), 0);
        pthread_join(thread, NULL);
        assert_true(n >= 32000);
    }
}

static void a_child_has_a_pool_of_its_own_at_once(void **state)
{
    (void)state;
    char *block = allot_pool_malloc(100);
    strcpy(block, "parent");
    pid_t child = fork();
    if (child == 0) {
        char *mine = allot_pool_malloc(100);
        strcpy(mine, "child");
        bool good = mine != block && strcmp(block, "parent") == 0;
        allot_pool_free(block);
        allot_pool_free(mine);
        _exit(good ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_string_equal(block, "parent");
    allot_pool_free(block);
}

static void free_pages_go_back_to_the_os(void **state)
{
    (void)state;
    struct pool_figures before, after;
    void *list = NULL;
    for (size_t i = 0; i < 300000; i++) {
        void **block = pool_malloc(&pool_of_heap, 200, 16);
        assert_non_null(block);
        *block = list;
        list = block;
    }
    pool_figures(&pool_of_heap, &before);
    assert_int_equal(before.n_live_blocks, 300000);
    for (void *next; list != NULL; list = next) {
        next = *(void **)list;
        pool_free(list);
    }
    pool_figures(&pool_of_heap, &after);
    assert_int_equal(after.n_live_blocks, 0);
    assert_true(after.segment_bytes - after.purged_bytes <= 9 << 20); /* 4 MiB kept, and a segment begun */
    assert_true(pool_trim(&pool_of_heap) > 0);
    pool_figures(&pool_of_heap, &after);
    assert_true(after.purged_bytes >= after.segment_bytes - (5 << 20));
    void *again = pool_malloc(&pool_of_heap, 200, 16);
    assert_non_null(again);
    memset(again, 1, 200);
    pool_free(again);
}

static void reserve_readies_what_it_says(void **state)
{
    (void)state;
    assert_true(allot_pool_reserve(1 << 20) >= 1 << 20);
    assert_true(allot_pool_reserve((size_t)64 << 20) <= 2 << 20); /* the area is all there is */
    allot_pool_enable_mmap();
    assert_true(allot_pool_reserve((size_t)64 << 20) >= (size_t)64 << 20);
    allot_pool_report before = ALLOT_POOL_REPORT_INIT, after = ALLOT_POOL_REPORT_INIT;
    allot_pool_stats(&before);
    void *list = NULL;
    for (size_t i = 0; i < 60000; i++) {
        void **block = allot_pool_malloc(1024);
        assert_non_null(block);
        *block = list;
        list = block;
    }
    give_all(give_public, NULL, &list);
    allot_pool_stats(&after);
    assert_int_equal(after.memory_bytes, before.memory_bytes);
    assert_int_equal(after.purged_bytes, before.purged_bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exhaustion_by_one_size_is_no_loss_to_another),
        cmocka_unit_test(memory_that_blocks_need_is_little_more_than_their_size),
        cmocka_unit_test(a_freed_block_is_found_again_in_a_full_pool),
        cmocka_unit_test(what_other_threads_left_is_found),
        cmocka_unit_test(a_child_has_a_pool_of_its_own_at_once),
        cmocka_unit_test(free_pages_go_back_to_the_os),
        cmocka_unit_test(reserve_readies_what_it_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
