/* SPDX-License-Identifier: MIT */
/* heap_internal.h - what the files of this room share.
 *
 * A function that takes a heap runs with current lent and the heap the caller's own, unless it says otherwise.
 */
#ifndef HEAP_HEAP_INTERNAL_H
#define HEAP_HEAP_INTERNAL_H

#include "heap/heap.h"
#include "span/span.h"

/* ---- descriptors: what the map keeps of a span that the heap uses ------------------------------------------- */

/* Behind a span's own fields, at the same place in all three. */
struct slab {
    struct span span;             /* next, prev: in bin.partial. Owner only */
    _Atomic(struct heap *) owner; /* these three are set before the tag, and read by any, relaxed: a walk may be late */
    _Atomic uint8_t class;
    uint8_t in_partial; /* owner only, but for capacity also the next six */
    _Atomic uint16_t capacity;
    uint16_t n_free;
    _Atomic uint16_t n_carved;   /* written by the owner, read by any, relaxed: who has a block knows it was carved */
    _Atomic uint16_t bare_pages; /* likewise: a bit a page that went to the OS; blocks that begin there are bare */
    uint16_t n_bare;
    struct block *list;
    uint32_t stamp_ms; /* when a block was last put back */
    uint8_t in_sorted; /* under owner.sort_lock, as the rest */
    uint16_t n_sorted;
    struct block *sorted;
    struct slab *sorted_next;
    struct slab *sorted_prev;
};

struct medium {
    struct span span;             /* next, prev: in heap.medium. Owner only */
    _Atomic(struct heap *) owner; /* as in a slab */
    _Atomic uint8_t class;
    uint8_t in_partial; /* owner only, as the next five */
    _Atomic uint16_t capacity;
    _Atomic uint32_t block_bytes;
    _Atomic uint32_t reciprocal; /* of block_bytes in KiB: 2^32 / KiB, rounded up */
    uint8_t remote_purged;       /* under owner.sort_lock: all pages are zero */
    _Atomic uint64_t free;       /* written by the owner, read by any, relaxed */
    uint64_t touched;            /* handed out since the pages were zero */
    uint32_t stamp_ms;           /* when a block was last freed, by the clock's last look: see medium_date */
    uint32_t purged_ms;          /* when pages last went to the OS for want of room under the cap; 0: never */
    _Atomic uint64_t remote;     /* any thread: freed by others, not yet the owner's. O13 */
    struct medium *remote_next;  /* in owner.medium_inbox */
};

struct large {
    struct span span;
    struct heap *owner; /* NULL */
    size_t bytes;       /* usable: whole pages */
    size_t requested;
    size_t ghost_bytes; /* not 0: this was a large block of so many bytes, and is free */
};

_Static_assert(sizeof(struct slab) <= DESCRIPTOR_BYTES, "descriptor");
_Static_assert(sizeof(struct medium) <= DESCRIPTOR_BYTES, "descriptor");
_Static_assert(sizeof(struct large) <= DESCRIPTOR_BYTES, "descriptor");

/* What a pointer is, as far as map and descriptor tell without looking at the block. */
enum place_kind { PLACE_NONE, PLACE_GONE, PLACE_SMALL, PLACE_MEDIUM, PLACE_LARGE, PLACE_POOL, PLACE_GUARD };

struct place {
    enum place_kind kind;
    struct span *span; /* also struct slab, medium or large */
    char *block;       /* the block that covers the address; NULL when none does */
    size_t bytes;      /* its usable size */
    size_t offset;     /* of the address */
    bool guard_live;   /* PLACE_GUARD: what its hook says */
    bool unmapped;     /* PLACE_GONE: the block had a mapping of its own, and the address may be another's now */
    unsigned index;    /* PLACE_SMALL: counted from the first block; PLACE_MEDIUM: its bit */
};

struct place place_find(const void *p);

#define MEDIUM_CAP_FIRST (2 * MIB)
#define LARGE_MOST ((size_t)1 << 47)

/* The secret that all heaps share. */
uintptr_t heap_make_secret(void);
extern _Atomic uintptr_t heap_secret_word;

INLINE uintptr_t heap_secret(void)
{
    uintptr_t secret = load_relaxed(&heap_secret_word);
    return LIKELY(secret != 0) ? secret : heap_make_secret();
}

/* Of an address whose granule has a tag: then it has a descriptor. */
INLINE struct slab *slab_of(const void *p)
{
    struct slab *slab = map_descriptor(p);
    if (slab == NULL) {
        __builtin_unreachable();
    }
    return slab;
}

INLINE char *granule_begin(const void *p)
{
    return (char *)round_down((uintptr_t)p, GRANULE_BYTES);
}

/* Blocks lie against the granule's end. */
INLINE char *slab_first_block(const struct slab *slab, size_t block_bytes)
{
    return slab->span.begin + (GRANULE_BYTES - load_relaxed(&slab->capacity) * block_bytes);
}

/* A block of the bin's class begins at p, and has been cut. */
INLINE bool slab_has_block_at(const struct slab *slab, const struct bin *bin, const void *p)
{
    uint32_t at = (uint32_t)((uintptr_t)p % GRANULE_BYTES);
    uint32_t cut_end =
        (uint32_t)(GRANULE_BYTES - (load_relaxed(&slab->capacity) - load_relaxed(&slab->n_carved)) * bin->size);
    return at * bin->magic - bin->bias < bin->magic && at < cut_end;
}

INLINE struct medium *medium_of(const void *p)
{
    struct span *inner = map_descriptor(p);
    return (struct medium *)map_descriptor(granule_begin(p) - ((size_t)inner->back << GRANULE_SHIFT));
}

/* Of the block that covers p. Exact: spans are below 2^12 KiB, and blocks are whole KiB. */
INLINE unsigned medium_index(const struct medium *m, const void *p)
{
    return (unsigned)((ptr_diff(p, m->span.begin) >> 10) * load_relaxed(&m->reciprocal) >> 32);
}

INLINE bool medium_lives(const struct medium *m, const void *p, unsigned index)
{
    uint64_t free = load_relaxed(&m->free) | load_relaxed(&m->remote);
    return index < load_relaxed(&m->capacity) &&
           (const char *)p == m->span.begin + (size_t)index * load_relaxed(&m->block_bytes) && (free >> index & 1) == 0;
}

/* key: the block's address ^ the secret. */
INLINE bool block_reads(const struct block *b, uintptr_t key, uintptr_t form)
{
    uintptr_t sum = load_relaxed(&b->sum) ^ form ^ key;
    return form == FORM_OUTBOX ? sum >> FORM_OUTBOX_NUMBER == 0 : sum == load_relaxed(&b->link);
}

INLINE bool block_has_form(const struct block *b, uintptr_t form)
{
    return block_reads(b, (uintptr_t)b ^ heap_secret(), form);
}

/* ---- class.c ------------------------------------------------------------------------------------------------ */

/* bytes is at most MEDIUM_LARGEST. */
unsigned class_of(size_t bytes);
/* The least class of at least bytes whose size is a multiple of align; CLASS_COUNT when there is none. */
unsigned class_aligned(size_t bytes, size_t align);
/* How many granules a medium class's slabs have. */
unsigned class_medium_granules(unsigned c);

/* ---- thread.c ----------------------------------------------------------------------------------------------- */

/* The heap that the caller may use, current lent; made if there is none yet. NULL: a handler, a closed thread, or no
 * memory: then the pool serves. */
struct heap *heap_enter(void);
void heap_leave(struct heap *h);
/* Brings the heap's fast path in line with option fill and the hooks. */
void heap_follow_fill(struct heap *h);
#define TABLE_PAGES 256u
#define PAGE_HEAPS 512u

struct heap_page {
    _Atomic(struct heap *) heaps[PAGE_HEAPS];
};

extern struct heap_table {
    _Atomic(struct heap_page *) pages[TABLE_PAGES];
    _Atomic uint32_t n_heaps;
    _Atomic uint32_t n_idle;
    _Atomic uint32_t hint; /* about where an idle heap is */
    _Atomic uint32_t exit_ready;
    /* As os_fork_word has it. Relaxed: who reads 0 through it too early asks there. */
    _Atomic(uint32_t *) fork_word;
} heaps;

/* All heaps ever made, by number; NULL at the end. */
struct heap *heap_by_index(size_t i);
/* If the heap is idle, does its owner's work: takes in what others sent. */
void heap_serve_idle(struct heap *h);

/* ---- slab.c ------------------------------------------------------------------------------------------------- */

void bin_init(struct heap *h, unsigned c);
/* The bin's list is not empty afterwards; false when there is no memory. */
bool bin_refill(struct heap *h, unsigned c);
void bin_push(struct heap *h, struct bin *bin, struct block *b);
/* At most n of its newest blocks go back to their slabs. */
void bin_sort(struct heap *h, struct bin *bin, int32_t n);
void bin_unlearn(struct heap *h, uint32_t now_ms);
/* All bins' blocks back to their slabs; empty slabs back to the store. */
void slabs_flush(struct heap *h);
/* A block of h's own slab, in no list. */
void slab_put(struct heap *h, struct block *b, uint32_t now_ms);
void slab_release(struct heap *h, struct slab *slab);
/* After a slow path was left half done: lists made anew from what the blocks say. */
void slabs_rebuild(struct heap *h);
/* Pages of h's slabs on which no live block lies go to the OS; how many bytes. */
size_t slabs_purge(struct heap *h);

/* ---- remote.c ----------------------------------------------------------------------------------------------- */

/* By one who isn't the slab's owner. h: the caller's heap, NULL when it has none now. */
void remote_free(struct heap *h, struct slab *slab, struct block *b);
void outbox_flush(struct heap *h);
/* After a slow path was left half done: what the outbox held and nobody has been sent. */
void outbox_rebuild(struct heap *h);
/* By one who isn't the slab's owner. */
void remote_free_medium(struct medium *m, unsigned index);
/* Takes what others sent, into the bins or, for a heap that nobody uses, into the slabs; false when there was nothing.
 */
bool inbox_collect(struct heap *h, bool into_bins);
/* What others sorted for class c comes back into the slabs' own lists. */
void sorted_collect(struct heap *h, unsigned c);
/* What nobody waits for, but none may do at the same time. */
bool sort_lock_try(struct heap *h);
void sort_unlock(struct heap *h);
/* Whose holder won't come back: a thread that a fork lost, or a call of the caller's own that was left half done. */
bool sort_lock_is_own(struct heap *h);
/* The lists made anew from what the slabs say, and the lock free again. Nobody else uses them. */
void sorted_rebuild(struct heap *h);
/* After a slow path was left half done, with the lock: what it had taken and not put anywhere goes to the slabs. */
void collecting_rebuild(struct heap *h);

/* ---- medium.c ----------------------------------------------------------------------------------------------- */

/* heap.medium_chain_next: the chain may still be in the inbox. See medium_collect. */
#define CHAIN_NOT_TAKEN ((struct medium *)(uintptr_t)1)

/* *zero: the block is known to hold zeros. */
void *medium_malloc(struct heap *h, unsigned c, bool *zero);
/* A live block of h's own. */
void medium_free(struct heap *h, struct medium *m, unsigned index);
void medium_collect(struct heap *h);
/* Empty slabs back to the store. */
void medium_flush(struct heap *h);
/* After a slow path was left half done, with the lock. A block that was freed twice, or NULL: the caller reports it. */
char *medium_rebuild(struct heap *h);
void medium_report_twice(const char *block);
/* Free blocks' pages to the OS, of slabs quiet since before stamp_ms; how many bytes. */
size_t medium_purge(struct heap *h, uint32_t stamp_ms);
void medium_unlearn(struct heap *h);
/* A look at the clock after one at last_ms: what was freed in between is as old as it can be told to be, new. */
void medium_date(struct heap *h, uint32_t last_ms);

/* ---- large.c ------------------------------------------------------------------------------------------------ */

/* room_bytes: at least bytes; address space to grow into. */
void *large_malloc(size_t bytes, size_t room_bytes, size_t align, bool *zero);
void large_free(struct large *large);
/* In place; false when that can't be. */
bool large_resize(struct large *large, size_t bytes);
/* A block with a mapping of its own gets another size and may move; NULL when that can't be done. */
void *large_remap(struct large *large, size_t bytes);

/* ---- fault names: diagnose.c -------------------------------------------------------------------------------- */

/* Is p a live block, as far as can be told from any thread? If not, reports it under the name given. */
bool place_live(const struct place *place);
bool block_is_free(const struct block *b);
/* name_if_free: what it is called when p is a block, but a free one. */
void fault_of_pointer(const char *name, const char *name_if_free, const void *p);
/* A free block doesn't read as its list left it: written to, or freed twice at one instant. Never returns. */
void fault_of_free_block(const struct block *b);

/* ---- tick --------------------------------------------------------------------------------------------------- */

/* What is due by the clock; cheap when nothing is. */
void heap_tick(struct heap *h, uint64_t now_ms);

/* ---- figures ------------------------------------------------------------------------------------------------ */

size_t heap_count(void);
size_t heap_idle_count(void);

#endif
