/* SPDX-License-Identifier: MIT */
/* blocks.c - superblocks: up to 63 blocks of a class under one anchor word.
 *
 *     create   units claimed; kinds; anchor = open | all free; room bit
 *     take     clear the lowest free bit of the anchor
 *     give     set the block's bit; from full: room bit; to empty: retire, unless it is its place's hint
 *     retire   anchor from empty to 0: all blocks are taken at once, so nobody else has any; units given back
 *
 * Orders.  OP1  see superblock_take. OP3: see room.c; the anchor is the lowest level there.
 *          OP7  A hint is stored with release and loaded with acquire: who follows it sees the segment's books.
 */
#include "pool/place.h"
#include "pool/pool_internal.h"

/* ---- create and retire -------------------------------------------------------------------------------------- */

static void write_kinds(const struct spot *spot, unsigned n, uint32_t code)
{
    for (unsigned i = 0; i < n; i++) {
        /* Relaxed: published by the anchor (OP1); a reader without a live block here is either wrong or looks again. */
        store_relaxed(&segment_unit(spot->segment, spot->unit + i)->kind, code | (uint32_t)i << 8);
    }
}

static void hint_set(struct pool *pool, const struct spot *spot, unsigned c, unsigned place)
{
    store_relaxed(&spot_unit(spot)->info, place);               /* relaxed: a guess for others */
    store_release(&pool->places[place].hint[c], spot_id(spot)); /* OP7 */
}

static void *superblock_create(struct pool *pool, unsigned c, unsigned place)
{
    struct spot spot;
    if (!units_claim(pool, pool_classes[c].units, &spot)) {
        return NULL;
    }
    write_kinds(&spot, pool_classes[c].units, c);
    hint_set(pool, &spot, c, place);
    /* The first block is the caller's. OP1 release: publishes the kinds. OP3: before the room's bits are read. */
    store_seq_cst(&spot_unit(&spot)->anchor, pool_classes[c].empty & ~(uint64_t)1);
    room_set(pool, &spot, c);
    return spot_memory(&spot);
}

/* The caller's compare-and-swap closed the anchor: P2. */
static void superblock_dissolve(struct pool *pool, const struct spot *spot)
{
    struct unit *unit = spot_unit(spot);
    unsigned c = KIND_CODE(load_relaxed(&unit->kind));                        /* all blocks are ours, so it stays */
    store_relaxed(&unit->kind, c | KIND_DEAD);                                /* relaxed: for reports */
    and_seq_cst(&spot->segment->granules[spot->unit / GRANULE_UNITS].room[c], /* OP3; nothing to look for again */
                ~((uint64_t)1 << spot->unit % GRANULE_UNITS));
    units_give(pool, spot, pool_classes[c].units);
}

/* empty: the anchor of some class's superblock without live blocks. Whatever class it turns out to have, if the word
 * matches, the superblock there is wholly free. */
static bool superblock_retire(struct pool *pool, const struct spot *spot, uint64_t empty)
{
    /* OP1 acquire: what the blocks' last owners did lies before the units' next use. */
    if (!cas_acq_rel(&spot_unit(spot)->anchor, &empty, 0)) {
        return false;
    }
    superblock_dissolve(pool, spot);
    return true;
}

/* ---- give --------------------------------------------------------------------------------------------------- */

/* Somebody will take from it soon. */
static bool is_hint(struct pool *pool, const struct spot *spot, unsigned c)
{
    unsigned place = load_relaxed(&spot_unit(spot)->info) % PLACES; /* relaxed: a guess */
    return load_relaxed(&pool->places[place].hint[c]) == spot_id(spot);
}

static bool hint_has_room(struct pool *pool, unsigned c, unsigned place)
{
    unit_id id = load_acquire(&pool->places[place].hint[c]); /* OP7 */
    if (id == 0) {
        return false;
    }
    struct spot spot = spot_of(pool, id);
    return (load_relaxed(&spot_unit(&spot)->anchor) & ~ANCHOR_OPEN) != 0; /* relaxed: a guess */
}

/* A full superblock got a free block. Where the hint has none left, the next call takes this one, whose lines are in
 * the cache, without a search. */
static NOINLINE void became_useful(struct pool *pool, const struct spot *spot, unsigned c)
{
    room_set(pool, spot, c);
    unsigned place = place_now() % PLACES;
    if (!hint_has_room(pool, c, place) && !is_hint(pool, spot, c)) {
        store_release(&pool->places[place].hint[c], spot_id(spot)); /* OP7 */
    }
}

bool block_give(struct pool *pool, const struct spot *spot, unsigned c, unsigned n)
{
    struct unit *unit = spot_unit(spot);
    uint64_t bit = (uint64_t)1 << n;
    uint64_t anchor = load_relaxed(&unit->anchor); /* relaxed: the compare-and-swap decides */
    do {
        if (UNLIKELY((anchor & bit) != 0 || (anchor & ANCHOR_OPEN) == 0)) {
            return false;
        }
        /* OP1 release: pairs with superblock_take. OP3: before the room's bits are read. */
    } while (!cas_weak_seq_cst(&unit->anchor, &anchor, anchor | bit));
    /* From here on the superblock may be taken apart by another thread: what follows are guesses that get checked. */
    if (UNLIKELY(anchor == ANCHOR_OPEN)) {
        became_useful(pool, spot, c);
    }
    uint64_t empty = pool_classes[c].empty;
    if (UNLIKELY((anchor | bit) == empty) && !is_hint(pool, spot, c)) {
        superblock_retire(pool, spot, empty);
    }
    return true;
}

void block_give_stray(struct pool *pool, const struct spot *spot, unsigned n)
{
    unsigned c = KIND_CODE(load_relaxed(&spot_unit(spot)->kind)); /* pinned by the block, P1 */
    CHECK(c >= 1 && c <= CLASS_LAST);
    CHECK(block_give(pool, spot, c, n));
}

/* ---- take --------------------------------------------------------------------------------------------------- */

struct wish {
    void *block;
    unsigned place;
    bool shared; /* superblocks that other places use will do */
};

static bool look(struct pool *pool, const struct spot *spot, unsigned c, void *context)
{
    struct wish *wish = context;
    struct unit *unit = spot_unit(spot);
    if (!wish->shared && load_relaxed(&unit->info) % PLACES != wish->place && is_hint(pool, spot, c)) {
        return false;
    }
    wish->block = superblock_take(pool, spot, c);
    if (wish->block == NULL) {
        room_clear(pool, spot, c);
        return false;
    }
    hint_set(pool, spot, c, wish->place);
    return true;
}

void *blocks_take(struct pool *pool, unsigned c, unsigned place)
{
    struct wish wish = {.place = place};
    if (room_find(pool, c, look, &wish)) {
        return wish.block;
    }
    void *block = superblock_create(pool, c, place);
    if (block != NULL) {
        return block;
    }
    wish.shared = true;
    return room_find(pool, c, look, &wish) ? wish.block : NULL;
}

/* ---- every superblock --------------------------------------------------------------------------------------- */

/* Calls look on each first unit that ever was one, until it returns true. */
static bool each_first_unit(struct pool *pool, bool (*visit)(struct pool *, const struct spot *, unsigned c, void *),
                            void *context)
{
    for (unsigned i = 0, n = load_relaxed(&pool->n_segments); i < n; i++) {
        struct spot spot = {.segment = pool_segment(pool, i), .number = i};
        unsigned end = spot.segment == NULL ? 0 : load_relaxed(&spot.segment->n_granules) * GRANULE_UNITS;
        for (spot.unit = 0; spot.unit < end; spot.unit++) {
            uint32_t kind = load_relaxed(&spot_unit(&spot)->kind); /* relaxed: what is there is asked by its anchor */
            if (kind >= 1 && kind <= CLASS_LAST && visit(pool, &spot, kind, context)) {
                return true;
            }
        }
    }
    return false;
}

static bool look_last(struct pool *pool, const struct spot *spot, unsigned c, void *context)
{
    struct wish *wish = context;
    if (c != wish->place) {
        return false;
    }
    wish->block = superblock_take(pool, spot, c);
    if (wish->block == NULL) {
        return false;
    }
    room_set(pool, spot, c); /* should a stopped thread have left that undone */
    return true;
}

void *blocks_take_last(struct pool *pool, unsigned c, unsigned place)
{
    struct wish wish = {.place = c};
    (void)place;
    return each_first_unit(pool, look_last, &wish) ? wish.block : NULL;
}

static bool reclaim(struct pool *pool, const struct spot *spot, unsigned c, void *context)
{
    unsigned *n = context;
    *n += superblock_retire(pool, spot, pool_classes[c].empty);
    return false;
}

unsigned blocks_reclaim(struct pool *pool)
{
    unsigned n = 0;
    each_first_unit(pool, reclaim, &n);
    return n;
}

/* ---- runs --------------------------------------------------------------------------------------------------- */

void *run_take(struct pool *pool, unsigned n, size_t align)
{
    struct spot spot;
    if (!units_claim_row(pool, n, align, &spot)) {
        return NULL;
    }
    write_kinds(&spot, n, KIND_RUN);
    store_relaxed(&spot_unit(&spot)->info, n);
    store_release(&spot_unit(&spot)->anchor, ANCHOR_OPEN); /* OP1: publishes the kinds and the length */
    return spot_memory(&spot);
}

bool run_give(struct pool *pool, const struct spot *spot)
{
    struct unit *unit = spot_unit(spot);
    unsigned n = load_relaxed(&unit->info); /* the caller owns the run, or is found out by the anchor */
    uint64_t anchor = ANCHOR_OPEN;
    if (!cas_acq_rel(&unit->anchor, &anchor, 0)) { /* OP1: what the owner wrote lies before the units' next use */
        return false;
    }
    store_relaxed(&unit->kind, KIND_RUN | KIND_DEAD); /* relaxed: for reports */
    units_give(pool, spot, n);
    return true;
}
