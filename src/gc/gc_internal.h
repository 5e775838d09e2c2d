/* SPDX-License-Identifier: MIT */
/* gc_internal.h - what the files of this room share. Unless a comment says otherwise, the caller holds gc->lock. */
#ifndef GC_GC_INTERNAL_H
#define GC_GC_INTERNAL_H

#include "base/atomic.h"
#include "base/base.h"
#include "base/format.h"
#include "gc/gc.h"
#include "os/os.h"

#include <allot/gcmap.h>

/* ---- books: memory of the room's own, in which no word is a root -------------------------------------------- */

struct books {
    size_t n_ranges; /* all that the room has mapped, by no order */
    struct {
        uintptr_t begin;
        uintptr_t end;
    } ranges[1024];
};

/* Zeroed whole pages; NULL when refused. They are never moved, and given back by books_release alone. */
void *books_map(size_t bytes);
void books_release(void *begin, size_t bytes);

/* Items of one size that stay where they are; freed ones are used again. */
#define STORE_CHUNKS 512u
struct store {
    size_t item_bytes; /* the first word of a free item is its link */
    void *free;
    size_t n_chunks;
    _Atomic(char *) chunks[STORE_CHUNKS]; /* OG4 */
};
size_t store_chunk_bytes(size_t i);
void *store_take(struct store *store); /* zeroed */
void store_give(struct store *store, void *item);

/* ---- mappings ----------------------------------------------------------------------------------------------- */

#define NAME_BYTES 32
#define FILE_BYTES 88

enum end { END_NONE, END_CLOSED, END_COLLECTED, END_UNMAPPED };

/* What the program mapped. Lives until the last of its pieces is used again. */
struct mapping {
    uint32_t n_pieces; /* ghosts included */
    uint32_t pins;
    bool marked;             /* of the collection under way */
    bool ending;             /* condemned: its pieces are about to go */
    bool is_private;         /* no file's memory, and not shared */
    uint8_t flags;           /* ALLOT_GCMAP_ */
    _Atomic uint8_t ended;   /* enum end */
    struct piece *first;     /* by address */
    struct mapping *next;    /* to be scanned, or to be ended */
    uintptr_t begin;         /* as it was made */
    size_t length;           /* as it was asked for */
    size_t unit;             /* page or huge page */
    _Atomic uint64_t serial; /* OG5: of this mapping; 0 from when it is condemned */
    uint64_t weak_serial;    /* the same, to be told by reports */
    allot_gcmap_finalizer finalizer;
    void *context;
    uintptr_t made_by; /* the code that called */
    char name[NAME_BYTES];
    char file[FILE_BYTES];
};

enum piece_state { PIECE_NONE, PIECE_FREE, PIECE_LIVE, PIECE_GHOST, PIECE_LOST };

/* A range of a region. */
struct piece {
    _Atomic uintptr_t begin; /* these three are read without the lock by who asks about an address: near is enough */
    _Atomic size_t bytes;
    _Atomic uint32_t state;
    _Atomic(struct mapping *) mapping; /* of live pieces and ghosts */
    struct piece *next_of_mapping;
    struct piece *next; /* free: of its size; ghosts: by age */
    struct piece *prev;
};

#define BINS 48u
#define REGIONS 64u

struct region {
    uintptr_t begin;
    uintptr_t end;
};

struct root {
    uintptr_t begin;
    uintptr_t end;
};
#define ROOTS_MOST 1024u

struct gc {
    struct os_lock lock;
    struct books books;
    struct store mappings;
    struct store pieces;
    struct store weaks;
    /* range.c */
    struct piece **order; /* all pieces, by address */
    size_t n_order;
    size_t order_room;
    struct piece *bins[BINS]; /* free pieces, by the highest bit of their bytes */
    struct piece *oldest;     /* ghosts */
    struct piece *youngest;
    size_t n_ghosts;
    struct region regions[REGIONS];
    size_t n_regions;
    size_t reserved_bytes;
    _Atomic uintptr_t hull_begin; /* of all regions */
    _Atomic uintptr_t hull_end;
    size_t mappings_most; /* that the system allows */
    /* collect.c */
    struct root roots[ROOTS_MOST];
    size_t n_roots;
    struct ranges *left_out; /* of a search under way */
    uint32_t *buckets;       /* see mark.c */
    uint64_t collected_ns;   /* when the last collection was */
    size_t number_since;     /* mappings made since */
    size_t bytes_since;
    size_t number_left; /* what it left */
    size_t bytes_left;
    uint64_t not_before_ns; /* after one that failed, no automatic one before */
    uint64_t patience_ns;
    uint64_t serial;
    /* suppress.c */
    struct store suppression_store;
    struct suppression *suppressions;
    bool suppressions_read;
    /* figures */
    _Atomic size_t n_active;
    _Atomic size_t bytes_active;
    _Atomic uint32_t thread_word; /* the collector's: 1 when it has something to do */
    bool has_thread;
    bool has_started;
};

/* Ranges that a search leaves out. */
#define RANGES_MOST 4096u
struct ranges {
    size_t n;
    struct root ranges[RANGES_MOST];
};

/* Made by gc_start, for good. The only static that leads into the books. */
extern _Atomic(struct gc *) gc_state;

INLINE struct gc *gc_now(void)
{
    return load_acquire(&gc_state); /* OG4 */
}

/* Makes the room ready; NULL when memory is refused. Takes no lock. */
struct gc *gc_start(void);

/* ---- range.c ------------------------------------------------------------------------------------------------ */

/* A piece of bytes at a multiple of unit, in state free, out of its bin. want: an address, or 0. NULL: -ENOMEM, and
 * another try may help when something has been collected. */
struct piece *range_take(struct gc *gc, size_t bytes, size_t unit, uintptr_t want);
/* The oldest ghost becomes free; false: there is none. */
bool range_exorcise(struct gc *gc);
/* It was never used: back to the bins. */
void range_give(struct gc *gc, struct piece *piece);
/* A live piece whose range has been reserved again. */
void range_bury(struct gc *gc, struct piece *piece);
/* Cuts a piece in two at an address within; NULL when there is no memory. The second one. Same state, same mapping. */
struct piece *range_split(struct gc *gc, struct piece *piece, uintptr_t at);
/* The piece that an address lies in; NULL: in no region. */
struct piece *range_find(struct gc *gc, uintptr_t address);
/* The same without the lock, for handlers: as long as the list is. */
struct piece *range_find_signal(struct gc *gc, uintptr_t address);

INLINE bool range_has(struct gc *gc, uintptr_t address)
{
    uintptr_t begin = load_relaxed(&gc->hull_begin); /* relaxed, as the pieces: near is enough without the lock */
    return address - begin < load_relaxed(&gc->hull_end) - begin;
}

/* ---- mapping.c ---------------------------------------------------------------------------------------------- */

/* Runs finalizer and sync, reserves the range again, counts. Without the lock; the mapping is condemned. 0, or why the
 * range could not be reserved (then the mapping is as before, less its finalizer). synced: msync's result. */
int mapping_end(struct gc *gc, struct mapping *mapping, enum end how, int *synced);
/* The mapping that has a live piece there; NULL: none. */
struct mapping *mapping_find(struct gc *gc, uintptr_t address);
/* From now on no weak reference leads to it. */
void mapping_condemn(struct mapping *mapping);
size_t mapping_bytes(const struct mapping *mapping);

/* ---- report.c ----------------------------------------------------------------------------------------------- */

void report_misuse(struct gc *gc, const char *call, const void *address);
bool report_fault(const struct os_access *access);

/* ---- collect.c ---------------------------------------------------------------------------------------------- */

/* Without the lock. stack: from STACK_HERE. told is filled. 0 or a positive errno. */
int gc_collect(uintptr_t stack, struct allot_gcmap_collected *told);
/* Takes the memory that a search needs. False: refused. */
bool collect_prepare(struct gc *gc);
/* Why threads could not be stopped, in words, and as an errno. */
int stop_fault_error(const struct os_stop *stop, const char **why);
/* Whether the trigger says so. */
bool gc_is_due(struct gc *gc, size_t bytes);
/* One for the trigger: on this thread, or by the collector's. */
void gc_collect_automatically(struct gc *gc, bool at_once);

/* ---- suppress.c --------------------------------------------------------------------------------------------- */

/* How many suppressions text holds, which must stay where it is. */
size_t suppress_read(struct gc *gc, const char *text);
/* The files that the environment names, once. */
void suppress_read_files(struct gc *gc);
size_t suppress_item_bytes(void);

/* ---- roots.c ------------------------------------------------------------------------------------------------ */

/* What a search looks through, while the other threads stand still. */
struct roots {
    struct gc *gc;
    uintptr_t stack;  /* the caller's: what lies below is nobody's */
    size_t n_threads; /* that stand still */
    int pages;        /* os_pages_open */
    bool leave_heap;  /* the heap's memory is left out */
    /* Gets ranges of aligned words that can be read. False: enough. */
    bool (*scan)(struct roots *roots, const uintptr_t *begin, const uintptr_t *end);
    void *context;
    uint64_t deadline_ns;
    size_t bytes; /* looked through so far */
    bool late;    /* the deadline passed */
    bool enough;  /* it did, or scan said so */
};

/* Registers, stacks, and all private memory that was written to, but for the room's books. 0, or why it can't be
 * listed. */
int roots_scan(struct roots *roots);
/* Of a range, what was written to since it was mapped. */
void roots_scan_written(struct roots *roots, uintptr_t begin, uintptr_t end);
/* Of a range, what can be read. */
void roots_scan_readable(struct roots *roots, uintptr_t begin, uintptr_t end);
/* Does a word at this address count? Not in a free block. */
bool roots_counts(const void *address);

#endif
