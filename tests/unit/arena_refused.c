/* SPDX-License-Identifier: MIT */
/* arena_refused.c - a backend whose k-th call fails, for each kind of call, each k and each backend beneath: the arena
 * stays whole, says so, and goes on when the backend does. */
#include "arena_test.h"

#include <errno.h>

enum { STRANGE_ERROR = EILSEQ };

struct work {
    allot_arena *arena;
    unsigned char *blocks[60];
    size_t sizes[60];
    unsigned n_failed;
};

static void work_step(struct work *work, size_t i, size_t bytes)
{
    if (work->blocks[i] != NULL) {
        assert_true(pattern_holds(work->blocks[i], work->sizes[i], (unsigned)i));
        int error = allot_arena_free(work->arena, work->blocks[i]);
        assert_int_equal(error, 0); /* freeing can't fail, whatever the backend says */
        work->blocks[i] = NULL;
    } else {
        void *out = work;
        int error = allot_arena_alloc(work->arena, bytes, &out);
        assert_true(error == 0 || error == STRANGE_ERROR || error == ENOMEM); /* the backend's error, unchanged */
        assert_true(error == 0 || out == work);
        work->n_failed += error != 0;
        if (error == 0) {
            work->blocks[i] = out;
            work->sizes[i] = bytes;
            pattern_fill(out, bytes, (unsigned)i);
        }
    }
    assert_int_equal(allot_arena_check(work->arena), 0);
}

static void work_through(struct work *work)
{
    uint64_t random = 5;
    for (unsigned round = 0; round < 250; round++) {
        size_t i = random_below(&random, COUNT(work->blocks));
        work_step(work, i, 1 + random_below(&random, round % 10 == 0 ? 60000 : 3000));
    }
    for (size_t i = 0; i < COUNT(work->blocks); i++) {
        if (work->blocks[i] != NULL) {
            work_step(work, i, 0);
        }
    }
    allot_arena_trim(work->arena, 0);
    assert_int_equal(allot_arena_check(work->arena), 0);
}

/* Returns whether any call failed on command. */
static bool run_with_failure(allot_backend *backend, allot_backend_call call, size_t k, size_t n)
{
    allot_arena_options options = shape_options();
    struct work work = {.arena = NULL};
    options.backend = backend;
    allot_backend_fail(backend, call, k, n, STRANGE_ERROR);
    int error = allot_arena_create(1000, &options, &work.arena);
    if (error != 0) {
        assert_int_equal(error, STRANGE_ERROR);
        assert_true(allot_backend_failures(backend) > 0);
        return true;
    }
    work_through(&work);
    bool failed = allot_backend_failures(backend) > 0;
    assert_true(failed || work.n_failed == 0);
    assert_true(work.n_failed == 0 || call == ALLOT_BACKEND_GROW || call == ALLOT_BACKEND_ANY);
    allot_backend_fail(backend, call, 1, 0, 0);
    assert_non_null(allot_arena_malloc(work.arena, 100 * KIB)); /* the backend is well again */
    allot_arena_destroy(work.arena);
    return failed;
}

static void the_kth_call_may_fail(void **state)
{
    (void)state;
    for (int call = ALLOT_BACKEND_GROW; call <= ALLOT_BACKEND_ANY; call++) {
        bool met = true;
        for (size_t k = 1; met; k++) {
            allot_backend *inner = ground->backend();
            allot_backend *failing;
            assert_int_equal(allot_backend_failing(inner, &failing), 0);
            met = run_with_failure(failing, (allot_backend_call)call, k, 1);
            assert_int_equal(allot_backend_destroy(failing), 0);
            assert_int_equal(allot_backend_destroy(inner), 0);
            assert_true(k < 1000);
        }
        allot_backend *inner = ground->backend();
        allot_backend *failing;
        assert_int_equal(allot_backend_failing(inner, &failing), 0);
        run_with_failure(failing, (allot_backend_call)call, 3, SIZE_MAX);
        assert_int_equal(allot_backend_destroy(failing), 0);
        assert_int_equal(allot_backend_destroy(inner), 0);
    }
}

static void a_refused_protection_is_told(void **state)
{
    (void)state;
    for (size_t k = 1; k <= 4; k++) {
        allot_backend *inner = ground->backend();
        allot_backend *failing;
        allot_arena *arena;
        allot_arena_options options = shape_options();
        assert_int_equal(allot_backend_failing(inner, &failing), 0);
        options.backend = failing;
        options.grow_bytes = 64 * KIB;
        assert_int_equal(allot_arena_create(PAGE, &options, &arena), 0);
        unsigned char *block = allot_arena_malloc(arena, 100);
        pattern_fill(block, 100, 1);
        allot_backend_fail(failing, ALLOT_BACKEND_PROTECT, k, SIZE_MAX, STRANGE_ERROR);
        int error = allot_arena_protect(arena, PROT_READ);
        assert_int_equal(error, k == 1 ? STRANGE_ERROR : 0);
        if (error == 0) { /* what comes later can't have it: then it doesn't come */
            void *out = NULL;
            int grown = 0;
            for (unsigned i = 0; i < 6 && grown == 0; i++) {
                grown = allot_arena_alloc(arena, 200 * KIB, &out);
            }
            assert_int_equal(grown, STRANGE_ERROR);
            assert_int_equal(allot_arena_check(arena), 0);
            allot_backend_fail(failing, ALLOT_BACKEND_PROTECT, 1, SIZE_MAX, STRANGE_ERROR);
            assert_int_equal(allot_arena_seal(arena), STRANGE_ERROR);
        }
        allot_backend_fail(failing, ALLOT_BACKEND_ANY, 1, 0, 0);
        assert_int_equal(allot_arena_protect(arena, PROT_READ | PROT_WRITE), 0);
        assert_true(pattern_holds(block, 100, 1));
        block[1] = 2;
        assert_non_null(allot_arena_malloc(arena, 200 * KIB));
        allot_arena_destroy(arena);
        assert_int_equal(allot_backend_destroy(failing), 0);
        assert_int_equal(allot_backend_destroy(inner), 0);
    }
}

static void only_what_was_ordered_fails(void **state)
{
    (void)state;
    allot_backend *failing;
    allot_arena_options options = shape_options();
    allot_arena *arena;
    assert_int_equal(allot_backend_failing(NULL, &failing), 0);
    options.backend = failing;
    allot_backend_fail(failing, ALLOT_BACKEND_GROW, 1, 3, EMFILE);
    assert_int_equal(allot_arena_create(0, &options, &arena), 0);
    for (unsigned i = 0; i < 3; i++) {
        errno = 0;
        assert_null(allot_arena_malloc(arena, MIB));
        assert_int_equal(errno, EMFILE);
    }
    assert_int_equal(allot_backend_failures(failing), 3);
    assert_non_null(allot_arena_malloc(arena, MIB));
    assert_int_equal(allot_backend_failures(failing), 3);
    assert_int_equal(allot_backend_failures(allot_backend_heap()), 0);
    allot_backend_fail(allot_backend_heap(), ALLOT_BACKEND_ANY, 1, SIZE_MAX, ENOMEM); /* no such backend: nothing */
    assert_non_null(allot_arena_malloc(arena, MIB));
    allot_arena_destroy(arena);
    assert_int_equal(allot_backend_destroy(failing), 0);
}

int main(void)
{
    int failed = 0;
    const struct CMUnitTest growing[] = {cmocka_unit_test(the_kth_call_may_fail)};
    const struct CMUnitTest protecting[] = {cmocka_unit_test(a_refused_protection_is_told)};
    const struct CMUnitTest once[] = {cmocka_unit_test(only_what_was_ordered_fails)};
    run_on_every(growing, CAN_GROW, 0, 0, 1);
    run_on_every(protecting, CAN_PROTECT, 0, 0, 1);
    failed += cmocka_run_group_tests(once, NULL, NULL);
    return failed;
}
