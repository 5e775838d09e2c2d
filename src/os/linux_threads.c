/* SPDX-License-Identifier: MIT */
/* linux_threads.c - all threads of the process, stopped; all memory that they could hold a pointer in.
 *
 * Idea.        /proc/self/task lists every thread, wherever it came from. Each gets a signal whose handler notes where
 *              stack and registers are, answers, and waits until the epoch moves on. Then the list is read again, until
 *              it names nobody new: who stands still makes no threads.
 *
 *                  caller                         handler of each other thread
 *                  epoch = odd
 *                  slot = ASKED, signal  ------>  slot's fields, state = STANDING, answers++, wake
 *                  wait for answers      <------
 *                  ... read memory ...            waits while epoch is the same
 *                  epoch = even, wake    ------>  goes on
 *
 * Rules.       The handler calls the kernel alone and touches no thread-local storage but errno. Between stop and go
 * the caller allocates nothing and calls nothing of libc's that locks. Orders.      OG2  the slot's fields, and all
 * that the thread wrote before, are seen by who sees its state. OG3  epoch: the handler sees the slots of the stop that
 * it was sent by; the thread sees what was done while it stood.
 */
#define _GNU_SOURCE
#include "os/os.h"

#include "base/atomic.h"
#include "base/base.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

/* The kernel's numbers: not every libc comes with its headers. */
#define FUTEX_WAIT_PRIVATE 128
#define FUTEX_WAKE_PRIVATE 129

/* ---- waiting ------------------------------------------------------------------------------------------------ */

void os_wait(_Atomic uint32_t *word, uint32_t value, unsigned ms)
{
    struct timespec timeout = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    int saved = errno;
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, &timeout, NULL, 0);
    errno = saved;
}

void os_wake(_Atomic uint32_t *word)
{
    int saved = errno;
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
    errno = saved;
}

/* ---- small files -------------------------------------------------------------------------------------------- */

static int open_file(const char *path, int flags)
{
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags | O_RDONLY | O_CLOEXEC);
}

static void close_file(int fd)
{
    syscall(SYS_close, fd);
}

/* The file's beginning as a string; false when there is no such file. */
static bool read_start(const char *path, char *buffer, size_t capacity)
{
    int fd = open_file(path, 0);
    size_t length = 0;
    while (fd >= 0 && length + 1 < capacity) {
        long n = syscall(SYS_read, fd, buffer + length, capacity - 1 - length);
        if (n <= 0 && !(n < 0 && errno == EINTR)) {
            break;
        }
        length += n < 0 ? 0 : (size_t)n;
    }
    buffer[length] = '\0';
    if (fd >= 0) {
        close_file(fd);
    }
    return fd >= 0;
}

static char *put_number(char *at, unsigned long n)
{
    char digits[24];
    size_t i = sizeof digits;
    do {
        digits[--i] = (char)('0' + n % 10);
    } while ((n /= 10) != 0);
    memcpy(at, digits + i, sizeof digits - i);
    return at + (sizeof digits - i);
}

static unsigned long number_at(const char *s, unsigned base)
{
    unsigned long n = 0;
    for (;; s++) {
        unsigned digit = *s >= '0' && *s <= '9'   ? (unsigned)(*s - '0')
                         : *s >= 'a' && *s <= 'f' ? (unsigned)(*s - 'a') + 10
                                                  : 99;
        if (digit >= base) {
            return n;
        }
        n = n * base + digit;
    }
}

void os_file_path(int fd, char *buffer, size_t capacity)
{
    char link[48] = "/proc/self/fd/";
    char path[4096];
    int saved = errno;
    *put_number(link + strlen(link), (unsigned long)(fd < 0 ? 0 : fd)) = '\0';
    long length = fd < 0 ? 0 : syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path);
    size_t n = length < 0 ? 0 : (size_t)length;
    size_t kept = size_min(n, capacity - 1);
    memcpy(buffer, path + (n - kept), kept);
    buffer[kept] = '\0';
    errno = saved;
}

size_t os_mappings_most(void)
{
    char text[32];
    int saved = errno;
    bool there = read_start("/proc/sys/vm/max_map_count", text, sizeof text);
    errno = saved;
    return there ? number_at(text, 10) : SIZE_MAX;
}

/* ---- memory that can be read
 * ----------------------------------------------------------------------------------------- */

/* The kernel's own way of asking (Linux 6.11): no text, and what is to be passed over costs nothing. */
struct query {
    uint64_t size, flags, address, begin, end, rights, page_bytes, offset, inode;
    uint32_t major, minor, name_bytes, build_id_bytes;
    uint64_t name, build_id;
};
#define QUERY _IOWR('f', 17, struct query)
#define QUERY_READABLE 0x1u
#define QUERY_WRITABLE 0x2u
#define QUERY_SHARED 0x8u
#define QUERY_OR_NEXT 0x10u

struct walk {
    bool (*visit)(const struct os_memory *, void *);
    void *context;
    uintptr_t first_stack; /* an address in the first thread's stack */
    uintptr_t shut_end;    /* of the newest mapping that can't be touched */
};

/* False: the visitor wants no more. */
static bool walk_mapping(struct walk *walk, uintptr_t begin, uintptr_t end, bool readable, bool writable, bool shared)
{
    if (!readable && !writable) {
        walk->shut_end = end;
    }
    if (!readable) {
        return true;
    }
    struct os_memory mapping = {
        .begin = begin,
        .end = end,
        .writable = writable,
        .shared = shared,
        .guarded = walk->shut_end == begin,
        .first_stack = walk->first_stack >= begin && walk->first_stack < end,
    };
    return walk->visit(&mapping, walk->context);
}

/* False when the kernel doesn't know the question. */
static bool walk_by_query(int maps, uintptr_t skip_begin, uintptr_t skip_end, struct walk *walk)
{
    struct query query = {.size = sizeof query, .flags = QUERY_OR_NEXT};
    for (;;) {
        if (syscall(SYS_ioctl, maps, QUERY, &query) != 0) {
            return errno == ENOENT;
        }
        bool skipped = query.begin >= skip_begin && query.begin < skip_end;
        if (!skipped && !walk_mapping(walk, query.begin, query.end, (query.rights & QUERY_READABLE) != 0,
                                      (query.rights & QUERY_WRITABLE) != 0, (query.rights & QUERY_SHARED) != 0)) {
            return true;
        }
        query = (struct query){.size = sizeof query, .flags = QUERY_OR_NEXT, .address = skipped ? skip_end : query.end};
    }
}

/* A line is: begin-end rwxp ... */
static bool walk_line(const char *line, uintptr_t skip_begin, uintptr_t skip_end, struct walk *walk)
{
    uintptr_t begin = number_at(line, 16);
    const char *dash = strchr(line, '-');
    const char *rights = dash == NULL ? NULL : strchr(dash, ' ');
    if (rights == NULL || (begin >= skip_begin && begin < skip_end)) {
        return true;
    }
    return walk_mapping(walk, begin, number_at(dash + 1, 16), rights[1] == 'r', rights[2] == 'w', rights[4] == 's');
}

static int walk_by_text(int maps, uintptr_t skip_begin, uintptr_t skip_end, struct walk *walk)
{
    char text[4096];
    size_t length = 0;
    bool in_line = false; /* the rest of a line too long for the buffer comes next */
    for (;;) {
        long n = syscall(SYS_read, maps, text + length, sizeof text - 1 - length);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? -errno : 0;
        }
        length += (size_t)n;
        text[length] = '\0';
        char *line = text;
        for (char *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
            *end = '\0';
            if (!in_line && !walk_line(line, skip_begin, skip_end, walk)) {
                return 0;
            }
            in_line = false;
        }
        length -= (size_t)(line - text);
        if (length == sizeof text - 1) { /* a path of thousands of bytes: what matters stands in front of it */
            if (!in_line && !walk_line(line, skip_begin, skip_end, walk)) {
                return 0;
            }
            in_line = true;
            length = 0;
        }
        memmove(text, line, length);
    }
}

int os_memory_each(uintptr_t skip_begin, uintptr_t skip_end, bool (*visit)(const struct os_memory *, void *),
                   void *context)
{
    int saved = errno;
    int maps = open_file("/proc/self/maps", 0);
    struct walk walk = {.visit = visit, .context = context, .first_stack = getauxval(AT_RANDOM)};
    int result = maps < 0 ? -errno : 0;
    if (maps >= 0) {
        if (!walk_by_query(maps, skip_begin, skip_end, &walk)) {
            walk.shut_end = 0;
            result = walk_by_text(maps, skip_begin, skip_end, &walk);
        }
        close_file(maps);
    }
    errno = saved;
    return result;
}

#if defined(__GLIBC__) && defined(__x86_64__)
#define SELF_SEARCHED (8 * KIB) /* libc's structure lies at the upper end, and is shorter */
#define SELF_WORD 2             /* the structure's words 0 and 2 are its own address */
#define TID_OFFSET 720          /* 0 or less: not yet there, or gone */

__attribute__((no_sanitize("address", "thread"))) uintptr_t os_stack_left(uintptr_t begin, uintptr_t end)
{
    uintptr_t from = end - begin > SELF_SEARCHED ? end - SELF_SEARCHED : begin;
    for (uintptr_t at = round_up(from, 64); at + TID_OFFSET < end; at += 64) {
        const uintptr_t *words = (const uintptr_t *)at;
        if (words[0] == at && words[SELF_WORD] == at && *(const int *)(at + TID_OFFSET) <= 0) {
            return at;
        }
    }
    return 0;
}
#else
uintptr_t os_stack_left(uintptr_t begin, uintptr_t end)
{
    (void)begin;
    (void)end;
    return 0; /* it can't be told */
}
#endif

/* ---- pages that were written to ----------------------------------------------------------------------------- */

/* PAGEMAP_SCAN (Linux 6.7). */
struct page_region {
    uint64_t begin, end, categories;
};
struct page_scan {
    uint64_t size, flags, begin, end, walk_end, regions, n_regions, most_pages;
    uint64_t inverted, all_of, any_of, told;
};
#define PAGE_SCAN _IOWR('f', 16, struct page_scan)
#define PAGE_FILE 0x4u
#define PAGE_PRESENT 0x8u
#define PAGE_SWAPPED 0x10u
#define PAGE_ZERO 0x20u

typedef void (*visit_range)(uintptr_t begin, uintptr_t end, void *context);

/* How far it came: end, or begin when the kernel doesn't know the question. */
static uintptr_t pages_by_scan(int pages, uintptr_t begin, uintptr_t end, visit_range visit, void *context)
{
    struct page_region regions[64];
    while (begin < end) {
        struct page_scan scan = {
            .size = sizeof scan,
            .begin = begin,
            .end = end,
            .regions = (uintptr_t)regions,
            .n_regions = sizeof regions / sizeof *regions,
            .inverted = PAGE_FILE | PAGE_ZERO,
            .all_of = PAGE_FILE | PAGE_ZERO,
            .any_of = PAGE_PRESENT | PAGE_SWAPPED,
            .told = PAGE_PRESENT,
        };
        long n = syscall(SYS_ioctl, pages, PAGE_SCAN, &scan);
        if (n < 0) {
            return begin;
        }
        for (long i = 0; i < n; i++) {
            visit(regions[i].begin, regions[i].end, context);
        }
        begin = scan.walk_end;
    }
    return begin;
}

#define ENTRY_PRESENT ((uint64_t)1 << 63)
#define ENTRY_SWAPPED ((uint64_t)1 << 62)
#define ENTRY_FILE ((uint64_t)1 << 61)

static uintptr_t pages_by_entry(int pages, uintptr_t begin, uintptr_t end, visit_range visit, void *context)
{
    uint64_t entries[512];
    size_t page = os_page_bytes();
    uintptr_t run = 0; /* where the written pages began that reach to begin; 0: none */
    while (begin < end) {
        size_t n = size_min((end - begin) / page, 512);
        long got = syscall(SYS_pread64, pages, entries, n * sizeof *entries, (off_t)(begin / page * sizeof *entries));
        if (got < (long)sizeof *entries) {
            break;
        }
        for (size_t i = 0; i < (size_t)got / sizeof *entries; i++, begin += page) {
            bool written = (entries[i] & (ENTRY_PRESENT | ENTRY_SWAPPED)) != 0 && (entries[i] & ENTRY_FILE) == 0;
            if (written && run == 0) {
                run = begin;
            } else if (!written && run != 0) {
                visit(run, begin, context);
                run = 0;
            }
        }
    }
    if (run != 0) {
        visit(run, begin, context);
    }
    return begin;
}

int os_pages_open(void)
{
    int saved = errno;
    int fd = open_file("/proc/self/pagemap", 0);
    errno = saved;
    return fd;
}

void os_pages_close(int pages)
{
    int saved = errno;
    if (pages >= 0) {
        close_file(pages);
    }
    errno = saved;
}

/* When the kernel doesn't tell. Not all that is mapped can be read: the page behind the end of a file, the kernel's
 * own. */
static void visit_readable(uintptr_t begin, uintptr_t end, visit_range visit, void *context)
{
    size_t page = os_page_bytes();
    while (begin < end) {
        uintptr_t to = begin;
        while (to < end && os_readable((const void *)to)) {
            to += page;
        }
        if (begin < to) {
            visit(begin, to, context);
        }
        begin = to + page;
    }
}

void os_pages_written(int pages, uintptr_t begin, uintptr_t end, visit_range visit, void *context)
{
    int saved = errno;
    uintptr_t from = round_down(begin, os_page_bytes());
    uintptr_t to = round_up(end, os_page_bytes());
    if (pages >= 0) {
        from = pages_by_scan(pages, from, to, visit, context);
    }
    if (pages >= 0 && from < to) {
        from = pages_by_entry(pages, from, to, visit, context);
    }
    visit_readable(from, to, visit, context);
    errno = saved;
}

/* ---- threads that stand still ------------------------------------------------------------------------------- */

#define SLOTS 32768u /* a power of two */
#define THREADS_MOST (SLOTS / 2)
/* How long a thread may block the signal, or be stopped by a debugger, before that is taken for its answer: threads
 * that begin or end block all signals for a moment. */
#define GRACE_NS 100000000u
#define BLOCKED_LONG_NS 1000000000u
/* A leaf function may use so much below its stack pointer. */
#if defined(__x86_64__)
#define RED_ZONE 128u
#else
#define RED_ZONE 0u
#endif

/* A slot's state, with the epoch that it is of in the upper bits. */
enum { ASKED = 1, STANDING = 2, GONE = 3, STATE_BITS = 2 };

#define STATE(epoch, what) ((uint32_t)(epoch) << STATE_BITS | (what))

/* A thread has its slot for good, found by its id: so what a handler writes that comes too late is its own. The slot of
 * a thread that is gone may become another's. */
struct CACHE_ALIGNED slot {
    _Atomic unsigned long id; /* 0: free */
    _Atomic uint32_t state;   /* OG2 */
    struct os_standing standing;
};

static struct {
    _Atomic uint32_t epoch;   /* odd: threads are asked to stop, or stand. OG3 */
    _Atomic uint32_t answers; /* goes up with each */
    struct slot *slots;       /* mapped before the handler is there */
    uint32_t *asked;          /* slots of this stop */
    uint32_t n_asked;
    uint32_t n_passed;
    uint32_t n_slots; /* in use */
    int signal;       /* that the handler is installed for; 0: none */
    struct sigaction before;
    sigset_t mask;          /* of the caller's, before the stop */
    unsigned long blocking; /* the thread that the last stop failed for, because it blocks the signal; 0: none */
    uint64_t blocking_ns;   /* since when */
} stop;

/* What the registers of the interrupted code are, as two ranges of words. */
static void note_registers(struct os_standing *standing, const ucontext_t *context)
{
    standing->ranges[0] = (const void *)&context->uc_mcontext;
    standing->words[0] = sizeof context->uc_mcontext / sizeof(uintptr_t);
    standing->words[1] = 0;
#if defined(__x86_64__)
    standing->stack = (uintptr_t)context->uc_mcontext.gregs[REG_RSP] - RED_ZONE;
    standing->ranges[0] = (const void *)context->uc_mcontext.gregs;
    standing->words[0] = REG_RIP + 1;
    /* Vector registers: the kernel says behind the old part how long all of it is. */
    const char *vectors = (const char *)context->uc_mcontext.fpregs;
    if (vectors != NULL) {
        uint32_t magic;
        uint32_t bytes;
        memcpy(&magic, vectors + 464, sizeof magic);
        memcpy(&bytes, vectors + 468, sizeof bytes);
        standing->ranges[1] = (const void *)vectors;
        standing->words[1] = (magic == 0x46505853u ? bytes & ~63u : 464) / sizeof(uintptr_t);
    }
#elif defined(__aarch64__)
    standing->stack = context->uc_mcontext.sp; /* and vector registers lie in the reserved part of uc_mcontext */
#else
    standing->stack = (uintptr_t)__builtin_frame_address(0); /* registers lie above, in the kernel's frame */
#endif
}

static struct slot *slot_of(unsigned long id)
{
    for (uint32_t i = 0; i < SLOTS; i++) {
        struct slot *slot = &stop.slots[(id + i) % SLOTS];
        unsigned long is = load_relaxed(&slot->id); /* relaxed: who finds its own id has been asked, OG3 */
        if (is == id || is == 0) {
            return is == id ? slot : NULL;
        }
    }
    return NULL;
}

static void stand_still(const ucontext_t *context)
{
    struct slot *slot = slot_of((unsigned long)syscall(SYS_gettid));
    for (;;) {
        uint32_t epoch = load_acquire(&stop.epoch); /* OG3 */
        uint32_t asked = STATE(epoch, ASKED);
        if ((epoch & 1) == 0 || slot == NULL || load_relaxed(&slot->state) != asked) {
            return; /* given up, or this thread's turn is yet to come: then the signal comes once more */
        }
        note_registers(&slot->standing, context);
        slot->standing.id = load_relaxed(&slot->id);
        slot->standing.self = (uintptr_t)pthread_self();
        if (!cas_acq_rel(&slot->state, &asked, STATE(epoch, STANDING))) { /* OG2 */
            continue;
        }
        add_acq_rel(&stop.answers, 1); /* OG2 */
        os_wake(&stop.answers);
        while (load_acquire(&stop.epoch) == epoch) { /* OG3 */
            os_wait(&stop.epoch, epoch, 1000);
        }
        return;
    }
}

static void on_stop(int signal, siginfo_t *info, void *context)
{
    int saved = errno;
    bool ours = info->si_code == SI_QUEUE && info->si_value.sival_ptr == (void *)&stop;
    /* If another's signal was there first, ours was merged with it. */
    stand_still(context);
    if (!ours) {
        if ((stop.before.sa_flags & SA_SIGINFO) != 0) {
            stop.before.sa_sigaction(signal, info, context);
        } else if (stop.before.sa_handler == SIG_DFL) {
            sigset_t only;
            sigemptyset(&only);
            sigaddset(&only, signal);
            sigaction(signal, &stop.before, NULL);
            raise(signal);
            pthread_sigmask(SIG_UNBLOCK, &only, NULL);
        } else if (stop.before.sa_handler != SIG_IGN) {
            stop.before.sa_handler(signal);
        }
    }
    errno = saved;
}

static bool slots_make(void)
{
    if (stop.slots == NULL) {
        size_t bytes = round_up(SLOTS * (sizeof(struct slot) + sizeof(uint32_t)), os_page_bytes());
        stop.slots = os_map(bytes, os_page_bytes());
        stop.asked = stop.slots == NULL ? NULL : (uint32_t *)(void *)(stop.slots + SLOTS);
    }
    return stop.slots != NULL;
}

/* The handler is there, and nobody has put another in its place. */
bool os_threads_prepare(void)
{
    return slots_make();
}

static enum os_stop_fault handler_ready(int signal)
{
    struct sigaction now;
    if (!slots_make()) {
        return OS_STOP_UNKNOWN;
    }
    if (sigaction(signal, NULL, &now) != 0) {
        return OS_STOP_REFUSED;
    }
    if ((now.sa_flags & SA_SIGINFO) != 0 && now.sa_sigaction == on_stop) {
        return OS_STOP_NONE;
    }
    if (stop.signal == signal) {
        return OS_STOP_TAKEN;
    }
    struct sigaction action = {.sa_sigaction = on_stop, .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};
    sigfillset(&action.sa_mask); /* no other handler may run on top of a thread that stands still */
    stop.before = now;
    if (sigaction(signal, &action, NULL) != 0) {
        return OS_STOP_REFUSED;
    }
    stop.signal = signal;
    return OS_STOP_NONE;
}

/* What the kernel says of a thread. */
struct status {
    bool there;
    bool dead;
    bool traced; /* or stopped */
    bool blocks; /* the signal */
    bool sleeps;
};

static struct status status_of(unsigned long id, int signal)
{
    char path[64] = "/proc/self/task/";
    char text[2048];
    strcpy(put_number(path + strlen(path), id), "/status");
    struct status status = {.there = read_start(path, text, sizeof text)};
    const char *state = strstr(text, "State:\t");
    const char *blocked = strstr(text, "SigBlk:\t");
    if (state != NULL) {
        status.dead = state[7] == 'Z' || state[7] == 'X';
        status.sleeps = state[7] == 'S';
        status.traced = state[7] == 't' || state[7] == 'T';
    }
    status.blocks = blocked != NULL && (number_at(blocked + 8, 16) >> (signal - 1) & 1) != 0;
    return status;
}

/* The slots of threads that are gone become free. */
static void slots_tidy(int signal)
{
    for (uint32_t i = 0; i < SLOTS; i++) {
        unsigned long id = load_relaxed(&stop.slots[i].id); /* relaxed: the caller's own */
        if (id != 0 && !status_of(id, signal).there) {
            store_relaxed(&stop.slots[i].id, (unsigned long)-1); /* free, but not an end of what lies behind it */
            stop.n_slots--;
        }
    }
}

static struct slot *slot_make(unsigned long id)
{
    struct slot *slot = slot_of(id);
    for (uint32_t i = 0; i < SLOTS && slot == NULL; i++) {
        struct slot *each = &stop.slots[(id + i) % SLOTS];
        unsigned long is = load_relaxed(&each->id); /* relaxed: the caller's own */
        if (is == 0 || is == (unsigned long)-1) {
            store_relaxed(&each->id, id);
            stop.n_slots++;
            slot = each;
        }
    }
    return slot;
}

static enum os_stop_fault ask(struct slot *slot, unsigned long id, int signal)
{
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_signo = signal;
    info.si_code = SI_QUEUE;
    info.si_pid = getpid();
    info.si_uid = getuid();
    info.si_value.sival_ptr = &stop;
    uint32_t epoch = load_relaxed(&stop.epoch);       /* relaxed: the caller's own */
    store_release(&slot->state, STATE(epoch, ASKED)); /* OG3: the slot is the thread's before it is asked */
    stop.asked[stop.n_asked++] = (uint32_t)(slot - stop.slots);
    if (syscall(SYS_rt_tgsigqueueinfo, getpid(), id, signal, &info) != 0) {
        store_relaxed(&slot->state, STATE(epoch, GONE));
        return errno == ESRCH ? OS_STOP_NONE : OS_STOP_REFUSED;
    }
    return OS_STOP_NONE;
}

/* False: it has been asked in this stop. */
static bool ask_if_new(unsigned long id, int signal, enum os_stop_fault *fault)
{
    struct slot *slot = stop.n_asked < THREADS_MOST ? slot_make(id) : NULL;
    if (slot == NULL) {
        *fault = OS_STOP_UNKNOWN;
        return false;
    }
    if (load_relaxed(&slot->state) >> STATE_BITS == (load_relaxed(&stop.epoch) << STATE_BITS) >> STATE_BITS) {
        return false;
    }
    *fault = ask(slot, id, signal);
    return true;
}

struct kernel_entry {
    uint64_t inode;
    int64_t offset;
    unsigned short bytes;
    unsigned char type;
    char name[];
};

/* Asks every thread that isn't asked yet. n: how many those were. */
static enum os_stop_fault ask_all(int signal, unsigned long self, uint32_t *n, unsigned long *thread)
{
    _Alignas(struct kernel_entry) char entries[4096];
    enum os_stop_fault fault = OS_STOP_NONE;
    int directory = open_file("/proc/self/task", O_DIRECTORY);
    *n = 0;
    if (directory < 0) {
        return OS_STOP_UNKNOWN;
    }
    long length = 0;
    while (fault == OS_STOP_NONE && (length = syscall(SYS_getdents64, directory, entries, sizeof entries)) > 0) {
        for (long at = 0; at < length && fault == OS_STOP_NONE;) {
            struct kernel_entry *entry = (void *)(entries + at);
            unsigned long id = number_at(entry->name, 10); /* 0: "." and ".." */
            at += entry->bytes;
            if (id != 0 && id != self && ask_if_new(id, signal, &fault)) {
                *thread = id;
                ++*n;
            }
        }
    }
    close_file(directory);
    return length < 0 ? OS_STOP_UNKNOWN : fault; /* a list that broke off is none */
}

/* Looks at who hasn't answered. Such a thread may be gone, or say why it never will. */
static enum os_stop_fault look(int signal, bool patient, bool pass_over, bool *all, unsigned long *thread)
{
    uint32_t epoch = load_relaxed(&stop.epoch); /* relaxed: the caller's own */
    *all = true;
    for (uint32_t i = 0; i < stop.n_asked; i++) {
        struct slot *slot = &stop.slots[stop.asked[i]];
        if (load_acquire(&slot->state) != STATE(epoch, ASKED)) { /* OG2 */
            continue;
        }
        unsigned long id = load_relaxed(&slot->id);
        struct status status = status_of(id, signal);
        if (!status.there || status.dead) {
            store_relaxed(&slot->state, STATE(epoch, GONE));
            continue;
        }
        *all = false;
        *thread = id;
        if (!patient && pass_over && status.blocks && status.sleeps) {
            store_relaxed(&slot->state, STATE(epoch, GONE));
            stop.n_passed++;
        } else if (!patient && (status.blocks || status.traced)) {
            return status.traced ? OS_STOP_TRACED : OS_STOP_BLOCKED;
        }
    }
    return OS_STOP_NONE;
}

static bool all_answered(void)
{
    uint32_t asked = STATE(load_relaxed(&stop.epoch), ASKED); /* relaxed: the caller's own */
    for (uint32_t i = 0; i < stop.n_asked; i++) {
        if (load_acquire(&stop.slots[stop.asked[i]].state) == asked) { /* OG2 */
            return false;
        }
    }
    return true;
}

static enum os_stop_fault wait_for_answers(int signal, bool pass_over, uint64_t begin_ns, uint64_t deadline_ns,
                                           unsigned long *thread)
{
    unsigned quiet = 0;
    for (;;) {
        uint32_t answers = load_acquire(&stop.answers); /* OG2 */
        if (all_answered()) {
            return OS_STOP_NONE;
        }
        os_wait(&stop.answers, answers, 2);
        if (load_relaxed(&stop.answers) != answers && ++quiet < 64) { /* relaxed: whether to look closer */
            continue;
        }
        quiet = 0;
        bool all;
        uint64_t now = os_now_ns();
        enum os_stop_fault fault = look(signal, now < begin_ns + GRACE_NS, pass_over, &all, thread);
        if (all || fault != OS_STOP_NONE) {
            return fault;
        }
        if (now >= deadline_ns) {
            return OS_STOP_SILENT;
        }
    }
}

static enum os_stop_fault stop_all(int signal, unsigned ms, bool pass_over, unsigned long *thread)
{
    uint64_t begin = os_now_ns();
    uint64_t deadline = begin + (uint64_t)ms * 1000000;
    unsigned long self = (unsigned long)syscall(SYS_gettid);
    for (;;) {
        uint32_t n;
        enum os_stop_fault fault = ask_all(signal, self, &n, thread);
        if (fault != OS_STOP_NONE || n == 0) {
            return fault;
        }
        fault = wait_for_answers(signal, pass_over, begin, deadline, thread);
        if (fault != OS_STOP_NONE) {
            return fault;
        }
    }
}

void os_threads_go(void)
{
    int saved = errno;
    add_acq_rel(&stop.epoch, 1); /* OG3: even */
    os_wake(&stop.epoch);
    pthread_sigmask(SIG_SETMASK, &stop.mask, NULL);
    errno = saved;
}

/* A thread that has blocked the signal for long is asked first, before anyone is held up. */
static bool still_blocked(int signal)
{
    unsigned long id = stop.blocking;
    if (id == 0 || os_now_ns() < stop.blocking_ns + BLOCKED_LONG_NS) {
        return false;
    }
    struct status status = status_of(id, signal);
    return status.there && !status.dead && status.blocks;
}

static void note_blocking(unsigned long id)
{
    if (id != stop.blocking) {
        stop.blocking = id;
        stop.blocking_ns = os_now_ns();
    }
}

bool os_threads_stop(int signal, unsigned ms, bool pass_over, struct os_stop *told)
{
    int saved = errno;
    sigset_t all;
    *told = (struct os_stop){.fault = handler_ready(signal)};
    if (told->fault == OS_STOP_NONE && !pass_over && still_blocked(signal)) {
        told->fault = OS_STOP_BLOCKED;
        told->thread = stop.blocking;
    }
    if (told->fault != OS_STOP_NONE) {
        errno = saved;
        return false;
    }
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &stop.mask);
    stop.n_asked = 0;
    stop.n_passed = 0;
    if (stop.n_slots > THREADS_MOST) {
        slots_tidy(signal);
    }
    /* OG3: the next odd number. It is odd already in a child whose parent was forked in the midst of a stop. */
    store_release(&stop.epoch, (load_relaxed(&stop.epoch) + 1) | 1);
    unsigned long thread = 0;
    told->fault = stop_all(signal, ms, pass_over, &thread);
    if (told->fault != OS_STOP_NONE) {
        told->thread = thread;
        os_threads_go();
    }
    note_blocking(told->fault == OS_STOP_BLOCKED ? thread : 0);
    told->n = stop.n_asked;
    told->n_passed = stop.n_passed;
    errno = saved;
    return told->fault == OS_STOP_NONE;
}

const struct os_standing *os_standing(size_t i)
{
    struct slot *slot = &stop.slots[stop.asked[i]];
    bool stands = load_acquire(&slot->state) == STATE(load_relaxed(&stop.epoch), STANDING); /* OG2 */
    return stands ? &slot->standing : NULL;
}
