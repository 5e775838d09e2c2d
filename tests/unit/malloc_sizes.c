/* SPDX-License-Identifier: MIT */
/* malloc_sizes.c - every function of the family at every size where something changes, and at those nobody can have. */
#include "unit.h"

struct way {
    const char *name;
    void *(*take)(size_t size);
    size_t alignment;
};

static void *by_malloc(size_t size)
{
    return malloc(size);
}

static void *by_calloc(size_t size)
{
    return calloc(1, size);
}

static void *by_calloc_of_bytes(size_t size)
{
    return calloc(size, 1);
}

static void *by_realloc(size_t size)
{
    return realloc(NULL, size);
}

static void *by_reallocarray(size_t size)
{
    return reallocarray(NULL, size, 1);
}

static void *by_aligned_alloc(size_t size)
{
    return aligned_alloc(64, size);
}

static void *by_memalign(size_t size)
{
    return memalign(4096, size);
}

static void *by_memalign_wide(size_t size)
{
    return memalign(256 * KIB, size);
}

static void *by_posix_memalign(size_t size)
{
    void *const untouched = (void *)(uintptr_t)0x5ca1ab1e;
    void *block = untouched;
    errno = 77;
    int error = posix_memalign(&block, 32, size);
#ifndef ALLOT_TEST_STANDARD
    assert_int_equal(errno, 77);
#endif
    if (error != 0) {
        assert_int_equal(error, ENOMEM);
        assert_ptr_equal(block, untouched);
        errno = error;
        return NULL;
    }
    return block;
}

static void *by_valloc(size_t size)
{
    return valloc(size);
}

static void *by_pvalloc(size_t size)
{
    return pvalloc(size);
}

static const struct way ways[] = {
    {"malloc", by_malloc, 16},
    {"calloc", by_calloc, 16},
    {"calloc of bytes", by_calloc_of_bytes, 16},
    {"realloc", by_realloc, 16},
    {"reallocarray", by_reallocarray, 16},
    {"aligned_alloc", by_aligned_alloc, 64},
    {"memalign", by_memalign, 4096},
    {"memalign to 256 KiB", by_memalign_wide, 256 * KIB},
    {"posix_memalign", by_posix_memalign, 32},
    {"valloc", by_valloc, 4096},
    {"pvalloc", by_pvalloc, 4096},
};

static void every_possible_size_is_served(void **state)
{
    (void)state;
    size_t sizes[MOST_SIZES];
    size_t n = sizes_possible(sizes, 5 * GIB);
    for (size_t w = 0; w < COUNT(ways); w++) {
        for (size_t i = 0; i < n; i++) {
            void *block = ways[w].take(opaque(sizes[i]));
            if (block == NULL) {
                fail_msg("%s(%zu) gave NULL, errno %d", ways[w].name, sizes[i], errno);
            }
            check_block_and_free(block, sizes[i], ways[w].alignment);
        }
    }
}

static void every_impossible_size_is_refused_with_enomem(void **state)
{
    (void)state;
    const size_t sizes[] = SIZES_IMPOSSIBLE;
    for (size_t w = 0; w < COUNT(ways); w++) {
        for (size_t i = 0; i < COUNT(sizes); i++) {
            errno = 0;
            void *block = ways[w].take(opaque(sizes[i]));
            if (block != NULL || errno != ENOMEM) {
                fail_msg("%s(%zu) gave %p, errno %d", ways[w].name, sizes[i], block, errno);
            }
        }
    }
}

static void a_refused_size_leaves_the_heap_working(void **state)
{
    (void)state;
    void *before = malloc(100);
    pattern_fill(before, 100, 1);
    for (int i = 0; i < 1000; i++) {
        assert_null(malloc(opaque(SIZE_MAX - (size_t)i)));
        void *block = malloc(100);
        assert_non_null(block);
        free(block);
    }
    assert_true(pattern_holds(before, 100, 1));
    free(before);
}

/* All at once: no two may share a byte. */
static void live_blocks_of_all_sizes_do_not_overlap(void **state)
{
    (void)state;
    size_t sizes[MOST_SIZES];
    static void *blocks[MOST_SIZES];
    size_t n = sizes_possible(sizes, 2 * MIB + 1);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < n; i++) {
            blocks[i] = malloc(sizes[i]);
            assert_non_null(blocks[i]);
            pattern_fill(blocks[i], malloc_usable_size(blocks[i]), (unsigned)i);
        }
        for (size_t i = 0; i < n; i++) {
            size_t usable = malloc_usable_size(blocks[i]);
            size_t wrong = pattern_first_wrong(blocks[i], usable, (unsigned)i);
            if (wrong != usable) {
                fail_msg("block %zu of %zu bytes lost its contents at %zu", i, sizes[i], wrong);
            }
        }
        for (size_t i = 0; i < n; i++) {
            free(blocks[round ? i : n - 1 - i]);
        }
    }
}

static int compare_pointers(const void *a, const void *b)
{
    uintptr_t x = *(const uintptr_t *)a;
    uintptr_t y = *(const uintptr_t *)b;
    return (x > y) - (x < y);
}

/* Every small size, thousands of live blocks: usable sizes are kept apart, whatever slab they stand in. */
static void thousands_of_each_small_size_are_apart(void **state)
{
    (void)state;
    enum { n_blocks = 3000 };
    static uintptr_t blocks[n_blocks];
    for (size_t size = 0; size <= 1024; size += size < 64 ? 1 : 48) {
        for (size_t i = 0; i < n_blocks; i++) {
            blocks[i] = (uintptr_t)malloc(size);
            assert_int_not_equal(blocks[i], 0);
        }
        qsort(blocks, n_blocks, sizeof blocks[0], compare_pointers);
        for (size_t i = 0; i + 1 < n_blocks; i++) {
            assert_true(blocks[i + 1] - blocks[i] >= malloc_usable_size((void *)blocks[i]));
        }
        for (size_t i = 0; i < n_blocks; i++) {
            assert_int_equal(blocks[i] & 15, 0);
            free((void *)blocks[(i * 7919) % n_blocks]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_possible_size_is_served),
        cmocka_unit_test(every_impossible_size_is_refused_with_enomem),
        cmocka_unit_test(a_refused_size_leaves_the_heap_working),
        cmocka_unit_test(live_blocks_of_all_sizes_do_not_overlap),
        cmocka_unit_test(thousands_of_each_small_size_are_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
