/* SPDX-License-Identifier: MIT */
/* malloc_zeroed.c - calloc gives zeros, on fresh memory and on memory that was dirty before. */
#include "unit.h"

static void dirty_and_free(size_t size)
{
    void *block = malloc(size);
    assert_non_null(block);
    memset(block, 0xdb, malloc_usable_size(block));
    free(block);
}

static void check_zeroed(size_t size)
{
    void *block = calloc(1, size);
    assert_non_null(block);
    if (!all_zero(block, size)) {
        fail_msg("calloc(1, %zu) is not all zero", size);
    }
    memset(block, 0xbd, malloc_usable_size(block));
    free(block);
}

static void reused_memory_of_every_size_is_zeroed(void **state)
{
    (void)state;
    size_t sizes[MOST_SIZES];
    size_t n = sizes_possible(sizes, 33 * MIB);
    for (size_t i = 0; i < n; i++) {
        check_zeroed(sizes[i]);
        dirty_and_free(sizes[i]);
        check_zeroed(sizes[i]);
        check_zeroed(sizes[i]);
    }
}

/* Memory that was cut one way is cut another way next: what is known to be zero must be known again. */
static void memory_reused_for_other_sizes_is_zeroed(void **state)
{
    (void)state;
    enum { n = 400 };
    static void *blocks[n];
    const size_t sizes[] = {40 * MIB, 5 * MIB, MIB, 300 * KIB, 64 * KIB, 40 * KIB, 9000, 8192, 5000, 1000, 64, 16};
    for (size_t i = 0; i < COUNT(sizes) * COUNT(sizes); i++) {
        size_t dirty = sizes[i / COUNT(sizes)];
        size_t clean = sizes[i % COUNT(sizes)];
        size_t n_dirty = dirty > MIB ? 1 : dirty > 10000 ? 20 : n;
        size_t n_clean = clean > MIB ? 1 : clean > 10000 ? 20 : n;
        for (size_t k = 0; k < n_dirty; k++) {
            blocks[k] = malloc(dirty);
            memset(blocks[k], 0xdb, malloc_usable_size(blocks[k]));
        }
        for (size_t k = 0; k < n_dirty; k++) {
            free(blocks[k]);
        }
        for (size_t k = 0; k < n_clean; k++) {
            blocks[k] = calloc(clean, 1);
            assert_true(all_zero(blocks[k], clean));
        }
        for (size_t k = 0; k < n_clean; k++) {
            free(blocks[k]);
        }
    }
}

/* What realloc cut off or left behind comes back through calloc. */
static void memory_that_realloc_gave_up_is_zeroed(void **state)
{
    (void)state;
    const size_t sizes[] = {100, 5000, 70000, 600000, 5 * MIB, 40 * MIB};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        for (size_t round = 0; round < 20; round++) {
            void *block = malloc(sizes[i]);
            memset(block, 0xdb, malloc_usable_size(block));
            block = realloc(block, sizes[i] / 3);
            void *zeroed[3];
            for (size_t k = 0; k < 3; k++) {
                zeroed[k] = calloc(1, sizes[i] / 2);
                assert_true(all_zero(zeroed[k], sizes[i] / 2));
            }
            memset(block, 0xdb, malloc_usable_size(block));
            block = realloc(block, sizes[i] * 2);
            memset(block, 0xdb, malloc_usable_size(block));
            free(block);
            for (size_t k = 0; k < 3; k++) {
                free(zeroed[k]);
            }
        }
    }
}

static void zeros_after_memory_went_back_to_the_os(void **state)
{
    (void)state;
    for (size_t size = 16; size <= 16 * MIB; size *= 4) {
        dirty_and_free(size);
#ifndef ALLOT_TEST_STANDARD
        allot_trim(0);
#endif
        check_zeroed(size);
    }
}

static size_t resident_bytes(void)
{
    unsigned long pages = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    if (statm != NULL) {
        assert_int_equal(fscanf(statm, "%*s %lu", &pages), 1);
        fclose(statm);
    }
    return pages * PAGE;
}

/* Fresh memory is known to be zero: a large calloc touches next to none of it. */
static void large_fresh_calloc_does_not_touch_its_pages(void **state)
{
    (void)state;
    size_t before = resident_bytes();
    void *block = calloc(1, 2 * GIB);
    assert_non_null(block);
    assert_true(!RESIDENT_SET_IS_TELLING || resident_bytes() < before + 16 * MIB);
    free(block);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reused_memory_of_every_size_is_zeroed),
        cmocka_unit_test(memory_reused_for_other_sizes_is_zeroed),
        cmocka_unit_test(memory_that_realloc_gave_up_is_zeroed),
        cmocka_unit_test(zeros_after_memory_went_back_to_the_os),
        cmocka_unit_test(large_fresh_calloc_does_not_touch_its_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
