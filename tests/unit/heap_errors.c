/* SPDX-License-Identifier: MIT */
/* heap_errors.c - the error handler is asked, is told everything, and can go on. */
#include "unit.h"

#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static struct {
    int n_calls;
    char name[64];
    char state[64];
    char line[400];
    allot_error error;
} told;

static allot_action go_on(const allot_error *error, void *context)
{
    assert_ptr_equal(context, &told);
    told.n_calls++;
    told.error = *error;
    snprintf(told.name, sizeof told.name, "%s", error->name);
    snprintf(told.state, sizeof told.state, "%s", error->state);
    snprintf(told.line, sizeof told.line, "%s", error->line);
    free(malloc(100)); /* a handler may allocate */
    free(malloc(100000));
    return ALLOT_ACTION_CONTINUE;
}

static void begin(void)
{
    memset(&told, 0, sizeof told);
    allot_set_error_handler(go_on, &told);
}

static void expect_told(const char *name, const void *address, const void *block, size_t bytes, const char *block_state)
{
    assert_int_equal(told.n_calls, 1);
    assert_int_equal(told.error.abi_size, sizeof(allot_error));
    assert_string_equal(told.name, name);
    assert_ptr_equal(told.error.address, address);
    assert_ptr_equal(told.error.block, block);
    assert_string_equal(told.state, block_state);
    if (block != NULL) {
        assert_int_equal(told.error.block_bytes, bytes);
        assert_int_equal(told.error.offset, (const char *)address - (const char *)block);
    }
    assert_int_equal(told.error.thread, (unsigned long)syscall(SYS_gettid));
    char head[100];
    snprintf(head, sizeof head, "allot: %s of %p: ", name, address);
    assert_int_equal(strncmp(told.line, head, strlen(head)), 0);
    assert_null(strchr(told.line, '\n'));
    told.n_calls = 0;
}

static void a_double_free_is_told_and_does_nothing(void **state)
{
    (void)state;
    begin();
    char *kept = malloc(48);
    char *block = hide(malloc(48));
    size_t usable = malloc_usable_size(block);
    free(block);
    errno = 66;
    free(hide(block));
    assert_int_equal(errno, 66);
    expect_told("double free", block, block, usable, "free");
    void *one = malloc(48);
    void *two = malloc(48);
    assert_ptr_not_equal(one, two);
    free(one);
    free(two);
    free(kept);
    assert_int_equal(told.n_calls, 0);
}

static void an_interior_free_is_told_and_does_nothing(void **state)
{
    (void)state;
    begin();
    const size_t sizes[] = {48, 8192, 20000, 300000, 50 * MIB};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        char *block = hide(malloc(sizes[i]));
        size_t usable = malloc_usable_size(block);
        free(block + 16);
        expect_told("invalid free", block + 16, block, usable, "live");
        free(block + 1);
        expect_told("invalid free", block + 1, block, usable, "live");
        memset(block, 1, usable);
        free(block);
        assert_int_equal(told.n_calls, 0);
    }
}

static void calls_that_return_give_null_and_einval(void **state)
{
    (void)state;
    begin();
    char *block = hide(malloc(100));
    size_t usable = malloc_usable_size(block);
    errno = 0;
    assert_null(realloc(block + 16, opaque(200)));
    assert_int_equal(errno, EINVAL);
    expect_told("invalid realloc", block + 16, block, usable, "live");
    assert_int_equal(malloc_usable_size(block + 16), 0);
    expect_told("invalid usable size", block + 16, block, usable, "live");
    assert_int_equal(allot_try_expand(block + 32, 10), 0);
    assert_int_equal(told.n_calls, 1);
    told.n_calls = 0;
    free(block);
}

static void the_wrong_size_is_told_and_does_nothing(void **state)
{
    (void)state;
    begin();
    char *block = hide(malloc(100));
    size_t usable = malloc_usable_size(block);
    free_sized(block, 1000);
    expect_told("wrong size", block, block, usable, "live");
    free_sized(block, 5);
    expect_told("wrong size", block, block, usable, "live");
    memset(block, 1, usable);
    free(block);
    assert_int_equal(told.n_calls, 0);
}

static void no_block_has_no_state(void **state)
{
    (void)state;
    begin();
    int local = 0;
    free(hide(&local));
    expect_told("invalid free", &local, NULL, 0, "");
    static int global;
    free(hide(&global));
    expect_told("invalid free", &global, NULL, 0, "");
}

static void the_faults_of_a_batch_are_told_one_by_one(void **state)
{
    (void)state;
    begin();
    void *blocks[6] = {hide(malloc(32)), NULL, hide(malloc(64)), hide(malloc(32)), NULL, hide(malloc(9000))};
    blocks[1] = blocks[0];
    blocks[4] = (char *)blocks[2] + 16;
    allot_free_batch(blocks, 6);
    assert_int_equal(told.n_calls, 2);
    told.n_calls = 0;
    free(malloc(32));
}

static allot_action say_abort(const allot_error *error, void *context)
{
    (void)error;
    (void)context;
    return ALLOT_ACTION_ABORT;
}

static int status_of_double_free(allot_error_handler handler)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        signal(SIGABRT, SIG_IGN); /* abort ends the process all the same */
        allot_set_error_handler(handler, &told);
        void *block = hide(malloc(48));
        free(block);
        free(hide(block));
        _exit(0);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void no_handler_or_one_that_says_so_aborts(void **state)
{
    (void)state;
    int status = status_of_double_free(NULL);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    status = status_of_double_free(say_abort);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    status = status_of_double_free(go_on);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Going on a thousand times leaves a heap that works. */
static void the_heap_outlives_many_faults(void **state)
{
    (void)state;
    begin();
    enum { n = 500 };
    static void *blocks[n];
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < n; i++) {
            blocks[i] = hide(malloc(16 + i * 11));
        }
        for (size_t i = 0; i < n; i++) {
            free((char *)blocks[i] + 16);
            free(blocks[i]);
            free(hide(blocks[i]));
        }
        assert_int_equal(told.n_calls, 2 * n);
        told.n_calls = 0;
    }
    allot_set_error_handler(NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_double_free_is_told_and_does_nothing),
        cmocka_unit_test(an_interior_free_is_told_and_does_nothing),
        cmocka_unit_test(calls_that_return_give_null_and_einval),
        cmocka_unit_test(the_wrong_size_is_told_and_does_nothing),
        cmocka_unit_test(no_block_has_no_state),
        cmocka_unit_test(the_faults_of_a_batch_are_told_one_by_one),
        cmocka_unit_test(no_handler_or_one_that_says_so_aborts),
        cmocka_unit_test(the_heap_outlives_many_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
