/* SPDX-License-Identifier: MIT */
/* arena_blocks.c - random calls on arenas of every kind of fit, with the books checked and the contents compared. */
#include "unit.h"

#include <allot/arena.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS 400

struct slot {
    unsigned char *block;
    size_t bytes;
    unsigned char fill;
};

static uint64_t seed;

static unsigned pick(unsigned below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(seed >> 33) % below;
}

static size_t rounded(size_t bytes)
{
    return (bytes + 15) / 16 * 16;
}

static size_t some_size(void)
{
    return pick(20) == 0 ? 1 + pick(40000) : 1 + pick(300);
}

static void assert_filled(const struct slot *slot)
{
    for (size_t i = 0; i < slot->bytes; i++) {
        assert_int_equal(slot->block[i], slot->fill);
    }
}

static void fill(struct slot *slot, unsigned i)
{
    slot->fill = (unsigned char)(i * 7 + slot->bytes);
    memset(slot->block, slot->fill, slot->bytes);
}

static size_t step(allot_arena *arena, struct slot *slots, size_t live)
{
    unsigned i = pick(SLOTS);
    struct slot *slot = &slots[i];
    size_t old = rounded(slot->bytes);
    if (slot->block == NULL) {
        slot->bytes = some_size();
        size_t align = (size_t)16 << (pick(8) == 0 ? pick(8) : 0);
        slot->block = allot_arena_memalign(arena, align, slot->bytes);
        assert_int_equal((uintptr_t)slot->block % align, 0);
    } else {
        assert_filled(slot);
        unsigned what = pick(4);
        if (what == 0) {
            size_t bytes = some_size();
            unsigned char *moved = allot_arena_realloc(arena, slot->block, bytes);
            if (moved == NULL) {
                return live;
            }
            slot->block = moved;
            slot->bytes = bytes < slot->bytes ? bytes : slot->bytes;
            assert_filled(slot);
            slot->bytes = bytes;
        } else if (what == 1 && old > 32) {
            /* the tail, then perhaps the head */
            assert_int_equal(allot_arena_free_sized(arena, slot->block + 16, old - 16), 0);
            slot->bytes = 16;
        } else {
            assert_int_equal(what == 2 ? allot_arena_free(arena, slot->block)
                                       : allot_arena_free_sized(arena, slot->block, slot->bytes),
                             0);
            slot->block = NULL;
            slot->bytes = 0;
        }
    }
    if (slot->block == NULL) {
        slot->bytes = 0;
    } else {
        fill(slot, i);
    }
    return live - old + rounded(slot->bytes);
}

static void run(allot_arena *arena, unsigned steps, size_t fixed_capacity)
{
    struct slot slots[SLOTS] = {0};
    size_t live = 0;
    seed = 12345;
    for (unsigned i = 0; i < steps; i++) {
        live = step(arena, slots, live);
        assert_int_equal(allot_arena_capacity(arena) - allot_arena_free_bytes(arena), live);
        if (i % 16 == 0) {
            assert_int_equal(allot_arena_check(arena), 0);
        }
    }
    for (unsigned i = 0; i < SLOTS; i++) {
        assert_int_equal(allot_arena_free(arena, slots[i].block), 0);
    }
    assert_int_equal(allot_arena_check(arena), 0);
    assert_int_equal(allot_arena_free_bytes(arena), allot_arena_capacity(arena));
    if (fixed_capacity != 0) {
        void *all = allot_arena_malloc(arena, fixed_capacity);
        assert_non_null(all);
        assert_int_equal(allot_arena_free(arena, all), 0);
    }
}

static void blocks_keep_apart_in_every_fit(void **state)
{
    (void)state;
    for (int fit = ALLOT_FIT_GOOD; fit <= ALLOT_FIT_BEST; fit++) {
        for (unsigned flags = 0; flags <= ALLOT_ARENA_UNSYNCHRONIZED; flags++) {
            allot_arena_options options = ALLOT_ARENA_OPTIONS_INIT;
            allot_arena *arena;
            options.fit = (allot_arena_fit)fit;
            options.flags = flags;
            assert_int_equal(allot_arena_create(0, &options, &arena), 0);
            run(arena, 6000, 0);
            allot_arena_destroy(arena);
            options.backend = allot_backend_fixed();
            assert_int_equal(allot_arena_create(100000, &options, &arena), 0);
            run(arena, 6000, 100000);
            allot_arena_destroy(arena);
        }
    }
}

static void blocks_keep_apart_in_mappings(void **state)
{
    (void)state;
    allot_backend *backend;
    allot_arena_options options = ALLOT_ARENA_OPTIONS_INIT;
    allot_arena *arena;
    options.flags = ALLOT_ARENA_OWNS_BACKEND;
    assert_int_equal(allot_backend_virt((size_t)1 << 40, NULL, &backend), 0);
    char *base = allot_virt_address(backend);
    options.backend = backend;
    assert_int_equal(allot_arena_create(1, &options, &arena), 0);
    run(arena, 6000, 0);
    assert_ptr_equal(base, allot_virt_address(backend));
    allot_arena_destroy(arena);
    assert_int_equal(allot_backend_mmap(NULL, &backend), 0);
    options.backend = backend;
    assert_int_equal(allot_arena_create(1, &options, &arena), 0);
    run(arena, 6000, 0);
    allot_arena_destroy(arena);
}

static void a_buffer_with_books_is_enough(void **state)
{
    (void)state;
    static char buffer[100 + 1];
    static char books[4096];
    allot_arena *arena;
    allot_arena_options options = ALLOT_ARENA_OPTIONS_INIT;
    options.books = books + 1;
    options.books_bytes = allot_arena_books_size(100, &options);
    assert_in_range(options.books_bytes, 64, sizeof books - 1);
    assert_int_equal(allot_arena_create_at(buffer + 1, 100, &options, &arena), 0);
    size_t n = 0;
    while (allot_arena_malloc(arena, 16) != NULL) {
        n++;
    }
    assert_in_range(n, 5, 6);
    assert_int_equal(allot_arena_free_bytes(arena), 0);
    allot_arena_destroy(arena);
    options.books_bytes = 100;
    assert_int_equal(allot_arena_create_at(buffer + 1, 100, &options, &arena), EINVAL);
}

static void marks_bring_back(void **state)
{
    (void)state;
    for (unsigned flags = 0; flags <= ALLOT_ARENA_UNSYNCHRONIZED; flags++) {
        allot_arena *arena;
        allot_arena *child;
        allot_mark mark;
        allot_mark later;
        allot_arena_options options = ALLOT_ARENA_OPTIONS_INIT;
        options.kind = ALLOT_ARENA_BUMP;
        options.flags = flags;
        assert_int_equal(allot_arena_create(0, &options, &arena), 0);
        assert_int_equal(allot_arena_mark(arena, &mark), 0);
        char *first = allot_bump_malloc(arena, 100);
        assert_non_null(first);
        assert_int_equal(allot_arena_mark(arena, &later), 0);
        options.parent = arena;
        assert_int_equal(allot_arena_create(0, &options, &child), 0);
        for (unsigned i = 0; i < 3000; i++) {
            assert_non_null(allot_bump_malloc(arena, 1 + i % 200));
        }
        assert_int_equal(allot_arena_check(arena), 0);
        assert_int_equal(allot_arena_rewind(arena, &later), 0);
        allot_arena_report report = ALLOT_ARENA_REPORT_INIT;
        assert_int_equal(allot_arena_stats(arena, &report), 0);
        assert_int_equal(report.n_children, 0);
        assert_int_equal(report.live_bytes, 112);
        assert_int_equal(allot_arena_rewind(arena, &mark), 0);
        assert_int_equal(allot_arena_rewind(arena, &later), EINVAL);
        assert_ptr_equal(allot_bump_malloc(arena, 100), first);
        assert_int_equal(allot_arena_reset(arena), 0);
        assert_int_equal(allot_arena_rewind(arena, &mark), EINVAL);
        assert_ptr_equal(allot_bump_malloc(arena, 100), first);
        allot_arena_destroy(arena);
    }
}

static void protection_does_not_hinder(void **state)
{
    (void)state;
    allot_backend *backend;
    allot_arena *arena;
    allot_arena_options options = ALLOT_ARENA_OPTIONS_INIT;
    assert_int_equal(allot_backend_virt(1 << 20, NULL, &backend), 0);
    options.backend = backend;
    assert_int_equal(allot_arena_create(4096, &options, &arena), 0);
    char *kept = allot_arena_malloc(arena, 64);
    memset(kept, 'k', 64);
    assert_int_equal(allot_arena_protect(arena, 0), 0);
    void *blocks[100];
    assert_int_equal(allot_arena_malloc_batch(arena, 1000, blocks, 100), 100);
    assert_int_equal(allot_arena_free_batch(arena, blocks, 100), 0);
    assert_int_equal(allot_arena_check(arena), 0);
    assert_int_equal(allot_arena_protect(arena, 3), 0);
    assert_int_equal(kept[63], 'k');
    assert_int_equal(allot_arena_seal(arena), 0);
    assert_null(allot_arena_malloc(arena, 1));
    assert_int_equal(errno, EPERM);
    assert_int_equal(allot_arena_unseal(arena), 0);
    assert_non_null(allot_arena_malloc(arena, 1));
    assert_null(allot_arena_malloc(arena, 1 << 20));
    assert_int_equal(errno, ENOMEM);
    assert_int_equal(allot_virt_release(backend), 0);
    assert_int_equal(allot_virt_release(backend), 0);
    assert_int_equal(allot_arena_size(arena), 0);
    allot_arena_destroy(arena);
    assert_int_equal(allot_backend_destroy(backend), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_keep_apart_in_every_fit), cmocka_unit_test(blocks_keep_apart_in_mappings),
        cmocka_unit_test(a_buffer_with_books_is_enough),  cmocka_unit_test(marks_bring_back),
        cmocka_unit_test(protection_does_not_hinder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
