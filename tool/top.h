/* SPDX-License-Identifier: MIT */
/* top.h - between the files of allot top: samples of a process, and the lines that show them. */
#ifndef TOOL_TOP_H
#define TOOL_TOP_H

#include "heap_view.h"

#include <stdio.h>

#define HISTORY 256
#define CLASSES_MOST 256

struct class_sample {
    uint64_t block_bytes, n_slabs, n_blocks, n_live, resident_bytes;
};

struct sample {
    double at; /* seconds */
    uint64_t rss_bytes;
    struct heap_totals totals;
    uint64_t given_bytes;  /* blocks handed out on slow calls, since the start: a sample of all */
    uint64_t purged_bytes; /* since the start, as the next three */
    uint64_t faults;
    double cpu_seconds;
    size_t n_threads;
    struct class_sample classes[CLASSES_MOST];
    struct heap_of_thread *heaps;
    size_t n_heaps;
    double took; /* seconds */
};

/* What the last two samples say of a second. */
struct rates {
    double live_bytes, given_bytes, purged_bytes, faults, cpu;
};

struct watched {
    struct target target; /* pid 0: there is none now */
    char name[32];        /* of the program: who comes back under it is watched again */
    char version[24];
    bool by_socket;
    struct sample now, before;
    struct rates rates;
    unsigned n_samples;
    unsigned n_connects;
    float rss[HISTORY], live[HISTORY], faults[HISTORY], given[HISTORY]; /* a ring, the newest at n_samples - 1 */
};

/* Takes the next sample. False, after a line unless quiet, when the process has ended or can't be read. */
bool watched_sample(struct watched *watched);
void watched_close(struct watched *watched);

/* Lines of text, as wide as they like: whoever shows them cuts them. */
struct lines {
    char **of;
    size_t n;
};
void lines_add(struct lines *lines, const char *format, ...) __attribute__((format(printf, 2, 3)));
void lines_forget(struct lines *lines);

/* The whole answer about one process. */
void top_lines(struct lines *lines, const struct watched *watched, size_t width);

/* The processes that have a liballot mapped and may be looked at, the largest first. */
struct seen_process {
    pid_t pid;
    char name[32];
    uint64_t rss_bytes, live_bytes, free_slots_bytes, kept_bytes;
};
size_t top_processes(struct seen_process **out);
void top_process_lines(struct lines *lines, const struct seen_process *processes, size_t n);

#endif
