/* SPDX-License-Identifier: MIT */
/* roots.c - everything that a pointer can lie in.
 *
 * All private memory that was written to is looked through, whoever mapped it: modules' data, thread-local storage,
 * stacks, the heap, arenas, and what the program mapped itself. Left out are the room's own books, the map's and
 * those of call stacks (a word of them may be any number), and of
 * stacks what lies below the stack pointer. Memory that libc gave a thread for its stack is known by what it looks
 * like: below it lies memory that can't be touched, and at its upper end the thread's own structure. A stack that the
 * program made itself is looked through whole.
 *
 * Nothing here allocates, and of libc nothing is called but system calls.
 */
#include "arena/arena.h"
#include "gc/gc_internal.h"
#include "heap/heap.h"
#include "map/map.h"
#include "pool/pool.h"
#include "span/span.h"
#include "stack/stack.h"

#include <errno.h>

/* libc's structure of a thread and static thread-local storage lie within so much of the upper end of its stack. */
#define SELF_BYTES MIB
/* The clock is looked at after so much. */
#define STRIDE_BYTES (16 * MIB)

/* ---- one range ---------------------------------------------------------------------------------------------- */

static void scan(struct roots *roots, uintptr_t begin, uintptr_t end)
{
    begin = round_up(begin, sizeof(uintptr_t));
    end = round_down(end, sizeof(uintptr_t));
    while (begin < end && !roots->enough) {
        size_t bytes = size_min(end - begin, STRIDE_BYTES);
        roots->enough = !roots->scan(roots, (const uintptr_t *)begin, (const uintptr_t *)(begin + bytes));
        begin += bytes;
        roots->bytes += bytes;
        if (bytes == STRIDE_BYTES && os_now_ns() > roots->deadline_ns) {
            roots->late = true;
            roots->enough = true;
        }
    }
}

struct part {
    struct roots *roots;
    uintptr_t begin;
    uintptr_t end;
};

static void scan_pages(uintptr_t begin, uintptr_t end, void *context)
{
    struct part *part = context;
    scan(part->roots, size_max(begin, part->begin), size_min(end, part->end));
}

void roots_scan_written(struct roots *roots, uintptr_t begin, uintptr_t end)
{
    struct part part = {roots, begin, end};
    if (begin < end && !roots->enough) {
        os_pages_written(roots->pages, begin, end, scan_pages, &part);
    }
}

void roots_scan_readable(struct roots *roots, uintptr_t begin, uintptr_t end)
{
    size_t page = os_page_bytes();
    while (begin < end && !roots->enough) {
        uintptr_t next = size_min(round_down(begin, page) + page, end);
        if (os_readable((const void *)begin)) {
            scan(roots, begin, next);
        }
        begin = next;
    }
}

bool roots_counts(const void *address)
{
    allot_info in_arena = ALLOT_INFO_INIT;
    if (arena_query(address, &in_arena)) {
        return in_arena.state == ALLOT_STATE_LIVE;
    }
    if (map_tag_acquire(address) == 0 && !pool_owns(address)) {
        return true;
    }
    struct heap_answer answer;
    heap_query(address, &answer);
    return answer.base != NULL && answer.live;
}

/* ---- what is left out --------------------------------------------------------------------------------------- */

static int leave_out(void *begin, size_t bytes, void *context)
{
    struct ranges *out = context;
    if (out->n < RANGES_MOST && bytes > 0) {
        out->ranges[out->n++] = (struct root){(uintptr_t)begin, (uintptr_t)begin + bytes};
    }
    return 0;
}

static int leave_out_area(void *begin, size_t n_granules, void *context)
{
    return leave_out(begin, n_granules << GRANULE_SHIFT, context);
}

static int leave_out_own(struct span *span, void *context)
{
    return leave_out(span->begin, span_bytes(span), context);
}

/* By their begins; few, and mostly in order. */
static void sort(struct ranges *out)
{
    for (size_t i = 1; i < out->n; i++) {
        struct root range = out->ranges[i];
        size_t at = i;
        for (; at > 0 && out->ranges[at - 1].begin > range.begin; at--) {
            out->ranges[at] = out->ranges[at - 1];
        }
        out->ranges[at] = range;
    }
}

static void gather_left_out(struct roots *roots)
{
    struct gc *gc = roots->gc;
    struct ranges *out = gc->left_out;
    out->n = 0;
    for (size_t i = 0; i < gc->books.n_ranges; i++) {
        leave_out((void *)gc->books.ranges[i].begin, gc->books.ranges[i].end - gc->books.ranges[i].begin, out);
    }
    for (size_t i = 0; i < gc->n_regions; i++) {
        leave_out((void *)gc->regions[i].begin, gc->regions[i].end - gc->regions[i].begin, out);
    }
    map_each_books(leave_out, out);
    stack_each_books(leave_out, out);
    if (roots->leave_heap) {
        size_t bytes;
        const void *statics = arena_statics(&bytes);
        leave_out((void *)(uintptr_t)statics, bytes, out);
        void *table = map_range_statics(&bytes);
        leave_out(table, bytes, out);
        span_each_area(leave_out_area, out);
        span_each_own(leave_out_own, out);
        pool_each_range(&pool_of_heap, leave_out, out);
        pool_each_range(&pool_public, leave_out, out);
    }
    sort(out);
}

/* ---- private memory ----------------------------------------------------------------------------------------- */

/* Whether the mapping is a stack that libc, or the kernel, gave the thread that stands there. */
static bool is_stack_of(const struct os_memory *mapping, const struct os_standing *thread)
{
    return mapping->first_stack || (mapping->guarded && thread->self > thread->stack && thread->self < mapping->end &&
                                    mapping->end - thread->self <= SELF_BYTES);
}

/* Where to begin: above what lies below all stack pointers in the mapping, if it is a stack. */
static uintptr_t begin_of(const struct roots *roots, const struct os_memory *mapping)
{
    struct os_standing own = {.stack = roots->stack, .self = os_thread_self()};
    uintptr_t lowest = mapping->end;
    bool is_stack = false;
    for (size_t i = 0; i <= roots->n_threads; i++) {
        const struct os_standing *thread = i == 0 ? &own : os_standing(i - 1);
        if (thread != NULL && thread->stack >= mapping->begin && thread->stack < mapping->end) {
            lowest = size_min(lowest, thread->stack);
            is_stack |= is_stack_of(mapping, thread);
        }
    }
    if (is_stack) {
        return lowest;
    }
    uintptr_t left = mapping->guarded && lowest == mapping->end ? os_stack_left(mapping->begin, mapping->end) : 0;
    return left != 0 ? left : mapping->begin;
}

/* Shared memory counts where it is an arena's. What can't be written to now was written before, where its pages say so.
 */
static bool counts(const struct roots *roots, const struct os_memory *mapping)
{
    allot_info in_arena = ALLOT_INFO_INIT;
    return mapping->shared ? arena_query((const void *)mapping->begin, &in_arena)
                           : mapping->writable || roots->pages >= 0;
}

static bool scan_mapping(const struct os_memory *mapping, void *context)
{
    struct roots *roots = context;
    const struct ranges *out = roots->gc->left_out;
    if (!counts(roots, mapping)) {
        return true;
    }
    if (mapping->shared) {
        roots_scan_readable(roots, mapping->begin, mapping->end);
        return !roots->enough;
    }
    uintptr_t begin = begin_of(roots, mapping);
    for (size_t i = 0; i < out->n && begin < mapping->end; i++) {
        if (out->ranges[i].end <= begin) {
            continue;
        }
        if (out->ranges[i].begin >= mapping->end) {
            break;
        }
        roots_scan_written(roots, begin, out->ranges[i].begin);
        begin = out->ranges[i].end;
    }
    roots_scan_written(roots, begin, mapping->end);
    return !roots->enough;
}

static void scan_registers(struct roots *roots)
{
    for (size_t i = 0; i < roots->n_threads; i++) {
        const struct os_standing *thread = os_standing(i);
        for (int j = 0; thread != NULL && j < 2; j++) {
            uintptr_t begin = (uintptr_t)thread->ranges[j];
            scan(roots, begin, begin + thread->words[j] * sizeof(uintptr_t));
        }
    }
}

int roots_scan(struct roots *roots)
{
    struct gc *gc = roots->gc;
    roots->pages = os_pages_open();
    gather_left_out(roots);
    scan_registers(roots);
    uintptr_t skip_begin = gc->n_regions == 0 ? 0 : gc->regions[0].begin;
    uintptr_t skip_end = gc->n_regions == 0 ? 0 : gc->regions[0].end;
    int result = os_memory_each(skip_begin, skip_end, scan_mapping, roots);
    for (size_t i = 0; i < gc->n_roots && result == 0; i++) {
        roots_scan_readable(roots, gc->roots[i].begin, gc->roots[i].end);
    }
    os_pages_close(roots->pages);
    roots->pages = -1;
    return result;
}

/* ---- registered ranges -------------------------------------------------------------------------------------- */

int allot_gc_add_root(const void *begin, size_t bytes)
{
    uintptr_t at = (uintptr_t)begin;
    if (begin == NULL || bytes > UINTPTR_MAX - at) {
        return EINVAL;
    }
    struct gc *gc = gc_start();
    if (gc == NULL) {
        return ENOMEM;
    }
    os_lock(&gc->lock);
    bool room = gc->n_roots < ROOTS_MOST;
    if (room) {
        gc->roots[gc->n_roots++] = (struct root){at, at + bytes};
    }
    os_unlock(&gc->lock);
    return room ? 0 : ENOMEM;
}

int allot_gc_remove_root(const void *begin, size_t bytes)
{
    struct gc *gc = gc_now();
    int error = EINVAL;
    if (gc == NULL) {
        return error;
    }
    os_lock(&gc->lock);
    for (size_t i = 0; i < gc->n_roots && error != 0; i++) {
        if (gc->roots[i].begin == (uintptr_t)begin && gc->roots[i].end - gc->roots[i].begin == bytes) {
            gc->roots[i] = gc->roots[--gc->n_roots];
            error = 0;
        }
    }
    os_unlock(&gc->lock);
    return error;
}
