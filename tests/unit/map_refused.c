/* SPDX-License-Identifier: MIT */
/* map_refused.c - the map on an OS that refuses: each call in turn, and every call of a kind. */
#include "child.h"

#include <errno.h>

#include "map/map.h"
#include "os/fake.h"
#include "os/os.h"

#define NEAR ((char *)(uintptr_t)0x7f1234560000)
#define FAR ((char *)((uintptr_t)3 << 40))

static bool add(char *begin)
{
    int error = map_add(begin, 3 * CHUNK_BYTES);
    EXPECT(error == 0 || error == -ENOMEM);
    if (error == 0) {
        map_set(begin, 10, 0x1234);
    }
    return error == 0;
}

static bool set_up(void)
{
    return map_init(NEAR) && add(NEAR) && add(FAR) && map_books(MIB) != NULL;
}

static void fail_one_and_go_on(void *k)
{
    fake_fail(FAKE_ANY, *(size_t *)k, 1);
    errno = 12345;
    bool worked = set_up();
    EXPECT(errno == 12345);
    size_t failures = fake_failures();
    EXPECT(worked || failures == 1);
    EXPECT(worked || map_tag(FAR) == 0 || map_tag(NEAR) == 0x1234);
    fake_fail(FAKE_ANY, 0, 0);
    EXPECT(set_up()); /* what was refused can be asked for again */
    EXPECT(map_tag(NEAR + 9 * GRANULE_BYTES) == 0x1234 && map_tag(NEAR + 10 * GRANULE_BYTES) == 0);
    EXPECT(map_tag(FAR + 9 * GRANULE_BYTES) == 0x1234 && map_tag(FAR + 10 * GRANULE_BYTES) == 0);
    _exit(failures == 0 ? 0 : 1);
}

static void any_one_refusal_is_survived(void **state)
{
    (void)state;
    size_t k = 1;
    for (;; k++) {
        struct child child = child_run(fail_one_and_go_on, &k);
        assert_string_equal(child.said, "");
        assert_true(WIFEXITED(child.status) && WEXITSTATUS(child.status) <= 1);
        if (WEXITSTATUS(child.status) == 0) {
            break;
        }
    }
    assert_in_range(k, 8, 200);
}

static void refuse_kind(void *kind)
{
    enum fake_kind which = *(enum fake_kind *)kind;
    fake_fail(which, 1, SIZE_MAX);
    bool worked = set_up();
    EXPECT(worked == (fake_failures() == 0 || which == FAKE_ADVISE));
    if (which == FAKE_RESERVE) {
        EXPECT(!map_init(NEAR));
    }
    EXPECT(worked || map_tag(FAR) == 0);
}

static void every_kind_may_be_refused(void **state)
{
    (void)state;
    for (enum fake_kind kind = 0; kind <= FAKE_ANY; kind++) {
        child_succeeds(refuse_kind, &kind);
    }
}

/* Refuses the first reservations of the window's arrays: a smaller one is taken. */
static void refuse_large_windows(void *unused)
{
    (void)unused;
    fake_fail(FAKE_RESERVE, 1, 5);
    EXPECT(map_init(NEAR));
    EXPECT(fake_failures() == 5);
    EXPECT(load_relaxed(&map_window.n_granules) * GRANULE_BYTES == (size_t)1 << 35);
    fake_fail(FAKE_ANY, 0, 0);
    EXPECT(set_up());
}

static void a_refused_window_is_tried_smaller(void **state)
{
    (void)state;
    child_succeeds(refuse_large_windows, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_one_refusal_is_survived),
        cmocka_unit_test(every_kind_may_be_refused),
        cmocka_unit_test(a_refused_window_is_tried_smaller),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
