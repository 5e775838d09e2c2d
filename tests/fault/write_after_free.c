/* SPDX-License-Identifier: MIT */
/* write_after_free.c - a free block is written to: found by name when it comes up, before what was written is used. */
#include "fault.h"

enum { block_size = 96 };

static void expect_damage(char *block)
{
    char line[300];
    snprintf(line, sizeof line,
             "^allot: write after free of 0x[0-9a-f]+: offset [0-9]+ in the %zu-byte block at 0x%jx \\(free\\), "
             "thread [0-9]+\n$",
             allot_good_size(block_size), (uintmax_t)(uintptr_t)block);
    expect_line(line);
}

/* Takes blocks until the damaged one must have come up. */
static void take_many(void)
{
    for (size_t i = 0; i < 5000; i++) {
        char *block = malloc(block_size);
        memset(block, 1, block_size);
    }
}

static char *free_block_among_others(void)
{
    enum { n = 40 };
    char *blocks[n];
    for (size_t i = 0; i < n; i++) {
        blocks[i] = hide(malloc(block_size));
    }
    for (size_t i = 0; i < n; i++) {
        free(blocks[i]);
    }
    return hide(blocks[n / 2]);
}

static void damage(bool fault, size_t offset, unsigned char flip)
{
    char *block = free_block_among_others();
    if (fault) {
        expect_damage(block);
        block[offset] = (char)(block[offset] ^ flip);
    }
    take_many();
}

static void one_bit_of_the_first_byte(bool fault)
{
    damage(fault, 0, 1);
}

static void one_bit_of_the_fourth_byte(bool fault)
{
    damage(fault, 3, 0x10);
}

static void one_bit_of_the_eighth_byte(bool fault)
{
    damage(fault, 7, 0x80);
}

static void one_bit_of_the_ninth_byte(bool fault)
{
    damage(fault, 8, 1);
}

static void one_bit_of_the_sixteenth_byte(bool fault)
{
    damage(fault, 15, 0x80);
}

static void fill_with(bool fault, int byte)
{
    char *block = free_block_among_others();
    if (fault) {
        expect_damage(block);
        memset(block, byte, block_size);
    }
    take_many();
}

static void filled_with_zeros(bool fault)
{
    fill_with(fault, 0);
}

static void filled_with_ones(bool fault)
{
    fill_with(fault, 0xff);
}

static void filled_with_letters(bool fault)
{
    fill_with(fault, 'A');
}

/* A link that looks right: the address of something that could be a block. */
static void a_plausible_link(bool fault)
{
    static char target[256] __attribute__((aligned(16)));
    char *block = free_block_among_others();
    if (fault) {
        expect_damage(block);
        char *aim = target;
        memcpy(block, &aim, sizeof aim);
    }
    take_many();
    if (!all_zero(target, sizeof target)) {
        broken("the link was followed");
    }
}

/* The whole of another free block, link and check, copied over. */
static void another_free_blocks_words(bool fault)
{
    char *other = hide(malloc(block_size));
    char *block = free_block_among_others();
    free(other);
    if (fault) {
        expect_damage(block);
        memcpy(block, hide(other), 16);
    }
    take_many();
}

static void the_newest_free_block(bool fault)
{
    char *block = hide(malloc(block_size));
    free(block);
    block = hide(block);
    if (fault) {
        expect_damage(block);
        memset(block, 'B', 16);
    }
    take_many();
}

/* By the neighbour below it, who writes past its end. */
static void an_overrun(bool fault)
{
    enum { n = 400 };
    static char *blocks[n];
    size_t usable = allot_good_size(block_size);
    for (size_t i = 0; i < n; i++) {
        blocks[i] = hide(malloc(block_size));
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++) {
            if (blocks[j] == blocks[i] + usable) {
                free(blocks[j]);
                if (fault) {
                    expect_damage(blocks[j]);
                    memset(hide(blocks[i]), 'C', usable + 1);
                }
                take_many();
                return;
            }
        }
    }
    broken("no two neighbours");
}

static void after_a_flush(bool fault)
{
    char *kept = malloc(block_size);
    char *block = free_block_among_others();
    allot_thread_flush();
    if (fault) {
        expect_damage(block);
        memset(block, 'D', 16);
    }
    take_many();
    free(kept);
}

/* So many freed that some are sorted back to their slabs. */
static void among_very_many(bool fault)
{
    enum { n = 20000 };
    static char *blocks[n];
    for (size_t i = 0; i < n; i++) {
        blocks[i] = hide(malloc(block_size));
    }
    for (size_t i = 0; i < n; i += 2) {
        free(blocks[i]);
    }
    char *block = hide(blocks[n / 2]);
    if (fault) {
        expect_damage(block);
        memset(block, 'E', 16);
    }
    for (size_t i = 0; i < n; i++) {
        hide(malloc(block_size));
    }
}

static void *free_it(void *block)
{
    free(block);
    return NULL;
}

/* Freed by another thread, on its way home or there already. */
static void freed_by_another_thread(bool fault)
{
    char *block = hide(malloc(block_size));
    elsewhere(free_it, block);
    block = hide(block);
    if (fault) {
        expect_damage(block);
        memset(block, 'F', 16);
    }
    take_many();
}

enum { n_remote = 3000 };
static char *remote[n_remote];

/* Some stay live, so that no slab is wholly free and leaves, damage and all. */
static void *free_most_remote(void *argument)
{
    (void)argument;
    for (size_t i = 0; i < n_remote; i++) {
        if (i % 64 != 0) {
            free(remote[i]);
        }
    }
    return NULL;
}

static void freed_by_another_thread_among_many(bool fault)
{
    for (size_t i = 0; i < n_remote; i++) {
        remote[i] = hide(malloc(block_size));
    }
    elsewhere(free_most_remote, NULL);
    char *block = hide(remote[n_remote / 3 + 1]);
    if (fault) {
        expect_damage(block);
        block[0] ^= 1;
    }
    take_many();
}

/* Written to, then freed again: one of the two is reported, at the latest when the block comes up. */
static void written_to_and_freed_again(bool fault)
{
    char *block = free_block_among_others();
    if (fault) {
        char line[300];
        snprintf(
            line, sizeof line,
            "^allot: (write after free|double free) of 0x[0-9a-f]+: offset [0-9]+ in the %zu-byte block at 0x[0-9a-f]+ "
            "\\(free\\), thread [0-9]+\n$",
            allot_good_size(block_size));
        expect_line(line);
        memset(block, 'G', 16);
        free(block);
    }
    take_many();
    (void)block;
}

static allot_action go_on(const allot_error *error, void *context)
{
    (void)error;
    (void)context;
    return ALLOT_ACTION_CONTINUE;
}

/* Damage can't be walked around: a handler that would go on is not heard. */
static void a_handler_can_not_go_on(bool fault)
{
    allot_set_error_handler(go_on, NULL);
    fill_with(fault, 'H');
}

static const struct fault_case cases[] = {
    CASE(one_bit_of_the_first_byte),
    CASE(one_bit_of_the_fourth_byte),
    CASE(one_bit_of_the_eighth_byte),
    CASE(one_bit_of_the_ninth_byte),
    CASE(one_bit_of_the_sixteenth_byte),
    CASE(filled_with_zeros),
    CASE(filled_with_ones),
    CASE(filled_with_letters),
    CASE(a_plausible_link),
    CASE(another_free_blocks_words),
    CASE(the_newest_free_block),
    CASE(an_overrun),
    CASE(after_a_flush),
    CASE(among_very_many),
    CASE(freed_by_another_thread),
    CASE(freed_by_another_thread_among_many),
    CASE(written_to_and_freed_again),
    CASE(a_handler_can_not_go_on),
};

int main(int argc, char **argv)
{
    return fault_main(argc, argv, cases, COUNT(cases));
}
