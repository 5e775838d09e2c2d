/* SPDX-License-Identifier: MIT */
/* arena_growth.c - arenas that grow, on every backend that can: pointers stay good, all pieces are used, what is empty
 * goes back. */
#include "arena_test.h"

#include <errno.h>

static size_t n_segments(const struct made *made)
{
    allot_arena_report report = ALLOT_ARENA_REPORT_INIT;
    assert_int_equal(allot_arena_stats(made->arena, &report), 0);
    return report.n_segments;
}

static void it_grows_when_full(void **state)
{
    (void)state;
    struct made made = make_arena(4 * KIB);
    size_t full = allot_arena_free_bytes(made.arena);
    unsigned char *first = allot_arena_malloc(made.arena, full);
    assert_non_null(first);
    pattern_fill(first, full, 1);
    size_t before = allot_arena_size(made.arena);
    unsigned char *second = allot_arena_malloc(made.arena, 100);
    assert_non_null(second);
    pattern_fill(second, 100, 2);
    assert_true(allot_arena_size(made.arena) > before);
    assert_true(pattern_holds(first, full, 1)); /* where it was, as it was */
    assert_true(allot_arena_contains(made.arena, first + full - 1) && allot_arena_contains(made.arena, second));
    unmake(&made);
}

static void it_grows_from_nothing_for_one_large_block(void **state)
{
    (void)state;
    struct made made = make_arena(0);
    assert_int_equal(allot_arena_size(made.arena), 0);
    assert_int_equal(allot_arena_capacity(made.arena), 0);
    assert_int_equal(allot_arena_contains(made.arena, &made), 0);
    unsigned char *block = allot_arena_malloc(made.arena, MIB + 1);
    assert_non_null(block);
    touch_ends(block, MIB + 1);
    assert_true(allot_arena_capacity(made.arena) > MIB);
    assert_int_equal(allot_arena_reset(made.arena), 0);
    unmake(&made);
    made = make_arena(256);
    block = allot_arena_memalign(made.arena, 64 * KIB, 128 * KIB);
    assert_non_null(block);
    assert_true(is_aligned(block, 64 * KIB));
    touch_ends(block, 128 * KIB);
    unmake(&made);
}

/* Much is free, but in pieces that are too small. */
static void it_grows_when_fragmented(void **state)
{
    (void)state;
    enum { N = 128 };
    unsigned char *blocks[N];
    struct made made = make_arena(N * 64);
    for (size_t i = 0; i < N; i++) {
        blocks[i] = allot_arena_malloc(made.arena, 64);
        assert_non_null(blocks[i]);
        pattern_fill(blocks[i], 64, (unsigned)i);
    }
    for (size_t i = 0; i < N; i += 2) {
        allot_arena_free(made.arena, blocks[i]);
    }
    unsigned char *large = allot_arena_malloc(made.arena, 16 * KIB);
    assert_non_null(large);
    memset(large, 0xff, 16 * KIB);
    for (size_t i = 1; i < N; i += 2) {
        assert_true(pattern_holds(blocks[i], 64, (unsigned)i));
        assert_int_equal(allot_arena_contains(made.arena, blocks[i]), 1);
    }
    assert_int_equal(allot_arena_check(made.arena), 0);
    unmake(&made);
}

static void it_grows_many_times(void **state)
{
    (void)state;
    enum { N = 60 };
    unsigned char *blocks[N];
    struct made made = make_arena(64);
    for (size_t i = 0; i < N; i++) {
        blocks[i] = allot_arena_malloc(made.arena, 300 * (i + 1));
        assert_non_null(blocks[i]);
        pattern_fill(blocks[i], 300 * (i + 1), (unsigned)i);
        assert_int_equal(allot_arena_check(made.arena), 0);
    }
    for (size_t i = 0; i < N; i++) {
        assert_true(pattern_holds(blocks[i], 300 * (i + 1), (unsigned)i));
    }
    for (size_t i = 0; i < N && shape->kind == ALLOT_ARENA_GENERAL; i++) {
        assert_int_equal(allot_arena_free(made.arena, blocks[i * 7 % N]), 0);
    }
    if (shape->kind == ALLOT_ARENA_GENERAL) {
        assert_arena_is_whole(&made);
    }
    unmake(&made);
}

static void it_grows_while_blocks_come_and_go(void **state)
{
    (void)state;
    enum { N = 500 };
    unsigned char *blocks[N] = {NULL};
    size_t sizes[N];
    uint64_t random = 17;
    struct made made = make_arena(100);
    for (unsigned round = 0; round < 5000; round++) {
        size_t i = random_below(&random, N);
        if (blocks[i] != NULL) {
            assert_true(pattern_holds(blocks[i], sizes[i], (unsigned)i));
            assert_int_equal(allot_arena_free(made.arena, blocks[i]), 0);
            blocks[i] = NULL;
            continue;
        }
        sizes[i] = 1 + random_below(&random, random_below(&random, 30) == 0 ? 20000 : 500);
        blocks[i] = allot_arena_malloc(made.arena, sizes[i]);
        assert_non_null(blocks[i]);
        pattern_fill(blocks[i], sizes[i], (unsigned)i);
    }
    assert_int_equal(allot_arena_check(made.arena), 0);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(allot_arena_free(made.arena, blocks[i]), 0);
    }
    assert_arena_is_whole(&made);
    unmake(&made);
}

/* What becomes free in the oldest piece is used again, though there are newer ones. */
static void no_piece_is_stranded(void **state)
{
    (void)state;
    struct made made = make_arena(16 * KIB);
    size_t first_bytes = allot_arena_free_bytes(made.arena) / 2 / WORD * WORD;
    void *first = allot_arena_malloc(made.arena, first_bytes);
    void *wall = allot_arena_malloc(made.arena, 16);
    for (size_t i = 0; i < 100; i++) {
        assert_non_null(allot_arena_malloc(made.arena, 5000));
    }
    stop_growth(&made);
    while (allot_arena_malloc(made.arena, 16) != NULL) {
    }
    size_t stats_before = allot_arena_free_bytes(made.arena);
    assert_int_equal(stats_before, 0);
    assert_int_equal(allot_arena_free(made.arena, first), 0);
    assert_int_equal(allot_arena_free_bytes(made.arena), first_bytes); /* it is counted */
    void *again = allot_arena_malloc(made.arena, first_bytes);
    assert_ptr_equal(again, first);
    (void)wall;
    unmake(&made);
}

/* 16 MiB by blocks of 1,000 bytes: the backend is asked some dozen times, not thousands. */
static void growth_is_geometric(void **state)
{
    (void)state;
    allot_backend *failing;
    allot_backend *inner = ground->backend();
    allot_arena_options options = shape_options();
    assert_int_equal(allot_backend_failing(inner, &failing), 0);
    allot_backend_fail(failing, ALLOT_BACKEND_GROW, 60, SIZE_MAX, ENOMEM); /* the 60th call is one too many */
    options.backend = failing;
    struct made made = {.backend = failing};
    assert_int_equal(allot_arena_create(0, &options, &made.arena), 0);
    for (size_t bytes = 0; bytes < 16 * MIB; bytes += 1000) {
        assert_non_null(allot_arena_malloc(made.arena, 1000));
    }
    assert_int_equal(allot_backend_failures(failing), 0);
    assert_true(allot_arena_size(made.arena) < 40 * MIB); /* and not more than its share in advance */
    allot_arena_destroy(made.arena);
    assert_int_equal(allot_backend_destroy(failing), 0);
    if (ground->backend != allot_backend_heap) {
        assert_int_equal(allot_backend_destroy(inner), 0);
    }
}

static void an_empty_piece_goes_back(void **state)
{
    (void)state;
    enum { N = 40 };
    char *blocks[N];
    struct made made = make_arena(0);
    for (size_t i = 0; i < N; i++) {
        blocks[i] = allot_arena_malloc(made.arena, 100 * KIB);
        assert_non_null(blocks[i]);
        memset(blocks[i], 0xaa, 100 * KIB);
    }
    size_t full = allot_arena_size(made.arena);
    assert_int_equal(allot_arena_contains(made.arena, blocks[0]), 1);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(allot_arena_free(made.arena, blocks[i]), 0);
    }
    assert_int_equal(n_segments(&made), 1); /* the last may stay for what comes next */
    assert_true(allot_arena_size(made.arena) <= full);
    assert_arena_is_whole(&made);
    assert_true(allot_arena_trim(made.arena, 0) > 0);
    assert_int_equal(allot_arena_size(made.arena), 0);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(allot_arena_contains(made.arena, blocks[i]), 0); /* out of it when drained */
        assert_ptr_equal(allot_arena_find(blocks[i]), NULL);
    }
    assert_non_null(allot_arena_malloc(made.arena, 100));
    unmake(&made);
}

static void what_is_kept_is_kept(void **state)
{
    (void)state;
    struct made made;
    allot_arena_options options = shape_options();
    options.keep_bytes = 64 * MIB;
    make_arena_with(&made, 0, options);
    void *blocks[20];
    for (size_t i = 0; i < COUNT(blocks); i++) {
        blocks[i] = allot_arena_malloc(made.arena, 50 * KIB);
        assert_non_null(blocks[i]);
    }
    size_t full = allot_arena_size(made.arena);
    for (size_t i = 0; i < COUNT(blocks); i++) {
        allot_arena_free(made.arena, blocks[i]);
    }
    assert_int_equal(allot_arena_size(made.arena), full);
    assert_true(allot_arena_trim(made.arena, 0) > 0);
    assert_true(allot_arena_size(made.arena) < full);
    unmake(&made);
}

/* ---- pages of an idle end -------------------------------------------------------------------------------------- */

static size_t resident_bytes(const void *begin, size_t bytes)
{
    static unsigned char there[64 * 1024];
    size_t sum = 0;
    uintptr_t first = (uintptr_t)begin / PAGE * PAGE;
    size_t n = ((uintptr_t)begin + bytes - first + PAGE - 1) / PAGE;
    assert_true(n <= sizeof there);
    assert_int_equal(mincore((void *)first, n * PAGE, there), 0);
    for (size_t i = 0; i < n; i++) {
        sum += (there[i] & 1u) != 0 ? PAGE : 0;
    }
    return sum;
}

static void the_idle_end_is_decommitted(void **state)
{
    (void)state;
#ifdef ALLOT_TEST_OS_POSIX
    if (ground->backend == new_shared_mmap) {
        return; /* POSIX knows no way to drop pages that others see */
    }
#endif
    for (int by_trim = 0; by_trim < 2; by_trim++) {
        struct made made = make_arena(32 * MIB);
        char *small = allot_arena_calloc(made.arena, 1, 100);
        char *large = allot_arena_malloc(made.arena, 24 * MIB);
        memset(large, 0x11, 24 * MIB);
        char *low = small < large ? small : large;
        assert_true(resident_bytes(low, 24 * MIB) >= 23 * MIB);
        if (by_trim) {
            assert_int_equal(allot_arena_reset(made.arena), 0);
            assert_true(allot_arena_trim(made.arena, 0) >= 23 * MIB);
        } else {
            assert_int_equal(allot_arena_free(made.arena, large), 0);
        }
        assert_true(allot_arena_size(made.arena) == 0 || resident_bytes(low, 24 * MIB) <= 2 * MIB);
        char *again = allot_arena_calloc(made.arena, 1, 24 * MIB);
        assert_non_null(again);
        assert_true(all_zero(again, 24 * MIB));
        unmake(&made);
    }
}

static void bump_uses_all_its_pieces_after_a_reset(void **state)
{
    (void)state;
    struct made made = make_arena(1000);
    for (size_t i = 0; i < 2000; i++) {
        assert_non_null(allot_bump_malloc(made.arena, 500));
    }
    stop_growth(&made);
    for (unsigned round = 0; round < 3; round++) {
        assert_int_equal(allot_arena_reset(made.arena), 0);
        assert_arena_is_whole(&made);
        for (size_t i = 0; i < 2000; i++) {
            assert_non_null(allot_bump_malloc(made.arena, 500));
        }
    }
    assert_int_equal(allot_arena_reset(made.arena), 0);
    unmake(&made);
}

int main(void)
{
    int failed = 0;
    const struct CMUnitTest every[] = {
        cmocka_unit_test(it_grows_when_full),
        cmocka_unit_test(it_grows_from_nothing_for_one_large_block),
        cmocka_unit_test(it_grows_many_times),
        cmocka_unit_test(growth_is_geometric),
    };
    const struct CMUnitTest general[] = {
        cmocka_unit_test(it_grows_when_fragmented),
        cmocka_unit_test(it_grows_while_blocks_come_and_go),
        cmocka_unit_test(no_piece_is_stranded),
    };
    const struct CMUnitTest releasing[] = {
        cmocka_unit_test(an_empty_piece_goes_back),
        cmocka_unit_test(what_is_kept_is_kept),
    };
    const struct CMUnitTest paged[] = {cmocka_unit_test(the_idle_end_is_decommitted)};
    const struct CMUnitTest bump[] = {cmocka_unit_test(bump_uses_all_its_pieces_after_a_reset)};
    run_on_every(every, CAN_GROW, 0, 0, ALL_SHAPES);
    run_on_every(general, CAN_GROW, 0, 0, GENERAL_SHAPES);
    run_on_every(releasing, CAN_GROW | CAN_RELEASE, 0, 0, GENERAL_SHAPES);
    run_on_every(paged, CAN_PROTECT, 0, 0, 1);
    run_on_every(bump, CAN_GROW, 0, GENERAL_SHAPES, BUMP_SHAPES);
    return failed;
}
