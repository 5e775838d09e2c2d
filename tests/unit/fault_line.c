/* SPDX-License-Identifier: MIT */
/* fault_line.c - the one line of a misuse, and who may go on after it. */
#include "child.h"

#include <errno.h>
#include <signal.h>

#include "map/map.h"
#include "os/os.h"

static const struct fault double_free = {
    .name = "double free",
    .address = (void *)0x7f12a0,
    .block = (void *)0x7f1280,
    .block_bytes = 48,
    .state = "free",
};

static void report(void *fault)
{
    fault_report(fault);
    _exit(3); /* whoever was told to go on */
}

static bool go_on(const struct fault *fault, const char *line)
{
    dprintf(2, "[%s] of %d bytes\n", line, (int)fault->block_bytes);
    errno = 5;
    return true;
}

static bool end(const struct fault *fault, const char *line)
{
    (void)fault;
    (void)line;
    return false;
}

/* The line without the thread's number at its end, which is a child's. */
static const char *without_thread(struct child *child)
{
    char *thread = strstr(child->said, ", thread ");
    if (thread != NULL && strspn(thread + 9, "0123456789") == strlen(thread + 9) - 1) {
        *thread = '\0';
    }
    return child->said;
}

static void a_block_is_described(void **state)
{
    (void)state;
    struct child child = child_run(report, (void *)(uintptr_t)&double_free);
    assert_true(child_killed_by(&child, SIGABRT));
    assert_string_equal(without_thread(&child),
                        "allot: double free of 0x7f12a0: offset 32 in the 48-byte block at 0x7f1280 (free)");
}

static void no_block_is_described(void **state)
{
    (void)state;
    struct fault fault = {.name = "invalid free", .address = (void *)UINTPTR_MAX, .state = "not mapped"};
    struct child child = child_run(report, &fault);
    assert_true(child_killed_by(&child, SIGABRT));
    assert_string_equal(without_thread(&child), "allot: invalid free of 0xffffffffffffffff: no block, not mapped");
}

static void the_thread_is_named(void *unused)
{
    (void)unused;
    fault_set_handler(go_on);
    fault_report(&double_free);
    dprintf(2, "%lu", os_thread_id());
}

static void the_number_is_the_callers(void **state)
{
    (void)state;
    struct child child = child_succeeds(the_thread_is_named, NULL);
    char *number = strrchr(child.said, '\n') + 1;
    char expected[64];
    snprintf(expected, sizeof expected, ", thread %s\n", number);
    assert_non_null(strstr(child.said, expected));
}

static void report_handled(void *fault)
{
    fault_set_handler(go_on);
    errno = 12345;
    fault_report(fault);
    EXPECT(errno == 12345);
    fault_set_handler(end);
    fault_report(fault);
    _exit(3);
}

static void the_handler_decides(void **state)
{
    (void)state;
    struct child child = child_run(report_handled, (void *)(uintptr_t)&double_free);
    assert_true(child_killed_by(&child, SIGABRT)); /* by the second handler */
    assert_non_null(strstr(child.said, "[allot: double free of 0x7f12a0: offset 32 in the 48-byte block"));
    assert_non_null(strstr(child.said, "] of 48 bytes\n"));
}

static void report_with_handler(void *fault)
{
    fault_set_handler(go_on);
    report(fault);
}

static void damage_ends_the_process_whatever_the_handler_says(void **state)
{
    (void)state;
    struct fault fault = double_free;
    fault.fatal = true;
    struct child child = child_run(report_with_handler, &fault);
    assert_true(child_killed_by(&child, SIGABRT));
    assert_non_null(strstr(child.said, "] of 48 bytes\n")); /* it was asked all the same */
}

static void reset_handler(void *fault)
{
    fault_set_handler(go_on);
    fault_set_handler(NULL);
    report(fault);
}

static void no_handler_means_abort(void **state)
{
    (void)state;
    struct child child = child_run(reset_handler, (void *)(uintptr_t)&double_free);
    assert_true(child_killed_by(&child, SIGABRT));
}

static void long_states_are_cut_to_one_line(void **state)
{
    (void)state;
    static char long_state[2000];
    memset(long_state, 'x', sizeof long_state - 1);
    struct fault fault = {.name = "invalid free", .address = &fault, .state = long_state};
    struct child child = child_run(report, &fault);
    assert_true(child_killed_by(&child, SIGABRT));
    assert_in_range(strlen(child.said), 200, 512);
    assert_ptr_equal(strchr(child.said, '\n'), child.said + strlen(child.said) - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_block_is_described),
        cmocka_unit_test(no_block_is_described),
        cmocka_unit_test(the_number_is_the_callers),
        cmocka_unit_test(the_handler_decides),
        cmocka_unit_test(damage_ends_the_process_whatever_the_handler_says),
        cmocka_unit_test(no_handler_means_abort),
        cmocka_unit_test(long_states_are_cut_to_one_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
