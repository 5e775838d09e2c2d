/* SPDX-License-Identifier: MIT */
/* pool_internal.h - the pool's structures. No pointers: two processes may map a pool at different addresses.
 *
 *     struct pool     figures, places (a CPU's hints each), offsets of segs[] and tops[]
 *     segs[i]         offset of segment i's books from the pool, 0 while there is none
 *     struct segment  used[granule]: a bit a unit; units[]; rooms by granule and class
 *
 * Rooms. For a class, three levels of bits say where a free block may be: the rooms of a granule have a bit a unit
 * (the first of a superblock), any[class] of a segment has a bit a granule, tops[class] has a bit a segment.
 *
 * Invariants.  P1  An anchor other than 0 belongs to the first unit of a superblock or run that stands; its kind, and
 *                  the kinds of the other units, don't change until the anchor is 0 again.
 *              P2  Who changes an anchor from a superblock's empty word to 0 owns all of it, and alone gives its units
 *                  back.
 *              P3  A superblock with a free block has its room bit set, and the bits above it, or a thread is between
 *                  the two steps that make it so. A bit that is set too much costs a look and is cleared.
 *              P4  used bits of a superblock or run are set from before its anchor is until after it is 0.
 * Orders.      P-numbers of pairs are in docs/CONCURRENCY.md; each site names its own.
 */
#ifndef POOL_POOL_INTERNAL_H
#define POOL_POOL_INTERNAL_H

#include "base/atomic.h"
#include "base/base.h"
#include "map/map.h"
#include "pool/alone.h"
#include "pool/pool.h"

#if !defined(__GCC_HAVE_SYNC_COMPARE_AND_SWAP_8) && !defined(__clang__)
#error "allot's pool needs a compare-and-swap of 64 bits, which this target doesn't have"
#endif
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "allot's pool needs a lock-free compare-and-swap of 64 bits");

#define UNIT_SHIFT 10
#define UNIT_BYTES ((size_t)1 << UNIT_SHIFT)
#define GRANULE_UNITS 64
#define SEGMENT_GRANULES 64
#define SEGMENT_UNITS (GRANULE_UNITS * SEGMENT_GRANULES)
#define SEGMENT_UNIT_SHIFT 12
#define SEGMENT_BYTES (SEGMENT_UNITS * UNIT_BYTES)

#define CLASS_SLOTS 32
#define CLASS_LAST 28
#define CLASS_BYTES_MOST 4096
#define PLACES 16

/* ---- classes ------------------------------------------------------------------------------------------------ */

struct pool_class {
    uint64_t empty;   /* the anchor of a superblock without live blocks */
    uint32_t bytes;   /* of a block */
    uint32_t inverse; /* 2^32 / bytes, rounded up: offset * inverse >> 32 is the block's number */
};

struct pool_class_shape {
    uint8_t blocks;
    uint8_t units;
};

extern const struct pool_class pool_classes[CLASS_SLOTS];
extern const struct pool_class_shape pool_class_shapes[CLASS_SLOTS];
extern const uint8_t pool_class_numbers[CLASS_BYTES_MOST / 16 + 1]; /* by size in steps of 16, rounded up */

/* 16 to 128 in steps of 16, then four steps a doubling: at most 25 % above 64 bytes. bytes <= CLASS_BYTES_MOST. */
INLINE unsigned class_of(size_t bytes)
{
    return pool_class_numbers[(bytes + 15) >> 4];
}

/* ---- units -------------------------------------------------------------------------------------------------- */

#define ANCHOR_OPEN ((uint64_t)1 << 63)

/* A unit's kind: class | flags | units back to the first one << 8. 0: never used. */
#define KIND_RUN 0x3eu  /* one block over whole units */
#define KIND_DEAD 0x80u /* given back; what stood there is remembered for the report */
#define KIND_CODE(kind) ((kind)&0xffu)
#define KIND_BACK(kind) ((kind) >> 8)

struct unit {
    _Atomic uint64_t anchor;
    _Atomic uint32_t kind;
    _Atomic uint32_t info;  /* of the first: the place that last took the superblock, or the number of units of a run */
    _Atomic int64_t memory; /* of the first: from here to its memory. This and id are the same each time */
    _Atomic uint32_t id;    /* of the first: unit_id */
    uint32_t unused;
};

/* Which units of a granule are first ones of superblocks that may have free blocks, by class. */
struct rooms {
    _Atomic uint64_t of[CLASS_SLOTS];
};

struct segment {
    _Atomic int64_t data; /* from here to the first unit's memory */
    _Atomic uint32_t n_granules;
    _Atomic uint32_t purgeable; /* whole pages of our own mapping */
    _Atomic uint64_t dirty; /* bit a granule: touched since the OS gave it. Written by who leaves or enters used 0 */
    CACHE_ALIGNED _Atomic uint64_t used[SEGMENT_GRANULES];
    CACHE_ALIGNED _Atomic uint64_t any[CLASS_SLOTS];
    CACHE_ALIGNED struct unit units[]; /* and behind them the rooms, one a granule */
};

INLINE struct unit *segment_unit(struct segment *segment, unsigned u)
{
    return &segment->units[u];
}

INLINE _Atomic uint64_t *segment_room(struct segment *segment, unsigned granule, unsigned c)
{
    struct rooms *rooms = (void *)&segment->units[load_relaxed(&segment->n_granules) * GRANULE_UNITS];
    return &rooms[granule].of[c];
}

/* Relaxed: written before the segment was published, OP5. */
INLINE char *segment_data(struct segment *segment)
{
    return (char *)segment + load_relaxed(&segment->data);
}

#define SEGMENT_BOOKS(n_granules)                                                                                      \
    (sizeof(struct segment) + (n_granules) * (GRANULE_UNITS * sizeof(struct unit) + sizeof(struct rooms)))

/* ---- pools -------------------------------------------------------------------------------------------------- */

/* A unit of a pool: segment number << 12 | unit, plus 1. 0: none. */
typedef uint32_t unit_id;

struct place {
    _Atomic int64_t hint[CLASS_SLOTS]; /* from the pool to the unit whose superblock to try first; 0: none */
} CACHE_ALIGNED;

#define POOL_MAGIC UINT64_C(0x31306c6f6f706c61) /* "alpool01" in memory of a little-endian machine */
#define POOL_GROWS 1u

struct pool {
    _Atomic uint64_t magic;
    uint64_t bytes; /* of a private pool's memory; these three set before it is published, OP10 */
    int64_t data;   /* from here to its first unit */
    uint64_t n_units;
    _Atomic uint64_t root; /* a private pool's: from here to an address that its users agreed on */
    _Atomic int64_t segs;  /* from here to the table of segments; 0 until the pool is started */
    _Atomic int64_t tops;  /* from here to the rooms' third level */
    uint32_t number;       /* of a static pool: 0 the heap's, 1 the public one */
    uint32_t segments_most;
    _Atomic uint32_t n_segments; /* slots of segs[] given out */
    _Atomic uint32_t open_hint;  /* below this segment there was no free unit lately */
    _Atomic uint32_t flags;      /* POOL_GROWS */
    _Atomic int64_t dirty_free;  /* wholly free granules that the OS hasn't got back */
    _Atomic int64_t dirty_keep;  /* how many of them to keep */
    _Atomic size_t n_mappings;
    _Atomic size_t mapping_bytes;
    _Atomic size_t purged_bytes;
    struct place places[PLACES];
};

INLINE _Atomic int64_t *pool_segs(struct pool *pool)
{
    return (_Atomic int64_t *)(void *)((char *)pool + load_relaxed(&pool->segs));
}

/* The segment, or NULL while it isn't published. Callers that come from a live block or a hint have been synchronised
 * with its publication; the others read books that are zeros at worst. */
INLINE struct segment *pool_segment(struct pool *pool, unsigned i)
{
    int64_t offset = load_acquire(&pool_segs(pool)[i]); /* OP5 */
    return offset == 0 ? NULL : (struct segment *)(void *)((char *)pool + offset);
}

INLINE _Atomic uint64_t *pool_top(struct pool *pool, unsigned c, unsigned segment)
{
    unsigned words = (pool->segments_most + 63) / 64;
    char *tops = (char *)pool + load_relaxed(&pool->tops);
    return (_Atomic uint64_t *)(void *)tops + c * words + segment / 64;
}

/* Where a superblock or run is, or might be. */
struct spot {
    struct segment *segment;
    unsigned number; /* the segment's */
    unsigned unit;
};

INLINE unit_id spot_id(const struct spot *spot)
{
    return (spot->number << SEGMENT_UNIT_SHIFT | spot->unit) + 1;
}

/* id is not 0. */
INLINE struct spot spot_of(struct pool *pool, unit_id id)
{
    struct spot spot = {.number = (id - 1) >> SEGMENT_UNIT_SHIFT, .unit = (id - 1) % SEGMENT_UNITS};
    spot.segment = pool_segment(pool, spot.number);
    return spot;
}

INLINE struct spot unit_spot(struct pool *pool, struct unit *unit)
{
    return spot_of(pool, load_relaxed(&unit->id)); /* constant since the first superblock that began here */
}

/* A unit's distance from the pool, as hints hold it, and back. */
INLINE int64_t unit_hint(const struct pool *pool, const struct unit *unit)
{
    return (int64_t)((uintptr_t)unit - (uintptr_t)pool);
}

INLINE struct unit *hint_unit(struct pool *pool, int64_t hint)
{
    return (struct unit *)(void *)((char *)pool + hint);
}

INLINE struct unit *spot_unit(const struct spot *spot)
{
    return segment_unit(spot->segment, spot->unit);
}

INLINE char *spot_memory(const struct spot *spot)
{
    return segment_data(spot->segment) + ((size_t)spot->unit << UNIT_SHIFT);
}

/* ---- units.c: units in a row -------------------------------------------------------------------------------- */

/* A free row of n units, at most a granule's, lying in one granule; as low as possible. Now the caller's. */
bool units_claim(struct pool *pool, unsigned n, struct spot *out);
/* The same for any n, as high as possible, the first unit's address a multiple of align. */
bool units_claim_row(struct pool *pool, unsigned n, size_t align, struct spot *out);
void units_give(struct pool *pool, const struct spot *spot, unsigned n);
/* Gives wholly free dirty granules back to the OS. Returns the bytes. */
size_t units_purge(struct pool *pool);
/* Touches wholly free granules until they make up bytes. Returns how many bytes they made up. */
size_t units_reserve(struct pool *pool, size_t bytes);

/* ---- room.c: where free blocks may be ----------------------------------------------------------------------- */

void room_set(struct pool *pool, const struct spot *spot, unsigned c);
/* Clears the bit of a superblock that looked full, and sets it again should it not be. */
void room_clear(struct pool *pool, const struct spot *spot, unsigned c);
/* Calls look on spots whose bit is set until that returns true. */
bool room_find(struct pool *pool, unsigned c, bool (*look)(struct pool *, const struct spot *, unsigned c, void *),
               void *context);

/* ---- blocks.c: superblocks and runs ------------------------------------------------------------------------- */

/* A block of the class, beyond the place's hint. NULL when neither the class nor the units have room. */
void *blocks_take(struct pool *pool, unsigned c, unsigned place);
/* The last look: every superblock of the class, whatever the room bits say. */
void *blocks_take_last(struct pool *pool, unsigned c, unsigned place);
/* Takes every superblock without live blocks apart. Returns how many. */
unsigned blocks_reclaim(struct pool *pool);
/* A block over n whole units. */
void *run_take(struct pool *pool, unsigned n, size_t align);
/* False: it was free. */
bool run_give(struct pool *pool, const struct spot *spot);
/* Block n is the caller's, but its superblock is of another class than was hoped: give it back. */
void block_give_stray(struct pool *pool, struct unit *unit, unsigned n);
/* An anchor went from one value to another: from full, or to empty without being a hint. */
void superblock_changed(struct pool *pool, struct unit *unit, unsigned c, uint64_t from, uint64_t to);

/* block_give where other calls were quicker many times. */
bool block_give_fought_for(struct pool *pool, struct unit *unit, unsigned c, uint64_t bit);

/* Both functions below: alone says that nothing but handlers of this thread can come between, see alone.h. */

/* So often a block is fought for where there are others to be had: then whoever fights moves on to another superblock.
 * So threads spread, and a call gets through that a handler interrupts before each instruction. */
#define TRIES_SOME 16
#define TRIES_ALL UINT32_MAX

/* A block of the superblock that may begin at the unit. NULL: it is full, or is none of class c, or other calls were
 * quicker so many times. */
INLINE void *superblock_take(struct pool *pool, struct unit *unit, unsigned c, bool alone, uint32_t tries)
{
    uint64_t anchor = load_relaxed(&unit->anchor); /* relaxed: the compare-and-swap decides */
    for (; (anchor & ~ANCHOR_OPEN) != 0 && tries > 0; tries--) {
        uint64_t taken = anchor & (anchor - 1);
        /* OP1 acquire: pairs with the release of who opened the superblock and of who freed the block, so that the kind
         * is seen, and what the last owner wrote lies before what the next one writes. */
        if (alone ? cas_alone(&unit->anchor, &anchor, taken) : cas_weak_acquire(&unit->anchor, &anchor, taken)) {
            unsigned n = bit_lowest(anchor);
            if (LIKELY(load_relaxed(&unit->kind) == c)) { /* pinned by the block, P1; memory likewise */
                return (char *)unit + load_relaxed(&unit->memory) + n * pool_classes[c].bytes;
            }
            block_give_stray(pool, unit, n);
            return NULL;
        }
    }
    return NULL;
}

/* Somebody will take from it soon. */
INLINE bool is_hint(const struct pool *pool, const struct unit *unit, unsigned c)
{
    unsigned place = load_relaxed(&unit->info) % PLACES; /* relaxed: a guess */
    return load_relaxed(&pool->places[place].hint[c]) == unit_hint(pool, unit);
}

/* Block number n of the superblock becomes free. False: it was. The caller owns it, so the kind is c. */
INLINE bool block_give(struct pool *pool, struct unit *unit, unsigned c, unsigned n, bool alone)
{
    uint64_t bit = (uint64_t)1 << n;
    uint64_t anchor = load_relaxed(&unit->anchor); /* relaxed: the compare-and-swap decides */
    for (unsigned tries = TRIES_SOME;; tries--) {
        if (UNLIKELY((anchor & bit) != 0 || (anchor & ANCHOR_OPEN) == 0)) { /* n may be 63, behind the last block */
            return false;
        }
        if (UNLIKELY(tries == 0)) {
            return block_give_fought_for(pool, unit, c, bit);
        }
        /* OP1 release: pairs with superblock_take. OP3: before the room's bits are read. */
        if (alone ? cas_alone(&unit->anchor, &anchor, anchor | bit)
                  : cas_weak_seq_cst(&unit->anchor, &anchor, anchor | bit)) {
            break;
        }
    }
    /* From here on the superblock may be taken apart by another thread: these are guesses that get checked. */
    if (UNLIKELY(anchor == ANCHOR_OPEN || ((anchor | bit) == pool_classes[c].empty && !is_hint(pool, unit, c)))) {
        superblock_changed(pool, unit, c, anchor, anchor | bit);
    }
    return true;
}

/* ---- grow.c: memory from the OS ----------------------------------------------------------------------------- */

/* Tags of the pool: own << 23 | number of the static pool << 22 | segment, or granules back to the mapping's first. */
#define TAG_OWN ((uint32_t)1 << 23)
#define TAG_NUMBER_SHIFT 22
#define TAG_LOW (((uint32_t)1 << TAG_NUMBER_SHIFT) - 1)

/* The descriptor of a mapping's first granule. */
struct mapping {
    _Atomic size_t bytes; /* of the mapping; 0: not live */
};
_Static_assert(sizeof(struct mapping) <= DESCRIPTOR_BYTES, "a mapping's descriptor is one of the map's");

/* Another segment with room for n_units in a row. False when refused. */
bool grow_segment(struct pool *pool, unsigned n_units);
void *mapping_take(struct pool *pool, size_t bytes, size_t align);
/* The mapping around p, by its tag. */
char *mapping_base(const void *p);
/* False: it was given back already. */
bool mapping_give(struct pool *pool, char *base);
/* In place. False: the platform can't. */
bool mapping_resize(struct pool *pool, char *base, size_t bytes);

/* ---- pool.c ------------------------------------------------------------------------------------------------- */

/* What an address is to one pool. */
struct found {
    struct pool *pool;
    struct spot spot; /* of the first unit; segment NULL for a mapping */
    unsigned code;    /* class, KIND_RUN, or 0 */
    unsigned index;   /* of the block in its superblock */
    struct pool_block block;
    bool is_mapping;
};

/* A static pool's tables, at the first call that needs them. Idempotent, waits for nobody. */
void pool_start(struct pool *pool);
/* What covers p, which lies in the segment? False when no block does. */
bool find_in_segment(struct pool *pool, const struct spot *at, const void *p, struct found *out);
/* Gives the block back; misuse is reported. p: what the caller passed. */
void found_give(struct found *found, void *p);
/* Is p the address of a live block? If not, that is reported under the name given. */
bool found_live(const void *p, struct found *found, bool covered, const char *misuse);
void *found_realloc(struct found *found, void *p, size_t bytes);
#define FAULT_REALLOC(found, covered, p)                                                                               \
    ((covered) && (found).block.base == (p) ? "use of a freed block" : "invalid pointer")
void found_report(const char *name, const void *p, const struct found *found, bool covered);
/* The static pool that an address belongs to; NULL. */
struct pool *pool_of(const void *p);
struct allot_pool_report;
int pool_report(struct pool *pool, struct allot_pool_report *report);

#endif
