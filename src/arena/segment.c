/* SPDX-License-Identifier: MIT */
/* segment.c - the books of one piece of memory: see arena_internal.h for what they look like.
 *
 * Taking and giving touch a fixed number of words of the books, however many blocks there are and however long they
 * are. Nothing here touches the memory itself, or can fail for want of memory, but for making the books larger.
 */
#include "arena/arena_internal.h"
#include "os/os.h"

#include <string.h>

#define BOOKS_HEAP_MOST (128 * KIB)

/* ---- where the arrays are ------------------------------------------------------------------------------------ */

static size_t divide_up(size_t n, size_t by)
{
    return n / by + (n % by != 0);
}

static void layout_sizes(struct layout *layout, size_t words, allot_arena_fit fit)
{
    size_t groups = divide_up(words, (size_t)1 << GROUP_SHIFT);
    memset(layout->bytes, 0, sizeof layout->bytes);
    layout->bytes[ARRAY_HEADS] = (bin_of(size_max(words, 1)) + 1) * sizeof(uint64_t);
    for (size_t i = 0, n = divide_up(groups, 64); i < LADDER_LEVELS; i++, n = divide_up(n, 64)) {
        layout->bytes[ARRAY_LADDER + i] = n * sizeof(uint64_t);
        if (n <= 1) {
            break;
        }
    }
    for (size_t i = 0, n = groups; fit == ALLOT_FIT_FIRST && i < MOST_LEVELS; i++, n = divide_up(n, 1 << MOST_SHIFT)) {
        layout->bytes[ARRAY_MOST + i] = n * sizeof(uint64_t);
        if (n <= 1) {
            break;
        }
    }
    layout->bytes[ARRAY_STATE] = round_up(words + 1, sizeof(uint64_t)); /* read by eight */
    layout->bytes[ARRAY_SLOTS] = (words / 2 + 2) * sizeof(uint64_t) << layout->wide;
}

struct layout books_layout(size_t words, allot_arena_fit fit, bool by_pages)
{
    struct layout layout = {.wide = words > NARROW_WORDS_MOST};
    layout_sizes(&layout, words, fit);
    for (unsigned i = 0; i < ARRAYS; i++) {
        layout.at[i] = layout.total;
        layout.total += round_up(layout.bytes[i], by_pages ? os_page_bytes() : sizeof(uint64_t));
    }
    return layout;
}

static void books_place(struct segment *segment, const struct layout *layout)
{
    char *books = segment->books;
    segment->heads = (uint64_t *)(void *)(books + layout->at[ARRAY_HEADS]);
    for (unsigned i = 0; i < LADDER_LEVELS; i++) {
        unsigned a = ARRAY_LADDER + i;
        segment->ladder[i] = layout->bytes[a] == 0 ? NULL : (_Atomic uint64_t *)(void *)(books + layout->at[a]);
    }
    for (unsigned i = 0; i < MOST_LEVELS; i++) {
        unsigned a = ARRAY_MOST + i;
        segment->most[i] = layout->bytes[a] == 0 ? NULL : (uint64_t *)(void *)(books + layout->at[a]);
    }
    segment->state = (_Atomic uint8_t *)(books + layout->at[ARRAY_STATE]);
    segment->slots = (_Atomic uint64_t *)(void *)(books + layout->at[ARRAY_SLOTS]);
}

/* Books from the OS are reserved for all the memory that may come, and become writable as it comes. */
static bool books_commit(struct segment *segment, size_t words)
{
    if (segment->books_from != BOOKS_OS) {
        return true;
    }
    struct layout whole = books_layout(segment->room, segment->arena->fit, true);
    struct layout now = {.wide = segment->wide};
    layout_sizes(&now, words, segment->arena->fit);
    size_t page = os_page_bytes();
    for (unsigned i = 0; i < ARRAYS; i++) {
        size_t bytes = size_min(round_up(now.bytes[i], page), round_up(whole.bytes[i], page));
        /* Fewer words have fewer levels: of the higher ones a page is enough. */
        bytes = bytes == 0 && whole.bytes[i] != 0 ? page : bytes;
        if (bytes != 0 && os_commit(segment->books + whole.at[i], bytes) != 0) {
            return false;
        }
    }
    return true;
}

/* ---- the ladder: groups in which a block begins -------------------------------------------------------------- */

static void ladder_set(struct segment *segment, size_t word)
{
    size_t at = word >> GROUP_SHIFT;
    for (unsigned i = 0; i < LADDER_LEVELS && segment->ladder[i] != NULL; i++) {
        uint64_t old = load_relaxed(&segment->ladder[i][at / 64]);
        if ((old >> at % 64 & 1) != 0) {
            return;
        }
        store_relaxed(&segment->ladder[i][at / 64], old | (uint64_t)1 << at % 64);
        at /= 64;
    }
}

/* The last group up to this one that has its bit set; SIZE_MAX: none. */
static size_t ladder_last(const struct segment *segment, size_t group)
{
    unsigned i = 0;
    for (;; i++) {
        if (i >= LADDER_LEVELS || segment->ladder[i] == NULL) {
            return SIZE_MAX;
        }
        uint64_t bits = load_relaxed(&segment->ladder[i][group / 64]) & ~(uint64_t)0 >> (63 - group % 64);
        if (bits != 0) {
            group = group / 64 * 64 + bit_highest(bits);
            break;
        }
        if (group < 64) {
            return SIZE_MAX;
        }
        group = group / 64 - 1;
    }
    for (; i > 0; i--) {
        uint64_t bits = load_relaxed(&segment->ladder[i - 1][group]);
        if (bits == 0) {
            return SIZE_MAX; /* another thread changes it just now */
        }
        group = group * 64 + bit_highest(bits);
    }
    return group;
}

/* ---- states -------------------------------------------------------------------------------------------------- */

static unsigned state_at(const struct segment *segment, size_t word)
{
    return load_relaxed(&segment->state[word]);
}

static void state_set(struct segment *segment, size_t word, unsigned state)
{
    store_relaxed(&segment->state[word], (uint8_t)state);
}

static unsigned short_words(size_t words)
{
    return words < LONG_WORDS ? (unsigned)words : 0;
}

static void slot_set(struct segment *segment, size_t slot, size_t value)
{
    store_relaxed(&segment->slots[slot << segment->wide], value);
}

static void set_live(struct segment *segment, size_t word, size_t words)
{
    state_set(segment, word, STATE_LIVE | short_words(words));
    if (words >= LONG_WORDS) {
        slot_set(segment, word / 2 + 1, words);
    }
    ladder_set(segment, word);
}

static void set_free(struct segment *segment, size_t word, size_t words)
{
    state_set(segment, word, STATE_FREE | short_words(words));
    if (words >= LONG_WORDS) {
        slot_set(segment, word / 2 + 1, words);
        slot_set(segment, (word + words - 1) / 2, words);
    }
    if (words > 1) {
        state_set(segment, word + words - 1, words < LONG_WORDS ? (unsigned)words : 1);
    }
    ladder_set(segment, word);
    fit_add(segment, word, words);
}

static void clear_free(struct segment *segment, size_t word, size_t words)
{
    fit_remove(segment, word, words);
    state_set(segment, word + words - 1, 0);
    state_set(segment, word, 0);
}

/* How long the free block is that ends before a word; 0: there is none. */
static size_t free_before(const struct segment *segment, size_t word)
{
    unsigned state = word == 0 ? 0 : state_at(segment, word - 1);
    if (state == (STATE_FREE | 1)) {
        return 1;
    }
    if ((state & STATE_KIND) != 0 || state != 1) {
        return (state & STATE_KIND) != 0 ? 0 : state;
    }
    return load_relaxed(&segment->slots[(word - 1) / 2 << segment->wide]);
}

static size_t free_at(const struct segment *segment, size_t word)
{
    return (state_at(segment, word) & STATE_KIND) == STATE_FREE ? block_words(segment, word) : 0;
}

/* Words that are in no block become free, together with their neighbours. */
static void join(struct segment *segment, size_t word, size_t words)
{
    size_t behind = free_at(segment, word + words);
    size_t before = free_before(segment, word);
    if (behind != 0) {
        clear_free(segment, word + words, behind);
    }
    if (before != 0) {
        clear_free(segment, word - before, before);
    }
    set_free(segment, word - before, before + words + behind);
}

static void count_free(struct segment *segment, size_t more, size_t less)
{
    segment->free_words = segment->free_words + more - less;
    segment->arena->free_words = segment->arena->free_words + more - less;
}

/* ---- opening and closing ------------------------------------------------------------------------------------- */

static bool books_take(struct segment *segment, size_t room, void *caller_books, size_t caller_bytes)
{
    allot_arena_fit fit = segment->arena->fit;
    struct layout layout = books_layout(room, fit, false);
    if (caller_books != NULL) {
        if (layout.total > caller_bytes) {
            return false;
        }
        segment->books = caller_books;
        segment->books_from = BOOKS_CALLER;
        memset(segment->books, 0, layout.at[ARRAY_SLOTS]);
    } else if (layout.total <= BOOKS_HEAP_MOST) {
        segment->books = arena_books_alloc(layout.total);
        segment->books_from = BOOKS_HEAP;
    } else {
        layout = books_layout(room, fit, true);
        segment->books = os_reserve(layout.total, os_page_bytes());
        segment->books_from = BOOKS_OS;
        if (segment->books != NULL) {
            os_huge_never(segment->books, layout.total);
        }
    }
    segment->room = room;
    segment->wide = layout.wide;
    segment->books_bytes = layout.total;
    if (segment->books == NULL) {
        segment->books_from = BOOKS_NONE;
        return false;
    }
    books_place(segment, &layout);
    return true;
}

static void books_give(char *books, size_t bytes, enum books_from from)
{
    if (from == BOOKS_HEAP) {
        arena_books_free(books);
    } else if (from == BOOKS_OS) {
        os_release(books, bytes);
    }
}

static void all_free(struct segment *segment, size_t words)
{
    segment->words = words;
    state_set(segment, words, STATE_LIVE | 1);
    if (words != 0) {
        set_free(segment, 0, words);
    }
}

/* segment->words is set; room is at least that. */
bool segment_open(struct segment *segment, size_t room, void *caller_books, size_t caller_bytes)
{
    if (!books_take(segment, room, caller_books, caller_bytes)) {
        return false;
    }
    if (!books_commit(segment, segment->words)) {
        segment_close(segment);
        return false;
    }
    segment->bin_top = 0;
    memset(segment->bin_map, 0, sizeof segment->bin_map);
    segment->free_words = segment->words;
    all_free(segment, segment->words);
    return true;
}

void segment_close(struct segment *segment)
{
    books_give(segment->books, segment->books_bytes, segment->books_from);
    segment->books = NULL;
    segment->books_from = BOOKS_NONE;
}

/* Books for more words: all blocks are entered anew. */
static bool books_enlarge(struct segment *segment, size_t room)
{
    struct segment old = *segment;
    if (!books_take(segment, room, NULL, 0)) {
        *segment = old;
        return false;
    }
    if (!books_commit(segment, segment->words)) {
        segment_close(segment);
        *segment = old;
        return false;
    }
    segment->bin_top = 0;
    memset(segment->bin_map, 0, sizeof segment->bin_map);
    state_set(segment, segment->words, STATE_LIVE | 1);
    for (size_t word = 0, words; word < old.words; word += words) {
        unsigned kind = state_at(&old, word) & STATE_KIND;
        words = block_words(&old, word);
        if (kind == STATE_FREE) {
            set_free(segment, word, words);
        } else {
            set_live(segment, word, words);
            state_set(segment, word, kind | short_words(words));
        }
    }
    books_give(old.books, old.books_bytes, old.books_from);
    return true;
}

bool segment_extend(struct segment *segment, size_t words)
{
    if (words > segment->room && !books_enlarge(segment, size_max(words, 2 * segment->words))) {
        return false;
    }
    if (!books_commit(segment, words)) {
        return false;
    }
    size_t old = segment->words;
    state_set(segment, words, STATE_LIVE | 1);
    state_set(segment, old, 0);
    segment->words = words;
    count_free(segment, words - old, 0);
    join(segment, old, words - old);
    return true;
}

void segment_clear(struct segment *segment)
{
    for (size_t word = 0, words; word < segment->words; word += words) {
        words = block_words(segment, word);
        if ((state_at(segment, word) & STATE_KIND) == STATE_FREE) {
            clear_free(segment, word, words);
        } else {
            state_set(segment, word, 0);
        }
    }
    count_free(segment, segment->words, segment->free_words);
    all_free(segment, segment->words);
}

/* ---- taking and giving --------------------------------------------------------------------------------------- */

/* Where in a free block a request can be met; SIZE_MAX: nowhere. */
static size_t place_in(const struct segment *segment, size_t word, size_t words, const struct request *request)
{
    uintptr_t begin = (uintptr_t)segment_address(segment, word);
    size_t skip = (round_up(begin, request->align_bytes) - begin) >> WORD_SHIFT;
    return skip <= words && request->words <= words - skip ? word + skip : SIZE_MAX;
}

bool segment_fits(const struct segment *segment, size_t word, const struct request *request)
{
    return place_in(segment, word, block_words(segment, word), request) != SIZE_MAX;
}

bool segment_take(struct segment *segment, const struct request *request, size_t *word, bool *is_zero)
{
    size_t found = fit_find(segment, request);
    if (found == SIZE_MAX) {
        return false;
    }
    size_t words = block_words(segment, found);
    size_t at = place_in(segment, found, words, request);
    size_t end = at + request->words;
    clear_free(segment, found, words);
    if (at != found) {
        set_free(segment, found, at - found);
    }
    if (end != found + words) {
        set_free(segment, end, found + words - end);
    }
    set_live(segment, at, request->words);
    count_free(segment, 0, request->words);
    *is_zero = segment->zero_at_first && at >= segment->reach;
    segment->reach = size_max(segment->reach, end);
    *word = at;
    return true;
}

void segment_give(struct segment *segment, const struct block_at *block, size_t word, size_t words)
{
    size_t end = word + words;
    size_t block_end = block->word + block->words;
    state_set(segment, block->word, 0);
    if (word != block->word) {
        set_live(segment, block->word, word - block->word);
    }
    if (end != block_end) {
        set_live(segment, end, block_end - end);
    }
    count_free(segment, words, 0);
    join(segment, word, words);
}

bool segment_grow_block(struct segment *segment, const struct block_at *block, size_t words)
{
    size_t end = block->word + block->words;
    size_t behind = free_at(segment, end);
    size_t more = words - block->words;
    if (behind < more) {
        return false;
    }
    clear_free(segment, end, behind);
    set_live(segment, block->word, words);
    if (behind != more) {
        set_free(segment, end + more, behind - more);
    }
    count_free(segment, 0, more);
    segment->reach = size_max(segment->reach, block->word + words);
    return true;
}

void segment_cut(struct segment *segment, size_t word, size_t words, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        state_set(segment, word + i * words, STATE_CACHED | (unsigned)words);
        ladder_set(segment, word + i * words);
    }
}

void segment_hold(struct segment *segment, size_t word, size_t words)
{
    size_t begin = segment_tail(segment);
    size_t end = segment->words;
    clear_free(segment, begin, end - begin);
    if (word != begin) {
        set_free(segment, begin, word - begin);
    }
    if (word + words != end) {
        set_free(segment, word + words, end - word - words);
    }
    set_live(segment, word, words);
    count_free(segment, 0, words);
}

/* ---- questions ----------------------------------------------------------------------------------------------- */

/* The last word of a group, up to one, at which a block begins; SIZE_MAX: none does. */
static size_t begins_in_group(const struct segment *segment, size_t word)
{
    size_t first = round_down(word, (size_t)1 << GROUP_SHIFT);
    for (size_t at = word + 1; at > first; at--) {
        if ((state_at(segment, at - 1) & STATE_KIND) != 0) {
            return at - 1;
        }
    }
    return SIZE_MAX;
}

static size_t block_begin(const struct segment *segment, size_t word)
{
    size_t begin = begins_in_group(segment, word);
    for (size_t group = word >> GROUP_SHIFT; begin == SIZE_MAX; group--) {
        group = group == 0 ? SIZE_MAX : ladder_last(segment, group - 1);
        if (group == SIZE_MAX) {
            return SIZE_MAX;
        }
        begin = begins_in_group(segment, (group << GROUP_SHIFT) + 63);
        group++;
    }
    return begin;
}

struct block_at segment_block_at(const struct segment *segment, size_t word)
{
    struct block_at block = {.state = BLOCK_NONE};
    size_t begin = block_begin(segment, word);
    if (begin == SIZE_MAX) {
        return block;
    }
    unsigned kind = state_at(segment, begin) & STATE_KIND;
    block.word = begin;
    block.words = block_words(segment, begin);
    block.state = kind == STATE_LIVE ? BLOCK_LIVE : kind == STATE_FREE ? BLOCK_FREE : BLOCK_CACHED;
    if (word - begin >= block.words || block.words > segment->words - begin) {
        block.state = BLOCK_NONE;
    }
    return block;
}

bool segment_is_empty(const struct segment *segment)
{
    return free_at(segment, 0) == segment->words;
}

size_t segment_tail(const struct segment *segment)
{
    return segment->words - free_before(segment, segment->words);
}

int segment_walk(struct segment *segment, int (*visit)(const allot_info *info, void *context), void *context)
{
    int result = 0;
    for (size_t word = 0, words; word < segment->words && result == 0; word += words) {
        allot_info info = ALLOT_INFO_INIT;
        words = block_words(segment, word);
        if (words == 0 || words > segment->words - word) {
            break; /* damaged books, or another thread changes them */
        }
        info.base = segment_address(segment, word);
        info.size_bytes = words << WORD_SHIFT;
        info.room = ALLOT_ROOM_ARENA;
        info.state = (state_at(segment, word) & STATE_KIND) == STATE_LIVE ? ALLOT_STATE_LIVE : ALLOT_STATE_FREE;
        info.exact = 1;
        result = visit(&info, context);
    }
    return result;
}

size_t segment_live_blocks(const struct segment *segment)
{
    size_t n = 0;
    for (size_t word = 0; word < segment->words; word += block_words(segment, word)) {
        n += (state_at(segment, word) & STATE_KIND) == STATE_LIVE;
    }
    return n;
}

/* Is the inside of a block what it should be? */
static bool inside_is_clear(const struct segment *segment, size_t word, size_t words, bool is_free)
{
    size_t end = is_free && words > 1 ? word + words - 1 : word + words;
    size_t seen = size_min(end, word + LONG_WORDS); /* of long ones the beginning */
    for (size_t at = word + 1; at < seen; at++) {
        if (state_at(segment, at) != 0) {
            return false;
        }
    }
    return !is_free || words == 1 || free_before(segment, word + words) == words;
}

static bool ladder_has(const struct segment *segment, size_t word)
{
    size_t group = word >> GROUP_SHIFT;
    return (load_relaxed(&segment->ladder[0][group / 64]) >> group % 64 & 1) != 0;
}

bool segment_check(struct segment *segment)
{
    size_t free_words = 0;
    size_t n_free = 0;
    bool after_free = false;
    for (size_t word = 0, words; word < segment->words; word += words) {
        unsigned kind = state_at(segment, word) & STATE_KIND;
        words = kind == 0 ? 0 : block_words(segment, word);
        if (words == 0 || words > segment->words - word || (kind == STATE_FREE && after_free) ||
            !ladder_has(segment, word) || !inside_is_clear(segment, word, words, kind == STATE_FREE)) {
            return false;
        }
        after_free = kind == STATE_FREE;
        n_free += after_free;
        free_words += after_free ? words : 0;
    }
    return state_at(segment, segment->words) == (STATE_LIVE | 1) && free_words == segment->free_words &&
           fit_check(segment, n_free, free_words);
}
