/* SPDX-License-Identifier: MIT */
/* linux.c - what is Linux's own of os.h, for glibc and musl; unix.c has the rest.
 *
 * Calls go through syscall() where libc's wrapper would be a cancellation point.
 */
#define _GNU_SOURCE
#include "os/os.h"

#include "base/atomic.h"
#include "base/base.h"
#include "os/unix_internal.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif
#ifndef MADV_FREE
#define MADV_FREE 8
#endif

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

bool os_extend(void *begin, size_t old_bytes, size_t new_bytes)
{
    int saved = errno;
    void *p = mremap(begin, old_bytes, new_bytes, 0);
    errno = saved;
    return p != MAP_FAILED;
}

/* Is something mapped at every page? */
static bool is_mapped(void *begin, size_t bytes)
{
    int saved = errno;
    bool result = msync(begin, bytes, MS_ASYNC) == 0;
    errno = saved;
    return result;
}

bool os_remap(void *begin, size_t old_bytes, size_t new_bytes, void *target)
{
    int saved = errno;
    bool moved = mremap(begin, old_bytes, new_bytes, MREMAP_MAYMOVE | MREMAP_FIXED, target) != MAP_FAILED;
    errno = saved;
    /* Kernels before 6.17 unmap the target first and refuse then: by now another thread may have been given the place.
     */
    if (!moved && is_mapped(target, new_bytes)) {
        unix_unmap(target, new_bytes);
    }
    return moved;
}

int os_huge_never(void *begin, size_t bytes)
{
    return advise(begin, bytes, MADV_NOHUGEPAGE);
}

int os_huge_wanted(void *begin, size_t bytes)
{
    return advise(begin, bytes, MADV_HUGEPAGE);
}

int os_view_purge(void *begin, size_t bytes, int protection)
{
    (void)protection;
    return advise(begin, bytes, MADV_DONTNEED);
}

int os_prefer_node(void *begin, size_t bytes, int node)
{
    unsigned long nodes[16] = {0};
    const size_t bits = 8 * sizeof nodes[0];
    if ((size_t)node >= bits * (sizeof nodes / sizeof nodes[0])) {
        return -EINVAL;
    }
    nodes[(size_t)node / bits] = 1ul << (size_t)node % bits;
    int saved = errno;
    long result = syscall(SYS_mbind, begin, bytes, 1 /* MPOL_PREFERRED */, nodes, 8 * sizeof nodes, 0);
    int error = result == 0 || errno == ENOSYS ? 0 : -errno; /* a kernel without nodes has one */
    errno = saved;
    return error;
}

int os_file_make(size_t bytes)
{
    return unix_file_sized((int)syscall(SYS_memfd_create, "allot", 1u /* MFD_CLOEXEC */), bytes);
}

void os_file_close(int fd)
{
    int saved = errno;
    syscall(SYS_close, fd);
    errno = saved;
}

int os_file_purge(void *begin, size_t bytes)
{
    return advise(begin, bytes, 9 /* MADV_REMOVE */);
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

/* ---- files of /proc and /sys, without stdio ------------------------------------------------------------------ */

struct reader {
    int fd; /* negative when the file could not be opened: it then reads as empty */
    size_t at;
    size_t length;
    char bytes[512];
};

static void reader_open(struct reader *reader, const char *path)
{
    reader->fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    reader->at = 0;
    reader->length = 0;
}

static void reader_close(struct reader *reader)
{
    if (reader->fd >= 0) {
        syscall(SYS_close, reader->fd);
    }
}

/* The next byte of the file, or -1 at its end. */
static int reader_next(struct reader *reader)
{
    if (reader->at == reader->length) {
        long n;
        do {
            n = reader->fd < 0 ? 0 : syscall(SYS_read, reader->fd, reader->bytes, sizeof reader->bytes);
        } while (n < 0 && errno == EINTR);
        if (n <= 0) {
            return -1;
        }
        reader->at = 0;
        reader->length = (size_t)n;
    }
    return (unsigned char)reader->bytes[reader->at++];
}

/* The beginning of a file as a string, cut at capacity; empty when there is no such file. */
static void read_file(const char *path, char *buffer, size_t capacity)
{
    struct reader reader;
    int saved = errno;
    size_t length = 0;
    reader_open(&reader, path);
    for (int c; length + 1 < capacity && (c = reader_next(&reader)) >= 0;) {
        buffer[length++] = (char)c;
    }
    buffer[length] = '\0';
    reader_close(&reader);
    errno = saved;
}

/* ---- the environment ---------------------------------------------------------------------------------------- */

/* The value of the entry that follows, cut; leaves the reader behind it. */
static void read_value(struct reader *reader, char *buffer, size_t capacity)
{
    size_t length = 0;
    for (int c = reader_next(reader); c > 0; c = reader_next(reader)) {
        if (length + 1 < capacity) {
            buffer[length++] = (char)c;
        }
    }
    buffer[length] = '\0';
}

/* The environment as the program was given it. */
static bool find_in_proc(const char *name, char *buffer, size_t capacity)
{
    struct reader reader;
    bool found = false;
    int saved = errno;
    reader_open(&reader, "/proc/self/environ");
    for (int c = 0; c >= 0 && !found;) {
        size_t matched = 0;
        while ((c = reader_next(&reader)) > 0 && c == (unsigned char)name[matched]) {
            matched++;
        }
        found = c == '=' && name[matched] == '\0';
        while (c > 0 && !found) {
            c = reader_next(&reader);
        }
    }
    if (found) {
        read_value(&reader, buffer, capacity);
    }
    reader_close(&reader);
    errno = saved;
    return found;
}

bool os_is_privileged(void)
{
    return getauxval(AT_SECURE) != 0;
}

bool os_environment_ready(void)
{
    return true;
}

bool os_environment(const char *name, char *buffer, size_t capacity)
{
    if (os_is_privileged()) {
        return false;
    }
    /* ld.so allocates before libc has set environ. */
    return environ != NULL ? unix_find_value(environ, name, buffer, capacity) : find_in_proc(name, buffer, capacity);
}

void os_environment_forget_file(const char *name, const char *file)
{
    if (environ != NULL) {
        unix_forget_file(environ, name, file);
    }
}

/* ---- limits and figures ------------------------------------------------------------------------------------- */

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

static size_t read_bytes(const char *path)
{
    char number[32];
    read_file(path, number, sizeof number);
    return parse_bytes(number);
}

/* The limit of the cgroup (version 2) that the process is in: the least on the way up to the root. */
static size_t cgroup_limit(void)
{
    static const char root[] = "/sys/fs/cgroup";
    char groups[1024];
    char path[sizeof root + sizeof groups + sizeof "/memory.max"];
    size_t least = read_bytes("/sys/fs/cgroup/memory/memory.limit_in_bytes"); /* version 1, as containers see it */
    read_file("/proc/self/cgroup", groups, sizeof groups);
    char *group = strstr(groups, "0::/");
    if (group == NULL) {
        return least;
    }
    group += sizeof "0::" - 1;
    group[strcspn(group, "\n")] = '\0';
    for (;;) {
        size_t length = strlen(group);
        memcpy(path, root, sizeof root - 1);
        memcpy(path + sizeof root - 1, group, length);
        memcpy(path + sizeof root - 1 + length, "/memory.max", sizeof "/memory.max");
        least = size_min(least, read_bytes(path));
        char *slash = strrchr(group, '/');
        if (slash == NULL) {
            return least;
        }
        *slash = '\0';
    }
}

static size_t physical_bytes(void)
{
    static const char total[] = "MemTotal:";
    char text[256];
    read_file("/proc/meminfo", text, sizeof text);
    const char *line = strstr(text, total);
    if (line == NULL) {
        return SIZE_MAX;
    }
    line += sizeof total - 1;
    size_t kib = parse_bytes(line + strspn(line, " \t"));
    return kib > SIZE_MAX / KIB ? SIZE_MAX : kib * KIB;
}

size_t os_memory_limit(void)
{
    return size_min(size_min(unix_memory_limit(), physical_bytes()), cgroup_limit());
}

size_t os_process_resident_bytes(void)
{
    char text[128];
    read_file("/proc/self/statm", text, sizeof text);
    const char *resident = strchr(text, ' ');
    return resident == NULL ? 0 : parse_bytes(resident + 1) * os_page_bytes();
}

unsigned long os_thread_id(void)
{
    return (unsigned long)syscall(SYS_gettid);
}

/* The first time, and perhaps after a fork, the process says that it will use it. */
int os_barrier_all(void)
{
    enum { EXPEDITED = 1 << 3, REGISTER = 1 << 4 };
    int saved = errno;
    long result = syscall(SYS_membarrier, EXPEDITED, 0, 0);
    if (result != 0 && errno == EPERM && syscall(SYS_membarrier, REGISTER, 0, 0) == 0) {
        result = syscall(SYS_membarrier, EXPEDITED, 0, 0);
    }
    int error = result == 0 ? 0 : -errno;
    errno = saved;
    return error;
}

void os_yield(void)
{
    syscall(SYS_sched_yield);
}

/* ---- what is mapped ----------------------------------------------------------------------------------------- */

/* A hexadecimal number and the character behind it. */
static uintptr_t read_hex(struct reader *reader, int *end)
{
    uintptr_t n = 0;
    for (;;) {
        int c = reader_next(reader);
        bool is_digit = c >= '0' && c <= '9';
        if (!is_digit && !(c >= 'a' && c <= 'f')) {
            *end = c;
            return n;
        }
        n = n << 4 | (unsigned)(is_digit ? c - '0' : c - 'a' + 10);
    }
}

/* Leaves the reader behind the spaces and the word that come next; the first character behind them. */
static int skip_word(struct reader *reader, int c)
{
    while (c == ' ') {
        c = reader_next(reader);
    }
    while (c > ' ') {
        c = reader_next(reader);
    }
    return c;
}

/* A line is: begin-end rwxp offset device inode name. False at the end of the file. */
static bool read_mapping(struct reader *reader, struct os_mapping *mapping, char *name, size_t capacity)
{
    int c;
    mapping->begin = read_hex(reader, &c);
    mapping->end = read_hex(reader, &c);
    if (c != ' ') {
        return false;
    }
    mapping->readable = reader_next(reader) == 'r';
    mapping->writable = reader_next(reader) == 'w';
    mapping->executable = reader_next(reader) == 'x';
    c = reader_next(reader); /* private or shared */
    for (int i = 0; i < 3; i++) {
        c = skip_word(reader, i == 0 ? ' ' : c);
    }
    while (c == ' ') {
        c = reader_next(reader);
    }
    size_t length = 0;
    for (; c >= 0 && c != '\n'; c = reader_next(reader)) {
        if (length + 1 < capacity) {
            name[length++] = (char)c;
        }
    }
    name[length] = '\0';
    mapping->name = name;
    return true;
}

int os_mappings(bool (*visit)(const struct os_mapping *mapping, void *context), void *context)
{
    struct reader reader;
    char name[256];
    int saved = errno;
    int result = 0;
    reader_open(&reader, "/proc/self/maps");
    if (reader.fd < 0) {
        result = -errno;
    }
    struct os_mapping mapping;
    while (result == 0 && read_mapping(&reader, &mapping, name, sizeof name) && visit(&mapping, context)) {
    }
    reader_close(&reader);
    errno = saved;
    return result;
}

/* ---- code and stacks ---------------------------------------------------------------------------------------- */

/* The kernel copies the set before it looks at what is to be done with it: EFAULT tells that it couldn't. */
bool os_readable(const void *p)
{
    int saved = errno;
    const void *word = (const void *)round_down((uintptr_t)p, sizeof(uint64_t));
    bool readable = syscall(SYS_rt_sigprocmask, -1, word, NULL, sizeof(uint64_t)) == 0 || errno != EFAULT;
    errno = saved;
    return readable;
}

#if defined(DLFO_STRUCT_HAS_EH_DBASE) /* glibc from 2.35 on */
/* Weak: an older libc, or a static program that doesn't unwind, has none. Other static programs have it, but nothing in
 * them makes its tables ready: it would crash. */
__attribute__((weak)) int _dl_find_object(void *pc, struct dl_find_object *found);

int os_code_at(uintptr_t pc, struct os_code *code)
{
    struct dl_find_object found;
    if (_dl_find_object == NULL || getauxval(AT_BASE) == 0) {
        return -ENOSYS;
    }
    if (_dl_find_object((void *)pc, &found) != 0) {
        return -ENOENT;
    }
    code->begin = (uintptr_t)found.dlfo_map_start;
    code->end = (uintptr_t)found.dlfo_map_end;
    code->unwind = found.dlfo_eh_frame;
    return 0;
}
#else
int os_code_at(uintptr_t pc, struct os_code *code)
{
    (void)pc;
    (void)code;
    return -ENOSYS;
}
#endif

bool os_code_is_program(const struct os_code *code)
{
    return getauxval(AT_ENTRY) - code->begin < code->end - code->begin;
}

/* ---- fork --------------------------------------------------------------------------------------------------- */

int unix_wipe_at_fork(void *begin, size_t bytes)
{
    return advise(begin, bytes, MADV_WIPEONFORK);
}
