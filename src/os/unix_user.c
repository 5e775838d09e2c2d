/* SPDX-License-Identifier: MIT */
/* unix_user.c - the part of os.h about mappings that the program asked for, locks and threads, the same on every Unix.
 */
#define _GNU_SOURCE
#include "os/os.h"

#include "base/atomic.h"
#include "base/base.h"
#include "os/unix_internal.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#if defined(__linux__)
#include <sys/vfs.h>
#endif

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef MAP_GROWSDOWN
#define MAP_GROWSDOWN 0
#endif
#ifndef MAP_HUGETLB
#define MAP_HUGETLB 0
#endif
#ifndef MAP_32BIT
#define MAP_32BIT 0
#endif

#define RESERVED (MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)

/* ---- the program's own mappings ----------------------------------------------------------------------------- */

void *os_reserve_near(void *wanted, size_t bytes)
{
    int saved = errno;
    void *p = mmap(wanted, bytes, PROT_NONE, RESERVED, -1, 0);
    errno = saved;
    return p == MAP_FAILED ? NULL : p;
}

static int map_at(void *begin, size_t bytes, int protection, int flags, int fd, int64_t offset)
{
    int saved = errno;
    int result = mmap(begin, bytes, protection, flags | MAP_FIXED, fd, (off_t)offset) == begin ? 0 : -errno;
    errno = saved;
    return result;
}

int os_reserve_over(void *begin, size_t bytes)
{
    return map_at(begin, bytes, PROT_NONE, RESERVED, -1, 0);
}

int os_reserve_hole(void *begin, size_t bytes)
{
    int saved = errno;
    int result = 0;
    void *p = mmap(begin, bytes, PROT_NONE, RESERVED | MAP_FIXED_NOREPLACE, -1, 0);
    if (p == MAP_FAILED) {
        result = -errno;
    } else if (p != begin) { /* a kernel that doesn't know the flag took the address for a hint */
        unix_unmap(p, bytes);
        result = -EEXIST;
    }
    errno = saved;
    return result;
}

int os_map_user(void *target, size_t bytes, int fd, int64_t offset, int protection, int flags)
{
    return map_at(target, bytes, protection, flags, fd, offset);
}

bool os_map_flags_place(int flags)
{
    return (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_GROWSDOWN | MAP_32BIT)) != 0;
}

bool os_map_flags_private(int flags)
{
    return (flags & MAP_ANONYMOUS) != 0 && (flags & MAP_PRIVATE) != 0;
}

#if defined(__linux__)
#define HUGETLBFS 0x958458f6
#define HUGE_SHIFT 26
#define HUGE_MASK 0x3f

/* The size that MAP_HUGETLB means when the flags name none; 0: there are none. */
static size_t huge_page_bytes(void)
{
    static const char label[] = "Hugepagesize:";
    char text[4096];
    int fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0) {
        close(fd);
    }
    text[length < 0 ? 0 : length] = '\0';
    const char *line = strstr(text, label);
    return line == NULL ? 0 : strtoul(line + sizeof label - 1, NULL, 10) * KIB;
}

size_t os_map_unit(int fd, int flags)
{
    int saved = errno;
    struct statfs fs;
    size_t unit = os_page_bytes();
    if ((flags & MAP_HUGETLB) != 0 && (flags & MAP_ANONYMOUS) != 0) {
        unsigned shift = (unsigned)flags >> HUGE_SHIFT & HUGE_MASK;
        unit = shift != 0 ? (size_t)1 << shift : huge_page_bytes();
    } else if ((flags & MAP_ANONYMOUS) == 0 && fstatfs(fd, &fs) == 0 && (unsigned long)fs.f_type == HUGETLBFS) {
        unit = (size_t)fs.f_bsize;
    }
    errno = saved;
    return is_power_of_two(unit) ? unit : 0;
}
#else
size_t os_map_unit(int fd, int flags)
{
    (void)fd;
    (void)flags;
    return os_page_bytes();
}
#endif

int os_sync(void *begin, size_t bytes)
{
    int saved = errno;
    int result = msync(begin, bytes, MS_SYNC) == 0 ? 0 : -errno;
    errno = saved;
    return result;
}

/* ---- files and symbols -------------------------------------------------------------------------------------- */

long os_file_read(const char *path, char *buffer, size_t capacity)
{
    int saved = errno;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, buffer, capacity - 1);
    long result = length < 0 ? -errno : length;
    buffer[length < 0 ? 0 : length] = '\0';
    if (fd >= 0) {
        close(fd);
    }
    errno = saved;
    return result;
}

/* Weak: a static program may have none. */
__attribute__((weak)) int dladdr(const void *address, Dl_info *info);

bool os_symbol_at(uintptr_t address, struct os_symbol *symbol)
{
    Dl_info info;
    if (dladdr == NULL || dladdr((const void *)address, &info) == 0 || info.dli_sname == NULL) {
        return false;
    }
    size_t length = size_min(strlen(info.dli_sname), sizeof symbol->name - 1);
    memcpy(symbol->name, info.dli_sname, length);
    symbol->name[length] = '\0';
    return true;
}

/* ---- locks and threads -------------------------------------------------------------------------------------- */

/* 0 free, 1 held, 2 held and somebody may wait. */
void os_lock(struct os_lock *lock)
{
    uint32_t word = 0;
    if (cas_acquire(&lock->word, &word, 1)) { /* OG1 pairs with the exchange in os_unlock */
        return;
    }
    while (xchg_acquire(&lock->word, 2) != 0) { /* OG1 */
        os_wait(&lock->word, 2, 1000);
    }
}

void os_unlock(struct os_lock *lock)
{
    if (xchg_acq_rel(&lock->word, 0) == 2) { /* OG1: what was done under the lock is seen by its next holder */
        os_wake(&lock->word);
    }
}

uint64_t os_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

int os_thread_start(void *(*run)(void *), void *argument, int signal)
{
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    sigdelset(&all, signal);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&thread, &attributes, run, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return -error;
}

uintptr_t os_thread_self(void)
{
    return (uintptr_t)pthread_self();
}
