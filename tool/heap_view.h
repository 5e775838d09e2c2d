/* SPDX-License-Identifier: MIT */
/* heap_view.h - the heap of a target as it was when it was read: every span, what is in it, what of it is resident.
 *
 * It is read through the root table (allot/root.h), or told by the process itself over its socket (look.h) where the
 * kernel lets nobody read memory. Of a process that runs it is no picture of one instant: a span may be another by now.
 */
#ifndef TOOL_HEAP_VIEW_H
#define TOOL_HEAP_VIEW_H

#include "target.h"

#define GRANULE_BYTES UINT64_C(65536)

enum span_use { USE_SMALL, USE_MEDIUM, USE_LARGE, USE_POOL, USE_FREE, USE_OTHER, N_USES };

/* Small blocks, ...: what a person reads. */
extern const char *const use_names[N_USES];
/* small, ...: what a program reads. */
extern const char *const use_keys[N_USES];

struct span_view {
    uint64_t begin;
    uint64_t bytes; /* whole granules */
    enum span_use use;
    bool own;             /* a mapping of its own */
    unsigned class_index; /* small and medium */
    uint32_t heap;        /* its number; 0: nobody's */
    uint64_t block_bytes; /* of a pool's span: of a unit */
    uint64_t first_block; /* its address */
    uint32_t n_blocks;    /* that were ever handed out or cut; of a pool's span, units */
    uint32_t n_live;
    uint64_t live_bytes;      /* usable bytes of live blocks */
    uint64_t requested_bytes; /* of a large block; otherwise 0: not known */
    uint64_t resident_bytes;
    uint64_t live_resident_bytes; /* of them, under live blocks */
    uint64_t idle_resident_bytes; /* in resident pages on which no live block lies */
    int64_t age_ms;               /* since a block came back, or since it is free; -1: not known */
    unsigned char *live_bits;     /* n_blocks of them; NULL: not looked at */
};

struct heap_of_thread {
    uint32_t number;
    bool idle;
    pid_t tid; /* 0: not known */
    uint64_t binned_blocks;
    uint64_t live_bytes; /* in its slabs */
};

struct range {
    uint64_t begin;
    uint64_t bytes;
};

struct arena_view {
    unsigned depth;  /* in the tree: who comes next with one more is a child */
    uint64_t serial; /* of no other arena of the process */
    unsigned kind;   /* general, bump, scratch */
    uint64_t size_bytes, live_bytes;
    uint64_t total_bytes;            /* with all below it */
    uint64_t soft_limit, hard_limit; /* 0: none */
    size_t n_segments;
    bool sealed;
    int line;
    char name[40];
    char file[208]; /* that made it */
};

struct option_view {
    char name[40];
    int64_t value;
};

struct heap_view {
    char version[24];
    bool by_socket;
    struct span_view *spans; /* by address */
    size_t n_spans;
    struct range *areas; /* what was cut from them, and is writable */
    size_t n_areas;
    uint64_t area_bytes; /* reserved */
    struct range *books;
    size_t n_books;
    uint64_t books_resident_bytes; /* by socket alone; otherwise 0 and to be found by the ranges */
    struct heap_of_thread *heaps;
    size_t n_heaps;
    struct arena_view *arenas; /* parents before their children */
    size_t n_arenas;
    struct option_view *options;
    size_t n_options;
    uint64_t class_bytes[256];
    size_t n_classes;
    size_t n_small;
    double rounding; /* usable bytes for a byte asked for, over small and medium blocks; at least 1 */
    uint64_t purged_bytes, n_purges, n_refusals;
    uint64_t sampled_bytes; /* what the classes gave to requests that came the slow way, since the start */
    uint64_t n_torn;        /* spans that made no sense when they were read */
};

/* with_blocks: live_bits stay in it. False after a line: the target has no allot, another version's, or nobody may read
 * it. */
bool heap_view_read(struct target *target, struct heap_view *view, bool with_blocks);
void heap_view_forget(struct heap_view *view);

/* The option's value; otherwise when the target doesn't know it. */
int64_t heap_view_option(const struct heap_view *view, const char *name, int64_t otherwise);

struct heap_totals {
    uint64_t live_bytes, requested_bytes, n_live;
    uint64_t free_bytes; /* in free blocks */
    uint64_t n_free;
    uint64_t resident_live, resident_requested, resident_rounding, resident_free_slots, resident_kept, resident_other;
    uint64_t resident_idle; /* of the free slots: in pages without a live block */
    uint64_t n_spans[N_USES], span_bytes[N_USES], resident_bytes[N_USES];
};
void heap_view_totals(const struct heap_view *view, struct heap_totals *totals);

#endif
