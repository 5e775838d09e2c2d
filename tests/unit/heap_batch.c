/* SPDX-License-Identifier: MIT */
/* heap_batch.c - many blocks a call. */
#include "unit.h"

#include <pthread.h>

enum { most = 5000 };
static void *blocks[most + 1];

static void check_batch(size_t size, size_t n)
{
    blocks[n] = blocks;
    assert_int_equal(allot_malloc_batch(size, blocks, n), n);
    assert_ptr_equal(blocks[n], blocks);
    for (size_t i = 0; i < n; i++) {
        assert_non_null(blocks[i]);
        assert_true(is_aligned(blocks[i], 16));
        assert_true(malloc_usable_size(blocks[i]) >= size);
        pattern_fill(blocks[i], size, (unsigned)i);
    }
    for (size_t i = 0; i < n; i++) {
        assert_true(pattern_holds(blocks[i], size, (unsigned)i));
    }
    allot_free_batch(blocks, n);
}

static void batches_of_every_size_hold_separate_blocks(void **state)
{
    (void)state;
    size_t sizes[MOST_SIZES];
    size_t n = sizes_possible(sizes, 70 * KIB);
    for (size_t i = 0; i < n; i++) {
        check_batch(sizes[i], i % 3 == 0 ? 1 : i % 3 == 1 ? 37 : 300);
    }
    check_batch(48, most);
    check_batch(2 * MIB, 10);
    check_batch(40 * MIB, 2);
    assert_int_equal(allot_malloc_batch(100, blocks, 0), 0);
    allot_free_batch(blocks, 0);
}

static void a_batch_of_the_impossible_gives_none(void **state)
{
    (void)state;
    blocks[0] = blocks;
    errno = 0;
    assert_int_equal(allot_malloc_batch(opaque(SIZE_MAX), blocks, 10), 0);
    assert_int_equal(errno, ENOMEM);
    assert_ptr_equal(blocks[0], blocks);
}

static void a_batch_may_mix_sizes_and_nulls(void **state)
{
    (void)state;
    for (size_t i = 0; i < 1000; i++) {
        blocks[i] = i % 5 == 0 ? NULL : malloc(i * 37);
    }
    errno = 11;
    allot_free_batch(blocks, 1000);
    assert_int_equal(errno, 11);
}

static void *free_them(void *argument)
{
    (void)argument;
    allot_free_batch(blocks, most);
    return NULL;
}

static void another_thread_frees_a_batch(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        assert_int_equal(allot_malloc_batch(64, blocks, most), most);
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, free_them, NULL), 0);
        pthread_join(thread, NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_of_every_size_hold_separate_blocks),
        cmocka_unit_test(a_batch_of_the_impossible_gives_none),
        cmocka_unit_test(a_batch_may_mix_sizes_and_nulls),
        cmocka_unit_test(another_thread_frees_a_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
