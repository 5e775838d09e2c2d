/* SPDX-License-Identifier: MIT */
/* large.c - blocks above 512 KiB: a span each, from an area or, from mmap_threshold on, a mapping of its own.
 *
 * A large block has no owner: any thread may free it. Its granules' tags tell how far back it begins. The first
 * granule's tag is claimed by compare-and-swap, so one of two frees fails.
 */
#include "config/config.h"
#include "heap/heap_internal.h"
#include "os/os.h"

static size_t granules_of(size_t bytes)
{
    return (bytes + GRANULE_BYTES - 1) >> GRANULE_SHIFT;
}

static void *large_start(struct large *large, size_t bytes, bool *zero)
{
    large->owner = NULL;
    large->bytes = round_up(bytes, os_page_bytes());
    large->requested = bytes;
    large->ghost_bytes = 0;
    *zero = large->span.zero;
    map_set_large(large->span.begin, large->span.n_granules);
    return large->span.begin;
}

static struct span *take_span(size_t bytes, size_t room_bytes, size_t align)
{
    struct span *span = NULL;
    if (bytes >= (size_t)option(OPT_mmap_threshold)) {
        span = span_map(room_bytes, align);
    }
    return span != NULL ? span : span_take(granules_of(room_bytes), size_max(align >> GRANULE_SHIFT, 1));
}

void *large_malloc(size_t bytes, size_t room_bytes, size_t align, bool *zero)
{
    if (bytes > LARGE_MOST || align > LARGE_MOST) {
        return NULL;
    }
    span_tick(os_now_ms());
    struct span *span = take_span(bytes, room_bytes, align);
    if (span == NULL && room_bytes > bytes) {
        span = take_span(bytes, bytes, align);
    }
    return span == NULL ? NULL : large_start((struct large *)span, bytes, zero);
}

void large_free(struct large *large)
{
    struct span *span = &large->span;
    if (!map_claim(span->begin, map_make_tag(0, MAP_CODE_LARGE), map_make_tag(0, MAP_CODE_FREE))) {
        fault_of_pointer("double free", "double free", span->begin);
        return;
    }
    large->ghost_bytes = large->bytes;
    if (span->own) {
        /* The first granule's tag stays: it can name a second free. Nothing else is ours any more. */
        map_set(span->begin + GRANULE_BYTES, span->n_granules - 1, 0);
        span_unmap(span);
        return;
    }
    map_set(span->begin + GRANULE_BYTES, span->n_granules - 1, map_make_tag(0, MAP_CODE_FREE));
    span_give(span, /* touched */ true);
    span_tick(os_now_ms());
}

static void set_bytes(struct large *large, size_t bytes)
{
    large->bytes = round_up(bytes, os_page_bytes());
    large->requested = bytes;
}

/* A block that shrinks by more than half gives the rest back. */
static void shrink(struct large *large, size_t bytes)
{
    struct span *span = &large->span;
    size_t keep = granules_of(bytes);
    if (keep < span->n_granules / 2) {
        uint32_t tag = span->own ? 0 : map_make_tag(0, MAP_CODE_FREE); /* of a mapping nothing stays ours */
        map_set(span->begin + (keep << GRANULE_SHIFT), span->n_granules - keep, tag);
        span_shrink(span, keep);
    }
    set_bytes(large, bytes);
}

bool large_resize(struct large *large, size_t bytes)
{
    if (bytes > LARGE_MOST) {
        return false;
    }
    struct span *span = &large->span;
    if (bytes <= span_bytes(span)) {
        shrink(large, bytes);
        return true;
    }
    bool zero_tail;
    if (!span_grow(span, granules_of(bytes), &zero_tail)) {
        return false;
    }
    map_set_large(span->begin, span->n_granules);
    set_bytes(large, bytes);
    return true;
}

void *large_remap(struct large *large, size_t bytes)
{
    if (!large->span.own || bytes > LARGE_MOST) {
        return NULL;
    }
    struct span *moved = span_remap(&large->span, round_up(bytes, GRANULE_BYTES));
    bool zero;
    return moved == NULL ? NULL : large_start((struct large *)moved, bytes, &zero);
}
