/* SPDX-License-Identifier: MIT */
/* child.h - run something in a child of its own and see how it ended and what it wrote to standard error. */
#ifndef TESTS_UNIT_CHILD_H
#define TESTS_UNIT_CHILD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0 /* sanitizers take much address space, and signals for themselves */
#endif

/* For use inside the child, where cmocka's assertions would go on with the parent's tests. */
#define EXPECT(x)                                                                                                      \
    do {                                                                                                               \
        if (!(x)) {                                                                                                    \
            dprintf(2, "%s:%d: not true: %s\n", __FILE__, __LINE__, #x);                                               \
            _exit(99);                                                                                                 \
        }                                                                                                              \
    } while (0)

struct child {
    int status;
    char said[16384];
};

static inline struct child child_run(void (*run)(void *), void *argument)
{
    struct child child = {.status = -1};
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    fflush(stdout);
    fflush(stderr);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], 2);
        close(ends[0]);
        close(ends[1]);
        run(argument);
        _exit(0);
    }
    close(ends[1]);
    size_t length = 0;
    ssize_t n;
    while ((n = read(ends[0], child.said + length, sizeof child.said - 1 - length)) > 0) {
        length += (size_t)n;
    }
    child.said[length] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(pid, &child.status, 0), pid);
    return child;
}

/* The child must come to its end, with every EXPECT true. */
static inline struct child child_succeeds(void (*run)(void *), void *argument)
{
    struct child child = child_run(run, argument);
    if (!WIFEXITED(child.status) || WEXITSTATUS(child.status) != 0) {
        print_error("child's status %#x; it said: %s\n", (unsigned)child.status, child.said);
    }
    assert_int_equal(child.status, 0);
    return child;
}

static inline bool child_killed_by(const struct child *child, int signal)
{
    return WIFSIGNALED(child->status) && WTERMSIG(child->status) == signal;
}

#endif
