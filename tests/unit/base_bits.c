/* SPDX-License-Identifier: MIT */
/* base_bits.c - the arithmetic of base.h, and the line of a broken invariant. */
#include "child.h"

#include <signal.h>

#include "base/base.h"

static void powers_of_two(void **state)
{
    (void)state;
    assert_false(is_power_of_two(0));
    for (unsigned i = 0; i < 8 * sizeof(size_t); i++) {
        size_t n = (size_t)1 << i;
        assert_true(is_power_of_two(n));
        assert_false(is_power_of_two(n | 1) && i > 0);
        assert_false(is_power_of_two(n - 1) && i > 1);
    }
}

static void rounding(void **state)
{
    (void)state;
    assert_int_equal(round_up(0, 16), 0);
    assert_int_equal(round_up(1, 16), 16);
    assert_int_equal(round_up(16, 16), 16);
    assert_int_equal(round_up(17, 16), 32);
    assert_int_equal(round_up(5, 1), 5);
    assert_int_equal(round_up(SIZE_MAX - 4095, 4096), SIZE_MAX - 4095);
    assert_int_equal(round_down(15, 16), 0);
    assert_int_equal(round_down(16, 16), 16);
    assert_int_equal(round_down(SIZE_MAX, 4096), SIZE_MAX - 4095);
}

static void bits_at_both_ends(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 64; i++) {
        uint64_t bit = UINT64_C(1) << i;
        assert_int_equal(bit_lowest(bit), i);
        assert_int_equal(bit_highest(bit), i);
        assert_int_equal(bit_count(bit), 1);
        assert_int_equal(bit_lowest(UINT64_MAX << i), i);
        assert_int_equal(bit_highest(bit | (bit - 1)), i);
        assert_int_equal(bit_count(bit | (bit - 1)), i + 1);
    }
    assert_int_equal(bit_count(0), 0);
}

static void pointers(void **state)
{
    (void)state;
    char bytes[8];
    assert_ptr_equal(ptr_add(bytes, 3), &bytes[3]);
    assert_int_equal(ptr_diff(&bytes[5], bytes), 5);
    assert_int_equal(size_min(2, 3), 2);
    assert_int_equal(size_max(2, 3), 3);
}

static void break_an_invariant(void *three)
{
    CHECK(*(int *)three == 3);
    EXPECT(*(int *)three == 3); /* the first check let it pass */
    *(int *)three = 4;
    CHECK(*(int *)three == 3);
}

static void broken_invariant_is_named(void **state)
{
    (void)state;
    int three = 3;
    struct child child = child_run(break_an_invariant, &three);
    assert_true(child_killed_by(&child, SIGABRT));
    static const char begins[] = "allot: internal fault: *(int *)three == 3 does not hold at ";
    assert_int_equal(strncmp(child.said, begins, sizeof begins - 1), 0);
    assert_non_null(strstr(child.said, "base_bits.c:"));
    assert_int_equal(child.said[strlen(child.said) - 1], '\n');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(powers_of_two),
        cmocka_unit_test(rounding),
        cmocka_unit_test(bits_at_both_ends),
        cmocka_unit_test(pointers),
        cmocka_unit_test(broken_invariant_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
