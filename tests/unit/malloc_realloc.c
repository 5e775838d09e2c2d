/* SPDX-License-Identifier: MIT */
/* malloc_realloc.c - contents live through every change of size, and what was aligned may be resized too. */
#include "unit.h"

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static void *resize_and_check(void *block, size_t from, size_t to, unsigned seed)
{
    void *moved = realloc(block, to);
    assert_non_null(moved);
    assert_true(is_aligned(moved, 16));
    assert_true(malloc_usable_size(moved) >= to);
    size_t kept = least(from, to);
    size_t wrong = pattern_first_wrong(moved, kept, seed);
    if (wrong != kept) {
        fail_msg("realloc from %zu to %zu bytes lost byte %zu", from, to, wrong);
    }
    return moved;
}

static void contents_survive_growing_over_every_boundary(void **state)
{
    (void)state;
    size_t sizes[MOST_SIZES];
    size_t n = sizes_possible(sizes, 4 * MIB + 1);
    void *block = malloc(1);
    size_t size = 1;
    pattern_fill(block, size, 1);
    for (size_t i = 0; i < n; i++) {
        if (sizes[i] > size) {
            block = resize_and_check(block, size, sizes[i], 1);
            size = sizes[i];
            pattern_fill(block, size, 1);
        }
    }
    for (size_t i = n; i-- > 0;) {
        if (sizes[i] < size && sizes[i] > 0) {
            block = resize_and_check(block, size, sizes[i], 1);
            size = sizes[i];
        }
    }
    free(block);
}

/* Every pair of a coarser list, both ways, with neighbours that must not be touched. */
static void contents_survive_every_pair_of_sizes(void **state)
{
    (void)state;
    const size_t sizes[] = {1,    15,   16,    17,    48,    100,   1000,  1024,   1025,   4095,   4096,    8191,
                            8192, 8193, 20000, 32769, 65535, 65536, 65537, 100000, 262144, 262145, 1000000, 3000000};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        for (size_t j = 0; j < COUNT(sizes); j++) {
            void *before = malloc(sizes[i]);
            void *block = malloc(sizes[i]);
            void *after = malloc(sizes[i]);
            pattern_fill(before, sizes[i], 2);
            pattern_fill(block, sizes[i], 3);
            pattern_fill(after, sizes[i], 4);
            block = resize_and_check(block, sizes[i], sizes[j], 3);
            memset(block, 0xee, malloc_usable_size(block));
            assert_true(pattern_holds(before, sizes[i], 2));
            assert_true(pattern_holds(after, sizes[i], 4));
            free(before);
            free(block);
            free(after);
        }
    }
}

/* Beyond the threshold of blocks with a mapping of their own; only some pages are looked at. */
static void contents_survive_among_very_large_sizes(void **state)
{
    (void)state;
    const size_t sizes[] = {20 * MIB, 31 * MIB, 32 * MIB, 33 * MIB,  100 * MIB, 64 * MIB + 1, 300 * MIB, 40 * MIB,
                            5 * MIB,  64 * MIB, 70 * KIB, 500 * MIB, 10 * KIB,  48 * MIB,     100};
    size_t size = 2 * MIB;
    unsigned char *block = hide(malloc(size));
    for (size_t i = 0; i < COUNT(sizes); i++) {
        for (size_t at = 0; at < size; at += 3 * PAGE) {
            block[at] = pattern_byte(at, 9);
        }
        block[size - 1] = 0x77;
        block = hide(realloc(block, sizes[i]));
        assert_non_null(block);
        for (size_t at = 0; at < least(size, sizes[i]); at += 3 * PAGE) {
            assert_true(block[at] == pattern_byte(at, 9) || at == size - 1);
        }
        if (sizes[i] >= size) {
            assert_int_equal(block[size - 1], 0x77);
        }
        size = sizes[i];
    }
    free(block);
}

static void growth_by_steps_keeps_everything(void **state)
{
    (void)state;
    enum { n = 64 };
    unsigned char *blocks[n] = {NULL};
    size_t size = 0;
    for (size_t step = 0; step < 600; step++) {
        size_t next = size + 1 + step;
        for (size_t i = 0; i < n; i++) {
            blocks[i] = realloc(blocks[i], next);
            assert_non_null(blocks[i]);
            for (size_t at = size; at < next; at++) {
                blocks[i][at] = pattern_byte(at, (unsigned)i);
            }
        }
        size = next;
    }
    for (size_t i = 0; i < n; i++) {
        assert_true(pattern_holds(blocks[i], size, (unsigned)i));
        free(blocks[i]);
    }
}

static void aligned_blocks_can_be_resized(void **state)
{
    (void)state;
    for (size_t alignment = 32; alignment <= 2 * MIB; alignment *= 2) {
        for (size_t size = 1; size < 300000; size = size * 3 + 1) {
            void *block = memalign(alignment, size);
            pattern_fill(block, size, 6);
            block = resize_and_check(block, size, size * 2 + 5, 6);
            pattern_fill(block, size * 2 + 5, 6);
            block = resize_and_check(block, size * 2 + 5, size / 2 + 1, 6);
            free(block);
        }
    }
}

static void reallocarray_resizes(void **state)
{
    (void)state;
    void *block = reallocarray(NULL, 10, 24);
    pattern_fill(block, 240, 8);
    block = reallocarray(block, 1000, 24);
    assert_true(pattern_holds(block, 240, 8));
    pattern_fill(block, 24000, 8);
    block = reallocarray(block, 5, 24);
    assert_true(pattern_holds(block, 120, 8));
    free(block);
}

/* A realloc of one size to and fro must not eat memory. */
static void repeated_resizing_stays_bounded(void **state)
{
    (void)state;
    void *block = malloc(100);
    for (size_t i = 0; i < 20000; i++) {
        block = realloc(block, i % 2 == 0 ? 300000 : 100);
        assert_non_null(block);
        memset(block, 1, 100);
    }
    free(block);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contents_survive_growing_over_every_boundary),
        cmocka_unit_test(contents_survive_every_pair_of_sizes),
        cmocka_unit_test(contents_survive_among_very_large_sizes),
        cmocka_unit_test(growth_by_steps_keeps_everything),
        cmocka_unit_test(aligned_blocks_can_be_resized),
        cmocka_unit_test(reallocarray_resizes),
        cmocka_unit_test(repeated_resizing_stays_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
