/* SPDX-License-Identifier: MIT */
/* heap_sizes.c - the table of size classes, what a request gets, freeing by size, growing in place. */
#include "unit.h"

static size_t classes[MOST_SIZES];
static size_t n_classes;

static int read_classes(void **state)
{
    (void)state;
    n_classes = allot_size_classes(classes, COUNT(classes));
    return n_classes == 0 || n_classes > COUNT(classes);
}

static void the_table_ascends_and_wastes_little(void **state)
{
    (void)state;
    assert_int_equal(allot_size_classes(NULL, 0), n_classes);
    assert_int_equal(classes[0], 16);
    for (size_t i = 0; i < n_classes; i++) {
        assert_int_equal(classes[i] % 16, 0);
        if (i > 0) {
            assert_true(classes[i] > classes[i - 1]);
            /* the least request of a class wastes at most an eighth, or what 16-byte alignment costs */
            size_t waste = classes[i] - (classes[i - 1] + 1);
            assert_true(waste <= 15 || waste * 8 <= classes[i]);
        }
    }
}

static void a_part_of_the_table_can_be_asked(void **state)
{
    (void)state;
    size_t some[4] = {0, 0, 0, 0xdead};
    assert_int_equal(allot_size_classes(some, 3), n_classes);
    assert_int_equal(some[0], classes[0]);
    assert_int_equal(some[2], classes[2]);
    assert_int_equal(some[3], 0xdead);
}

static void usable_size_is_good_size(void **state)
{
    (void)state;
    size_t sizes[MOST_SIZES];
    size_t n = sizes_possible(sizes, 200 * MIB);
    for (size_t i = 0; i < n; i++) {
        void *block = malloc(sizes[i]);
        size_t usable = malloc_usable_size(block);
        if (usable != allot_good_size(sizes[i])) {
            fail_msg("%zu bytes: usable %zu, good size %zu", sizes[i], usable, allot_good_size(sizes[i]));
        }
        free(block);
    }
}

static void good_size_grows_with_the_request_and_is_its_own_good_size(void **state)
{
    (void)state;
    size_t sizes[MOST_SIZES];
    size_t n = sizes_possible(sizes, 5 * GIB);
    for (size_t i = 0; i < n; i++) {
        size_t good = allot_good_size(sizes[i]);
        assert_true(good >= sizes[i] && good >= 16);
        assert_int_equal(allot_good_size(good), good);
        assert_true(allot_good_size(sizes[i] + 1) >= good);
        if (sizes[i] > classes[n_classes - 1]) {
            assert_int_equal(good % PAGE, 0);
        }
    }
    for (size_t i = 0; i < n_classes; i++) {
        assert_int_equal(allot_good_size(classes[i]), classes[i]);
    }
}

static void good_size_of_the_impossible_is_itself(void **state)
{
    (void)state;
    assert_int_equal(allot_good_size((size_t)PTRDIFF_MAX + 1), (size_t)PTRDIFF_MAX + 1);
    assert_int_equal(allot_good_size(PTRDIFF_MAX), PTRDIFF_MAX);
    assert_int_equal(allot_good_size(((size_t)1 << 47) + 1), ((size_t)1 << 47) + 1);
    assert_int_equal(allot_good_size(SIZE_MAX), SIZE_MAX);
    assert_int_equal(allot_good_size(SIZE_MAX - 4095), SIZE_MAX - 4095);
}

static void free_sized_takes_every_size_that_the_block_may_have_been_asked_for(void **state)
{
    (void)state;
    size_t sizes[MOST_SIZES];
    size_t n = sizes_possible(sizes, 64 * MIB);
    for (size_t i = 0; i < n; i++) {
        errno = 55;
        free_sized(malloc(sizes[i]), sizes[i]);
        free_sized(calloc(1, sizes[i]), sizes[i]);
        free_sized(realloc(malloc(1), sizes[i] + 1), sizes[i] + 1);
        assert_int_equal(errno, 55);
    }
    free_sized(NULL, 0);
    free_sized(NULL, 1000);
}

static void free_aligned_sized_takes_what_aligned_alloc_was_asked(void **state)
{
    (void)state;
    size_t sizes[MOST_SIZES];
    size_t n = sizes_possible(sizes, 4 * MIB);
    for (size_t alignment = 16; alignment <= 2 * MIB; alignment *= 4) {
        for (size_t i = 0; i < n; i += 3) {
            free_aligned_sized(aligned_alloc(alignment, sizes[i]), alignment, sizes[i]);
        }
    }
    free_aligned_sized(NULL, 64, 100);
}

static void expanding_within_the_block_always_works(void **state)
{
    (void)state;
    size_t sizes[MOST_SIZES];
    size_t n = sizes_possible(sizes, 64 * MIB);
    for (size_t i = 0; i < n; i++) {
        void *block = malloc(sizes[i]);
        size_t usable = malloc_usable_size(block);
        assert_int_equal(allot_try_expand(block, sizes[i]), 1);
        assert_int_equal(allot_try_expand(block, usable), 1);
        assert_int_equal(allot_try_expand(block, 0), 1);
        assert_int_equal(malloc_usable_size(block), usable);
        free(block);
    }
}

static void expanding_says_the_truth(void **state)
{
    (void)state;
    const size_t sizes[] = {16, 100, 8192, 20000, 70000, 300000, 2 * MIB, 5 * MIB, 40 * MIB};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        unsigned char *block = malloc(sizes[i]);
        unsigned char *neighbour = malloc(sizes[i]);
        pattern_fill(block, sizes[i], 1);
        pattern_fill(neighbour, sizes[i], 2);
        size_t before = malloc_usable_size(block);
        for (size_t factor = 2; factor <= 8; factor *= 2) {
            size_t wanted = sizes[i] * factor;
            int done = allot_try_expand(block, wanted);
            assert_true(done == 0 || done == 1);
            size_t usable = malloc_usable_size(block);
            assert_true(done ? usable >= wanted : usable == before);
            before = usable;
            assert_true(pattern_holds(block, sizes[i], 1));
            memset(block + sizes[i], 0x99, usable - sizes[i]);
            assert_true(pattern_holds(neighbour, sizes[i], 2));
        }
        free(block);
        free(neighbour);
    }
}

static void expanding_to_the_impossible_fails(void **state)
{
    (void)state;
    const size_t sizes[] = {16, 8192, 20000, 300000, 40 * MIB};
    const size_t impossible[] = SIZES_IMPOSSIBLE;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        void *block = malloc(sizes[i]);
        size_t usable = malloc_usable_size(block);
        for (size_t j = 0; j < COUNT(impossible); j++) {
            assert_int_equal(allot_try_expand(block, opaque(impossible[j])), 0);
        }
        assert_int_equal(malloc_usable_size(block), usable);
        free(block);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_ascends_and_wastes_little),
        cmocka_unit_test(a_part_of_the_table_can_be_asked),
        cmocka_unit_test(usable_size_is_good_size),
        cmocka_unit_test(good_size_grows_with_the_request_and_is_its_own_good_size),
        cmocka_unit_test(good_size_of_the_impossible_is_itself),
        cmocka_unit_test(free_sized_takes_every_size_that_the_block_may_have_been_asked_for),
        cmocka_unit_test(free_aligned_sized_takes_what_aligned_alloc_was_asked),
        cmocka_unit_test(expanding_within_the_block_always_works),
        cmocka_unit_test(expanding_says_the_truth),
        cmocka_unit_test(expanding_to_the_impossible_fails),
    };
    return cmocka_run_group_tests(tests, read_classes, NULL);
}
