/* SPDX-License-Identifier: MIT */
/* place.c - what is this pointer, and what is wrong with it? */
#include "heap/heap_internal.h"
#include "os/os.h"
#include "pool/pool.h"
#include "stack/stack.h"

/* ---- the forms of a free block ------------------------------------------------------------------------------ */

bool block_is_free(const struct block *b)
{
    return block_has_form(b, FORM_OWN) || block_has_form(b, FORM_SENT) || block_has_form(b, FORM_SORTED) ||
           block_has_form(b, FORM_OUTBOX);
}

/* ---- where a pointer lies ----------------------------------------------------------------------------------- */

static void place_in_slab(struct place *place, const void *p)
{
    struct slab *slab = (struct slab *)place->span;
    place->bytes = heap_class_size(load_relaxed(&slab->class));
    char *first = granule_begin(p) + (GRANULE_BYTES - load_relaxed(&slab->capacity) * place->bytes);
    if ((const char *)p < first) {
        return;
    }
    place->index = (unsigned)(ptr_diff(p, first) / place->bytes);
    place->block = first + place->index * place->bytes;
}

static void place_in_medium(struct place *place, const void *p)
{
    struct medium *m = (struct medium *)place->span;
    place->bytes = load_relaxed(&m->block_bytes);
    place->index = medium_index(m, p);
    if (place->index < load_relaxed(&m->capacity)) {
        place->block = m->span.begin + (size_t)place->index * load_relaxed(&m->block_bytes);
    }
}

/* The block that a released slab of class c had there. */
static void place_in_gone(struct place *place, const void *p, unsigned c)
{
    size_t size = heap_class_size(c);
    char *first = granule_begin(p) + GRANULE_BYTES % size;
    place->bytes = size;
    if ((const char *)p >= first) {
        place->block = first + ptr_diff(p, first) / size * size;
    }
}

static void place_in_free(struct place *place, const void *p)
{
    struct large *large = map_descriptor(p);
    if (large != NULL && large->ghost_bytes != 0 && p == granule_begin(p)) {
        place->block = granule_begin(p);
        place->bytes = large->ghost_bytes;
        place->unmapped = large->span.own;
    }
}

/* The tag of an inner granule of a very large block leads back in steps. */
static char *large_begin(const void *p)
{
    char *granule = granule_begin(p);
    for (;;) {
        uint32_t tag = map_tag(granule);
        if (map_tag_code(tag) != MAP_CODE_LARGE || map_tag_heap(tag) == 0) {
            return granule;
        }
        granule -= (size_t)map_tag_heap(tag) << GRANULE_SHIFT;
    }
}

static void place_in_guard(struct place *place, const void *p)
{
    struct hook_block block;
    const struct hooks *hooks = hooks_now();
    const struct span *inner = map_descriptor(p);
    place->span = map_descriptor(granule_begin(p) - ((size_t)inner->back << GRANULE_SHIFT));
    if (hooks != NULL && hooks->locate(p, &block)) {
        place->block = block.begin;
        place->bytes = block.bytes;
        place->guard_live = block.live;
    }
}

struct place place_find(const void *p)
{
    struct place place = {.kind = PLACE_NONE};
    uint32_t tag = map_tag_acquire(p);
    uint32_t code = map_tag_code(tag);
    if (tag == 0 || code == MAP_CODE_POOL) {
        place.kind = pool_owns(p) ? PLACE_POOL : PLACE_NONE;
    } else if (code == MAP_CODE_LARGE) {
        place.kind = PLACE_LARGE;
        place.block = large_begin(p);
        place.span = map_descriptor(place.block);
        place.bytes = ((struct large *)place.span)->bytes;
    } else if (code == MAP_CODE_GUARD) {
        place.kind = PLACE_GUARD;
        place_in_guard(&place, p);
    } else if (code == MAP_CODE_FREE) {
        place.kind = PLACE_GONE;
        place_in_free(&place, p);
    } else if (map_tag_heap(tag) == MAP_HEAP_GONE) {
        place.kind = PLACE_GONE;
        place_in_gone(&place, p, code);
    } else if ((code & ~CLASS_SPARSE) < SMALL_CLASSES) {
        place.kind = PLACE_SMALL;
        place.span = &slab_of(p)->span;
        place_in_slab(&place, p);
    } else {
        /* Who only looks may find the tag before what it says of the slab is there. */
        struct medium *m = medium_of(p);
        place.kind = m == NULL ? PLACE_GONE : PLACE_MEDIUM;
        place.span = m == NULL ? NULL : &m->span;
        if (m != NULL) {
            place_in_medium(&place, p);
        }
    }
    place.offset = place.block == NULL ? 0 : ptr_diff(p, place.block);
    return place;
}

/* ---- its state ---------------------------------------------------------------------------------------------- */

static bool slab_block_was_cut(const struct place *place)
{
    struct slab *slab = (struct slab *)place->span;
    size_t page = ptr_diff(place->block, slab->span.begin) / os_page_bytes();
    return place->index < load_relaxed(&slab->n_carved) && (load_relaxed(&slab->bare_pages) >> page & 1) == 0;
}

static bool medium_is_free(const struct place *place)
{
    struct medium *m = (struct medium *)place->span;
    return ((load_relaxed(&m->free) | load_relaxed(&m->remote)) >> place->index & 1) != 0;
}

static bool block_lives(const struct place *place)
{
    switch (place->kind) {
    case PLACE_SMALL:
        return slab_block_was_cut(place) && !block_is_free((const struct block *)(const void *)place->block);
    case PLACE_MEDIUM:
        return !medium_is_free(place);
    case PLACE_LARGE:
        return true;
    case PLACE_GUARD:
        return place->guard_live;
    default:
        return false;
    }
}

bool place_live(const struct place *place)
{
    return place->block != NULL && place->offset == 0 && block_lives(place);
}

size_t heap_slab_block_bytes(const void *p)
{
    uint32_t tag = map_tag(p);
    uint32_t c = map_tag_code(tag) & (map_tag_code(tag) < MAP_CODE_OTHER ? ~CLASS_SPARSE : ~0u);
    return map_tag_heap(tag) >= MAP_HEAP_FIRST && c < CLASS_COUNT ? heap_class_size(c) : 0;
}

size_t heap_small_block_bytes(const void *p)
{
    uint32_t tag = map_tag(p);
    uint32_t c = map_tag_code(tag) & ~CLASS_SPARSE;
    return map_tag_heap(tag) >= MAP_HEAP_FIRST && map_tag_code(tag) < MAP_CODE_OTHER && c < SMALL_CLASSES
               ? heap_class_size(c)
               : 0;
}

bool heap_slab_block(const void *p, struct heap_slab_block *block)
{
    struct place place = place_find(p);
    if (place.block == NULL || place.offset >= place.bytes ||
        (place.kind != PLACE_SMALL && place.kind != PLACE_MEDIUM)) {
        return false;
    }
    *block = (struct heap_slab_block){.begin = place.block, .bytes = place.bytes, .live = block_lives(&place)};
    return true;
}

/* ---- faults ------------------------------------------------------------------------------------------------- */

static bool was_never_cut(const struct place *place)
{
    return place->kind == PLACE_SMALL && place->index >= load_relaxed(&((struct slab *)place->span)->n_carved);
}

static const char *state_of(const struct place *place)
{
    if (was_never_cut(place)) {
        return "never handed out";
    }
    return block_lives(place) ? "live" : "free";
}

/* As it was asked for, where somebody keeps that. */
static size_t bytes_of(const struct place *place)
{
    const struct hooks *hooks = hooks_now();
    size_t asked;
    bool kept = hooks != NULL && block_lives(place) && hooks->usable(place->block, &asked);
    return kept ? asked : place->bytes;
}

void fault_of_pointer(const char *name, const char *name_if_free, const void *p)
{
    char where[160];
    struct place place = place_find(p);
    struct fault fault = {.name = name, .address = p};
    if (place.block != NULL) {
        fault.block = place.block;
        fault.block_bytes = bytes_of(&place);
        fault.state = state_of(&place);
        if (place.offset == 0 && !was_never_cut(&place) && !block_lives(&place)) {
            fault.name = name_if_free;
        }
    } else if (place.kind == PLACE_NONE) {
        stack_describe(p, where, sizeof where);
        fault.state = where;
    } else {
        fault.state = place.kind == PLACE_GONE ? "in free memory of the heap" : "between the blocks of a slab";
    }
    fault_report(&fault);
}

void fault_of_free_block(const struct block *b)
{
    struct place place = place_find(b);
    bool twice = block_is_free(b); /* in another form than its list's */
    struct fault fault = {
        .name = twice ? "double free" : "write after free",
        .address = b,
        .block = b,
        .block_bytes = place.bytes,
        .state = "free",
        .fatal = true,
    };
    fault_report(&fault);
    base_check_failed("a damaged list is not followed", __FILE__, __LINE__);
}
