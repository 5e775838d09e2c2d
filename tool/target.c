/* SPDX-License-Identifier: MIT */
/* target.c - processes by /proc; target_core.c has core files. See target.h. */
#include "target.h"

#include "target_core.h"
#include "tool.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* ---- files of /proc ----------------------------------------------------------------------------------------- */

char *process_file(pid_t pid, const char *name, size_t *length)
{
    char path[320];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return NULL;
    }
    size_t capacity = 16384;
    size_t n = 0;
    char *text = take_memory(capacity);
    for (;;) {
        if (capacity - n < 4096) {
            capacity *= 2;
            text = take_more(text, capacity);
        }
        ssize_t got = read(fd, text + n, capacity - n - 1);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            int error = errno;
            close(fd);
            free(text);
            errno = error;
            return NULL;
        }
        if (got == 0) {
            break;
        }
        n += (size_t)got;
    }
    close(fd);
    text[n] = '\0';
    if (length != NULL) {
        *length = n;
    }
    return text;
}

uint64_t number_after(const char *text, const char *word)
{
    size_t length = strlen(word);
    for (const char *line = text; line != NULL && *line != '\0';) {
        if (strncmp(line, word, length) == 0) {
            return strtoull(line + length, NULL, 10);
        }
        line = strchr(line, '\n');
        line = line == NULL ? NULL : line + 1;
    }
    return 0;
}

bool process_user(pid_t pid, uid_t *user)
{
    char path[64];
    struct stat status;
    snprintf(path, sizeof path, "/proc/%d", (int)pid);
    if (stat(path, &status) != 0) {
        return false;
    }
    *user = status.st_uid;
    return true;
}

/* Field n of /proc/PID/stat, counted from 1 as proc(5) does; n is at least 3. */
static uint64_t stat_field(pid_t pid, int n)
{
    char *text = process_file(pid, "stat", NULL);
    const char *at = text == NULL ? NULL : strrchr(text, ')'); /* the name may hold anything */
    for (int i = 2; at != NULL && i < n; i++) {
        at = strchr(at + 1, ' ');
    }
    uint64_t value = at == NULL ? 0 : strtoull(at + 1, NULL, 10);
    free(text);
    return value;
}

/* ---- mappings ----------------------------------------------------------------------------------------------- */

static struct mapping *mapping_add(struct target *target)
{
    size_t n = target->n_mappings;
    if ((n & (n - 1)) == 0) {
        target->mappings = take_more(target->mappings, (n == 0 ? 1 : n * 2) * sizeof *target->mappings);
    }
    struct mapping *mapping = &target->mappings[target->n_mappings++];
    memset(mapping, 0, sizeof *mapping);
    return mapping;
}

struct mapping *target_add_mapping(struct target *target, uint64_t begin, uint64_t end, const char *name)
{
    struct mapping *mapping = mapping_add(target);
    mapping->begin = begin;
    mapping->end = end;
    mapping->name = take_copy(name);
    return mapping;
}

static void mappings_forget(struct target *target)
{
    for (size_t i = 0; i < target->n_mappings; i++) {
        free(target->mappings[i].name);
    }
    free(target->mappings);
    target->mappings = NULL;
    target->n_mappings = 0;
}

/* begin-end rwxp offset device inode name */
static bool parse_mapping(struct target *target, char *line)
{
    uint64_t begin, end, offset;
    char rights[5];
    int name_at = 0;
    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %*s %*s %n", &begin, &end, rights, &offset, &name_at) <
            4 ||
        name_at == 0) {
        return false;
    }
    struct mapping *mapping = target_add_mapping(target, begin, end, line + name_at);
    mapping->offset = offset;
    mapping->readable = rights[0] == 'r';
    mapping->writable = rights[1] == 'w';
    mapping->executable = rights[2] == 'x';
    mapping->shared = rights[3] == 's';
    return true;
}

static bool read_mappings(struct target *target)
{
    char *text = process_file(target->pid, "smaps", NULL);
    if (text == NULL) {
        return false;
    }
    mappings_forget(target);
    target->rss_bytes = 0;
    target->swap_bytes = 0;
    char *rest = text;
    for (char *line; (line = strsep(&rest, "\n")) != NULL && *line != '\0';) {
        struct mapping *last = target->n_mappings == 0 ? NULL : &target->mappings[target->n_mappings - 1];
        if (isdigit((unsigned char)line[0]) || (line[0] >= 'a' && line[0] <= 'f')) {
            parse_mapping(target, line);
        } else if (last != NULL && strncmp(line, "Rss:", 4) == 0) {
            last->rss_bytes = strtoull(line + 4, NULL, 10) * 1024;
            target->rss_bytes += last->rss_bytes;
        } else if (last != NULL && strncmp(line, "Swap:", 5) == 0) {
            last->swap_bytes = strtoull(line + 5, NULL, 10) * 1024;
            target->swap_bytes += last->swap_bytes;
        }
    }
    free(text);
    return target->n_mappings > 0;
}

size_t target_mapping_from(const struct target *target, uint64_t address)
{
    size_t low = 0;
    size_t high = target->n_mappings;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (target->mappings[middle].end <= address) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

const struct mapping *target_mapping(const struct target *target, uint64_t address)
{
    size_t i = target_mapping_from(target, address);
    return i < target->n_mappings && target->mappings[i].begin <= address ? &target->mappings[i] : NULL;
}

/* ---- threads ------------------------------------------------------------------------------------------------ */

struct thread *target_add_thread(struct target *target, pid_t tid)
{
    target->threads = take_more(target->threads, (target->n_threads + 1) * sizeof *target->threads);
    struct thread *thread = &target->threads[target->n_threads++];
    *thread = (struct thread){.tid = tid};
    return thread;
}

/* /proc/PID/task/TID/syscall: "nr args... sp pc" of a thread that waits, "running" of one that runs. */
static void read_thread(struct target *target, const char *tid)
{
    struct thread *thread = target_add_thread(target, (pid_t)atoi(tid));
    char name[300];
    snprintf(name, sizeof name, "task/%s/comm", tid);
    char *text = process_file(target->pid, name, NULL);
    if (text != NULL) {
        snprintf(thread->name, sizeof thread->name, "%.*s", (int)strcspn(text, "\n"), text);
        free(text);
    }
    snprintf(name, sizeof name, "task/%s/syscall", tid);
    text = process_file(target->pid, name, NULL);
    char *last = text == NULL ? NULL : strrchr(text, ' ');
    if (last != NULL) {
        *last = '\0';
        char *before = strrchr(text, ' ');
        thread->stack = before == NULL ? 0 : strtoull(before + 1, NULL, 16);
    }
    free(text);
}

static void read_threads(struct target *target)
{
    char path[64];
    free(target->threads);
    target->threads = NULL;
    target->n_threads = 0;
    snprintf(path, sizeof path, "/proc/%d/task", (int)target->pid);
    DIR *tasks = opendir(path);
    for (struct dirent *entry; tasks != NULL && (entry = readdir(tasks)) != NULL;) {
        if (isdigit((unsigned char)entry->d_name[0])) {
            read_thread(target, entry->d_name);
        }
    }
    if (tasks != NULL) {
        closedir(tasks);
    }
}

pid_t target_thread_by_storage(const struct target *target, uint64_t address)
{
    const struct mapping *mapping = address == 0 ? NULL : target_mapping(target, address);
    for (size_t i = 0; mapping != NULL && i < target->n_threads; i++) {
        const struct thread *thread = &target->threads[i];
        if (thread->stack >= mapping->begin && thread->stack < mapping->end) {
            return thread->tid;
        }
    }
    /* The first thread's storage lies in no stack; those of others lie in stacks, which have guards below them. */
    const struct mapping *below = mapping == NULL || mapping == target->mappings ? NULL : mapping - 1;
    bool is_guarded = below != NULL && below->end == mapping->begin && !below->readable && !below->writable;
    return mapping != NULL && !is_guarded ? target->pid : 0;
}

/* ---- memory ------------------------------------------------------------------------------------------------- */

static bool read_by_file(struct target *target, uint64_t address, char *out, size_t bytes)
{
    while (bytes > 0 && target->mem_fd >= 0) {
        ssize_t got = pread(target->mem_fd, out, bytes, (off_t)address);
        if (got <= 0) {
            return false;
        }
        address += (uint64_t)got;
        out += got;
        bytes -= (size_t)got;
    }
    return bytes == 0;
}

bool target_read(struct target *target, uint64_t address, void *out, size_t bytes)
{
    if (address == 0 || address + bytes < address || bytes > PTRDIFF_MAX) {
        return false;
    }
    if (target->pid == 0) {
        return core_read(target, address, out, bytes);
    }
    struct iovec here = {.iov_base = out, .iov_len = bytes};
    struct iovec there = {.iov_base = (void *)(uintptr_t)address, .iov_len = bytes};
    ssize_t got = process_vm_readv(target->pid, &here, 1, &there, 1, 0);
    if (got == (ssize_t)bytes) {
        return true;
    }
    return (got < 0 && errno != EFAULT) && read_by_file(target, address, out, bytes);
}

bool target_read_string(struct target *target, uint64_t address, char *out, size_t capacity)
{
    size_t n = 0;
    out[0] = '\0';
    while (n + 1 < capacity) {
        if (!target_read(target, address + n, out + n, 1)) {
            out[n] = '\0';
            return n > 0;
        }
        if (out[n] == '\0') {
            return true;
        }
        n++;
    }
    out[n] = '\0';
    return true;
}

/* One byte of the program's own header: does the kernel let us? */
static void try_memory(struct target *target)
{
    char path[64];
    char byte;
    snprintf(path, sizeof path, "/proc/%d/mem", (int)target->pid);
    target->mem_fd = open(path, O_RDONLY | O_CLOEXEC);
    for (size_t i = 0; i < target->n_mappings; i++) {
        const struct mapping *mapping = &target->mappings[i];
        if (mapping->readable && mapping->name[0] == '/') {
            target->memory_refused = !target_read(target, mapping->begin, &byte, 1);
            target->memory_error = target->memory_refused ? errno : 0;
            return;
        }
    }
}

#define PAGES_AT_ONCE 512
#define PAGE_PRESENT (UINT64_C(1) << 63)
#define PAGE_IN_SWAP (UINT64_C(1) << 62)
#define PAGE_OF_FILE (UINT64_C(1) << 61)
#define PAGE_EXCLUSIVE (UINT64_C(1) << 56)

/* Entries of pagemap. How many came: fewer than n only when the kernel doesn't tell more. */
static size_t read_pagemap(struct target *target, uint64_t address, size_t n, uint64_t *entries)
{
    size_t done = 0;
    while (done < n && target->pagemap_fd >= 0) {
        off_t at = (off_t)((address / target->page_bytes + done) * sizeof entries[0]);
        ssize_t got = pread(target->pagemap_fd, entries + done, (n - done) * sizeof entries[0], at);
        if (got < (ssize_t)sizeof entries[0]) {
            break;
        }
        done += (size_t)got / sizeof entries[0];
    }
    return done;
}

/* Present, but neither a file's nor this process's alone: the page of zeros, which counts as nobody's memory, or a page
 * shared with a child since fork, which counts. */
static bool is_ambiguous(uint64_t entry)
{
    return (entry & PAGE_PRESENT) != 0 && (entry & (PAGE_EXCLUSIVE | PAGE_OF_FILE)) == 0;
}

/* The mapping's own figure tells which of the two they are: the sum that comes nearer. */
static bool ambiguous_count(struct target *target, struct mapping *mapping)
{
    uint64_t entries[PAGES_AT_ONCE];
    uint64_t sure = 0;
    uint64_t ambiguous = 0;
    if (mapping->ambiguous != 0) {
        return mapping->ambiguous > 0;
    }
    for (uint64_t at = mapping->begin; at < mapping->end; at += PAGES_AT_ONCE * target->page_bytes) {
        uint64_t left = (mapping->end - at) / target->page_bytes;
        size_t n = read_pagemap(target, at, left < PAGES_AT_ONCE ? (size_t)left : PAGES_AT_ONCE, entries);
        for (size_t i = 0; i < n; i++) {
            ambiguous += is_ambiguous(entries[i]) ? target->page_bytes : 0;
            sure += (entries[i] & PAGE_PRESENT) != 0 && !is_ambiguous(entries[i]) ? target->page_bytes : 0;
        }
    }
    mapping->ambiguous = mapping->rss_bytes > sure + ambiguous / 2 ? 1 : -1;
    return mapping->ambiguous > 0;
}

static uint8_t page_state(struct target *target, uint64_t address, uint64_t entry)
{
    if (is_ambiguous(entry)) {
        struct mapping *mapping = (struct mapping *)(uintptr_t)target_mapping(target, address);
        return mapping != NULL && ambiguous_count(target, mapping) ? PAGE_RESIDENT : PAGE_ABSENT;
    }
    if ((entry & PAGE_PRESENT) != 0) {
        return PAGE_RESIDENT;
    }
    return (entry & PAGE_IN_SWAP) != 0 ? PAGE_SWAPPED : PAGE_ABSENT;
}

void target_pages(struct target *target, uint64_t address, size_t n, uint8_t *states)
{
    if (target->pid == 0) {
        core_pages(target, address, n, states);
        return;
    }
    uint64_t entries[PAGES_AT_ONCE];
    for (size_t i = 0; i < n;) {
        size_t step = read_pagemap(target, address, n - i < PAGES_AT_ONCE ? n - i : PAGES_AT_ONCE, entries);
        if (step == 0) {
            memset(states + i, PAGE_RESIDENT, n - i);
            return;
        }
        for (size_t k = 0; k < step; k++) {
            states[i + k] = page_state(target, address + k * target->page_bytes, entries[k]);
        }
        i += step;
        address += step * target->page_bytes;
    }
}

/* ---- open and close ----------------------------------------------------------------------------------------- */

static bool gone(const struct target *target)
{
    return stat_field(target->pid, 22) != target->started_ticks;
}

bool target_refresh(struct target *target)
{
    if (target->pid == 0) {
        return true;
    }
    if (gone(target) || !read_mappings(target)) {
        complain("process %d has ended", (int)target->pid);
        return false;
    }
    read_threads(target);
    return true;
}

static bool open_process(struct target *target)
{
    char path[64];
    uid_t user;
    if (!process_user(target->pid, &user)) {
        complain("there is no process %d", (int)target->pid);
        return false;
    }
    target->started_ticks = stat_field(target->pid, 22);
    if (!read_mappings(target)) {
        int error = errno;
        if (error == EACCES || error == EPERM) {
            complain("process %d belongs to user %u and may not be looked at by user %u: run as that user, or as root",
                     (int)target->pid, (unsigned)user, (unsigned)geteuid());
        } else {
            complain("process %d has no memory of its own: it has ended, or is the kernel's", (int)target->pid);
        }
        return false;
    }
    read_threads(target);
    snprintf(path, sizeof path, "/proc/%d/pagemap", (int)target->pid);
    target->pagemap_fd = open(path, O_RDONLY | O_CLOEXEC);
    try_memory(target);
    char *name = process_file(target->pid, "comm", NULL);
    target->name = name == NULL ? take_copy("") : take_text("%.*s", (int)strcspn(name, "\n"), name);
    free(name);
    return true;
}

bool target_open(struct target *target, const char *what)
{
    *target = (struct target){.mem_fd = -1, .pagemap_fd = -1, .core_fd = -1};
    target->page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    bool is_number = what[0] != '\0' && what[strspn(what, "0123456789")] == '\0';
    bool opened;
    if (is_number && strlen(what) < 10) {
        target->pid = (pid_t)atoi(what);
        opened = open_process(target);
    } else if (is_number) {
        complain("there is no process %s", what);
        opened = false;
    } else {
        target->path = take_copy(what);
        opened = core_open(target);
    }
    if (!opened) {
        target_close(target);
    }
    return opened;
}

void target_close(struct target *target)
{
    mappings_forget(target);
    free(target->threads);
    free(target->segments);
    free(target->name);
    free(target->path);
    int fds[] = {target->mem_fd, target->pagemap_fd, target->core_fd};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    *target = (struct target){.mem_fd = -1, .pagemap_fd = -1, .core_fd = -1};
}
