/* SPDX-License-Identifier: MIT */
/* cache_internal.h - a thread's own free blocks of an arena: the fast ways of malloc and free. cache.c says how and
 * why.
 */
#ifndef ARENA_CACHE_INTERNAL_H
#define ARENA_CACHE_INTERNAL_H

#include "arena/arena_internal.h"

#define CACHE_WORDS_MOST 63
#define CACHE_SEGMENTS 12
#define CACHE_SLOTS 16
#define CACHE_HINTS 256
#define CACHE_HINT_SHIFT 12
#define NO_SERIAL UINT64_MAX

struct cached {
    char *block;
    _Atomic uint8_t *state;
};

struct cache_bin {
    _Atomic uint32_t n; /* relaxed: others add them up */
    uint32_t limit;
    struct cached *blocks; /* room for limit */
};

struct cache_segment {
    char *begin;
    size_t bytes;
    _Atomic uint8_t *state;
    size_t unused; /* an index is a shift */
};

/* A thread's free blocks of an arena. See cache.c for who may touch what. */
struct cache {
    _Atomic uint32_t busy;
    _Atomic uint32_t closed;                       /* its thread has to come through the lock */
    uint8_t hint[CACHE_HINTS];                     /* the segment that an address near this one was in last */
    struct cache_segment segments[CACHE_SEGMENTS]; /* the rest of them is empty */
    struct cache_bin bins[CACHE_WORDS_MOST + 1];
    bool is_lost;                              /* its thread didn't leave it when that was waited for */
    bool has_given_back[CACHE_WORDS_MOST + 1]; /* blocks of this size, since it was last refilled */
    struct cache *next;        /* the arena's, under its lock; of spare ones, under the lock of all arenas */
    struct allot_arena *arena; /* set once while it has this serial */
    uint64_t serial;           /* the arena's; 0: spare. Under the lock of all arenas */
};

struct cache_table {
    struct {
        uint64_t serial; /* NO_SERIAL: none */
        struct cache *cache;
    } slots[CACHE_SLOTS];
};

extern __thread const struct cache_table *arena_caches;

INLINE struct cache *cache_of(const allot_arena *arena)
{
    if ((arena->flags & ALLOT_ARENA_UNSYNCHRONIZED) != 0) {
        return arena->own_cache;
    }
    const struct cache_table *table = arena_caches;
    size_t slot = arena->serial % CACHE_SLOTS;
    return LIKELY(table->slots[slot].serial == arena->serial) ? table->slots[slot].cache : NULL;
}

INLINE void cache_end_use(struct cache *cache)
{
    store_release(&cache->busy, 0); /* O44 */
}

/* Relaxed, between signal fences: a handler on the same thread sees it; for other threads there is the OS's barrier. */
INLINE bool cache_begin(struct cache *cache)
{
    if (UNLIKELY(load_relaxed(&cache->busy) != 0)) {
        return false;
    }
    store_relaxed(&cache->busy, 1);
    signal_fence();
    if (UNLIKELY(load_relaxed(&cache->closed) != 0)) {
        cache_end_use(cache);
        return false;
    }
    return true;
}

/* The state of the word that p is the address of; NULL: not in the segment that the cache guesses. */
INLINE _Atomic uint8_t *cache_state_of(const struct cache *cache, const void *p)
{
    const struct cache_segment *segment =
        &cache->segments[cache->hint[((uintptr_t)p >> CACHE_HINT_SHIFT) % CACHE_HINTS]];
    size_t at = ptr_diff(p, segment->begin);
    return LIKELY(at < segment->bytes && at % WORD_BYTES == 0) ? segment->state + (at >> WORD_SHIFT) : NULL;
}

/* A block of 1 to CACHE_WORDS_MOST words. NULL: not by this way. */
INLINE void *cache_take(const allot_arena *arena, size_t words)
{
    struct cache *cache = cache_of(arena);
    if (UNLIKELY(cache == NULL) || UNLIKELY(!cache_begin(cache))) {
        return NULL;
    }
    void *block = NULL;
    struct cache_bin *bin = &cache->bins[words];
    uint32_t n = load_relaxed(&bin->n);
    if (LIKELY(n != 0)) {
        const struct cached *cached = &bin->blocks[n - 1];
        /* Two threads that freed it at the same time both had it: the first of them to hand it out is right. */
        if (LIKELY(load_relaxed(cached->state) == (STATE_CACHED | words))) {
            store_relaxed(cached->state, (uint8_t)(STATE_LIVE | words));
            block = cached->block;
            store_relaxed(&bin->n, n - 1);
        }
    }
    cache_end_use(cache);
    return block;
}

/* bytes SIZE_MAX: the whole block. false: not by this way. */
INLINE bool cache_give(const allot_arena *arena, void *p, size_t bytes)
{
    struct cache *cache = cache_of(arena);
    if (UNLIKELY(cache == NULL) || UNLIKELY(!cache_begin(cache))) {
        return false;
    }
    bool is_given = false;
    _Atomic uint8_t *state = cache_state_of(cache, p);
    unsigned is = state == NULL ? 0 : load_relaxed(state);
    size_t words = is - STATE_LIVE;
    /* A short live block begins there, and all of it is meant. */
    if (LIKELY(words - 1 < CACHE_WORDS_MOST) && (bytes == SIZE_MAX || (bytes - 1) / WORD_BYTES == words - 1)) {
        struct cache_bin *bin = &cache->bins[words];
        uint32_t n = load_relaxed(&bin->n);
        if (LIKELY(n < bin->limit)) {
            bin->blocks[n] = (struct cached){p, state};
            store_relaxed(&bin->n, n + 1);
            store_relaxed(state, (uint8_t)(STATE_CACHED | words));
            is_given = true;
        }
    }
    cache_end_use(cache);
    return is_given;
}

/* The same, when the guess was wrong. */
bool cache_give_after_search(allot_arena *arena, void *p, size_t bytes);

#endif
