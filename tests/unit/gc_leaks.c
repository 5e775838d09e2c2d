/* SPDX-License-Identifier: MIT */
/* gc_leaks.c - what nothing points to is told by kind, and nothing else is. */
#include <allot/arena.h>
#include <allot/leak.h>

#include "gc.h"

#include <pthread.h>
#include <signal.h>

struct link {
    struct link *volatile next;
    char rest[56];
};

static void *volatile kept;

/* What the frames of earlier calls have left where the frames of the next ones come. */
__attribute__((noinline)) static void wipe_stack(void)
{
    volatile char left[4096];
    for (size_t i = 0; i < sizeof left; i++) {
        left[i] = 0;
    }
}

static allot_leak_report check(void)
{
    wipe_stack();
    allot_leak_report report = ALLOT_LEAK_REPORT_INIT;
    assert_int_equal(allot_leak_check(0, &report), 0);
    return report;
}

__attribute__((noinline)) static struct link *link_new(struct link *next)
{
    struct link *link = hide(malloc(sizeof *link));
    memset(link, 0, sizeof *link);
    link->next = next;
    return link;
}

/* What step does changes the counts by so much; nothing else of the test holds what it makes. */
static void expect_change(void (*step)(void), int definite, int indirect, int possible, int reachable)
{
    allot_leak_report before = check();
    step();
    allot_leak_report after = check();
    if (!EXACT) {
        return;
    }
    assert_int_equal((int)(after.definite.n - before.definite.n), definite);
    assert_int_equal((int)(after.indirect.n - before.indirect.n), indirect);
    assert_int_equal((int)(after.possible.n - before.possible.n), possible);
    assert_int_equal((int)(after.reachable.n - before.reachable.n), reachable);
}

__attribute__((noinline)) static void keep_a_chain(void)
{
    kept = link_new(link_new(link_new(NULL)));
}

__attribute__((noinline)) static void lose_the_chain(void)
{
    kept = NULL;
}

__attribute__((noinline)) static void lose_a_ring(void)
{
    struct link *first = link_new(NULL);
    first->next = link_new(link_new(first));
}

__attribute__((noinline)) static void keep_an_inner_address(void)
{
    kept = (char *)link_new(link_new(NULL)) + 16;
}

__attribute__((noinline)) static void lose_a_large_block_that_holds_another(void)
{
    void *volatile *large = malloc(40 << 20);
    large[1 << 20] = malloc(20000);
}

__attribute__((noinline)) static void lose_one_to_itself(void)
{
    struct link *link = link_new(NULL);
    link->next = link;
}

static void blocks_are_told_by_kind(void **state)
{
    (void)state;
    expect_change(keep_a_chain, 0, 0, 0, 3);
    expect_change(lose_the_chain, 1, 2, 0, -3);
    expect_change(lose_a_ring, 1, 2, 0, 0);
    expect_change(lose_one_to_itself, 1, 0, 0, 0);
    expect_change(keep_an_inner_address, 0, 0, 2, 0);
    expect_change(lose_the_chain, 1, 1, -2, 0);
    expect_change(lose_a_large_block_that_holds_another, 1, 1, 0, 0);
}

__attribute__((noinline)) static void lose_a_mapping(void)
{
    assert_ptr_not_equal(allot_gcmap(-1, 0, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS), MAP_FAILED);
}

static void lost_mappings_are_leaks_too(void **state)
{
    (void)state;
    /* The first one makes libc keep a block of its own, for fork. */
    void *first = allot_gcmap(-1, 0, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS);
    assert_int_equal(allot_gcmap_close(first), 0);
    expect_change(lose_a_mapping, 1, 0, 0, 0);
    assert_int_equal(collect(NULL), 0);
}

__attribute__((noinline)) static void keep_an_arena(void)
{
    allot_arena *arena = NULL;
    assert_int_equal(allot_arena_create(0, NULL, &arena), 0);
    for (int i = 0; i < 10; i++) {
        void *volatile *block = allot_arena_malloc(arena, 100);
        *block = link_new(NULL);
    }
    kept = arena;
}

/* An arena, what its blocks point to, and what it may have of the heap for its books. */
static void an_arena_is_one_thing(void **state)
{
    (void)state;
    allot_leak_report before = check();
    keep_an_arena();
    allot_leak_report with = check();
    lose_the_chain();
    allot_leak_report after = check();
    if (EXACT) {
        assert_int_equal(with.definite.n, before.definite.n);
        assert_in_range(with.reachable.n - before.reachable.n, 11, 14);
        assert_int_equal(after.definite.n, with.definite.n + 1);
        assert_in_range(after.indirect.n - with.indirect.n, 10, 13);
        assert_in_range(after.definite.bytes - with.definite.bytes, 1000, 1500);
        assert_int_equal(after.reachable.n, before.reachable.n);
    }
}

static void a_report_of_another_size_is_refused(void **state)
{
    (void)state;
    allot_leak_report report = ALLOT_LEAK_REPORT_INIT;
    report.abi_size++;
    assert_int_equal(allot_leak_check(0, &report), EINVAL);
    assert_int_equal(allot_leak_check(0, NULL), 0);
}

/* ---- at exit ------------------------------------------------------------------------------------------------ */

__attribute__((noinline)) static void lose_by_number(int n)
{
    for (int i = 0; i < n; i++) {
        memset(hide(malloc(3000)), 'L', 3000);
    }
}

__attribute__((noinline)) static void lose_large(void)
{
    memset(hide(malloc(3 << 20)), 'L', 3 << 20);
}

static void again(const char *options, const char *what)
{
    setenv("ALLOT_OPTIONS", options, 1);
    setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
    execl("/proc/self/exe", "again", what, (char *)NULL);
}

static void again_with_leaks(void *unused)
{
    (void)unused;
    again("leaks,leaks_code=9,sample_rate=0", "lose");
}

static void at_exit_the_loss_is_printed_and_told_by_code(void **state)
{
    (void)state;
    struct child child = child_run(again_with_leaks, NULL);
    assert_true(WIFEXITED(child.status));
    if (EXACT) {
        assert_int_equal(WEXITSTATUS(child.status), 9);
        assert_non_null(strstr(child.said, " bytes definitely lost in 5 times a 3072-byte block, the first at 0x"));
        assert_non_null(strstr(child.said, ": 0x4c4c4c4c4c4c4c4c 0x4c4c4c4c4c4c4c4c\n"));
        assert_non_null(strstr(child.said, "allot: leaks: definitely lost "));
    }
}

static void again_in_check_mode(void *what)
{
    again("check,leaks,leaks_code=9,symbols=off", what);
}

/* What check mode knows of blocks and of call stacks keeps no block. Where anything is mapped is another in each run,
 * and so is what looks like an address. */
static void in_check_mode_no_table_keeps_a_lost_block(void **state)
{
    (void)state;
    for (int i = 0; i < 3 && EXACT; i++) {
        struct child ring = child_run(again_in_check_mode, "ring");
        assert_int_equal(ring.status, 9 << 8);
        assert_non_null(strstr(ring.said, "allot: leak of 0x"));
        assert_non_null(strstr(ring.said, "64-byte"));
        struct child large = child_run(again_in_check_mode, "large");
        assert_int_equal(large.status, 9 << 8);
        assert_non_null(strstr(large.said, "3145728-byte"));
    }
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "ring") == 0) {
        lose_a_ring();
        wipe_stack();
        return 0;
    }
    if (argc > 1 && strcmp(argv[1], "large") == 0) {
        lose_large();
        wipe_stack();
        return 0;
    }
    if (argc > 1) {
        lose_by_number(5);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_told_by_kind),
        cmocka_unit_test(lost_mappings_are_leaks_too),
        cmocka_unit_test(an_arena_is_one_thing),
        cmocka_unit_test(a_report_of_another_size_is_refused),
        cmocka_unit_test(at_exit_the_loss_is_printed_and_told_by_code),
        cmocka_unit_test(in_check_mode_no_table_keeps_a_lost_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
