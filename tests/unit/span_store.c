/* SPDX-License-Identifier: MIT */
/* span_store.c - the store of spans: its clock, its alignments, and what a fork leaves of it. */
#include "child.h"

#include <pthread.h>

#include "map/map.h"
#include "os/os.h"
#include "span/span.h"

static void give_back_dirty(size_t n)
{
    struct span *span = span_take(n, 1);
    EXPECT(span != NULL);
    memset(span->begin, 1, span_bytes(span));
    span_give(span, /* touched */ true);
}

/* 32 bits of milliseconds: in their upper half nothing may look as if it were due long from now. */
static void tick_in_the_upper_half(void *unused)
{
    (void)unused;
    give_back_dirty(10);
    uint32_t real = (uint32_t)os_now_ms();
    uint32_t late = real < 0x80000000u - 10000 ? 0x80000001u : real + 10000;
    struct span_figures figures;
    span_figures(&figures);
    EXPECT(figures.dirty_bytes == 10 * GRANULE_BYTES);
    span_tick(late);
    give_back_dirty(1); /* whoever has the lock next tells */
    span_figures(&figures);
    EXPECT(figures.purged_bytes == 10 * GRANULE_BYTES);
}

static void pages_age_at_any_time_of_the_clock(void **state)
{
    (void)state;
    child_succeeds(tick_in_the_upper_half, NULL);
}

static void take_at_huge_alignments(void *unused)
{
    (void)unused;
    EXPECT(span_prepare());
    for (unsigned shift = 0; shift <= 28; shift += 2) {
        size_t before = map_books_bytes();
        struct span *span = span_take(3, (size_t)1 << shift);
        EXPECT(span != NULL || shift > 24);
        EXPECT(span == NULL || (uintptr_t)span->begin % (GRANULE_BYTES << shift) == 0);
        EXPECT(map_books_bytes() - before <= 16 * MIB); /* none for what was passed over; a leaf of the tree at most */
    }
}

static void an_alignment_costs_no_books(void **state)
{
    (void)state;
    child_succeeds(take_at_huge_alignments, NULL);
}

/* ---- across kinds ------------------------------------------------------------------------------------------- */

/* used | clean 3 | dirty 4 | clean 5 | used: a span of 10 is the dirty one, all behind it, and what lacks from before.
 */
static void take_more_than_is_dirty(void *unused)
{
    (void)unused;
    struct span *guard = span_take(1, 1);
    struct span *before = span_take(3, 1);
    struct span *dirty = span_take(4, 1);
    struct span *behind = span_take(5, 1);
    struct span *last = span_take(1, 1);
    EXPECT(guard != NULL && last != NULL && before->begin + span_bytes(before) == dirty->begin &&
           dirty->begin + span_bytes(dirty) == behind->begin);
    char *begin = before->begin;
    span_give(before, /* touched */ false);
    span_give(behind, /* touched */ false);
    span_give(dirty, /* touched */ true);

    struct span *span = span_take(10, 1);
    EXPECT(span != NULL && span->begin == begin + 2 * GRANULE_BYTES && span->n_granules == 10 && !span->zero);
    struct span *rest = span_take(2, 1);
    EXPECT(rest != NULL && rest->begin == begin && rest->zero);
    span_give(rest, /* touched */ false);
    span_give(span, /* touched */ true);
    struct span_figures figures;
    span_figures(&figures);
    EXPECT(figures.used_bytes == 2 * GRANULE_BYTES && figures.dirty_bytes == 10 * GRANULE_BYTES);
}

static void a_dirty_span_takes_its_neighbours_along(void **state)
{
    (void)state;
    child_succeeds(take_more_than_is_dirty, NULL);
}

/* A byte at either end of each granule says whose it is. */
static void mark(const struct span *span, char name)
{
    for (size_t i = 0; i < span_bytes(span); i += GRANULE_BYTES) {
        span->begin[i] = name;
        span->begin[i + GRANULE_BYTES - 1] = name;
    }
}

static bool has_marks(const struct span *span, char name)
{
    for (size_t i = 0; i < span_bytes(span); i += GRANULE_BYTES) {
        if (span->begin[i] != name || span->begin[i + GRANULE_BYTES - 1] != name) {
            return false;
        }
    }
    return true;
}

static void take_and_give_at_random(void *unused)
{
    (void)unused;
    enum { n_slots = 30 };
    struct span *slots[n_slots] = {NULL};
    unsigned seed = 5;
    for (unsigned i = 0; i < 20000; i++) {
        seed = seed * 1103515245 + 12345;
        unsigned k = (seed >> 16) % n_slots;
        if (slots[k] != NULL) {
            bool touched = seed >> 29 != 0;
            EXPECT(!touched || has_marks(slots[k], (char)(k + 1)));
            if (!touched) {
                os_purge(slots[k]->begin, span_bytes(slots[k]), /* lazy */ false);
            }
            span_give(slots[k], touched);
            slots[k] = NULL;
        } else {
            slots[k] = span_take(1 + (seed >> 8) % 60, 1);
            EXPECT(slots[k] != NULL);
            EXPECT(!slots[k]->zero || has_marks(slots[k], 0));
            mark(slots[k], (char)(k + 1));
        }
    }
    for (unsigned k = 0; k < n_slots; k++) {
        if (slots[k] != NULL) {
            EXPECT(has_marks(slots[k], (char)(k + 1)));
            span_give(slots[k], /* touched */ true);
        }
    }
    struct span_figures figures;
    span_figures(&figures);
    EXPECT(figures.used_bytes == 0 && figures.area_bytes < 256 * MIB);
}

static void no_span_is_given_twice(void **state)
{
    (void)state;
    child_succeeds(take_and_give_at_random, NULL);
}

/* ---- fork --------------------------------------------------------------------------------------------------- */

static _Atomic bool stop;

static void work(size_t rounds, unsigned seed)
{
    enum { n_slots = 40 };
    struct span *slots[n_slots] = {NULL};
    for (size_t i = 0; i < rounds && !stop; i++) {
        seed = seed * 1103515245 + 12345;
        size_t k = seed >> 16 & 0xffff;
        struct span **slot = &slots[k % n_slots];
        if (*slot == NULL) {
            *slot = span_take(1 + k % 7, 1);
            EXPECT(*slot != NULL);
            (*slot)->begin[0] = (char)k;
            (*slot)->begin[1] = (char)seed;
            (*slot)->stamp_ms = seed % 256 << 8 | k % 256; /* nobody else may write the descriptor */
        } else {
            EXPECT((char)((*slot)->stamp_ms >> 8) == (*slot)->begin[1] && (char)(*slot)->stamp_ms == (*slot)->begin[0]);
            span_give(*slot, /* touched */ true);
            *slot = NULL;
        }
    }
    for (size_t k = 0; k < n_slots; k++) {
        if (slots[k] != NULL) {
            span_give(slots[k], /* touched */ true);
        }
    }
}

static void *work_for_long(void *seed)
{
    work(SIZE_MAX, (unsigned)(uintptr_t)seed);
    return NULL;
}

static void use_what_a_fork_left(void *unused)
{
    (void)unused;
    span_fork_child();
    work(600, 7);
    struct span_figures figures;
    span_figures(&figures);
    EXPECT(figures.dirty_bytes <= figures.area_bytes);
}

static void a_child_has_a_store_whoever_held_the_lock(void **state)
{
    (void)state;
    pthread_t threads[3];
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, work_for_long, (void *)(i + 1)), 0);
    }
    for (size_t i = 0; i < 40; i++) {
        child_succeeds(use_what_a_fork_left, NULL);
    }
    stop = true;
    for (size_t i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_age_at_any_time_of_the_clock),        cmocka_unit_test(an_alignment_costs_no_books),
        cmocka_unit_test(a_dirty_span_takes_its_neighbours_along),   cmocka_unit_test(no_span_is_given_twice),
        cmocka_unit_test(a_child_has_a_store_whoever_held_the_lock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
