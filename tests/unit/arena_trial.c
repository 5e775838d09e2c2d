/* SPDX-License-Identifier: MIT */
/* arena_trial.c - the trial of backend_trial.h: every backend of the library and of the tests passes it, and each kind
 * of broken one is found out. */
#include "arena_test.h"

#include <allot/backend_trial.h>

static allot_backend *make_on_ground(void *context)
{
    return ((const struct ground *)context)->backend();
}

static void every_backend_passes(void **state)
{
    (void)state;
    for (ground = grounds; ground < grounds + COUNT(grounds); ground++) {
        if (ground->backend != NULL) {
            allot_backend_trial trial = {.make = make_on_ground, .context = (void *)(uintptr_t)ground};
            printf("%s\n", ground->name);
            assert_int_equal(allot_backend_try(&trial), 0);
        }
    }
}

/* ---- broken ones ------------------------------------------------------------------------------------------------ */

enum fault {
    NO_FAULT,
    OLD_TABLE,
    NO_GROW,
    TOO_SMALL,
    OVERLAPPING,
    NOTHING_SET,
    NEGATIVE_ERROR,
    LOSES_CONTENTS,
    LIES_ABOUT_SIZE,
    RELEASE_FAILS,
    PROMISES_EVERYTHING,
    HELD_BACK,
    N_FAULTS
};

static const char *const told[N_FAULTS] = {
    [OLD_TABLE] = "abi_size is set",
    [NO_GROW] = "grow is there",
    [TOO_SMALL] = "a new piece has need_bytes",
    [OVERLAPPING] = "a new piece overlaps no other",
    [NOTHING_SET] = "grow sets its results",
    [NEGATIVE_ERROR] = "grow returns an errno, not a negative number",
    [LOSES_CONTENTS] = "grow leaves the contents of the latest piece alone",
    [LIES_ABOUT_SIZE] = "a piece grown in place has need_bytes more",
    [RELEASE_FAILS] = "release of a whole piece succeeds",
    [PROMISES_EVERYTHING] = "grow by more than any system has fails with an errno",
    [HELD_BACK] = "an unused backend has a byte",
};

static struct {
    allot_backend backend;
    allot_backend_ops ops;
    enum fault fault;
    size_t used;
} broken;

static _Alignas(16) char region[32 << 20];

static int broken_grow(allot_backend *backend, void *begin, size_t size_bytes, size_t need_bytes, size_t want_bytes,
                       void **out_begin, size_t *out_bytes)
{
    (void)backend, (void)want_bytes;
    if (need_bytes > sizeof region - broken.used && broken.fault != PROMISES_EVERYTHING) {
        return broken.fault == NEGATIVE_ERROR ? -ENOMEM : ENOMEM;
    }
    if (need_bytes > sizeof region) {
        *out_begin = region;
        *out_bytes = need_bytes;
        return 0;
    }
    switch (broken.fault) {
    case HELD_BACK:
        return ENOMEM;
    case NEGATIVE_ERROR:
        return begin == NULL ? 0 - ENOMEM : ENOMEM;
    case NOTHING_SET:
        return 0;
    case LIES_ABOUT_SIZE:
        if (begin != NULL) {
            *out_begin = begin;
            *out_bytes = size_bytes;
            return 0;
        }
        break;
    case LOSES_CONTENTS:
        memset(begin == NULL ? region : begin, 0, 1);
        break;
    default:
        break;
    }
    *out_begin = region + (broken.fault == OVERLAPPING ? broken.used - broken.used / 3 : broken.used);
    *out_bytes = need_bytes - (broken.fault == TOO_SMALL);
    broken.used += need_bytes;
    return 0;
}

static int broken_release(allot_backend *backend, void *begin, size_t size_bytes)
{
    (void)backend, (void)begin, (void)size_bytes;
    return broken.fault == RELEASE_FAILS ? EINVAL : 0;
}

static allot_backend *make_broken(void *context)
{
    (void)context;
    broken.used = 0;
    broken.ops =
        (allot_backend_ops){.abi_size = sizeof(allot_backend_ops), .grow = broken_grow, .release = broken_release};
    broken.ops.abi_size -= broken.fault == OLD_TABLE;
    broken.ops.grow = broken.fault == NO_GROW ? NULL : broken.ops.grow;
    broken.backend = (allot_backend){.ops = &broken.ops};
    return &broken.backend;
}

static void look_for(const char *line, void *context)
{
    *(bool *)context = *(bool *)context || strstr(line, told[broken.fault]) != NULL;
}

static void each_broken_one_is_found_out(void **state)
{
    (void)state;
    for (int fault = NO_FAULT; fault < N_FAULTS; fault++) {
        bool found = false;
        allot_backend_trial trial = {.make = make_broken, .context = &found, .tell = fault == 0 ? NULL : look_for};
        trial.most_bytes = MIB;
        broken.fault = (enum fault)fault;
        size_t n = allot_backend_try(&trial);
        printf("%s: %zu\n", told[fault] == NULL ? "none" : told[fault], n);
        assert_int_equal(n != 0, fault != NO_FAULT);
        assert_int_equal(found, fault != NO_FAULT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_backend_passes),
        cmocka_unit_test(each_broken_one_is_found_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
