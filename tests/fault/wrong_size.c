/* SPDX-License-Identifier: MIT */
/* wrong_size.c - free_sized and free_aligned_sized with a size or an alignment that the block can't have been asked
 * for. */
#include "fault.h"

static void sized(bool fault, size_t asked, size_t told)
{
    void *block = hide(malloc(asked));
    if (fault) {
        expect_block("wrong size", block, block, malloc_usable_size(block), "live");
        free_sized(block, told);
    } else {
        free_sized(block, asked);
    }
}

static void a_class_too_large(bool fault)
{
    sized(fault, 100, allot_good_size(100) + 1);
}

static void a_class_too_small(bool fault)
{
    sized(fault, 100, 40); /* more than the half might be left of a block that realloc shrank in place */
}

static void nothing(bool fault)
{
    sized(fault, 1000, 0);
}

static void everything(bool fault)
{
    sized(fault, 1000, SIZE_MAX);
}

static void medium_too_large(bool fault)
{
    sized(fault, 20000, allot_good_size(20000) + 1);
}

static void medium_too_small(bool fault)
{
    sized(fault, 20000, 9000);
}

static void large_too_large(bool fault)
{
    sized(fault, MIB, MIB + 4097);
}

static void large_too_small(bool fault)
{
    sized(fault, MIB, 100);
}

static void mapped_too_small(bool fault)
{
    sized(fault, 50 * MIB, 40 * MIB);
}

static void wrong_alignment(bool fault)
{
    void *block = NULL;
    do {
        block = hide(aligned_alloc(64, 48)); /* some are aligned to more by chance */
    } while (is_aligned(block, 4096));
    if (fault) {
        expect_block("wrong size", block, block, malloc_usable_size(block), "live");
        free_aligned_sized(block, 4096, 48);
    } else {
        free_aligned_sized(block, 64, 48);
    }
}

static void aligned_and_too_large(bool fault)
{
    void *block = hide(aligned_alloc(64, 100));
    if (fault) {
        expect_block("wrong size", block, block, malloc_usable_size(block), "live");
        free_aligned_sized(block, 64, 100000);
    } else {
        free_aligned_sized(block, 64, 100);
    }
}

static void *free_with_wrong_size(void *block)
{
    expect_block("wrong size", block, block, malloc_usable_size(block), "live");
    free_sized(block, 1000000);
    return NULL;
}

static void in_another_thread(bool fault)
{
    void *block = hide(malloc(200));
    if (fault) {
        elsewhere(free_with_wrong_size, block);
    }
    free_sized(block, 200);
}

static const struct fault_case cases[] = {
    CASE(a_class_too_large), CASE(a_class_too_small),     CASE(nothing),
    CASE(everything),        CASE(medium_too_large),      CASE(medium_too_small),
    CASE(large_too_large),   CASE(large_too_small),       CASE(mapped_too_small),
    CASE(wrong_alignment),   CASE(aligned_and_too_large), CASE(in_another_thread),
};

int main(int argc, char **argv)
{
    return fault_main(argc, argv, cases, COUNT(cases));
}
