/* SPDX-License-Identifier: MIT */
/* wrong_owner.c - a block is given to one of the heap and the pools, and belongs to another. */
#include "allot/pool.h" /* before names.h, which renames what its attributes say */

#include "fault.h"

enum { pool_bytes = 65536 };
static char buffers[2][pool_bytes] __attribute__((aligned(64)));

static allot_pool *pool_in(void *buffer)
{
    allot_pool *pool = NULL;
    if (allot_pool_create(buffer, pool_bytes, &pool) != 0) {
        broken("no pool");
    }
    return pool;
}

static void heap_block_to_a_private_pool(bool fault)
{
    allot_pool *pool = pool_in(buffers[0]);
    void *block = hide(malloc(100));
    if (fault) {
        expect_no_block("invalid free", block, "not from a pool");
        allot_pool_free_in(pool, block);
    }
    free(block);
}

static void heap_block_to_the_public_pool(bool fault)
{
    void *block = hide(malloc(100));
    if (fault) {
        expect_no_block("invalid free", block, "not from a pool");
        allot_pool_free(block);
    }
    free(block);
}

static void public_block_to_a_private_pool(bool fault)
{
    allot_pool *pool = pool_in(buffers[0]);
    void *block = hide(allot_pool_malloc(100));
    if (fault) {
        expect_no_block("invalid free", block, "not from a pool");
        allot_pool_free_in(pool, block);
    }
    free(block); /* the heap's free takes the public pool's blocks */
}

static void private_block_to_the_public_pool(bool fault)
{
    allot_pool *pool = pool_in(buffers[0]);
    void *block = hide(allot_pool_malloc_in(pool, 100));
    if (fault) {
        expect_no_block("invalid free", block, "not from a pool");
        allot_pool_free(block);
    }
    allot_pool_free_in(pool, block);
}

static void private_block_to_another_private_pool(bool fault)
{
    allot_pool *one = pool_in(buffers[0]), *two = pool_in(buffers[1]);
    void *block = hide(allot_pool_malloc_in(one, 100));
    if (fault) {
        expect_no_block("invalid free", block, "not from a pool");
        allot_pool_free_in(two, block);
    }
    allot_pool_free_in(one, block);
}

static void private_block_to_free(bool fault)
{
    allot_pool *pool = pool_in(buffers[0]);
    void *block = hide(allot_pool_malloc_in(pool, 100));
    if (fault) {
        expect_no_block("invalid free", block, "[^()\n]+");
        free(block);
    }
    allot_pool_free_in(pool, block);
}

/* The pool's memory is a block of the heap: its blocks lie inside that. */
static void block_of_a_pool_on_the_heap_to_free(bool fault)
{
    char *buffer = hide(aligned_alloc(64, pool_bytes));
    allot_pool *pool = pool_in(buffer);
    void *block = hide(allot_pool_malloc_in(pool, 100));
    if (fault) {
        expect_block("invalid free", block, buffer, malloc_usable_size(buffer), "live");
        free(block);
    }
    allot_pool_free_in(pool, block);
    free(buffer);
}

static void private_block_to_realloc(bool fault)
{
    allot_pool *pool = pool_in(buffers[0]);
    void *block = hide(allot_pool_malloc_in(pool, 100));
    if (fault) {
        expect_no_block("invalid realloc", block, "[^()\n]+");
        hide(realloc(block, 200));
    }
    allot_pool_free_in(pool, block);
}

static void inside_a_public_block_to_free(bool fault)
{
    char *block = hide(allot_pool_malloc(100));
    if (fault) {
        expect_block("invalid free", block + 16, block, allot_pool_usable_size(block), "live");
        free(block + 16);
    }
    free(block);
}

static void public_block_twice_by_two_ways(bool fault)
{
    char *block = hide(allot_pool_malloc(100));
    size_t usable = allot_pool_usable_size(block);
    allot_pool_free(block);
    if (fault) {
        expect_block("double free", block, block, usable, "free");
        free(block);
    }
}

static const struct fault_case cases[] = {
    CASE(heap_block_to_a_private_pool),          CASE(heap_block_to_the_public_pool),
    CASE(public_block_to_a_private_pool),        CASE(private_block_to_the_public_pool),
    CASE(private_block_to_another_private_pool), CASE(private_block_to_free),
    CASE(block_of_a_pool_on_the_heap_to_free),   CASE(private_block_to_realloc),
    CASE(inside_a_public_block_to_free),         CASE(public_block_twice_by_two_ways),
};

int main(int argc, char **argv)
{
    return fault_main(argc, argv, cases, COUNT(cases));
}
