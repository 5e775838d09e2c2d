/* SPDX-License-Identifier: MIT */
/* own.c - spans in a mapping of their own, for the largest blocks: unmapped when freed, moved by the kernel when grown.
 *
 * They stand in a fixed registry, which is also their budget: when it is full, large blocks come from areas.
 *
 * Orders.  O10  a slot's span is published by compare-and-swap/release, and read with acquire.
 */
#include "os/os.h"
#include "span/span_internal.h"

#define OWN_MOST 512
/* The kernel moves whole tables of pages when source and target lie alike in them. */
#define OWN_ALIGN (2 * MIB)

static struct {
    _Atomic(struct span *) slots[OWN_MOST]; /* O10 */
    _Atomic size_t n;
    _Atomic size_t bytes;
} own;

static bool slot_claim(struct span *span)
{
    for (size_t i = 0; i < OWN_MOST; i++) {
        struct span *empty = NULL;
        if (load_relaxed(&own.slots[i]) == NULL && cas_acq_rel(&own.slots[i], &empty, span)) { /* O10 */
            return true;
        }
    }
    return false;
}

static void slot_release(struct span *span)
{
    for (size_t i = 0; i < OWN_MOST; i++) {
        struct span *held = span;
        if (load_relaxed(&own.slots[i]) == span && cas_acq_rel(&own.slots[i], &held, NULL)) { /* O10 */
            return;
        }
    }
}

static struct span *describe(char *begin, size_t bytes)
{
    if (!map_init(begin) || map_add(begin, bytes) != 0) {
        return NULL;
    }
    struct span *span = map_descriptor(begin);
    span->begin = begin;
    span->n_granules = (uint32_t)(bytes >> GRANULE_SHIFT);
    span->back = 0;
    store_relaxed(&span->state, SPAN_USED);
    span->zero = 1;
    span->purged = 0;
    span->own = 1;
    return span;
}

struct span *span_map(size_t bytes, size_t align)
{
    bytes = round_up(bytes, GRANULE_BYTES);
    if (load_relaxed(&own.n) >= OWN_MOST || !span_within_limit(bytes)) {
        return NULL;
    }
    char *begin = os_map(bytes, size_max(align, OWN_ALIGN));
    if (begin == NULL) {
        return NULL;
    }
    struct span *span = describe(begin, bytes);
    if (span == NULL || !slot_claim(span)) {
        os_release(begin, bytes);
        return NULL;
    }
    add_relaxed(&own.n, 1);
    add_relaxed(&own.bytes, bytes);
    return span;
}

void span_unmap(struct span *span)
{
    size_t bytes = span_bytes(span);
    slot_release(span);
    sub_relaxed(&own.n, 1);
    sub_relaxed(&own.bytes, bytes);
    os_release(span->begin, bytes);
}

void own_shrink(struct span *span, size_t n)
{
    char *tail = span->begin + (n << GRANULE_SHIFT);
    size_t bytes = (span->n_granules - n) << GRANULE_SHIFT;
    span->n_granules = (uint32_t)n;
    sub_relaxed(&own.bytes, bytes);
    if (os_release(tail, bytes) != 0) {
        os_purge(tail, bytes, /* lazy */ false); /* no room for one more mapping: only the addresses stay */
    }
}

static bool grow_in_place(struct span *span, size_t old_bytes, size_t bytes)
{
    if (map_add(span->begin, bytes) != 0 || !os_extend(span->begin, old_bytes, bytes)) {
        return false;
    }
    span->n_granules = (uint32_t)(bytes >> GRANULE_SHIFT);
    return true;
}

/* The new place is described before the kernel moves anything: books may be refused, and there would be no way back. */
static struct span *grow_elsewhere(struct span *span, size_t old_bytes, size_t bytes)
{
    char *target = os_reserve(bytes, OWN_ALIGN);
    struct span *moved = target == NULL ? NULL : describe(target, bytes);
    if (moved == NULL) {
        os_release(target, target == NULL ? 0 : bytes);
        return NULL;
    }
    /* The old place's tags go first: once the kernel has moved the pages, others may be given the addresses. */
    map_set(span->begin, span->n_granules, 0);
    if (!os_remap(span->begin, old_bytes, bytes, target)) {
        map_set_large(span->begin, span->n_granules);
        return NULL;
    }
    slot_release(span);
    /* The slot just freed may be gone to another: then this one is in no list, and only figures miss it. */
    (void)slot_claim(moved);
    return moved;
}

struct span *span_remap(struct span *span, size_t bytes)
{
    bytes = round_up(bytes, GRANULE_BYTES);
    size_t old_bytes = span_bytes(span);
    if (bytes < old_bytes || !span_within_limit(bytes - old_bytes)) {
        return NULL;
    }
    if (grow_in_place(span, old_bytes, bytes)) {
        add_relaxed(&own.bytes, bytes - old_bytes);
        return span;
    }
    /* What had to move once stands in a place without room behind it; it takes some along, or each step would be a
     * move. */
    size_t room_bytes = round_up(bytes + bytes / 8, GRANULE_BYTES);
    struct span *moved = NULL;
    if (span_within_limit(room_bytes - old_bytes)) {
        moved = grow_elsewhere(span, old_bytes, room_bytes);
    }
    if (moved == NULL) {
        moved = grow_elsewhere(span, old_bytes, bytes);
    }
    if (moved != NULL) {
        add_relaxed(&own.bytes, span_bytes(moved) - old_bytes);
    }
    return moved;
}

int span_each_own(int (*visit)(struct span *span, void *context), void *context)
{
    for (size_t i = 0; i < OWN_MOST; i++) {
        struct span *span = load_acquire(&own.slots[i]); /* O10 */
        int result = span == NULL ? 0 : visit(span, context);
        if (result != 0) {
            return result;
        }
    }
    return 0;
}

size_t own_count(void)
{
    return load_relaxed(&own.n);
}

size_t own_bytes(void)
{
    return load_relaxed(&own.bytes);
}
