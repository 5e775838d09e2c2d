/* SPDX-License-Identifier: MIT */
/* gc_suppress.c - suppressions of LeakSanitizer and of Valgrind match what they do there. */
#include "gc/gc.h"

#include <allot/leak.h>

#include "unit.h"

static const struct gc_frame stack[] = {
    {"malloc", NULL, "/usr/lib/liballot.so.1"},
    {"copy_name", "src/names.c", "/opt/app/lib/libnames.so.2"},
    {"parse_line", "src/parse.c", "/opt/app/bin/app"},
    {"main", "src/main.c", "/opt/app/bin/app"},
};

static bool matches(enum gc_leak_kind kind)
{
    return gc_suppressed(kind, stack, sizeof stack / sizeof *stack);
}

/* Each is read behind all others, so those that don't match come first. */
static void what_does_not_match_suppresses_nothing(void **state)
{
    static const char *const texts[] = {
        "leak:no_such\n",
        "leak:^parse$\n",
        "leak:names.so.3\n# leak:main\n",
        "{\n a\n Memcheck:Leak\n fun:copy_name\n}\n", /* not the innermost */
        "{\n b\n Memcheck:Leak\n fun:malloc\n fun:parse_line\n}\n",
        "{\n c\n Memcheck:Leak\n fun:malloc\n fun:copy_nam?\n obj:*/libnames.so.3\n}\n",
        "{\n d\n Memcheck:Leak\n fun:malloc\n ...\n fun:nobody\n}\n",
        "{\n e\n Memcheck:Leak\n fun:malloc\n fun:*\n fun:*\n fun:*\n fun:*\n}\n", /* longer than the stack */
    };
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_int_equal(allot_leak_suppress(texts[i]), 1);
        assert_false(matches(GC_LEAK_DEFINITE));
    }
}

static void what_is_about_something_else_is_passed_over(void **state)
{
    (void)state;
    assert_int_equal(allot_leak_suppress("race:main\nthread:x\n"), 0);
    assert_int_equal(allot_leak_suppress("{\n f\n Memcheck:Addr4\n fun:malloc\n}\n"), 0);
    assert_int_equal(allot_leak_suppress("{\n g\n Helgrind:Race\n fun:malloc\n}\n"), 0);
    assert_int_equal(allot_leak_suppress(""), 0);
    assert_int_equal(allot_leak_suppress(NULL), 0);
    assert_false(matches(GC_LEAK_DEFINITE));
}

static void kinds_are_looked_at(void **state)
{
    (void)state;
    assert_int_equal(
        allot_leak_suppress("{\n h\n Memcheck:Leak\n match-leak-kinds: possible,reachable\n fun:malloc\n ...\n}\n"), 1);
    assert_false(matches(GC_LEAK_DEFINITE));
    assert_false(matches(GC_LEAK_INDIRECT));
    assert_true(matches(GC_LEAK_POSSIBLE));
    assert_true(matches(GC_LEAK_REACHABLE));
}

/* One kind each, so that what came before doesn't match already. */
static void what_matches_suppresses(void **state)
{
    (void)state;
    assert_int_equal(allot_leak_suppress("{\n i\n   Memcheck:Leak\n   match-leak-kinds: indirect\n   fun:mal*\n   ...\n"
                                         "   obj:/opt/app/bin/*\n}\n"),
                     1);
    assert_true(matches(GC_LEAK_INDIRECT));
    assert_false(matches(GC_LEAK_DEFINITE));
    assert_int_equal(allot_leak_suppress("  leak:^copy_*e$  \r\n"), 1);
    assert_true(matches(GC_LEAK_DEFINITE));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_does_not_match_suppresses_nothing),
        cmocka_unit_test(what_is_about_something_else_is_passed_over),
        cmocka_unit_test(kinds_are_looked_at),
        cmocka_unit_test(what_matches_suppresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
