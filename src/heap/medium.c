/* SPDX-License-Identifier: MIT */
/* medium.c - blocks above 8 KiB, to 512 KiB: slabs of up to 64 of them, a bit a block, nothing inside the blocks.
 *
 *     free      bits of the owner: 1 is free
 *     remote    bits that others set when they free; the owner takes them all at once
 *     touched   handed out since the slab's pages were zero
 *
 * A free block's pages are dirty until they go to the OS: by age, or when all dirty free blocks of the heap pass a cap,
 * which learns as the store's does.
 */
#include "config/config.h"
#include "heap/heap_internal.h"
#include "os/os.h"

#define LEARN_MS 250
#define CALLS_A_LOOK 32

static uint64_t all_bits(const struct medium *m)
{
    return load_relaxed(&m->capacity) == 64 ? UINT64_MAX : ((uint64_t)1 << load_relaxed(&m->capacity)) - 1;
}

static struct medium **list_of(struct heap *h, const struct medium *m)
{
    return &h->medium[load_relaxed(&m->class) - SMALL_CLASSES];
}

static void list_add(struct heap *h, struct medium *m)
{
    struct medium **head = list_of(h, m);
    m->span.prev = NULL;
    m->span.next = (struct span *)*head;
    if (*head != NULL) {
        (*head)->span.prev = &m->span;
    }
    *head = m;
    m->in_partial = 1;
}

static void list_remove(struct heap *h, struct medium *m)
{
    if (m->span.next != NULL) {
        m->span.next->prev = m->span.prev;
    }
    if (m->span.prev != NULL) {
        m->span.prev->next = m->span.next;
    } else {
        *list_of(h, m) = (struct medium *)m->span.next;
    }
    m->in_partial = 0;
}

/* ---- back to the OS ----------------------------------------------------------------------------------------- */

static size_t dirty_bytes(const struct medium *m)
{
    return (size_t)bit_count(load_relaxed(&m->free) & m->touched) * load_relaxed(&m->block_bytes);
}

static void slab_drop(struct heap *h, struct medium *m)
{
    h->medium_dirty_bytes -= dirty_bytes(m);
    list_remove(h, m);
    map_set(m->span.begin, m->span.n_granules, map_make_tag(0, MAP_CODE_FREE));
    ((struct large *)m)->ghost_bytes = 0; /* after the tag: it lies where free does, and the blocks would look live */
    span_give(&m->span, /* touched */ true);
}

/* The pages that lie wholly in blocks first .. end - 1. False when the OS refused: they are locked. */
static bool purge_run(struct medium *m, unsigned first, unsigned end)
{
    size_t page = os_page_bytes();
    size_t from = round_up((size_t)first * load_relaxed(&m->block_bytes), page);
    size_t to = round_down((size_t)end * load_relaxed(&m->block_bytes), page);
    return to <= from || os_purge(m->span.begin + from, to - from, /* lazy */ false) == 0;
}

static size_t slab_purge(struct heap *h, struct medium *m)
{
    uint64_t dirty = load_relaxed(&m->free) & m->touched;
    size_t bytes = dirty_bytes(m);
    for (uint64_t rest = dirty; rest != 0;) {
        unsigned first = bit_lowest(rest);
        uint64_t behind = ~(rest >> first);
        unsigned run = behind == 0 ? 64 - first : bit_lowest(behind);
        if (!purge_run(m, first, first + run)) {
            m->span.zero = 0; /* they keep what was in them */
        }
        rest &= run + first == 64 ? 0 : ~(uint64_t)0 << (first + run);
    }
    if (load_relaxed(&m->block_bytes) % os_page_bytes() != 0) {
        m->span.zero = 0; /* the pages that blocks share stay as they are */
    }
    m->touched &= ~dirty;
    h->medium_dirty_bytes -= bytes;
    return bytes;
}

size_t medium_purge(struct heap *h, uint32_t stamp_ms)
{
    size_t bytes = 0;
    for (unsigned i = 0; i < MEDIUM_CLASSES; i++) {
        struct medium *next;
        for (struct medium *m = h->medium[i]; m != NULL; m = next) {
            next = (struct medium *)m->span.next;
            if ((int32_t)(stamp_ms - m->stamp_ms) < 0) {
                continue;
            }
            if (load_relaxed(&m->free) == all_bits(m)) {
                bytes += dirty_bytes(m);
                slab_drop(h, m);
            } else if (dirty_bytes(m) != 0) {
                bytes += slab_purge(h, m);
            }
        }
    }
    return bytes;
}

/* Who frees doesn't ask the clock, and its last look may be long past. The new stamp is before this look, so that the
 * next one doesn't take it for a free in between. */
void medium_date(struct heap *h, uint32_t last_ms)
{
    for (unsigned i = 0; i < MEDIUM_CLASSES; i++) {
        for (struct medium *m = h->medium[i]; m != NULL; m = (struct medium *)m->span.next) {
            if (m->stamp_ms == last_ms) {
                m->stamp_ms = h->tick_ms - 1;
            }
        }
    }
}

/* Largest classes first, until half of the cap is left. */
static void enforce_cap(struct heap *h)
{
    uint32_t now = (uint32_t)os_now_ms();
    for (unsigned i = MEDIUM_CLASSES; i-- > 0;) {
        struct medium *next;
        for (struct medium *m = h->medium[i]; m != NULL; m = next) {
            next = (struct medium *)m->span.next;
            if (h->medium_dirty_bytes <= h->medium_cap / 2) {
                return;
            }
            m->purged_ms = now | 1;
            if (dirty_bytes(m) != 0) {
                slab_purge(h, m);
            }
        }
    }
}

static void learn(struct heap *h, struct medium *m)
{
    uint32_t now = (uint32_t)os_now_ms();
    if (now - m->purged_ms < LEARN_MS) {
        h->medium_cap = size_min(h->medium_cap * 2, size_max((size_t)option(OPT_large_cache), MEDIUM_CAP_FIRST));
        h->medium_learned_ms = now;
    }
    m->purged_ms = 0;
}

void medium_unlearn(struct heap *h)
{
    if (h->medium_cap > MEDIUM_CAP_FIRST && h->tick_ms - h->medium_learned_ms > LEARN_MS) {
        h->medium_cap = size_max(h->medium_cap / 2, MEDIUM_CAP_FIRST);
        if (h->medium_dirty_bytes > h->medium_cap) {
            enforce_cap(h);
        }
    }
}

void medium_flush(struct heap *h)
{
    for (unsigned i = 0; i < MEDIUM_CLASSES; i++) {
        struct medium *next;
        for (struct medium *m = h->medium[i]; m != NULL; m = next) {
            next = (struct medium *)m->span.next;
            if (load_relaxed(&m->free) == all_bits(m)) {
                slab_drop(h, m);
            }
        }
    }
}

/* ---- taking ------------------------------------------------------------------------------------------------- */

static struct medium *slab_new(struct heap *h, unsigned c)
{
    size_t n = class_medium_granules(c);
    struct medium *m = (struct medium *)span_take(n, 1);
    if (m == NULL) {
        return NULL;
    }
    store_relaxed(&m->owner, h);
    store_relaxed(&m->class, (uint8_t)c);
    store_relaxed(&m->block_bytes, (uint32_t)heap_class_size(c));
    store_relaxed(&m->reciprocal, (uint32_t)(((uint64_t)1 << 32) / (load_relaxed(&m->block_bytes) >> 10) + 1));
    store_relaxed(&m->capacity, (uint16_t)size_min(span_bytes(&m->span) / load_relaxed(&m->block_bytes), 64));
    m->stamp_ms = 0;
    m->purged_ms = 0;
    m->remote_purged = 0;
    m->remote_next = NULL;
    store_relaxed(&m->remote, 0);
    store_relaxed(&m->free, all_bits(m));
    m->touched = m->span.zero ? 0 : all_bits(m);
    h->medium_dirty_bytes += dirty_bytes(m);
    for (size_t i = 1; i < n; i++) {
        struct span *inner = map_descriptor(m->span.begin + (i << GRANULE_SHIFT));
        inner->back = (uint32_t)i;
        ((struct large *)(void *)inner)->ghost_bytes = 0;
    }
    list_add(h, m);
    /* The first granule last: medium_rebuild goes by it. */
    map_set(m->span.begin + GRANULE_BYTES, n - 1, map_make_tag(h->number, c));
    map_set(m->span.begin, 1, map_make_tag(h->number, c));
    return m;
}

void *medium_malloc(struct heap *h, unsigned c, bool *zero)
{
    if (++h->medium_calls % CALLS_A_LOOK == 0) {
        heap_tick(h, os_now_ms());
    }
    struct medium *m = h->medium[c - SMALL_CLASSES];
    if (m == NULL && load_relaxed(&h->medium_inbox) != NULL) {
        medium_collect(h);
        m = h->medium[c - SMALL_CLASSES];
    }
    if (m == NULL) {
        m = slab_new(h, c);
        if (m == NULL) {
            return NULL;
        }
    }
    uint64_t free = load_relaxed(&m->free);
    unsigned index = bit_lowest((free & m->touched) != 0 ? free & m->touched : free);
    uint64_t bit = (uint64_t)1 << index;
    *zero = (m->touched & bit) == 0 && m->span.zero;
    if ((m->touched & bit) != 0) {
        h->medium_dirty_bytes -= load_relaxed(&m->block_bytes);
    } else if (m->purged_ms != 0) {
        learn(h, m);
    }
    m->touched |= bit;
    store_relaxed(&m->free, free & ~bit);
    if (free == bit) {
        list_remove(h, m);
    }
    return m->span.begin + (size_t)index * load_relaxed(&m->block_bytes);
}

/* ---- giving ------------------------------------------------------------------------------------------------- */

/* n_dirty blocks more of it are free and dirty. */
static void put_back(struct heap *h, struct medium *m, unsigned n_dirty)
{
    m->stamp_ms = h->tick_ms;
    h->medium_dirty_bytes += (size_t)n_dirty * load_relaxed(&m->block_bytes);
    if (!m->in_partial) {
        list_add(h, m);
    }
}

static void put_bits(struct heap *h, struct medium *m, uint64_t bits)
{
    uint64_t free = load_relaxed(&m->free);
    bits &= ~free;
    store_relaxed(&m->free, free | bits);
    if (bits != 0) {
        put_back(h, m, bit_count(bits & m->touched));
    }
}

/* One empty slab of a class is kept for the next call; its age or the cap sends it back. */
static void drop_if_spare(struct heap *h, struct medium *m)
{
    if (load_relaxed(&m->free) == all_bits(m) && (m->span.next != NULL || m->span.prev != NULL)) {
        slab_drop(h, m);
    }
}

/* The first of these blocks, or NULL. */
static char *first_block(const struct medium *m, uint64_t bits)
{
    return bits == 0 ? NULL : m->span.begin + (size_t)bit_lowest(bits) * load_relaxed(&m->block_bytes);
}

void medium_report_twice(const char *block)
{
    if (UNLIKELY(block != NULL)) {
        fault_of_pointer("double free", "double free", block);
    }
}

void medium_free(struct heap *h, struct medium *m, unsigned index)
{
    uint64_t bit = (uint64_t)1 << index;
    uint64_t free = load_relaxed(&m->free);
    if (UNLIKELY((free & bit) != 0)) {
        medium_report_twice(first_block(m, bit));
        return;
    }
    store_relaxed(&m->free, free | bit);
    put_back(h, m, (m->touched & bit) != 0);
    drop_if_spare(h, m);
    if (h->medium_dirty_bytes > h->medium_cap) {
        enforce_cap(h);
    }
}

/* ---- what others freed -------------------------------------------------------------------------------------- */

/* A call may be left for good at any instruction, so what it has taken and how far it got stands in the heap, for
 * chain_rebuild to go on from:
 *
 *     medium_chain         the slab at hand; behind it, by remote_next, those still to come
 *     medium_chain_next    CHAIN_NOT_TAKEN    the chain may still be in the inbox
 *                          medium_chain       the slab at hand has not been begun with
 *                          otherwise          it has, and medium_chain_free is what its free was before
 *
 * A block's bit is in free before it leaves remote: at no instant does a free block look live. */
static void chain_take(struct heap *h)
{
    struct medium *head = load_relaxed(&h->medium_inbox);
    h->medium_chain_next = CHAIN_NOT_TAKEN;
    do {
        signal_fence();
        h->medium_chain = head;
        signal_fence();
    } while (head != NULL && !cas_weak_acquire(&h->medium_inbox, &head, NULL)); /* O13 */
    h->medium_chain_next = head;
}

static void take_purged(struct medium *m)
{
    if (m->remote_purged) {
        m->touched = 0;
        if (load_relaxed(&m->block_bytes) % os_page_bytes() == 0) {
            m->span.zero = 1;
        }
        signal_fence(); /* in this order: it may be done twice, but not left out */
        m->remote_purged = 0;
    }
}

/* Of the slab at hand. What was free before and comes once more was freed twice. */
static char *take_remote(struct heap *h, struct medium *m)
{
    uint64_t bits = load_acquire(&m->remote); /* O13 */
    do {
        put_bits(h, m, bits);
        signal_fence();
    } while (!cas_acq_rel(&m->remote, &bits, 0)); /* O13: remote_next was read before it may be written again */
    return first_block(m, bits & h->medium_chain_free);
}

static char *chain_collect(struct heap *h)
{
    char *freed_twice = NULL;
    struct medium *m;
    while ((m = h->medium_chain) != NULL) {
        if (h->medium_chain_next == m) {
            h->medium_chain_free = load_relaxed(&m->free);
            signal_fence();
            h->medium_chain_next = m->remote_next;
            signal_fence();
        }
        take_purged(m);
        char *twice = take_remote(h, m);
        freed_twice = freed_twice != NULL ? freed_twice : twice;
        signal_fence();
        h->medium_chain = h->medium_chain_next;
        signal_fence();
        drop_if_spare(h, m);
    }
    return freed_twice;
}

void medium_collect(struct heap *h)
{
    if (load_relaxed(&h->medium_inbox) == NULL || !sort_lock_try(h)) {
        return;
    }
    chain_take(h);
    char *freed_twice = chain_collect(h);
    sort_unlock(h);
    medium_report_twice(freed_twice);
    if (h->medium_dirty_bytes > h->medium_cap) {
        enforce_cap(h);
    }
}

/* ---- after an interrupted slow path ------------------------------------------------------------------------- */

static int rebuild_granules(void *begin, size_t n, void *context)
{
    struct heap *h = context;
    for (size_t i = 0; i < n; i++) {
        char *granule = (char *)begin + (i << GRANULE_SHIFT);
        uint32_t tag = map_tag(granule);
        uint32_t c = map_tag_code(tag);
        if (map_tag_heap(tag) != h->number || c < SMALL_CLASSES || c >= CLASS_COUNT) {
            continue;
        }
        struct medium *m = map_descriptor(granule);
        if (m->span.back != 0) {
            continue; /* not the slab's first granule */
        }
        m->in_partial = 0;
        if (load_relaxed(&m->free) != 0) {
            list_add(h, m);
            h->medium_dirty_bytes += dirty_bytes(m);
        }
    }
    return 0;
}

static bool inbox_has(struct heap *h, const struct medium *wanted)
{
    for (struct medium *m = load_acquire(&h->medium_inbox); m != NULL; m = m->remote_next) { /* O13 */
        if (m == wanted) {
            return true;
        }
    }
    return false;
}

/* Were the bits of the slab at hand taken out of remote? If so, what is there now belongs to who will send the slab. */
static bool remote_was_taken(const struct heap *h, const struct medium *m)
{
    uint64_t put = load_relaxed(&m->free) & ~h->medium_chain_free;
    return put != 0 && (load_relaxed(&m->remote) & put) != put;
}

/* With the lock held nobody takes from the inbox. A slab that waits there is sent by nobody. */
static char *chain_rebuild(struct heap *h)
{
    struct medium *m = h->medium_chain;
    if (m == NULL) {
        return NULL;
    }
    if (h->medium_chain_next == CHAIN_NOT_TAKEN) {
        h->medium_chain = inbox_has(h, m) ? NULL : m;
        h->medium_chain_next = h->medium_chain;
    } else if (h->medium_chain_next != m && remote_was_taken(h, m)) {
        h->medium_chain = h->medium_chain_next;
    }
    return chain_collect(h);
}

char *medium_rebuild(struct heap *h)
{
    for (unsigned i = 0; i < MEDIUM_CLASSES; i++) {
        h->medium[i] = NULL;
    }
    h->medium_dirty_bytes = 0;
    span_each_area(rebuild_granules, h);
    return chain_rebuild(h);
}
