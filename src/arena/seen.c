/* SPDX-License-Identifier: MIT */
/* seen.c - what arenas say to somebody who only looks.
 *
 * An arena's own lock is not taken: of one that isn't synchronized that would be misuse, and who looks makes nobody
 * wait that works. So its structure is copied while it may change. The tree's lock keeps it from ending; its segments
 * may go, but their memory is the heap's, and can be read.
 */
#include "arena/arena_internal.h"

#include <string.h>

#define SEGMENTS_MOST 4096

union copy {
    struct allot_arena arena;
    uint64_t words[sizeof(struct allot_arena) / sizeof(uint64_t)];
};

/* A race by design, as in heap/spans.c. The first segment's own structure isn't always there, and isn't copied. */
__attribute__((noinline, no_sanitize("thread"))) static void arena_copy(const volatile void *arena, union copy *copy)
{
    const volatile uint64_t *words = arena;
    for (size_t i = 0; i < offsetof(struct allot_arena, first) / sizeof(uint64_t); i++) {
        copy->words[i] = words[i];
    }
}

__attribute__((noinline, no_sanitize("thread"))) static void segment_copy(const volatile struct segment *segment,
                                                                          struct segment **next, size_t *words)
{
    *next = segment->next;
    *words = segment->words;
}

/* Of a bump arena: behind where the next block is cut, and in the segments after that one. */
static size_t bump_free_near(const struct allot_arena *arena)
{
    bool is_hidden = (arena->flags & ALLOT_ARENA_UNSYNCHRONIZED) == 0 || arena->watched;
    const allot_arena_head *head = is_hidden ? &arena->hidden : &arena->head;
    struct segment *segment = arena->bump.segment;
    size_t sum = segment != NULL && head->end >= head->next ? ptr_diff(head->end, head->next) : 0;
    size_t words = 0;
    if (segment != NULL) {
        segment_copy(segment, &segment, &words);
    } else {
        segment = arena->segments;
    }
    for (unsigned i = 0; segment != NULL && i < SEGMENTS_MOST; i++) {
        segment_copy(segment, &segment, &words);
        sum += words << WORD_SHIFT;
    }
    return sum;
}

static size_t count_segments(const struct allot_arena *arena)
{
    size_t words;
    size_t n = 0;
    for (struct segment *segment = arena->segments; segment != NULL && n < SEGMENTS_MOST; n++) {
        segment_copy(segment, &segment, &words);
    }
    return n;
}

struct seeing {
    size_t first;
    size_t n;
    struct arena_seen *out;
    size_t most;
};

static int see(allot_arena *arena, unsigned depth, void *context)
{
    struct seeing *seeing = context;
    size_t i = seeing->n++;
    if (i < seeing->first || i - seeing->first >= seeing->most) {
        return 0;
    }
    struct arena_seen *seen = &seeing->out[i - seeing->first];
    union copy copy;
    arena_copy(arena, &copy);
    size_t capacity = copy.arena.capacity_words << WORD_SHIFT;
    size_t free_bytes = arena_is_bump(&copy.arena) ? bump_free_near(&copy.arena) : copy.arena.free_words << WORD_SHIFT;
    *seen = (struct arena_seen){
        .depth = depth,
        .serial = copy.arena.serial,
        .kind = copy.arena.kind,
        .size_bytes = copy.arena.size_bytes,
        .live_bytes = capacity - size_min(free_bytes, capacity),
        .total_bytes = load_relaxed(&copy.arena.total_bytes),
        .soft_limit = load_relaxed(&copy.arena.soft_limit),
        .hard_limit = load_relaxed(&copy.arena.hard_limit),
        .n_segments = count_segments(&copy.arena),
        .sealed = copy.arena.sealed,
        .file = copy.arena.file,
        .line = copy.arena.line,
    };
    memcpy(seen->name, copy.arena.name, sizeof seen->name);
    seen->name[sizeof seen->name - 1] = '\0';
    return 0;
}

size_t arena_look(size_t first, struct arena_seen *out, size_t most)
{
    struct seeing seeing = {.first = first, .out = out, .most = most};
    if (arenas_lock() != 0) {
        return 0;
    }
    arena_each(see, &seeing);
    arenas_unlock();
    return seeing.n;
}
