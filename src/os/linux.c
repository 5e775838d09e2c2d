/* SPDX-License-Identifier: MIT */
/* linux.c - os.h on Linux, for glibc and musl.
 *
 * Calls go through syscall() where libc's wrapper would be a cancellation point or set errno on the way.
 */
#define _GNU_SOURCE
#include "os/os.h"

#include "base/atomic.h"
#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif
#ifndef MADV_FREE
#define MADV_FREE 8
#endif

#define RESERVED (MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)

extern char **environ;

static struct {
    pthread_key_t exit_key;
    bool has_exit_key;
    _Atomic(uint32_t *) fork_word;
} os;

/* ---- memory ------------------------------------------------------------------------------------------------- */

size_t os_page_bytes(void)
{
    static _Atomic size_t page_bytes;
    size_t bytes = load_relaxed(&page_bytes);
    if (UNLIKELY(bytes == 0)) {
        bytes = getauxval(AT_PAGESZ);
        if (bytes == 0) {
            bytes = 4096;
        }
        store_relaxed(&page_bytes, bytes); /* every thread would store the same */
    }
    return bytes;
}

static void *map_anywhere(size_t bytes, int protection, int flags)
{
    int saved = errno;
    void *p = mmap(NULL, bytes, protection, flags, -1, 0);
    errno = saved;
    return p == MAP_FAILED ? NULL : p;
}

static int unmap(void *begin, size_t bytes)
{
    int saved = errno;
    int result = bytes == 0 || munmap(begin, bytes) == 0 ? 0 : -errno;
    errno = saved;
    return result;
}

/* A mapping at a multiple of align: as the kernel places it if that fits, otherwise cut out of a larger one. */
static void *map_aligned(size_t bytes, size_t align, int protection, int flags)
{
    void *p = map_anywhere(bytes, protection, flags);
    if (p == NULL || ((uintptr_t)p & (align - 1)) == 0) {
        return p;
    }
    unmap(p, bytes);
    if (bytes > SIZE_MAX - align) {
        return NULL;
    }
    char *wide = map_anywhere(bytes + align, protection, flags);
    if (wide == NULL) {
        return NULL;
    }
    char *begin = (char *)round_up((uintptr_t)wide, align);
    unmap(wide, ptr_diff(begin, wide));
    unmap(begin + bytes, ptr_diff(wide + align, begin));
    return begin;
}

void *os_reserve(size_t bytes, size_t align)
{
    return map_aligned(bytes, align, PROT_NONE, RESERVED);
}

void *os_reserve_readable(size_t bytes)
{
    return map_anywhere(bytes, PROT_READ, RESERVED);
}

int os_commit(void *begin, size_t bytes)
{
    int saved = errno;
    int result = mprotect(begin, bytes, PROT_READ | PROT_WRITE) == 0 ? 0 : -errno;
    errno = saved;
    return result;
}

static int advise(void *begin, size_t bytes, int advice)
{
    int saved = errno;
    int result = madvise(begin, bytes, advice) == 0 ? 0 : -errno;
    errno = saved;
    return result;
}

int os_purge(void *begin, size_t bytes, bool lazy)
{
    if (lazy && advise(begin, bytes, MADV_FREE) == 0) {
        return 0;
    }
    return advise(begin, bytes, MADV_DONTNEED);
}

int os_release(void *begin, size_t bytes)
{
    return unmap(begin, bytes);
}

void *os_map(size_t bytes, size_t align)
{
    return map_aligned(bytes, align, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
}

bool os_extend(void *begin, size_t old_bytes, size_t new_bytes)
{
    int saved = errno;
    void *p = mremap(begin, old_bytes, new_bytes, 0);
    errno = saved;
    return p != MAP_FAILED;
}

void *os_remap(void *begin, size_t old_bytes, size_t new_bytes, size_t align)
{
    if (os_extend(begin, old_bytes, new_bytes)) {
        return begin;
    }
    void *target = os_reserve(new_bytes, align);
    if (target == NULL) {
        return NULL;
    }
    int saved = errno;
    void *p = mremap(begin, old_bytes, new_bytes, MREMAP_MAYMOVE | MREMAP_FIXED, target);
    errno = saved;
    if (p == MAP_FAILED) {
        unmap(target, new_bytes);
        return NULL;
    }
    return p;
}

int os_huge_never(void *begin, size_t bytes)
{
    return advise(begin, bytes, MADV_NOHUGEPAGE);
}

int os_huge_wanted(void *begin, size_t bytes)
{
    return advise(begin, bytes, MADV_HUGEPAGE);
}

size_t os_resident_bytes(void *begin, size_t bytes)
{
    unsigned char pages[1024];
    size_t page = os_page_bytes();
    size_t resident = 0;
    int saved = errno;
    for (size_t at = 0; at < bytes; at += sizeof pages * page) {
        size_t length = size_min(bytes - at, sizeof pages * page);
        if (mincore((char *)begin + at, length, pages) != 0) {
            resident += length;
            continue;
        }
        for (size_t i = 0; i < length / page; i++) {
            resident += (pages[i] & 1u) * page;
        }
    }
    errno = saved;
    return resident;
}

/* By libc's sbrk, so that its own idea of the break stays right; where that always fails (musl) there is no break. */
void *os_break_now(void)
{
    int saved = errno;
    void *now = sbrk(0);
    errno = saved;
    return now == (void *)-1 ? NULL : now;
}

void *os_break_grow(size_t bytes)
{
    int saved = errno;
    void *result = NULL;
    void *old = sbrk(0);
    size_t pad = old == (void *)-1 ? 0 : round_up((uintptr_t)old, os_page_bytes()) - (uintptr_t)old;
    if (bytes <= PTRDIFF_MAX - pad) {
        void *p = sbrk((intptr_t)(bytes + pad));
        if (p != (void *)-1) {
            result = (void *)round_up((uintptr_t)p, os_page_bytes());
        }
    }
    errno = saved;
    return result;
}

/* ---- the process -------------------------------------------------------------------------------------------- */

uint64_t os_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

uint64_t os_random(void)
{
    uint64_t random = 0;
    int saved = errno;
    if (syscall(SYS_getrandom, &random, sizeof random, 1 /* GRND_NONBLOCK */) != (long)sizeof random) {
        const uint64_t *seed = (const uint64_t *)getauxval(AT_RANDOM);
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        random = (seed != NULL ? seed[0] ^ seed[1] : (uintptr_t)&random) * 0x9e3779b97f4a7c15u ^ (uint64_t)now.tv_nsec;
    }
    errno = saved;
    return random;
}

/* Reads up to capacity bytes of a file; how many, or 0. */
static size_t read_file(const char *path, char *buffer, size_t capacity)
{
    int saved = errno;
    size_t length = 0;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        long n;
        while (length < capacity && (n = syscall(SYS_read, fd, buffer + length, capacity - length)) > 0) {
            length += (size_t)n;
        }
        syscall(SYS_close, fd);
    }
    errno = saved;
    return length;
}

static bool copy_value(const char *entry, const char *name, char *buffer, size_t capacity)
{
    size_t name_length = strlen(name);
    if (strncmp(entry, name, name_length) != 0 || entry[name_length] != '=') {
        return false;
    }
    const char *value = entry + name_length + 1;
    size_t length = size_min(strlen(value), capacity - 1);
    memcpy(buffer, value, length);
    buffer[length] = '\0';
    return true;
}

bool os_environment(const char *name, char *buffer, size_t capacity)
{
    if (getauxval(AT_SECURE) != 0) {
        return false;
    }
    if (environ != NULL) {
        for (char **entry = environ; *entry != NULL; entry++) {
            if (copy_value(*entry, name, buffer, capacity)) {
                return true;
            }
        }
        return false;
    }
    /* ld.so allocates before libc has set environ. */
    static char early[16 * 1024];
    size_t length = read_file("/proc/self/environ", early, sizeof early - 1);
    early[length] = '\0';
    for (size_t at = 0; at < length; at += strlen(early + at) + 1) {
        if (copy_value(early + at, name, buffer, capacity)) {
            return true;
        }
    }
    return false;
}

static size_t resource_limit(int resource)
{
    struct rlimit limit;
    int saved = errno;
    int result = getrlimit(resource, &limit);
    errno = saved;
    return result != 0 || limit.rlim_cur == RLIM_INFINITY ? SIZE_MAX : (size_t)limit.rlim_cur;
}

size_t os_address_space_limit(void)
{
    return resource_limit(RLIMIT_AS);
}

/* The number at the start of s; SIZE_MAX for "max" and anything else that is none. */
static size_t parse_bytes(const char *s)
{
    size_t n = 0;
    if (*s < '0' || *s > '9') {
        return SIZE_MAX;
    }
    for (; *s >= '0' && *s <= '9'; s++) {
        if (n > (SIZE_MAX - 9) / 10) {
            return SIZE_MAX;
        }
        n = n * 10 + (size_t)(*s - '0');
    }
    return n;
}

/* The limit of the cgroup (version 2) that the process is in: the least on the way up to the root. */
static size_t cgroup_limit(void)
{
    static const char root[] = "/sys/fs/cgroup";
    char text[1024];
    char path[sizeof root + sizeof text + sizeof "/memory.max"];
    size_t length = read_file("/proc/self/cgroup", text, sizeof text - 1);
    text[length] = '\0';
    char *group = strstr(text, "0::/");
    if (group == NULL) {
        return SIZE_MAX;
    }
    group += 3;
    group[strcspn(group, "\n")] = '\0';
    size_t least = SIZE_MAX;
    for (;;) {
        size_t used = 0;
        for (const char *part = root; *part != '\0'; part++) {
            path[used++] = *part;
        }
        for (const char *part = group; *part != '\0'; part++) {
            path[used++] = *part;
        }
        memcpy(path + used, "/memory.max", sizeof "/memory.max");
        char number[32];
        length = read_file(path, number, sizeof number - 1);
        number[length] = '\0';
        least = size_min(least, parse_bytes(number));
        char *slash = strrchr(group, '/');
        if (slash == NULL) {
            return least;
        }
        *slash = '\0';
    }
}

size_t os_memory_limit(void)
{
    char text[256];
    size_t length = read_file("/proc/meminfo", text, sizeof text - 1);
    text[length] = '\0';
    const char *total = strstr(text, "MemTotal:");
    size_t physical = SIZE_MAX;
    if (total != NULL) {
        total += sizeof "MemTotal:" - 1;
        total += strspn(total, " \t");
        size_t kib = parse_bytes(total);
        physical = kib > SIZE_MAX / KIB ? SIZE_MAX : kib * KIB;
    }
    return size_min(size_min(resource_limit(RLIMIT_DATA), physical), cgroup_limit());
}

size_t os_process_resident_bytes(void)
{
    char text[128];
    size_t length = read_file("/proc/self/statm", text, sizeof text - 1);
    text[length] = '\0';
    const char *resident = strchr(text, ' ');
    return resident == NULL ? 0 : parse_bytes(resident + 1) * os_page_bytes();
}

void os_write_error(const char *bytes, size_t length)
{
    int saved = errno;
    while (length > 0) {
        long n = syscall(SYS_write, 2, bytes, length);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            break;
        }
        bytes += n;
        length -= (size_t)n;
    }
    errno = saved;
}

void os_abort(void)
{
    struct sigaction standard = {.sa_handler = SIG_DFL};
    sigset_t abort_only;
    sigemptyset(&abort_only);
    sigaddset(&abort_only, SIGABRT);
    raise(SIGABRT); /* the program's own handler has the first word */
    sigaction(SIGABRT, &standard, NULL);
    pthread_sigmask(SIG_UNBLOCK, &abort_only, NULL);
    raise(SIGABRT);
    _exit(127);
}

/* ---- threads and signals ------------------------------------------------------------------------------------ */

unsigned long os_thread_id(void)
{
    return (unsigned long)syscall(SYS_gettid);
}

void os_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

int os_thread_exit_init(void (*thread_exit)(void *))
{
    int error = pthread_key_create(&os.exit_key, thread_exit);
    os.has_exit_key = error == 0;
    return -error;
}

int os_thread_exit_arm(void *value)
{
    return os.has_exit_key ? -pthread_setspecific(os.exit_key, value) : -EAGAIN;
}

int os_fork_init(void (*child)(void))
{
    return -pthread_atfork(NULL, NULL, child);
}

uint32_t *os_fork_word(void)
{
    uint32_t *word = load_acquire(&os.fork_word);
    if (word != NULL) {
        return word;
    }
    word = os_map(os_page_bytes(), os_page_bytes());
    if (word == NULL || advise(word, os_page_bytes(), MADV_WIPEONFORK) != 0) {
        if (word != NULL) {
            unmap(word, os_page_bytes());
        }
        return NULL;
    }
    uint32_t *expected = NULL;
    if (!cas_acq_rel(&os.fork_word, &expected, word)) {
        unmap(word, os_page_bytes()); /* another thread was first */
        return expected;
    }
    return word;
}
