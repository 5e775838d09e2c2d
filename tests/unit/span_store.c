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
        cmocka_unit_test(pages_age_at_any_time_of_the_clock),
        cmocka_unit_test(an_alignment_costs_no_books),
        cmocka_unit_test(a_child_has_a_store_whoever_held_the_lock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
