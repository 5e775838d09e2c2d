/* SPDX-License-Identifier: MIT */
/* figures.c - walks over a pool: visiting blocks, counting them, giving free pages back. Reads books alone. */
#include "map/map.h"
#include "pool/pool_internal.h"

#include <allot/root.h>

typedef int (*visit_fn)(const struct pool_block *block, void *context);

static int walk_superblock(const struct spot *spot, unsigned c, visit_fn visit, void *context)
{
    uint64_t anchor = load_acquire(&spot_unit(spot)->anchor); /* OP1 */
    int result = 0;
    for (unsigned i = 0; i < pool_class_shapes[c].blocks && result == 0 && (anchor & ANCHOR_OPEN) != 0; i++) {
        struct pool_block block = {
            .base = spot_memory(spot) + (size_t)i * pool_classes[c].bytes,
            .bytes = pool_classes[c].bytes,
            .live = (anchor >> i & 1) == 0,
        };
        result = visit(&block, context);
    }
    return result;
}

static int walk_run(const struct spot *spot, visit_fn visit, void *context)
{
    bool live = load_acquire(&spot_unit(spot)->anchor) != 0; /* OP1 */
    struct pool_block block = {
        .base = spot_memory(spot),
        .bytes = (size_t)load_relaxed(&spot_unit(spot)->info) << UNIT_SHIFT,
        .live = live,
    };
    return live ? visit(&block, context) : 0;
}

struct walk {
    struct pool *pool;
    visit_fn visit;
    void *context;
};

/* The large blocks that begin in a chunk of the map. */
static int walk_chunk(char *begin, void *context)
{
    struct walk *walk = context;
    uint32_t first_tag = map_make_tag(TAG_OWN | walk->pool->number << TAG_NUMBER_SHIFT, MAP_CODE_POOL);
    for (size_t i = 0; i < CHUNK_GRANULES; i++) {
        char *at = begin + i * GRANULE_BYTES;
        if (map_tag_acquire(at) != first_tag) {
            continue;
        }
        struct mapping *mapping = map_descriptor(at);
        struct pool_block block = {.base = at, .bytes = load_relaxed(&mapping->bytes), .live = true};
        int result = block.bytes == 0 ? 0 : walk->visit(&block, walk->context);
        if (result != 0) {
            return result;
        }
    }
    return 0;
}

/* The blocks that begin in units begin to end of a segment. */
static int walk_units(struct spot spot, unsigned begin, unsigned end, visit_fn visit, void *context)
{
    int result = 0;
    for (spot.unit = begin; spot.unit < end && result == 0; spot.unit++) {
        uint32_t kind = load_relaxed(&spot_unit(&spot)->kind); /* relaxed: near while others run */
        if (kind >= 1 && kind <= CLASS_LAST) {
            result = walk_superblock(&spot, kind, visit, context);
        } else if (kind == KIND_RUN) {
            result = walk_run(&spot, visit, context);
        }
    }
    return result;
}

static int walk_mappings(struct pool *pool, visit_fn visit, void *context)
{
    struct walk mappings = {.pool = pool, .visit = visit, .context = context};
    return load_relaxed(&pool->n_mappings) == 0 ? 0 : map_each_chunk(walk_chunk, &mappings);
}

int pool_walk(struct pool *pool, visit_fn visit, void *context)
{
    int result = walk_mappings(pool, visit, context);
    for (unsigned i = 0, n = load_relaxed(&pool->n_segments); i < n && result == 0; i++) {
        struct spot spot = {.segment = pool_segment(pool, i), .number = i};
        unsigned end = spot.segment == NULL ? 0 : load_relaxed(&spot.segment->n_granules) * GRANULE_UNITS;
        result = walk_units(spot, 0, end, visit, context);
    }
    return result;
}

/* ---- granule by granule ------------------------------------------------------------------------------------- */

struct granule_walk {
    int (*visit)(const struct pool_granule *granule, void *context);
    void *context;
};

static int granule_of_mapping(const struct pool_block *block, void *context)
{
    struct granule_walk *walk = context;
    struct pool_granule granule = {
        .begin = block->base, .bytes = block->bytes, .units = UINT64_MAX, .n_live = 1, .live_bytes = block->bytes};
    return walk->visit(&granule, walk->context);
}

static int add_live(const struct pool_block *block, void *context)
{
    struct pool_granule *granule = context;
    granule->n_live += block->live;
    granule->live_bytes += block->live ? block->bytes : 0;
    return 0;
}

int pool_each_granule(struct pool *pool, int (*visit)(const struct pool_granule *granule, void *context), void *context)
{
    struct granule_walk walk = {.visit = visit, .context = context};
    int result = walk_mappings(pool, granule_of_mapping, &walk);
    for (unsigned i = 0, n = load_relaxed(&pool->n_segments); i < n && result == 0; i++) {
        struct spot spot = {.segment = pool_segment(pool, i), .number = i};
        unsigned granules = spot.segment == NULL ? 0 : load_relaxed(&spot.segment->n_granules);
        for (unsigned g = 0; g < granules && result == 0; g++) {
            struct pool_granule granule = {
                .begin = segment_data(spot.segment) + g * GRANULE_BYTES,
                .bytes = GRANULE_BYTES,
                .units = load_relaxed(&spot.segment->used[g]), /* relaxed: a figure */
            };
            if (granule.units != 0) {
                walk_units(spot, g * GRANULE_UNITS, (g + 1) * GRANULE_UNITS, add_live, &granule);
                result = visit(&granule, context);
            }
        }
    }
    return result;
}

struct range_walk {
    int (*visit)(void *begin, size_t bytes, void *context);
    void *context;
};

static int visit_mapping(const struct pool_block *block, void *context)
{
    struct range_walk *walk = context;
    return walk->visit(block->base, block->bytes, walk->context);
}

int pool_each_range(struct pool *pool, int (*visit)(void *begin, size_t bytes, void *context), void *context)
{
    struct range_walk ranges = {.visit = visit, .context = context};
    struct walk mappings = {.pool = pool, .visit = visit_mapping, .context = &ranges};
    int result = load_relaxed(&pool->n_mappings) == 0 ? 0 : map_each_chunk(walk_chunk, &mappings);
    for (unsigned i = 0, n = load_relaxed(&pool->n_segments); i < n && result == 0; i++) {
        struct segment *segment = pool_segment(pool, i);
        if (segment != NULL) {
            result = visit(segment_data(segment), load_relaxed(&segment->n_granules) * GRANULE_BYTES, context);
        }
    }
    return result;
}

static int count(const struct pool_block *block, void *context)
{
    struct pool_figures *figures = context;
    if (block->live) {
        figures->n_live_blocks++;
        figures->live_bytes += block->bytes;
    } else {
        figures->free_bytes += block->bytes;
    }
    return 0;
}

static size_t free_unit_bytes(struct segment *segment)
{
    size_t n = 0;
    for (unsigned granule = 0; granule < load_relaxed(&segment->n_granules); granule++) {
        n += GRANULE_UNITS - bit_count(load_relaxed(&segment->used[granule])); /* relaxed: a figure */
    }
    return n * UNIT_BYTES;
}

void pool_figures(struct pool *pool, struct pool_figures *out)
{
    *out = (struct pool_figures){0};
    for (unsigned i = 0, n = load_relaxed(&pool->n_segments); i < n; i++) {
        struct segment *segment = pool_segment(pool, i);
        if (segment != NULL) {
            out->n_segments++;
            out->segment_bytes += load_relaxed(&segment->n_granules) * GRANULE_BYTES;
            out->free_bytes += free_unit_bytes(segment);
        }
    }
    pool_walk(pool, count, out);
    out->n_mappings = load_relaxed(&pool->n_mappings);
    out->mapping_bytes = load_relaxed(&pool->mapping_bytes);
    out->purged_bytes = load_relaxed(&pool->purged_bytes);
}

size_t pool_trim(struct pool *pool)
{
    pool_start(pool);
    blocks_reclaim(pool);
    return units_purge(pool);
}

/* ---- for who looks from outside ----------------------------------------------------------------------------- */

const struct allot_root_pool pool_root = {
    .bytes = sizeof pool_root,
    .unit_shift = UNIT_SHIFT,
    .segment_units = SEGMENT_UNITS,
    .granule_units = GRANULE_UNITS,
    .class_last = CLASS_LAST,
    .class_slot_bytes = sizeof(struct pool_class),
    .shape_slot_bytes = sizeof(struct pool_class_shape),
    .kind_run = KIND_RUN,
    .anchor_open = ANCHOR_OPEN,
    .of_heap = &pool_of_heap,
    .of_public = &pool_public,
    .classes = pool_classes,
    .shapes = pool_class_shapes,
    .class_bytes = ROOT_FIELD(struct pool_class, bytes),
    .shape_blocks = ROOT_FIELD(struct pool_class_shape, blocks),
    .shape_units = ROOT_FIELD(struct pool_class_shape, units),
    .segs = ROOT_FIELD(struct pool, segs),
    .n_segments = ROOT_FIELD(struct pool, n_segments),
    .segment_data = ROOT_FIELD(struct segment, data),
    .segment_granules = ROOT_FIELD(struct segment, n_granules),
    .segment_used = ROOT_FIELD(struct segment, used),
    .segment_first_unit = offsetof(struct segment, units),
    .unit_bytes = sizeof(struct unit),
    .unit_anchor = ROOT_FIELD(struct unit, anchor),
    .unit_kind = ROOT_FIELD(struct unit, kind),
    .unit_info = ROOT_FIELD(struct unit, info),
    .mapping_bytes = ROOT_FIELD(struct mapping, bytes),
    .tag_own = TAG_OWN,
    .tag_number_shift = TAG_NUMBER_SHIFT,
};
