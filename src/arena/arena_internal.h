/* SPDX-License-Identifier: MIT */
/* arena_internal.h - the structures of an arena, and what its files have of each other.
 *
 *     arena.c      making, ending, nesting, fork
 *     grow.c       memory from the backend and back to it, limits
 *     calls.c      the public functions for blocks
 *     segment.c    the books of one piece of memory: which of its words are free
 *     fit.c        the free blocks of a segment by size, or by address
 *     bump.c       blocks one behind the other, marks
 *     cache.c      a thread's own free blocks of an arena
 *     guard.c      protection
 *     misuse.c     what is wrong with an address
 *     backend.c    heap, fixed, failing; maps.c: mmap, virt, pair
 *     watch.c      what debuggers are told
 *     lock.c       the lock
 *
 * A word is 16 bytes: blocks begin at words and have whole numbers of them.
 */
#ifndef ARENA_INTERNAL_H
#define ARENA_INTERNAL_H

#include "arena/arena.h"
#include "base/atomic.h"
#include "base/base.h"
#include "base/format.h"
#include "map/map.h"

#include <allot/arena.h>

#define WORD_SHIFT 4
#define WORD_BYTES ((size_t)1 << WORD_SHIFT)
#define BYTES_MOST ((size_t)1 << 47)

/* ---- the books of a segment ---------------------------------------------------------------------------------- */

/* One byte a word says what begins there. A free block of more than one word has a mark on its last word too. Words
 * inside a block are 0.
 *
 *     LIVE | n      a live block of n words begins; n 0: a long one
 *     FREE | n      a free one, listed by size; no two of them touch
 *     CACHED | n    a free one in a thread's cache: it stays as it is until the cache gives it back
 *     n             a free block of n words, 2 or more, ends here; 1: a long one
 *
 * A long block has 64 words or more; its length is in a slot. A slot is 8 bytes (16 in segments beyond 64 GiB) for two
 * words:
 *
 *     slot of the first word   links of a free block, in the list of its bin
 *     the one behind it        length of a long block
 *     slot of the last word    length of a long free block
 *
 * No two free blocks touch, so no two touch the same slot. A live block uses a slot that is all its own.
 *
 * Invariants.  A1  Going from word 0 from block to block leads to the end, and no two FREE blocks are neighbours.
 *              A2  The FREE blocks of a segment are those in its bins, and free_words is their sum.
 *              A3  A group (64 words) in which a block begins has its bit set in the ladder.
 */
enum { STATE_KIND = 0xc0, STATE_LIVE = 0x40, STATE_FREE = 0x80, STATE_CACHED = 0xc0, STATE_WORDS = 0x3f };

#define LONG_WORDS 64u
#define NARROW_WORDS_MOST ((size_t)0xfffffffe)

/* Bins: one for each size of 1 to 63 words, then 16 to a doubling. */
#define BINS_EXACT LONG_WORDS
#define BIN_STEPS_SHIFT 4
#define BINS_MOST (BINS_EXACT + ((47 - WORD_SHIFT) - 6 + 1) * (1 << BIN_STEPS_SHIFT))
#define BIN_MAP_WORDS ((BINS_MOST + 63) / 64)

#define GROUP_SHIFT 6
#define LADDER_LEVELS 7 /* of 64 to one: 2^43 words have 2^37 groups */
#define MOST_SHIFT 3
#define MOST_LEVELS 14 /* of 8 to one */

enum {
    ARRAY_HEADS,
    ARRAY_LADDER,
    ARRAY_MOST = ARRAY_LADDER + LADDER_LEVELS,
    ARRAY_STATE = ARRAY_MOST + MOST_LEVELS,
    ARRAY_SLOTS,
    ARRAYS
};

/* How large each array of the books is for so many words, and where it begins. */
struct layout {
    bool wide;
    size_t bytes[ARRAYS];
    size_t at[ARRAYS];
    size_t total;
};

enum books_from { BOOKS_NONE, BOOKS_CALLER, BOOKS_HEAP, BOOKS_OS };

struct segment {
    struct segment *next; /* the arena's, oldest first */
    struct allot_arena *arena;
    char *begin; /* the first word */
    size_t words;
    char *memory; /* as the backend gave it: begin lies in its first 16 bytes */
    size_t memory_bytes;
    struct map_range *range;
    size_t reach;       /* words below it may have been used, those above have not since they were zero */
    char *top;          /* bump: what lies below is in use, while the segment isn't the current one */
    bool zero_at_first; /* the backend's memory is zeros */
    bool own_struct;    /* this struct is a block of the heap */
    bool is_buffer;     /* the caller's: never goes back */

    /* From here on of a general arena alone: a bump arena's segments end here. */
    bool wide;
    enum books_from books_from;
    uint32_t bin_top;
    size_t free_words;
    size_t room; /* words that the books have room for */
    char *books;
    size_t books_bytes;
    _Atomic uint8_t *state;  /* room + 1, the one behind the last word says LIVE: blocks end there. Relaxed: caches of
                                threads change LIVE to CACHED and back for blocks that are theirs */
    _Atomic uint64_t *slots; /* relaxed, as the ladder: allot_query reads them without the lock, and says so */
    uint64_t *heads;         /* of bins: word + 1, 0: none */
    _Atomic uint64_t *ladder[LADDER_LEVELS];
    uint64_t *most[MOST_LEVELS]; /* ALLOT_FIT_FIRST: the longest free block that begins in a group, and above */
    uint64_t bin_map[BIN_MAP_WORDS];
};

#define SEGMENT_BUMP_BYTES offsetof(struct segment, wide)

/* What a request asks for: words at a multiple of align_words (of the address). */
struct request {
    size_t words;
    size_t align_bytes;
};

enum block_state { BLOCK_NONE, BLOCK_LIVE, BLOCK_FREE, BLOCK_CACHED };
struct block_at {
    size_t word;
    size_t words;
    enum block_state state;
};

/* segment.c */
struct layout books_layout(size_t words, allot_arena_fit fit, bool by_pages);
bool segment_open(struct segment *segment, size_t words_room, void *caller_books, size_t caller_bytes);
void segment_close(struct segment *segment);
bool segment_extend(struct segment *segment, size_t words); /* books for that many, the new ones free */
void segment_clear(struct segment *segment);                /* all free */
bool segment_take(struct segment *segment, const struct request *request, size_t *word, bool *is_zero);
/* Words of a live block become free; what remains before and behind them are blocks. */
void segment_give(struct segment *segment, const struct block_at *block, size_t word, size_t words);
/* A live block becomes longer, by the free words behind it. */
bool segment_grow_block(struct segment *segment, const struct block_at *block, size_t words);
/* Whether a request can be met in the free block at a word. */
bool segment_fits(const struct segment *segment, size_t word, const struct request *request);
/* A live block of n times so many words becomes n blocks in a cache. */
void segment_cut(struct segment *segment, size_t word, size_t words, size_t n);
/* Words of the free end become a live block, so that nobody takes them. */
void segment_hold(struct segment *segment, size_t word, size_t words);
bool segment_is_empty(const struct segment *segment);
size_t segment_tail(const struct segment *segment); /* the first word of the free end; words when there is none */
int segment_walk(struct segment *segment, int (*visit)(const allot_info *info, void *context), void *context);
bool segment_check(struct segment *segment);
size_t segment_live_blocks(const struct segment *segment);

/* The block that covers a word. Wrong, but harmless, if another thread changes the books meanwhile. */
struct block_at segment_block_at(const struct segment *segment, size_t word);

INLINE bool segment_has(const struct segment *segment, const void *p)
{
    return ptr_diff(p, segment->begin) < segment->words << WORD_SHIFT;
}

INLINE size_t segment_word(const struct segment *segment, const void *p)
{
    return ptr_diff(p, segment->begin) >> WORD_SHIFT;
}

INLINE void *segment_address(const struct segment *segment, size_t word)
{
    return segment->begin + (word << WORD_SHIFT);
}

/* The length of a block that begins at a word. */
INLINE size_t block_words(const struct segment *segment, size_t word)
{
    size_t words = load_relaxed(&segment->state[word]) & STATE_WORDS;
    return words != 0 ? words : load_relaxed(&segment->slots[(word / 2 + 1) << segment->wide]);
}

/* fit.c */
void fit_add(struct segment *segment, size_t word, size_t words);
void fit_remove(struct segment *segment, size_t word, size_t words);
size_t fit_find(struct segment *segment, const struct request *request); /* SIZE_MAX: none */
unsigned bin_of(size_t words);
bool fit_check(const struct segment *segment, size_t n_free, size_t free_words);

/* ---- the arena ----------------------------------------------------------------------------------------------- */

struct cleanup {
    struct cleanup *next;
    void (*run)(void *context);
    void *context;
    uint32_t number;  /* of marks and cleanup functions: as they came */
    bool is_caller_s; /* lies in the caller's books */
};

enum { ARENA_LIVES = 0x616c6c6f, ARENA_GONE = 0x64656164 };
#define NAME_BYTES 32

/* Marks with numbers between these are void: there was a rewind to the first when the second was the next. */
#define VOID_MARKS 8
struct void_marks {
    uint32_t to;
    uint32_t at;
};

struct bump {
    struct segment *segment; /* the current one; NULL: none yet */
    char *latest;            /* the block cut last by allot_arena_malloc: it may shrink, grow and be freed, ... */
    char *latest_end;        /* ... while this is where the next block is cut: the inline way cuts behind it too */
};

struct cache;

struct allot_arena {
    allot_arena_head head; /* an unsynchronized bump arena's; next == end otherwise */
    uint32_t life;
    uint32_t flags;
    uint64_t serial;          /* of no other arena */
    struct cache *own_cache;  /* of an unsynchronized arena */
    _Atomic uint32_t n_calls; /* that went through the lock; relaxed: a guess at how busy it is */
    _Atomic uintptr_t lock;   /* see lock.h; unsynchronized: 1 while a call is under way */
    _Atomic uint32_t gone;    /* its reservation was released */
    allot_arena_kind kind;
    allot_arena_fit fit;
    bool sealed;
    bool watched;    /* debuggers look on: no inline way, no caches */
    bool own_struct; /* this struct is a block of the heap */
    bool first_is_used;
    bool fork_held;
    allot_arena_head hidden; /* the head while it may not be inlined */
    struct segment *segments;
    struct segment *last;
    struct segment *here; /* where the latest block was found */
    struct bump bump;
    struct cache *caches;   /* all of them; under lock */
    allot_backend *backend; /* NULL: it doesn't grow */
    uintptr_t grower;       /* under lock: the thread that has the backend; 0: none */
    size_t size_bytes;
    size_t capacity_words;
    size_t free_words;
    size_t grow_bytes;
    size_t keep_bytes;
    int protection; /* -1: never set */
    uint64_t epoch; /* of no other arena, and another one after each reset */

    /* limits: of this one and all below it */
    _Atomic size_t total_bytes; /* relaxed: a figure that is added to and compared */
    _Atomic size_t soft_limit;
    _Atomic size_t hard_limit;
    _Atomic uint32_t above_soft;
    void (*on_soft_limit)(allot_arena *arena, size_t bytes, void *context);
    allot_error_handler on_error;
    void *context;
    void *error_context;

    struct cleanup *cleanups;       /* latest first */
    struct cleanup *spare_cleanups; /* in the caller's books */
    size_t n_cleanups;
    uint32_t number;      /* of the next mark or cleanup function */
    uint32_t latest_mark; /* its number */
    struct void_marks void_marks[VOID_MARKS];

    /* the tree: under the lock of all arenas */
    struct allot_arena *parent;
    _Atomic(struct allot_arena *) children; /* O42 */
    _Atomic(struct allot_arena *) sibling;  /* O42 */
    struct allot_arena *elder;              /* the sibling that leads here; NULL: the first */
    size_t n_children;

    const char *file;
    int line;
    char name[NAME_BYTES];
    struct segment first; /* the first segment's struct, while it has one */
};

/* ---- locks --------------------------------------------------------------------------------------------------- */

/* The calling thread's mark, as a lock's holder. */
uintptr_t lock_self(void);
/* 0, or EDEADLK: this thread holds it. */
int lock_take(_Atomic uintptr_t *lock);
void lock_give(_Atomic uintptr_t *lock);

/* Every call on an arena begins and ends with these. 0, or the errno that the call fails with; misuse has been reported
 * then. may_be_sealed: the call changes nothing. */
int arena_enter(allot_arena *arena, bool may_be_sealed);
void arena_leave(allot_arena *arena);
/* For questions: of an arena whose memory is gone too. */
int arena_enter_question(allot_arena *arena);

INLINE bool arena_is_bump(const allot_arena *arena)
{
    return arena->kind != ALLOT_ARENA_GENERAL;
}

/* grow.c; between arena_enter and arena_leave */
struct segment *arena_segment_of(allot_arena *arena, const void *p);
/* Room for a request, by the backend. Unlocks while that works. 0: there is more now, look again. Otherwise an errno.
 */
int arena_grow(allot_arena *arena, const struct request *request);
/* After words have become free in a segment: if it is empty it goes back, a long free tail is decommitted. May unlock.
 */
void arena_tidy(allot_arena *arena, struct segment *segment);
size_t arena_shed(allot_arena *arena, size_t keep_bytes);

/* grow.c; not locked */
bool arena_add_buffer(allot_arena *arena, void *buffer, size_t bytes, void *books, size_t books_bytes);
void arena_give_back(allot_arena *arena); /* all memory, at its end */
int arena_grow_first(allot_arena *arena, size_t bytes, void *books, size_t books_bytes);
bool arena_charge(allot_arena *arena, size_t bytes); /* false: a hard limit */
void arena_uncharge(allot_arena *arena, size_t bytes);
void arena_tell_soft(allot_arena *arena);

/* arena.c */
void *arena_books_alloc(size_t bytes); /* zeroed */
void arena_books_free(void *p);
int arenas_lock(void); /* of the tree and the ranges */
void arenas_unlock(void);
void arena_end_children(allot_arena *arena, uint64_t since); /* those with a later serial */
uint64_t arena_serial_now(void);
void arena_run_cleanups(allot_arena *arena, uint32_t from); /* those with this number or a later one */

/* bump.c; between arena_enter and arena_leave */
void *bump_take(allot_arena *arena, const struct request *request, int *error);
void bump_go_to(allot_arena *arena, struct segment *segment, char *next);
void bump_extended(allot_arena *arena, struct segment *segment);
void bump_reset(allot_arena *arena);
char *bump_top(const allot_arena *arena, const struct segment *segment);
size_t bump_free_bytes(allot_arena *arena);
void bump_set_latest(allot_arena *arena, char *block, char *end);
bool bump_is_latest(allot_arena *arena, const void *block);
INLINE allot_arena_head *bump_head(allot_arena *arena)
{
    bool inlined = (arena->flags & ALLOT_ARENA_UNSYNCHRONIZED) != 0 && !arena->watched;
    return inlined ? &arena->head : &arena->hidden;
}

/* cache.c; no lock is held. The fast ways are in cache_internal.h. */
void cache_prepare(allot_arena *arena); /* after a call that went through the lock */
void cache_end(allot_arena *arena);     /* the arena ends */
void cache_after_fork(allot_arena *arena);

/* cache.c; between arena_enter and arena_leave */
void cache_refill(allot_arena *arena, struct segment *segment, size_t words);
void cache_make_room(allot_arena *arena, size_t words); /* blocks of this size are being freed */
/* Whether anything came of it; all: nobody is inside of any. */
bool cache_empty_all(allot_arena *arena, bool *out_all);
void cache_close(allot_arena *arena);  /* all calls go through the lock once */
void cache_forget(allot_arena *arena); /* all blocks are free already */
size_t cache_words(const allot_arena *arena);

/* guard.c */
void arena_unseal_for_good(allot_arena *arena); /* memory goes back as it came */

/* misuse.c: what is wrong with an address; reported after arena_leave */
struct misuse {
    const char *name;
    const void *address;
    const void *block;
    size_t block_bytes;
    const char *state;
};
struct misuse misuse_of(allot_arena *arena, const void *p, const char *name);
/* Writes the line and asks the handler. Returns when that says to go on. */
void misuse_report(allot_arena *arena, const struct misuse *misuse);
/* For misuse that is found where nobody knows of arenas: free() of an arena's block. */
void misuse_describe(void *owner, const void *p, struct fault *fault);
void misuse_report_options(const allot_arena_options *options, const struct misuse *misuse);

/* watch.c */
bool watch_is_on(void);
void watch_memory(const allot_arena *arena, const void *begin, size_t bytes); /* nobody may touch it */
void watch_forget(const allot_arena *arena, const void *begin, size_t bytes); /* it is a block, or goes back */
void watch_keep(const allot_arena *arena, const void *begin, size_t bytes);   /* all of it is a block with contents */

/* backend.c, maps.c */

/* 0, EBUSY (out_owner is the arena that has it) or ENXIO. Not for backends that serve several. */
int backend_claim(allot_backend *backend, allot_arena *arena, allot_arena **out_owner);
void backend_unclaim(allot_backend *backend, allot_arena *arena);
allot_arena *backend_owner(allot_backend *backend);
/* What the library knows of its own backends; 0 and false for those of others. */
size_t backend_reserved_bytes(const allot_backend *backend);
bool backend_gives_zeros(const allot_backend *backend);
/* What its pieces' addresses are multiples of, for sure. */
size_t backend_begins_at(const allot_backend *backend);
bool backend_is_fixed(const allot_backend *backend);
/* Of fresh memory, as mprotect has it. */
int backend_protection(const allot_backend *backend);
/* The one that a failing backend passes its calls on to; any other itself. */
allot_backend *backend_inner(const allot_backend *backend);

/* maps.c, for these */
struct maps;
const struct maps *maps_of(const allot_backend *backend); /* NULL: a backend of another kind */
size_t maps_reserved_bytes(const struct maps *maps);
bool maps_give_zeros(const struct maps *maps);
bool maps_are_released(const struct maps *maps);
void maps_begin(allot_backend *backend); /* for a new arena */
int maps_protection(const struct maps *maps);

/* The reservation under it is gone. */
void arena_lose_memory(allot_arena *arena);

#endif
