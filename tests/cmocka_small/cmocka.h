/* SPDX-License-Identifier: MIT */
/* cmocka.h - the part of cmocka's interface that the tests use, for a libc that cmocka is not packaged for (musl).
 *
 * As cmocka: a failed assertion leaves the test by longjmp, its teardown runs, and the number of failed tests is what
 * the group returns. One group at a time, assertions on the thread that runs it.
 */
#ifndef CMOCKA_SMALL_H
#define CMOCKA_SMALL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*test_func)(void **state);
    int (*setup_func)(void **state);
    int (*teardown_func)(void **state);
    void *initial_state;
};

/* clang-format off */
#define cmocka_unit_test(f) {#f, f, NULL, NULL, NULL}
#define cmocka_unit_test_setup(f, setup) {#f, f, setup, NULL, NULL}
#define cmocka_unit_test_teardown(f, teardown) {#f, f, NULL, teardown, NULL}
#define cmocka_unit_test_setup_teardown(f, setup, teardown) {#f, f, setup, teardown, NULL}
#define cmocka_unit_test_prestate(f, state) {#f, f, NULL, NULL, state}
/* clang-format on */

enum { CMOCKA_FAILED = 1, CMOCKA_SKIPPED = 2 };
static jmp_buf cmocka_leave;

#define print_message(...) ((void)printf(__VA_ARGS__))
#define print_error(...) ((void)fprintf(stderr, __VA_ARGS__))

__attribute__((noreturn, format(printf, 3, 4), unused)) static void cmocka_fail(const char *file, int line,
                                                                                const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "[  ERROR   ] %s:%d: ", file, line);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    longjmp(cmocka_leave, CMOCKA_FAILED);
}

#define CMOCKA_EXPECT(x, ...) ((x) ? (void)0 : cmocka_fail(__FILE__, __LINE__, __VA_ARGS__))
#define CMOCKA_NUMBER(x) ((uintmax_t)(x))
#define CMOCKA_POINTER(x) ((const void *)(uintptr_t)(x))

/* Operands are evaluated once. */
#define CMOCKA_COMPARE(type, a, relation, b, format)                                                                   \
    do {                                                                                                               \
        type cmocka_a = (a);                                                                                           \
        type cmocka_b = (b);                                                                                           \
        CMOCKA_EXPECT(cmocka_a relation cmocka_b, "%s: " format ", %s: " format ", expected " #relation, #a, cmocka_a, \
                      #b, cmocka_b);                                                                                   \
    } while (0)

#define fail() cmocka_fail(__FILE__, __LINE__, "failed")
#define fail_msg(...) cmocka_fail(__FILE__, __LINE__, __VA_ARGS__)
#define skip() longjmp(cmocka_leave, CMOCKA_SKIPPED)

#define assert_true(x) CMOCKA_EXPECT(x, "not true: %s", #x)
#define assert_false(x) CMOCKA_EXPECT(!(x), "not false: %s", #x)
#define assert_null(p) CMOCKA_EXPECT((p) == NULL, "not null: %s", #p)
#define assert_non_null(p) CMOCKA_EXPECT((p) != NULL, "null: %s", #p)
#define assert_ptr_equal(a, b) CMOCKA_COMPARE(const void *, CMOCKA_POINTER(a), ==, CMOCKA_POINTER(b), "%p")
#define assert_ptr_not_equal(a, b) CMOCKA_COMPARE(const void *, CMOCKA_POINTER(a), !=, CMOCKA_POINTER(b), "%p")
#define assert_int_equal(a, b) CMOCKA_COMPARE(uintmax_t, CMOCKA_NUMBER(a), ==, CMOCKA_NUMBER(b), "%#jx")
#define assert_int_not_equal(a, b) CMOCKA_COMPARE(uintmax_t, CMOCKA_NUMBER(a), !=, CMOCKA_NUMBER(b), "%#jx")
#define assert_uint_equal(a, b) assert_int_equal(a, b)
#define assert_in_range(x, least, most)                                                                                \
    do {                                                                                                               \
        uintmax_t cmocka_x = CMOCKA_NUMBER(x);                                                                         \
        CMOCKA_EXPECT(cmocka_x >= CMOCKA_NUMBER(least) && cmocka_x <= CMOCKA_NUMBER(most),                             \
                      "%s is %#jx, not in %s ... %s", #x, cmocka_x, #least, #most);                                    \
    } while (0)
#define assert_string_equal(a, b)                                                                                      \
    do {                                                                                                               \
        const char *cmocka_a = (a), *cmocka_b = (b);                                                                   \
        CMOCKA_EXPECT(strcmp(cmocka_a, cmocka_b) == 0, "\"%s\" is not \"%s\"", cmocka_a, cmocka_b);                    \
    } while (0)
#define assert_string_not_equal(a, b) CMOCKA_EXPECT(strcmp((a), (b)) != 0, "equal: %s and %s", #a, #b)
#define assert_memory_equal(a, b, n) CMOCKA_EXPECT(memcmp((a), (b), (n)) == 0, "different bytes: %s and %s", #a, #b)
#define assert_memory_not_equal(a, b, n) CMOCKA_EXPECT(memcmp((a), (b), (n)) != 0, "same bytes: %s and %s", #a, #b)
#define assert_return_code(rc, error) CMOCKA_EXPECT((rc) >= 0, "%s is below 0, error %d", #rc, (int)(error))

static int cmocka_run_one(const struct CMUnitTest *test, void *group_state)
{
    void *state = test->initial_state ? test->initial_state : group_state;
    int volatile result = 0;
    printf("[ RUN      ] %s\n", test->name);
    fflush(stdout);
    if (test->setup_func && test->setup_func(&state) != 0) {
        result = CMOCKA_FAILED;
    } else {
        int left = setjmp(cmocka_leave);
        if (left == 0)
            test->test_func(&state);
        else
            result = left;
        if (test->teardown_func && test->teardown_func(&state) != 0)
            result = CMOCKA_FAILED;
    }
    printf("[%s] %s\n",
           result == 0                ? "       OK "
           : result == CMOCKA_SKIPPED ? "  SKIPPED "
                                      : "  FAILED  ",
           test->name);
    return result == CMOCKA_FAILED;
}

static inline int cmocka_run_all(const struct CMUnitTest *tests, size_t n, int (*setup)(void **),
                                 int (*teardown)(void **))
{
    void *state = NULL;
    int failed = 0;
    if (setup && setup(&state) != 0)
        return (int)n;
    for (size_t i = 0; i < n; i++)
        failed += cmocka_run_one(&tests[i], state);
    if (teardown && teardown(&state) != 0)
        failed++;
    printf("[==========] %zu test(s) run, %d failed\n", n, failed);
    return failed;
}

#define cmocka_run_group_tests(tests, setup, teardown)                                                                 \
    cmocka_run_all(tests, sizeof(tests) / sizeof(tests)[0], setup, teardown)
#define cmocka_run_group_tests_name(name, tests, setup, teardown) cmocka_run_group_tests(tests, setup, teardown)

#endif
