/* SPDX-License-Identifier: MIT */
/* grow.c - memory from the OS: segments, and large blocks with a mapping of their own.
 *
 * Segments stay for good; their free granules go back as pages. So books and hints of any age can be followed.
 *
 * Orders.  OP5  The release that publishes a segment in segs[] pairs with the acquire in pool_segment: its books,
 *               length and distance are seen.
 *          OP8  A mapping's bytes: the compare-and-swap to 0 decides who gives it back.
 */
#include "pool/pool_internal.h"

#include "os/os.h"

/* ---- segments ----------------------------------------------------------------------------------------------- */

/* Memory for a segment of at least least granules: 4 MiB, or what the OS still gives. */
static char *segment_memory(unsigned least, unsigned *n_granules)
{
    for (unsigned n = SEGMENT_GRANULES; n >= least; n /= 2) {
        char *memory = os_map(n * GRANULE_BYTES, GRANULE_BYTES);
        if (memory != NULL) {
            *n_granules = n;
            return memory;
        }
    }
    return NULL;
}

static struct segment *segment_books(char *memory, unsigned n_granules)
{
    if (!map_init(memory) || map_add(memory, n_granules * GRANULE_BYTES) != 0) {
        return NULL;
    }
    struct segment *segment = map_books(SEGMENT_BOOKS(n_granules));
    if (segment == NULL) {
        return NULL;
    }
    /* Relaxed: all published by OP5. */
    store_relaxed(&segment->data, (int64_t)((uintptr_t)memory - (uintptr_t)segment));
    store_relaxed(&segment->n_granules, n_granules);
    store_relaxed(&segment->purgeable, os_page_bytes() <= GRANULE_BYTES);
    return segment;
}

/* A slot of segs[]; taken only when everything else is there, so that refusals use none up. */
static bool segment_number(struct pool *pool, unsigned *number)
{
    unsigned n = load_relaxed(&pool->n_segments);
    do {
        if (n >= pool->segments_most) {
            return false;
        }
    } while (!cas_weak_relaxed(&pool->n_segments, &n, n + 1)); /* relaxed: an empty slot is passed over */
    *number = n;
    return true;
}

bool grow_segment(struct pool *pool, unsigned n_units)
{
    if ((load_relaxed(&pool->flags) & POOL_GROWS) == 0 || n_units > SEGMENT_UNITS) {
        return false;
    }
    unsigned n_granules;
    char *memory = segment_memory((n_units + GRANULE_UNITS - 1) / GRANULE_UNITS, &n_granules);
    if (memory == NULL) {
        return false;
    }
    struct segment *segment = segment_books(memory, n_granules);
    unsigned number;
    if (segment == NULL || !segment_number(pool, &number)) {
        os_release(memory, n_granules * GRANULE_BYTES);
        return false;
    }
    map_set(memory, n_granules, map_make_tag(pool->number << TAG_NUMBER_SHIFT | number, MAP_CODE_POOL));
    store_release(&pool_segs(pool)[number], (int64_t)((uintptr_t)segment - (uintptr_t)pool)); /* OP5 */
    return true;
}

void pool_enable_growth(struct pool *pool)
{
    or_relaxed(&pool->flags, POOL_GROWS); /* relaxed: nothing was prepared for it */
}

/* ---- mappings ----------------------------------------------------------------------------------------------- */

static void mapping_tag(struct pool *pool, char *base, size_t n_granules)
{
    for (size_t i = 0; i < n_granules; i++) {
        uint32_t back = (uint32_t)size_min(i, TAG_LOW);
        map_set(base + i * GRANULE_BYTES, 1,
                map_make_tag(TAG_OWN | pool->number << TAG_NUMBER_SHIFT | back, MAP_CODE_POOL));
    }
}

void *mapping_take(struct pool *pool, size_t bytes, size_t align)
{
    if (bytes > PTRDIFF_MAX - GRANULE_BYTES || align > PTRDIFF_MAX - bytes) {
        return NULL;
    }
    bytes = round_up(bytes, GRANULE_BYTES);
    char *base = os_map(bytes, size_max(align, GRANULE_BYTES));
    if (base == NULL) {
        return NULL;
    }
    if (!map_init(base) || map_add(base, bytes) != 0) {
        os_release(base, bytes);
        return NULL;
    }
    struct mapping *mapping = map_descriptor(base);
    /* Relaxed: the tags' release publishes it, and the caller's own handing on of the block. */
    store_relaxed(&mapping->bytes, bytes);
    mapping_tag(pool, base, bytes / GRANULE_BYTES);
    add_relaxed(&pool->n_mappings, 1); /* relaxed: figures */
    add_relaxed(&pool->mapping_bytes, bytes);
    return base;
}

char *mapping_base(const void *p)
{
    char *at = (char *)round_down((uintptr_t)p, GRANULE_BYTES);
    for (;;) {
        size_t back = map_tag_heap(map_tag(at)) & TAG_LOW;
        at -= back * GRANULE_BYTES;
        if (back < TAG_LOW) {
            return at;
        }
    }
}

bool mapping_give(struct pool *pool, char *base)
{
    struct mapping *mapping = map_descriptor(base);
    size_t bytes = load_relaxed(&mapping->bytes);
    if (bytes == 0 || !cas_acq_rel(&mapping->bytes, &bytes, 0)) { /* OP8 */
        return false;
    }
    /* First the tags, while the addresses are still ours. */
    map_set(base, bytes / GRANULE_BYTES, 0);
    sub_relaxed(&pool->n_mappings, 1); /* relaxed: figures */
    sub_relaxed(&pool->mapping_bytes, bytes);
    os_release(base, bytes);
    return true;
}

bool mapping_resize(struct pool *pool, char *base, size_t bytes)
{
    struct mapping *mapping = map_descriptor(base);
    size_t old = load_relaxed(&mapping->bytes); /* the caller owns the block */
    if (bytes > PTRDIFF_MAX - GRANULE_BYTES) {
        return false;
    }
    bytes = round_up(bytes, GRANULE_BYTES);
    if (bytes < old) {
        map_set(base + bytes, (old - bytes) / GRANULE_BYTES, 0);
        store_relaxed(&mapping->bytes, bytes);
        os_release(base + bytes, old - bytes);
        sub_relaxed(&pool->mapping_bytes, old - bytes); /* relaxed: a figure */
    } else if (bytes > old) {
        if (map_add(base, bytes) != 0 || !os_extend(base, old, bytes)) {
            return false;
        }
        store_relaxed(&mapping->bytes, bytes);
        mapping_tag(pool, base, bytes / GRANULE_BYTES);
        add_relaxed(&pool->mapping_bytes, bytes - old); /* relaxed: a figure */
    }
    return true;
}
