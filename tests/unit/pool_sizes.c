/* SPDX-License-Identifier: MIT */
/* pool_sizes.c - what blocks of any size are like, in the static area and, after enable_mmap, without a limit. */
#include "pool_test.h"

#include <errno.h>

#define GIB_OF(n) ((size_t)(n) << 30)

static void check_size(size_t size)
{
    unsigned char *a = allot_pool_malloc(size);
    unsigned char *b = allot_pool_malloc(size);
    assert_non_null(a);
    assert_non_null(b);
    size_t usable = allot_pool_usable_size(a);
    assert_true(usable >= size && usable >= 16);
    assert_true(aligned_to(a, 16) && aligned_to(b, 16));
    if (size >= 64) {
        assert_true(usable - size <= size / 4);
    }
    memset(a, 0xa5, usable);
    memset(b, 0x5a, allot_pool_usable_size(b));
    assert_int_equal(a[0], 0xa5);
    assert_int_equal(a[usable - 1], 0xa5);
    allot_pool_free(a);
    assert_int_equal(b[0], 0x5a);
    allot_pool_free(b);
}

/* AO_malloc: 32,761 to 65,528 bytes used up the whole heap and failed for good. */
static void every_size_to_200000_is_served(void **state)
{
    (void)state;
    for (size_t size = 0; size <= 200000; size += size < 9000 ? 1 : 61) {
        check_size(size);
    }
    for (size_t edge = 4096; edge <= 131072; edge *= 2) {
        for (size_t size = edge - 20; size <= edge + 20; size++) {
            check_size(size);
        }
    }
    for (size_t size = 32761; size <= 65528; size += 97) {
        check_size(size);
    }
    check_size(32761);
    check_size(65528);
    check_size(65529);
    allot_pool_report report = ALLOT_POOL_REPORT_INIT;
    assert_int_equal(allot_pool_stats(&report), 0);
    assert_int_equal(report.n_live_blocks, 0);
}

static void the_area_serves_nearly_its_size_at_once(void **state)
{
    (void)state;
    allot_pool_report report = ALLOT_POOL_REPORT_INIT;
    assert_int_equal(allot_pool_stats(&report), 0);
    void *block = allot_pool_malloc(report.memory_bytes);
    assert_non_null(block);
    assert_null(allot_pool_malloc(1));
    memset(block, 1, report.memory_bytes);
    allot_pool_free(block);
    assert_null(allot_pool_malloc(report.memory_bytes + 1));
    block = allot_pool_malloc(1);
    assert_non_null(block);
    allot_pool_free(block);
}

/* AO_malloc: every other block of 0 bytes was aligned to 8. */
static void blocks_of_no_bytes_are_aligned_and_distinct(void **state)
{
    (void)state;
    void *blocks[200];
    for (int i = 0; i < 200; i++) {
        blocks[i] = allot_pool_malloc(0);
        assert_true(aligned_to(blocks[i], 16));
        for (int j = 0; j < i; j++) {
            assert_ptr_not_equal(blocks[i], blocks[j]);
        }
    }
    for (int i = 0; i < 200; i++) {
        allot_pool_free(blocks[i]);
    }
}

static void absurd_sizes_are_refused_and_errno_is_kept(void **state)
{
    (void)state;
    static const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 15, (size_t)PTRDIFF_MAX + 1, PTRDIFF_MAX, PTRDIFF_MAX - 65536};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        errno = 77;
        volatile size_t size = sizes[i];
        assert_null(allot_pool_malloc(size));
        assert_null(allot_pool_calloc(size, 2));
        assert_null(allot_pool_aligned_alloc(64, size));
        assert_null(pool_malloc(&pool_of_heap, size, 16));
        assert_int_equal(errno, 77);
    }
}

static void alignments_hold(void **state)
{
    (void)state;
    for (size_t alignment = 1; alignment <= 65536; alignment *= 2) {
        for (size_t size = 1; size < 20000; size = size * 2 + 7) {
            void *a = allot_pool_aligned_alloc(alignment, size);
            void *b = allot_pool_aligned_alloc(alignment, size);
            assert_non_null(a);
            assert_true(aligned_to(a, alignment) && aligned_to(b, alignment));
            assert_true(allot_pool_usable_size(b) >= size);
            allot_pool_free(a);
            allot_pool_free(b);
            void *c = pool_malloc(&pool_of_heap, size, alignment * 64);
            assert_true(aligned_to(c, alignment * 64));
            pool_free(c);
        }
    }
    volatile size_t bad[] = {0, 24};
    assert_null(allot_pool_aligned_alloc(bad[0], 100));
    assert_null(allot_pool_aligned_alloc(bad[1], 100));
}

static void calloc_clears_what_was_used(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 16, 100, 1000, 5000, 70000, 300000, 1000000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        unsigned char *block = allot_pool_malloc(sizes[i]);
        assert_non_null(block);
        memset(block, 0xff, sizes[i]);
        allot_pool_free(block);
        block = allot_pool_calloc(sizes[i], 1);
        assert_non_null(block);
        for (size_t at = 0; at < sizes[i]; at++) {
            assert_int_equal(block[at], 0);
        }
        allot_pool_free(block);
    }
    volatile size_t half = SIZE_MAX / 2 + 1;
    assert_null(allot_pool_calloc(half, 2));
}

static void realloc_keeps_contents(void **state)
{
    (void)state;
    unsigned char *block = allot_pool_realloc(NULL, 1);
    assert_non_null(block);
    *block = 0;
    size_t filled = 1;
    for (size_t size = 2; size < 600000; size += size / 3 + 1) {
        block = allot_pool_realloc(block, size);
        assert_non_null(block);
        for (size_t at = 0; at < filled; at++) {
            assert_int_equal(block[at], at % 251);
        }
        for (; filled < size; filled++) {
            block[filled] = (unsigned char)(filled % 251);
        }
    }
    for (size_t size = filled; size > 1; size -= size / 3 + 1) {
        block = allot_pool_realloc(block, size);
        assert_non_null(block);
        assert_int_equal(block[size - 1], (size - 1) % 251);
        assert_true(allot_pool_usable_size(block) >= size);
    }
    assert_null(allot_pool_realloc(block, 0));
    allot_pool_report report = ALLOT_POOL_REPORT_INIT;
    assert_int_equal(allot_pool_stats(&report), 0);
    assert_int_equal(report.n_live_blocks, 0);
}

/* AO_malloc: freeing 3 GiB crashed; 4 GiB - 64 KiB leaked. */
static void with_mmap_any_size_is_served(void **state)
{
    (void)state;
    assert_int_equal(allot_pool_mmap_enabled(), 0);
    assert_null(allot_pool_malloc(3 << 20));
    allot_pool_enable_mmap();
    assert_int_equal(allot_pool_mmap_enabled(), 1);
    size_t sizes[] = {262144,        262145,    3 << 20,           GIB_OF(2), GIB_OF(3), GIB_OF(4) - 65536,
                      GIB_OF(4) - 1, GIB_OF(4), GIB_OF(4) + 65536, GIB_OF(5)};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        unsigned char *block = allot_pool_malloc(sizes[i]);
        assert_non_null(block);
        block[0] = 1;
        block[sizes[i] - 1] = 2;
        size_t usable = allot_pool_usable_size(block);
        assert_true(usable >= sizes[i] && usable - sizes[i] <= sizes[i] / 4);
        assert_int_equal(allot_pool_owns(block + sizes[i] / 2), 1);
        allot_pool_free(block);
        assert_int_equal(allot_pool_owns(block), sizes[i] == 262144);
    }
    allot_pool_report report = ALLOT_POOL_REPORT_INIT;
    assert_int_equal(allot_pool_stats(&report), 0);
    assert_int_equal(report.n_live_blocks, 0);
    assert_int_equal(report.n_mappings, 0);
    assert_int_equal(report.mapping_bytes, 0);
}

static void with_mmap_realloc_and_calloc_follow(void **state)
{
    (void)state;
    unsigned char *block = allot_pool_calloc(1, 600000);
    for (size_t size = 600000; size < 20000000; size += size / 2) {
        block[size - 1] = 9;
        block = allot_pool_realloc(block, size + size / 2);
        assert_non_null(block);
        assert_int_equal(block[size - 1], 9);
        assert_int_equal(block[size + size / 2 - 1], 0);
    }
    block = allot_pool_realloc(block, 700000);
    assert_int_equal(block[600000 - 1], 9);
    allot_pool_free(block);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_size_to_200000_is_served),
        cmocka_unit_test(the_area_serves_nearly_its_size_at_once),
        cmocka_unit_test(blocks_of_no_bytes_are_aligned_and_distinct),
        cmocka_unit_test(absurd_sizes_are_refused_and_errno_is_kept),
        cmocka_unit_test(alignments_hold),
        cmocka_unit_test(calloc_clears_what_was_used),
        cmocka_unit_test(realloc_keeps_contents),
        cmocka_unit_test(with_mmap_any_size_is_served),
        cmocka_unit_test(with_mmap_realloc_and_calloc_follow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
