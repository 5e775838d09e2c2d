/* SPDX-License-Identifier: MIT */
/* target.h - a running process or a core file, to be looked at: what it has mapped, what is resident, what its memory
 * holds.
 *
 * A process isn't stopped and notices nothing: memory comes by process_vm_readv or /proc/PID/mem, the rest from /proc.
 * What was read a moment ago may be otherwise now, and nothing that was read may be trusted as an index or a length.
 */
#ifndef TOOL_TARGET_H
#define TOOL_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct mapping {
    uint64_t begin;
    uint64_t end;
    uint64_t offset;
    bool readable, writable, executable, shared;
    uint64_t rss_bytes; /* what of it is resident; of a core, what the file holds */
    uint64_t swap_bytes;
    char *name;            /* a path, "[heap]" and the like, or "" */
    signed char ambiguous; /* inside: see ambiguous_count */
};

struct thread {
    pid_t tid;
    uint64_t stack; /* its stack pointer; 0 when that can't be told */
    char name[32];
};

struct segment; /* of a core file */

struct target {
    pid_t pid; /* 0: a core file */
    char *path;
    char *name; /* of the program */
    struct mapping *mappings;
    size_t n_mappings;
    struct thread *threads;
    size_t n_threads;
    uint64_t rss_bytes; /* the sum over the mappings */
    uint64_t swap_bytes;
    uint64_t page_bytes;
    uint64_t started_ticks; /* tells a process from another that has its number later */
    bool memory_refused;    /* the kernel forbids to read its memory */
    int memory_error;
    /* inside */
    int mem_fd;
    int pagemap_fd;
    int core_fd;
    uint64_t core_bytes;
    struct segment *segments;
    size_t n_segments;
};

/* what: a process's number, or a core file's path. A line says why not; then everything is closed again. */
bool target_open(struct target *target, const char *what);
void target_close(struct target *target);

/* Reads mappings and threads again. False, after a line, when the process is gone. */
bool target_refresh(struct target *target);

/* All bytes or nothing. */
bool target_read(struct target *target, uint64_t address, void *out, size_t bytes);
/* A string, cut at capacity; false when it can't be read. */
bool target_read_string(struct target *target, uint64_t address, char *out, size_t capacity);

/* Which of the mappings is the first that ends behind the address; n_mappings when none does. */
size_t target_mapping_from(const struct target *target, uint64_t address);
/* The mapping that covers the address; NULL. */
const struct mapping *target_mapping(const struct target *target, uint64_t address);

/* The thread whose thread-local storage has the address: its stack lies in the same mapping. 0 when that can't be told.
 */
pid_t target_thread_by_storage(const struct target *target, uint64_t address);

enum page_state { PAGE_ABSENT, PAGE_RESIDENT, PAGE_SWAPPED };
/* The states of n pages from address on. Where the kernel doesn't tell, they count as resident. */
void target_pages(struct target *target, uint64_t address, size_t n, uint8_t *states);

/* Of a process: the user it runs as. False when it is gone. */
bool process_user(pid_t pid, uid_t *user);
/* A file of /proc/PID as a string with its length; NULL when it can't be read (errno tells). The caller frees it. */
char *process_file(pid_t pid, const char *name, size_t *length);
/* The number after a word such as "VmRSS:" at the begin of a line of text; 0 when there is none. */
uint64_t number_after(const char *text, const char *word);

#endif
