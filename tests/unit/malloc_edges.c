/* SPDX-License-Identifier: MIT */
/* malloc_edges.c - the corners of the standards: size 0, NULL, overflow, bad alignments, errno. */
#include "unit.h"

static void blocks_of_no_bytes_are_blocks_of_their_own(void **state)
{
    (void)state;
    enum { n = 1000 };
    static void *blocks[n];
    for (size_t i = 0; i < n; i++) {
        blocks[i] = i % 4 == 0 ? malloc(0) : i % 4 == 1 ? calloc(0, 8) : i % 4 == 2 ? realloc(NULL, 0) : calloc(8, 0);
        assert_non_null(blocks[i]);
        memset(blocks[i], (int)i, malloc_usable_size(blocks[i]));
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t j = i + 1; j < n; j++) {
            assert_ptr_not_equal(blocks[i], blocks[j]);
        }
    }
    for (size_t i = 0; i < n; i++) {
        free(blocks[i]);
    }
}

static void null_is_freed_and_asked_without_harm(void **state)
{
    (void)state;
    errno = 33;
    free(NULL);
    assert_int_equal(malloc_usable_size(NULL), 0);
    assert_int_equal(errno, 33);
}

static void realloc_of_null_is_malloc(void **state)
{
    (void)state;
    check_block_and_free(realloc(NULL, 100), 100, 16);
    check_block_and_free(reallocarray(NULL, 10, 10), 100, 16);
}

static void realloc_to_zero_frees(void **state)
{
    (void)state;
    const size_t sizes[] = {1, 100, 5000, 100000, 50 * MIB};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        for (int round = 0; round < 2000; round++) {
            void *block = malloc(sizes[i]);
            assert_non_null(block);
            memset(block, 1, sizes[i] < 64 ? sizes[i] : 64);
            assert_null(realloc(block, opaque(0)));
        }
    }
}

static void failed_realloc_leaves_the_block(void **state)
{
    (void)state;
    const size_t sizes[] = {1, 24, 100, 5000, 100000, 3 * MIB, 40 * MIB};
    const size_t impossible[] = SIZES_IMPOSSIBLE;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        void *block = malloc(sizes[i]);
        pattern_fill(block, sizes[i], 5);
        size_t usable = malloc_usable_size(block);
        for (size_t j = 0; j < COUNT(impossible); j++) {
            errno = 0;
            assert_null(realloc(block, opaque(impossible[j])));
            assert_int_equal(errno, ENOMEM);
        }
        errno = 0;
        assert_null(reallocarray(block, opaque(SIZE_MAX / 2), opaque(3)));
        assert_int_equal(errno, ENOMEM);
        assert_int_equal(malloc_usable_size(block), usable);
        assert_true(pattern_holds(block, sizes[i], 5));
        free(block);
    }
}

static void products_that_overflow_are_refused(void **state)
{
    (void)state;
    const struct {
        size_t n, item;
    } pairs[] = {
        {SIZE_MAX, 2},
        {2, SIZE_MAX},
        {SIZE_MAX, SIZE_MAX},
        {SIZE_MAX / 2 + 1, 2},
        {(size_t)1 << 32, (size_t)1 << 32},
        {((size_t)1 << 32) + 1, (size_t)1 << 32},
        {SIZE_MAX / 16 + 1, 16},
        {SIZE_MAX / 16 + 2, 16},
        {SIZE_MAX / 3 + 1, 3},
        {(size_t)PTRDIFF_MAX, 2},
        {(size_t)1 << 63, 1},
        {1, (size_t)1 << 63},
    };
    for (size_t i = 0; i < COUNT(pairs); i++) {
        errno = 0;
        assert_null(calloc(opaque(pairs[i].n), opaque(pairs[i].item)));
        assert_int_equal(errno, ENOMEM);
        errno = 0;
        assert_null(reallocarray(NULL, opaque(pairs[i].n), opaque(pairs[i].item)));
        assert_int_equal(errno, ENOMEM);
    }
    void *empty = calloc(opaque(0), opaque(SIZE_MAX));
    assert_non_null(empty);
    free(empty);
}

static void posix_memalign_refuses_bad_alignments_and_leaves_the_pointer(void **state)
{
    (void)state;
    const size_t bad[] = {0,  1,   2,    4,    3,     7,        12,           24,
                          48, 100, 4095, 4097, 65535, SIZE_MAX, SIZE_MAX - 7, ((size_t)1 << 63) + 8};
    for (size_t i = 0; i < COUNT(bad); i++) {
        void *out = &out;
        errno = 44;
        assert_int_equal(posix_memalign(&out, opaque(bad[i]), 100), EINVAL);
        assert_ptr_equal(out, &out);
        assert_int_equal(errno, 44);
    }
    void *out = &out;
    assert_int_equal(posix_memalign(&out, 8, 0), 0);
    assert_non_null(out);
    assert_ptr_not_equal(out, &out);
    free(out);
}

/* More than a power of two times the address space is no alignment that memory can have. */
static void alignments_beyond_memory_fail(void **state)
{
    (void)state;
    const size_t wide[] = {(size_t)1 << 48, (size_t)1 << 55, (size_t)1 << 62, (size_t)1 << 63};
    for (size_t i = 0; i < COUNT(wide); i++) {
        void *out = &out;
        assert_int_equal(posix_memalign(&out, opaque(wide[i]), opaque(1)), ENOMEM);
        assert_ptr_equal(out, &out);
        errno = 0;
        assert_null(aligned_alloc(opaque(wide[i]), opaque(1)));
        assert_true(errno == ENOMEM || errno == EINVAL);
        errno = 0;
        assert_null(memalign(opaque(wide[i]), opaque(SIZE_MAX - 100)));
        assert_true(errno == ENOMEM || errno == EINVAL);
    }
}

static void memalign_rounds_other_alignments_up(void **state)
{
    (void)state;
    const struct {
        size_t asked, given;
    } pairs[] = {{0, 16}, {1, 16}, {3, 16}, {17, 32}, {24, 32}, {33, 64}, {100, 128}, {4097, 8192}, {65537, 131072}};
    for (size_t i = 0; i < COUNT(pairs); i++) {
        check_block_and_free(memalign(opaque(pairs[i].asked), 100), 100, pairs[i].given);
    }
    errno = 0;
    assert_null(memalign(opaque(SIZE_MAX), 1));
    assert_int_equal(errno, EINVAL);
    errno = 0;
    assert_null(memalign(opaque(SIZE_MAX / 2 + 2), 1));
    assert_int_equal(errno, EINVAL);
}

#ifndef ALLOT_TEST_STANDARD
static void aligned_alloc_refuses_what_is_no_power_of_two(void **state)
{
    (void)state;
    const size_t bad[] = {0, 3, 5, 12, 24, 100, 4097, SIZE_MAX, ((size_t)1 << 63) + 1};
    for (size_t i = 0; i < COUNT(bad); i++) {
        errno = 0;
        assert_null(aligned_alloc(opaque(bad[i]), 100));
        assert_int_equal(errno, EINVAL);
    }
}
#endif

static void aligned_alloc_takes_any_size(void **state)
{
    (void)state;
    check_block_and_free(aligned_alloc(64, 1000), 1000, 64);
    check_block_and_free(aligned_alloc(1, 1), 1, 16);
    check_block_and_free(aligned_alloc(2, 0), 0, 16);
    check_block_and_free(aligned_alloc(4096, 1), 1, 4096);
}

static void pvalloc_gives_whole_pages(void **state)
{
    (void)state;
    const size_t sizes[] = {1, 100, 4095, 4096, 4097, 100000};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        void *block = pvalloc(sizes[i]);
        assert_true(malloc_usable_size(block) >= (sizes[i] + PAGE - 1) / PAGE * PAGE);
        check_block_and_free(block, sizes[i], PAGE);
    }
}

static void free_keeps_errno(void **state)
{
    (void)state;
    size_t sizes[MOST_SIZES];
    size_t n = sizes_possible(sizes, 200 * MIB);
    for (size_t i = 0; i < n; i++) {
        void *block = malloc(sizes[i]);
        errno = 1234;
        free(block);
        assert_int_equal(errno, 1234);
        block = memalign(64 * KIB, sizes[i]);
        errno = 4321;
        free(block);
        assert_int_equal(errno, 4321);
    }
}

/* POSIX lets a successful malloc change errno; programs that test errno after other calls are happier if it doesn't. */
static void success_keeps_errno(void **state)
{
    (void)state;
    size_t sizes[MOST_SIZES];
    size_t n = sizes_possible(sizes, 200 * MIB);
    for (size_t i = 0; i < n; i++) {
        errno = 99;
        void *block = malloc(sizes[i]);
        assert_int_equal(errno, 99);
        block = realloc(block, sizes[i] + sizes[i] / 2 + 1);
        assert_int_equal(errno, 99);
        free(block);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_of_no_bytes_are_blocks_of_their_own),
        cmocka_unit_test(null_is_freed_and_asked_without_harm),
        cmocka_unit_test(realloc_of_null_is_malloc),
        cmocka_unit_test(realloc_to_zero_frees),
        cmocka_unit_test(failed_realloc_leaves_the_block),
        cmocka_unit_test(products_that_overflow_are_refused),
        cmocka_unit_test(posix_memalign_refuses_bad_alignments_and_leaves_the_pointer),
        cmocka_unit_test(alignments_beyond_memory_fail),
        cmocka_unit_test(memalign_rounds_other_alignments_up),
#ifndef ALLOT_TEST_STANDARD
        cmocka_unit_test(aligned_alloc_refuses_what_is_no_power_of_two),
#endif
        cmocka_unit_test(aligned_alloc_takes_any_size),
        cmocka_unit_test(pvalloc_gives_whole_pages),
        cmocka_unit_test(free_keeps_errno),
        cmocka_unit_test(success_keeps_errno),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
