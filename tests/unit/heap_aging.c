/* SPDX-License-Identifier: MIT */
/* heap_aging.c - what a heap keeps for the next call: within its bound, and for as long as was said. */
#include "child.h"

#include <time.h>

#include "config/config.h"
#include "heap/heap_internal.h"
#include "os/os.h"

enum { n_most = 50000 };
static void *blocks[n_most];

static void sleep_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static void take_and_free(size_t bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        blocks[i] = heap_malloc(bytes);
        EXPECT(blocks[i] != NULL);
    }
    for (size_t i = 0; i < n; i++) {
        heap_free(blocks[i]);
    }
}

/* Each class in turn learns what it can; while the next one does, its limit is low, for all is free. */
static void learn_class_by_class(void *unused)
{
    (void)unused;
    EXPECT(option_set(OPT_bin_bytes, 3 * MIB));
    heap_free(heap_malloc(1));
    struct heap *h = load_relaxed(&heap_current);
    for (unsigned c = class_of(64); c < class_of(1024); c += 2) {
        size_t bytes = heap_class_size(c);
        for (size_t round = 0; round < 12; round++) {
            take_and_free(bytes, 3 * MIB / bytes);
        }
    }
    size_t sum = 0;
    for (unsigned c = 0; c < SMALL_CLASSES; c++) {
        EXPECT(h->bins[c].limit <= h->bins[c].learned);
        sum += (size_t)h->bins[c].learned * h->bins[c].size;
    }
    EXPECT(sum == h->learned_bytes && sum <= 3 * MIB);
}

static void all_bins_together_learn_within_the_bound(void **state)
{
    (void)state;
    child_succeeds(learn_class_by_class, NULL);
}

/* The clock's last look lies back further than the age at which pages go. */
static void free_after_a_pause(void *unused)
{
    (void)unused;
    enum { n = 4 };
    size_t bytes = 100000;
    for (size_t i = 0; i < n; i++) {
        blocks[i] = heap_malloc(bytes);
        memset(blocks[i], 1, bytes);
    }
    struct heap *h = heap_enter();
    heap_tick(h, os_now_ms());
    heap_leave(h);
    sleep_ms(400);
    heap_free(blocks[0]);
    size_t dirty = h->medium_dirty_bytes;
    EXPECT(dirty >= bytes);
    h = heap_enter();
    heap_tick(h, os_now_ms());
    heap_leave(h);
    EXPECT(h->medium_dirty_bytes == dirty);
    for (size_t i = 0; i < 5; i++) { /* and that look doesn't make it new again */
        sleep_ms(100);
        h = heap_enter();
        heap_tick(h, os_now_ms());
        heap_leave(h);
    }
    EXPECT(h->medium_dirty_bytes < dirty);
}

static void a_medium_block_ages_from_when_it_was_freed(void **state)
{
    (void)state;
    child_succeeds(free_after_a_pause, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_bins_together_learn_within_the_bound),
        cmocka_unit_test(a_medium_block_ages_from_when_it_was_freed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
