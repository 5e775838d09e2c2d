/* SPDX-License-Identifier: MIT */
/* posix.c - os.h by what POSIX, the BSDs and macOS have in common; unix.c has the part that needs no choice.
 *
 * Against linux.c: no mapping moves or grows in place, purging lays fresh pages over the old ones, options can't be
 * read before libc has been started, and fork is told by a wiped page on the BSDs alone.
 */
#define _GNU_SOURCE      /* glibc, musl: everything */
#define _DARWIN_C_SOURCE /* macOS: MAP_ANON beside POSIX */
#include "os/os.h"

#include "base/atomic.h"
#include "base/base.h"
#include "os/unix_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#if defined(__linux__)
#include <sys/syscall.h>
#endif

#if defined(__APPLE__)
#include <crt_externs.h>
#include <mach/mach.h>
#include <sys/random.h>
#elif defined(__FreeBSD__) || defined(__DragonFly__)
#include <pthread_np.h>
#elif defined(__NetBSD__)
#include <lwp.h>
#endif

#if defined(__APPLE__) || defined(__FreeBSD__) || defined(__DragonFly__) || defined(__NetBSD__) || defined(__OpenBSD__)
#define HAS_ISSETUGID 1
#else
#define HAS_ISSETUGID 0
#endif

#if defined(MAP_INHERIT_ZERO) /* OpenBSD, NetBSD */
#define WIPED_BY_FORK MAP_INHERIT_ZERO
#elif defined(INHERIT_ZERO) /* FreeBSD */
#define WIPED_BY_FORK INHERIT_ZERO
#endif

#if !defined(__APPLE__)
extern char **environ;
#endif

/* ---- memory ------------------------------------------------------------------------------------------------- */

size_t os_page_bytes(void)
{
    static _Atomic size_t page_bytes;
    size_t bytes = load_relaxed(&page_bytes);
    if (UNLIKELY(bytes == 0)) {
        bytes = (size_t)sysconf(_SC_PAGESIZE);
        store_relaxed(&page_bytes, bytes); /* every thread would store the same */
    }
    return bytes;
}

/* Fresh pages over the old ones: no advice that all these systems know promises zeros. */
int os_purge(void *begin, size_t bytes, bool lazy)
{
    (void)lazy;
    int saved = errno;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED; /* as os_reserve, so that neighbours join */
    int result = mmap(begin, bytes, PROT_READ | PROT_WRITE, flags, -1, 0) == begin ? 0 : -errno;
    errno = saved;
    return result;
}

bool os_extend(void *begin, size_t old_bytes, size_t new_bytes)
{
    if (new_bytes > old_bytes) {
        return false;
    }
    return unix_unmap((char *)begin + new_bytes, old_bytes - new_bytes) == 0;
}

bool os_remap(void *begin, size_t old_bytes, size_t new_bytes, void *target)
{
    (void)begin;
    (void)old_bytes;
    unix_unmap(target, new_bytes);
    return false;
}

int os_huge_never(void *begin, size_t bytes)
{
    (void)begin;
    (void)bytes;
    return -ENOSYS;
}

int os_huge_wanted(void *begin, size_t bytes)
{
    (void)begin;
    (void)bytes;
    return -ENOSYS;
}

int os_view_purge(void *begin, size_t bytes, int protection)
{
    int saved = errno;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    int result = mmap(begin, bytes, protection, flags, -1, 0) == begin ? 0 : -errno;
    errno = saved;
    return result;
}

int os_prefer_node(void *begin, size_t bytes, int node)
{
    (void)begin;
    (void)bytes;
    (void)node;
    return 0; /* one node, as far as these systems tell */
}

int os_file_make(size_t bytes)
{
    char name[] = "/allot-0123456789abcdef";
    int saved = errno;
    uint64_t random = os_random();
    for (size_t i = sizeof name - 2; i >= sizeof "/allot-" - 1; i--) {
        name[i] = "0123456789abcdef"[random % 16];
        random /= 16;
    }
    int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd >= 0) {
        shm_unlink(name);
    }
    int result = unix_file_sized(fd, bytes);
    errno = saved;
    return result;
}

void os_file_close(int fd)
{
    int saved = errno;
    close(fd);
    errno = saved;
}

int os_file_purge(void *begin, size_t bytes)
{
    (void)begin;
    (void)bytes;
    return -ENOSYS;
}

/* ---- the process -------------------------------------------------------------------------------------------- */

uint64_t os_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

uint64_t os_random(void)
{
    uint64_t random = 0;
    int saved = errno;
    if (getentropy(&random, sizeof random) != 0) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        random = (uint64_t)(uintptr_t)&random * 0x9e3779b97f4a7c15u ^ (uint64_t)now.tv_nsec;
    }
    errno = saved;
    return random;
}

static char **environment(void)
{
#if defined(__APPLE__)
    return *_NSGetEnviron(); /* a shared library has no environ of its own */
#else
    return environ;
#endif
}

bool os_is_privileged(void)
{
#if HAS_ISSETUGID
    return issetugid() != 0;
#else
    return getuid() != geteuid() || getgid() != getegid();
#endif
}

bool os_environment_ready(void)
{
    return environment() != NULL;
}

bool os_environment(const char *name, char *buffer, size_t capacity)
{
    char **entries = environment();
    return entries != NULL && !os_is_privileged() && unix_find_value(entries, name, buffer, capacity);
}

void os_environment_forget_file(const char *name, const char *file)
{
    char **entries = environment();
    if (entries != NULL) {
        unix_forget_file(entries, name, file);
    }
}

static size_t physical_bytes(void)
{
    size_t bytes = SIZE_MAX;
#if defined(_SC_PHYS_PAGES)
    int saved = errno;
    long pages = sysconf(_SC_PHYS_PAGES);
    errno = saved;
    if (pages > 0 && (size_t)pages <= SIZE_MAX / os_page_bytes()) {
        bytes = (size_t)pages * os_page_bytes();
    }
#endif
    return bytes;
}

size_t os_memory_limit(void)
{
    return size_min(unix_memory_limit(), physical_bytes());
}

size_t os_process_resident_bytes(void)
{
#if defined(__APPLE__)
    struct mach_task_basic_info info;
    mach_msg_type_number_t count = MACH_TASK_BASIC_INFO_COUNT;
    if (task_info(mach_task_self(), MACH_TASK_BASIC_INFO, (task_info_t)&info, &count) == KERN_SUCCESS) {
        return (size_t)info.resident_size;
    }
#elif defined(__linux__)
    char text[64] = "";
    int saved = errno;
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t length = read(fd, text, sizeof text - 1);
        close(fd);
        text[length > 0 ? length : 0] = '\0';
    }
    errno = saved;
    const char *resident = strchr(text, ' ');
    return resident == NULL ? 0 : (size_t)strtoul(resident, NULL, 10) * os_page_bytes();
#endif
    return 0; /* POSIX knows the peak alone */
}

int os_mappings(bool (*visit)(const struct os_mapping *mapping, void *context), void *context)
{
    (void)visit;
    (void)context;
    return -ENOSYS;
}

int os_code_at(uintptr_t pc, struct os_code *code)
{
    (void)pc;
    (void)code;
    return -ENOSYS;
}

bool os_code_is_program(const struct os_code *code)
{
    (void)code;
    return false;
}

bool os_readable(const void *p)
{
    void *page = (void *)round_down((uintptr_t)p, os_page_bytes());
    int saved = errno;
#if defined(__OpenBSD__)
    bool mapped = msync(page, 1, MS_ASYNC) == 0; /* a cancellation point; there is no mincore */
#else
    char resident;
    bool mapped = mincore(page, 1, (void *)&resident) == 0;
#endif
    errno = saved;
    return mapped; /* readable or not can't be asked */
}

unsigned long os_thread_id(void)
{
#if defined(__APPLE__)
    uint64_t id = 0;
    pthread_threadid_np(NULL, &id);
    return (unsigned long)id;
#elif defined(__linux__)
    return (unsigned long)syscall(SYS_gettid);
#elif defined(__FreeBSD__) || defined(__DragonFly__)
    return (unsigned long)pthread_getthreadid_np();
#elif defined(__NetBSD__)
    return (unsigned long)_lwp_self();
#elif defined(__OpenBSD__)
    return (unsigned long)getthrid();
#else
    return (unsigned long)(uintptr_t)pthread_self();
#endif
}

int os_barrier_all(void)
{
    return -ENOSYS;
}

void os_yield(void)
{
    sched_yield();
}

/* ---- fork --------------------------------------------------------------------------------------------------- */

int unix_wipe_at_fork(void *begin, size_t bytes)
{
#if defined(WIPED_BY_FORK)
    int saved = errno;
    int result = minherit(begin, bytes, WIPED_BY_FORK) == 0 ? 0 : -errno;
    errno = saved;
    return result;
#else
    (void)begin;
    (void)bytes;
    return -ENOSYS;
#endif
}
