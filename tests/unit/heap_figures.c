/* SPDX-License-Identifier: MIT */
/* heap_figures.c - allot_stats adds up, allot_trim returns what it says, a thread can put its lists away. */
#include "unit.h"

#include <pthread.h>

static allot_stats_report figures(void)
{
    allot_stats_report stats = ALLOT_STATS_INIT;
    assert_int_equal(allot_stats(&stats), 0);
    return stats;
}

static size_t resident_bytes(void)
{
    unsigned long pages = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    if (statm != NULL) {
        assert_int_equal(fscanf(statm, "%*s %lu", &pages), 1);
        fclose(statm);
    }
    return pages * PAGE;
}

static size_t sum_of_parts(const allot_stats_report *stats)
{
    return stats->rss_live_requested + stats->rss_live_rounding + stats->rss_free_slots + stats->rss_kept +
           stats->rss_tables + stats->rss_not_malloc;
}

enum { n_blocks = 100000 };
static void *blocks[n_blocks];

static void take(size_t size)
{
    for (size_t i = 0; i < n_blocks; i++) {
        blocks[i] = malloc(size);
        memset(blocks[i], 1, size);
    }
}

static void give_every(size_t step, size_t from)
{
    for (size_t i = from; i < n_blocks; i += step) {
        free(blocks[i]);
        blocks[i] = NULL;
    }
}

static void the_form_of_the_report_is_checked(void **state)
{
    (void)state;
    allot_stats_report stats = ALLOT_STATS_INIT;
    assert_int_equal(allot_stats(NULL), EINVAL);
    stats.abi_size = 0;
    assert_int_equal(allot_stats(&stats), EINVAL);
    stats.abi_size = 3;
    assert_int_equal(allot_stats(&stats), EINVAL);
}

static void assert_parts_add_up(const char *when)
{
    size_t outside = resident_bytes();
    allot_stats_report stats = figures();
    if (sum_of_parts(&stats) != stats.rss) {
        fail_msg("%s: parts sum to %zu, rss is %zu", when, sum_of_parts(&stats), stats.rss);
    }
    size_t off = stats.rss > outside ? stats.rss - outside : outside - stats.rss;
    if (off > 2 * MIB) {
        fail_msg("%s: rss is told as %zu, the system says %zu", when, stats.rss, outside);
    }
}

static void parts_add_up_to_the_resident_set(void **state)
{
    (void)state;
    assert_parts_add_up("at the start");
    take(500);
    assert_parts_add_up("with blocks");
    give_every(2, 0);
    assert_parts_add_up("half freed");
    give_every(2, 1);
    assert_parts_add_up("all freed");
    allot_trim(0);
    assert_parts_add_up("after trim");
    void *large = malloc(100 * MIB);
    memset(large, 1, 50 * MIB);
    assert_parts_add_up("half of a large block used");
    free(large);
}

static void parts_say_where_the_memory_is(void **state)
{
    (void)state;
    allot_trim(0);
    allot_stats_report start = figures();
    take(500);
    allot_stats_report full = figures();
    assert_true(full.n_live_blocks >= start.n_live_blocks + n_blocks);
    assert_true(full.live_bytes >= start.live_bytes + n_blocks * 500);
    assert_true(full.live_bytes <= start.live_bytes + n_blocks * 576);
    size_t live = full.rss_live_requested + full.rss_live_rounding;
    assert_true(live >= 49 * MIB * 95 / 100);
    give_every(2, 0);
    allot_stats_report half = figures();
    assert_true(half.rss_free_slots + half.rss_kept >= start.rss_free_slots + start.rss_kept + 15 * MIB);
    give_every(2, 1);
    allot_trim(0);
    allot_stats_report after = figures();
    assert_true(after.n_live_blocks <= start.n_live_blocks + 16);
    assert_true(!RESIDENT_SET_IS_TELLING || after.rss <= start.rss + 4 * MIB);
    assert_true(after.purged_bytes > start.purged_bytes + 30 * MIB);
    assert_true(after.n_purges > start.n_purges);
}

static void large_blocks_are_counted(void **state)
{
    (void)state;
    allot_stats_report before = figures();
    void *middle = malloc(MIB);
    void *mapped = malloc(64 * MIB);
    allot_stats_report during = figures();
    assert_int_equal(during.n_large_blocks, before.n_large_blocks + 2);
    assert_true(during.large_bytes >= before.large_bytes + 65 * MIB);
    assert_int_equal(during.n_own_mappings, before.n_own_mappings + 1);
    assert_true(during.own_mapping_bytes >= before.own_mapping_bytes + 64 * MIB);
    free(middle);
    free(mapped);
    allot_stats_report after = figures();
    assert_int_equal(after.n_large_blocks, before.n_large_blocks);
    assert_int_equal(after.large_bytes, before.large_bytes);
}

static void trim_returns_what_went_back(void **state)
{
    (void)state;
    take(1000);
    give_every(1, 0);
    size_t before = resident_bytes();
    size_t told = allot_trim(0);
    size_t after = resident_bytes();
    size_t gone = before > after ? before - after : 0;
    size_t off = told > gone ? told - gone : gone - told;
    if (RESIDENT_SET_IS_TELLING && off > told / 4 + 2 * MIB) {
        fail_msg("trim told %zu, the resident set shrank by %zu", told, gone);
    }
    allot_trim(0);
    assert_int_equal(allot_trim(0), 0);
}

static void trim_keeps_what_it_is_told_to(void **state)
{
    (void)state;
    allot_trim(0);
    take(300);
    give_every(1, 0);
    size_t kept = figures().rss_kept;
    assert_int_equal(allot_trim(SIZE_MAX), 0);
    allot_trim(2 * MIB);
    allot_stats_report stats = figures();
    assert_true(stats.rss_kept <= 2 * MIB + 64 * KIB);
    assert_true(kept < 2 * MIB || stats.rss_kept >= MIB);
}

static void *flush_here(void *argument)
{
    (void)argument;
    void *some[200];
    for (size_t round = 0; round < 5; round++) {
        for (size_t i = 0; i < COUNT(some); i++) {
            some[i] = malloc(i * 20);
        }
        for (size_t i = 0; i < COUNT(some); i++) {
            free(some[i]);
        }
        allot_thread_flush();
        allot_thread_idle();
    }
    return NULL;
}

static void flush_and_idle_work_at_any_time(void **state)
{
    (void)state;
    allot_thread_flush();
    allot_thread_flush();
    allot_thread_idle();
    flush_here(NULL);
    pthread_t threads[4];
    for (size_t i = 0; i < COUNT(threads); i++) {
        pthread_create(&threads[i], NULL, flush_here, NULL);
    }
    for (size_t i = 0; i < COUNT(threads); i++) {
        pthread_join(threads[i], NULL);
    }
}

static void idle_gives_pages_back(void **state)
{
    (void)state;
    allot_trim(0);
    size_t start = resident_bytes();
    take(400);
    give_every(1, 0);
    allot_thread_idle();
    assert_true(!RESIDENT_SET_IS_TELLING || resident_bytes() <= start + 5 * MIB); /* the cap, and books */
}

static void the_version_is_the_headers(void **state)
{
    (void)state;
    char version[32];
    snprintf(version, sizeof version, "%d.%d.%d", ALLOT_VERSION_MAJOR, ALLOT_VERSION_MINOR, ALLOT_VERSION_PATCH);
    assert_string_equal(allot_version(), version);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_form_of_the_report_is_checked), cmocka_unit_test(parts_add_up_to_the_resident_set),
        cmocka_unit_test(parts_say_where_the_memory_is),     cmocka_unit_test(large_blocks_are_counted),
        cmocka_unit_test(trim_returns_what_went_back),       cmocka_unit_test(trim_keeps_what_it_is_told_to),
        cmocka_unit_test(flush_and_idle_work_at_any_time),   cmocka_unit_test(idle_gives_pages_back),
        cmocka_unit_test(the_version_is_the_headers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
