/* SPDX-License-Identifier: MIT */
/* pool.c - see pool.h: the two static pools, from address to block, and what is asked of blocks.
 *
 * Orders.  OP6  The release of segs pairs with the acquire in started: tops and the static segments are there.
 */
#include "pool/place.h"
#include "pool/pool_internal.h"

#include "os/os.h"

#include <string.h>

#ifndef ALLOT_POOL_BYTES
#define ALLOT_POOL_BYTES (2 * MIB)
#endif
#define AREA_BYTES (ALLOT_POOL_BYTES / GRANULE_BYTES * GRANULE_BYTES)
#define AREA_GRANULES (AREA_BYTES / GRANULE_BYTES)
#define AREA_SEGMENTS ((AREA_GRANULES + SEGMENT_GRANULES - 1) / SEGMENT_GRANULES)
_Static_assert(AREA_GRANULES >= 1, "ALLOT_POOL_BYTES is at least 64 KiB");

/* 64 GiB of segments; large blocks are apart. */
#define SEGMENTS_MOST 16384
_Static_assert(SEGMENTS_MOST % 64 == 0 && SEGMENTS_MOST <= TAG_LOW, "a segment's number fits the tag");
_Static_assert(AREA_SEGMENTS <= SEGMENTS_MOST, "ALLOT_POOL_BYTES is at most 64 GiB");

#define DIRTY_KEEP 64 /* granules: 4 MiB */
#define RUN_BYTES_MOST (256 * KIB)

struct tables {
    _Atomic int64_t segs[SEGMENTS_MOST];
    _Atomic uint64_t tops[CLASS_SLOTS][SEGMENTS_MOST / 64];
};

struct pool pool_of_heap = {.number = 0, .segments_most = SEGMENTS_MOST, .flags = POOL_GROWS, .dirty_keep = DIRTY_KEEP};
struct pool pool_public = {.number = 1, .segments_most = SEGMENTS_MOST, .dirty_keep = DIRTY_KEEP};

static struct tables tables[2];
static CACHE_ALIGNED char area_books[AREA_SEGMENTS][SEGMENT_BOOKS(SEGMENT_GRANULES)];
static __attribute__((aligned(4096))) char area[AREA_BYTES];

_Atomic ptrdiff_t place_cpu_offset;
static const volatile char not_alone;
_Atomic(const volatile char *) alone_flag = &not_alone;

/* ---- start -------------------------------------------------------------------------------------------------- */

static void start_area(struct pool *pool)
{
    for (unsigned i = 0; i < AREA_SEGMENTS; i++) {
        struct segment *segment = (struct segment *)(void *)area_books[i];
        size_t n_granules = size_min(SEGMENT_GRANULES, AREA_GRANULES - i * SEGMENT_GRANULES);
        store_relaxed(&segment->data, (int64_t)((uintptr_t)&area[i * SEGMENT_BYTES] - (uintptr_t)segment));
        store_relaxed(&segment->n_granules, (uint32_t)n_granules);
        store_release(&tables[pool->number].segs[i], (int64_t)((uintptr_t)segment - (uintptr_t)pool)); /* OP5 */
    }
    unsigned none = 0;
    cas_relaxed(&pool->n_segments, &none, AREA_SEGMENTS); /* once; relaxed: slots tell whether they are filled */
}

/* Every thread that comes before the first one is done stores the same values, so nobody waits. */
void pool_start(struct pool *pool)
{
    if (load_acquire(&pool->segs) != 0) { /* OP6 */
        return;
    }
    place_start();
    alone_start();
    struct tables *own = &tables[pool->number];
    store_relaxed(&pool->tops, (int64_t)((uintptr_t)own->tops - (uintptr_t)pool));
    if (pool == &pool_public) {
        start_area(pool);
    }
    store_release(&pool->segs, (int64_t)((uintptr_t)own->segs - (uintptr_t)pool)); /* OP6 */
}

/* ---- malloc ------------------------------------------------------------------------------------------------- */

static void *malloc_small(struct pool *pool, unsigned c, unsigned place)
{
    for (;;) {
        void *block = blocks_take(pool, c, place);
        if (block != NULL) {
            return block;
        }
        /* Going round again means that there were units to be had, now or a moment ago for another thread. */
        if (!grow_segment(pool, pool_class_shapes[c].units) && blocks_reclaim(pool) == 0) {
            return blocks_take_last(pool, c, place);
        }
    }
}

static void *malloc_run(struct pool *pool, size_t bytes, size_t align)
{
    size_t n = (bytes + UNIT_BYTES - 1) >> UNIT_SHIFT;
    size_t slack = align > GRANULE_BYTES ? align >> UNIT_SHIFT : 0;
    if (n + slack > SEGMENT_UNITS) {
        return NULL;
    }
    for (;;) {
        void *block = run_take(pool, (unsigned)n, align);
        if (block != NULL) {
            return block;
        }
        if (!grow_segment(pool, (unsigned)(n + slack)) && blocks_reclaim(pool) == 0) {
            return NULL;
        }
    }
}

static void *malloc_large(struct pool *pool, size_t bytes, size_t align)
{
    bool grows = (load_relaxed(&pool->flags) & POOL_GROWS) != 0;
    if (bytes > PTRDIFF_MAX) {
        return NULL;
    }
    if (!grows || (bytes <= RUN_BYTES_MOST && align <= GRANULE_BYTES)) {
        return malloc_run(pool, bytes, align);
    }
    void *block = mapping_take(pool, bytes, align);
    return block != NULL ? block : malloc_run(pool, bytes, align);
}

/* The smallest class whose blocks are all aligned: superblocks begin at units. 0: none. */
static unsigned class_aligned(size_t bytes, size_t align)
{
    if (bytes > CLASS_BYTES_MOST || align > UNIT_BYTES) {
        return 0;
    }
    for (unsigned c = class_of(size_max(bytes, align)); c <= CLASS_LAST; c++) {
        if (pool_classes[c].bytes % align == 0) {
            return c;
        }
    }
    return 0;
}

static NOINLINE void *pool_malloc_slow(struct pool *pool, size_t bytes, size_t align, unsigned place)
{
    pool_start(pool);
    unsigned c = class_aligned(bytes, align);
    return c != 0 ? malloc_small(pool, c, place) : malloc_large(pool, size_max(bytes, 1), align);
}

INLINE void *malloc_fast(struct pool *pool, size_t bytes, size_t align, bool alone)
{
    unsigned place = place_now() % PLACES;
    if (LIKELY(bytes <= CLASS_BYTES_MOST && align <= 16)) {
        unsigned c = class_of(bytes);
        int64_t hint = load_acquire(&pool->places[place].hint[c]); /* OP7 */
        if (LIKELY(hint != 0)) {
            void *block = superblock_take(pool, hint_unit(pool, hint), c, alone, TRIES_SOME);
            if (LIKELY(block != NULL)) {
                return block;
            }
        }
    }
    return pool_malloc_slow(pool, bytes, align, place);
}

void *pool_malloc(struct pool *pool, size_t bytes, size_t align)
{
    return malloc_fast(pool, bytes, align, is_alone());
}

void *pool_malloc_shared(struct pool *pool, size_t bytes, size_t align)
{
    return malloc_fast(pool, bytes, align, /* alone */ false);
}

/* ---- from address to block ---------------------------------------------------------------------------------- */

static bool in_area(const void *p)
{
    return ptr_diff(p, area) < AREA_BYTES;
}

bool pool_owns(const void *p)
{
    return in_area(p) || map_tag_code(map_tag(p)) == MAP_CODE_POOL;
}

struct pool *pool_of(const void *p)
{
    if (in_area(p)) {
        return &pool_public;
    }
    uint32_t tag = map_tag(p);
    if (map_tag_code(tag) != MAP_CODE_POOL) {
        return NULL;
    }
    return (map_tag_heap(tag) >> TAG_NUMBER_SHIFT & 1) != 0 ? &pool_public : &pool_of_heap;
}

/* The segment around an address of a static pool; false when it is in none. */
INLINE bool segment_of(const void *p, struct pool **pool, struct spot *spot)
{
    if (in_area(p)) {
        *pool = &pool_public;
        spot->number = (unsigned)(ptr_diff(p, area) / SEGMENT_BYTES);
    } else {
        uint32_t tag = map_tag(p);
        if (map_tag_code(tag) != MAP_CODE_POOL || (map_tag_heap(tag) & TAG_OWN) != 0) {
            return false;
        }
        *pool = (map_tag_heap(tag) >> TAG_NUMBER_SHIFT & 1) != 0 ? &pool_public : &pool_of_heap;
        spot->number = map_tag_heap(tag) & TAG_LOW;
    }
    if (load_acquire(&(*pool)->segs) == 0) { /* OP6: a wild pointer before the first call */
        return false;
    }
    spot->segment = pool_segment(*pool, spot->number);
    return spot->segment != NULL;
}

bool find_in_segment(struct pool *pool, const struct spot *at, const void *p, struct found *out)
{
    size_t offset = ptr_diff(p, segment_data(at->segment));
    unsigned u = (unsigned)(offset >> UNIT_SHIFT);
    uint32_t kind = load_relaxed(&segment_unit(at->segment, u)->kind); /* a live block's address brought it along */
    if (KIND_BACK(kind) > u) {
        return false;
    }
    out->pool = pool;
    out->spot = (struct spot){.segment = at->segment, .number = at->number, .unit = u - KIND_BACK(kind)};
    struct unit *first = spot_unit(&out->spot);
    uint64_t anchor = load_acquire(&first->anchor); /* OP1 */
    uint32_t first_kind = load_relaxed(&first->kind);
    out->code = KIND_CODE(first_kind) & ~KIND_DEAD;
    if (KIND_BACK(first_kind) != 0 || out->code == 0 || out->code != (KIND_CODE(kind) & ~KIND_DEAD)) {
        return false;
    }
    offset -= (size_t)out->spot.unit << UNIT_SHIFT;
    const struct pool_class *class = &pool_classes[out->code % CLASS_SLOTS];
    size_t bytes = out->code == KIND_RUN ? (size_t)load_relaxed(&first->info) << UNIT_SHIFT : class->bytes;
    out->index = out->code == KIND_RUN ? (unsigned)(offset / bytes) : (unsigned)(offset * class->inverse >> 32);
    if (out->index >= (out->code == KIND_RUN ? 1 : pool_class_shapes[out->code % CLASS_SLOTS].blocks)) {
        return false;
    }
    out->block.base = spot_memory(&out->spot) + out->index * bytes;
    out->block.bytes = bytes;
    out->block.live = (anchor & ANCHOR_OPEN) != 0 && (anchor >> out->index & 1) == 0;
    return true;
}

bool pool_is_fresh(const void *block)
{
    uint32_t tag = map_tag(block);
    return !in_area(block) && map_tag_code(tag) == MAP_CODE_POOL && (map_tag_heap(tag) & TAG_OWN) != 0;
}

static bool find_mapping(const void *p, struct found *out)
{
    uint32_t tag = map_tag(p);
    if (map_tag_code(tag) != MAP_CODE_POOL || (map_tag_heap(tag) & TAG_OWN) == 0) {
        return false;
    }
    out->pool = (map_tag_heap(tag) >> TAG_NUMBER_SHIFT & 1) != 0 ? &pool_public : &pool_of_heap;
    out->block.base = mapping_base(p);
    struct mapping *mapping = map_descriptor(out->block.base);
    out->block.bytes = mapping == NULL ? 0 : load_relaxed(&mapping->bytes);
    out->block.live = out->block.bytes != 0;
    out->is_mapping = true;
    return out->block.live;
}

static bool find(const void *p, struct found *out)
{
    struct pool *pool;
    struct spot at;
    *out = (struct found){0};
    return segment_of(p, &pool, &at) ? find_in_segment(pool, &at, p, out) : find_mapping(p, out);
}

bool pool_query(const void *p, struct pool_block *out)
{
    struct found found;
    if (!find(p, &found)) {
        return false;
    }
    *out = found.block;
    return true;
}

/* ---- free --------------------------------------------------------------------------------------------------- */

void found_report(const char *name, const void *p, const struct found *found, bool covered)
{
    struct fault fault = {.name = name, .address = p, .state = "not from a pool"};
    if (covered) {
        fault.block = found->block.base;
        fault.block_bytes = found->block.bytes;
        fault.state = found->block.live ? "live" : "free";
    }
    fault_report(&fault);
}

void found_give(struct found *found, void *p)
{
    bool exact = p == found->block.base;
    bool given = false;
    if (exact && found->block.live) {
        if (found->is_mapping) {
            given = mapping_give(found->pool, p);
        } else if (found->code == KIND_RUN) {
            given = run_give(found->pool, &found->spot);
        } else {
            given = block_give(found->pool, spot_unit(&found->spot), found->code, found->index,
                               /* alone */ false);
        }
        found->block.live = given; /* somebody was quicker: a double free at the same moment */
    }
    if (!given) {
        found_report(exact ? "double free" : "invalid free", p, found, /* covered */ true);
    }
}

/* Everything but the plain case: runs, mappings, misuse. */
static COLD void free_slow(void *p)
{
    struct found found;
    if (p == NULL) {
        return;
    }
    if (find(p, &found)) {
        found_give(&found, p);
    } else {
        found_report("invalid free", p, &found, /* covered */ false);
    }
}

/* A live small block, freed by its own address, in unit u of the segment. Anything else: false, nothing done. */
INLINE bool give_small(struct pool *pool, struct segment *segment, size_t u, const void *p)
{
    struct unit *unit = &segment->units[u];
    uint32_t kind = load_relaxed(&unit->kind); /* a live block's address brought it along */
    unsigned c = KIND_CODE(kind);
    if (UNLIKELY(c - 1 >= CLASS_LAST || KIND_BACK(kind) > u)) {
        return false;
    }
    unit -= KIND_BACK(kind);
    size_t offset = ptr_diff(p, (char *)unit + load_relaxed(&unit->memory));
    unsigned n = (unsigned)(offset * pool_classes[c].inverse >> 32);
    if (UNLIKELY(n * pool_classes[c].bytes != offset || load_relaxed(&unit->kind) != c)) {
        return false;
    }
    return block_give(pool, unit, c, n, is_alone());
}

/* In memory that the pools grew by, or misuse. */
static NOINLINE void free_mapped(void *p)
{
    struct pool *pool;
    struct spot spot;
    if (!segment_of(p, &pool, &spot) ||
        !give_small(pool, spot.segment, ptr_diff(p, segment_data(spot.segment)) >> UNIT_SHIFT, p)) {
        free_slow(p);
    }
}

void pool_free(void *p)
{
    size_t offset = ptr_diff(p, area);
    if (offset >= AREA_BYTES) {
        free_mapped(p);
        return;
    }
    /* Before the pool's start no unit has a kind, so that the books may be asked at once. */
    struct segment *segment = (struct segment *)(void *)area_books[offset / SEGMENT_BYTES];
    if (UNLIKELY(!give_small(&pool_public, segment, offset % SEGMENT_BYTES >> UNIT_SHIFT, p))) {
        free_slow(p);
    }
}

/* ---- realloc ------------------------------------------------------------------------------------------------ */

bool found_live(const void *p, struct found *found, bool covered, const char *misuse)
{
    if (covered && found->block.live && found->block.base == p) {
        return true;
    }
    found_report(misuse, p, found, covered);
    return false;
}

size_t pool_usable(const void *p, const char *misuse)
{
    struct found found;
    bool covered = find(p, &found);
    return found_live(p, &found, covered, misuse) ? found.block.bytes : 0;
}

/* Does the block serve the new size, without wasting more than a new one would? */
static bool fits(const struct found *found, size_t bytes)
{
    if (bytes > found->block.bytes) {
        return false;
    }
    return bytes > found->block.bytes / 2 || found->block.bytes <= 16;
}

void *found_realloc(struct found *found, void *p, size_t bytes)
{
    if (fits(found, bytes) || (found->is_mapping && bytes > RUN_BYTES_MOST && mapping_resize(found->pool, p, bytes))) {
        return p;
    }
    void *block = pool_malloc_shared(found->pool, bytes, 16);
    if (block == NULL) {
        return bytes <= found->block.bytes ? p : NULL;
    }
    memcpy(block, p, size_min(bytes, found->block.bytes));
    found_give(found, p);
    return block;
}

void *pool_realloc(void *p, size_t bytes)
{
    struct found found;
    bool covered = find(p, &found);
    if (!found_live(p, &found, covered, FAULT_REALLOC(found, covered, p))) {
        return NULL;
    }
    return found_realloc(&found, p, bytes);
}
