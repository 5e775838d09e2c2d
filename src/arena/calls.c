/* SPDX-License-Identifier: MIT */
/* calls.c - the public functions for blocks, and the questions.
 *
 * Each enters the arena, does its work on the books, leaves it, and only then reports, copies or clears.
 */
#include "arena/cache_internal.h"

#include <errno.h>
#include <string.h>

/* ---- taking -------------------------------------------------------------------------------------------------- */

struct taken {
    void *block;
    bool is_zero;
};

static bool take_here(allot_arena *arena, struct segment *segment, const struct request *request, struct taken *taken)
{
    size_t word;
    if (segment->free_words < request->words || !segment_take(segment, request, &word, &taken->is_zero)) {
        return false;
    }
    arena->here = segment;
    taken->block = segment_address(segment, word);
    return true;
}

static bool take_anywhere(allot_arena *arena, const struct request *request, struct taken *taken)
{
    struct segment *here = arena->fit == ALLOT_FIT_FIRST ? NULL : arena->here;
    if (here != NULL && take_here(arena, here, request, taken)) {
        return true;
    }
    for (struct segment *segment = arena->segments; segment != NULL; segment = segment->next) {
        if (segment != here && take_here(arena, segment, request, taken)) {
            return true;
        }
    }
    return false;
}

/* Between arena_enter and arena_leave; 0 or an errno. */
static int take(allot_arena *arena, const struct request *request, struct taken *taken)
{
    int error = 0;
    if (arena_is_bump(arena)) {
        taken->block = bump_take(arena, request, &error);
        const struct segment *segment = arena->bump.segment;
        taken->is_zero =
            taken->block != NULL && segment->zero_at_first && segment_word(segment, taken->block) >= segment->reach;
        return error;
    }
    while (!take_anywhere(arena, request, taken)) {
        bool all;
        error = arena_grow(arena, request);
        if (error != 0 && (arena->grower != 0 || !cache_empty_all(arena, &all))) {
            return error;
        }
    }
    return 0;
}

static void add_call(allot_arena *arena)
{
    uint32_t n = load_relaxed(&arena->n_calls);
    store_relaxed(&arena->n_calls, n + (n != UINT32_MAX));
}

static bool is_plain(const struct request *request)
{
    return request->align_bytes == WORD_BYTES;
}

static int alloc(allot_arena *arena, size_t align, size_t bytes, struct taken *taken)
{
    struct request request = {.words = (bytes + WORD_BYTES - 1) >> WORD_SHIFT,
                              .align_bytes = size_max(align, WORD_BYTES)};
    *taken = (struct taken){NULL, false};
    if (request.words - 1 < CACHE_WORDS_MOST && is_plain(&request)) {
        taken->block = cache_take(arena, request.words);
        if (taken->block != NULL) {
            return 0;
        }
    }
    if (bytes > BYTES_MOST || align > BYTES_MOST) {
        return ENOMEM;
    }
    int error = arena_enter(arena, false);
    if (error != 0 || bytes == 0) {
        if (error == 0) {
            arena_leave(arena);
        }
        return error;
    }
    error = take(arena, &request, taken);
    if (error == 0) {
        watch_forget(arena, taken->block, bytes);
        if (is_plain(&request) && arena->caches != NULL) {
            cache_refill(arena, arena->here, request.words);
        }
    }
    add_call(arena);
    arena_leave(arena);
    cache_prepare(arena);
    return error;
}

static void *block_or_errno(int error, void *block)
{
    if (error != 0) {
        errno = error;
        return NULL;
    }
    return block;
}

static size_t words_of(size_t bytes)
{
    return (bytes + WORD_BYTES - 1) >> WORD_SHIFT;
}

NOINLINE static void *malloc_slow(allot_arena *arena, size_t size_bytes)
{
    struct taken taken;
    int error = alloc(arena, 0, size_bytes, &taken);
    return block_or_errno(error, taken.block);
}

void *allot_arena_malloc(allot_arena *arena, size_t size_bytes)
{
    size_t words = words_of(size_bytes);
    void *block = LIKELY(words - 1 < CACHE_WORDS_MOST) ? cache_take(arena, words) : NULL;
    return LIKELY(block != NULL) ? block : malloc_slow(arena, size_bytes);
}

int allot_arena_alloc(allot_arena *arena, size_t size_bytes, void **out)
{
    struct taken taken;
    int saved = errno;
    int error = alloc(arena, 0, size_bytes, &taken);
    errno = saved;
    if (error == 0) {
        *out = taken.block;
    }
    return error;
}

void *allot_arena_calloc(allot_arena *arena, size_t n, size_t item_bytes)
{
    struct taken taken;
    size_t bytes;
    if (__builtin_mul_overflow(n, item_bytes, &bytes)) {
        return block_or_errno(ENOMEM, NULL);
    }
    int error = alloc(arena, 0, bytes, &taken);
    if (taken.block != NULL && !taken.is_zero) {
        memset(taken.block, 0, bytes);
    }
    return block_or_errno(error, taken.block);
}

void *allot_arena_memalign(allot_arena *arena, size_t alignment, size_t size_bytes)
{
    struct taken taken;
    if (!is_power_of_two(alignment)) {
        return block_or_errno(EINVAL, NULL);
    }
    int error = alloc(arena, alignment, size_bytes, &taken);
    return block_or_errno(error, taken.block);
}

void *allot_arena_memdup(allot_arena *arena, const void *bytes, size_t n)
{
    void *copy = allot_arena_malloc(arena, n);
    if (copy != NULL) {
        memcpy(copy, bytes, n);
    }
    return copy;
}

char *allot_arena_strdup(allot_arena *arena, const char *string)
{
    return allot_arena_memdup(arena, string, strlen(string) + 1);
}

size_t allot_arena_malloc_batch(allot_arena *arena, size_t size_bytes, void **out, size_t n)
{
    struct request request = {.words = (size_bytes + WORD_BYTES - 1) >> WORD_SHIFT, .align_bytes = WORD_BYTES};
    int error = size_bytes > BYTES_MOST ? ENOMEM : arena_enter(arena, false);
    size_t i = 0;
    if (error == 0) {
        struct taken taken;
        for (; i < n && size_bytes != 0 && (error = take(arena, &request, &taken)) == 0; i++) {
            watch_forget(arena, taken.block, size_bytes);
            out[i] = taken.block;
        }
        arena_leave(arena);
    }
    if (error != 0) {
        errno = error;
    }
    return i;
}

/* ---- giving -------------------------------------------------------------------------------------------------- */

#define WHOLE SIZE_MAX

/* What a pointer means to a call that needs a live block, or a part of one. */
struct target {
    struct segment *segment;
    struct block_at block;
    size_t word; /* the pointer's */
};

/* NULL: it is a live block, or with is_part in one. Otherwise the name of what is wrong. */
static const char *find_target(allot_arena *arena, const void *p, bool is_part, const char *name_if_free,
                               struct target *target)
{
    struct segment *segment = arena_segment_of(arena, p);
    target->segment = segment;
    if (segment == NULL) {
        return "invalid free";
    }
    if ((uintptr_t)p % WORD_BYTES != 0) {
        return "misaligned free";
    }
    target->word = segment_word(segment, p);
    target->block = segment_block_at(segment, target->word);
    if (target->block.state != BLOCK_LIVE) {
        return target->block.state == BLOCK_NONE ? "invalid free" : name_if_free;
    }
    return is_part || target->block.word == target->word ? NULL : "invalid free";
}

/* In a bump arena: the latest block can be changed, all others stay. 0: there is nothing to do. */
static const char *give_bump(allot_arena *arena, char *p, size_t bytes)
{
    struct segment *segment = arena_segment_of(arena, p);
    if (segment == NULL || p >= bump_top(arena, segment)) {
        return "invalid free";
    }
    if ((uintptr_t)p % WORD_BYTES != 0) {
        return "misaligned free";
    }
    allot_arena_head *head = bump_head(arena);
    size_t room = ptr_diff(bump_top(arena, segment), p);
    if (bytes != WHOLE && bytes > room) {
        return "overlapping free";
    }
    bool is_latest = bytes == WHOLE ? bump_is_latest(arena, p) : round_up(bytes, WORD_BYTES) == room;
    if (is_latest && segment == arena->bump.segment) {
        segment->reach = size_max(segment->reach, segment_word(segment, head->next));
        watch_memory(arena, p, room);
        head->next = p;
    }
    return NULL;
}

static const char *give(allot_arena *arena, void *p, size_t bytes)
{
    struct target target;
    if (bytes == 0) {
        return "zero-length free";
    }
    if (arena_is_bump(arena)) {
        return give_bump(arena, p, bytes);
    }
    const char *fault = find_target(arena, p, /* is part */ bytes != WHOLE, "double free", &target);
    if (fault != NULL) {
        return fault;
    }
    size_t room = target.block.word + target.block.words - target.word;
    size_t words = bytes == WHOLE ? room : bytes / WORD_BYTES + (bytes % WORD_BYTES != 0);
    if (words > room) {
        return "overlapping free";
    }
    if (arena->caches != NULL) {
        cache_make_room(arena, words);
    }
    segment_give(target.segment, &target.block, target.word, words);
    watch_memory(arena, p, words << WORD_SHIFT);
    arena_tidy(arena, target.segment);
    return NULL;
}

NOINLINE static int free_slow(allot_arena *arena, void *p, size_t bytes)
{
    struct misuse misuse;
    int saved = errno;
    if (cache_give_after_search(arena, p, bytes)) {
        return 0;
    }
    int error = arena_enter(arena, false);
    if (error != 0) {
        errno = saved;
        return error;
    }
    const char *fault = give(arena, p, bytes);
    if (fault != NULL) {
        misuse = misuse_of(arena, p, fault);
    }
    add_call(arena);
    arena_leave(arena);
    if (fault != NULL) {
        misuse_report(arena, &misuse);
        error = EINVAL;
    } else {
        cache_prepare(arena);
    }
    errno = saved;
    return error;
}

int allot_arena_free(allot_arena *arena, void *block)
{
    return block == NULL || LIKELY(cache_give(arena, block, WHOLE)) ? 0 : free_slow(arena, block, WHOLE);
}

int allot_arena_free_sized(allot_arena *arena, void *range, size_t size_bytes)
{
    if (range == NULL && size_bytes == 0) {
        return 0;
    }
    size_bytes = size_bytes == WHOLE ? WHOLE - 1 : size_bytes;
    return LIKELY(cache_give(arena, range, size_bytes)) ? 0 : free_slow(arena, range, size_bytes);
}

int allot_arena_free_batch(allot_arena *arena, void *const *blocks, size_t n)
{
    int last = 0;
    for (size_t i = 0; i < n; i++) {
        int error = allot_arena_free(arena, blocks[i]);
        last = error != 0 ? error : last;
    }
    return last;
}

/* ---- changing ------------------------------------------------------------------------------------------------ */

static int shrink_bump(allot_arena *arena, char *p, size_t bytes, const char **fault)
{
    struct segment *segment = arena_segment_of(arena, p);
    if (segment == NULL || p >= bump_top(arena, segment)) {
        *fault = "invalid pointer";
        return EINVAL;
    }
    size_t room = ptr_diff(bump_top(arena, segment), p);
    if (round_up(bytes, WORD_BYTES) > room) {
        return EINVAL;
    }
    if (bump_is_latest(arena, p)) {
        segment->reach = size_max(segment->reach, segment_word(segment, p + room));
        bump_set_latest(arena, p, p + round_up(bytes, WORD_BYTES));
        watch_memory(arena, p + round_up(bytes, WORD_BYTES), room - round_up(bytes, WORD_BYTES));
    }
    return 0;
}

static int shrink(allot_arena *arena, char *p, size_t bytes, const char **fault)
{
    struct target target;
    *fault = NULL;
    if (bytes > BYTES_MOST) {
        return EINVAL;
    }
    if (arena_is_bump(arena)) {
        return shrink_bump(arena, p, bytes, fault);
    }
    *fault = find_target(arena, p, /* is part */ false, "use of a freed block", &target);
    size_t words = round_up(bytes, WORD_BYTES) >> WORD_SHIFT;
    if (*fault != NULL || words > target.block.words) {
        return EINVAL;
    }
    if (words != target.block.words) {
        segment_give(target.segment, &target.block, target.word + words, target.block.words - words);
        watch_memory(arena, p + (words << WORD_SHIFT), (target.block.words - words) << WORD_SHIFT);
        arena_tidy(arena, target.segment);
    }
    return 0;
}

int allot_arena_shrink(allot_arena *arena, void *block, size_t size_bytes)
{
    const char *fault;
    struct misuse misuse;
    if (size_bytes == 0) {
        return allot_arena_free(arena, block);
    }
    int saved = errno;
    int error = arena_enter(arena, false);
    if (error != 0) {
        return error;
    }
    error = shrink(arena, block, size_bytes, &fault);
    if (fault != NULL) {
        misuse = misuse_of(arena, block, fault);
    }
    arena_leave(arena);
    if (fault != NULL) {
        misuse_report(arena, &misuse);
    }
    errno = saved;
    return error;
}

/* What is to be done for a realloc. */
struct change {
    const char *fault;
    bool is_done;
    size_t old_bytes; /* that may be copied */
};

static void change_bump(allot_arena *arena, char *p, size_t bytes, struct change *change)
{
    struct segment *segment = arena_segment_of(arena, p);
    if (segment == NULL || p >= bump_top(arena, segment) || (uintptr_t)p % WORD_BYTES != 0) {
        change->fault = "invalid pointer";
        return;
    }
    allot_arena_head *head = bump_head(arena);
    size_t rounded = round_up(bytes, WORD_BYTES);
    change->old_bytes = ptr_diff(bump_top(arena, segment), p);
    if (bump_is_latest(arena, p) && rounded <= ptr_diff(head->end, p)) {
        segment->reach = size_max(segment->reach, segment_word(segment, head->next));
        bump_set_latest(arena, p, p + rounded);
        change->is_done = true;
    }
}

static void change_general(allot_arena *arena, char *p, size_t bytes, struct change *change)
{
    struct target target;
    change->fault = find_target(arena, p, /* is part */ false, "use of a freed block", &target);
    if (change->fault != NULL) {
        change->fault = change->fault[0] == 'u' ? change->fault : "invalid pointer";
        return;
    }
    size_t words = round_up(bytes, WORD_BYTES) >> WORD_SHIFT;
    change->old_bytes = target.block.words << WORD_SHIFT;
    if (words < target.block.words) {
        segment_give(target.segment, &target.block, target.word + words, target.block.words - words);
        watch_memory(arena, p + (words << WORD_SHIFT), (target.block.words - words) << WORD_SHIFT);
        arena_tidy(arena, target.segment);
        change->is_done = true;
    } else {
        change->is_done = words == target.block.words || segment_grow_block(target.segment, &target.block, words);
    }
}

static void *move(allot_arena *arena, void *block, size_t bytes, size_t old_bytes)
{
    struct taken taken;
    int error = alloc(arena, 0, bytes, &taken);
    if (error != 0) {
        return block_or_errno(error, NULL);
    }
    watch_keep(arena, block, size_min(bytes, old_bytes));
    memcpy(taken.block, block, size_min(bytes, old_bytes));
    if (!arena_is_bump(arena)) {
        allot_arena_free(arena, block);
    }
    return taken.block;
}

void *allot_arena_realloc(allot_arena *arena, void *block, size_t size_bytes)
{
    struct change change = {NULL, false, 0};
    struct misuse misuse;
    if (block == NULL) {
        return allot_arena_malloc(arena, size_bytes);
    }
    if (size_bytes == 0) {
        allot_arena_free(arena, block);
        return NULL;
    }
    int error = size_bytes > BYTES_MOST ? ENOMEM : arena_enter(arena, false);
    if (error != 0) {
        return block_or_errno(error, NULL);
    }
    (arena_is_bump(arena) ? change_bump : change_general)(arena, block, size_bytes, &change);
    if (change.is_done) {
        size_t kept = size_min(size_bytes, change.old_bytes);
        watch_keep(arena, block, kept);
        watch_forget(arena, (char *)block + kept, size_bytes - kept);
    } else if (change.fault != NULL) {
        misuse = misuse_of(arena, block, change.fault);
    }
    arena_leave(arena);
    if (change.fault != NULL) {
        misuse_report(arena, &misuse);
        return block_or_errno(EINVAL, NULL);
    }
    return change.is_done ? block : move(arena, block, size_bytes, change.old_bytes);
}

size_t allot_arena_usable_size(allot_arena *arena, const void *block)
{
    struct target target;
    struct misuse misuse;
    if (block == NULL || arena_is_bump(arena) || arena_enter(arena, /* may be sealed */ true) != 0) {
        return 0;
    }
    const char *fault = find_target(arena, block, /* is part */ false, "use of a freed block", &target);
    if (fault != NULL) {
        misuse = misuse_of(arena, block, fault[0] == 'u' ? fault : "invalid pointer");
    } else {
        watch_keep(arena, block, target.block.words << WORD_SHIFT);
    }
    arena_leave(arena);
    if (fault != NULL) {
        misuse_report(arena, &misuse);
        return 0;
    }
    return target.block.words << WORD_SHIFT;
}

/* ---- questions ----------------------------------------------------------------------------------------------- */

static size_t free_bytes_of(allot_arena *arena)
{
    return arena_is_bump(arena) ? bump_free_bytes(arena) : (arena->free_words + cache_words(arena)) << WORD_SHIFT;
}

size_t allot_arena_size(allot_arena *arena)
{
    if (arena_enter_question(arena) != 0) {
        return 0;
    }
    size_t bytes = arena->size_bytes;
    arena_leave(arena);
    return bytes;
}

size_t allot_arena_capacity(allot_arena *arena)
{
    if (arena_enter_question(arena) != 0) {
        return 0;
    }
    size_t bytes = arena->capacity_words << WORD_SHIFT;
    arena_leave(arena);
    return bytes;
}

size_t allot_arena_free_bytes(allot_arena *arena)
{
    if (arena_enter_question(arena) != 0) {
        return 0;
    }
    size_t bytes = free_bytes_of(arena);
    arena_leave(arena);
    return bytes;
}

int allot_arena_contains(allot_arena *arena, const void *address)
{
    if (arena_enter_question(arena) != 0) {
        return 0;
    }
    bool is_in = arena_segment_of(arena, address) != NULL;
    arena_leave(arena);
    return is_in;
}

/* Free memory is read too, which a sanitizer would object to. */
__attribute__((no_sanitize("address"))) static void copy_all(char *out, const volatile char *from, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        out[i] = from[i];
    }
}

size_t allot_arena_dump(allot_arena *arena, void *out, size_t n)
{
    size_t sum = 0;
    if (arena_enter_question(arena) != 0) {
        return 0;
    }
    for (struct segment *segment = arena->segments; segment != NULL; segment = segment->next) {
        size_t bytes = segment->words << WORD_SHIFT;
        if (sum < n) {
            copy_all((char *)out + sum, segment->begin, size_min(bytes, n - sum));
        }
        sum += bytes;
    }
    arena_leave(arena);
    return sum;
}

static int walk_bump(allot_arena *arena, struct segment *segment, int (*visit)(const allot_info *, void *),
                     void *context)
{
    char *borders[] = {segment->begin, bump_top(arena, segment), segment->begin + (segment->words << WORD_SHIFT)};
    int result = 0;
    for (size_t i = 0; i < 2 && result == 0; i++) {
        allot_info info = ALLOT_INFO_INIT;
        info.base = borders[i];
        info.size_bytes = ptr_diff(borders[i + 1], borders[i]);
        info.room = ALLOT_ROOM_ARENA;
        info.state = i == 0 ? ALLOT_STATE_LIVE : ALLOT_STATE_FREE;
        info.exact = 1;
        result = info.size_bytes == 0 ? 0 : visit(&info, context);
    }
    return result;
}

int allot_arena_walk(allot_arena *arena, int (*visit)(const allot_info *info, void *context), void *context)
{
    int result = arena_enter_question(arena);
    if (result != 0) {
        return result;
    }
    for (struct segment *segment = arena->segments; segment != NULL && result == 0; segment = segment->next) {
        result =
            arena_is_bump(arena) ? walk_bump(arena, segment, visit, context) : segment_walk(segment, visit, context);
    }
    arena_leave(arena);
    return result;
}

static bool check_bump(allot_arena *arena, const struct segment *segment)
{
    char *top = bump_top(arena, segment);
    return top >= segment->begin && top <= segment->begin + (segment->words << WORD_SHIFT) &&
           (uintptr_t)top % WORD_BYTES == 0;
}

int allot_arena_check(allot_arena *arena)
{
    int error = arena_enter_question(arena);
    if (error != 0) {
        return error;
    }
    size_t words = 0;
    size_t free_words = 0;
    size_t bytes = 0;
    bool is_right = true;
    for (struct segment *segment = arena->segments; segment != NULL && is_right; segment = segment->next) {
        is_right = arena_is_bump(arena) ? check_bump(arena, segment) : segment_check(segment);
        words += segment->words;
        bytes += segment->memory_bytes;
        free_words += arena_is_bump(arena) ? 0 : segment->free_words;
        is_right = is_right && (segment->next != NULL || segment == arena->last);
    }
    is_right =
        is_right && words == arena->capacity_words && bytes == arena->size_bytes && free_words == arena->free_words;
    arena_leave(arena);
    return is_right ? 0 : EUCLEAN;
}

int allot_arena_stats(allot_arena *arena, allot_arena_report *report)
{
    if (report == NULL || report->abi_size != sizeof *report) {
        return EINVAL;
    }
    int error = arena_enter_question(arena);
    if (error != 0) {
        return error;
    }
    *report = (allot_arena_report)ALLOT_ARENA_REPORT_INIT;
    memcpy(report->name, arena->name, sizeof report->name);
    report->file = arena->file;
    report->line = arena->line;
    report->kind = arena->kind;
    report->parent = arena->parent;
    report->n_children = arena->n_children;
    report->size_bytes = arena->size_bytes;
    report->capacity_bytes = arena->capacity_words << WORD_SHIFT;
    report->free_bytes = free_bytes_of(arena);
    report->live_bytes = report->capacity_bytes - report->free_bytes;
    report->books_bytes = sizeof *arena;
    for (struct segment *segment = arena->segments; segment != NULL; segment = segment->next) {
        report->n_segments++;
        report->books_bytes += arena_is_bump(arena) ? 0 : segment->books_bytes;
        report->n_live_blocks += arena_is_bump(arena) ? 0 : segment_live_blocks(segment);
    }
    report->total_bytes = load_relaxed(&arena->total_bytes);
    report->soft_limit = load_relaxed(&arena->soft_limit);
    report->hard_limit = load_relaxed(&arena->hard_limit);
    report->n_cleanups = arena->n_cleanups;
    report->protection = arena->protection;
    report->sealed = arena->sealed;
    report->released = load_relaxed(&arena->gone) != 0;
    arena_leave(arena);
    return 0;
}

size_t allot_arena_trim(allot_arena *arena, size_t keep_bytes)
{
    if (arena_enter(arena, /* may be sealed */ true) != 0) {
        return 0;
    }
    size_t bytes = arena_shed(arena, keep_bytes);
    arena_leave(arena);
    return bytes;
}
