/* SPDX-License-Identifier: MIT */
/* check_calls.c - allot/check.h, in check mode: what is known of a block, looking now, and hearing of faults whole. */
#include "unit.h"

#include <allot/check.h>

#ifdef ALLOT_TEST_NO_STACKS
static const bool has_stacks = false;
#else
static const bool has_stacks = true;
#endif

static struct {
    size_t n;
    char name[40];
    char report[4096];
} heard;

static void hear(const allot_error *error, const char *report, void *context)
{
    (void)context;
    heard.n++;
    snprintf(heard.name, sizeof heard.name, "%s", error->name);
    snprintf(heard.report, sizeof heard.report, "%s", report);
}

static allot_action go_on(const allot_error *error, void *context)
{
    (void)error;
    (void)context;
    return ALLOT_ACTION_CONTINUE;
}

static int begin(void **state)
{
    (void)state;
    memset(&heard, 0, sizeof heard);
    allot_set_report_listener(hear, NULL);
    allot_set_error_handler(go_on, NULL);
    return 0;
}

static void a_block_has_a_history(void **state)
{
    (void)state;
    allot_history history = ALLOT_HISTORY_INIT;
    char *block = hide(allot_malloc(37));
    assert_int_equal(allot_block_history(block + 5, &history), 0);
    assert_ptr_equal(history.block, block);
    assert_int_equal(history.requested_bytes, 37);
    assert_int_equal(history.live, 1);
    assert_true((history.n_taken_at >= 1) == has_stacks && history.n_given_at == 0);
    assert_true(history.taken_by != 0);
    allot_free(block);
    assert_int_equal(allot_block_history(block, &history), 0);
    assert_int_equal(history.live, 0);
    assert_true((history.n_given_at >= 1) == has_stacks);
    assert_int_equal(allot_block_history(&history, &history), 0);
    assert_null(history.block);
    history.abi_size = 3;
    assert_int_equal(allot_block_history(block, &history), EINVAL);
}

static void a_look_finds_what_was_written_beyond_a_block(void **state)
{
    (void)state;
    assert_int_equal(allot_check(), 0);
    char *block = hide(allot_malloc(37));
    block[37] = 1;
    assert_int_equal(allot_check(), 1);
    assert_int_equal(heard.n, 1);
    assert_string_equal(heard.name, "buffer overflow");
    assert_non_null(strstr(heard.report, "its 37 bytes were taken by malloc"));
    assert_non_null(strstr(heard.report, "hint: 1 byte beyond its end"));
    assert_int_equal(allot_check(), 0); /* told once */
    allot_free(block);
}

static void a_usable_size_is_what_was_asked_for(void **state)
{
    (void)state;
    void *block = allot_malloc(37);
    assert_int_equal(allot_malloc_usable_size(block), 37);
    block = allot_realloc(block, 5000);
    assert_int_equal(allot_malloc_usable_size(block), 5000);
    allot_free(block);
    assert_int_equal(heard.n, 0);
}

static void a_sized_free_that_lies_is_named(void **state)
{
    (void)state;
    void *block = allot_malloc(100);
    allot_free_sized(block, 99);
    assert_string_equal(heard.name, "wrong size");
    allot_free_sized(block, 100);
    assert_int_equal(heard.n, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_block_has_a_history, begin),
        cmocka_unit_test_setup(a_look_finds_what_was_written_beyond_a_block, begin),
        cmocka_unit_test_setup(a_usable_size_is_what_was_asked_for, begin),
        cmocka_unit_test_setup(a_sized_free_that_lies_is_named, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
