/* SPDX-License-Identifier: MIT */
/* fill.c - bytes that tell: of new memory, of freed memory, and of what lies beyond a block.
 *
 *     | block as it was asked for | canary .................... |        a block of the heap
 *     | canary | block as it was asked for | canary | no access          between guard pages
 *
 * The beginning of a long stretch is filled and looked at, and its end: most misuse is there, and the rest of a large
 * block isn't paid for.
 */
#include "check/check_internal.h"

#include <string.h>

#define FILL_MOST ((size_t)16 * KIB)
#define CANARY_MOST ((size_t)1024)
#define CANARY_END 64u
#define LITTLE ((uintptr_t)MIB)

/* The two parts of [begin, end) that are filled. */
struct stretch {
    char *begin;
    char *first_end;
    char *last_begin;
    char *end;
};

static struct stretch stretch_of(char *begin, char *end, size_t most, size_t at_end)
{
    size_t bytes = ptr_diff(end, begin);
    if (bytes <= most + at_end) {
        return (struct stretch){begin, end, end, end};
    }
    return (struct stretch){begin, begin + most, end - at_end, end};
}

/* The bytes before the next block first, and the first byte last: fill_find_underflow of the next block, in a handler
 * or another thread, must not take what is half filled for damage. */
static void stretch_fill(const struct stretch *s, int byte)
{
    size_t bytes = ptr_diff(s->end, s->begin);
    size_t before_next = size_min(bytes, TAIL_BYTES);
    memset(s->end - before_next, byte, before_next);
    signal_fence();
    memset(s->last_begin, byte, ptr_diff(s->end, s->last_begin));
    if (bytes > 0) {
        memset(s->begin + 1, byte, ptr_diff(s->first_end, s->begin) - 1);
        signal_fence();
        *(volatile char *)s->begin = (char)byte;
    }
}

static const char *find_other(const char *begin, const char *end, unsigned char byte)
{
    const char *at = begin;
    for (; at < end && (uintptr_t)at % sizeof(uintptr_t) != 0; at++) {
        if ((unsigned char)*at != byte) {
            return at;
        }
    }
    uintptr_t word;
    while ((size_t)(end - at) >= sizeof word && (memcpy(&word, at, sizeof word), word == FILL_WORD(byte))) {
        at += sizeof word;
    }
    for (; at < end; at++) {
        if ((unsigned char)*at != byte) {
            return at;
        }
    }
    return NULL;
}

static const char *stretch_find(const struct stretch *s, unsigned char byte)
{
    const char *found = find_other(s->begin, s->first_end, byte);
    return found != NULL ? found : find_other(s->last_begin, s->end, byte);
}

static struct stretch tail_of(const struct noted *noted)
{
    return stretch_of(noted->block + noted->note->requested, noted->block + noted->room_bytes, CANARY_MOST, CANARY_END);
}

/* What lies before a guarded block on its first page. */
static struct stretch front_of(const struct noted *noted)
{
    char *end = noted->block;
    char *begin = (char *)round_down((uintptr_t)end, os_page_bytes());
    return stretch_of(begin, noted->guarded ? end : begin, os_page_bytes(), 0);
}

void fill_tail(const struct noted *noted)
{
    struct stretch tail = tail_of(noted);
    stretch_fill(&tail, FILL_CANARY);
    struct stretch front = front_of(noted);
    stretch_fill(&front, FILL_CANARY);
}

static struct stretch body_of(const struct noted *noted)
{
    return stretch_of(noted->block, noted->block + noted->note->requested, FILL_MOST, 0);
}

void fill_new(const struct noted *noted)
{
    struct stretch body = body_of(noted);
    body.last_begin = body.end;
    stretch_fill(&body, FILL_NEW);
}

/* All of it, tail included, is freed memory now. */
static struct stretch freed_of(const struct noted *noted)
{
    return stretch_of(noted->block, noted->block + noted->room_bytes, FILL_MOST, CANARY_END);
}

void fill_freed(const struct noted *noted)
{
    struct stretch freed = freed_of(noted);
    stretch_fill(&freed, FILL_FREED);
}

const char *fill_find_write(const struct noted *noted)
{
    struct stretch freed = freed_of(noted);
    return stretch_find(&freed, FILL_FREED);
}

const char *fill_find_damage(const struct noted *noted)
{
    struct stretch tail = tail_of(noted);
    const char *found = stretch_find(&tail, FILL_CANARY);
    if (found != NULL) {
        return found;
    }
    struct stretch front = front_of(noted);
    return stretch_find(&front, FILL_CANARY);
}

static bool is_byte(const char *at, unsigned char byte)
{
    return (unsigned char)*at == byte;
}

/* The bytes before the block are the end of another's tail, or freed. What was written to them without touching what
 * lies before them came from this block. */
const char *fill_find_underflow(const struct noted *noted)
{
    struct noted before = noted->guarded ? (struct noted){.note = NULL} : noted_find(noted->block - 1);
    if (before.note == NULL || before.guarded || before.block + before.room_bytes != noted->block) {
        return NULL;
    }
    enum note_state state = load_relaxed(&before.note->state);
    const char *tail = state == NOTE_LIVE ? before.block + before.note->requested : noted->block - TAIL_BYTES - 1;
    unsigned char fill = state == NOTE_LIVE ? FILL_CANARY : FILL_FREED;
    bool is_filled = (state == NOTE_LIVE || state == NOTE_FREED) && is_byte(tail, fill);
    const char *found = is_filled ? find_other(noted->block - TAIL_BYTES, noted->block, fill) : NULL;
    signal_fence();
    return load_relaxed(&before.note->state) == state ? found : NULL; /* freed meanwhile: it is filled anew */
}

static bool is_near(uintptr_t word, uintptr_t fill)
{
    return word - fill < LITTLE || fill - word < LITTLE;
}

/* As an address or a size, as a 32-bit number, and as one that was extended. */
static bool is_made_of(uintptr_t word, unsigned char byte)
{
    uint32_t half = (uint32_t)FILL_WORD(byte);
    return is_near(word, FILL_WORD(byte)) || word == half || word == (uintptr_t)(intptr_t)(int32_t)half;
}

bool fill_is_new(uintptr_t word)
{
    return is_made_of(word, FILL_NEW);
}

bool fill_is_freed(uintptr_t word)
{
    return is_made_of(word, FILL_FREED);
}
