/* SPDX-License-Identifier: MIT */
/* units.c - who owns which units: one bit each, changed by compare-and-swap.
 *
 * Superblocks are taken from the bottom of a pool, rows for single blocks from the top. A row that crosses granules is
 * claimed piece by piece; where a piece turns out taken, the pieces before it go back.
 *
 * Orders.  OP2  The acquire of a claim pairs with the release of units_give: the new owner sees anchors of 0, and
 *               everything that was written to the units' memory lies before what it writes.
 */
#include "pool/pool_internal.h"

#include "os/os.h"

/* ---- dirty granules ----------------------------------------------------------------------------------------- */

/* The caller's claim took the granule's used word away from 0, so nobody else is here for the same granule. */
static void granule_left_empty(struct pool *pool, struct segment *segment, unsigned granule)
{
    if (load_relaxed(&segment->purgeable) == 0) {
        return;
    }
    uint64_t bit = (uint64_t)1 << granule;
    if ((load_relaxed(&segment->dirty) & bit) != 0) {
        sub_relaxed(&pool->dirty_free, 1); /* relaxed: a figure */
    } else {
        or_relaxed(&segment->dirty, bit); /* relaxed: ordered by used */
    }
}

static size_t granule_purge(struct pool *pool, struct segment *segment, unsigned granule)
{
    uint64_t expected = 0;
    if (!cas_acquire(&segment->used[granule], &expected, UINT64_MAX)) { /* OP2 */
        return 0;
    }
    granule_left_empty(pool, segment, granule);
    size_t bytes = 0;
    if (os_purge(segment_data(segment) + granule * GRANULE_BYTES, GRANULE_BYTES, /* lazy */ false) == 0) {
        and_acq_rel(&segment->dirty, ~((uint64_t)1 << granule)); /* ordered by used, OP2 */
        add_relaxed(&pool->purged_bytes, GRANULE_BYTES);         /* relaxed: a figure */
        bytes = GRANULE_BYTES;
    } else {
        add_relaxed(&pool->dirty_free, 1); /* relaxed: a figure */
    }
    store_release(&segment->used[granule], 0); /* OP2 */
    return bytes;
}

static void granule_became_empty(struct pool *pool, struct segment *segment, unsigned granule)
{
    if (load_relaxed(&segment->purgeable) == 0) {
        return;
    }
    if (add_relaxed(&pool->dirty_free, 1) >= load_relaxed(&pool->dirty_keep)) { /* relaxed: a figure */
        granule_purge(pool, segment, granule);
    }
}

size_t units_purge(struct pool *pool)
{
    size_t bytes = 0;
    unsigned n = load_relaxed(&pool->n_segments);
    for (unsigned i = 0; i < n; i++) {
        struct segment *segment = pool_segment(pool, i);
        if (segment == NULL || load_relaxed(&segment->purgeable) == 0) {
            continue;
        }
        for (uint64_t bits = load_relaxed(&segment->dirty); bits != 0; bits &= bits - 1) {
            bytes += granule_purge(pool, segment, bit_lowest(bits));
        }
    }
    return bytes;
}

/* One byte a page, while the granule is nobody else's. False: it is in use, wholly or in part. */
static bool granule_touch(struct pool *pool, struct segment *segment, unsigned granule)
{
    uint64_t expected = 0;
    if (!cas_acquire(&segment->used[granule], &expected, UINT64_MAX)) { /* OP2 */
        return false;
    }
    granule_left_empty(pool, segment, granule);
    volatile char *memory = segment_data(segment) + granule * GRANULE_BYTES;
    for (size_t at = 0; at < GRANULE_BYTES; at += size_min(os_page_bytes(), GRANULE_BYTES)) {
        memory[at] = 0;
    }
    if (load_relaxed(&segment->purgeable) != 0) {
        add_relaxed(&pool->dirty_free, 1); /* relaxed: a figure */
    }
    store_release(&segment->used[granule], 0); /* OP2 */
    return true;
}

size_t units_reserve(struct pool *pool, size_t bytes)
{
    int64_t wanted = (int64_t)(size_min(bytes, PTRDIFF_MAX - GRANULE_BYTES) / GRANULE_BYTES + 1);
    if (load_relaxed(&pool->dirty_keep) < wanted) {
        store_relaxed(&pool->dirty_keep, wanted); /* relaxed: a figure */
    }
    size_t ready = 0;
    unsigned i = 0;
    do {
        for (unsigned end = load_relaxed(&pool->n_segments); i < end; i++) {
            struct segment *segment = pool_segment(pool, i);
            unsigned n_granules = segment == NULL ? 0 : load_relaxed(&segment->n_granules);
            for (unsigned granule = 0; granule < n_granules && ready < bytes; granule++) {
                ready += granule_touch(pool, segment, granule) ? GRANULE_BYTES : 0;
            }
        }
    } while (ready < bytes && grow_segment(pool, 1));
    return ready;
}

/* ---- rows within a granule ---------------------------------------------------------------------------------- */

INLINE uint64_t mask_of(unsigned begin, unsigned n)
{
    return (n == 64 ? UINT64_MAX : ((uint64_t)1 << n) - 1) << begin;
}

/* Bit i of the result: bits i to i + n - 1 of word are all set. 1 <= n <= 64. */
static uint64_t rows_of(uint64_t word, unsigned n)
{
    for (unsigned have = 1; have < n && word != 0;) {
        unsigned step = have < n - have ? have : n - have;
        word &= word >> step;
        have += step;
    }
    return word;
}

static bool claim_in_granule(struct pool *pool, struct spot *spot, unsigned granule, unsigned n)
{
    _Atomic uint64_t *used = &spot->segment->used[granule];
    uint64_t word = load_relaxed(used);
    for (;;) {
        uint64_t rows = rows_of(~word, n);
        if (rows == 0) {
            return false;
        }
        unsigned begin = bit_lowest(rows);
        if (cas_weak_acquire(used, &word, word | mask_of(begin, n))) { /* OP2 */
            spot->unit = granule * GRANULE_UNITS + begin;
            if (word == 0) {
                granule_left_empty(pool, spot->segment, granule);
            }
            return true;
        }
    }
}

static bool claim_in_segments(struct pool *pool, unsigned begin, unsigned end, unsigned n, struct spot *out)
{
    for (unsigned i = begin; i < end; i++) {
        struct spot spot = {.segment = pool_segment(pool, i), .number = i};
        if (spot.segment == NULL) {
            continue;
        }
        unsigned n_granules = load_relaxed(&spot.segment->n_granules); /* written before the segment was published */
        for (unsigned granule = 0; granule < n_granules; granule++) {
            if (claim_in_granule(pool, &spot, granule, n)) {
                if (load_relaxed(&pool->open_hint) != i) {
                    store_relaxed(&pool->open_hint, i); /* relaxed: a hint, and units_claim looks below it too */
                }
                *out = spot;
                return true;
            }
        }
    }
    return false;
}

bool units_claim(struct pool *pool, unsigned n, struct spot *out)
{
    unsigned end = load_relaxed(&pool->n_segments);
    unsigned hint = load_relaxed(&pool->open_hint);
    hint = hint < end ? hint : 0;
    return claim_in_segments(pool, hint, end, n, out) || claim_in_segments(pool, 0, hint, n, out);
}

void units_give(struct pool *pool, const struct spot *spot, unsigned n)
{
    for (unsigned u = spot->unit, end = spot->unit + n; u < end;) {
        unsigned granule = u / GRANULE_UNITS;
        unsigned begin = u % GRANULE_UNITS;
        unsigned piece = (unsigned)size_min(GRANULE_UNITS - begin, end - u);
        uint64_t mask = mask_of(begin, piece);
        if ((and_release(&spot->segment->used[granule], ~mask) & ~mask) == 0) { /* OP2 */
            granule_became_empty(pool, spot->segment, granule);
        }
        u += piece;
    }
    if (spot->number < load_relaxed(&pool->open_hint)) {
        store_relaxed(&pool->open_hint, spot->number); /* relaxed: a hint */
    }
}

/* ---- rows of any length ------------------------------------------------------------------------------------- */

static bool claim_pieces(struct pool *pool, const struct spot *spot, unsigned n)
{
    for (unsigned u = spot->unit, end = spot->unit + n; u < end;) {
        unsigned granule = u / GRANULE_UNITS;
        unsigned begin = u % GRANULE_UNITS;
        unsigned piece = (unsigned)size_min(GRANULE_UNITS - begin, end - u);
        uint64_t mask = mask_of(begin, piece);
        _Atomic uint64_t *used = &spot->segment->used[granule];
        uint64_t word = load_relaxed(used);
        do {
            if ((word & mask) != 0) {
                units_give(pool, spot, u - spot->unit);
                return false;
            }
        } while (!cas_weak_acquire(used, &word, word | mask)); /* OP2 */
        if (word == 0) {
            granule_left_empty(pool, spot->segment, granule);
        }
        u += piece;
    }
    return true;
}

/* From the top down: each unit is asked once, full granules in one step. */
static bool claim_row_in_segment(struct pool *pool, struct spot *spot, unsigned n, size_t align)
{
    unsigned free_units = 0;
    unsigned u = load_relaxed(&spot->segment->n_granules) * GRANULE_UNITS;
    while (u > 0) {
        uint64_t word = load_relaxed(&spot->segment->used[(u - 1) / GRANULE_UNITS]);
        if (word == UINT64_MAX && u % GRANULE_UNITS == 0) {
            u -= GRANULE_UNITS;
            free_units = 0;
            continue;
        }
        u--;
        free_units = (word >> u % GRANULE_UNITS & 1) == 0 ? free_units + 1 : 0;
        spot->unit = u;
        if (free_units >= n && ((uintptr_t)spot_memory(spot) & (align - 1)) == 0) {
            if (claim_pieces(pool, spot, n)) {
                return true;
            }
            free_units = 0; /* another thread was quicker */
        }
    }
    return false;
}

bool units_claim_row(struct pool *pool, unsigned n, size_t align, struct spot *out)
{
    for (unsigned i = load_relaxed(&pool->n_segments); i > 0; i--) {
        struct spot spot = {.segment = pool_segment(pool, i - 1), .number = i - 1};
        if (spot.segment != NULL && claim_row_in_segment(pool, &spot, n, align)) {
            *out = spot;
            return true;
        }
    }
    return false;
}
