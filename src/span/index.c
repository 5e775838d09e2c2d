/* SPDX-License-Identifier: MIT */
/* index.c - see index_internal.h. */
#include "span/index_internal.h"

#define EXACT_ROWS 32u
#define INDEX_SCAN 16
/* What is taken across kinds must be dirty in so large a part. */
#define DIRTY_SHARE 8u

static unsigned row_of(size_t n)
{
    if (n <= EXACT_ROWS) {
        return (unsigned)n - 1;
    }
    unsigned doubling = bit_highest(n); /* 5 for 32 .. 63 */
    unsigned quarter = (unsigned)(n >> (doubling - 2)) & 3;
    unsigned row = EXACT_ROWS + (doubling - 5) * 4 + quarter;
    return row < INDEX_ROWS ? row : INDEX_ROWS - 1;
}

static struct span *descriptor_at(const char *address)
{
    return map_descriptor(address);
}

static struct span *last_descriptor(struct span *span)
{
    return descriptor_at(span->begin + ((size_t)(span->n_granules - 1) << GRANULE_SHIFT));
}

static enum span_kind kind_of(const struct span *span)
{
    return span->older == span ? SPAN_CLEAN : SPAN_DIRTY;
}

/* ---- rows and ages ------------------------------------------------------------------------------------------ */

static void row_push(struct index *index, struct span *span, enum span_kind kind)
{
    unsigned row = row_of(span->n_granules);
    struct span **head = &index->rows[kind][row];
    span->prev = NULL;
    span->next = *head;
    if (*head != NULL) {
        (*head)->prev = span;
    }
    *head = span;
    index->occupied[kind][row / 64] |= (uint64_t)1 << row % 64;
    index->granules[kind] += span->n_granules;
}

static void row_remove(struct index *index, struct span *span, enum span_kind kind)
{
    unsigned row = row_of(span->n_granules);
    if (span->next != NULL) {
        span->next->prev = span->prev;
    }
    if (span->prev != NULL) {
        span->prev->next = span->next;
    } else {
        index->rows[kind][row] = span->next;
        if (span->next == NULL) {
            index->occupied[kind][row / 64] &= ~((uint64_t)1 << row % 64);
        }
    }
    index->granules[kind] -= span->n_granules;
}

static void age_push(struct index *index, struct span *span)
{
    span->younger = NULL;
    span->older = index->youngest;
    if (index->youngest != NULL) {
        index->youngest->younger = span;
    } else {
        index->oldest = span;
    }
    index->youngest = span;
}

static void age_remove(struct index *index, struct span *span)
{
    *(span->older != NULL ? &span->older->younger : &index->oldest) = span->younger;
    *(span->younger != NULL ? &span->younger->older : &index->youngest) = span->older;
}

/* Both ends of the span now say how long it is (S1). */
static void mark_ends(struct span *span, uint8_t state)
{
    struct span *last = last_descriptor(span);
    store_relaxed(&span->state, state);
    store_relaxed(&last->state, state);
    if (last != span) {
        last->back = span->n_granules - 1;
    }
    span->back = 0;
}

static void link_in(struct index *index, struct span *span, enum span_kind kind)
{
    mark_ends(span, SPAN_FREE);
    row_push(index, span, kind);
    if (kind == SPAN_DIRTY) {
        age_push(index, span);
    } else {
        span->older = span; /* in no list by age: how kind_of knows it */
    }
}

static void link_out(struct index *index, struct span *span)
{
    enum span_kind kind = kind_of(span);
    row_remove(index, span, kind);
    if (kind == SPAN_DIRTY) {
        age_remove(index, span);
    }
    mark_ends(span, SPAN_USED);
}

/* ---- joining and cutting ------------------------------------------------------------------------------------ */

static struct span *free_span_before(struct span *span)
{
    struct span *last = descriptor_at(span->begin - 1);
    if (last == NULL || load_relaxed(&last->state) != SPAN_FREE) {
        return NULL;
    }
    return descriptor_at(span->begin - ((size_t)(last->back + 1) << GRANULE_SHIFT));
}

static struct span *free_span_behind(struct span *span)
{
    struct span *first = descriptor_at(span->begin + ((size_t)span->n_granules << GRANULE_SHIFT));
    return first == NULL || load_relaxed(&first->state) != SPAN_FREE ? NULL : first;
}

/* right lies right behind left; both are out of the index. */
static struct span *join(struct span *left, struct span *right)
{
    struct span *larger = left->n_granules >= right->n_granules ? left : right;
    left->stamp_ms = larger->stamp_ms;
    left->zero &= right->zero;
    left->purged |= right->purged;
    left->n_granules += right->n_granules;
    store_relaxed(&left->state, SPAN_USED);
    store_relaxed(&right->state, SPAN_NONE);
    return left;
}

void index_add(struct index *index, struct span *span, enum span_kind kind)
{
    struct span *before = free_span_before(span);
    if (before != NULL && kind_of(before) == kind) {
        link_out(index, before);
        store_relaxed(&last_descriptor(before)->state, SPAN_NONE);
        span = join(before, span);
    }
    struct span *behind = free_span_behind(span);
    if (behind != NULL && kind_of(behind) == kind) {
        link_out(index, behind);
        store_relaxed(&last_descriptor(span)->state, SPAN_NONE);
        span = join(span, behind);
    }
    link_in(index, span, kind);
}

/* A new span's descriptor, with what it has from the one that it is cut out of. */
static struct span *cut_descriptor(const struct span *from, char *begin, size_t n)
{
    struct span *span = descriptor_at(begin);
    span->begin = begin;
    span->n_granules = (uint32_t)n;
    span->back = 0;
    span->stamp_ms = from->stamp_ms;
    span->zero = from->zero;
    span->purged = from->purged;
    span->own = 0;
    store_relaxed(&span->state, SPAN_USED);
    return span;
}

/* Cuts [begin, begin + n) out of a span that has left the index; what lies before and behind goes back into it. */
static struct span *cut_out(struct index *index, struct span *span, enum span_kind kind, char *begin, size_t n)
{
    size_t before = ptr_diff(begin, span->begin) >> GRANULE_SHIFT;
    size_t behind = span->n_granules - before - n;
    struct span *cut = before == 0 ? span : cut_descriptor(span, begin, n);
    if (behind != 0) {
        link_in(index, cut_descriptor(span, begin + (n << GRANULE_SHIFT), behind), kind);
    }
    if (before != 0) {
        span->n_granules = (uint32_t)before;
        link_in(index, span, kind);
    }
    cut->n_granules = (uint32_t)n;
    mark_ends(cut, SPAN_USED);
    return cut;
}

/* ---- taking ------------------------------------------------------------------------------------------------- */

static char *place_in(const struct span *span, size_t n, size_t align_granules)
{
    char *begin = (char *)round_up((uintptr_t)span->begin, align_granules << GRANULE_SHIFT);
    size_t skipped = ptr_diff(begin, span->begin) >> GRANULE_SHIFT;
    return skipped <= span->n_granules && n <= span->n_granules - skipped ? begin : NULL;
}

static unsigned next_row(const struct index *index, enum span_kind kind, unsigned row)
{
    while (row < INDEX_ROWS) {
        uint64_t rest = index->occupied[kind][row / 64] >> row % 64;
        if (rest != 0) {
            return row + bit_lowest(rest);
        }
        row = (row / 64 + 1) * 64;
    }
    return INDEX_ROWS;
}

struct span *index_take(struct index *index, enum span_kind kind, size_t n, size_t align_granules)
{
    for (unsigned row = row_of(n); (row = next_row(index, kind, row)) < INDEX_ROWS; row++) {
        struct span *best = NULL;
        int tried = 0;
        for (struct span *span = index->rows[kind][row]; span != NULL && tried < INDEX_SCAN; span = span->next) {
            bool fits = place_in(span, n, align_granules) != NULL;
            if (fits && (best == NULL || span->n_granules < best->n_granules)) {
                best = span;
            }
            tried++;
        }
        if (best != NULL) {
            char *begin = place_in(best, n, align_granules);
            link_out(index, best);
            return cut_out(index, best, kind, begin, n);
        }
    }
    return NULL;
}

/* How many granules lie free in a row with the free span, whatever their kind; counts no further than enough. */
static size_t free_around(struct span *span, size_t enough)
{
    size_t n = span->n_granules;
    for (struct span *at = span; n < enough && (at = free_span_behind(at)) != NULL;) {
        n += at->n_granules;
    }
    for (struct span *at = span; n < enough && (at = free_span_before(at)) != NULL;) {
        n += at->n_granules;
    }
    return n;
}

static void inherit_purged(struct span *span, const struct span *neighbour)
{
    if (neighbour->purged) {
        span->purged = 1;
        span->stamp_ms = neighbour->stamp_ms;
    }
}

/* The span has left the index; it takes at most n granules of a free neighbour along. */
static void extend_behind(struct index *index, struct span *span, struct span *behind, size_t n)
{
    bool zero;
    n = size_min(n, behind->n_granules);
    inherit_purged(span, behind);
    if (index_take_at(index, behind->begin, n, &zero)) {
        span->n_granules += (uint32_t)n;
    }
}

static struct span *extend_before(struct index *index, struct span *span, struct span *before, size_t n)
{
    enum span_kind kind = kind_of(before);
    n = size_min(n, before->n_granules);
    link_out(index, before);
    inherit_purged(span, before);
    struct span *cut = cut_out(index, before, kind, span->begin - (n << GRANULE_SHIFT), n);
    uint32_t stamp_ms = span->stamp_ms;
    cut = join(cut, span);
    cut->stamp_ms = stamp_ms;
    return cut;
}

static struct span *extend(struct index *index, struct span *span, size_t n)
{
    struct span *neighbour;
    link_out(index, span);
    while (span->n_granules < n && (neighbour = free_span_behind(span)) != NULL) {
        extend_behind(index, span, neighbour, n - span->n_granules);
    }
    while (span->n_granules < n && (neighbour = free_span_before(span)) != NULL) {
        span = extend_before(index, span, neighbour, n - span->n_granules);
    }
    mark_ends(span, SPAN_USED);
    return span;
}

struct span *index_take_extended(struct index *index, size_t n)
{
    int tried = 0;
    for (unsigned row = row_of(n) + 1; row-- > 0 && tried < INDEX_SCAN;) {
        for (struct span *span = index->rows[SPAN_DIRTY][row]; span != NULL && tried < INDEX_SCAN; span = span->next) {
            if (span->n_granules < n / DIRTY_SHARE) {
                return NULL;
            }
            if (span->n_granules < n && free_around(span, n) >= n) {
                return extend(index, span, n);
            }
            tried++;
        }
    }
    return NULL;
}

struct span *index_take_largest(struct index *index, size_t at_most)
{
    for (unsigned word = INDEX_ROWS / 64; word-- > 0;) {
        uint64_t occupied = index->occupied[SPAN_DIRTY][word];
        if (occupied != 0) {
            struct span *span = index->rows[SPAN_DIRTY][word * 64 + bit_highest(occupied)];
            link_out(index, span);
            return cut_out(index, span, SPAN_DIRTY, span->begin, size_min(span->n_granules, at_most));
        }
    }
    return NULL;
}

struct span *index_take_older(struct index *index, uint32_t stamp_ms)
{
    struct span *span = index->oldest;
    if (span == NULL || (int32_t)(stamp_ms - span->stamp_ms) < 0) {
        return NULL;
    }
    link_out(index, span);
    return span;
}

bool index_take_at(struct index *index, void *begin, size_t n, bool *zero)
{
    struct span *span = descriptor_at(begin);
    if (span == NULL || load_relaxed(&span->state) != SPAN_FREE || span->begin != begin || span->n_granules < n) {
        return false;
    }
    enum span_kind kind = kind_of(span);
    *zero = span->zero;
    link_out(index, span);
    cut_out(index, span, kind, begin, n);
    store_relaxed(&span->state, SPAN_NONE);
    store_relaxed(&last_descriptor(span)->state, SPAN_NONE);
    return true;
}

int index_forget(void *begin, size_t n, void *unused)
{
    (void)unused;
    for (size_t i = 0; i < n; i++) {
        struct span *span = descriptor_at((char *)begin + (i << GRANULE_SHIFT));
        if (span != NULL && load_relaxed(&span->state) == SPAN_FREE) {
            store_relaxed(&span->state, SPAN_NONE);
        }
    }
    return 0;
}
