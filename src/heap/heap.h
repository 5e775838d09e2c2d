/* SPDX-License-Identifier: MIT */
/* heap.h - malloc and free: the fast paths, and what other rooms may ask of the heap.
 *
 *     thread                   heap (one thread's at a time)          slab: a granule of blocks of one class
 *     current --> heap         bins[class].head -> b3 -> b2 -> b1     | .. | b1 | live | b2 | live | b3 | fresh |
 *          or --> heap_lent    tag = number << 8                      map: tag of the slab = number << 8 | class
 *     home    --> heap
 *
 * malloc pops from a bin, free pushes to it. One xor of the block's tag with the heap's gives the class, or a number
 * that is no class: for another thread's block, a large one, a pool's, none at all. All of that goes the slow way.
 *
 * While a thread is inside, current names heap_lent, whose bins are empty and whose tag matches nothing: a signal
 * handler that interrupts finds nothing it could take and goes the slow way too, to the pool. So does a thread that has
 * no heap yet, and one whose heap is closed.
 *
 * A free block:   word 0  link
 *                 word 1  link ^ address ^ secret ^ form
 *
 *     FORM_OWN      in a list of its owner
 *     FORM_SENT     sent to its owner: in its inbox
 *     FORM_SORTED   sorted by somebody else to its slab, which its owner hasn't looked at yet
 *     FORM_OUTBOX   in the outbox of the heap whose number stands in the lower 24 bits (word 1 holds no link then)
 *
 * Handing a block out clears word 1. The forms leave the upper 16 bits alone, so these tell free from live but for one
 * chance in 65536, and both words together but for one in 2^64 (2^40 for FORM_OUTBOX).
 *
 * Invariants.  H1  A block is in at most one of: a bin, its slab's list, its slab's sorted list, an inbox, an outbox.
 *              H2  slab.n_free is the length of slab.list; n_free <= n_carved <= capacity.
 *              H3  bin.limit - bin.room is the length of bin's list. No block of another heap's slab is ever in it.
 *              H4  A heap's number, tag and memory are its own for good; only a wholly free slab is tagged anew.
 * Threads.     A heap's bins and slabs are touched by its owner alone; inbox, sorted lists and state by any.
 * Signals.     malloc, free, calloc, realloc and aligned allocation are async-signal-safe.
 * Orders.      docs/CONCURRENCY.md
 */
#ifndef HEAP_HEAP_H
#define HEAP_HEAP_H

#include "base/atomic.h"
#include "base/base.h"
#include "base/hooks.h"
#include "map/map.h"

/* Classes: 16-byte steps to 128, then eight to each doubling. Small ones have bins; medium ones slabs of many granules
 * with a bitmap. What is larger has a span of its own. */
#define SMALL_CLASSES 56u
#define SMALL_LARGEST 8192u
#define MEDIUM_CLASSES 48u
#define MEDIUM_LARGEST ((size_t)512 * 1024)
#define CLASS_COUNT (SMALL_CLASSES + MEDIUM_CLASSES)
/* A small slab whose free blocks' pages were given to the OS: its blocks are freed the slow way. */
#define CLASS_SPARSE 0x80u

#define BLOCK_ALIGN 16u

/* Two tables lead from sizes to small classes: steps of 16 bytes to here, of 128 above. */
#define TABLE_LARGEST 1024u
#define TABLE_UPPER_STEP 128u

struct block {
    _Atomic uintptr_t link;
    _Atomic uintptr_t sum;
};

/* Many bits apart, so that a few flipped ones don't make one form of another. */
#define FORM_OWN ((uintptr_t)0)
#define FORM_SENT ((uintptr_t)0x6a09e667f3bc)
#define FORM_SORTED ((uintptr_t)0xbb67ae8584ca)
#define FORM_OUTBOX ((uintptr_t)0x3c6ef3000000)
#define FORM_OUTBOX_NUMBER 24 /* so many bits below are a heap's number */

struct slab;
struct medium;

/* One cache line. */
struct CACHE_ALIGNED bin {
    struct block *head; /* owner only, all of this struct */
    int32_t room;       /* limit less the length of the list; below 0 it is over the limit */
    uint32_t magic; /* off * magic - bias < magic, in 32 bits, when off is a multiple of size from the first block */
    uint32_t bias;
    uint32_t fresh_bytes; /* the slab being carved: what no block has been cut from yet */
    uintptr_t fresh_begin;
    int32_t limit;
    int32_t learned;     /* what limit is while blocks are taken; it falls below while they are only freed */
    uint32_t learned_ms; /* when that last grew */
    uint32_t size;
    struct slab *partial; /* slabs with a list of their own */
    uint32_t n_carved;    /* blocks of all slabs of the class */
    uint32_t n_listed;    /* of them, in slabs' lists or bare */
};

_Static_assert(sizeof(struct bin) == CACHE_LINE, "one cache line");

INLINE int32_t bin_count(const struct bin *bin)
{
    return bin->limit - bin->room;
}

#define OUTBOX_SLOTS 4u
#define OUTBOX_BLOCKS 32u

struct outbox_slot {
    struct heap *owner;
    uint32_t n;
    uint32_t bytes;
    struct block *blocks[OUTBOX_BLOCKS];
};

enum heap_state { HEAP_IDLE, HEAP_OWNED, HEAP_BUSY };

struct CACHE_ALIGNED heap {
    /* the fast path's: what a thread needs beside the bin itself is in one cache line */
    uint32_t tag;
    uint32_t number;
    uintptr_t secret;
    uintptr_t window_begin; /* as map_window has it; all 0 in a heap that nothing matches */
    uintptr_t window_granules;
    _Atomic uint32_t *window_tags;
    uint8_t class_of[TABLE_LARGEST / BLOCK_ALIGN + 1];            /* by (size + 15) / 16 */
    uint8_t upper_class_of[SMALL_LARGEST / TABLE_UPPER_STEP + 1]; /* above TABLE_LARGEST: by (size + 127) / 128 */
    struct bin bins[SMALL_CLASSES + 1];                           /* the last one is always empty, see heap_set_fill */

    /* owner only */
    bool filling;          /* no fast path: see heap_set_fill and base/hooks.h */
    bool in_slow;          /* a slow path is under way: the lists may be half changed */
    uint32_t tick_ms;      /* of the last look at the clock's duties */
    size_t learned_bytes;  /* the sum of what all bins have learned; no limit is above that */
    struct heap *next_own; /* other heaps of the same thread, see heap_enter */
    _Atomic(_Atomic(struct heap *) *)
        current_of; /* the owner's thread-local current; tells a forked child who was inside */
    struct outbox_slot outbox[OUTBOX_SLOTS];
    struct block *collecting; /* what was taken out of inbox or a sorted list, and has not been put anywhere yet */
    struct medium *medium[MEDIUM_CLASSES]; /* slabs with a free block */
    struct medium *medium_chain;           /* as collecting: taken out of medium_inbox. See medium_collect */
    struct medium *medium_chain_next;
    uint64_t medium_chain_free;
    size_t medium_dirty_bytes; /* free blocks whose pages may be resident */
    size_t medium_cap;
    uint32_t medium_learned_ms;
    uint32_t medium_calls;    /* since the last look at the clock */
    _Atomic uint64_t sampled_bytes;   /* what the classes hold of the requests that came the slow way */
    _Atomic uint64_t requested_bytes; /* what these asked for. Both are read by any, relaxed */
    int32_t until_sample;             /* about how many blocks may go by until one is sampled */

    /* any thread */
    CACHE_ALIGNED _Atomic uint32_t state;
    _Atomic uintptr_t sort_lock;            /* guards sorted: the address of its holder's current; 0 when free */
    _Atomic(struct block *) inbox;          /* O12 */
    _Atomic size_t inbox_bytes;             /* about what is in it */
    _Atomic uint32_t looked_ms;             /* when the owner last looked there */
    _Atomic bool away;                      /* it didn't when that was due: senders sort */
    _Atomic(struct medium *) medium_inbox;  /* O13: medium slabs with remote frees */
    _Atomic uint32_t n_sorted;              /* slabs in sorted */
    _Atomic uint32_t n_left[SMALL_CLASSES]; /* blocks of slabs that others sent off: still in bin.n_carved */
    struct block *sorting;                  /* under sort_lock: taken out of inbox, and not sorted yet */
    struct slab *sorted[SMALL_CLASSES];     /* under sort_lock: slabs with blocks that others have sorted */
};

extern const struct heap heap_lent;
extern const struct heap heap_closed;

/* Relaxed, between signal fences: only handlers on the same thread look. */
extern __thread _Atomic(struct heap *) heap_current;

#define HEAP_LENT ((struct heap *)(uintptr_t)&heap_lent)
#define HEAP_CLOSED ((struct heap *)(uintptr_t)&heap_closed)

/* ---- slow paths --------------------------------------------------------------------------------------------- */

void *heap_malloc_slow(size_t bytes, enum block_kind kind);
/* The bin of h was empty, or its head b is damaged (b not NULL); current is lent. */
void *heap_refill_malloc(struct heap *h, size_t bytes, enum block_kind kind, struct block *damaged);
/* said_bytes: what whoever frees says the size is, or HOOK_SIZE_UNKNOWN. */
void heap_free_slow(void *p, enum block_kind kind, size_t said_bytes, size_t said_align);
/* bin of h has passed its limit; current is lent. */
void heap_sort_bin(struct heap *h, struct bin *bin);

/* ---- fast paths --------------------------------------------------------------------------------------------- */

INLINE void *heap_malloc_as(enum block_kind kind, size_t bytes)
{
    struct heap *h = load_relaxed(&heap_current);
    size_t c;
    if (LIKELY(bytes <= TABLE_LARGEST)) {
        c = h->class_of[(bytes + BLOCK_ALIGN - 1) / BLOCK_ALIGN];
    } else if (bytes <= SMALL_LARGEST) {
        c = h->upper_class_of[(bytes + TABLE_UPPER_STEP - 1) / TABLE_UPPER_STEP];
    } else {
        return heap_malloc_slow(bytes, kind);
    }
    store_relaxed(&heap_current, HEAP_LENT);
    signal_fence();
    struct bin *bin = &h->bins[c];
    struct block *b = bin->head;
    if (UNLIKELY(b == NULL)) {
        return heap_refill_malloc(h, bytes, kind, NULL);
    }
    uintptr_t link = load_relaxed(&b->link);
    if (UNLIKELY((link ^ load_relaxed(&b->sum)) != (h->secret ^ (uintptr_t)b))) {
        return heap_refill_malloc(h, bytes, kind, b);
    }
    bin->head = (struct block *)link;
    bin->room++;
    store_relaxed(&b->sum, 0);
    signal_fence();
    store_relaxed(&heap_current, h);
    return b;
}

INLINE void heap_free_as(enum block_kind kind, void *p, size_t said_bytes, size_t said_align)
{
    struct heap *h = load_relaxed(&heap_current);
    uintptr_t at = (uintptr_t)p;
    uintptr_t granule = (at - h->window_begin) >> GRANULE_SHIFT;
    if (UNLIKELY(granule >= h->window_granules)) {
        heap_free_slow(p, kind, said_bytes, said_align);
        return;
    }
    uint32_t x = load_relaxed(&h->window_tags[granule]) ^ h->tag;
    if (UNLIKELY(x >= SMALL_CLASSES)) {
        heap_free_slow(p, kind, said_bytes, said_align);
        return;
    }
    struct bin *bin = &h->bins[x];
    /* Computed once: the compiler would keep x as well, and compute it again for the slow way. */
    __asm__("" : "+r"(bin));
    struct block *b = p;
    uintptr_t key = h->secret ^ at;
    /* In this order: a misplaced pointer's word 1 may lie outside. */
    if (UNLIKELY((uint32_t)(at % GRANULE_BYTES) * bin->magic - bin->bias >= bin->magic) ||
        UNLIKELY(at - bin->fresh_begin < bin->fresh_bytes) || UNLIKELY((load_relaxed(&b->sum) ^ key) >> 48 == 0)) {
        heap_free_slow(p, kind, said_bytes, said_align);
        return;
    }
    store_relaxed(&heap_current, HEAP_LENT);
    signal_fence();
    uintptr_t head = (uintptr_t)bin->head;
    store_relaxed(&b->link, head);
    store_relaxed(&b->sum, head ^ key);
    bin->head = b;
    if (UNLIKELY(--bin->room < 0)) {
        heap_sort_bin(h, bin);
        return;
    }
    signal_fence();
    store_relaxed(&heap_current, h);
}

INLINE void *heap_malloc(size_t bytes)
{
    return heap_malloc_as(KIND_MALLOC, bytes);
}

INLINE void heap_free(void *p)
{
    heap_free_as(KIND_MALLOC, p, HOOK_SIZE_UNKNOWN, 0);
}

/* ---- the rest of the family --------------------------------------------------------------------------------- */

/* As the functions of allot.h that they are named after. */
void *heap_calloc(size_t n, size_t item_bytes);
void *heap_realloc(void *p, size_t bytes);
void *heap_aligned_as(enum block_kind kind, size_t align, size_t bytes); /* align: a power of two */
size_t heap_usable(const void *p);
void heap_free_sized(void *p, size_t bytes);
void heap_free_aligned_sized(void *p, size_t align, size_t bytes);
bool heap_try_expand(void *p, size_t bytes);
size_t heap_good_size(size_t bytes);
size_t heap_class_size(unsigned c); /* c < CLASS_COUNT */
size_t heap_malloc_batch(size_t bytes, void **out, size_t n);

/* ---- for those who set hooks -------------------------------------------------------------------------------- */

/* A block of the heap itself, past hooks and fills; to a heap_raw_free. NULL: refused. A handler inside gets the
 * pool's.
 */
void *heap_raw_malloc(size_t bytes, size_t align);
void heap_raw_free(void *block);

/* The block of a slab that covers p, freed or not; false when there is none, for large blocks and the pool's too. */
struct heap_slab_block {
    char *begin;
    size_t bytes;
    bool live;
};
bool heap_slab_block(const void *p, struct heap_slab_block *block);
/* The size of the blocks of the slab that an address lies in; 0: it lies in none. */
size_t heap_slab_block_bytes(const void *p);
/* The same, for slabs of small blocks alone. These lie against the granule's end. */
size_t heap_small_block_bytes(const void *p);

/* ---- threads, fork, giving back ----------------------------------------------------------------------------- */

/* Start-up: from the first constructor; before that the heap works without. */
void heap_start(void);
void heap_fork_child(void);
/* Runs when a thread that has used the heap ends, before its heap is closed. Set once, before there are threads. */
void heap_set_thread_exit(void (*thread_exit)(void));
void heap_thread_flush(void);
void heap_thread_idle(void);
size_t heap_trim(size_t keep_bytes);

/* Fills new blocks with a byte and freed ones with its complement; -1: no more. A heap that fills has no fast path: its
 * classes lead to an empty bin, and its tag matches nothing. Other threads follow at their next look at the clock.
 * False when fill is none of these. */
bool heap_set_fill(int fill);

/* ---- questions ---------------------------------------------------------------------------------------------- */

struct heap_answer {
    const void *base; /* NULL: no block */
    size_t bytes;
    bool live;
    bool pool;
    bool exact;
};
void heap_query(const void *p, struct heap_answer *answer);

int heap_walk(int (*visit)(const struct heap_answer *answer, void *context), void *context);

enum heap_span_use { HEAP_SPAN_SMALL, HEAP_SPAN_MEDIUM, HEAP_SPAN_LARGE, HEAP_SPAN_FREE, HEAP_SPAN_OTHER };

/* A span of an area, or a mapping of its own, with what is in it. */
struct heap_span {
    const void *begin;
    size_t bytes;
    enum heap_span_use use;
    bool own;
    unsigned size_class; /* of small and medium ones, as the next */
    uint32_t heap;       /* its number */
    const void *first_block;
    size_t block_bytes;
    unsigned n_blocks;         /* at most HEAP_SPAN_BLOCKS */
    size_t requested;          /* of a large one */
    const unsigned char *live; /* a bit a block; lives for the call */
};
#define HEAP_SPAN_BLOCKS 4096u

/* Visits the spans of all areas, by ascending address in each, then mappings of their own, while the process runs: what
 * changes under it is passed over or told as it was a moment ago, and can do no harm. */
int heap_each_span(int (*visit)(const struct heap_span *span, void *context), void *context);

/* Visits every heap that was ever made. */
struct heap_seen {
    uint32_t number;
    bool idle;
    const void *storage; /* in the thread-local storage of its thread */
    uint64_t sampled_bytes;
    uint64_t requested_bytes;
};
void heap_each(void (*visit)(const struct heap_seen *heap, void *context), void *context);

struct heap_figures {
    size_t rss_live_requested, rss_live_rounding, rss_free_slots, rss_kept, rss_tables;
    size_t n_live, live_bytes, n_free, free_bytes;
    size_t n_slabs, n_large, large_bytes;
    size_t n_heaps, n_heaps_idle;
};
void heap_figures(struct heap_figures *figures);

/* What <allot/root.h> says of heaps. */
extern const struct allot_root_heap heap_root;

#endif
