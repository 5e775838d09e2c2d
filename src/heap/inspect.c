/* SPDX-License-Identifier: MIT */
/* inspect.c - questions about the heap: one address, every block, all figures.
 *
 * A block of a slab whose owner runs may change while it is looked at: the answer says whether that could be.
 */
#include "heap/heap_internal.h"
#include "os/os.h"
#include "pool/pool.h"

/* ---- one address -------------------------------------------------------------------------------------------- */

static bool is_quiet(const struct heap *owner)
{
    return owner == NULL || load_relaxed(&owner->state) == HEAP_IDLE ||
           load_relaxed(&owner->current_of) == &heap_current;
}

static void query_pool(const void *p, struct heap_answer *answer)
{
    struct pool_block block;
    if (pool_query(p, &block)) {
        *answer = (struct heap_answer){
            .base = block.base, .bytes = block.bytes, .live = block.live, .pool = true, .exact = true};
    }
}

/* Freed by the program, and kept back by a hook: free to whoever asks. */
static bool is_kept_back(const struct heap_answer *answer)
{
    const struct hooks *hooks = hooks_now();
    return answer->live && hooks != NULL && hooks->all && hooks->is_freed(answer->base);
}

static bool state_is_live(const struct place *place)
{
    struct place base = *place;
    base.offset = 0;
    return place_live(&base);
}

void heap_query(const void *p, struct heap_answer *answer)
{
    *answer = (struct heap_answer){.exact = true};
    struct place place = place_find(p);
    if (place.kind == PLACE_POOL) {
        query_pool(p, answer);
        return;
    }
    bool has_owner = place.kind == PLACE_SMALL || place.kind == PLACE_MEDIUM;
    answer->exact = !has_owner || is_quiet(load_relaxed(&((struct slab *)place.span)->owner));
    if (place.block != NULL && place.offset < place.bytes && !place.unmapped) {
        answer->base = place.block;
        answer->bytes = place.bytes;
        answer->live = state_is_live(&place);
        answer->live = answer->live && !is_kept_back(answer);
    }
}

/* ---- every block -------------------------------------------------------------------------------------------- */

struct walk {
    int (*visit)(const struct heap_answer *answer, void *context);
    void *context;
};

/* A small or a medium slab's blocks, by ascending address. */
static int walk_slab(struct walk *walk, struct place place, size_t n, char *first, size_t bytes)
{
    bool exact = is_quiet(load_relaxed(&((struct slab *)place.span)->owner));
    place.bytes = bytes;
    for (size_t i = 0; i < n; i++) {
        place.index = (unsigned)i;
        place.block = first + i * bytes;
        struct heap_answer answer = {.base = place.block, .bytes = bytes, .live = place_live(&place), .exact = exact};
        answer.live = answer.live && !is_kept_back(&answer);
        int result = walk->visit(&answer, walk->context);
        if (result != 0) {
            return result;
        }
    }
    return 0;
}

static int walk_guard(struct walk *walk, const char *at)
{
    struct hook_block block;
    const struct hooks *hooks = hooks_now();
    if (hooks == NULL || !hooks->locate(at, &block)) {
        return 0;
    }
    struct heap_answer answer = {.base = block.begin, .bytes = block.bytes, .live = block.live, .exact = true};
    return walk->visit(&answer, walk->context);
}

static int walk_large(struct walk *walk, const struct large *large)
{
    struct heap_answer answer = {.base = large->span.begin, .bytes = large->bytes, .live = true, .exact = true};
    return walk->visit(&answer, walk->context);
}

static int walk_place(struct walk *walk, struct place place)
{
    if (place.kind == PLACE_SMALL) {
        struct slab *slab = (struct slab *)place.span;
        size_t bytes = heap_class_size(load_relaxed(&slab->class));
        return walk_slab(walk, place, load_relaxed(&slab->n_carved), slab_first_block(slab, bytes), bytes);
    }
    if (place.kind == PLACE_MEDIUM) {
        struct medium *m = (struct medium *)place.span;
        return walk_slab(walk, place, load_relaxed(&m->capacity), m->span.begin, load_relaxed(&m->block_bytes));
    }
    if (place.kind == PLACE_GUARD) {
        return walk_guard(walk, place.span->begin);
    }
    return place.kind == PLACE_LARGE ? walk_large(walk, (struct large *)place.span) : 0;
}

/* Is there a slab or a large block at a granule? What is free may be cut anew at any moment, and isn't looked at. */
static bool is_used(const char *granule)
{
    uint32_t tag = map_tag_acquire(granule);
    uint32_t code = map_tag_code(tag);
    return code == MAP_CODE_LARGE || code == MAP_CODE_GUARD ||
           (code < MAP_CODE_OTHER && map_tag_heap(tag) >= MAP_HEAP_FIRST);
}

static bool is_whole(const struct place *place)
{
    return (place->kind == PLACE_MEDIUM || place->kind == PLACE_LARGE || place->kind == PLACE_GUARD) &&
           place->span->n_granules > 0;
}

/* How many granules, from at on, place's span has. The descriptor may be changing: what it says is held against at. */
static size_t granules_of(const struct place *place, const char *at)
{
    if (!is_whole(place)) {
        return 1;
    }
    size_t passed = ptr_diff(at, place->span->begin) >> GRANULE_SHIFT;
    size_t n = place->span->n_granules;
    return passed < n ? n - passed : 1;
}

/* A span may have begun in the area before: areas that lie side by side share free memory. */
static bool begins_at(const struct place *place, const char *at)
{
    return !is_whole(place) || place->span->begin == at;
}

static int walk_area(void *begin, size_t n, void *context)
{
    size_t step;
    for (size_t i = 0; i < n; i += step) {
        char *at = (char *)begin + (i << GRANULE_SHIFT);
        step = 1;
        if (!is_used(at)) {
            continue;
        }
        struct place place = place_find(at);
        step = granules_of(&place, at);
        place.offset = 0;
        int result = begins_at(&place, at) ? walk_place(context, place) : 0;
        if (result != 0) {
            return result;
        }
    }
    return 0;
}

static int walk_own(struct span *span, void *context)
{
    return walk_large(context, (struct large *)span);
}

static int walk_pool(const struct pool_block *block, void *context)
{
    struct walk *walk = context;
    struct heap_answer answer = {
        .base = block->base, .bytes = block->bytes, .live = block->live, .pool = true, .exact = true};
    return walk->visit(&answer, walk->context);
}

int heap_walk(int (*visit)(const struct heap_answer *answer, void *context), void *context)
{
    struct walk walk = {.visit = visit, .context = context};
    int result = span_each_area(walk_area, &walk);
    if (result == 0) {
        result = span_each_own(walk_own, &walk);
    }
    return result != 0 ? result : pool_walk(&pool_of_heap, walk_pool, &walk);
}

/* ---- figures ------------------------------------------------------------------------------------------------ */

struct sums {
    struct heap_figures *figures;
    uint64_t requested; /* of sampled, over all heaps */
    uint64_t sampled;
    size_t slab_live_bytes; /* of the span being looked at */
};

static int count_block(const struct heap_answer *answer, void *context)
{
    struct sums *sums = context;
    if (answer->live) {
        sums->figures->n_live++;
        sums->figures->live_bytes += answer->bytes;
        sums->slab_live_bytes += answer->bytes;
    } else {
        sums->figures->n_free++;
        sums->figures->free_bytes += answer->bytes;
    }
    return 0;
}

static void add_live(struct sums *sums, size_t bytes, uint64_t requested, uint64_t sampled)
{
    size_t asked = sampled == 0 ? bytes : (size_t)((double)bytes * (double)requested / (double)sampled);
    sums->figures->rss_live_requested += asked;
    sums->figures->rss_live_rounding += bytes - asked;
}

/* The resident bytes of a slab are its live blocks' first, the rest is free slots'. */
static void add_slab(struct sums *sums, size_t resident)
{
    size_t live = size_min(sums->slab_live_bytes, resident);
    add_live(sums, live, sums->requested, sums->sampled);
    sums->figures->rss_free_slots += resident - live;
    sums->figures->n_slabs++;
}

static void add_large(struct sums *sums, const struct large *large)
{
    size_t resident = os_resident_bytes(large->span.begin, span_bytes(&large->span));
    size_t live = size_min(resident, large->bytes);
    add_live(sums, live, large->requested, large->bytes);
    sums->figures->rss_free_slots += resident - live;
    sums->figures->n_large++;
    sums->figures->large_bytes += large->bytes;
}

static int sum_area(void *begin, size_t n, void *context)
{
    struct sums *sums = context;
    struct walk walk = {.visit = count_block, .context = sums};
    size_t step;
    for (size_t i = 0; i < n; i += step) {
        char *at = (char *)begin + (i << GRANULE_SHIFT);
        struct place place = place_find(at);
        step = granules_of(&place, at);
        if (!begins_at(&place, at)) {
            continue;
        }
        place.offset = 0;
        sums->slab_live_bytes = 0;
        walk_place(&walk, place);
        size_t resident = os_resident_bytes(at, step << GRANULE_SHIFT);
        if (place.kind == PLACE_LARGE) {
            add_large(sums, (struct large *)place.span);
        } else if (place.kind == PLACE_SMALL || place.kind == PLACE_MEDIUM || place.kind == PLACE_GUARD) {
            add_slab(sums, resident);
        } else {
            sums->figures->rss_kept += resident;
        }
    }
    return 0;
}

static int sum_own(struct span *span, void *context)
{
    struct sums *sums = context;
    struct walk walk = {.visit = count_block, .context = sums};
    walk_large(&walk, (struct large *)span);
    add_large(sums, (struct large *)span);
    return 0;
}

static void sum_pool(struct sums *sums)
{
    struct pool_figures pool;
    pool_figures(&pool_of_heap, &pool);
    sums->figures->n_live += pool.n_live_blocks;
    sums->figures->live_bytes += pool.live_bytes;
    sums->figures->free_bytes += pool.free_bytes;
    add_live(sums, pool.live_bytes, 0, 0);
}

void heap_figures(struct heap_figures *figures)
{
    *figures = (struct heap_figures){.n_heaps = heap_count(), .n_heaps_idle = heap_idle_count()};
    struct sums sums = {.figures = figures};
    for (size_t i = 0; i < heap_count(); i++) {
        struct heap *h = heap_by_index(i);
        if (h != NULL) {
            sums.requested += load_relaxed(&h->requested_bytes);
            sums.sampled += load_relaxed(&h->sampled_bytes);
        }
    }
    span_each_area(sum_area, &sums);
    span_each_own(sum_own, &sums);
    sum_pool(&sums);
    figures->rss_tables = map_books_resident_bytes();
}
