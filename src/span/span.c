/* SPDX-License-Identifier: MIT */
/* span.c - the store of free spans: see span.h. */
#include "span/span.h"

#include "config/config.h"
#include "os/os.h"
#include "span/area_internal.h"
#include "span/index_internal.h"
#include "span/span_internal.h"

#include <allot/root.h>

/* A lock holder is done in a fraction of a microsecond, unless it was preempted or interrupted: then go around it. */
#define LOCK_TRIES 100
/* Free pages may amount to this share of what is used. */
#define CAP_SHARE 8
/* And to this one, or to large_cache if that is more, when they are wanted again and again. */
#define LEARNED_SHARE 2
/* Memory wanted again so soon after the cap sent it back should have been kept. */
#define REGRET_MS 250
#define DECAY_MS 250
/* How many spans, of how many granules at most, go to the OS between two looks at the lock. */
#define PURGE_BATCH 16
#define PURGE_GRANULES 512

static struct {
    CACHE_ALIGNED _Atomic uintptr_t lock; /* the holder: address of its thread's mark; 0 when free */
    _Atomic(struct span *) pending;       /* given while the lock was busy */
    CACHE_ALIGNED struct index index;     /* under lock */
    size_t learned_cap;                   /* under lock */
    uint32_t decay_due_ms;                /* under lock */
    CACHE_ALIGNED _Atomic size_t used_granules;
    _Atomic size_t dirty_granules; /* index.granules[SPAN_DIRTY], for readers without the lock */
    _Atomic uint32_t tick_due_ms;
    _Atomic size_t purged_bytes;
    _Atomic size_t n_purges;
    _Atomic size_t n_refusals;
} store;

static __thread char thread_mark;

/* ---- the lock that nobody waits for ------------------------------------------------------------------------- */

static void drain_pending(void);

static bool store_lock(void)
{
    for (int tries = 0; tries < LOCK_TRIES; tries++) {
        uintptr_t holder = load_relaxed(&store.lock);
        if (holder == (uintptr_t)&thread_mark) {
            return false; /* a handler that interrupted the holder */
        }
        /* O8 acquire: pairs with the release in store_unlock; the index is as its last holder left it. */
        if (holder == 0 && cas_acquire(&store.lock, &holder, (uintptr_t)&thread_mark)) {
            if (load_relaxed(&store.pending) != NULL) {
                drain_pending();
            }
            return true;
        }
        os_relax();
    }
    return false;
}

static void store_unlock(void)
{
    store_relaxed(&store.dirty_granules, store.index.granules[SPAN_DIRTY]);
    store_release(&store.lock, 0); /* O8 */
}

static void push_pending(struct span *span)
{
    struct span *head = load_relaxed(&store.pending);
    do {
        span->next = head;
        /* O7 release: the drainer sees the span's fields. It takes all at once, so there is no ABA. */
    } while (!cas_weak_release(&store.pending, &head, span));
}

static void drain_pending(void)
{
    struct span *span = xchg_acquire(&store.pending, NULL); /* O7 */
    while (span != NULL) {
        struct span *next = span->next;
        index_add(&store.index, span, span->touched ? SPAN_DIRTY : SPAN_CLEAN);
        span = next;
    }
}

/* ---- limits and the cap ------------------------------------------------------------------------------------- */

static size_t used_bytes(void)
{
    return load_relaxed(&store.used_granules) << GRANULE_SHIFT;
}

bool span_within_limit(size_t bytes)
{
    size_t limit = (size_t)option(OPT_hard_limit);
    if (LIKELY(limit == 0)) {
        return true;
    }
    size_t used = used_bytes() + own_bytes();
    return used <= limit && bytes <= limit - used;
}

static size_t most_learned(size_t used)
{
    size_t cache = (size_t)option(OPT_large_cache);
    return cache == 0 ? 0 : size_max(cache, used / LEARNED_SHARE);
}

static size_t cap_bytes(void)
{
    size_t soft = (size_t)option(OPT_soft_limit);
    size_t used = used_bytes() + own_bytes();
    if (soft != 0 && used >= soft) {
        return 0;
    }
    size_t learned = size_min(store.learned_cap, most_learned(used));
    size_t cap = size_max(size_max((size_t)option(OPT_purge_cap), used / CAP_SHARE), learned);
    return soft != 0 ? size_min(cap, soft - used) : cap;
}

static void learn(const struct span *span, uint32_t now_ms)
{
    if (span->purged && now_ms - span->stamp_ms < REGRET_MS) {
        size_t wanted = cap_bytes() + span_bytes(span) * 2;
        store.learned_cap = size_min(size_max(store.learned_cap, wanted), most_learned(used_bytes() + own_bytes()));
        store.decay_due_ms = now_ms + DECAY_MS;
    }
}

/* ---- back to the OS ----------------------------------------------------------------------------------------- */

struct purge_batch {
    struct span *spans[PURGE_BATCH];
    unsigned n;
};

/* Without the lock: the spans are in nobody's lists. */
static size_t purge_pages(struct purge_batch *batch, uint32_t now_ms, bool by_cap)
{
    bool lazy = option(OPT_purge) == PURGE_FREE;
    size_t bytes = 0;
    for (unsigned i = 0; i < batch->n; i++) {
        struct span *span = batch->spans[i];
        bool done = os_purge(span->begin, span_bytes(span), lazy) == 0;
        if (done) {
            bytes += span_bytes(span);
        } else {
            add_relaxed(&store.n_refusals, 1);
        }
        span->zero = done && !lazy;
        span->purged = by_cap;
        span->stamp_ms = now_ms;
        span->touched = 0;
        push_pending(span);
    }
    add_relaxed(&store.purged_bytes, bytes);
    add_relaxed(&store.n_purges, batch->n);
    return bytes;
}

/* Purges batches that choose fills, until it finds none. Called and left with the lock held; left without it when the
 * lock could not be had again: returns false then. */
static bool purge_while(void (*choose)(struct purge_batch *batch, size_t limit), size_t limit, bool by_cap,
                        size_t *went)
{
    for (;;) {
        struct purge_batch batch = {.n = 0};
        choose(&batch, limit);
        if (batch.n == 0) {
            return true;
        }
        store_unlock();
        *went += purge_pages(&batch, (uint32_t)os_now_ms(), by_cap);
        if (!store_lock()) {
            return false;
        }
    }
}

static void choose_largest(struct purge_batch *batch, size_t keep_bytes)
{
    while (batch->n < PURGE_BATCH && store.index.granules[SPAN_DIRTY] << GRANULE_SHIFT > keep_bytes) {
        size_t over = store.index.granules[SPAN_DIRTY] - (keep_bytes >> GRANULE_SHIFT);
        struct span *span = index_take_largest(&store.index, size_min(over, PURGE_GRANULES));
        if (span == NULL) {
            return;
        }
        batch->spans[batch->n++] = span;
    }
}

static void choose_older(struct purge_batch *batch, size_t stamp_ms)
{
    struct span *span;
    while (batch->n < PURGE_BATCH && (span = index_take_older(&store.index, (uint32_t)stamp_ms)) != NULL) {
        batch->spans[batch->n++] = span;
    }
}

/* The lock is held; afterwards it isn't. */
static void enforce_cap_and_unlock(void)
{
    size_t cap = cap_bytes();
    size_t went = 0;
    if (store.index.granules[SPAN_DIRTY] << GRANULE_SHIFT <= cap ||
        purge_while(choose_largest, cap - cap / 4, /* by_cap */ true, &went)) {
        store_unlock();
    }
}

void span_tick(uint64_t now_ms)
{
    uint32_t now = (uint32_t)now_ms;
    uint32_t due = load_relaxed(&store.tick_due_ms);
    uint32_t age = (uint32_t)option(OPT_purge_age);
    /* Before the first tick nothing is due at a time: the clock may count from anywhere. */
    if ((due != 0 && (int32_t)(now - due) < 0) || !cas_relaxed(&store.tick_due_ms, &due, now + age / 4 + 1)) {
        return;
    }
    if (!store_lock()) {
        return;
    }
    if (store.decay_due_ms == 0 || (int32_t)(now - store.decay_due_ms) >= 0) {
        store.learned_cap -= store.learned_cap / 4;
        store.decay_due_ms = now + DECAY_MS;
    }
    size_t went = 0;
    if (purge_while(choose_older, now - age, /* by_cap */ false, &went)) {
        enforce_cap_and_unlock();
    }
}

size_t span_trim(size_t keep_bytes)
{
    size_t went = 0;
    if (store_lock()) {
        store.learned_cap = 0;
        if (purge_while(choose_largest, keep_bytes, /* by_cap */ false, &went)) {
            store_unlock();
        }
    }
    return went;
}

/* ---- taking ------------------------------------------------------------------------------------------------- */

static struct span *describe(char *begin, size_t n)
{
    struct span *span = map_descriptor(begin);
    span->begin = begin;
    span->n_granules = (uint32_t)n;
    span->back = 0;
    span->stamp_ms = 0;
    span->zero = 1;
    span->purged = 0;
    span->own = 0;
    span->touched = 0;
    store_relaxed(&span->state, SPAN_USED);
    return span;
}

/* From an area's untouched part. What align skips goes to the store by way of the pending stack. */
static struct span *cut(struct area *area, size_t n, size_t align_granules)
{
    char *skipped;
    char *begin = area_cut(area, n << GRANULE_SHIFT, align_granules << GRANULE_SHIFT, &skipped);
    if (begin == NULL) {
        return NULL;
    }
    if (skipped != begin) {
        push_pending(describe(skipped, ptr_diff(begin, skipped) >> GRANULE_SHIFT));
    }
    return describe(begin, n);
}

static struct span *cut_any(size_t n, size_t align_granules)
{
    for (struct area *area = area_list(); area != NULL; area = area->next) {
        struct span *span = cut(area, n, align_granules);
        if (span != NULL) {
            return span;
        }
    }
    return NULL;
}

/* A new area, of which we cut first. Published, the rest of it serves all. */
static struct span *cut_new(size_t n, size_t align_granules)
{
    struct area *area = area_new(n << GRANULE_SHIFT, align_granules << GRANULE_SHIFT);
    if (area == NULL) {
        return NULL;
    }
    struct span *span = cut(area, n, align_granules);
    area_publish(area);
    return span;
}

bool span_prepare(void)
{
    if (area_list() != NULL) {
        return true;
    }
    struct area *area = area_new(GRANULE_BYTES, GRANULE_BYTES);
    if (area == NULL) {
        return false;
    }
    area_publish(area);
    return true;
}

static struct span *take_free(size_t n, size_t align_granules)
{
    if (!store_lock()) {
        return NULL;
    }
    struct span *span = index_take(&store.index, SPAN_DIRTY, n, align_granules);
    if (span == NULL && align_granules == 1) {
        span = index_take_extended(&store.index, n);
    }
    if (span != NULL) {
        span->zero = 0;
    } else {
        span = index_take(&store.index, SPAN_CLEAN, n, align_granules);
    }
    if (span != NULL && span->purged) {
        learn(span, (uint32_t)os_now_ms());
    }
    store_unlock();
    return span;
}

struct span *span_take(size_t n, size_t align_granules)
{
    if (!span_within_limit(n << GRANULE_SHIFT)) {
        return NULL;
    }
    struct span *span = take_free(n, align_granules);
    if (span == NULL) {
        span = cut_any(n, align_granules);
    }
    if (span == NULL) {
        span = cut_new(n, align_granules);
    }
    if (span != NULL) {
        add_relaxed(&store.used_granules, n);
    }
    return span;
}

static bool grow_into_free(struct span *span, size_t more, bool *zero_tail)
{
    if (!store_lock()) {
        return false;
    }
    bool grown = index_take_at(&store.index, span->begin + span_bytes(span), more, zero_tail);
    store_unlock();
    return grown;
}

static bool grow_into_area(struct span *span, size_t more, bool *zero_tail)
{
    *zero_tail = true;
    for (struct area *area = area_list(); area != NULL; area = area->next) {
        if (area_extend(area, span->begin + span_bytes(span), more << GRANULE_SHIFT)) {
            return true;
        }
    }
    return false;
}

bool span_grow(struct span *span, size_t n, bool *zero_tail)
{
    size_t more = n - span->n_granules;
    if (span->own || !span_within_limit(more << GRANULE_SHIFT) ||
        (!grow_into_free(span, more, zero_tail) && !grow_into_area(span, more, zero_tail))) {
        return false;
    }
    span->n_granules = (uint32_t)n;
    add_relaxed(&store.used_granules, more);
    return true;
}

/* ---- giving ------------------------------------------------------------------------------------------------- */

void span_give(struct span *span, bool touched)
{
    sub_relaxed(&store.used_granules, span->n_granules);
    span->touched = touched;
    span->purged = 0;
    span->zero = touched ? 0 : span->zero;
    span->stamp_ms = (uint32_t)os_now_ms();
    if (!store_lock()) {
        push_pending(span);
        return;
    }
    index_add(&store.index, span, touched ? SPAN_DIRTY : SPAN_CLEAN);
    enforce_cap_and_unlock();
}

void span_shrink(struct span *span, size_t n)
{
    size_t less = span->n_granules - n;
    if (span->own) {
        own_shrink(span, n);
        return;
    }
    struct span *tail = describe(span->begin + (n << GRANULE_SHIFT), less);
    span->n_granules = (uint32_t)n;
    span_give(tail, /* touched */ true);
}

/* ---- fork and figures --------------------------------------------------------------------------------------- */

/* The lock's holder is gone, and the index may be half changed. Its free spans are lost: no neighbour that becomes free
 * may take one of them for a span of the new index. */
static void begin_anew(void)
{
    store.index = (struct index){.oldest = NULL};
    span_each_area(index_forget, NULL);
    store_unlock();
}

void span_fork_child(void)
{
    uintptr_t holder = load_relaxed(&store.lock);
    if (holder != 0 && holder != (uintptr_t)&thread_mark) {
        begin_anew();
    }
}

void span_thread_exit(void)
{
    if (load_relaxed(&store.lock) == (uintptr_t)&thread_mark) {
        begin_anew();
    }
}

void span_figures(struct span_figures *figures)
{
    *figures = (struct span_figures){
        .used_bytes = used_bytes(),
        .dirty_bytes = load_relaxed(&store.dirty_granules) << GRANULE_SHIFT,
        .n_own = own_count(),
        .own_bytes = own_bytes(),
        .purged_bytes = load_relaxed(&store.purged_bytes),
        .n_purges = load_relaxed(&store.n_purges),
        .n_refusals = load_relaxed(&store.n_refusals),
        .limit_soft = (size_t)option(OPT_soft_limit),
        .limit_hard = (size_t)option(OPT_hard_limit),
    };
    for (struct area *area = area_list(); area != NULL; area = area->next) {
        figures->n_areas++;
        figures->area_bytes += ptr_diff(area->end, area->begin);
        figures->committed_bytes += ptr_diff(load_relaxed(&area->committed), area->begin);
    }
}

int span_each_area(int (*visit)(void *begin, size_t n_granules, void *context), void *context)
{
    for (struct area *area = area_list(); area != NULL; area = area->next) {
        int result = visit(area->begin, ptr_diff(load_relaxed(&area->cut), area->begin) >> GRANULE_SHIFT, context);
        if (result != 0) {
            return result;
        }
    }
    return 0;
}

/* ---- for who looks from outside ----------------------------------------------------------------------------- */

const struct allot_root_store span_root_store = {
    .bytes = sizeof span_root_store,
    .state_free = SPAN_FREE,
    .span_begin = ROOT_FIELD(struct span, begin),
    .span_granules = ROOT_FIELD(struct span, n_granules),
    .span_back = ROOT_FIELD(struct span, back),
    .span_stamp_ms = ROOT_FIELD(struct span, stamp_ms),
    .span_state = ROOT_FIELD(struct span, state),
    .span_zero = ROOT_FIELD(struct span, zero),
    .span_purged = ROOT_FIELD(struct span, purged),
    .span_own = ROOT_FIELD(struct span, own),
    .used_granules = &store.used_granules,
    .dirty_granules = &store.dirty_granules,
    .purged_bytes = &store.purged_bytes,
    .n_purges = &store.n_purges,
    .n_refusals = &store.n_refusals,
    .learned_cap = &store.learned_cap,
};
