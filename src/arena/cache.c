/* SPDX-License-Identifier: MIT */
/* cache.c - a thread's own free blocks of an arena: malloc and free without a lock.
 *
 *     thread           cache, one for a thread and an arena          the arena's books
 *     arena_caches --> serial -> cache --> blocks[words]: b, b, b    state of b: CACHED
 *
 * A block in a cache stays a block of its size: its state changes from LIVE to CACHED and back by plain stores of the
 * one thread whose block or cache it is. Everything else needs the arena's lock. A thread gets a cache when an arena
 * has had many calls; arenas that look for the first or the best fit, or are watched, have none.
 *
 * Whoever needs what lies in other threads' caches (no memory is left; the arena is trimmed) closes them, has the OS
 * put a barrier into all threads, and waits for those that are inside at that moment, for some twenty instructions.
 * From then on who comes finds its cache closed, and goes through the lock. So the fast path itself needs no atomic
 * read-modify-write and no fence. Where the OS has no such barrier, synchronized arenas have no caches.
 *
 * A bin learns how much it should hold: it doubles when it runs dry after it had to give blocks back.
 *
 * Invariants.  A5  A cache's blocks and counts are changed by its thread, while busy is set and closed isn't, or under
 * the arena's lock: by its thread, or after it was closed and busy was seen 0. A6  The memory of a cache is never
 * anything else than one. Signals.     A handler that interrupts its own thread in a cache finds busy set, and goes
 * through the lock. Orders.      O44 busy: the release of the owner pairs with the acquire of who empties its cache.
 */
#include "arena/cache_internal.h"
#include "heap/heap.h"
#include "os/os.h"

#include <errno.h>
#include <string.h>

#define CALLS_BEFORE 256
#define BIN_BLOCKS_FIRST 64u
#define BIN_BLOCKS_MOST 1024u
#define BIN_WORDS_MOST 16384u /* of one size: 256 KiB */
#define REFILL_MOST 32u
#define REFILL_SHARE 16 /* what is left must be so many times as much */
#define WAITS_MOST 100000
#define CALLS_BETWEEN 1024 /* a thread without a cache tries for one in every so many calls ... */
#define CALLS_TRIED 64     /* ... for so many */

/* Of threads that have none yet, and of those that end. */
static const struct cache_table no_caches = {{[0 ... CACHE_SLOTS - 1] = {.serial = NO_SERIAL}}};
static const struct cache_table closed_caches = {{[0 ... CACHE_SLOTS - 1] = {.serial = NO_SERIAL}}};

__thread const struct cache_table *arena_caches = &no_caches;

static struct {
    struct cache *spare; /* under the lock of all arenas */
} caches;

/* Guesses right the next time; false: the cache knows no such segment, or guesses right already. */
static bool guess_again(struct cache *cache, const void *p)
{
    uint8_t *hint = &cache->hint[((uintptr_t)p >> CACHE_HINT_SHIFT) % CACHE_HINTS];
    for (uint8_t i = 0; i < CACHE_SEGMENTS; i++) {
        if (ptr_diff(p, cache->segments[i].begin) < cache->segments[i].bytes) {
            bool was_wrong = *hint != i;
            *hint = i;
            return was_wrong;
        }
    }
    return false;
}

bool cache_give_after_search(allot_arena *arena, void *p, size_t bytes)
{
    struct cache *cache = cache_of(arena);
    if (cache == NULL || !cache_begin(cache)) {
        return false;
    }
    bool is_other = guess_again(cache, p);
    cache_end_use(cache);
    return is_other && cache_give(arena, p, bytes);
}

/* ---- under the arena's lock ------------------------------------------------------------------------------------ */

static void give_back(allot_arena *arena, struct cached cached, size_t words)
{
    if (load_relaxed(cached.state) != (STATE_CACHED | words)) {
        return; /* another cache had it too, and has given it back or handed it out */
    }
    struct segment *segment = arena_segment_of(arena, cached.block);
    struct block_at block = {.word = segment_word(segment, cached.block), .words = words, .state = BLOCK_LIVE};
    segment_give(segment, &block, block.word, words);
}

/* The oldest blocks of a bin. */
static void bin_give_back(allot_arena *arena, struct cache_bin *bin, size_t words, uint32_t n)
{
    uint32_t rest = load_relaxed(&bin->n) - n;
    for (uint32_t i = 0; i < n; i++) {
        give_back(arena, bin->blocks[i], words);
    }
    memmove(&bin->blocks[0], &bin->blocks[n], rest * sizeof bin->blocks[0]);
    store_relaxed(&bin->n, rest);
}

static void cache_empty(allot_arena *arena, struct cache *cache)
{
    for (size_t words = 1; words <= CACHE_WORDS_MOST; words++) {
        uint32_t n = load_relaxed(&cache->bins[words].n);
        if (n != 0) {
            bin_give_back(arena, &cache->bins[words], words, n);
        }
    }
}

static size_t words_in(const struct cache *cache)
{
    size_t sum = 0;
    for (size_t words = 1; words <= CACHE_WORDS_MOST; words++) {
        sum += words * load_relaxed(&cache->bins[words].n);
    }
    return sum;
}

/* All are closed from here on, and nobody is inside who doesn't know it, but for those who are busy now. */
static bool quiesce(allot_arena *arena)
{
    for (struct cache *cache = arena->caches; cache != NULL; cache = cache->next) {
        store_relaxed(&cache->closed, 1);
    }
    return (arena->flags & ALLOT_ARENA_UNSYNCHRONIZED) != 0 || os_barrier_all() == 0;
}

/* A thread that left a handler by siglongjmp never leaves: after the first wait in vain its cache is passed over. */
static bool wait_until_idle(allot_arena *arena, struct cache *cache)
{
    if (cache == cache_of(arena)) {
        return load_relaxed(&cache->busy) == 0; /* else this is a handler that interrupted it */
    }
    for (unsigned i = 0; load_acquire(&cache->busy) != 0; i++) { /* O44 */
        if (cache->is_lost || i == WAITS_MOST) {
            cache->is_lost = true;
            return false;
        }
        os_yield();
    }
    return true;
}

bool cache_empty_all(allot_arena *arena, bool *out_all)
{
    bool any = false;
    *out_all = arena->caches == NULL || quiesce(arena);
    for (struct cache *cache = arena->caches; cache != NULL && *out_all; cache = cache->next) {
        if (!wait_until_idle(arena, cache)) {
            *out_all = false;
        } else if (words_in(cache) != 0) {
            cache_empty(arena, cache);
            any = true;
        }
    }
    return any;
}

size_t cache_words(const allot_arena *arena)
{
    size_t sum = 0;
    for (const struct cache *cache = arena->caches; cache != NULL; cache = cache->next) {
        sum += words_in(cache);
    }
    return sum;
}

void cache_forget(allot_arena *arena)
{
    cache_close(arena);
    for (struct cache *cache = arena->caches; cache != NULL; cache = cache->next) {
        for (size_t words = 1; words <= CACHE_WORDS_MOST; words++) {
            store_relaxed(&cache->bins[words].n, 0);
        }
    }
}

void cache_close(allot_arena *arena)
{
    if (arena->caches != NULL) {
        quiesce(arena);
    }
}

/* The latest segments are the largest: they come first. */
static void copy_segments(const allot_arena *arena, struct cache *cache)
{
    memset(cache->segments, 0, sizeof cache->segments);
    for (const struct segment *segment = arena->segments; segment != NULL; segment = segment->next) {
        memmove(&cache->segments[1], &cache->segments[0], (CACHE_SEGMENTS - 1) * sizeof cache->segments[0]);
        cache->segments[0] = (struct cache_segment){segment->begin, segment->words << WORD_SHIFT, segment->state, 0};
    }
}

static struct cache *cache_new(void)
{
    struct cache *cache = NULL;
    if (arenas_lock() != 0) {
        return NULL;
    }
    cache = caches.spare;
    if (cache != NULL) {
        caches.spare = cache->next;
    }
    arenas_unlock();
    if (cache == NULL) {
        cache = map_books(sizeof *cache);
    }
    return cache;
}

/* Closed, until its thread comes through the lock. What blocks it had room for before it still has. */
static void cache_init(struct cache *cache, allot_arena *arena)
{
    for (size_t words = 1; words <= CACHE_WORDS_MOST; words++) {
        store_relaxed(&cache->bins[words].n, 0);
        cache->has_given_back[words] = false;
    }
    store_relaxed(&cache->busy, 0);
    store_relaxed(&cache->closed, 1);
    cache->is_lost = false;
    cache->arena = arena;
    cache->serial = arena->serial;
}

/* The table of the calling thread; NULL: none to be had, or the thread ends. */
static struct cache_table *table_make(void)
{
    if (arena_caches == &closed_caches) {
        return NULL;
    }
    if (arena_caches == &no_caches) {
        struct cache_table *table = arena_books_alloc(sizeof *table);
        if (table == NULL) {
            return NULL;
        }
        memcpy(table, &no_caches, sizeof *table);
        arena_caches = table;
    }
    return (struct cache_table *)(uintptr_t)arena_caches;
}

/* Whether a slot's cache is one of an arena that lives. */
static bool slot_is_used(const struct cache_table *table, size_t slot)
{
    if (table->slots[slot].serial == NO_SERIAL || arenas_lock() != 0) {
        return false;
    }
    bool is_used = table->slots[slot].cache->serial == table->slots[slot].serial;
    arenas_unlock();
    return is_used;
}

/* With no lock held. Two arenas that would have the same slot: the first has it for as long as it lives. */
static struct cache *cache_make(allot_arena *arena)
{
    bool is_own = (arena->flags & ALLOT_ARENA_UNSYNCHRONIZED) != 0;
    struct cache_table *table = is_own ? NULL : table_make();
    size_t slot = arena->serial % CACHE_SLOTS;
    if (!is_own && (table == NULL || slot_is_used(table, slot))) {
        return NULL;
    }
    struct cache *cache = cache_new();
    if (cache == NULL) {
        return NULL;
    }
    cache_init(cache, arena);
    if (is_own) {
        arena->own_cache = cache;
    } else {
        table->slots[slot].cache = cache;
        table->slots[slot].serial = arena->serial;
    }
    return cache;
}

static bool may_have_cache(const allot_arena *arena)
{
    return arena->kind == ALLOT_ARENA_GENERAL && arena->fit == ALLOT_FIT_GOOD && !arena->watched && arena->own_struct &&
           ((arena->flags & ALLOT_ARENA_UNSYNCHRONIZED) != 0 || os_barrier_all() == 0);
}

void cache_prepare(allot_arena *arena)
{
    uint32_t n = load_relaxed(&arena->n_calls);
    if (n % CALLS_BETWEEN - CALLS_BEFORE >= CALLS_TRIED || n == UINT32_MAX || cache_of(arena) != NULL) {
        return;
    }
    if (!may_have_cache(arena)) {
        store_relaxed(&arena->n_calls, UINT32_MAX); /* never */
        return;
    }
    struct cache *cache = cache_make(arena);
    if (cache == NULL) {
        return;
    }
    if (arena_enter_question(arena) != 0) {
        return; /* its thread has it, the arena doesn't know it: it stays closed */
    }
    cache->next = arena->caches;
    arena->caches = cache;
    arena_leave(arena);
}

/* The cache of the calling thread, open and up to date; NULL: it has none, or a handler has interrupted it. */
static struct cache *cache_renewed(allot_arena *arena)
{
    struct cache *cache = cache_of(arena);
    if (cache == NULL || load_relaxed(&cache->busy) != 0 || arena->sealed) {
        return NULL;
    }
    if (load_relaxed(&cache->closed) != 0) {
        copy_segments(arena, cache);
        store_relaxed(&cache->closed, 0);
    }
    return cache;
}

static void bin_enlarge(struct cache_bin *bin, size_t words)
{
    uint32_t limit = bin->limit == 0 ? BIN_BLOCKS_FIRST : 2 * bin->limit;
    if (limit > BIN_BLOCKS_MOST || (bin->limit != 0 && limit * words > BIN_WORDS_MOST)) {
        return;
    }
    struct cached *blocks = arena_books_alloc(limit * sizeof *blocks);
    if (blocks == NULL) {
        return;
    }
    uint32_t n = load_relaxed(&bin->n);
    for (uint32_t i = 0; i < n; i++) {
        blocks[i] = bin->blocks[i];
    }
    arena_books_free(bin->blocks);
    bin->blocks = blocks;
    bin->limit = limit;
}

void cache_refill(allot_arena *arena, struct segment *segment, size_t words)
{
    struct cache *cache = words > CACHE_WORDS_MOST ? NULL : cache_renewed(arena);
    if (cache == NULL || load_relaxed(&cache->bins[words].n) != 0) {
        return;
    }
    struct cache_bin *bin = &cache->bins[words];
    if (bin->limit == 0 || cache->has_given_back[words]) {
        bin_enlarge(bin, words);
        cache->has_given_back[words] = false;
    }
    size_t n = size_min(bin->limit / 2, REFILL_MOST);
    struct request request = {.words = n * words, .align_bytes = WORD_BYTES};
    size_t word;
    bool is_zero;
    if (n == 0 || segment->free_words < REFILL_SHARE * request.words ||
        !segment_take(segment, &request, &word, &is_zero)) {
        return;
    }
    segment_cut(segment, word, words, n);
    for (size_t i = 0; i < n; i++) { /* the lowest address on top */
        size_t at = word + (n - 1 - i) * words;
        bin->blocks[i] = (struct cached){segment_address(segment, at), &segment->state[at]};
    }
    store_relaxed(&bin->n, (uint32_t)n);
}

void cache_make_room(allot_arena *arena, size_t words)
{
    struct cache *cache = words - 1 < CACHE_WORDS_MOST ? cache_renewed(arena) : NULL;
    if (cache == NULL) {
        return;
    }
    struct cache_bin *bin = &cache->bins[words];
    if (bin->limit == 0) {
        bin_enlarge(bin, words);
    } else if (load_relaxed(&bin->n) == bin->limit) {
        bin_give_back(arena, bin, words, bin->limit / 2);
        cache->has_given_back[words] = true;
    }
}

/* ---- ends ------------------------------------------------------------------------------------------------------ */

void cache_end(allot_arena *arena)
{
    if (arena->caches == NULL || arenas_lock() != 0) {
        return;
    }
    while (arena->caches != NULL) {
        struct cache *cache = arena->caches;
        arena->caches = cache->next;
        cache->serial = 0;
        cache->next = caches.spare;
        caches.spare = cache;
    }
    arena->own_cache = NULL;
    arenas_unlock();
}

static void leave_arena(struct cache *cache)
{
    allot_arena *arena = cache->arena;
    if (arena_enter_question(arena) != 0) {
        return;
    }
    struct cache **at = &arena->caches;
    while (*at != NULL && *at != cache) {
        at = &(*at)->next;
    }
    if (*at == cache) {
        cache_empty(arena, cache);
        *at = cache->next;
        cache->serial = 0;
        cache->next = caches.spare;
        caches.spare = cache;
    }
    arena_leave(arena);
}

void arena_thread_exit(void)
{
    const struct cache_table *table = arena_caches;
    arena_caches = &closed_caches;
    if (table == &no_caches || table == &closed_caches || arenas_lock() != 0) {
        return;
    }
    for (size_t i = 0; i < CACHE_SLOTS; i++) {
        struct cache *cache = table->slots[i].cache;
        /* Its arena lives for as long as the lock is held. */
        if (cache != NULL && cache->serial == table->slots[i].serial) {
            leave_arena(cache);
        }
    }
    arenas_unlock();
    arena_books_free((void *)(uintptr_t)table);
}

/* In the child of a fork: a thread that was inside never leaves. Its cache is lost, with the blocks in it. */
void cache_after_fork(allot_arena *arena)
{
    struct cache **at = &arena->caches;
    while (*at != NULL) {
        struct cache *cache = *at;
        if (load_relaxed(&cache->busy) != 0 && cache != cache_of(arena)) {
            *at = cache->next;
            cache->serial = 0;
        } else {
            at = &cache->next;
        }
    }
}
