/* SPDX-License-Identifier: MIT */
/* os_fake.c - the OS that fails on command fails when it is told to, and not otherwise. */
#include "child.h"

#include <errno.h>

#include "base/base.h"
#include "os/fake.h"
#include "os/os.h"

static void nothing_fails_unasked(void **state)
{
    (void)state;
    fake_fail(FAKE_ANY, 0, 0);
    char *p = os_map(os_page_bytes(), os_page_bytes());
    assert_non_null(p);
    assert_int_equal(os_purge(p, os_page_bytes(), false), 0);
    assert_int_equal(os_release(p, os_page_bytes()), 0);
    assert_int_equal(fake_failures(), 0);
    assert_int_equal(fake_calls(FAKE_ANY), 3);
    assert_int_equal(fake_calls(FAKE_MAP), 1);
    assert_int_equal(fake_calls(FAKE_PURGE), 1);
    assert_int_equal(fake_calls(FAKE_RELEASE), 1);
    assert_int_equal(fake_calls(FAKE_COMMIT), 0);
}

/* Which of five mappings fail, as the bits of a number. */
static unsigned refused_of_five(void)
{
    unsigned refused = 0;
    for (unsigned i = 0; i < 5; i++) {
        char *p = os_map(os_page_bytes(), os_page_bytes());
        if (p == NULL) {
            refused |= 1u << i;
        } else {
            os_release(p, os_page_bytes());
        }
    }
    return refused;
}

static void the_named_calls_fail(void **state)
{
    (void)state;
    fake_fail(FAKE_MAP, 1, 1);
    assert_int_equal(refused_of_five(), 1);
    fake_fail(FAKE_MAP, 3, 1);
    assert_int_equal(refused_of_five(), 4);
    fake_fail(FAKE_MAP, 2, 3);
    assert_int_equal(refused_of_five(), 2 + 4 + 8);
    assert_int_equal(fake_failures(), 3);
    fake_fail(FAKE_MAP, 4, SIZE_MAX);
    assert_int_equal(refused_of_five(), 8 + 16);
    fake_fail(FAKE_COMMIT, 1, SIZE_MAX);
    assert_int_equal(refused_of_five(), 0);
    fake_fail(FAKE_ANY, 3, 1); /* map, release, map */
    assert_int_equal(refused_of_five(), 2);
    fake_fail(FAKE_ANY, 0, 0);
    assert_int_equal(refused_of_five(), 0);
}

static void every_kind_can_fail(void **state)
{
    (void)state;
    size_t page = os_page_bytes();
    fake_fail(FAKE_ANY, 0, 0);
    char *p = os_reserve(4 * page, page);
    assert_non_null(p);
    char *target = os_reserve(8 * page, page);
    assert_non_null(target);
    fake_fail(FAKE_ANY, 1, SIZE_MAX);
    errno = 12345;
    assert_null(os_reserve(page, page));
    assert_null(os_reserve_readable(page));
    assert_null(os_map(page, page));
    assert_null(os_break_grow(page));
    assert_null(os_fork_word());
    assert_false(os_remap(p, 4 * page, 8 * page, target));
    assert_false(os_extend(p, 4 * page, 8 * page));
    assert_int_equal(os_commit(p, page), -ENOMEM);
    assert_true(os_purge(p, page, false) < 0);
    assert_true(os_huge_never(p, page) < 0);
    assert_true(os_huge_wanted(p, page) < 0);
    assert_int_equal(os_release(p, page), -ENOMEM);
    assert_int_equal(errno, 12345);
    assert_int_equal(fake_failures(), 12);
    assert_int_equal(fake_calls(FAKE_RESERVE), 2);
    assert_int_equal(fake_calls(FAKE_REMAP), 2);
    assert_int_equal(fake_calls(FAKE_ADVISE), 2);
    fake_fail(FAKE_ANY, 0, 0);
    assert_int_equal(os_commit(p, page), 0);
    assert_int_equal(os_release(p, 4 * page), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_fails_unasked),
        cmocka_unit_test(the_named_calls_fail),
        cmocka_unit_test(every_kind_can_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
