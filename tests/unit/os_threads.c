/* SPDX-License-Identifier: MIT */
/* os_threads.c - what os.h promises of threads and of fork. */
#include "child.h"

#include <errno.h>
#include <pthread.h>

#include "base/atomic.h"
#include "base/base.h"
#include "os/os.h"

/* ---- the end of a thread ------------------------------------------------------------------------------------ */

static _Atomic(void *) ended_with;
static _Atomic int n_ended;
static _Thread_local int local = 5;

static void thread_exit(void *value)
{
    assert_int_equal(local, 6); /* its thread-local storage is there still */
    store_relaxed(&ended_with, value);
    add_relaxed(&n_ended, 1);
}

static void *run_armed(void *value)
{
    local = 6;
    assert_int_equal(os_thread_exit_arm(value), 0);
    return NULL;
}

static void *run_disarmed(void *value)
{
    assert_int_equal(os_thread_exit_arm(value), 0);
    assert_int_equal(os_thread_exit_arm(NULL), 0);
    return NULL;
}

static void *run_to_cancellation(void *value)
{
    run_armed(value);
    for (;;) {
        sleep(1);
    }
    return NULL;
}

static void end_of_a_thread_is_told(void **state)
{
    (void)state;
    pthread_t thread;
    int value;
    assert_int_equal(os_thread_exit_arm(&value), -EAGAIN); /* before there is a key */
    assert_int_equal(os_thread_exit_init(thread_exit), 0);
    assert_int_equal(pthread_create(&thread, NULL, run_armed, &value), 0);
    pthread_join(thread, NULL);
    assert_ptr_equal(load_relaxed(&ended_with), &value);
    assert_int_equal(load_relaxed(&n_ended), 1);
    assert_int_equal(pthread_create(&thread, NULL, run_disarmed, &value), 0);
    pthread_join(thread, NULL);
    assert_int_equal(load_relaxed(&n_ended), 1);
    assert_int_equal(pthread_create(&thread, NULL, run_to_cancellation, &value), 0);
    pthread_cancel(thread);
    pthread_join(thread, NULL);
    assert_in_range(load_relaxed(&n_ended), 1, 2); /* 1 when it was cancelled before it had begun */
}

/* ---- names of threads --------------------------------------------------------------------------------------- */

static void *give_id(void *out)
{
    *(unsigned long *)out = os_thread_id();
    return NULL;
}

static void threads_have_numbers_of_their_own(void **state)
{
    (void)state;
    pthread_t thread;
    unsigned long other = 0;
    assert_int_equal(pthread_create(&thread, NULL, give_id, &other), 0);
    pthread_join(thread, NULL);
    assert_int_not_equal(other, 0);
    assert_int_not_equal(other, os_thread_id());
    assert_int_equal(os_thread_id(), os_thread_id());
    os_relax();
}

/* ---- fork --------------------------------------------------------------------------------------------------- */

static _Atomic int n_children_told;

static void in_child(void)
{
    add_relaxed(&n_children_told, 1);
}

static void check_told(void *unused)
{
    (void)unused;
    EXPECT(load_relaxed(&n_children_told) == 1);
}

static void fork_is_told_in_the_child(void **state)
{
    (void)state;
    assert_int_equal(os_fork_init(in_child), 0);
    child_succeeds(check_told, NULL);
    assert_int_equal(load_relaxed(&n_children_told), 0);
}

static int status_of(pid_t pid)
{
    int status = -1;
    waitpid(pid, &status, 0);
    return status;
}

static void fork_again(void *word)
{
    EXPECT(*(uint32_t *)word == 0);
    EXPECT(os_fork_word() == word);
    *(uint32_t *)word = 2;
    pid_t pid = fork();
    if (pid == 0) {
        _exit(*(uint32_t *)word == 0 ? 0 : 1);
    }
    EXPECT(status_of(pid) == 0);
    EXPECT(*(uint32_t *)word == 2);
}

#pragma weak _Fork

static void fork_word_is_zero_in_every_copy(void **state)
{
    (void)state;
    uint32_t *word = os_fork_word();
    if (word == NULL) {
        skip(); /* the platform has none */
    }
    assert_ptr_equal(os_fork_word(), word);
    assert_int_equal(*word, 1);
    child_succeeds(fork_again, word);
    assert_int_equal(*word, 1);
    if (_Fork != NULL) {
        pid_t pid = _Fork();
        if (pid == 0) {
            _exit(*word == 0 ? 0 : 1);
        }
        assert_int_equal(status_of(pid), 0);
    }
    if (SANITIZED) {
        return; /* they make vfork a fork */
    }
    pid_t pid = vfork(); /* no copy: the word is the parent's */
    if (pid == 0) {
        _exit(*word == 1 ? 0 : 1);
    }
    assert_int_equal(status_of(pid), 0);
    assert_int_equal(*word, 1);
}

static pthread_barrier_t together;

static void *ask_for_word(void *out)
{
    pthread_barrier_wait(&together);
    *(uint32_t **)out = os_fork_word();
    return NULL;
}

static void race_for_word(void *unused)
{
    (void)unused;
    enum { n = 8 };
    pthread_t threads[n];
    uint32_t *words[n];
    pthread_barrier_init(&together, NULL, n);
    for (int i = 0; i < n; i++) {
        EXPECT(pthread_create(&threads[i], NULL, ask_for_word, &words[i]) == 0);
    }
    for (int i = 0; i < n; i++) {
        pthread_join(threads[i], NULL);
        EXPECT(words[i] == words[0]);
    }
}

static void fork_word_is_one_for_all_threads(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        child_succeeds(race_for_word, NULL); /* each finds it unmade */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(end_of_a_thread_is_told),          cmocka_unit_test(threads_have_numbers_of_their_own),
        cmocka_unit_test(fork_word_is_one_for_all_threads), cmocka_unit_test(fork_is_told_in_the_child),
        cmocka_unit_test(fork_word_is_zero_in_every_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
