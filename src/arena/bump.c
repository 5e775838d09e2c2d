/* SPDX-License-Identifier: MIT */
/* bump.c - blocks one behind the other, and back to a mark.
 *
 *     segments  | used     waste | used   | next -> .......... | unused | unused |
 *                                  current        head.next  end
 *
 * Segments are used in the order in which they came; a request that doesn't fit in what is left of the current one goes
 * to the next that has room. What was passed over is used again after a reset or a rewind.
 */
#include "arena/arena_internal.h"

#include <errno.h>
#include <string.h>

static char *end_of(const struct segment *segment)
{
    return segment->begin + (segment->words << WORD_SHIFT);
}

/* What lies below is in use. */
char *bump_top(const allot_arena *arena, const struct segment *segment)
{
    const allot_arena_head *head = bump_head((allot_arena *)(uintptr_t)arena);
    return segment == arena->bump.segment ? head->next : segment->top;
}

/* The next block is cut behind it. */
void bump_set_latest(allot_arena *arena, char *block, char *end)
{
    bump_head(arena)->next = end;
    arena->bump.latest = block;
    arena->bump.latest_end = end;
}

bool bump_is_latest(allot_arena *arena, const void *block)
{
    return block == arena->bump.latest && bump_head(arena)->next == arena->bump.latest_end;
}

/* The current segment is this one from now on. Those before it stay as they are. */
void bump_go_to(allot_arena *arena, struct segment *segment, char *next)
{
    allot_arena_head *head = bump_head(arena);
    if (arena->bump.segment != NULL) {
        arena->bump.segment->top = head->next;
    }
    arena->bump.segment = segment;
    arena->bump.latest = NULL;
    head->next = next;
    head->end = segment == NULL ? next : end_of(segment);
}

void bump_extended(allot_arena *arena, struct segment *segment)
{
    if (segment != NULL && segment == arena->bump.segment) {
        bump_head(arena)->end = end_of(segment);
    }
}

static void *cut(allot_arena *arena, const struct request *request)
{
    allot_arena_head *head = bump_head(arena);
    if (head->next == NULL) {
        return NULL;
    }
    size_t skip = round_up((uintptr_t)head->next, request->align_bytes) - (uintptr_t)head->next;
    size_t room = ptr_diff(head->end, head->next);
    if (skip > room || request->words << WORD_SHIFT > room - skip) {
        return NULL;
    }
    char *block = head->next + skip;
    bump_set_latest(arena, block, block + (request->words << WORD_SHIFT));
    return block;
}

/* The current segment is full: one of those behind it. */
static void *cut_behind(allot_arena *arena, const struct request *request)
{
    struct segment *segment = arena->bump.segment;
    segment = segment == NULL ? arena->segments : segment->next;
    for (; segment != NULL; segment = segment->next) {
        size_t room = segment->words << WORD_SHIFT;
        size_t skip = round_up((uintptr_t)segment->begin, request->align_bytes) - (uintptr_t)segment->begin;
        if (skip <= room && request->words << WORD_SHIFT <= room - skip) {
            bump_go_to(arena, segment, segment->begin);
            return cut(arena, request);
        }
    }
    return NULL;
}

void *bump_take(allot_arena *arena, const struct request *request, int *error)
{
    for (;;) {
        void *block = cut(arena, request);
        if (block == NULL) {
            block = cut_behind(arena, request);
        }
        if (block != NULL) {
            return block;
        }
        *error = arena_grow(arena, request);
        if (*error != 0) {
            return NULL;
        }
    }
}

size_t bump_free_bytes(allot_arena *arena)
{
    const allot_arena_head *head = bump_head(arena);
    struct segment *segment = arena->bump.segment;
    size_t sum = segment == NULL ? 0 : ptr_diff(end_of(segment), head->next);
    for (segment = segment == NULL ? arena->segments : segment->next; segment != NULL; segment = segment->next) {
        sum += segment->words << WORD_SHIFT;
    }
    return sum;
}

/* All segments from this one on are unused from here on. */
static void forget_behind(allot_arena *arena, struct segment *segment, char *next)
{
    for (; segment != NULL; segment = segment->next) {
        char *top = bump_top(arena, segment);
        segment->reach = size_max(segment->reach, segment_word(segment, top));
        watch_memory(arena, next, ptr_diff(end_of(segment), next));
        segment->top = next;
        next = segment->next == NULL ? NULL : segment->next->begin;
    }
}

static void go_back(allot_arena *arena, struct segment *segment, char *next)
{
    forget_behind(arena, segment, next);
    arena->bump.segment = NULL;
    bump_go_to(arena, segment, next);
}

void bump_reset(allot_arena *arena)
{
    struct segment *first = arena->segments;
    if (first != NULL) {
        go_back(arena, first, first->begin);
    }
}

/* ---- marks --------------------------------------------------------------------------------------------------- */

/* reserved[]: next, segment, serial of all arenas, epoch and number */
int allot_arena_mark(allot_arena *arena, allot_mark *out)
{
    int error = arena_enter(arena, /* may be sealed */ true);
    if (error != 0) {
        return error;
    }
    if (!arena_is_bump(arena)) {
        error = ENOTSUP;
    } else {
        const allot_arena_head *head = bump_head(arena);
        *out = (allot_mark){{(uintptr_t)head->next, (uintptr_t)arena->bump.segment, arena_serial_now(),
                             arena->epoch << 32 | arena->number}};
        arena->latest_mark = arena->number++;
    }
    arena_leave(arena);
    return error;
}

/* Whether a segment comes before another one, or is it. */
static bool comes_first(const struct segment *segment, const struct segment *other)
{
    while (segment != NULL && segment != other) {
        segment = segment->next;
    }
    return segment == other;
}

static bool is_void(const allot_arena *arena, uint32_t number)
{
    for (size_t i = 0; i < VOID_MARKS; i++) {
        if (number > arena->void_marks[i].to && number < arena->void_marks[i].at) {
            return true;
        }
    }
    return false;
}

/* The newest first; the oldest is forgotten. What lies behind this mark is void as a whole now. */
static void make_void_behind(allot_arena *arena, uint32_t number)
{
    struct void_marks marks[VOID_MARKS] = {{number, arena->number}};
    size_t n = 1;
    if (arena->latest_mark <= number) {
        return;
    }
    for (size_t i = 0; i < VOID_MARKS && n < VOID_MARKS; i++) {
        if (arena->void_marks[i].to < number) {
            marks[n++] = arena->void_marks[i];
        }
    }
    memcpy(arena->void_marks, marks, sizeof marks);
}

static bool mark_is_valid(allot_arena *arena, const allot_mark *mark)
{
    const uint32_t number = (uint32_t)mark->reserved[3];
    char *next = (char *)(uintptr_t)mark->reserved[0];
    struct segment *segment = NULL;
    if (mark->reserved[3] >> 32 != (uint32_t)arena->epoch || number >= arena->number || is_void(arena, number)) {
        return false;
    }
    if (mark->reserved[1] == 0) {
        return true; /* before the first block */
    }
    for (segment = arena->segments; segment != NULL && (uintptr_t)segment != mark->reserved[1];) {
        segment = segment->next;
    }
    return segment != NULL && comes_first(segment, arena->bump.segment) && next <= bump_top(arena, segment);
}

int allot_arena_rewind(allot_arena *arena, const allot_mark *mark)
{
    int error = arena_enter(arena, false);
    if (error != 0) {
        return error;
    }
    bool is_bump = arena_is_bump(arena);
    bool is_valid = is_bump && mark_is_valid(arena, mark);
    arena_leave(arena);
    if (!is_valid) {
        return is_bump ? EINVAL : ENOTSUP;
    }
    uint32_t number = (uint32_t)mark->reserved[3];
    arena_end_children(arena, mark->reserved[2]);
    arena_run_cleanups(arena, number);
    error = arena_enter(arena, false);
    if (error != 0) {
        return error;
    }
    make_void_behind(arena, number);
    if (mark->reserved[1] == 0) {
        bump_reset(arena);
    } else {
        go_back(arena, (struct segment *)(uintptr_t)mark->reserved[1], (char *)(uintptr_t)mark->reserved[0]);
    }
    arena_leave(arena);
    return 0;
}
