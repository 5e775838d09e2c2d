/* SPDX-License-Identifier: MIT */
/* heap_fork.c - children of a threaded process allocate and free at once: fork, _Fork, vfork, and out of a handler. */
#include "stress.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

#ifdef __GLIBC__
extern pid_t _Fork(void);
#endif

enum { n_busy = 4 };
static _Atomic bool stop;

static void *be_busy(void *argument)
{
    struct churn churn;
    churn_init(&churn, (uintptr_t)argument, 300000);
    while (!stop) {
        if (!churn_step(&churn)) {
            return argument;
        }
    }
    return churn_end(&churn) ? NULL : argument;
}

static pthread_t busy[n_busy];

static void busy_begin(void)
{
    for (size_t i = 0; i < n_busy; i++) {
        EXPECT(pthread_create(&busy[i], NULL, be_busy, (void *)(i + 1)) == 0, "no thread");
    }
}

static void busy_end(void)
{
    stop = true;
    for (size_t i = 0; i < n_busy; i++) {
        void *result = NULL;
        pthread_join(busy[i], &result);
        EXPECT(result == NULL, "a thread of the parent found damage");
    }
}

/* Blocks of the parent, freed by the child as well. */
enum { n_inherited = 500 };
static void *inherited[n_inherited];

static void inherit(void)
{
    for (size_t i = 0; i < n_inherited; i++) {
        inherited[i] = malloc(i * 40);
    }
}

static void *in_a_thread_of_the_child(void *argument)
{
    struct churn churn;
    churn_init(&churn, 77, 100000);
    for (int i = 0; i < 300; i++) {
        if (!churn_step(&churn)) {
            return argument;
        }
    }
    return churn_end(&churn) ? NULL : argument;
}

/* Exit codes of the child. */
enum { WELL = 0, DAMAGE = 3, NO_THREAD = 4, DAMAGE_IN_THREAD = 5 };

static int work_of_a_child(void)
{
    struct churn churn;
    churn_init(&churn, (uint64_t)getpid(), 100000);
    for (int i = 0; i < 400; i++) {
        if (!churn_step(&churn)) {
            return DAMAGE;
        }
    }
    for (size_t i = 0; i < n_inherited; i++) {
        free(inherited[i]);
    }
    return churn_end(&churn) ? WELL : DAMAGE;
}

static void check_child(pid_t child, const char *what)
{
    EXPECT(child > 0, "%s failed", what);
    int status = wait_for(child);
    EXPECT(status == 0, "the child of %s: status %#x%s", what, (unsigned)status, status == -1 ? " (it hung)" : "");
}

static size_t n_forks(void)
{
    return stress_is_long() ? 3000 : 150;
}

static void children_of_fork(void)
{
    inherit();
    busy_begin();
    for (size_t i = 0; i < n_forks(); i++) {
        pid_t child = fork();
        if (child == 0) {
            int code = work_of_a_child();
            pthread_t thread;
            void *result = NULL;
            if (code == WELL && i % 4 == 0) {
                code = pthread_create(&thread, NULL, in_a_thread_of_the_child, inherited) == 0 ? WELL : NO_THREAD;
                pthread_join(thread, &result);
            }
            _exit(code != WELL ? code : result == NULL ? WELL : DAMAGE_IN_THREAD);
        }
        check_child(child, "fork");
    }
    busy_end();
}

static void children_of_children(void)
{
    inherit();
    busy_begin();
    for (size_t i = 0; i < n_forks() / 5; i++) {
        pid_t child = fork();
        if (child == 0) {
            for (int depth = 0; depth < 4; depth++) {
                void *block = malloc(1000);
                free(block);
                pid_t grandchild = fork();
                if (grandchild > 0) {
                    int status = -1;
                    waitpid(grandchild, &status, 0);
                    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
                }
            }
            _exit(work_of_a_child());
        }
        check_child(child, "nested fork");
    }
    busy_end();
}

static pid_t raw_fork(void)
{
#if defined(__GLIBC__)
    return _Fork();
#else
    return (pid_t)syscall(SYS_fork);
#endif
}

static void children_of_raw_fork(void)
{
#ifdef ALLOT_TEST_OS_POSIX
    stress_skip("_Fork is not promised here");
#endif
    inherit();
    busy_begin();
    for (size_t i = 0; i < n_forks(); i++) {
        pid_t child = raw_fork();
        if (child == 0) {
            _exit(work_of_a_child());
        }
        check_child(child, "_Fork");
    }
    busy_end();
}

/* The parent has one thread, so the child may do what it likes; its first slow call is made by a thread of its own. */
static void threads_of_a_raw_fork(void)
{
#ifdef ALLOT_TEST_OS_POSIX
    stress_skip("_Fork is not promised here");
#endif
    for (size_t n = 0; n < 2000; n += 16) {
        free(malloc(n));
    }
    for (size_t i = 0; i < n_forks(); i++) {
        pid_t child = raw_fork();
        if (child == 0) {
            pthread_t thread;
            void *result = NULL;
            if (pthread_create(&thread, NULL, in_a_thread_of_the_child, inherited) != 0) {
                _exit(NO_THREAD);
            }
            for (int k = 0; k < 20000; k++) {
                unsigned char *block = malloc(48);
                block[0] = 1;
                free(block);
            }
            pthread_join(thread, &result);
            _exit(result == NULL ? WELL : DAMAGE_IN_THREAD);
        }
        check_child(child, "_Fork with a thread");
    }
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
/* The child of vfork shares the memory: what it takes and frees, the parent finds as it left it. */
static void children_of_vfork(void)
{
    static void *_Atomic from_child[16];
    busy_begin();
    for (size_t i = 0; i < n_forks(); i++) {
        void *block = malloc(100);
        pid_t child = vfork();
        if (child == 0) {
            for (size_t k = 0; k < COUNT(from_child); k++) {
                from_child[k] = malloc(k * 300);
            }
            free(malloc(50000));
            _exit(from_child[15] != NULL ? 0 : 1);
        }
        check_child(child, "vfork");
        for (size_t k = 0; k < COUNT(from_child); k++) {
            memset(from_child[k], 1, k * 300);
            free(from_child[k]);
        }
        free(block);
    }
    busy_end();
}
#pragma GCC diagnostic pop

static _Atomic size_t n_children;
static _Atomic int bad_status;

static void fork_in_handler(int number)
{
    (void)number;
    int kept = errno;
    pid_t child = n_children % 2 == 0 ? raw_fork() : fork();
    if (child == 0) {
        struct churn churn;
        churn_init(&churn, (uint64_t)getpid(), 50000);
        for (int i = 0; i < 100; i++) {
            if (!churn_step(&churn)) {
                _exit(DAMAGE);
            }
        }
        _exit(churn_end(&churn) ? WELL : DAMAGE);
    }
    int status = child > 0 ? wait_for(child) : -2;
    if (status != 0) {
        bad_status = status;
    }
    n_children++;
    errno = kept;
}

/* The handler interrupts malloc and free at any instruction, and the child inherits them half done. */
static void children_of_a_handler(void)
{
#ifdef ALLOT_TEST_OS_POSIX
    stress_skip("_Fork is not promised here");
#endif
    size_t wanted = stress_is_long() ? 2000 : 100;
    struct sigaction action = {.sa_handler = fork_in_handler, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    struct churn churn;
    churn_init(&churn, 5, 100000);
    uint64_t end = now_ms() + 50000;
    while (n_children < wanted && bad_status == 0 && now_ms() < end) {
        struct itimerval soon = {{0, 0}, {0, 1 + (long)(churn.random % 500)}};
        size_t before = n_children;
        setitimer(ITIMER_REAL, &soon, NULL);
        while (n_children == before) {
            EXPECT(churn_step(&churn), "damage in the parent");
        }
    }
    EXPECT(bad_status == 0, "a child of a handler: status %#x", (unsigned)bad_status);
    EXPECT(n_children >= 10, "only %zu children", (size_t)n_children);
    EXPECT(churn_end(&churn), "damage at the end");
}

static const struct stress_case cases[] = {
    {"children_of_fork", children_of_fork, NULL, false},
    {"children_of_children", children_of_children, NULL, false},
    {"children_of_raw_fork", children_of_raw_fork, NULL, false},
    {"threads_of_a_raw_fork", threads_of_a_raw_fork, NULL, false},
    {"children_of_vfork", children_of_vfork, NULL, false},
    {"children_of_a_handler", children_of_a_handler, NULL, false},
};

int main(int argc, char **argv)
{
    return stress_main(argc, argv, cases, COUNT(cases));
}
