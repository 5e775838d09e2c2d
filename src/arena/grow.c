/* SPDX-License-Identifier: MIT */
/* grow.c - memory from the backend and back to it, and how much of that an arena may have.
 *
 * A backend is called with no lock held. arena->grower says whose call is under way; who else needs more memory
 * meanwhile waits, and looks again.
 *
 * What goes back is first made unreachable: an empty segment leaves the arena, a free tail becomes a block.
 */
#include "arena/arena_internal.h"
#include "heap/heap.h"
#include "os/os.h"

#include <errno.h>
#include <string.h>

#define DECOMMIT_LEAST (256 * KIB)
#define SMALL_BYTES (64 * KIB)

/* ---- limits -------------------------------------------------------------------------------------------------- */

/* How much more this arena and those above it allow. */
static size_t allowance(const allot_arena *arena)
{
    size_t least = SIZE_MAX;
    for (; arena != NULL; arena = arena->parent) {
        size_t limit = load_relaxed(&arena->hard_limit);
        size_t total = load_relaxed(&arena->total_bytes);
        if (limit != 0) {
            least = size_min(least, limit > total ? limit - total : 0);
        }
    }
    return least;
}

bool arena_charge(allot_arena *arena, size_t bytes)
{
    if (bytes > allowance(arena)) {
        return false;
    }
    for (; arena != NULL; arena = arena->parent) {
        add_relaxed(&arena->total_bytes, bytes);
    }
    return true;
}

void arena_uncharge(allot_arena *arena, size_t bytes)
{
    for (; arena != NULL; arena = arena->parent) {
        size_t total = sub_relaxed(&arena->total_bytes, bytes) - bytes;
        if (total <= load_relaxed(&arena->soft_limit)) {
            store_relaxed(&arena->above_soft, 0);
        }
    }
}

/* No lock is held. */
void arena_tell_soft(allot_arena *arena)
{
    for (; arena != NULL; arena = arena->parent) {
        size_t limit = load_relaxed(&arena->soft_limit);
        size_t total = load_relaxed(&arena->total_bytes);
        if (limit != 0 && total > limit && xchg_relaxed(&arena->above_soft, 1) == 0 && arena->on_soft_limit != NULL) {
            arena->on_soft_limit(arena, total, arena->context);
        }
    }
}

/* ---- segments ------------------------------------------------------------------------------------------------ */

struct segment *arena_segment_of(allot_arena *arena, const void *p)
{
    struct segment *segment = arena->here;
    if (segment != NULL && segment_has(segment, p)) {
        return segment;
    }
    for (segment = arena->segments; segment != NULL && !segment_has(segment, p);) {
        segment = segment->next;
    }
    return segment;
}

static size_t words_of_piece(const char *memory, size_t bytes)
{
    size_t skip = round_up((uintptr_t)memory, WORD_BYTES) - (uintptr_t)memory;
    return bytes < skip ? 0 : (bytes - skip) >> WORD_SHIFT;
}

static struct segment *segment_struct(allot_arena *arena)
{
    if (!arena->first_is_used) {
        arena->first_is_used = true;
        memset(&arena->first, 0, arena_is_bump(arena) ? SEGMENT_BUMP_BYTES : sizeof arena->first);
        return &arena->first;
    }
    struct segment *segment = arena_books_alloc(arena_is_bump(arena) ? SEGMENT_BUMP_BYTES : sizeof *segment);
    if (segment != NULL) {
        segment->own_struct = true;
    }
    return segment;
}

static void struct_give(allot_arena *arena, struct segment *segment)
{
    if (segment->own_struct) {
        arena_books_free(segment);
    } else {
        arena->first_is_used = false;
    }
}

/* How many words the books should have room for. */
static size_t room_for(const allot_arena *arena, size_t words)
{
    size_t reserved = arena->backend == NULL ? 0 : backend_reserved_bytes(arena->backend) >> WORD_SHIFT;
    return size_max(words, reserved);
}

static bool range_set(struct segment *segment)
{
    if (arenas_lock() != 0) {
        return false;
    }
    if (segment->range != NULL) {
        map_range_remove(segment->range);
    }
    segment->range = map_range_add(segment->begin, segment->words << WORD_SHIFT, segment);
    arenas_unlock();
    return segment->range != NULL;
}

static void range_clear(struct segment *segment)
{
    if (segment->range != NULL && arenas_lock() == 0) {
        map_range_remove(segment->range);
        arenas_unlock();
    }
    segment->range = NULL;
}

static void segment_drop(allot_arena *arena, struct segment *segment)
{
    range_clear(segment);
    if (!arena_is_bump(arena)) {
        segment_close(segment);
    }
    struct_give(arena, segment);
}

/* A segment of a piece of memory, whole but not yet the arena's. NULL: no memory for its books. */
static struct segment *segment_make(allot_arena *arena, char *memory, size_t bytes, void *books, size_t books_bytes)
{
    struct segment *segment = segment_struct(arena);
    if (segment == NULL) {
        return NULL;
    }
    segment->arena = arena;
    segment->memory = memory;
    segment->memory_bytes = bytes;
    segment->begin = (char *)round_up((uintptr_t)memory, WORD_BYTES);
    segment->words = words_of_piece(memory, bytes);
    segment->top = segment->begin;
    segment->zero_at_first = arena->backend != NULL && backend_gives_zeros(arena->backend);
    bool is_open = arena_is_bump(arena) || segment_open(segment, room_for(arena, segment->words), books, books_bytes) ||
                   segment_open(segment, segment->words, books, books_bytes);
    if (!is_open || !range_set(segment)) {
        segment_drop(arena, segment);
        return NULL;
    }
    return segment;
}

static void count_segment(allot_arena *arena, const struct segment *segment)
{
    arena->size_bytes += segment->memory_bytes;
    arena->capacity_words += segment->words;
    if (!arena_is_bump(arena)) {
        arena->free_words += segment->free_words;
    }
}

/* Under the arena's lock. */
static void segment_join(allot_arena *arena, struct segment *segment)
{
    *(arena->last == NULL ? &arena->segments : &arena->last->next) = segment;
    arena->last = segment;
    count_segment(arena, segment);
}

/* What came before it. */
static struct segment *segment_leave(allot_arena *arena, struct segment *segment)
{
    struct segment *before = NULL;
    for (struct segment *at = arena->segments; at != segment; at = at->next) {
        before = at;
    }
    *(before == NULL ? &arena->segments : &before->next) = segment->next;
    arena->last = arena->last == segment ? before : arena->last;
    arena->here = arena->here == segment ? arena->segments : arena->here;
    arena->size_bytes -= segment->memory_bytes;
    arena->capacity_words -= segment->words;
    if (!arena_is_bump(arena)) {
        arena->free_words -= segment->free_words;
    }
    return before;
}

static void segment_rejoin(allot_arena *arena, struct segment *segment, struct segment *before)
{
    struct segment **at = before == NULL ? &arena->segments : &before->next;
    segment->next = *at;
    *at = segment;
    arena->last = segment->next == NULL ? segment : arena->last;
    count_segment(arena, segment);
}

bool arena_add_buffer(allot_arena *arena, void *buffer, size_t bytes, void *books, size_t books_bytes)
{
    struct segment *segment = segment_make(arena, buffer, bytes, books, books_bytes);
    if (segment == NULL) {
        return false;
    }
    segment->is_buffer = true;
    watch_memory(arena, segment->begin, segment->words << WORD_SHIFT);
    segment_join(arena, segment);
    return true;
}

/* ---- growing ------------------------------------------------------------------------------------------------- */

struct growth {
    struct segment *last; /* what may grow in place; NULL: a new piece */
    bool only_in_place;
    size_t need;
    size_t want;
    void *begin;
    size_t bytes;
};

static int ask_backend(allot_arena *arena, struct growth *growth)
{
    const allot_backend_ops *ops = arena->backend->ops;
    void *begin = growth->last == NULL ? NULL : growth->last->memory;
    size_t bytes = growth->last == NULL ? 0 : growth->last->memory_bytes;
    return ops->grow(arena->backend, begin, bytes, growth->need, growth->want, &growth->begin, &growth->bytes);
}

static bool is_in_place(const struct growth *growth)
{
    return growth->last != NULL && growth->begin == growth->last->memory;
}

static size_t bytes_gained(const struct growth *growth)
{
    return growth->bytes - (is_in_place(growth) ? growth->last->memory_bytes : 0);
}

static int return_piece(allot_arena *arena, void *begin, size_t bytes)
{
    const allot_backend_ops *ops = arena->backend->ops;
    return ops->release == NULL ? ENOTSUP : ops->release(arena->backend, begin, bytes);
}

/* What came has the arena's protection, or goes back. */
static int protect_growth(allot_arena *arena, const struct growth *growth)
{
    if (arena->protection < 0) {
        return 0;
    }
    const allot_backend_ops *ops = arena->backend->ops;
    size_t old = is_in_place(growth) ? growth->last->memory_bytes : 0;
    return ops->protect == NULL
               ? ENOTSUP
               : ops->protect(arena->backend, (char *)growth->begin + old, growth->bytes - old, arena->protection);
}

static int adopt_in_place(allot_arena *arena, const struct growth *growth)
{
    struct segment *segment = growth->last;
    size_t old_words = segment->words;
    size_t words = words_of_piece(growth->begin, growth->bytes);
    lock_take(&arena->lock);
    arena->size_bytes += growth->bytes - segment->memory_bytes;
    segment->memory_bytes = growth->bytes;
    bool grown = true;
    if (arena_is_bump(arena)) {
        segment->words = words;
    } else {
        bool may_move = true;
        if (words > segment->room) {
            cache_empty_all(arena, &may_move); /* the books move */
        }
        grown = may_move && segment_extend(segment, words);
    }
    if (grown) {
        arena->capacity_words += words - old_words;
        watch_memory(arena, segment_address(segment, old_words), (words - old_words) << WORD_SHIFT);
        if (arena_is_bump(arena)) {
            bump_extended(arena, segment);
        }
    }
    lock_give(&arena->lock);
    return grown && range_set(segment) ? 0 : ENOMEM;
}

static int adopt_piece(allot_arena *arena, const struct growth *growth, void *books, size_t books_bytes)
{
    struct segment *segment = segment_make(arena, growth->begin, growth->bytes, books, books_bytes);
    if (segment == NULL) {
        return ENOMEM;
    }
    watch_memory(arena, segment->begin, segment->words << WORD_SHIFT);
    lock_take(&arena->lock);
    segment_join(arena, segment);
    cache_close(arena); /* they learn of the new segment */
    lock_give(&arena->lock);
    return 0;
}

/* One call to the backend, and what comes of it. No lock is held; the caller is arena->grower. */
static int grow_once(allot_arena *arena, struct growth *growth, void *books, size_t books_bytes)
{
    size_t allowed = allowance(arena);
    if (growth->need > allowed) {
        return ENOMEM;
    }
    growth->want = size_min(growth->want, allowed);
    int error = ask_backend(arena, growth);
    if (error != 0) {
        return error;
    }
    size_t gained = bytes_gained(growth);
    if ((growth->only_in_place && !is_in_place(growth)) || !arena_charge(arena, gained)) {
        error = ENOMEM;
    } else {
        error = protect_growth(arena, growth);
        if (error == 0) {
            error =
                is_in_place(growth) ? adopt_in_place(arena, growth) : adopt_piece(arena, growth, books, books_bytes);
        }
        if (error != 0) {
            arena_uncharge(arena, gained);
        }
    }
    if (error != 0 && !is_in_place(growth)) {
        return_piece(arena, growth->begin, growth->bytes);
    }
    return error;
}

static void growth_begins(allot_arena *arena)
{
    arena->grower = lock_self();
    arena_leave(arena);
}

static void growth_ends(allot_arena *arena)
{
    arena_enter_question(arena);
    arena->grower = 0;
}

/* 0: it has ended. */
static int wait_for_growth(allot_arena *arena)
{
    if (arena->grower == lock_self()) {
        return EDEADLK; /* the backend calls on its arena */
    }
    while (arena->grower != 0) {
        arena_leave(arena);
        os_yield();
        int error = arena_enter_question(arena);
        if (error != 0) {
            return error;
        }
    }
    return 0;
}

/* Few pieces are found faster than many: small arenas grow to four times what they have, others double. */
static size_t want_of(const allot_arena *arena, size_t need)
{
    size_t step = arena->grow_bytes != 0 ? arena->grow_bytes : os_page_bytes();
    size_t more = arena->size_bytes < SMALL_BYTES ? 3 * arena->size_bytes : arena->size_bytes;
    return size_max(size_max(need, step), more);
}

/* How much memory a request needs: pieces of the library's own backends begin at words, mapped ones at pages. */
static size_t need_of(const allot_arena *arena, const struct request *request, bool is_aligned)
{
    size_t begins_at = backend_begins_at(arena->backend);
    size_t skip = request->align_bytes -
                  (is_aligned ? size_min(begins_at, request->align_bytes) : size_min(begins_at, WORD_BYTES));
    return (request->words << WORD_SHIFT) + skip;
}

int arena_grow(allot_arena *arena, const struct request *request)
{
    if (arena->backend == NULL) {
        return ENOMEM;
    }
    if (arena->grower != 0) {
        return wait_for_growth(arena);
    }
    struct growth growth = {.last = arena->last};
    size_t tail = 0;
    if (growth.last != NULL && growth.last->is_buffer) {
        growth.last = NULL;
    } else if (growth.last != NULL && !arena_is_bump(arena)) {
        tail = (growth.last->words - segment_tail(growth.last)) << WORD_SHIFT;
    }
    growth.need = need_of(arena, request, /* is aligned */ false);
    growth.want = want_of(arena, growth.need);
    growth_begins(arena);
    int error = grow_once(arena, &growth, NULL, 0);
    if (error == ENOMEM && need_of(arena, request, /* is aligned */ true) < growth.need) {
        struct growth piece = {.need = need_of(arena, request, true), .want = need_of(arena, request, true)};
        error = grow_once(arena, &piece, NULL, 0);
    }
    if (error == ENOMEM && tail != 0) {
        /* With the free end of the last piece less may be enough. */
        growth.only_in_place = true;
        growth.need = growth.need > tail ? growth.need - tail : WORD_BYTES;
        growth.want = growth.need;
        error = grow_once(arena, &growth, NULL, 0);
    }
    if (error == 0) {
        arena_tell_soft(arena);
    }
    growth_ends(arena);
    return error;
}

/* At its beginning: nobody knows the arena yet. */
int arena_grow_first(allot_arena *arena, size_t bytes, void *books, size_t books_bytes)
{
    struct growth growth = {.need = bytes, .want = bytes};
    int error = grow_once(arena, &growth, books, books_bytes);
    if (error == 0) {
        arena_tell_soft(arena);
    }
    return error;
}

/* ---- giving back --------------------------------------------------------------------------------------------- */

/* The arena's lock is not held; nobody can reach the segment any more. */
static int segment_return(allot_arena *arena, struct segment *segment)
{
    size_t bytes = segment->memory_bytes;
    watch_forget(arena, segment->begin, segment->words << WORD_SHIFT);
    int error = segment->is_buffer ? 0 : return_piece(arena, segment->memory, bytes);
    if (error == 0 && !segment->is_buffer) {
        arena_uncharge(arena, bytes);
    }
    return error;
}

static bool can_release(const allot_arena *arena, const struct segment *segment)
{
    return !segment->is_buffer && arena->backend->ops->release != NULL && !backend_is_fixed(arena->backend) &&
           arena->grower == 0;
}

static size_t empty_bytes(const allot_arena *arena)
{
    size_t sum = 0;
    for (struct segment *segment = arena->segments; segment != NULL; segment = segment->next) {
        sum += segment_is_empty(segment) ? segment->memory_bytes : 0;
    }
    return sum;
}

/* Unlocks while the backend works. If that doesn't want it, it stays. */
static bool release_segment(allot_arena *arena, struct segment *segment)
{
    cache_close(arena);
    struct segment *before = segment_leave(arena, segment);
    growth_begins(arena);
    int error = segment_return(arena, segment);
    if (error == 0) {
        segment_drop(arena, segment);
    }
    growth_ends(arena);
    if (error != 0) {
        watch_memory(arena, segment->begin, segment->words << WORD_SHIFT);
        segment_rejoin(arena, segment, before);
    }
    return error == 0;
}

/* Of the words from one on, whole pages of which the last word may have been used; bytes of them. */
static size_t pages_behind(const struct segment *segment, size_t word, char **begin)
{
    size_t page = os_page_bytes();
    *begin = (char *)round_up((uintptr_t)segment_address(segment, word), page);
    char *end = (char *)round_down((uintptr_t)segment_address(segment, segment->reach) + page - 1, page);
    char *last = (char *)round_down((uintptr_t)segment_address(segment, segment->words), page);
    end = end < last ? end : last;
    return end > *begin ? ptr_diff(end, *begin) : 0;
}

/* The pages of a free tail go back. While that is done they are a block; unlocks meanwhile. */
static size_t decommit_tail(allot_arena *arena, struct segment *segment)
{
    char *begin;
    size_t bytes = pages_behind(segment, segment_tail(segment), &begin);
    if (bytes == 0 || arena->backend == NULL || arena->backend->ops->decommit == NULL || segment->is_buffer ||
        arena->grower != 0) {
        return 0;
    }
    struct block_at held = {.word = segment_word(segment, begin), .words = bytes >> WORD_SHIFT, .state = BLOCK_LIVE};
    segment_hold(segment, held.word, held.words);
    growth_begins(arena);
    int error = arena->backend->ops->decommit(arena->backend, begin, bytes);
    growth_ends(arena);
    segment_give(segment, &held, held.word, held.words);
    if (error == 0 && segment->reach <= held.word + held.words) {
        segment->reach = held.word;
    }
    return error == 0 ? bytes : 0;
}

void arena_tidy(allot_arena *arena, struct segment *segment)
{
    size_t tail = segment_tail(segment);
    if (tail == 0 && segment != arena->last) {
        if (can_release(arena, segment) && empty_bytes(arena) > arena->keep_bytes) {
            release_segment(arena, segment);
        }
        return;
    }
    size_t idle = segment->reach > tail ? (segment->reach - tail) << WORD_SHIFT : 0;
    size_t live = (arena->capacity_words - arena->free_words) << WORD_SHIFT;
    if (idle >= DECOMMIT_LEAST && idle > arena->keep_bytes && idle / 2 > live / 8) {
        decommit_tail(arena, segment);
    }
}

static bool segment_is_idle(allot_arena *arena, const struct segment *segment)
{
    if (!arena_is_bump(arena)) {
        return segment_is_empty(segment);
    }
    return segment != arena->bump.segment && bump_top(arena, segment) == segment->begin;
}

/* Of a bump arena: pages above what is in use. While they go, the arena ends before them. */
static size_t decommit_top(allot_arena *arena)
{
    struct segment *segment = arena->bump.segment;
    char *begin;
    if (segment == NULL || segment->is_buffer || arena->backend == NULL || arena->backend->ops->decommit == NULL ||
        arena->grower != 0) {
        return 0;
    }
    size_t top = segment_word(segment, bump_top(arena, segment));
    segment->reach = size_max(segment->reach, top);
    size_t bytes = pages_behind(segment, top, &begin);
    if (bytes == 0) {
        return 0;
    }
    bump_head(arena)->end = begin;
    growth_begins(arena);
    int error = arena->backend->ops->decommit(arena->backend, begin, bytes);
    growth_ends(arena);
    bump_extended(arena, segment);
    if (error == 0) {
        segment->reach = segment_word(segment, begin);
    }
    return error == 0 ? bytes : 0;
}

size_t arena_shed(allot_arena *arena, size_t keep_bytes)
{
    bool all;
    cache_empty_all(arena, &all);
    size_t shed = 0;
    size_t idle = 0;
    struct segment *segment = arena->segments;
    while (segment != NULL) {
        size_t bytes = segment->memory_bytes;
        bool is_idle = segment_is_idle(arena, segment);
        idle += is_idle ? bytes : 0;
        if (is_idle && idle > keep_bytes && can_release(arena, segment) && release_segment(arena, segment)) {
            shed += bytes;
            idle = 0;
            segment = arena->segments; /* others may have changed the list meanwhile */
        } else {
            segment = segment->next;
        }
    }
    if (keep_bytes != 0) {
        return shed;
    }
    if (arena_is_bump(arena)) {
        return shed + decommit_top(arena);
    }
    for (segment = arena->segments; segment != NULL; segment = segment->next) {
        shed += decommit_tail(arena, segment);
    }
    return shed;
}

void arena_give_back(allot_arena *arena)
{
    while (arena->segments != NULL) {
        struct segment *segment = arena->segments;
        segment_leave(arena, segment);
        if (segment_return(arena, segment) != 0) {
            arena_uncharge(arena, segment->memory_bytes); /* it is the backend's, whatever that does with it */
        }
        segment_drop(arena, segment);
    }
}

void arena_lose_memory(allot_arena *arena)
{
    cache_forget(arena);
    store_relaxed(&arena->gone, 1); /* one owner */
    arena->head = (allot_arena_head){NULL, NULL};
    arena->hidden = arena->head;
    arena->bump = (struct bump){.segment = NULL};
    while (arena->segments != NULL) {
        struct segment *segment = arena->segments;
        segment_leave(arena, segment);
        watch_forget(arena, segment->begin, segment->words << WORD_SHIFT);
        arena_uncharge(arena, segment->memory_bytes);
        segment_drop(arena, segment);
    }
}
