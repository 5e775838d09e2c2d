/* SPDX-License-Identifier: MIT */
/* arena.c - making and ending arenas; the tree of all of them; fork.
 *
 *     roots -> arena -> arena          an arena and its siblings, latest first
 *                |
 *                +-> child -> child
 *
 * Invariants.  A4  An arena in the tree is whole; it leaves the tree before anything of it goes.
 * Threads.     The tree and the ranges of all arenas are changed under one lock. It is taken with no arena's lock held,
 *              but by fork, which takes it first.
 * Fork.        Before a fork all locks are taken, so in the child all books are whole.
 * Orders.      O42 What leads to an arena is stored with release, after the arena is whole; who walks the tree without
 *              the lock loads it with acquire.
 */
#include "arena/arena_internal.h"
#include "arena/cache_internal.h"
#include "heap/heap.h"
#include "os/os.h"

#include <allot/root.h>
#include <errno.h>
#include <string.h>

_Static_assert(offsetof(struct allot_arena, first) + SEGMENT_BUMP_BYTES + WORD_BYTES <= ALLOT_BUMP_BOOKS_BYTES,
               "books of a bump arena");

static struct {
    _Atomic uintptr_t lock;
    _Atomic(struct allot_arena *) roots; /* O42 */
    _Atomic uint64_t serial;
    _Atomic uint64_t epoch;
    bool fork_held;
} arenas;

int arenas_lock(void)
{
    return lock_take(&arenas.lock);
}

void arenas_unlock(void)
{
    lock_give(&arenas.lock);
}

uint64_t arena_serial_now(void)
{
    return load_relaxed(&arenas.serial);
}

/* ---- memory for books ---------------------------------------------------------------------------------------- */

void *arena_books_alloc(size_t bytes)
{
    int saved = errno;
    void *p = heap_calloc(1, bytes);
    errno = saved;
    return p;
}

void arena_books_free(void *p)
{
    heap_free(p);
}

/* ---- the tree; under the lock --------------------------------------------------------------------------------- */

static _Atomic(struct allot_arena *) *children_of(struct allot_arena *parent)
{
    return parent == NULL ? &arenas.roots : &parent->children;
}

static void tree_add(struct allot_arena *arena, struct allot_arena *parent)
{
    _Atomic(struct allot_arena *) *list = children_of(parent);
    struct allot_arena *head = load_relaxed(list); /* under the lock */
    arena->parent = parent;
    arena->elder = NULL;
    store_release(&arena->sibling, head); /* O42 */
    if (head != NULL) {
        head->elder = arena;
    }
    store_release(list, arena); /* O42 */
    if (parent != NULL) {
        parent->n_children++;
    }
}

static void tree_remove(struct allot_arena *arena)
{
    struct allot_arena *next = load_relaxed(&arena->sibling); /* under the lock */
    struct allot_arena *elder = arena->elder;
    if (next != NULL) {
        next->elder = elder;
    }
    store_release(elder == NULL ? children_of(arena->parent) : &elder->sibling, next); /* O42 */
    if (arena->parent != NULL) {
        arena->parent->n_children--;
    }
}

/* Takes no lock; so does whoever visits. */
static int each_below(struct allot_arena *parent, unsigned depth, int (*visit)(allot_arena *, unsigned, void *),
                      void *context)
{
    int result = 0;
    struct allot_arena *arena = load_acquire(children_of(parent)); /* O42 */
    while (arena != NULL && result == 0) {
        struct allot_arena *next = load_acquire(&arena->sibling); /* O42 */
        result = visit(arena, depth, context);
        result = result != 0 ? result : each_below(arena, depth + 1, visit, context);
        arena = next;
    }
    return result;
}

int arena_each(int (*visit)(allot_arena *arena, unsigned depth, void *context), void *context)
{
    return each_below(NULL, 0, visit, context);
}

int allot_arena_each(int (*visit)(allot_arena *arena, unsigned depth, void *context), void *context)
{
    if (arenas_lock() != 0) {
        return 0;
    }
    int result = arena_each(visit, context);
    arenas_unlock();
    return result;
}

/* ---- making -------------------------------------------------------------------------------------------------- */

static const allot_arena_options standard_options = {
    .abi_size = sizeof(allot_arena_options),
};

static bool options_are_valid(const allot_arena_options *options)
{
    const unsigned flags = ALLOT_ARENA_UNSYNCHRONIZED | ALLOT_ARENA_OWNS_BACKEND;
    return options->abi_size == sizeof *options && options->kind <= ALLOT_ARENA_SCRATCH &&
           options->fit <= ALLOT_FIT_BEST && (options->flags & ~flags) == 0 &&
           (options->soft_limit == 0 || options->hard_limit == 0 || options->soft_limit <= options->hard_limit) &&
           (options->backend == NULL ||
            (options->backend->ops != NULL && options->backend->ops->abi_size == sizeof(allot_backend_ops) &&
             options->backend->ops->grow != NULL));
}

/* The part of a caller's books that an arena itself takes. */
static size_t own_books_bytes(const allot_arena_options *options)
{
    bool is_bump = options->kind != ALLOT_ARENA_GENERAL;
    size_t bytes = is_bump ? offsetof(struct allot_arena, first) + SEGMENT_BUMP_BYTES : sizeof(struct allot_arena);
    return round_up(bytes, WORD_BYTES) + options->n_cleanups * sizeof(struct cleanup);
}

size_t allot_arena_books_size(size_t buffer_bytes, const allot_arena_options *options)
{
    options = options == NULL ? &standard_options : options;
    if (!options_are_valid(options) || buffer_bytes < 2 * WORD_BYTES || buffer_bytes > BYTES_MOST ||
        options->n_cleanups > PTRDIFF_MAX / 2 / sizeof(struct cleanup)) {
        return 0;
    }
    size_t bytes = own_books_bytes(options) + WORD_BYTES - 1;
    if (options->kind == ALLOT_ARENA_GENERAL) {
        bytes += books_layout(buffer_bytes >> WORD_SHIFT, options->fit, false).total;
    }
    return bytes;
}

struct books {
    char *begin;
    size_t bytes;
};

/* The arena's struct, in the caller's books or in the heap; rest is what is left of the former. */
static struct allot_arena *struct_make(const allot_arena_options *options, struct books *rest)
{
    bool is_bump = options->kind != ALLOT_ARENA_GENERAL;
    size_t bytes = is_bump ? offsetof(struct allot_arena, first) + SEGMENT_BUMP_BYTES : sizeof(struct allot_arena);
    *rest = (struct books){NULL, 0};
    if (options->books == NULL) {
        struct allot_arena *arena = arena_books_alloc(bytes);
        if (arena != NULL) {
            arena->own_struct = true;
        }
        return arena;
    }
    char *begin = (char *)round_up((uintptr_t)options->books, WORD_BYTES);
    size_t skip = ptr_diff(begin, options->books);
    size_t own = own_books_bytes(options);
    if (options->books_bytes < skip || options->books_bytes - skip < own) {
        return NULL;
    }
    memset(begin, 0, own);
    struct allot_arena *arena = (struct allot_arena *)(void *)begin;
    struct cleanup *cleanups = (struct cleanup *)(void *)(begin + round_up(bytes, WORD_BYTES));
    for (size_t i = 0; i < options->n_cleanups; i++) {
        cleanups[i].next = arena->spare_cleanups;
        arena->spare_cleanups = &cleanups[i];
    }
    *rest = (struct books){begin + own, options->books_bytes - skip - own};
    return arena;
}

static void name_set(struct allot_arena *arena, const char *name)
{
    size_t length = 0;
    if (name == NULL && arena->file != NULL) {
        char text[24];
        const char *slash = strrchr(arena->file, '/');
        name = slash == NULL ? arena->file : slash + 1;
        struct text line = text_in(text, sizeof text);
        text_add(&line, ":");
        text_add_signed(&line, arena->line);
        length = size_min(strlen(name), NAME_BYTES - 1 - line.length);
        memcpy(arena->name, name, length);
        memcpy(arena->name + length, text, line.length);
        return;
    }
    name = name == NULL ? "(no name)" : name;
    length = size_min(strlen(name), NAME_BYTES - 1);
    memcpy(arena->name, name, length);
}

static void arena_init(struct allot_arena *arena, const allot_arena_options *options)
{
    arena->flags = options->flags;
    arena->kind = options->kind;
    arena->fit = options->fit;
    arena->watched = watch_is_on();
    arena->grow_bytes = options->grow_bytes;
    arena->keep_bytes = options->keep_bytes;
    arena->protection = -1;
    arena->serial = add_relaxed(&arenas.serial, 1) + 1;
    arena->epoch = add_relaxed(&arenas.epoch, 1) + 1;
    store_relaxed(&arena->soft_limit, options->soft_limit);
    store_relaxed(&arena->hard_limit, options->hard_limit);
    arena->on_soft_limit = options->on_soft_limit;
    arena->context = options->context;
    arena->on_error = options->on_error;
    arena->error_context = options->context;
    arena->file = options->file;
    arena->line = options->line;
    arena->number = 1;
    arena->parent = options->parent; /* for limits; it isn't in the tree yet */
    name_set(arena, options->name);
}

static int claim(const allot_arena_options *options, allot_backend *backend, struct allot_arena *arena)
{
    allot_arena *owner = NULL;
    int error = backend == NULL ? 0 : backend_claim(backend, arena, &owner);
    if (error == 0) {
        return 0;
    }
    struct misuse misuse = {.name = error == EBUSY ? "second arena" : "use after release", .address = backend};
    misuse.state = error == EBUSY ? "a backend that another arena uses" : "a backend whose reservation was released";
    misuse_report_options(options, &misuse);
    return error;
}

static void struct_end(struct allot_arena *arena)
{
    arena->life = ARENA_GONE;
    arena->serial = 0;
    arena->flags = 0;
    if (arena->own_struct) {
        arena_books_free(arena);
    }
}

static int publish(struct allot_arena *arena, struct allot_arena *parent)
{
    int error = arenas_lock();
    if (error == 0) {
        arena->life = ARENA_LIVES;
        map_range_set_describer(misuse_describe);
        tree_add(arena, parent);
        arenas_unlock();
    }
    return error;
}

/* buffer NULL: bytes from the backend. */
static int make(void *buffer, size_t bytes, const allot_arena_options *options, allot_backend *backend,
                allot_arena **out)
{
    struct books rest;
    if (options->parent != NULL && options->parent->life != ARENA_LIVES) {
        return EINVAL;
    }
    struct allot_arena *arena = struct_make(options, &rest);
    if (arena == NULL) {
        return options->books == NULL ? ENOMEM : EINVAL;
    }
    int error = claim(options, backend, arena);
    if (error != 0) {
        struct_end(arena);
        return error;
    }
    arena_init(arena, options);
    arena->backend = backend;
    bool is_bump = arena_is_bump(arena);
    void *books = is_bump ? NULL : rest.begin;
    if (buffer != NULL) {
        bool added = arena_add_buffer(arena, buffer, bytes, books, rest.bytes);
        error = added ? 0 : books == NULL ? ENOMEM : EINVAL;
    } else if (bytes != 0) {
        error = arena_grow_first(arena, bytes, books, rest.bytes);
    }
    if (error == 0) {
        error = publish(arena, options->parent);
    }
    if (error != 0) {
        arena_give_back(arena);
        if (backend != NULL) {
            backend_unclaim(backend, arena);
        }
        struct_end(arena);
        return error;
    }
    *out = arena;
    return 0;
}

int allot_arena_create(size_t size_bytes, const allot_arena_options *options, allot_arena **out)
{
    options = options == NULL ? &standard_options : options;
    if (!options_are_valid(options) || size_bytes > BYTES_MOST) {
        return EINVAL;
    }
    allot_backend *backend = options->backend == NULL ? allot_backend_heap() : options->backend;
    return make(NULL, round_up(size_bytes, WORD_BYTES), options, backend, out);
}

int allot_arena_create_at(void *buffer, size_t buffer_bytes, const allot_arena_options *options, allot_arena **out)
{
    options = options == NULL ? &standard_options : options;
    size_t skip = round_up((uintptr_t)buffer, WORD_BYTES) - (uintptr_t)buffer;
    if (!options_are_valid(options) || buffer == NULL || buffer_bytes > BYTES_MOST || buffer_bytes < 2 * WORD_BYTES ||
        buffer_bytes - skip < WORD_BYTES) {
        return EINVAL;
    }
    allot_backend *backend = options->backend;
    if (backend == NULL && options->kind == ALLOT_ARENA_SCRATCH) {
        backend = allot_backend_heap();
    }
    return make(buffer, buffer_bytes, options, backend, out);
}

/* ---- ending -------------------------------------------------------------------------------------------------- */

void arena_run_cleanups(allot_arena *arena, uint32_t from)
{
    for (;;) {
        if (arena_enter_question(arena) != 0) {
            return;
        }
        struct cleanup *cleanup = arena->cleanups;
        if (cleanup == NULL || cleanup->number < from) {
            arena_leave(arena);
            return;
        }
        struct cleanup run = *cleanup;
        arena->cleanups = cleanup->next;
        arena->n_cleanups--;
        bool is_caller_s = cleanup->is_caller_s;
        if (is_caller_s) {
            cleanup->next = arena->spare_cleanups;
            arena->spare_cleanups = cleanup;
        }
        arena_leave(arena);
        if (!is_caller_s) {
            arena_books_free(cleanup);
        }
        run.run(run.context);
    }
}

static struct allot_arena *latest_child(struct allot_arena *parent, uint64_t since)
{
    struct allot_arena *found = NULL;
    if (arenas_lock() != 0) {
        return NULL;
    }
    for (struct allot_arena *child = load_relaxed(&parent->children); child != NULL;
         child = load_relaxed(&child->sibling)) {
        if (child->serial > since) {
            found = child;
            break;
        }
    }
    arenas_unlock();
    return found;
}

void arena_end_children(allot_arena *arena, uint64_t since)
{
    struct allot_arena *child;
    while ((child = latest_child(arena, since)) != NULL) {
        allot_arena_destroy(child);
    }
}

static bool leave_tree(struct allot_arena *arena)
{
    if (arenas_lock() != 0) {
        return false;
    }
    tree_remove(arena);
    arenas_unlock();
    return true;
}

void allot_arena_destroy(allot_arena *arena)
{
    if (arena == NULL) {
        return;
    }
    if (arena->life != ARENA_LIVES) {
        misuse_report(NULL, &(struct misuse){.name = "destroy", .address = arena, .state = "no arena lives there"});
        return;
    }
    arena_end_children(arena, 0);
    arena_run_cleanups(arena, 0);
    if (!leave_tree(arena)) {
        return; /* a handler that has interrupted just that */
    }
    allot_backend *backend = arena->backend;
    bool owns = (arena->flags & ALLOT_ARENA_OWNS_BACKEND) != 0;
    arena_unseal_for_good(arena);
    cache_end(arena);
    arena_give_back(arena);
    if (backend != NULL) {
        backend_unclaim(backend, arena);
    }
    struct_end(arena);
    if (owns) {
        allot_backend_destroy(backend);
    }
}

int allot_arena_reset(allot_arena *arena)
{
    int error = arena_enter(arena, false);
    if (error != 0) {
        return error;
    }
    if (load_relaxed(&arena->children) != NULL || arena->cleanups != NULL) {
        arena_leave(arena);
        arena_end_children(arena, 0);
        arena_run_cleanups(arena, 0);
        error = arena_enter(arena, false);
        if (error != 0) {
            return error;
        }
    }
    if (arena->latest_mark != 0) {
        arena->epoch = add_relaxed(&arenas.epoch, 1) + 1; /* marks are void */
        arena->latest_mark = 0;
    }
    cache_forget(arena);
    if (arena_is_bump(arena)) {
        bump_reset(arena);
    }
    for (struct segment *segment = arena->segments; segment != NULL && !arena_is_bump(arena); segment = segment->next) {
        segment_clear(segment);
        watch_memory(arena, segment->begin, segment->words << WORD_SHIFT);
    }
    arena_leave(arena);
    return 0;
}

/* ---- nesting, cleanup functions, limits ---------------------------------------------------------------------- */

static bool lies_below(const struct allot_arena *arena, const struct allot_arena *top)
{
    while (arena != NULL && arena != top) {
        arena = arena->parent;
    }
    return arena == top;
}

int allot_arena_move(allot_arena *arena, allot_arena *parent)
{
    if (parent != NULL && (parent->life != ARENA_LIVES || lies_below(parent, arena))) {
        return EINVAL;
    }
    int error = arenas_lock();
    if (error != 0) {
        return error;
    }
    size_t total = load_relaxed(&arena->total_bytes);
    if (parent != NULL && !arena_charge(parent, total)) {
        error = ENOMEM;
    } else {
        arena_uncharge(arena->parent, total);
        tree_remove(arena);
        tree_add(arena, parent);
    }
    arenas_unlock();
    if (error == 0) {
        arena_tell_soft(parent);
    }
    return error;
}

allot_arena *allot_arena_parent(const allot_arena *arena)
{
    return arena->parent;
}

const char *allot_arena_name(const allot_arena *arena)
{
    return arena->name;
}

int allot_arena_cleanup_add(allot_arena *arena, void (*run)(void *context), void *context)
{
    int error = arena_enter(arena, /* may be sealed */ true);
    if (error != 0) {
        return error;
    }
    struct cleanup *cleanup = arena->spare_cleanups;
    bool is_caller_s = !arena->own_struct;
    if (cleanup != NULL) {
        arena->spare_cleanups = cleanup->next;
    } else if (arena->own_struct) {
        cleanup = arena_books_alloc(sizeof *cleanup);
    }
    if (cleanup == NULL) {
        error = ENOMEM;
    } else {
        *cleanup = (struct cleanup){arena->cleanups, run, context, arena->number++, is_caller_s};
        arena->cleanups = cleanup;
        arena->n_cleanups++;
    }
    arena_leave(arena);
    return error;
}

int allot_arena_cleanup_cancel(allot_arena *arena, void (*run)(void *context), void *context)
{
    int error = arena_enter(arena, /* may be sealed */ true);
    if (error != 0) {
        return error;
    }
    struct cleanup **at = &arena->cleanups;
    while (*at != NULL && ((*at)->run != run || (*at)->context != context)) {
        at = &(*at)->next;
    }
    struct cleanup *cleanup = *at;
    if (cleanup == NULL) {
        error = ENOENT;
    } else {
        *at = cleanup->next;
        arena->n_cleanups--;
        if (cleanup->is_caller_s) {
            cleanup->next = arena->spare_cleanups;
            arena->spare_cleanups = cleanup;
        } else {
            arena_books_free(cleanup);
        }
    }
    arena_leave(arena);
    return error;
}

int allot_arena_set_limits(allot_arena *arena, size_t soft_limit, size_t hard_limit)
{
    if (soft_limit != 0 && hard_limit != 0 && soft_limit > hard_limit) {
        return EINVAL;
    }
    store_relaxed(&arena->soft_limit, soft_limit);
    store_relaxed(&arena->hard_limit, hard_limit);
    store_relaxed(&arena->above_soft, 0);
    return 0;
}

void allot_arena_set_error_handler(allot_arena *arena, allot_error_handler handler, void *context)
{
    arena->on_error = handler;
    arena->error_context = context;
}

/* ---- questions of other rooms -------------------------------------------------------------------------------- */

struct live_walk {
    int (*visit)(const void *begin, size_t bytes, const allot_arena *arena, void *context);
    const allot_arena *arena;
    void *context;
};

static int visit_live(const allot_info *info, void *context)
{
    const struct live_walk *walk = context;
    return info->state == ALLOT_STATE_LIVE ? walk->visit(info->base, info->size_bytes, walk->arena, walk->context) : 0;
}

static int walk_arena(allot_arena *arena, unsigned depth, void *context)
{
    (void)depth;
    struct live_walk *walk = context;
    int result = 0;
    walk->arena = arena;
    for (struct segment *segment = arena->segments; segment != NULL && result == 0; segment = segment->next) {
        if (!arena_is_bump(arena)) {
            result = segment_walk(segment, visit_live, walk);
            continue;
        }
        size_t bytes = ptr_diff(bump_top(arena, segment), segment->begin);
        result = bytes == 0 ? 0 : walk->visit(segment->begin, bytes, arena, walk->context);
    }
    return result;
}

int arena_walk_live(int (*visit)(const void *begin, size_t bytes, const allot_arena *arena, void *context),
                    void *context)
{
    struct live_walk walk = {.visit = visit, .context = context};
    return arena_each(walk_arena, &walk);
}

/* What caches and cleanup functions are kept in. */
static bool owns_small_books(const allot_arena *arena, const char *p)
{
    for (const struct cache *cache = arena->caches; cache != NULL; cache = cache->next) {
        for (size_t i = 0; i <= CACHE_WORDS_MOST; i++) {
            if (p == (const char *)cache->bins[i].blocks) {
                return true;
            }
        }
    }
    for (const struct cleanup *cleanup = arena->cleanups; cleanup != NULL; cleanup = cleanup->next) {
        if (p == (const char *)cleanup) {
            return true;
        }
    }
    return false;
}

static int owns_memory(allot_arena *arena, unsigned depth, void *context)
{
    (void)depth;
    const char *p = context;
    if (ptr_diff(p, arena) < sizeof *arena || owns_small_books(arena, p)) {
        return 1;
    }
    for (struct segment *segment = arena->segments; segment != NULL; segment = segment->next) {
        if (p == (char *)segment || ptr_diff(p, segment->memory) < segment->memory_bytes ||
            (!arena_is_bump(arena) && ptr_diff(p, segment->books) < segment->books_bytes)) {
            return 1;
        }
    }
    return 0;
}

const void *arena_statics(size_t *bytes)
{
    *bytes = sizeof arenas;
    return &arenas;
}

bool arena_owns_memory(const void *p)
{
    return arena_each(owns_memory, (void *)(uintptr_t)p) != 0;
}

/* ---- fork ---------------------------------------------------------------------------------------------------- */

static int hold(allot_arena *arena, unsigned depth, void *context)
{
    (void)depth, (void)context;
    arena->fork_held = (arena->flags & ALLOT_ARENA_UNSYNCHRONIZED) == 0 && lock_take(&arena->lock) == 0;
    return 0;
}

static int unhold(allot_arena *arena, unsigned depth, void *context)
{
    (void)depth;
    const bool *in_child = context;
    if (*in_child) {
        /* A growth that another thread had under way never ends here. */
        arena->grower = arena->grower == lock_self() ? arena->grower : 0;
        cache_after_fork(arena);
    }
    if (arena->fork_held) {
        arena->fork_held = false;
        lock_give(&arena->lock);
    }
    return 0;
}

/* A handler that interrupted the holder of a lock and forks leaves that as it is: the child's thread is the same. */
static void before_fork(void)
{
    arenas.fork_held = arenas_lock() == 0;
    arena_each(hold, NULL);
}

static void after_fork(bool in_child)
{
    arena_each(unhold, &in_child);
    if (arenas.fork_held) {
        arenas.fork_held = false;
        arenas_unlock();
    }
}

static void after_fork_parent(void)
{
    after_fork(false);
}

static void after_fork_child(void)
{
    after_fork(true);
}

void arena_start(void)
{
    heap_set_thread_exit(arena_thread_exit);
    os_fork_around(before_fork, after_fork_parent, after_fork_child);
}

/* ---- for who looks from outside ------------------------------------------------------------------------------ */

const struct allot_root_arena arena_root = {
    .bytes = sizeof arena_root,
    .arena_bytes = offsetof(struct allot_arena, first),
    .segment_bytes = SEGMENT_BUMP_BYTES,
    .word_shift = WORD_SHIFT,
    .life = ARENA_LIVES,
    .kind_general = ALLOT_ARENA_GENERAL,
    .roots = &arenas.roots,
    .arena_life = ROOT_FIELD(struct allot_arena, life),
    .arena_serial = ROOT_FIELD(struct allot_arena, serial),
    .arena_kind = ROOT_FIELD(struct allot_arena, kind),
    .arena_children = ROOT_FIELD(struct allot_arena, children),
    .arena_sibling = ROOT_FIELD(struct allot_arena, sibling),
    .arena_segments = ROOT_FIELD(struct allot_arena, segments),
    .arena_current = ROOT_FIELD(struct allot_arena, bump.segment),
    .arena_head = ROOT_FIELD(struct allot_arena, head),
    .arena_hidden = ROOT_FIELD(struct allot_arena, hidden),
    .arena_size = ROOT_FIELD(struct allot_arena, size_bytes),
    .arena_capacity = ROOT_FIELD(struct allot_arena, capacity_words),
    .arena_free = ROOT_FIELD(struct allot_arena, free_words),
    .arena_total = ROOT_FIELD(struct allot_arena, total_bytes),
    .arena_soft_limit = ROOT_FIELD(struct allot_arena, soft_limit),
    .arena_hard_limit = ROOT_FIELD(struct allot_arena, hard_limit),
    .arena_sealed = ROOT_FIELD(struct allot_arena, sealed),
    .arena_file = ROOT_FIELD(struct allot_arena, file),
    .arena_line = ROOT_FIELD(struct allot_arena, line),
    .arena_name = ROOT_FIELD(struct allot_arena, name),
    .segment_next = ROOT_FIELD(struct segment, next),
    .segment_words = ROOT_FIELD(struct segment, words),
};
