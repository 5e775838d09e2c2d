/* SPDX-License-Identifier: MIT */
/* arena_lifetimes.c - reset, marks, nested arenas, cleanup functions, limits, seals. */
#include "arena_test.h"

#include <errno.h>

static unsigned calls[8];
static unsigned n_calls;

static void note_call(void *number)
{
    calls[n_calls++ % COUNT(calls)] = (unsigned)(uintptr_t)number;
}

static void *numbered(unsigned number)
{
    return (void *)(uintptr_t)number;
}

static void forget_calls(void)
{
    n_calls = 0;
}

/* ---- marks ----------------------------------------------------------------------------------------------------- */

static void rewinding_frees_what_came_since(void **state)
{
    (void)state;
    struct made made = make_arena(2 * KIB);
    allot_mark mark;
    unsigned char *kept = allot_arena_malloc(made.arena, 100);
    pattern_fill(kept, 100, 1);
    assert_int_equal(allot_arena_mark(made.arena, &mark), 0);
    size_t before = allot_arena_free_bytes(made.arena);
    void *first = NULL;
    for (unsigned round = 0; round < 5; round++) {
        void *block = allot_bump_malloc(made.arena, 64);
        assert_true(first == NULL || block == first);
        first = block;
        for (unsigned i = 0; i < 10; i++) {
            void *more = allot_arena_calloc(made.arena, 10, 10);
            assert_non_null(more);
            assert_true(all_zero(more, 100));
            memset(more, 0xdd, 100);
        }
        assert_int_equal(allot_arena_rewind(made.arena, &mark), 0);
        assert_int_equal(allot_arena_free_bytes(made.arena), before);
        assert_true(pattern_holds(kept, 100, 1));
        assert_int_equal(allot_arena_check(made.arena), 0);
    }
    unmake(&made);
}

static void marks_work_across_pieces(void **state)
{
    (void)state;
    struct made made = make_arena(0);
    allot_mark at_start;
    allot_mark marks[20];
    unsigned char *blocks[20];
    assert_int_equal(allot_arena_mark(made.arena, &at_start), 0);
    for (size_t i = 0; i < COUNT(marks); i++) {
        blocks[i] = allot_arena_malloc(made.arena, 3000 * (i + 1));
        pattern_fill(blocks[i], 3000 * (i + 1), (unsigned)i);
        assert_int_equal(allot_arena_mark(made.arena, &marks[i]), 0);
    }
    for (size_t i = COUNT(marks) - 1; i > 0; i--) {
        assert_int_equal(allot_arena_rewind(made.arena, &marks[i - 1]), 0);
        for (size_t j = 0; j < i; j++) {
            assert_true(pattern_holds(blocks[j], 3000 * (j + 1), (unsigned)j));
        }
        unsigned char *again = allot_arena_malloc(made.arena, 3000);
        memset(again, 0xee, 3000);
        assert_int_equal(allot_arena_rewind(made.arena, &marks[i - 1]), 0); /* a mark can be used again */
    }
    assert_int_equal(allot_arena_rewind(made.arena, &at_start), 0);
    assert_arena_is_whole(&made);
    unmake(&made);
}

static void stale_marks_are_refused(void **state)
{
    (void)state;
    struct made made = make_arena(4 * KIB);
    allot_mark a, b, c;
    assert_non_null(allot_arena_malloc(made.arena, 10));
    assert_int_equal(allot_arena_mark(made.arena, &a), 0);
    assert_non_null(allot_arena_malloc(made.arena, 100));
    assert_int_equal(allot_arena_mark(made.arena, &b), 0);
    assert_int_equal(allot_arena_rewind(made.arena, &a), 0);
    assert_int_equal(allot_arena_rewind(made.arena, &b), EINVAL); /* behind one that was rewound to */
    assert_non_null(allot_arena_malloc(made.arena, 200));
    assert_int_equal(allot_arena_rewind(made.arena, &b), EINVAL);
    assert_int_equal(allot_arena_mark(made.arena, &c), 0);
    assert_non_null(allot_arena_malloc(made.arena, 50));
    assert_int_equal(allot_arena_rewind(made.arena, &c), 0);
    assert_int_equal(allot_arena_rewind(made.arena, &b), EINVAL); /* still */
    assert_int_equal(allot_arena_rewind(made.arena, &a), 0);
    assert_int_equal(allot_arena_rewind(made.arena, &c), EINVAL);
    assert_int_equal(allot_arena_reset(made.arena), 0);
    assert_int_equal(allot_arena_rewind(made.arena, &a), EINVAL); /* made before a reset */
    unmake(&made);
}

static void a_mark_of_another_arena_is_refused(void **state)
{
    (void)state;
    struct made made = make_arena(4 * KIB);
    allot_arena *other;
    allot_mark mark;
    assert_int_equal(allot_arena_create(4 * KIB, NULL, &other), 0);
    assert_int_equal(allot_arena_mark(other, &mark), ENOTSUP); /* a general arena */
    allot_arena_destroy(other);
    allot_arena_options options = ALLOT_ARENA_OPTIONS_INIT;
    options.kind = ALLOT_ARENA_BUMP;
    assert_int_equal(allot_arena_create(4 * KIB, &options, &other), 0);
    assert_non_null(allot_arena_malloc(other, 10));
    assert_int_equal(allot_arena_mark(other, &mark), 0);
    assert_int_equal(allot_arena_rewind(made.arena, &mark), EINVAL);
    allot_arena_destroy(other);
    unmake(&made);
}

static void rewinding_runs_what_was_added_since(void **state)
{
    (void)state;
    struct made made = make_arena(4 * KIB);
    allot_mark mark;
    allot_arena *before, *since;
    allot_arena_options below = ALLOT_ARENA_OPTIONS_INIT;
    below.parent = made.arena;
    forget_calls();
    assert_int_equal(allot_arena_create(100, &below, &before), 0);
    assert_int_equal(allot_arena_cleanup_add(made.arena, note_call, numbered(1)), 0);
    assert_int_equal(allot_arena_mark(made.arena, &mark), 0);
    assert_int_equal(allot_arena_cleanup_add(made.arena, note_call, numbered(2)), 0);
    assert_int_equal(allot_arena_create(100, &below, &since), 0);
    assert_int_equal(allot_arena_cleanup_add(since, note_call, numbered(3)), 0);
    assert_int_equal(allot_arena_cleanup_add(made.arena, note_call, numbered(4)), 0);
    assert_int_equal(allot_arena_rewind(made.arena, &mark), 0);
    assert_int_equal(n_calls, 3);
    assert_true(calls[0] == 3 && calls[1] == 4 && calls[2] == 2);
    allot_arena_report report = ALLOT_ARENA_REPORT_INIT;
    assert_int_equal(allot_arena_stats(made.arena, &report), 0);
    assert_int_equal(report.n_children, 1);
    assert_int_equal(report.n_cleanups, 1);
    assert_ptr_equal(allot_arena_parent(before), made.arena);
    unmake(&made);
    assert_int_equal(n_calls, 4);
    assert_int_equal(calls[3], 1);
}

/* ---- nested arenas and cleanup functions ------------------------------------------------------------------------- */

static allot_arena *child_of(allot_arena *parent, const char *name)
{
    allot_arena_options options = ALLOT_ARENA_OPTIONS_INIT;
    allot_arena *child = NULL;
    options.parent = parent;
    options.name = name;
    options.on_error = catch_misuse;
    assert_int_equal(allot_arena_create(KIB, &options, &child), 0);
    return child;
}

static int count_arena(allot_arena *arena, unsigned depth, void *context)
{
    unsigned *counts = context;
    (void)arena;
    counts[depth]++;
    return 0;
}

static void children_die_with_their_parent_first(void **state)
{
    (void)state;
    struct made made = make_arena(4 * KIB);
    allot_arena *child = child_of(made.arena, "child");
    allot_arena *grandchild = child_of(child, "grandchild");
    char *block = allot_arena_malloc(grandchild, 100);
    unsigned counts[8] = {0};
    forget_calls();
    assert_int_equal(allot_arena_cleanup_add(made.arena, note_call, numbered(1)), 0);
    assert_int_equal(allot_arena_cleanup_add(child, note_call, numbered(2)), 0);
    assert_int_equal(allot_arena_cleanup_add(grandchild, note_call, numbered(3)), 0);
    assert_ptr_equal(allot_arena_find(block), grandchild);
    assert_int_equal(allot_arena_each(count_arena, counts), 0);
    assert_true(counts[0] >= 1 && counts[1] == 1 && counts[2] == 1);
    unmake(&made);
    assert_int_equal(n_calls, 3);
    assert_true(calls[0] == 3 && calls[1] == 2 && calls[2] == 1);
    assert_null(allot_arena_find(block));
}

static void reset_ends_children_and_runs_cleanups(void **state)
{
    (void)state;
    struct made made = make_arena(4 * KIB);
    forget_calls();
    for (unsigned i = 1; i <= 4; i++) {
        assert_int_equal(allot_arena_cleanup_add(made.arena, note_call, numbered(i)), 0);
    }
    assert_int_equal(allot_arena_cleanup_cancel(made.arena, note_call, numbered(2)), 0);
    assert_int_equal(allot_arena_cleanup_cancel(made.arena, note_call, numbered(2)), ENOENT);
    child_of(made.arena, "child");
    assert_int_equal(allot_arena_reset(made.arena), 0);
    assert_true(n_calls == 3 && calls[0] == 4 && calls[1] == 3 && calls[2] == 1);
    allot_arena_report report = ALLOT_ARENA_REPORT_INIT;
    allot_arena_stats(made.arena, &report);
    assert_true(report.n_children == 0 && report.n_cleanups == 0);
    unmake(&made);
    assert_int_equal(n_calls, 3); /* once each */
}

static void a_child_can_move(void **state)
{
    (void)state;
    struct made made = make_arena(4 * KIB);
    allot_arena *other = child_of(NULL, "other");
    allot_arena *child = child_of(made.arena, "child");
    allot_arena *grandchild = child_of(child, "grandchild");
    char *block = allot_arena_strdup(grandchild, "stays");
    assert_int_equal(allot_arena_move(child, grandchild), EINVAL);
    assert_int_equal(allot_arena_move(child, child), EINVAL);
    assert_int_equal(allot_arena_move(child, other), 0);
    assert_ptr_equal(allot_arena_parent(child), other);
    unmake(&made);
    assert_string_equal(block, "stays");
    assert_int_equal(allot_arena_check(grandchild), 0);
    assert_int_equal(allot_arena_move(grandchild, NULL), 0);
    assert_null(allot_arena_parent(grandchild));
    allot_arena_destroy(other);
    assert_string_equal(block, "stays");
    allot_arena_destroy(grandchild);
}

static allot_arena *cleaned;

static void use_the_arena(void *block)
{
    assert_string_equal(block, "still there");
    void *more = allot_arena_malloc(cleaned, 10);
    assert_true(more == NULL || allot_arena_contains(cleaned, more));
    n_calls++;
}

static void a_cleanup_may_use_the_arena(void **state)
{
    (void)state;
    struct made made = make_arena(4 * KIB);
    cleaned = made.arena;
    forget_calls();
    assert_int_equal(allot_arena_cleanup_add(made.arena, use_the_arena, allot_arena_strdup(cleaned, "still there")), 0);
    assert_int_equal(allot_arena_reset(made.arena), 0);
    assert_int_equal(n_calls, 1);
    assert_int_equal(allot_arena_cleanup_add(made.arena, use_the_arena, allot_arena_strdup(cleaned, "still there")), 0);
    unmake(&made);
    assert_int_equal(n_calls, 2);
}

static void cleanups_in_books_are_as_many_as_asked_for(void **state)
{
    (void)state;
    if (!ground->has_books) {
        return;
    }
    struct made made = make_arena(4 * KIB); /* with 8 */
    forget_calls();
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 8; i++) {
            assert_int_equal(allot_arena_cleanup_add(made.arena, note_call, NULL), 0);
        }
        assert_int_equal(allot_arena_cleanup_add(made.arena, note_call, NULL), ENOMEM);
        assert_int_equal(allot_arena_reset(made.arena), 0);
        assert_int_equal(n_calls, 8 * (round + 1));
    }
    unmake(&made);
}

static void an_arena_has_a_name_and_a_place(void **state)
{
    (void)state;
    allot_arena_options options = ALLOT_ARENA_OPTIONS_INIT;
    allot_arena *arena;
    allot_arena_report report = ALLOT_ARENA_REPORT_INIT;
    int line = options.line;
    char expected[64];
    assert_int_equal(allot_arena_create(0, &options, &arena), 0);
    snprintf(expected, sizeof expected, "arena_lifetimes.c:%d", line);
    assert_string_equal(allot_arena_name(arena), expected);
    assert_int_equal(allot_arena_stats(arena, &report), 0);
    assert_string_equal(report.name, expected);
    assert_string_equal(report.file, __FILE__);
    assert_int_equal(report.line, line);
    assert_int_equal(report.protection, -1);
    assert_true(report.sealed == 0 && report.released == 0 && report.parent == NULL);
    allot_arena_destroy(arena);
    options.name = "a name of more than thirty-one characters is cut";
    assert_int_equal(allot_arena_create(0, &options, &arena), 0);
    assert_string_equal(allot_arena_name(arena), "a name of more than thirty-one ");
    allot_arena_destroy(arena);
}

/* ---- limits ----------------------------------------------------------------------------------------------------- */

static unsigned n_told;
static size_t told_bytes;

static void tell(allot_arena *arena, size_t bytes, void *context)
{
    assert_ptr_equal(context, &n_told);
    assert_true(allot_arena_size(arena) > 0); /* may ask */
    n_told++;
    told_bytes = bytes;
}

static void limits_are_kept_by_step(void **state)
{
    (void)state;
    struct made made;
    allot_arena_options options = shape_options();
    options.soft_limit = MIB;
    options.hard_limit = 2 * MIB;
    options.on_soft_limit = tell;
    options.context = &n_told;
    make_arena_with(&made, 0, options);
    n_told = 0;
    size_t taken = 0;
    while (allot_arena_malloc(made.arena, 10000) != NULL) {
        taken += 10000;
        assert_int_equal(n_told, allot_arena_size(made.arena) > MIB ? 1 : 0);
    }
    assert_int_equal(errno, ENOMEM);
    assert_true(allot_arena_size(made.arena) <= 2 * MIB);
    assert_true(taken > MIB); /* not far from the limit */
    assert_true(told_bytes > MIB && told_bytes <= 2 * MIB);
    assert_int_equal(allot_arena_set_limits(made.arena, 3 * MIB, 2 * MIB), EINVAL);
    assert_int_equal(allot_arena_set_limits(made.arena, 0, 0), 0);
    assert_non_null(allot_arena_malloc(made.arena, 3 * MIB));
    assert_int_equal(n_told, 1);
    unmake(&made);
}

static void a_parents_limit_counts_all_below_it(void **state)
{
    (void)state;
    allot_arena_options options = ALLOT_ARENA_OPTIONS_INIT;
    allot_arena *parent;
    options.hard_limit = MIB;
    assert_int_equal(allot_arena_create(KIB, &options, &parent), 0);
    allot_arena *one = child_of(parent, "one");
    allot_arena *two = child_of(one, "two");
    assert_non_null(allot_arena_malloc(one, 400 * KIB));
    assert_non_null(allot_arena_malloc(two, 400 * KIB));
    assert_null(allot_arena_malloc(two, 400 * KIB));
    assert_null(allot_arena_malloc(parent, 400 * KIB));
    allot_arena_report report = ALLOT_ARENA_REPORT_INIT;
    allot_arena_stats(parent, &report);
    assert_true(report.total_bytes > 800 * KIB && report.total_bytes <= MIB);
    assert_int_equal(allot_arena_move(two, NULL), 0);
    assert_non_null(allot_arena_malloc(two, 400 * KIB));
    assert_non_null(allot_arena_malloc(one, 400 * KIB));
    assert_int_equal(allot_arena_move(two, parent), ENOMEM);
    assert_null(allot_arena_parent(two));
    allot_arena_destroy(one);
    allot_arena_stats(parent, &report);
    assert_true(report.total_bytes < 64 * KIB); /* what died counts no more */
    allot_arena_destroy(two);
    allot_arena_destroy(parent);
}

/* ---- scratch ----------------------------------------------------------------------------------------------------- */

static void scratch_goes_on_in_the_heap(void **state)
{
    (void)state;
    char buffer[512];
    allot_arena_options options = shape_options();
    options.kind = ALLOT_ARENA_SCRATCH;
    allot_arena *arena;
    assert_int_equal(allot_arena_create_at(buffer, sizeof buffer, &options, &arena), 0);
    char *first = allot_bump_malloc(arena, 256);
    assert_true(first >= buffer && first + 256 <= buffer + sizeof buffer);
    char *second = allot_bump_malloc(arena, 1000);
    assert_true(second != NULL && (second < buffer || second >= buffer + sizeof buffer));
    assert_true(allot_arena_contains(arena, first) && allot_arena_contains(arena, second));
    assert_int_equal(allot_arena_reset(arena), 0);
    assert_ptr_equal(allot_bump_malloc(arena, 256), first); /* the buffer first, again */
    allot_arena_destroy(arena);
}

int main(void)
{
    int failed = 0;
    const struct CMUnitTest bump[] = {
        cmocka_unit_test(rewinding_frees_what_came_since),
        cmocka_unit_test(stale_marks_are_refused),
        cmocka_unit_test(a_mark_of_another_arena_is_refused),
        cmocka_unit_test(rewinding_runs_what_was_added_since),
    };
    const struct CMUnitTest growing_bump[] = {cmocka_unit_test(marks_work_across_pieces)};
    const struct CMUnitTest every[] = {
        cmocka_unit_test(children_die_with_their_parent_first),
        cmocka_unit_test(reset_ends_children_and_runs_cleanups),
        cmocka_unit_test(a_child_can_move),
        cmocka_unit_test(a_cleanup_may_use_the_arena),
        cmocka_unit_test(cleanups_in_books_are_as_many_as_asked_for),
    };
    const struct CMUnitTest growing[] = {cmocka_unit_test(limits_are_kept_by_step)};
    const struct CMUnitTest once[] = {
        cmocka_unit_test(an_arena_has_a_name_and_a_place),
        cmocka_unit_test(a_parents_limit_counts_all_below_it),
        cmocka_unit_test(scratch_goes_on_in_the_heap),
    };
    run_on_every(bump, 0, 0, GENERAL_SHAPES, BUMP_SHAPES);
    run_on_every(growing_bump, CAN_GROW, 0, GENERAL_SHAPES, BUMP_SHAPES);
    run_on_every(every, 0, 0, 0, ALL_SHAPES);
    run_on_every(growing, CAN_GROW, 0, 0, ALL_SHAPES);
    failed += cmocka_run_group_tests(once, NULL, NULL);
    return failed;
}
