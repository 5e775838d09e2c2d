/* SPDX-License-Identifier: MIT */
/* child.c - os_run: a program as a child, for reports.
 *
 * The caller's process may be in any state. So the child is a plain copy (no handlers of fork run), it makes system
 * calls alone until it is another program, and the parent hears of its end by asking, not by a signal.
 */
#define _GNU_SOURCE
#include "os/os.h"

#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/auxv.h>
#include <sys/syscall.h>
#endif

extern char **environ;

#define ENTRIES_MOST 1024

struct child {
    pid_t pid;
    int to;   /* its input; -1: closed */
    int from; /* its output */
};

static bool is_privileged(void)
{
#if defined(__linux__)
    return getauxval(AT_SECURE) != 0;
#else
    return getuid() != geteuid() || getgid() != getegid();
#endif
}

/* With no signal at its end, where that can be had. */
static pid_t copy_process(void)
{
#if defined(__linux__) && !defined(__s390__)
    return (pid_t)syscall(SYS_clone, 0, 0, 0, 0, 0);
#else
    return fork();
#endif
}

static bool starts_with(const char *entry, const char *name)
{
    return strncmp(entry, name, strlen(name)) == 0;
}

__attribute__((noreturn)) static void become(const char *path, char *const *arguments, int input, int output)
{
    char *environment[ENTRIES_MOST];
    size_t n = 0;
    for (char **entry = environ; entry != NULL && *entry != NULL && n + 1 < ENTRIES_MOST; entry++) {
        if (!starts_with(*entry, "LD_PRELOAD=") && !starts_with(*entry, "ALLOT_OPTIONS=")) {
            environment[n++] = *entry;
        }
    }
    environment[n] = NULL;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    int silence = open("/dev/null", O_WRONLY);
    if (dup2(input, 0) == 0 && dup2(output, 1) == 1 && dup2(silence, 2) == 2) {
        for (int file = 3; file < 256; file++) {
            close(file);
        }
        execve(path, arguments, environment);
    }
    _exit(127);
}

/* Pipes must not be 0 to 2, which the child is given. */
static bool make_pipe(int ends[2])
{
    if (pipe(ends) != 0) {
        return false;
    }
    for (int i = 0; i < 2; i++) {
        int moved = fcntl(ends[i], F_DUPFD_CLOEXEC, 3);
        close(ends[i]);
        ends[i] = moved;
    }
    return ends[0] >= 0 && ends[1] >= 0;
}

static void close_if_open(int file)
{
    if (file >= 0) {
        close(file);
    }
}

static int start(struct child *child, const char *path, char *const *arguments)
{
    int to[2] = {-1, -1};
    int from[2] = {-1, -1};
    bool has_pipes = make_pipe(to) && make_pipe(from);
    child->pid = has_pipes ? copy_process() : -1;
    if (child->pid == 0) {
        become(path, arguments, to[0], from[1]);
    }
    int error = errno;
    close_if_open(to[0]);
    close_if_open(from[1]);
    if (child->pid < 0) {
        close_if_open(to[1]);
        close_if_open(from[0]);
        return error == 0 ? -EIO : -error;
    }
    child->to = to[1];
    child->from = from[0];
    fcntl(child->to, F_SETFL, O_NONBLOCK);
    return 0;
}

/* How much of length it took; all of it, when it doesn't read any more. */
static size_t feed(struct child *child, const char *input, size_t length)
{
    ssize_t n = length == 0 ? -1 : write(child->to, input, length);
    bool later = n < 0 && length != 0 && (errno == EAGAIN || errno == EINTR);
    if (n < 0 && !later) {
        close(child->to);
        child->to = -1;
        return length;
    }
    return later ? 0 : (size_t)n;
}

static long talk(struct child *child, const char *input, size_t input_length, char *output, size_t capacity,
                 unsigned timeout_ms)
{
    uint64_t deadline = os_now_ms() + timeout_ms;
    size_t length = 0;
    for (uint64_t now = os_now_ms(); now < deadline && length < capacity; now = os_now_ms()) {
        struct pollfd files[2] = {{.fd = child->from, .events = POLLIN}, {.fd = child->to, .events = POLLOUT}};
        if (poll(files, child->to >= 0 ? 2 : 1, (int)(deadline - now)) < 0) {
            continue;
        }
        if (child->to >= 0 && files[1].revents != 0) {
            size_t taken = feed(child, input, input_length);
            input += taken;
            input_length -= taken;
        }
        if (files[0].revents != 0) {
            ssize_t n = read(child->from, output + length, capacity - length);
            if (n == 0 || (n < 0 && errno != EINTR)) {
                break;
            }
            length += n > 0 ? (size_t)n : 0;
        }
    }
    return (long)length;
}

long os_run(const char *path, char *const *arguments, const char *input, size_t input_length, char *output,
            size_t capacity, unsigned timeout_ms)
{
    if (is_privileged()) {
        return -EPERM;
    }
    int saved = errno;
    struct child child = {.pid = -1, .to = -1, .from = -1};
    sigset_t pipe_only;
    sigset_t before;
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_only, &before);
    long result = start(&child, path, arguments);
    if (result == 0) {
        result = talk(&child, input, input_length, output, capacity, timeout_ms);
        close_if_open(child.to);
        close(child.from);
        kill(child.pid, SIGKILL); /* it has said all that it had to say, or takes too long */
        int status;
#if defined(__linux__)
        while (waitpid(child.pid, &status, __WALL) < 0 && errno == EINTR) {
        }
#else
        while (waitpid(child.pid, &status, 0) < 0 && errno == EINTR) {
        }
#endif
        sigset_t pending;
        int taken;
        if (sigismember(&before, SIGPIPE) == 0 && sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE) == 1) {
            sigwait(&pipe_only, &taken);
        }
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = saved;
    return result;
}
