/* SPDX-License-Identifier: MIT */
/* leak.c - blocks, arenas and mappings that nothing points to.
 *
 * Nodes are the live blocks of the heap and its pools, the mappings, and the arenas: an arena's blocks are its
 * contents, and a pointer to any of them, or to the arena itself, keeps it. Four steps, while the other threads stand
 * still:
 *
 *     reached    from the roots, by pointers to a node's first byte
 *     possible   from the roots or a reached node by a pointer into a node's middle alone, and what such nodes point to
 *     lost       what is left: a node that no other lost one leads to is definitely lost,
 *     indirect   those that it leads to are indirectly; of a ring, one is definitely lost
 *
 * A table holds each node's address, with its state in the lowest four bits; nodes whose contents are still to be
 * looked through are on a stack. Both are mapped for one search.
 */
#include "arena/arena.h"
#include "config/config.h"
#include "gc/gc_internal.h"
#include "heap/heap.h"
#include "map/map.h"
#include "pool/pool.h"

#include <errno.h>

enum { UNSEEN, REACHED, POSSIBLE, INDIRECT, DEFINITE, TOUCHED, STATES = 7, LOOKED_THROUGH = 8, STATE_BITS = 15 };

/* Which words count for what; see found. */
enum step { STEP_REACH, STEP_POSSIBLE, STEP_LOST };

struct leak_search {
    struct gc *gc;
    struct roots roots;
    enum step step;
    uintptr_t begin; /* of all nodes */
    uintptr_t span;
    uintptr_t *table;
    size_t mask;
    size_t n_nodes;
    uintptr_t **stack; /* slots of the table */
    size_t n_stack;
    uintptr_t *leader; /* STEP_LOST: the node whose lost ones are being found */
    bool arenas_wait;  /* one was marked whose blocks are still to be looked through */
    size_t table_bytes;
    size_t stack_bytes;
};

/* ---- the table ---------------------------------------------------------------------------------------------- */

static size_t hash(uintptr_t begin)
{
    return (size_t)((begin >> 4) * 0x9e3779b97f4a7c15u >> 20);
}

static uintptr_t *slot_find(const struct leak_search *search, uintptr_t begin)
{
    for (size_t i = hash(begin);; i++) {
        uintptr_t *slot = &search->table[i & search->mask];
        if (*slot == 0) {
            return NULL;
        }
        if ((*slot & ~(uintptr_t)STATE_BITS) == begin) {
            return slot;
        }
    }
}

static void slot_add(struct leak_search *search, uintptr_t begin)
{
    size_t i = hash(begin);
    while (search->table[i & search->mask] != 0) {
        if ((search->table[i & search->mask] & ~(uintptr_t)STATE_BITS) == begin) {
            return;
        }
        i++;
    }
    search->table[i & search->mask] = begin;
}

static unsigned state_of(const uintptr_t *slot)
{
    return (unsigned)*slot & STATES;
}

static void set_state(uintptr_t *slot, unsigned state)
{
    *slot = (*slot & ~(uintptr_t)STATES) | state;
}

static uintptr_t node_of(const uintptr_t *slot)
{
    return *slot & ~(uintptr_t)STATE_BITS;
}

/* ---- all nodes ---------------------------------------------------------------------------------------------- */

typedef void (*node_fn)(struct leak_search *search, uintptr_t begin, size_t bytes);

struct node_walk {
    struct leak_search *search;
    node_fn visit;
};

/* An arena's memory may begin behind the beginning of the block that it is from. */
static bool is_arenas(const struct heap_answer *block)
{
    return arena_owns_memory(block->base) || arena_owns_memory((const char *)block->base + block->bytes / 2);
}

static int walk_block(const struct heap_answer *answer, void *context)
{
    struct node_walk *walk = context;
    if (answer->live && !is_arenas(answer)) {
        walk->visit(walk->search, (uintptr_t)answer->base, answer->bytes);
    }
    return 0;
}

static int walk_pooled(const struct pool_block *block, void *context)
{
    struct node_walk *walk = context;
    if (block->live) {
        walk->visit(walk->search, (uintptr_t)block->base, block->bytes);
    }
    return 0;
}

static int walk_arena(allot_arena *arena, unsigned depth, void *context)
{
    struct node_walk *walk = context;
    (void)depth;
    walk->visit(walk->search, (uintptr_t)arena, 16);
    return 0;
}

static void each_node(struct leak_search *search, node_fn visit)
{
    struct gc *gc = search->gc;
    struct node_walk walk = {search, visit};
    heap_walk(walk_block, &walk);
    pool_walk(&pool_public, walk_pooled, &walk);
    arena_each(walk_arena, &walk);
    for (size_t i = 0; i < gc->n_order; i++) {
        struct mapping *mapping = load_relaxed(&gc->order[i]->mapping);
        if (load_relaxed(&gc->order[i]->state) == PIECE_LIVE && !mapping->ending) {
            visit(search, mapping->begin, mapping->length);
        }
    }
}

static void widen(struct leak_search *search, uintptr_t begin, uintptr_t end)
{
    uintptr_t old_end = search->begin + search->span;
    if (search->span == 0 || begin < search->begin) {
        search->begin = begin;
    }
    search->span = size_max(old_end, end) - search->begin;
}

static void count_node(struct leak_search *search, uintptr_t begin, size_t bytes)
{
    search->n_nodes++;
    widen(search, begin, begin + bytes);
}

static int widen_by_arena(const void *begin, size_t bytes, const allot_arena *arena, void *search)
{
    (void)arena;
    widen(search, (uintptr_t)begin, (uintptr_t)begin + bytes);
    return 0;
}

static void add_node(struct leak_search *search, uintptr_t begin, size_t bytes)
{
    (void)bytes;
    slot_add(search, begin);
}

static bool make_table(struct leak_search *search)
{
    each_node(search, count_node);
    arena_walk_live(widen_by_arena, search);
    size_t n_slots = (size_t)4 << bit_highest(search->n_nodes | 1);
    search->table_bytes = n_slots * sizeof *search->table;
    search->stack_bytes = (search->n_nodes + 1) * sizeof *search->stack;
    search->table = books_map(search->table_bytes);
    search->stack = search->table == NULL ? NULL : books_map(search->stack_bytes);
    search->mask = n_slots - 1;
    if (search->stack == NULL) {
        return false;
    }
    each_node(search, add_node);
    return true;
}

static void drop_table(struct leak_search *search)
{
    if (search->table != NULL) {
        books_release(search->table, search->table_bytes);
    }
    if (search->stack != NULL) {
        books_release(search->stack, search->stack_bytes);
    }
}

/* ---- from a word to a node ---------------------------------------------------------------------------------- */

/* The node that the word points to; whether to its first byte. An arena has no middle. */
static uintptr_t *resolve(struct leak_search *search, uintptr_t word, bool *first)
{
    *first = true;
    if (range_has(search->gc, word)) {
        struct mapping *mapping = mapping_find(search->gc, word);
        *first = mapping != NULL && word == mapping->begin;
        return mapping == NULL ? NULL : slot_find(search, mapping->begin);
    }
    allot_info in_arena = ALLOT_INFO_INIT;
    if (arena_query((const void *)word, &in_arena)) {
        return slot_find(search, (uintptr_t)allot_arena_find((const void *)word));
    }
    struct heap_answer answer;
    heap_query((const void *)word, &answer);
    if (answer.base == NULL || !answer.live) {
        return word % 16 == 0 ? slot_find(search, word) : NULL; /* an arena whose books lie elsewhere */
    }
    if (is_arenas(&answer)) {
        return word % 16 == 0 ? slot_find(search, word) : NULL;
    }
    *first = word == (uintptr_t)answer.base;
    return slot_find(search, (uintptr_t)answer.base);
}

static void mark(struct leak_search *search, uintptr_t *slot, unsigned state)
{
    set_state(slot, state);
    search->stack[search->n_stack++] = slot;
}

static NOINLINE void found(struct leak_search *search, uintptr_t word)
{
    bool first;
    uintptr_t *slot = resolve(search, word, &first);
    if (slot == NULL) {
        return;
    }
    unsigned state = state_of(slot);
    switch (search->step) {
    case STEP_REACH:
        if (first && (state == UNSEEN || state == TOUCHED)) {
            mark(search, slot, REACHED);
        } else if (state == UNSEEN) {
            set_state(slot, TOUCHED);
        }
        break;
    case STEP_POSSIBLE:
        if (state == UNSEEN) {
            mark(search, slot, POSSIBLE);
        }
        break;
    case STEP_LOST:
        if (state == UNSEEN) {
            mark(search, slot, INDIRECT);
        } else if (state == DEFINITE && slot != search->leader) {
            set_state(slot, INDIRECT);
        }
        break;
    }
}

__attribute__((no_sanitize("address", "thread"))) static void scan_words(struct leak_search *search,
                                                                         const uintptr_t *word, const uintptr_t *end)
{
    for (; word < end; word++) {
        if (*word - search->begin < search->span) {
            found(search, *word);
        }
    }
}

/* What lies in an arena is the arena's, wherever its memory comes from. */
__attribute__((no_sanitize("address", "thread"))) static bool scan_root(struct roots *roots, const uintptr_t *word,
                                                                        const uintptr_t *end)
{
    struct leak_search *search = roots->context;
    allot_info in_arena = ALLOT_INFO_INIT;
    for (; word < end; word++) {
        if (*word - search->begin < search->span && !arena_query(word, &in_arena)) {
            found(search, *word);
        }
    }
    return true;
}

static bool scan_node_words(struct roots *roots, const uintptr_t *word, const uintptr_t *end)
{
    scan_words(roots->context, word, end);
    return true;
}

/* ---- what nodes point to ------------------------------------------------------------------------------------ */

/* From here on, only pages that were written to are touched. */
#define LARGE_BYTES (256 * KIB)

static void scan_node(struct leak_search *search, uintptr_t *slot)
{
    uintptr_t begin = node_of(slot);
    struct heap_answer answer;
    if (range_has(search->gc, begin)) {
        struct mapping *mapping = mapping_find(search->gc, begin);
        bool scans = mapping != NULL && (mapping->flags & ALLOT_GCMAP_SCAN) != 0;
        for (struct piece *piece = scans ? mapping->first : NULL; piece != NULL; piece = piece->next_of_mapping) {
            if (load_relaxed(&piece->state) == PIECE_LIVE) {
                uintptr_t at = load_relaxed(&piece->begin);
                (mapping->is_private ? roots_scan_written : roots_scan_readable)(&search->roots, at,
                                                                                 at + load_relaxed(&piece->bytes));
            }
        }
        return;
    }
    heap_query((const void *)begin, &answer);
    if ((uintptr_t)answer.base != begin || !answer.live || is_arenas(&answer)) {
        search->arenas_wait = true;
    } else if (answer.bytes >= LARGE_BYTES) {
        roots_scan_written(&search->roots, begin, begin + answer.bytes);
    } else {
        scan_words(search, (const uintptr_t *)begin, (const uintptr_t *)(begin + answer.bytes));
    }
}

/* Blocks of arenas that were marked. */
static int scan_arena_block(const void *begin, size_t bytes, const allot_arena *arena, void *context)
{
    struct leak_search *search = context;
    uintptr_t *slot = slot_find(search, (uintptr_t)arena);
    if (slot != NULL && state_of(slot) != UNSEEN && state_of(slot) != TOUCHED && (*slot & LOOKED_THROUGH) == 0) {
        roots_scan_readable(&search->roots, (uintptr_t)begin, (uintptr_t)begin + round_down(bytes, sizeof(uintptr_t)));
    }
    return 0;
}

static int note_arena_looked_through(allot_arena *arena, unsigned depth, void *context)
{
    uintptr_t *slot = slot_find(context, (uintptr_t)arena);
    (void)depth;
    if (slot != NULL && state_of(slot) != UNSEEN && state_of(slot) != TOUCHED) {
        *slot |= LOOKED_THROUGH;
    }
    return 0;
}

/* Everything that is marked passes its mark on. */
static void pass_on(struct leak_search *search)
{
    do {
        search->arenas_wait = false;
        while (search->n_stack > 0 && !search->roots.enough) {
            scan_node(search, search->stack[--search->n_stack]);
        }
        if (search->arenas_wait) {
            arena_walk_live(scan_arena_block, search);
            arena_each(note_arena_looked_through, search);
        }
    } while (search->n_stack > 0 && !search->roots.enough);
}

/* An arena that is marked keeps the arenas made in it. */
struct keep {
    struct leak_search *search;
    unsigned marked_depth; /* of the marked arena whose descendants come now; UINT_MAX: none */
    unsigned state;
};

static int keep_child(allot_arena *arena, unsigned depth, void *context)
{
    struct keep *keep = context;
    uintptr_t *slot = slot_find(keep->search, (uintptr_t)arena);
    if (depth <= keep->marked_depth) {
        keep->marked_depth = UINT32_MAX;
    }
    if (slot == NULL) {
        return 0;
    }
    if (keep->marked_depth != UINT32_MAX && (state_of(slot) == UNSEEN || state_of(slot) == TOUCHED)) {
        mark(keep->search, slot, keep->state);
    }
    if (keep->marked_depth == UINT32_MAX && state_of(slot) == keep->state) {
        keep->marked_depth = depth;
    }
    return 0;
}

static void close_over(struct leak_search *search, unsigned state)
{
    do {
        pass_on(search);
        struct keep keep = {search, UINT32_MAX, state};
        arena_each(keep_child, &keep);
    } while (search->n_stack > 0 && !search->roots.enough);
}

static void find_possible(struct leak_search *search)
{
    search->step = STEP_POSSIBLE;
    for (size_t i = 0; i <= search->mask; i++) {
        if (search->table[i] != 0 && state_of(&search->table[i]) == TOUCHED) {
            mark(search, &search->table[i], POSSIBLE);
        }
    }
    close_over(search, POSSIBLE);
}

static void find_lost(struct leak_search *search)
{
    search->step = STEP_LOST;
    for (size_t i = 0; i <= search->mask; i++) {
        uintptr_t *slot = &search->table[i];
        if (*slot != 0 && state_of(slot) == UNSEEN) {
            search->leader = slot;
            mark(search, slot, DEFINITE);
            close_over(search, INDIRECT);
        }
    }
}

/* ---- what was found ----------------------------------------------------------------------------------------- */

struct leak_list {
    struct gc_leak *leaks;
    size_t n;
    size_t bytes; /* of the list itself */
};

static int add_arena_bytes(const void *begin, size_t bytes, const allot_arena *arena, void *context)
{
    struct gc_leak *leak = context;
    (void)begin;
    leak->bytes += (const void *)arena == leak->begin ? bytes : 0;
    return 0;
}

static enum gc_leak_kind kind_of(unsigned state)
{
    return state == REACHED    ? GC_LEAK_REACHABLE
           : state == POSSIBLE ? GC_LEAK_POSSIBLE
           : state == INDIRECT ? GC_LEAK_INDIRECT
                               : GC_LEAK_DEFINITE;
}

__attribute__((no_sanitize("address", "thread"))) static struct gc_leak describe(struct leak_search *search,
                                                                                 const uintptr_t *slot)
{
    struct gc_leak leak = {.begin = (const void *)node_of(slot), .kind = kind_of(state_of(slot))};
    struct heap_answer answer;
    if (range_has(search->gc, node_of(slot))) {
        struct mapping *mapping = mapping_find(search->gc, node_of(slot));
        leak.room = ALLOT_ROOM_GCMAP;
        leak.bytes = mapping == NULL ? 0 : mapping->length;
        return leak;
    }
    heap_query(leak.begin, &answer);
    if (answer.base != leak.begin || !answer.live || is_arenas(&answer)) {
        leak.room = ALLOT_ROOM_ARENA;
        arena_walk_live(add_arena_bytes, &leak);
        return leak;
    }
    leak.room = answer.pool ? ALLOT_ROOM_POOL : ALLOT_ROOM_HEAP;
    leak.bytes = answer.bytes;
    leak.words[0] = ((const uintptr_t *)leak.begin)[0];
    leak.words[1] = ((const uintptr_t *)leak.begin)[1];
    return leak;
}

static bool list(struct leak_search *search, bool with_reachable, struct leak_list *out)
{
    size_t n = 0;
    for (size_t i = 0; i <= search->mask; i++) {
        n += search->table[i] != 0 && (with_reachable || state_of(&search->table[i]) != REACHED);
    }
    out->bytes = (n + 1) * sizeof *out->leaks;
    out->leaks = books_map(out->bytes);
    for (size_t i = 0; i <= search->mask && out->leaks != NULL; i++) {
        if (search->table[i] != 0 && (with_reachable || state_of(&search->table[i]) != REACHED)) {
            out->leaks[out->n++] = describe(search, &search->table[i]);
        }
    }
    return out->leaks != NULL;
}

static int search_stopped(struct leak_search *search, bool with_reachable, struct leak_list *out, const char **why)
{
    if (!make_table(search)) {
        *why = "the system refuses memory for the search";
        return ENOMEM;
    }
    int error = -roots_scan(&search->roots);
    search->roots.pages = os_pages_open();
    search->roots.scan = scan_node_words;
    close_over(search, REACHED);
    find_possible(search);
    find_lost(search);
    os_pages_close(search->roots.pages);
    if (error != 0) {
        *why = "the memory of the process can't be listed here";
    } else if (search->roots.late) {
        *why = "the limit on the pause was passed";
        error = ETIMEDOUT;
    } else if (!list(search, with_reachable, out)) {
        *why = "the system refuses memory for what was found";
        error = ENOMEM;
    }
    return error;
}

static int find(struct gc *gc, uintptr_t stack, bool with_reachable, struct leak_list *out, struct gc_leaks_told *told)
{
    unsigned pause_ms = (unsigned)option(OPT_gc_pause);
    uint64_t begin = os_now_ns();
    struct os_stop stop;
    struct leak_search search = {.gc = gc};
    search.roots = (struct roots){.gc = gc,
                                  .pages = -1,
                                  .leave_heap = true,
                                  .scan = scan_root,
                                  .context = &search,
                                  .stack = stack,
                                  .deadline_ns = begin + (uint64_t)pause_ms * 1000000};
    if (gc->left_out == NULL && (gc->left_out = books_map(sizeof *gc->left_out)) == NULL) {
        told->why = "the system refuses memory for the search";
        return ENOMEM;
    }
    if (!os_threads_stop((int)option(OPT_gc_signal), pause_ms, /* pass_over */ true, &stop)) {
        told->thread = stop.thread;
        return stop_fault_error(&stop, &told->why);
    }
    search.roots.n_threads = stop.n;
    int error = search_stopped(&search, with_reachable, out, &told->why);
    os_threads_go();
    told->pause_ns = os_now_ns() - begin;
    told->n_passed = stop.n_passed;
    drop_table(&search);
    return error;
}

int gc_leaks(uintptr_t stack, bool with_reachable, gc_leak_fn visit, void *context, struct gc_leaks_told *told)
{
    struct gc *gc = gc_start();
    struct leak_list found_list = {0};
    *told = (struct gc_leaks_told){.why = ""};
    if (gc == NULL) {
        told->why = "the system refuses memory for the search";
        return ENOMEM;
    }
    os_lock(&gc->lock);
    suppress_read_files(gc); /* for who visits */
    int error = find(gc, stack, with_reachable, &found_list, told);
    os_unlock(&gc->lock);
    for (size_t i = 0; i < found_list.n; i++) {
        visit(&found_list.leaks[i], context);
    }
    if (found_list.leaks != NULL) {
        os_lock(&gc->lock);
        books_release(found_list.leaks, found_list.bytes);
        os_unlock(&gc->lock);
    }
    return error;
}
