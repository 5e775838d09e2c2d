/* SPDX-License-Identifier: MIT */
/* range.c - ranges of any size and place, and who owns them: what the tags of whole granules can't say.
 *
 * A range stands in a hash table under its first and its last address, both divided by a power of two that is at least
 * its size: so any address in it has one of these two keys. Whoever asks goes through the powers that are in use.
 *
 *     used levels  12, 16, 21        bucket[hash(level, address >> level)] -> link -> link
 *
 * Invariants.  R1  The memory of a range is never anything else; it is used again for other ranges.
 *              R2  A link that was taken out still leads to where it led, until its range is used again.
 * Threads.     Any may ask, at any time; changes are made by one thread at a time (the caller's lock).
 * Signals.     Asking is async-signal-safe, also in a handler that has interrupted a change: a chain is whole after
 * each single store. Orders.      O40 All that is asked for is stored with release and loaded with acquire, and changes
 * is increased before: who has read anything of a later change finds changes increased, and asks again.
 */
#include "map/map.h"

#define BUCKET_SHIFT 12
#define LEVEL_LEAST 12u
#define LEVELS 64u
#define STATIC_RANGES 256
#define TRIES 1000

struct range_link {
    _Atomic(struct range_link *) next;  /* O40 */
    _Atomic(struct range_link *) *back; /* what leads here; the changing thread's */
    struct map_range *range;
};

struct map_range {
    _Atomic uintptr_t begin; /* O40, all three */
    _Atomic size_t bytes;
    _Atomic(void *) owner;
    unsigned level;
    unsigned n_links;
    struct range_link links[2];
    struct map_range *free; /* the next one of those that can be used again */
};

static struct {
    _Atomic(struct range_link *) buckets[1u << BUCKET_SHIFT]; /* O40 */
    _Atomic uint64_t levels;                                  /* O40: a bit a level in use */
    _Atomic uint64_t changes;                                 /* O40 */
    struct map_range *free;
    size_t n_static; /* of spare, in use */
    size_t n_of_level[LEVELS];
    struct map_range spare[STATIC_RANGES];
} ranges;

void *map_range_statics(size_t *bytes)
{
    *bytes = sizeof ranges;
    return &ranges;
}

static _Atomic(struct range_link *) *bucket_of(uintptr_t address, unsigned level)
{
    uint64_t hash = ((uint64_t)(address >> level) * LEVELS + level) * 0x9e3779b97f4a7c15u;
    return &ranges.buckets[hash >> (64 - BUCKET_SHIFT)];
}

static void link_add(struct map_range *range, unsigned i, uintptr_t address)
{
    _Atomic(struct range_link *) *bucket = bucket_of(address, range->level);
    struct range_link *link = &range->links[i];
    struct range_link *head = load_relaxed(bucket); /* this thread's own, or its predecessor's */
    link->range = range;
    link->back = bucket;
    store_release(&link->next, head); /* O40 */
    if (head != NULL) {
        head->back = &link->next;
    }
    store_release(bucket, link); /* O40 */
}

static void link_remove(struct range_link *link)
{
    struct range_link *next = load_relaxed(&link->next);
    if (next != NULL) {
        next->back = link->back;
    }
    store_release(link->back, next); /* O40 */
}

static struct map_range *range_new(void)
{
    struct map_range *range = ranges.free;
    if (range != NULL) {
        ranges.free = range->free;
        return range;
    }
    if (ranges.n_static < STATIC_RANGES) {
        return &ranges.spare[ranges.n_static++];
    }
    return map_books(sizeof *range);
}

static void change_begins(void)
{
    store_release(&ranges.changes, load_relaxed(&ranges.changes) + 1); /* O40 */
}

struct map_range *map_range_add(const void *begin, size_t bytes, void *owner)
{
    struct map_range *range = range_new();
    if (range == NULL) {
        return NULL;
    }
    change_begins();
    uintptr_t first = (uintptr_t)begin;
    uintptr_t last = first + bytes - 1;
    range->level = bytes <= (size_t)1 << LEVEL_LEAST ? LEVEL_LEAST : bit_highest(bytes - 1) + 1;
    range->n_links = first >> range->level == last >> range->level ? 1 : 2;
    store_release(&range->begin, first); /* O40 */
    store_release(&range->bytes, bytes); /* O40 */
    store_release(&range->owner, owner); /* O40 */
    link_add(range, 0, first);
    if (range->n_links == 2) {
        link_add(range, 1, last);
    }
    if (ranges.n_of_level[range->level]++ == 0) {
        uint64_t levels = load_relaxed(&ranges.levels) | (uint64_t)1 << range->level;
        store_release(&ranges.levels, levels); /* O40 */
    }
    return range;
}

void map_range_remove(struct map_range *range)
{
    change_begins();
    for (unsigned i = 0; i < range->n_links; i++) {
        link_remove(&range->links[i]);
    }
    if (--ranges.n_of_level[range->level] == 0) {
        uint64_t levels = load_relaxed(&ranges.levels) & ~((uint64_t)1 << range->level);
        store_release(&ranges.levels, levels); /* O40 */
    }
    store_release(&range->bytes, 0); /* O40: who still comes by finds nothing in it */
    range->free = ranges.free;
    ranges.free = range;
}

/* A range may lie in another one: the smallest counts. */
static bool find_in(_Atomic(struct range_link *) *bucket, uintptr_t address, struct map_range_found *found)
{
    bool any = false;
    struct range_link *link = load_acquire(bucket);          /* O40 */
    for (; link != NULL; link = load_acquire(&link->next)) { /* O40 */
        uintptr_t begin = load_acquire(&link->range->begin); /* O40 */
        size_t bytes = load_acquire(&link->range->bytes);    /* O40 */
        if (address - begin < bytes && (!any || bytes < found->bytes)) {
            void *owner = load_acquire(&link->range->owner); /* O40 */
            *found = (struct map_range_found){.begin = (char *)begin, .bytes = bytes, .owner = owner};
            any = true;
        }
    }
    return any;
}

static bool find_once(uintptr_t address, struct map_range_found *found)
{
    uint64_t levels = load_acquire(&ranges.levels); /* O40 */
    for (; levels != 0; levels &= levels - 1) {
        if (find_in(bucket_of(address, bit_lowest(levels)), address, found)) {
            return true;
        }
    }
    return false;
}

bool map_range_find(const void *p, struct map_range_found *found)
{
    for (unsigned i = 0; i < TRIES; i++) {
        uint64_t before = load_acquire(&ranges.changes); /* O40 */
        bool result = find_once((uintptr_t)p, found);
        if (load_relaxed(&ranges.changes) == before) {
            return result;
        }
    }
    return false;
}
