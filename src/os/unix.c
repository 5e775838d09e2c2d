/* SPDX-License-Identifier: MIT */
/* unix.c - the part of os.h that is the same on every Unix; linux.c or posix.c has the rest. */
#define _GNU_SOURCE
#include "os/os.h"

#include "base/atomic.h"
#include "base/base.h"
#include "os/unix_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <ucontext.h>
#include <unistd.h>

#define RESERVED (MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)

/* FreeBSD dropped the break with its 64-bit ARM and RISC-V ports, macOS only pretends to have one. */
#if defined(__APPLE__) || (defined(__FreeBSD__) && !defined(__x86_64__) && !defined(__i386__))
#define HAS_BREAK 0
#else
#define HAS_BREAK 1
#endif

static struct {
    pthread_key_t exit_key;
    _Atomic bool has_exit_key;
} os;

/* ---- memory ------------------------------------------------------------------------------------------------- */

static void *map_anywhere(size_t bytes, int protection, int flags)
{
    int saved = errno;
    void *p = mmap(NULL, bytes, protection, flags, -1, 0);
    errno = saved;
    return p == MAP_FAILED ? NULL : p;
}

int unix_unmap(void *begin, size_t bytes)
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
    unix_unmap(p, bytes);
    if (bytes > SIZE_MAX - align) {
        return NULL;
    }
    char *wide = map_anywhere(bytes + align, protection, flags);
    if (wide == NULL) {
        return NULL;
    }
    char *begin = (char *)round_up((uintptr_t)wide, align);
    unix_unmap(wide, ptr_diff(begin, wide));
    unix_unmap(begin + bytes, ptr_diff(wide + align, begin));
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

int os_protect(void *begin, size_t bytes)
{
    int saved = errno;
    int result = mprotect(begin, bytes, PROT_NONE) == 0 ? 0 : -errno;
    errno = saved;
    return result;
}

int os_release(void *begin, size_t bytes)
{
    return unix_unmap(begin, bytes);
}

void *os_map(size_t bytes, size_t align)
{
    return map_aligned(bytes, align, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
}

#if defined(__OpenBSD__)
size_t os_resident_bytes(void *begin, size_t bytes)
{
    (void)begin; /* mincore went, as a way to spy on others */
    return bytes;
}
#else
size_t os_resident_bytes(void *begin, size_t bytes)
{
    char pages[1024];
    size_t page = os_page_bytes();
    size_t resident = 0;
    int saved = errno;
    for (size_t at = 0; at < bytes; at += sizeof pages * page) {
        size_t length = size_min(bytes - at, sizeof pages * page);
        if (mincore((char *)begin + at, length, (void *)pages) != 0) {
            resident += length;
            continue;
        }
        for (size_t i = 0; i < length / page; i++) {
            resident += (pages[i] & 1) != 0 ? page : 0;
        }
    }
    errno = saved;
    return resident;
}
#endif

#if HAS_BREAK
/* By libc's sbrk, so that its own idea of the break stays right. Where that never grows (musl), os_break_grow refuses.
 */
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
    size_t page = os_page_bytes();
    void *result = NULL;
    void *old = sbrk(0);
    size_t pad = old == (void *)-1 ? 0 : round_up((uintptr_t)old, page) - (uintptr_t)old;
    if (old != (void *)-1 && bytes <= PTRDIFF_MAX - pad) {
        char *p = sbrk((intptr_t)(bytes + pad));
        /* The program may have moved the break between the two calls; then what came is too short by some bytes and
         * stays unused. */
        if (p != (char *)-1 && round_up((uintptr_t)p, page) - (uintptr_t)p <= pad) {
            result = (void *)round_up((uintptr_t)p, page);
        }
    }
    errno = saved;
    return result;
}
#else
void *os_break_now(void)
{
    return NULL;
}

void *os_break_grow(size_t bytes)
{
    (void)bytes;
    return NULL;
}
#endif

/* ---- memory as somebody wants it ---------------------------------------------------------------------------- */

#if defined(MAP_FIXED_NOREPLACE)
#define AT_ONLY MAP_FIXED_NOREPLACE
#elif defined(MAP_EXCL)
#define AT_ONLY (MAP_FIXED | MAP_EXCL)
#else
#define AT_ONLY 0 /* then an address is a hint, and what came is looked at */
#endif
#define NEAR_TRIES 16

static int view_flags(const struct os_view *view)
{
    int flags = view->flags | (view->fd < 0 ? MAP_ANONYMOUS : 0) | (view->reserve ? MAP_NORESERVE : 0);
    return (flags & MAP_SHARED) != 0 ? flags : flags | MAP_PRIVATE;
}

static int map_view(const struct os_view *view, void *address, size_t bytes, int flags, void **out)
{
    int saved = errno;
    int protection = view->reserve ? PROT_NONE : view->protection < 0 ? PROT_READ | PROT_WRITE : view->protection;
    void *p = mmap(address, bytes, protection, view_flags(view) | flags, view->fd, (off_t)view->offset);
    int error = p == MAP_FAILED ? -errno : 0;
    errno = saved;
    if (error == 0) {
        *out = p;
    }
    return error;
}

/* Finds the room with a wider reservation, and maps over its middle. */
static int map_view_aligned(const struct os_view *view, void **out)
{
    struct os_view room = {.fd = -1, .reserve = true};
    void *wide;
    if (view->bytes > SIZE_MAX - view->align) {
        return -ENOMEM;
    }
    int error = map_view(&room, NULL, view->bytes + view->align, 0, &wide);
    if (error != 0) {
        return error;
    }
    char *begin = (char *)round_up((uintptr_t)wide, view->align);
    error = map_view(view, begin, view->bytes, MAP_FIXED, out);
    if (error != 0) {
        unix_unmap(wide, view->bytes + view->align);
        return error;
    }
    unix_unmap(wide, ptr_diff(begin, wide));
    unix_unmap(begin + view->bytes, ptr_diff((char *)wide + view->align, begin));
    return 0;
}

int os_view_map(const struct os_view *view, void **out)
{
    void *p;
    void *hint = (void *)round_down((uintptr_t)view->address, os_page_bytes());
    int error = map_view(view, hint, view->bytes, 0, &p);
    if (error != 0) {
        return error;
    }
    if (((uintptr_t)p & (view->align - 1)) != 0) {
        unix_unmap(p, view->bytes);
        return map_view_aligned(view, out);
    }
    *out = p;
    return 0;
}

/* The free place nearest to an address, while the mappings go by in ascending order. */
struct place_near {
    uintptr_t wanted;
    uintptr_t least;
    uintptr_t most; /* the last address that it may begin at */
    size_t bytes;
    size_t align;
    uintptr_t gap_begin;
    uintptr_t best; /* 0: none yet */
};

static uintptr_t distance_of(uintptr_t a, uintptr_t b)
{
    return a > b ? a - b : b - a;
}

static void consider_gap(struct place_near *place, uintptr_t begin, uintptr_t end)
{
    begin = round_up(begin > place->least ? begin : place->least, place->align);
    if (end <= begin || end - begin < place->bytes) {
        return;
    }
    uintptr_t last = round_down(end - place->bytes, place->align);
    last = last < place->most ? last : round_down(place->most, place->align);
    if (last < begin) {
        return;
    }
    uintptr_t wanted = round_down(place->wanted, place->align);
    uintptr_t at = wanted < begin ? begin : wanted > last ? last : wanted;
    if (place->best == 0 || distance_of(at, place->wanted) < distance_of(place->best, place->wanted)) {
        place->best = at;
    }
}

static bool gap_before(const struct os_mapping *mapping, void *context)
{
    struct place_near *place = context;
    if (mapping->begin > place->gap_begin) {
        consider_gap(place, place->gap_begin, mapping->begin);
    }
    place->gap_begin = mapping->end;
    return mapping->begin <= place->most;
}

/* 1: taken. 0: somebody else has it. Otherwise a negative errno. */
static int map_view_only_at(const struct os_view *view, uintptr_t at, void **out)
{
    void *p;
    int error = map_view(view, (void *)at, view->bytes, AT_ONLY, &p);
    if (error != 0) {
        return error == -EEXIST ? 0 : error;
    }
    if ((uintptr_t)p != at) {
        unix_unmap(p, view->bytes);
        return 0;
    }
    *out = p;
    return 1;
}

/* Another thread may be quicker, hence the tries. */
static int map_in_gap(const struct os_view *view, struct place_near *place, void **out)
{
    uintptr_t first = place->gap_begin;
    for (int i = 0; i < NEAR_TRIES; i++) {
        place->gap_begin = first;
        place->best = 0;
        int error = os_mappings(gap_before, place);
        if (error != 0) {
            return error;
        }
        if (place->gap_begin <= place->most) {
            consider_gap(place, place->gap_begin, place->most + place->bytes);
        }
        if (place->best == 0) {
            return -ENOMEM;
        }
        int result = map_view_only_at(view, place->best, out);
        if (result != 0) {
            return result < 0 ? result : 0;
        }
    }
    return -EAGAIN;
}

/* Where the system doesn't tell what is mapped: steps away from the address, upwards and downwards in turn. */
static int map_by_steps(const struct os_view *view, const struct place_near *place, void **out)
{
    size_t step = size_max(round_up(MIB, view->align), round_up(view->bytes, view->align) / 4);
    uintptr_t wanted = round_down(place->wanted, view->align);
    for (size_t away = 0; away < place->most - place->least + step; away += step) {
        const uintptr_t tries[] = {wanted + away, wanted > away ? wanted - away : 0};
        for (size_t i = 0; i < 2; i++) {
            if (tries[i] >= place->least && tries[i] <= place->most) {
                int result = map_view_only_at(view, tries[i], out);
                if (result != 0) {
                    return result < 0 ? result : 0;
                }
            }
        }
    }
    return -ENOMEM;
}

int os_view_map_near(const struct os_view *view, const void *near, size_t distance, void **out)
{
    const uintptr_t first = round_up(65536, view->align); /* below, the system maps nothing */
    const uintptr_t last = (uintptr_t)1 << 47;
    uintptr_t at = (uintptr_t)near;
    struct place_near place = {.wanted = at, .bytes = view->bytes, .align = view->align, .gap_begin = first};
    if (at >= last || view->bytes >= last) {
        return -ENOMEM;
    }
    place.least = at > distance && at - distance > first ? at - distance : first;
    uintptr_t end = at < last - size_min(distance, last) ? at + distance : last;
    if (end < place.least || end - place.least < view->bytes) {
        return -ENOMEM;
    }
    place.most = end - view->bytes;
    int error = map_in_gap(view, &place, out);
    return error == -ENOSYS ? map_by_steps(view, &place, out) : error;
}

bool os_view_flags_reserve(int flags)
{
    int refused = MAP_SHARED | MAP_FIXED;
#if defined(MAP_POPULATE)
    refused |= MAP_POPULATE;
#endif
#if defined(MAP_LOCKED)
    refused |= MAP_LOCKED;
#endif
#if defined(MAP_HUGETLB)
    refused |= MAP_HUGETLB;
#endif
    return (flags & refused) == 0;
}

int os_flags_shared(void)
{
    return MAP_SHARED;
}

int os_view_protect(void *begin, size_t bytes, int protection)
{
    int saved = errno;
    int result = mprotect(begin, bytes, protection) == 0 ? 0 : -errno;
    errno = saved;
    return result;
}

int os_protection_usual(void)
{
    return PROT_READ | PROT_WRITE;
}

int os_protection_read(void)
{
    return PROT_READ;
}

int os_protection_execute(void)
{
    return PROT_READ | PROT_EXEC;
}

size_t os_file_bytes(int fd)
{
    struct stat file;
    int saved = errno;
    int result = fstat(fd, &file);
    errno = saved;
    return result != 0 || !S_ISREG(file.st_mode) ? SIZE_MAX : (size_t)file.st_size;
}

int unix_file_sized(int fd, size_t bytes)
{
    int saved = errno;
    int result = fd < 0 ? -errno : ftruncate(fd, (off_t)bytes) == 0 ? fd : -errno;
    if (fd >= 0 && result < 0) {
        os_file_close(fd);
    }
    errno = saved;
    return result;
}

/* ---- the process -------------------------------------------------------------------------------------------- */

/* The value when entry is "name=value", copied and cut. */
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

bool unix_find_value(char *const *entries, const char *name, char *buffer, size_t capacity)
{
    for (; *entries != NULL; entries++) {
        if (copy_value(*entries, name, buffer, capacity)) {
            return true;
        }
    }
    return false;
}

#define FILE_SEPARATORS " :"

/* Moves what stays of a list of files to its front; false when nothing does. */
static bool keep_others(char *list, const char *file)
{
    char *end = list; /* of what stays */
    const char *rest = list + strspn(list, FILE_SEPARATORS);
    while (*rest != '\0') {
        size_t length = strcspn(rest, FILE_SEPARATORS);
        const char *name = rest;
        for (size_t i = 0; i < length; i++) {
            name = rest[i] == '/' ? rest + i + 1 : name;
        }
        if (strncmp(name, file, strlen(file)) != 0) {
            if (end != list) {
                *end++ = ':';
            }
            memmove(end, rest, length);
            end += length;
        }
        rest += length;
        rest += strspn(rest, FILE_SEPARATORS);
    }
    *end = '\0';
    return end != list;
}

void unix_forget_file(char **entries, const char *name, const char *file)
{
    size_t length = strlen(name);
    while (*entries != NULL) {
        bool found = strncmp(*entries, name, length) == 0 && (*entries)[length] == '=';
        if (!found || keep_others(*entries + length + 1, file)) {
            entries++;
            continue;
        }
        for (char **entry = entries; *entry != NULL; entry++) {
            entry[0] = entry[1];
        }
    }
}

static size_t limit_of(int result, const struct rlimit *limit)
{
    return result != 0 || limit->rlim_cur == RLIM_INFINITY || limit->rlim_cur > SIZE_MAX ? SIZE_MAX
                                                                                         : (size_t)limit->rlim_cur;
}

size_t os_address_space_limit(void)
{
#if defined(RLIMIT_AS)
    struct rlimit limit;
    int saved = errno;
    int result = getrlimit(RLIMIT_AS, &limit);
    errno = saved;
    return limit_of(result, &limit);
#else
    return SIZE_MAX; /* OpenBSD */
#endif
}

size_t unix_memory_limit(void)
{
    struct rlimit limit;
    int saved = errno;
    int result = getrlimit(RLIMIT_DATA, &limit);
    errno = saved;
    return size_min(limit_of(result, &limit), os_address_space_limit());
}

/* Waits for a pipe to drain. False when it hasn't until the deadline, whatever signals come meanwhile. */
static bool wait_writable(int file, uint64_t deadline_ms)
{
    struct pollfd error_output = {.fd = file, .events = POLLOUT};
    int result = -1;
    for (uint64_t now = os_now_ms(); result < 0 && now < deadline_ms; now = os_now_ms()) {
        result = poll(&error_output, 1, (int)(deadline_ms - now));
    }
    return result > 0;
}

/* A full pipe on which nobody blocks gets a second to take more; then the rest is lost, but the program isn't. */
static void write_all(int file, const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t n = write(file, bytes, length);
        if (n < 0 && (errno == EINTR || (errno == EAGAIN && wait_writable(file, os_now_ms() + 1000)))) {
            continue;
        }
        if (n <= 0) {
            break;
        }
        bytes += n;
        length -= (size_t)n;
    }
}

static bool is_pending(int signal)
{
    sigset_t pending;
    return sigpending(&pending) == 0 && sigismember(&pending, signal) == 1;
}

/* That nobody listens must not end the program: the SIGPIPE of our own writing is kept off and taken away. */
void os_write(int file, const char *bytes, size_t length)
{
    int saved = errno;
    int cancelable;
    int taken;
    sigset_t pipe_only;
    sigset_t before;
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelable);
    pthread_sigmask(SIG_BLOCK, &pipe_only, &before);
    bool not_ours = is_pending(SIGPIPE);
    write_all(file, bytes, length);
    if (!not_ours && is_pending(SIGPIPE)) {
        sigwait(&pipe_only, &taken);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_setcancelstate(cancelable, NULL);
    errno = saved;
}

void os_write_error(const char *bytes, size_t length)
{
    os_write(2, bytes, length);
}

bool os_error_is_terminal(void)
{
    int saved = errno;
    bool is_terminal = isatty(2) == 1;
    errno = saved;
    return is_terminal;
}

int os_append_to(const char *path)
{
    int saved = errno;
    int file = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
    int result = file >= 0 ? file : -errno;
    errno = saved;
    return result;
}

void os_close(int file)
{
    int saved = errno;
    close(file);
    errno = saved;
}

/* A file lock of the process's own for as long as the file is open: children that share the file take turns. */
static void lock_file(int file)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    while (fcntl(file, F_SETLKW, &whole) < 0 && errno == EINTR) {
    }
}

int os_document_add(const char *path, const struct os_document *document, const char *item, size_t length)
{
    int saved = errno;
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
    if (file < 0) {
        int error = errno;
        errno = saved;
        return -error;
    }
    lock_file(file);
    off_t bytes = lseek(file, 0, SEEK_END);
    off_t tail_bytes = (off_t)strlen(document->tail);
    bool is_new = bytes < tail_bytes;
    const char *before = is_new ? document->head : document->between;
    lseek(file, is_new ? 0 : bytes - tail_bytes, SEEK_SET);
    os_write(file, before, strlen(before));
    os_write(file, item, length);
    os_write(file, document->tail, strlen(document->tail));
    close(file);
    errno = saved;
    return 0;
}

long os_read_file(const char *path, char *buffer, size_t capacity)
{
    int saved = errno;
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    long result = file >= 0 ? 0 : -errno;
    size_t length = 0;
    while (file >= 0 && length + 1 < capacity) {
        ssize_t n = read(file, buffer + length, capacity - 1 - length);
        if (n <= 0 && errno != EINTR) {
            break;
        }
        length += n > 0 ? (size_t)n : 0;
    }
    buffer[length] = '\0';
    if (file >= 0) {
        close(file);
        result = (long)length;
    }
    errno = saved;
    return result;
}

void os_exit(int code)
{
    _exit(code);
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

/* ---- signals ------------------------------------------------------------------------------------------------ */

#if defined(__linux__) && defined(__x86_64__)
bool os_registers_of(const void *context, struct os_registers *registers)
{
    static const int by_dwarf[OS_REGISTERS] = {REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI,
                                               REG_RBP, REG_RSP, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                               REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP};
    const ucontext_t *c = context;
    for (size_t i = 0; i < OS_REGISTERS; i++) {
        registers->of[i] = (uintptr_t)c->uc_mcontext.gregs[by_dwarf[i]];
    }
    return true;
}
#elif defined(__linux__) && defined(__aarch64__)
bool os_registers_of(const void *context, struct os_registers *registers)
{
    const ucontext_t *c = context;
    for (size_t i = 0; i < 31; i++) {
        registers->of[i] = c->uc_mcontext.regs[i];
    }
    registers->of[OS_REGISTER_SP] = c->uc_mcontext.sp;
    registers->of[OS_REGISTER_PC] = c->uc_mcontext.pc;
    return true;
}
#else
bool os_registers_of(const void *context, struct os_registers *registers)
{
    (void)context;
    (void)registers;
    return false;
}
#endif

/* ---- threads ------------------------------------------------------------------------------------------------ */

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
    store_release(&os.has_exit_key, error == 0); /* O18: the key was written before */
    return -error;
}

int os_thread_exit_arm(void *value)
{
    int saved = errno; /* a high key makes libc allocate */
    int result = load_acquire(&os.has_exit_key) ? -pthread_setspecific(os.exit_key, value) : -EAGAIN; /* O18 */
    errno = saved;
    return result;
}

int os_fork_around(void (*before)(void), void (*parent)(void), void (*child)(void))
{
    return -pthread_atfork(before, parent, child);
}

int os_fork_init(void (*child)(void))
{
    return -pthread_atfork(NULL, NULL, child);
}

uint32_t *os_fork_word(void)
{
    static _Atomic(uint32_t *) the_word;
    static _Atomic bool there_is_none;        /* relaxed: it stands alone */
    uint32_t *word = load_acquire(&the_word); /* O20 pairs with the exchange below: the word is 1 already */
    if (word != NULL) {
        return word;
    }
    word = load_relaxed(&there_is_none) ? NULL : os_map(os_page_bytes(), os_page_bytes());
    if (word == NULL) {
        return NULL;
    }
    int error = unix_wipe_at_fork(word, os_page_bytes());
    if (error != 0) {
        unix_unmap(word, os_page_bytes());
        store_relaxed(&there_is_none, error == -ENOSYS || error == -EINVAL); /* otherwise a later call may have luck */
        return NULL;
    }
    *word = 1;
    uint32_t *expected = NULL;
    if (!cas_acq_rel(&the_word, &expected, word)) { /* O20 */
        unix_unmap(word, os_page_bytes());          /* another thread was first */
        return expected;
    }
    return word;
}
