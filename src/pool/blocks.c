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
    store_relaxed(&spot_unit(spot)->info, place);                                  /* relaxed: a guess for others */
    store_release(&pool->places[place].hint[c], unit_hint(pool, spot_unit(spot))); /* OP7 */
}

static void *superblock_create(struct pool *pool, unsigned c, unsigned place)
{
    struct spot spot;
    if (!units_claim(pool, pool_class_shapes[c].units, &spot)) {
        return NULL;
    }
    write_kinds(&spot, pool_class_shapes[c].units, c);
    store_relaxed(&spot_unit(&spot)->memory, (int64_t)((uintptr_t)spot_memory(&spot) - (uintptr_t)spot_unit(&spot)));
    store_relaxed(&spot_unit(&spot)->id, spot_id(&spot));
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
    unsigned c = KIND_CODE(load_relaxed(&unit->kind));                      /* all blocks are ours, so it stays */
    store_relaxed(&unit->kind, c | KIND_DEAD);                              /* relaxed: for reports */
    and_seq_cst(segment_room(spot->segment, spot->unit / GRANULE_UNITS, c), /* OP3; nothing to look for again */
                ~((uint64_t)1 << spot->unit % GRANULE_UNITS));
    units_give(pool, spot, pool_class_shapes[c].units);
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

static bool hint_has_room(struct pool *pool, unsigned c, unsigned place)
{
    int64_t hint = load_acquire(&pool->places[place].hint[c]); /* OP7 */
    /* Relaxed: a guess. */
    return hint != 0 && (load_relaxed(&hint_unit(pool, hint)->anchor) & ~ANCHOR_OPEN) != 0;
}

/* Where the hint has no block left, the next call takes this one, whose lines are in the cache, without a search. */
static void make_hint(struct pool *pool, struct unit *unit, unsigned c)
{
    unsigned place = place_now() % PLACES;
    if (!hint_has_room(pool, c, place) && !is_hint(pool, unit, c)) {
        store_release(&pool->places[place].hint[c], unit_hint(pool, unit)); /* OP7 */
    }
}

/* The superblock may have been taken apart by now: what follows are guesses that get checked. */
NOINLINE void superblock_changed(struct pool *pool, struct unit *unit, unsigned c, uint64_t from, uint64_t to)
{
    if (from == ANCHOR_OPEN) {
        struct spot spot = unit_spot(pool, unit);
        room_set(pool, &spot, c);
        make_hint(pool, unit, c);
    }
    if (to == pool_classes[c].empty && !is_hint(pool, unit, c)) {
        struct spot spot = unit_spot(pool, unit);
        superblock_retire(pool, &spot, to);
    }
}

/* An addition gets through at once, so that a handler before each instruction can't hold up a free for good. The bit
 * was clear a moment ago and the block is the caller's, so adding it is setting it. Only when the same block is freed
 * twice at this very moment is it set by now; then the carry has damaged the anchor, and there is no going on. */
NOINLINE bool block_give_fought_for(struct pool *pool, struct unit *unit, unsigned c, uint64_t bit)
{
    uint64_t anchor = add_seq_cst(&unit->anchor, bit); /* OP1 release; OP3: before the room's bits are read */
    if ((anchor & bit) != 0 || (anchor & ANCHOR_OPEN) == 0) {
        void *block = (char *)unit + load_relaxed(&unit->memory) + bit_lowest(bit) * pool_classes[c].bytes;
        fault_report(&(struct fault){.name = "double free",
                                     .address = block,
                                     .block = block,
                                     .block_bytes = pool_classes[c].bytes,
                                     .state = "free",
                                     .fatal = true});
    }
    superblock_changed(pool, unit, c, anchor, anchor | bit);
    return true;
}

void block_give_stray(struct pool *pool, struct unit *unit, unsigned n)
{
    unsigned c = KIND_CODE(load_relaxed(&unit->kind)); /* pinned by the block, P1 */
    CHECK(c >= 1 && c <= CLASS_LAST);
    CHECK(block_give(pool, unit, c, n, /* alone */ false));
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
    if (!wish->shared && load_relaxed(&unit->info) % PLACES != wish->place && is_hint(pool, unit, c)) {
        return false;
    }
    wish->block = superblock_take(pool, unit, c, /* alone */ false, wish->shared ? TRIES_ALL : TRIES_SOME);
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
    wish->block = superblock_take(pool, spot_unit(spot), c, /* alone */ false, TRIES_ALL);
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
