/* SPDX-License-Identifier: MIT */
/* socket.c - threads of allot's own, and the socket by which a process is looked at. The same on every Unix, but for
 * how the other end says who it is. */
#define _GNU_SOURCE
#include "os/os.h"

#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/un.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/prctl.h>
#endif

#define BACKLOG 64
#define WAIT_MOST 32u

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* macOS: SO_NOSIGPIPE instead */
#endif

/* ---- the process ------------------------------------------------------------------------------------------------ */

void os_thread_name(const char *name)
{
#if defined(__linux__)
    prctl(PR_SET_NAME, name);
#else
    (void)name;
#endif
}

unsigned long os_process_id(void)
{
    return (unsigned long)getpid();
}

unsigned long os_user_id(void)
{
    return (unsigned long)geteuid();
}

int os_on_signal(int number, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    struct sigaction before;
    if (sigaction(number, NULL, &before) != 0) {
        return -errno;
    }
    bool is_standard = (before.sa_flags & SA_SIGINFO) == 0 && before.sa_handler == SIG_DFL;
    if (!is_standard) {
        return -EBUSY;
    }
    sigemptyset(&action.sa_mask);
    return sigaction(number, &action, NULL) == 0 ? 0 : -errno;
}

/* ---- directory and path ------------------------------------------------------------------------------------- */

int os_private_directory(const char *path)
{
    struct stat status;
    int saved = errno;
    int result = mkdir(path, 0700) == 0 || errno == EEXIST ? 0 : -errno;
    if (result == 0 && lstat(path, &status) != 0) {
        result = -errno;
    } else if (result == 0 && (!S_ISDIR(status.st_mode) || status.st_uid != geteuid() || (status.st_mode & 077) != 0)) {
        result = -EPERM;
    }
    errno = saved;
    return result;
}

void os_unlink(const char *path)
{
    int saved = errno;
    unlink(path);
    errno = saved;
}

/* ---- connections -------------------------------------------------------------------------------------------- */

static void keep_to_ourselves(int fd)
{
    fcntl(fd, F_SETFD, FD_CLOEXEC);
}

int os_listen(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    if (length >= sizeof address.sun_path) {
        return -ENAMETOOLONG;
    }
    memcpy(address.sun_path, path, length + 1);
    int saved = errno;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    int result = fd;
    if (fd < 0) {
        result = -errno;
    } else {
        keep_to_ourselves(fd);
        os_unlink(path);
        fcntl(fd, F_SETFL, O_NONBLOCK);
        if (bind(fd, (const struct sockaddr *)&address, sizeof address) != 0 || listen(fd, BACKLOG) != 0) {
            result = -errno;
            close(fd);
        }
    }
    errno = saved;
    return result;
}

int os_accept(int listener, unsigned patience_ms)
{
    int saved = errno;
    int fd = accept(listener, NULL, NULL);
    int result = fd >= 0 ? fd : -errno;
    if (fd >= 0) {
        struct timeval patience = {.tv_sec = patience_ms / 1000, .tv_usec = (patience_ms % 1000) * 1000};
        keep_to_ourselves(fd);
        fcntl(fd, F_SETFL, 0); /* the BSDs let it inherit O_NONBLOCK */
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
#if defined(SO_NOSIGPIPE)
        int yes = 1;
        setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &yes, sizeof yes);
#endif
    }
    errno = saved;
    return result;
}

bool os_peer_may(int connection)
{
    int saved = errno;
    bool known;
    uid_t user = (uid_t)-1;
#if defined(SO_PEERCRED) && defined(__linux__)
    struct ucred who;
    socklen_t length = sizeof who;
    known = getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &who, &length) == 0;
    user = known ? who.uid : user;
#elif defined(__APPLE__) || defined(__FreeBSD__) || defined(__OpenBSD__) || defined(__NetBSD__)
    gid_t group;
    known = getpeereid(connection, &user, &group) == 0;
#else
    known = false;
    (void)connection;
#endif
    errno = saved;
    return known && (user == geteuid() || user == 0);
}

long os_receive(int connection, char *buffer, size_t capacity)
{
    int saved = errno;
    ssize_t n;
    do {
        n = recv(connection, buffer, capacity, MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    long result = n >= 0 ? (long)n : errno == EWOULDBLOCK ? -EAGAIN : -errno;
    errno = saved;
    return result;
}

int os_send(int connection, const char *bytes, size_t length)
{
    int saved = errno;
    int result = 0;
    while (length > 0 && result == 0) {
        ssize_t n = send(connection, bytes, length, MSG_NOSIGNAL);
        if (n > 0) {
            bytes += n;
            length -= (size_t)n;
        } else if (n == 0 || errno != EINTR) {
            result = n == 0 ? -EPIPE : -errno;
        }
    }
    errno = saved;
    return result;
}

int os_pipe(int ends[2])
{
    int saved = errno;
    int result = pipe(ends) == 0 ? 0 : -errno;
    for (int i = 0; i < 2 && result == 0; i++) {
        keep_to_ourselves(ends[i]);
        fcntl(ends[i], F_SETFL, O_NONBLOCK);
    }
    errno = saved;
    return result;
}

void os_pipe_write(int end)
{
    int saved = errno;
    if (write(end, "", 1) < 0) {
        /* full: whoever reads will see enough */
    }
    errno = saved;
}

void os_pipe_drain(int end)
{
    char bytes[64];
    int saved = errno;
    while (read(end, bytes, sizeof bytes) > 0) {
    }
    errno = saved;
}

void os_wait_for(const int *descriptors, unsigned n, int ms, uint32_t *ready)
{
    struct pollfd polled[WAIT_MOST];
    int saved = errno;
    for (unsigned i = 0; i < n && i < WAIT_MOST; i++) {
        polled[i] = (struct pollfd){.fd = descriptors[i], .events = POLLIN};
    }
    *ready = 0;
    if (poll(polled, n, ms) > 0) {
        for (unsigned i = 0; i < n; i++) {
            *ready |= polled[i].revents != 0 ? UINT32_C(1) << i : 0;
        }
    }
    errno = saved;
}
