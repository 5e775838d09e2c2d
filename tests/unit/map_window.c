/* SPDX-License-Identifier: MIT */
/* map_window.c - the window when address space is short, and when the first area lies low. Each case in a fresh
 * process. */
#include "child.h"

#include <sys/resource.h>

#include "map/map.h"
#include "os/os.h"

#define NEAR ((uintptr_t)0x7f1234560000)

static size_t window_bytes(void)
{
    return load_relaxed(&map_window.n_granules) * GRANULE_BYTES;
}

static void check_range(uintptr_t begin, size_t n_granules)
{
    EXPECT(map_add((void *)begin, n_granules * GRANULE_BYTES) == 0);
    map_set((void *)begin, n_granules, 0x1234);
    for (size_t i = 0; i < n_granules; i++) {
        EXPECT(map_tag((void *)(begin + i * GRANULE_BYTES)) == 0x1234);
        EXPECT(map_descriptor((void *)(begin + i * GRANULE_BYTES)) != NULL);
    }
    EXPECT(map_tag((void *)(begin - 1)) == 0);
    EXPECT(map_tag((void *)(begin + n_granules * GRANULE_BYTES)) == 0);
}

static void use_limited(void *limit)
{
    size_t bytes = *(size_t *)limit;
    EXPECT(setrlimit(RLIMIT_AS, &(struct rlimit){.rlim_cur = bytes, .rlim_max = bytes}) == 0);
    EXPECT(map_init((void *)NEAR));
    EXPECT(window_bytes() >= GIB);
    EXPECT(window_bytes() / GRANULE_BYTES * sizeof(uint32_t) <= bytes / 16);
    uintptr_t begin = load_relaxed(&map_window.begin);
    EXPECT(NEAR >= begin && NEAR - begin < window_bytes());
    check_range(NEAR, 100);
    check_range(begin - 100 * GRANULE_BYTES, 200);
    check_range(begin + window_bytes() - 100 * GRANULE_BYTES, 200);
    check_range((uintptr_t)3 << 40, 10);
}

static void a_limited_address_space_gets_a_small_window(void **state)
{
    (void)state;
    if (SANITIZED) {
        skip();
    }
    for (size_t limit = 32 * MIB; limit <= 4 * GIB; limit *= 2) {
        child_succeeds(use_limited, &limit);
    }
}

static void look_at_whole_window(void *unused)
{
    (void)unused;
    EXPECT(map_init((void *)NEAR));
    EXPECT(window_bytes() >= ((size_t)1 << 40));
    EXPECT(map_books_resident_bytes() <= 64 * KIB);
    check_range(NEAR, 1000);
    EXPECT(map_books_resident_bytes() <= MIB);
}

static void the_whole_window_is_charged_for_what_is_used(void **state)
{
    (void)state;
    child_succeeds(look_at_whole_window, NULL);
}

static void use_low(void *near)
{
    uintptr_t low = *(uintptr_t *)near;
    EXPECT(map_init((void *)low));
    EXPECT(load_relaxed(&map_window.begin) + window_bytes() > load_relaxed(&map_window.begin)); /* no wrap */
    check_range(low, 100);
    EXPECT(low - load_relaxed(&map_window.begin) < window_bytes() || low < CHUNK_BYTES);
    check_range(load_relaxed(&map_window.begin) + window_bytes() - 5 * GRANULE_BYTES, 10);
}

static void the_first_area_may_lie_anywhere(void **state)
{
    (void)state;
    for (uintptr_t near = 64 * KIB; near < (uintptr_t)1 << 47; near *= 8) {
        child_succeeds(use_low, &near);
    }
    uintptr_t high = ((uintptr_t)1 << 47) - 200 * GRANULE_BYTES;
    child_succeeds(use_low, &high);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_limited_address_space_gets_a_small_window),
        cmocka_unit_test(the_whole_window_is_charged_for_what_is_used),
        cmocka_unit_test(the_first_area_may_lie_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
