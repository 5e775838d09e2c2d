/* SPDX-License-Identifier: MIT */
/* malloc_aligned.c - every alignment from 1 to 2 MiB, and 64 MiB, at sizes below and above it. */
#include "unit.h"

static void *take(int way, size_t alignment, size_t size)
{
    void *block = NULL;
    switch (way) {
    case 0:
        return aligned_alloc(alignment, size);
    case 1:
        return memalign(alignment, size);
    default:
        assert_int_equal(posix_memalign(&block, alignment < sizeof(void *) ? sizeof(void *) : alignment, size), 0);
        return block;
    }
}

static void check_alignment(size_t alignment, size_t most)
{
    const size_t sizes[] = {
        0,    1,    16,    17,     100,    alignment - 1, alignment, alignment + 1, 2 * alignment, 3 * alignment + 5,
        4096, 8193, 65536, 100000, MIB + 1};
    for (int way = 0; way < 3; way++) {
        for (size_t i = 0; i < COUNT(sizes); i++) {
            if (sizes[i] <= most) {
                check_block_and_free(take(way, alignment, sizes[i]), sizes[i], alignment);
            }
        }
    }
}

static void every_alignment_is_served(void **state)
{
    (void)state;
    for (size_t alignment = 1; alignment <= 2 * MIB; alignment *= 2) {
        check_alignment(alignment, 8 * MIB);
    }
    check_alignment(64 * MIB, 130 * MIB);
    check_alignment(GIB, GIB);
}

static void many_aligned_blocks_live_side_by_side(void **state)
{
    (void)state;
    enum { n = 64 };
    void *blocks[n];
    for (size_t alignment = 16; alignment <= 256 * KIB; alignment *= 2) {
        for (size_t i = 0; i < n; i++) {
            size_t size = 1 + i * 37 % 500;
            blocks[i] = memalign(alignment, size);
            assert_true(is_aligned(blocks[i], alignment));
            pattern_fill(blocks[i], malloc_usable_size(blocks[i]), (unsigned)i);
        }
        for (size_t i = 0; i < n; i++) {
            assert_true(pattern_holds(blocks[i], malloc_usable_size(blocks[i]), (unsigned)i));
            free(blocks[i]);
        }
    }
}

/* A power-of-two array of aligned blocks must not cost a multiple of what was asked for. */
static void aligned_blocks_of_their_own_size_are_not_wasteful(void **state)
{
    (void)state;
    for (size_t alignment = 64; alignment <= 4096; alignment *= 2) {
        void *block = aligned_alloc(alignment, alignment);
        assert_true(malloc_usable_size(block) <= 2 * alignment + 64);
        free(block);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_alignment_is_served),
        cmocka_unit_test(many_aligned_blocks_live_side_by_side),
        cmocka_unit_test(aligned_blocks_of_their_own_size_are_not_wasteful),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
