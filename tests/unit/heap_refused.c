/* SPDX-License-Identifier: MIT */
/* heap_refused.c - the heap on an OS that refuses, and what it gives back to one that does not. */
#include "child.h"

#include <pthread.h>

#include "heap/heap_internal.h"
#include "os/fake.h"
#include "os/os.h"
#include "span/span.h"

/* Pages that the program has locked stay as they are when the heap would give them back. */
static void take_zeroed_after_refused_purges(void *unused)
{
    (void)unused;
    size_t sizes[] = {3 * os_page_bytes(), 10000, 600000, 100};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        enum { n_blocks = 5 };
        unsigned char *blocks[n_blocks];
        void *keeps_the_slab = heap_malloc(sizes[i]);
        EXPECT(keeps_the_slab != NULL);
        for (size_t k = 0; k < n_blocks; k++) {
            blocks[k] = heap_calloc(1, sizes[i]);
            EXPECT(blocks[k] != NULL);
            memset(blocks[k], 0xaa, sizes[i]);
        }
        for (size_t k = 0; k < n_blocks; k++) {
            heap_free(blocks[k]);
        }
        fake_fail(FAKE_PURGE, 1, SIZE_MAX);
        heap_trim(0);
        EXPECT(sizes[i] < os_page_bytes() || fake_failures() > 0);
        for (size_t k = 0; k < n_blocks; k++) {
            blocks[k] = heap_calloc(1, sizes[i]);
            for (size_t at = 0; at < sizes[i]; at++) {
                EXPECT(blocks[k][at] == 0);
            }
        }
    }
}

static void refused_purges_leave_no_contents(void **state)
{
    (void)state;
    child_succeeds(take_zeroed_after_refused_purges, NULL);
}

/* A block with a mapping of its own grows, to where there is room, while one call is refused. */
static void grow_while_one_call_fails(void *k)
{
    size_t bytes = 64 * MIB;
    unsigned char *wall = heap_malloc(bytes);
    unsigned char *p = heap_malloc(bytes);
    EXPECT(wall != NULL && p != NULL);
    memset(p, 0xa5, MIB);
    p[bytes - 1] = 0x5a;
    fake_fail(FAKE_ANY, *(size_t *)k, SIZE_MAX);
    unsigned char *grown = heap_realloc(p, 1024 * MIB); /* more books than there are left */
    size_t failures = fake_failures();
    EXPECT(grown != NULL || failures > 0);
    fake_fail(FAKE_ANY, 0, 0);
    p = grown != NULL ? grown : p;
    EXPECT(p[0] == 0xa5 && p[MIB - 1] == 0xa5 && p[MIB] == 0 && p[bytes - 1] == 0x5a);
    EXPECT(heap_usable(p) == (grown != NULL ? 1024 * MIB : bytes));
    p = heap_realloc(p, 2048 * MIB);
    EXPECT(p != NULL && p[bytes - 1] == 0x5a);
    heap_free(p);
    heap_free(wall);
    struct span_figures figures;
    span_figures(&figures);
    EXPECT(figures.own_bytes == 0 && figures.n_own == 0);
    _exit(failures == 0 ? 0 : 1);
}

/* Where no mapping can be moved a block grows by being copied, and a gigabyte of that shows nothing new. */
static bool can_move_mappings(void)
{
    size_t page = os_page_bytes();
    void *p = os_map(page, page);
    void *target = os_reserve(page, page);
    bool can = os_remap(p, page, page, target);
    os_release(can ? target : p, page);
    return can;
}

static void large_blocks_grow_or_stay(void **state)
{
    (void)state;
    if (!can_move_mappings()) {
        skip();
    }
    size_t k = 1;
    for (;; k++) {
        struct child child = child_run(grow_while_one_call_fails, &k);
        assert_string_equal(child.said, "");
        assert_true(WIFEXITED(child.status) && WEXITSTATUS(child.status) <= 1);
        if (WEXITSTATUS(child.status) == 0) {
            break;
        }
    }
    assert_true(k > 2);
}

static void shrink_a_mapping(void *unused)
{
    (void)unused;
    struct span_figures figures;
    unsigned char *p = heap_malloc(256 * MIB);
    p[MIB - 1] = 7;
    EXPECT(heap_realloc(p, MIB) == p && p[MIB - 1] == 7);
    span_figures(&figures);
    EXPECT(figures.own_bytes == MIB && figures.n_own == 1);
    p = heap_realloc(p, 64 * MIB);
    EXPECT(p != NULL && p[MIB - 1] == 7 && p[MIB] == 0);
    heap_free(p);
    span_figures(&figures);
    EXPECT(figures.own_bytes == 0 && figures.n_own == 0);
}

static void a_mapping_shrinks(void **state)
{
    (void)state;
    child_succeeds(shrink_a_mapping, NULL);
}

/* Blocks of two pages: most of their pages begin no block. */
static void trim_twice(void *unused)
{
    (void)unused;
    void *blocks[64];
    for (size_t i = 0; i < 64; i++) {
        blocks[i] = heap_malloc(7000);
        memset(blocks[i], 1, 7000);
    }
    for (size_t i = 0; i < 64; i++) {
        if (i % 9 != 0) {
            heap_free(blocks[i]);
        }
    }
    EXPECT(heap_trim(0) > 0);
    EXPECT(heap_trim(0) == 0);
}

static void a_second_trim_finds_nothing(void **state)
{
    (void)state;
    child_succeeds(trim_twice, NULL);
}

static void *take_one(void *unused)
{
    (void)unused;
    return heap_malloc(1);
}

/* Threads whose end nobody sees: each would have a heap of its own. */
static void start_threads_without_memory(void *unused)
{
    (void)unused;
    enum { n_threads = 400 };
    EXPECT(heap_malloc(1) != NULL);
    for (size_t i = 0; i < n_threads; i++) {
        pthread_t thread;
        EXPECT(pthread_create(&thread, NULL, take_one, NULL) == 0);
        pthread_join(thread, NULL);
        fake_fail(FAKE_ANY, 1, SIZE_MAX);
    }
    EXPECT(heap_count() < n_threads);
    for (size_t i = 0; i < heap_count(); i++) {
        EXPECT(heap_by_index(i) != NULL);
    }
}

static void a_refused_heap_uses_up_no_number(void **state)
{
    (void)state;
    child_succeeds(start_threads_without_memory, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_second_trim_finds_nothing),
        cmocka_unit_test(large_blocks_grow_or_stay),
        cmocka_unit_test(a_mapping_shrinks),
        cmocka_unit_test(refused_purges_leave_no_contents),
        cmocka_unit_test(a_refused_heap_uses_up_no_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
