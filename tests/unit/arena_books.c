/* SPDX-License-Identifier: MIT */
/* arena_books.c - with books of the caller's an arena needs neither the heap nor the OS: here both are refused from the
 * first call on, and everything lies in static memory. And what happens when the memory for books is refused later. */
#include "arena_test.h"
#include "os/fake.h"

#include <errno.h>

static _Alignas(16) char memory[16 * 1024];
static char books[64 * 1024];

static allot_arena *arena_in_static_memory(void)
{
    allot_arena_options options = shape_options();
    allot_arena *arena = NULL;
    options.n_cleanups = 4;
    options.books_bytes = allot_arena_books_size(sizeof memory, &options);
    assert_true(options.books_bytes != 0 && options.books_bytes <= sizeof books);
    options.books = books + sizeof books - options.books_bytes;
    memset(books, 0x5c, sizeof books); /* need not be zeros */
    assert_int_equal(allot_arena_create_at(memory, sizeof memory, &options, &arena), 0);
    return arena;
}

static unsigned n_run;

static void run_once(void *unused)
{
    (void)unused;
    n_run++;
}

static int count_blocks(const allot_info *info, void *context)
{
    *(size_t *)context += info->state == ALLOT_STATE_LIVE;
    return 0;
}

/* The first arena of the process, before the heap was ever used. */
static void neither_heap_nor_os_are_asked(void **state)
{
    (void)state;
    fake_fail(FAKE_ANY, 1, SIZE_MAX);
    for (unsigned round = 0; round < 3; round++) {
        allot_arena *arena = arena_in_static_memory();
        void *blocks[200] = {NULL};
        uint64_t random = round + 1;
        size_t n_live = 0;
        assert_int_equal(allot_arena_cleanup_add(arena, run_once, NULL), 0);
        for (unsigned i = 0; i < 3000; i++) {
            void **slot = &blocks[random_below(&random, COUNT(blocks))];
            if (*slot == NULL) {
                *slot = i % 2 ? allot_arena_calloc(arena, 3, 20) : allot_arena_malloc(arena, 1 + i % 150);
            } else if (i % 5 == 0) {
                void *moved = allot_arena_realloc(arena, *slot, 10 + i % 300);
                *slot = moved == NULL ? *slot : moved;
            } else {
                assert_int_equal(allot_arena_free(arena, *slot), 0);
                *slot = NULL;
            }
        }
        assert_int_equal(allot_arena_check(arena), 0);
        for (size_t i = 0; i < COUNT(blocks); i++) {
            n_live += blocks[i] != NULL;
        }
        size_t n_walked = 0;
        allot_arena_walk(arena, count_blocks, &n_walked);
        assert_true(shape->kind != ALLOT_ARENA_GENERAL || n_walked == n_live);
        assert_int_equal(allot_arena_contains(arena, memory + sizeof memory - 1), 1);
        expect_misuse("invalid free", EINVAL, allot_arena_free(arena, books));
        allot_arena_trim(arena, 0);
        assert_int_equal(allot_arena_reset(arena), 0);
        allot_arena_destroy(arena);
    }
    for (int kind = 0; kind <= FAKE_ANY; kind++) {
        assert_int_equal(fake_calls((enum fake_kind)kind), 0);
    }
    fake_fail(FAKE_ANY, 1, 0);
}

/* ---- books that are refused ---------------------------------------------------------------------------------------
 */

/* A server's day in short, with every call's result looked at. */
static void work_as_far_as_it_goes(allot_backend *backend, bool *done)
{
    allot_arena_options options = shape_options();
    allot_arena *arena;
    *done = false;
    options.backend = backend;
    if (allot_arena_create(100, &options, &arena) != 0) {
        return;
    }
    unsigned char *blocks[40] = {NULL};
    size_t sizes[40];
    bool all = true;
    for (size_t i = 0; i < COUNT(blocks); i++) {
        sizes[i] = 1 + i * i * 97 % 30000;
        errno = 0;
        blocks[i] = allot_arena_malloc(arena, sizes[i]);
        assert_true(blocks[i] != NULL || errno == ENOMEM);
        all = all && blocks[i] != NULL;
        if (blocks[i] != NULL) {
            pattern_fill(blocks[i], sizes[i], (unsigned)i);
        }
        assert_int_equal(allot_arena_check(arena), 0);
    }
    int error = allot_arena_cleanup_add(arena, run_once, NULL);
    assert_true(error == 0 || error == ENOMEM);
    all = all && error == 0;
    for (size_t i = 0; i < COUNT(blocks); i++) {
        if (blocks[i] != NULL) {
            assert_true(pattern_holds(blocks[i], sizes[i], (unsigned)i));
            assert_int_equal(allot_arena_free(arena, blocks[i]), 0);
        }
    }
    assert_int_equal(allot_arena_check(arena), 0);
    allot_arena_trim(arena, 0);
    allot_arena_destroy(arena);
    *done = all;
}

static void each_call_to_the_os_may_fail(void **state)
{
    (void)state;
    allot_backend *(*const make[])(void) = {allot_backend_heap, new_mmap, new_virt, new_own_pieces};
    for (size_t i = 0; i < COUNT(make); i++) {
        for (size_t k = 1;; k++) {
            bool done;
            allot_backend *backend = make[i]();
            fake_fail(FAKE_ANY, k, 1);
            work_as_far_as_it_goes(backend, &done);
            size_t failures = fake_failures();
            fake_fail(FAKE_ANY, 1, 0);
            assert_int_equal(allot_backend_destroy(backend), 0);
            if (failures == 0) {
                assert_true(done);
                break;
            }
            assert_true(k < 10000);
        }
    }
}

/* From the k-th on all fail: then it must still be possible to free and to destroy. */
static void from_some_call_on_the_os_may_fail(void **state)
{
    (void)state;
    allot_backend *(*const make[])(void) = {allot_backend_heap, new_own_pieces};
    for (size_t i = 0; i < COUNT(make); i++) {
        for (size_t k = 1; k < 60; k++) {
            bool done;
            allot_backend *backend = make[i]();
            fake_fail(FAKE_ANY, k, SIZE_MAX);
            work_as_far_as_it_goes(backend, &done);
            fake_fail(FAKE_ANY, 1, 0);
            assert_int_equal(allot_backend_destroy(backend), 0);
        }
    }
}

int main(void)
{
    int failed = 0;
    const struct CMUnitTest alone[] = {cmocka_unit_test(neither_heap_nor_os_are_asked)};
    const struct CMUnitTest refused[] = {
        cmocka_unit_test(each_call_to_the_os_may_fail),
        cmocka_unit_test(from_some_call_on_the_os_may_fail),
    };
    for (shape = shapes; shape < shapes + ALL_SHAPES; shape++) {
        if (shape->kind != ALLOT_ARENA_SCRATCH) { /* which goes on in the heap */
            failed += cmocka_run_group_tests(alone, NULL, NULL);
        }
    }
    for (shape = shapes; shape < shapes + ALL_SHAPES; shape++) {
        if (shape->kind != ALLOT_ARENA_SCRATCH) {
            failed += cmocka_run_group_tests(refused, NULL, NULL);
        }
    }
    return failed;
}
