/* SPDX-License-Identifier: MIT */
/* spans.c - every span, for who looks while the process runs.
 *
 * Descriptors are written by whoever holds their span, without a thought for a reader. So each is copied first, in a
 * way that says nothing of what lies between two reads, and what the copy says is held against what it can be. Memory
 * of areas stays mapped for good (M2), so a block's words can always be read; of mappings of their own only the
 * descriptor is.
 */
#include "heap/heap_internal.h"
#include "os/os.h"

#include <string.h>

union descriptor {
    struct span span;
    struct slab slab;
    struct medium medium;
    struct large large;
    uint64_t words[DESCRIPTOR_BYTES / sizeof(uint64_t)];
};

struct span_walk {
    int (*visit)(const struct heap_span *span, void *context);
    void *context;
    unsigned char live[HEAP_SPAN_BLOCKS / 8];
};

/* A race by design: what is read may be of two moments, and is checked before it is used. */
__attribute__((noinline, no_sanitize("thread"))) static bool descriptor_copy(const volatile void *at,
                                                                             union descriptor *copy)
{
    const volatile uint64_t *words = at;
    for (size_t i = 0; words != NULL && i < sizeof copy->words / sizeof copy->words[0]; i++) {
        copy->words[i] = words[i];
    }
    return words != NULL;
}

/* The same of a block: its words are the program's as long as it lives. */
__attribute__((noinline, no_sanitize("thread"))) static void block_copy(const volatile uintptr_t *words,
                                                                        struct block *copy)
{
    store_relaxed(&copy->link, words[0]);
    store_relaxed(&copy->sum, words[1]);
}

static bool looks_free(const char *at)
{
    struct block copy;
    block_copy((const volatile uintptr_t *)(const void *)at, &copy);
    uintptr_t key = (uintptr_t)at ^ heap_secret();
    return block_reads(&copy, key, FORM_OWN) || block_reads(&copy, key, FORM_SENT) ||
           block_reads(&copy, key, FORM_SORTED) || block_reads(&copy, key, FORM_OUTBOX);
}

static int visit_plain(struct span_walk *walk, const char *begin, const char *end, enum heap_span_use use)
{
    struct heap_span span = {.begin = begin, .bytes = ptr_diff(end, begin), .use = use, .first_block = begin};
    return begin >= end ? 0 : walk->visit(&span, walk->context);
}

static void set_live(struct span_walk *walk, unsigned i)
{
    walk->live[i / 8] |= (unsigned char)(1u << i % 8);
}

/* False: it was no slab any more. */
static bool visit_small(struct span_walk *walk, const char *at, uint32_t tag, int *result)
{
    union descriptor d;
    size_t block_bytes = heap_class_size(map_tag_code(tag) & ~CLASS_SPARSE);
    if (!descriptor_copy(map_descriptor(at), &d)) {
        return false;
    }
    size_t capacity = load_relaxed(&d.slab.capacity);
    unsigned carved = load_relaxed(&d.slab.n_carved);
    unsigned bare_pages = load_relaxed(&d.slab.bare_pages);
    if (capacity * block_bytes > GRANULE_BYTES || carved > capacity || carved > HEAP_SPAN_BLOCKS) {
        return false;
    }
    const char *first = at + (GRANULE_BYTES - capacity * block_bytes);
    memset(walk->live, 0, sizeof walk->live);
    for (unsigned i = 0; i < carved; i++) {
        const char *block = first + i * block_bytes;
        bool is_bare = (bare_pages >> ptr_diff(block, at) / os_page_bytes() & 1) != 0;
        if (!is_bare && !looks_free(block)) {
            set_live(walk, i);
        }
    }
    struct heap_span span = {
        .begin = at,
        .bytes = GRANULE_BYTES,
        .use = HEAP_SPAN_SMALL,
        .size_class = map_tag_code(tag) & ~CLASS_SPARSE,
        .heap = map_tag_heap(tag),
        .first_block = first,
        .block_bytes = block_bytes,
        .n_blocks = carved,
        .live = walk->live,
    };
    *result = walk->visit(&span, walk->context);
    return true;
}

/* The granules that it took; 0: it was none. */
static size_t visit_medium(struct span_walk *walk, const char *at, size_t most, uint32_t tag, int *result)
{
    union descriptor d;
    size_t block_bytes = heap_class_size(map_tag_code(tag));
    if (!descriptor_copy(map_descriptor(at), &d) || d.span.begin != at || d.span.n_granules == 0 ||
        d.span.n_granules > most) {
        return 0;
    }
    unsigned capacity = load_relaxed(&d.medium.capacity);
    if (capacity > 64 || capacity * block_bytes > span_bytes(&d.span)) {
        return 0;
    }
    uint64_t free_bits = load_relaxed(&d.medium.free) | load_relaxed(&d.medium.remote);
    memset(walk->live, 0, sizeof walk->live);
    for (unsigned i = 0; i < capacity; i++) {
        if ((free_bits >> i & 1) == 0) {
            set_live(walk, i);
        }
    }
    struct heap_span span = {
        .begin = at,
        .bytes = span_bytes(&d.span),
        .use = HEAP_SPAN_MEDIUM,
        .size_class = map_tag_code(tag),
        .heap = map_tag_heap(tag),
        .first_block = at,
        .block_bytes = block_bytes,
        .n_blocks = capacity,
        .live = walk->live,
    };
    *result = walk->visit(&span, walk->context);
    return d.span.n_granules;
}

static size_t visit_large(struct span_walk *walk, const union descriptor *d, size_t most, int *result)
{
    if (d->span.n_granules == 0 || d->span.n_granules > most || d->large.bytes > span_bytes(&d->span) ||
        d->large.requested > d->large.bytes) {
        return 0;
    }
    struct heap_span span = {
        .begin = d->span.begin,
        .bytes = span_bytes(&d->span),
        .use = HEAP_SPAN_LARGE,
        .own = d->span.own,
        .first_block = d->span.begin,
        .block_bytes = d->large.bytes,
        .n_blocks = 1,
        .requested = d->large.requested,
        .live = walk->live,
    };
    walk->live[0] = 1;
    *result = walk->visit(&span, walk->context);
    return d->span.n_granules;
}

/* How many granules were told of; 0: nothing is in this one. */
static size_t visit_granule(struct span_walk *walk, const char *at, size_t most, int *result)
{
    uint32_t tag = map_tag_acquire(at);
    uint32_t code = map_tag_code(tag);
    if (code == MAP_CODE_LARGE) {
        union descriptor d;
        bool is_first = descriptor_copy(map_descriptor(at), &d) && d.span.begin == at;
        return is_first ? visit_large(walk, &d, most, result) : 0;
    }
    if (code < MAP_CODE_OTHER && map_tag_heap(tag) >= MAP_HEAP_FIRST) {
        bool is_small = (code & ~CLASS_SPARSE) < SMALL_CLASSES;
        return is_small ? visit_small(walk, at, tag, result) : visit_medium(walk, at, most, tag, result);
    }
    if (code > MAP_CODE_FREE) { /* a room above has it */
        *result = visit_plain(walk, at, at + GRANULE_BYTES, HEAP_SPAN_OTHER);
        return 1;
    }
    return 0;
}

/* Granules in a row in which nothing is are one free span: how the store has them cut is its own business. */
static int spans_of_area(void *begin, size_t n, void *context)
{
    struct span_walk *walk = context;
    const char *free_begin = begin;
    int result = 0;
    for (size_t i = 0; i < n && result == 0;) {
        const char *at = (char *)begin + (i << GRANULE_SHIFT);
        uint32_t code = map_tag_code(map_tag(at));
        bool may_be_used = map_tag(at) != 0 && code != MAP_CODE_FREE && code != MAP_CODE_POOL;
        if (may_be_used && free_begin < at) {
            result = visit_plain(walk, free_begin, at, HEAP_SPAN_FREE);
            free_begin = at;
        }
        size_t step = result == 0 ? visit_granule(walk, at, n - i, &result) : 0;
        i += size_max(step, 1);
        if (step != 0) {
            free_begin = (char *)begin + (i << GRANULE_SHIFT);
        }
    }
    return result == 0 ? visit_plain(walk, free_begin, (char *)begin + (n << GRANULE_SHIFT), HEAP_SPAN_FREE) : result;
}

/* Its mapping may go at any moment; descriptors stay. */
static int span_of_its_own(struct span *span, void *context)
{
    union descriptor d;
    int result = 0;
    if (descriptor_copy(span, &d) && d.span.begin != NULL) {
        (void)visit_large(context, &d, SIZE_MAX >> GRANULE_SHIFT, &result);
    }
    return result;
}

int heap_each_span(int (*visit)(const struct heap_span *span, void *context), void *context)
{
    struct span_walk walk = {.visit = visit, .context = context};
    int result = span_each_area(spans_of_area, &walk);
    return result != 0 ? result : span_each_own(span_of_its_own, &walk);
}

void heap_each(void (*visit)(const struct heap_seen *heap, void *context), void *context)
{
    for (size_t i = 0; i < heap_count(); i++) {
        struct heap *h = heap_by_index(i);
        if (h != NULL) {
            struct heap_seen seen = {
                .number = h->number,
                .idle = load_relaxed(&h->state) == HEAP_IDLE,
                .storage = load_relaxed(&h->current_of),
                .sampled_bytes = load_relaxed(&h->sampled_bytes),
                .requested_bytes = load_relaxed(&h->requested_bytes),
            };
            visit(&seen, context);
        }
    }
}
