/* SPDX-License-Identifier: MIT */
/* span_refused.c - spans on an OS that refuses. */
#include "child.h"

#include "map/map.h"
#include "os/fake.h"
#include "os/os.h"
#include "span/area_internal.h"
#include "span/span.h"

/* After a refusal an area has just as many granules as were needed; what is committed at a time follows from the sum of
 * all areas, and must be whole pages still. */
static void commit_after_an_odd_area(void *unused)
{
    (void)unused;
    fake_fail(FAKE_RESERVE, 2, 1); /* behind the map's window */
    EXPECT(map_init((void *)(uintptr_t)0x7f0000000000));
    struct area *odd = area_new(33 * MIB + GRANULE_BYTES, GRANULE_BYTES);
    EXPECT(odd != NULL && fake_failures() == 1);
    EXPECT(ptr_diff(odd->end, odd->begin) == 33 * MIB + GRANULE_BYTES);
    fake_fail(FAKE_ANY, 0, 0);
    struct area *area = area_new(GRANULE_BYTES, GRANULE_BYTES);
    EXPECT(area != NULL);
    for (size_t i = 0; i < 16; i++) {
        char *skipped;
        char *p = area_cut(area, MIB, GRANULE_BYTES, &skipped);
        EXPECT(p != NULL);
        memset(p, 1, MIB);
    }
}

static void odd_areas_leave_whole_pages(void **state)
{
    (void)state;
    child_succeeds(commit_after_an_odd_area, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(odd_areas_leave_whole_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
