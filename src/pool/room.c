/* SPDX-License-Identifier: MIT */
/* room.c - three levels of bits that lead to superblocks with free blocks.
 *
 * A bit may be set where there is nothing; then who looks clears it. A bit may not stay clear where there is something.
 * So who sets goes upwards, and who clears looks again afterwards:
 *
 *     set    anchor, room, any, top: write, then read the next level's bit, and set it if it's clear
 *     clear  clear the bit, then read the level below (for room: the anchor), and set it again if there is something
 *
 * Orders.  OP3  Both sides write one word and then read the other's, sequentially consistent: either the setter sees
 *               the bit clear and sets it, or the clearer sees what the setter wrote and sets it again. With acquire
 *               and release alone both could read the old value, and a free block would be lost from sight.
 */
#include "pool/pool_internal.h"

static void set_above(struct pool *pool, struct segment *segment, unsigned number, unsigned c, unsigned granule)
{
    uint64_t bit = (uint64_t)1 << granule;
    if ((load_seq_cst(&segment->any[c]) & bit) == 0) { /* OP3 */
        or_seq_cst(&segment->any[c], bit);             /* OP3 */
    }
    _Atomic uint64_t *top = pool_top(pool, c, number);
    bit = (uint64_t)1 << number % 64;
    if ((load_seq_cst(top) & bit) == 0) { /* OP3 */
        or_seq_cst(top, bit);             /* OP3 */
    }
}

void room_set(struct pool *pool, const struct spot *spot, unsigned c)
{
    unsigned granule = spot->unit / GRANULE_UNITS;
    _Atomic uint64_t *room = segment_room(spot->segment, granule, c);
    uint64_t bit = (uint64_t)1 << spot->unit % GRANULE_UNITS;
    if ((load_seq_cst(room) & bit) == 0) { /* OP3 */
        or_seq_cst(room, bit);             /* OP3 */
    }
    set_above(pool, spot->segment, spot->number, c, granule);
}

void room_clear(struct pool *pool, const struct spot *spot, unsigned c)
{
    unsigned granule = spot->unit / GRANULE_UNITS;
    struct unit *unit = spot_unit(spot);
    uint64_t bit = (uint64_t)1 << spot->unit % GRANULE_UNITS;
    and_seq_cst(segment_room(spot->segment, granule, c), ~bit); /* OP3 */
    if ((load_seq_cst(&unit->anchor) & ~ANCHOR_OPEN) != 0 &&    /* OP3 */
        load_relaxed(&unit->kind) == c) {                       /* the anchor's load shows the kind, OP1 */
        room_set(pool, spot, c);
    }
}

static void any_clear(struct pool *pool, struct segment *segment, unsigned number, unsigned c, unsigned granule)
{
    and_seq_cst(&segment->any[c], ~((uint64_t)1 << granule));   /* OP3 */
    if (load_seq_cst(segment_room(segment, granule, c)) != 0) { /* OP3 */
        set_above(pool, segment, number, c, granule);
    }
}

static void top_clear(struct pool *pool, struct segment *segment, unsigned number, unsigned c)
{
    _Atomic uint64_t *top = pool_top(pool, c, number);
    uint64_t bit = (uint64_t)1 << number % 64;
    and_seq_cst(top, ~bit);                    /* OP3 */
    if (load_seq_cst(&segment->any[c]) != 0) { /* OP3 */
        or_seq_cst(top, bit);                  /* OP3 */
    }
}

typedef bool (*look_fn)(struct pool *, const struct spot *, unsigned c, void *);

static bool find_in_granule(struct pool *pool, struct spot *spot, unsigned granule, unsigned c, look_fn look,
                            void *context)
{
    /* Relaxed: what the bits lead to is asked itself. */
    uint64_t bits = load_relaxed(segment_room(spot->segment, granule, c));
    if (bits == 0) {
        any_clear(pool, spot->segment, spot->number, c, granule);
        return false;
    }
    for (; bits != 0; bits &= bits - 1) {
        spot->unit = granule * GRANULE_UNITS + bit_lowest(bits);
        if (look(pool, spot, c, context)) {
            return true;
        }
    }
    return false;
}

static bool find_in_segment_rooms(struct pool *pool, struct spot *spot, unsigned c, look_fn look, void *context)
{
    uint64_t bits = load_relaxed(&spot->segment->any[c]); /* relaxed: as above */
    if (bits == 0) {
        top_clear(pool, spot->segment, spot->number, c);
        return false;
    }
    for (; bits != 0; bits &= bits - 1) {
        if (find_in_granule(pool, spot, bit_lowest(bits), c, look, context)) {
            return true;
        }
    }
    return false;
}

bool room_find(struct pool *pool, unsigned c, look_fn look, void *context)
{
    unsigned n_segments = load_relaxed(&pool->n_segments);
    for (unsigned base = 0; base < n_segments; base += 64) {
        /* relaxed: as above */
        for (uint64_t bits = load_relaxed(pool_top(pool, c, base)); bits != 0; bits &= bits - 1) {
            struct spot spot = {.number = base + bit_lowest(bits)};
            spot.segment = pool_segment(pool, spot.number);
            if (spot.segment != NULL && find_in_segment_rooms(pool, &spot, c, look, context)) {
                return true;
            }
        }
    }
    return false;
}
