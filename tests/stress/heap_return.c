/* SPDX-License-Identifier: MIT */
/* heap_return.c - what was freed goes back to the system: in idle, by age, by trim; in few mappings; and what grows
 * grows without a second copy. */
#include "stress.h"

#include <sys/mman.h>

enum { most_blocks = 2500000 };
static void *blocks[most_blocks];
static size_t n_blocks;

static void shuffle(void)
{
    uint64_t random = 4242;
    for (size_t i = n_blocks; i-- > 1;) {
        size_t j = random_below(&random, i + 1);
        void *kept = blocks[i];
        blocks[i] = blocks[j];
        blocks[j] = kept;
    }
}

/* Blocks of sizes below most, bytes in all, each written to. */
static void take_bytes(size_t bytes, size_t most)
{
    uint64_t random = 17;
    size_t taken = 0;
    for (n_blocks = 0; taken < bytes && n_blocks < most_blocks; n_blocks++) {
        size_t size = 16 + random_below(&random, most - 16);
        blocks[n_blocks] = malloc(size);
        EXPECT(blocks[n_blocks] != NULL, "no memory");
        memset(blocks[n_blocks], 1, size);
        taken += size;
    }
}

static void free_all(void)
{
    for (size_t i = 0; i < n_blocks; i++) {
        free(blocks[i]);
    }
}

/* The test's own table is resident before it starts to measure. */
static size_t resident_at_start(void)
{
    memset(blocks, 1, sizeof blocks);
    free(malloc(1));
    return resident_bytes();
}

static size_t grown_since(size_t start)
{
    size_t now = resident_bytes();
    return now > start ? now - start : 0;
}

/* Two seconds later, without a call in between: at most 8 MiB. */
static void a_first_burst_freed_at_random_then_idle(void)
{
    size_t start = resident_at_start();
    take_bytes(200 * MIB, 500);
    shuffle();
    free_all();
    sleep_ms(2000);
    EXPECT(grown_since(start) <= 8 * MIB, "%zu KiB stayed", grown_since(start) / KIB);
}

static void a_first_burst_freed_in_order_then_idle(void)
{
    size_t start = resident_at_start();
    take_bytes(200 * MIB, 500);
    free_all();
    sleep_ms(2000);
    EXPECT(grown_since(start) <= 8 * MIB, "%zu KiB stayed", grown_since(start) / KIB);
}

static void medium_blocks_then_idle(void)
{
    size_t start = resident_at_start();
    take_bytes(400 * MIB, 60000);
    shuffle();
    free_all();
    sleep_ms(1000);
    EXPECT(grown_since(start) <= 8 * MIB, "%zu KiB stayed", grown_since(start) / KIB);
}

static void large_blocks_then_idle(void)
{
    size_t start = resident_at_start();
    take_bytes(800 * MIB, 20 * MIB);
    shuffle();
    free_all();
    sleep_ms(1000);
    EXPECT(grown_since(start) <= 8 * MIB, "%zu KiB stayed", grown_since(start) / KIB);
}

/* With a cap that holds everything, age alone brings it back, where calls continue. */
static void by_age_where_calls_continue(void)
{
    size_t start = resident_at_start();
    take_bytes(100 * MIB, 500);
    shuffle();
    free_all();
    uint64_t end = now_ms() + 2500;
    while (now_ms() < end) {
        void *some[300];
        for (size_t i = 0; i < COUNT(some); i++) {
            some[i] = malloc(16 + i * 30);
        }
        for (size_t i = 0; i < COUNT(some); i++) {
            free(some[i]);
        }
        sleep_ms(5);
    }
    EXPECT(grown_since(start) <= 12 * MIB, "%zu KiB stayed", grown_since(start) / KIB);
}

/* Bursts that repeat: what was learned falls with age, and nothing grows from one to the next. */
static void bursts_that_repeat(void)
{
    size_t start = resident_at_start();
    size_t peak = 0;
    for (int round = 0; round < (stress_is_long() ? 40 : 8); round++) {
        take_bytes(60 * MIB, 300);
        peak = peak == 0 ? resident_bytes() : peak;
        EXPECT(resident_bytes() <= peak + 8 * MIB, "round %d needs more", round);
        shuffle();
        free_all();
    }
    sleep_ms(500);
    for (size_t i = 0; i < 20000; i++) {
        free(malloc(i % 300));
    }
    malloc_trim(0);
    EXPECT(grown_since(start) <= 4 * MIB, "%zu KiB stayed", grown_since(start) / KIB);
}

static void trim_brings_all_back(void)
{
    size_t start = resident_at_start();
    take_bytes(100 * MIB, 2000);
    shuffle();
    free_all();
    malloc_trim(0);
    EXPECT(grown_since(start) <= 3 * MIB, "%zu KiB stayed", grown_since(start) / KIB);
}

/* Nine of ten blocks go: whole pages between the live ones go back too. */
static void free_pages_in_used_slabs_go_back(void)
{
    size_t start = resident_at_start();
    n_blocks = 40000;
    for (size_t i = 0; i < n_blocks; i++) {
        blocks[i] = malloc(4000);
        memset(blocks[i], 1, 4000);
    }
    for (size_t i = 0; i < n_blocks; i++) {
        if (i % 10 != 0) {
            free(blocks[i]);
        }
    }
    malloc_trim(0);
    /* a tenth is live, 16 MiB; a block may touch two pages, and its neighbours' links one each */
    EXPECT(grown_since(start) <= 80 * MIB, "%zu MiB resident for 16 MiB live", grown_since(start) / MIB);
    for (size_t i = 0; i < n_blocks; i += 10) {
        EXPECT(((unsigned char *)blocks[i])[3999] == 1, "a live block lost its contents");
        free(blocks[i]);
    }
}

static void a_gibibyte_in_few_mappings(void)
{
    size_t before = n_mappings();
    uint64_t random = 3;
    size_t taken = 0;
    size_t most = 0;
    for (n_blocks = 0; taken < GIB && n_blocks < most_blocks; n_blocks++) {
        size_t kind = random_below(&random, 100);
        size_t size = 16 + random_below(&random, kind < 90 ? 1000 : kind < 98 ? 30000 : kind < 99 ? 300000 : 4 * MIB);
        unsigned char *block = malloc(size);
        EXPECT(block != NULL, "no memory after %zu MiB", taken / MIB);
        block[0] = 1;
        block[size / 2] = 1;
        blocks[n_blocks] = block;
        taken += size;
        if (n_blocks % 10000 == 0) {
            size_t now = n_mappings();
            most = now > most ? now : most;
        }
    }
    EXPECT(most <= before + 48, "%zu mappings, %zu at the start", most, before);
    shuffle();
    for (size_t i = 0; i < n_blocks; i++) {
        free(blocks[i]);
        if (i % 20000 == 0) {
            size_t now = n_mappings();
            most = now > most ? now : most;
        }
    }
    EXPECT(most <= before + 48, "%zu mappings while freeing, %zu at the start", most, before);
}

static void a_block_grows_without_a_second_copy(void)
{
    size_t size = MIB;
    unsigned char *block = malloc(size);
    memset(block, 7, size);
    while (size < 400 * MIB) {
        size_t next = size + size / 4;
        block = realloc(block, next);
        EXPECT(block != NULL, "no memory");
        EXPECT(block[0] == 7 && block[size - 1] == 7 && block[size / 2] == 7, "contents lost at %zu", size);
        memset(block + size, 7, next - size);
        size = next;
    }
#ifndef ALLOT_TEST_OS_POSIX
    EXPECT(peak_resident_bytes() < size + size / 2, "the peak was %zu MiB for a block of %zu",
           peak_resident_bytes() / MIB, size / MIB);
#endif
    free(block);
}

/* Growing in small steps is no quadratic work. */
static void a_block_grows_by_pages(void)
{
    uint64_t begin = now_ms();
    unsigned char *block = NULL;
    for (size_t size = 4096; size < 128 * MIB; size += 16384) {
        block = realloc(block, size);
        EXPECT(block != NULL, "no memory");
        block[size - 1] = (unsigned char)(size >> 14);
    }
    for (size_t size = 4096; size < 128 * MIB; size += 16384) {
        EXPECT(block[size - 1] == (unsigned char)(size >> 14), "contents lost");
    }
    free(block);
    EXPECT(now_ms() - begin < 30000, "%ju ms", (uintmax_t)(now_ms() - begin));
}

/* Something stands right behind the block again and again: it moves, but not at each step. */
static void a_block_between_others_moves_seldom(void)
{
    size_t n_moves = 0;
    unsigned char *block = malloc(40 * MIB);
    for (size_t size = 40 * MIB; size < 160 * MIB; size += 64 * KIB) {
        unsigned char *end = block + (malloc_usable_size(block) & ~(size_t)4095);
        for (int i = 0; i < 256; i++) { /* wherever the mapping ends */
            void *at = mmap(end + (size_t)i * 64 * KIB, 4096, PROT_NONE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
            if (at != MAP_FAILED) {
                break;
            }
        }
        unsigned char *grown = realloc(block, size);
        EXPECT(grown != NULL, "no memory");
        n_moves += grown != block;
        block = grown;
    }
    EXPECT(n_moves <= 20, "%zu moves", n_moves);
    free(block);
}

static const struct stress_case cases[] = {
    {"a_first_burst_freed_at_random_then_idle", a_first_burst_freed_at_random_then_idle, NULL, false},
    {"a_first_burst_freed_in_order_then_idle", a_first_burst_freed_in_order_then_idle, NULL, false},
    {"medium_blocks_then_idle", medium_blocks_then_idle, NULL, false},
    {"large_blocks_then_idle", large_blocks_then_idle, NULL, false},
    {"by_age_where_calls_continue", by_age_where_calls_continue, "purge_cap=2g", false},
    {"bursts_that_repeat", bursts_that_repeat, NULL, false},
    {"trim_brings_all_back", trim_brings_all_back, NULL, false},
    {"trim_brings_all_back_from_a_large_cap", trim_brings_all_back, "purge_cap=2g,purge_age=3600000", false},
    {"free_pages_in_used_slabs_go_back", free_pages_in_used_slabs_go_back, NULL, false},
    {"a_gibibyte_in_few_mappings", a_gibibyte_in_few_mappings, NULL, false},
    {"a_gibibyte_in_few_mappings_from_the_break", a_gibibyte_in_few_mappings, "source=brk", true},
    {"a_block_grows_without_a_second_copy", a_block_grows_without_a_second_copy, NULL, false},
    {"a_block_grows_by_pages", a_block_grows_by_pages, NULL, false},
    {"a_block_between_others_moves_seldom", a_block_between_others_moves_seldom, NULL, false},
};

int main(int argc, char **argv)
{
    return stress_main(argc, argv, cases, COUNT(cases));
}
