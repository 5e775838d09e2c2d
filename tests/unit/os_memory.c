/* SPDX-License-Identifier: MIT */
/* os_memory.c - what os.h promises of memory, to be kept by linux.c, posix.c and fake.c alike. */
#include "child.h"

#include <errno.h>

#include "base/base.h"
#include "os/os.h"

enum { MARK = 12345 }; /* an errno that no call sets */

static size_t page;

static int setup(void **state)
{
    (void)state;
    page = os_page_bytes();
    errno = MARK;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return errno == MARK ? 0 : -1; /* every function keeps errno */
}

static bool is_zero(const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    return true;
}

static bool is_at_multiple(const void *p, size_t align)
{
    return ((uintptr_t)p & (align - 1)) == 0;
}

static void page_is_a_power_of_two(void **state)
{
    (void)state;
    assert_true(is_power_of_two(page));
    assert_int_equal(page, (size_t)sysconf(_SC_PAGESIZE));
}

static void reserved_memory_is_aligned(void **state)
{
    (void)state;
    for (size_t align = page; align <= GIB; align *= 2) {
        void *p = os_reserve(3 * page, align);
        assert_non_null(p);
        assert_true(is_at_multiple(p, align));
        assert_int_equal(os_release(p, 3 * page), 0);
    }
}

static void mapped_memory_is_aligned_and_zero(void **state)
{
    (void)state;
    void *kept[16];
    size_t n = 0;
    for (size_t align = page; align <= 16 * MIB && n < 16; align *= 2, n++) {
        kept[n] = os_map(2 * page, align);
        assert_non_null(kept[n]);
        assert_true(is_at_multiple(kept[n], align));
        assert_true(is_zero(kept[n], 2 * page));
        memset(kept[n], 0xff, 2 * page);
    }
    while (n > 0) {
        assert_int_equal(os_release(kept[--n], 2 * page), 0);
    }
}

static void touch(void *byte)
{
    *(volatile char *)byte = 1;
}

static void look(void *byte)
{
    (void)*(volatile char *)byte;
}

static void reserved_memory_is_out_of_reach(void **state)
{
    (void)state;
    char *p = os_reserve(4 * page, page);
    assert_int_not_equal(child_run(look, p).status, 0);
    assert_int_equal(os_commit(p + page, page), 0);
    assert_int_equal(child_run(touch, p + page).status, 0);
    assert_int_not_equal(child_run(touch, p).status, 0);
    assert_int_not_equal(child_run(touch, p + 2 * page).status, 0);
    assert_int_equal(os_release(p, 4 * page), 0);
    assert_int_not_equal(child_run(look, p + page).status, 0);
}

static void readable_memory_is_zero_and_not_writable(void **state)
{
    (void)state;
    char *p = os_reserve_readable(8 * page);
    assert_non_null(p);
    assert_true(is_zero(p, 8 * page));
    assert_int_not_equal(child_run(touch, p).status, 0);
    assert_int_equal(os_commit(p + page, page), 0);
    p[page] = 1;
    assert_true(is_zero(p, page));
    assert_int_equal(os_release(p, 8 * page), 0);
}

static void committing_again_keeps_contents(void **state)
{
    (void)state;
    char *p = os_reserve(4 * page, 64 * KIB);
    assert_int_equal(os_commit(p, 2 * page), 0);
    memset(p, 7, 2 * page);
    assert_int_equal(os_commit(p, 4 * page), 0);
    assert_int_equal(p[2 * page - 1], 7);
    assert_true(is_zero(p + 2 * page, 2 * page));
    assert_int_equal(os_release(p, 4 * page), 0);
}

static void purged_memory_is_zero_between_its_neighbours(void **state)
{
    (void)state;
    char *p = os_reserve(6 * page, 64 * KIB);
    assert_int_equal(os_commit(p, 6 * page), 0);
    for (int round = 0; round < 3; round++) {
        memset(p, 7, 6 * page);
        assert_int_equal(os_purge(p + 2 * page, 2 * page, false), 0);
        assert_true(is_zero(p + 2 * page, 2 * page));
        assert_int_equal(p[2 * page - 1], 7);
        assert_int_equal(p[4 * page], 7);
    }
    assert_int_equal(os_release(p, 6 * page), 0);
}

static void lazily_purged_memory_is_zero_or_as_it_was(void **state)
{
    (void)state;
    char *p = os_map(4 * page, page);
    memset(p, 7, 4 * page);
    assert_int_equal(os_purge(p, 4 * page, true), 0);
    for (size_t i = 0; i < 4; i++) {
        assert_true(p[i * page] == 7 || is_zero(p + i * page, page));
    }
    memset(p, 8, 4 * page);
    assert_int_equal(p[page], 8);
    assert_int_equal(os_release(p, 4 * page), 0);
}

/* Page i begins with the byte i + 1. */
static void number_pages(char *p, size_t n_pages)
{
    for (size_t i = 0; i < n_pages; i++) {
        p[i * page] = (char)(i + 1);
    }
}

static bool pages_are_numbered(const char *p, size_t n_pages)
{
    for (size_t i = 0; i < n_pages; i++) {
        if (p[i * page] != (char)(i + 1)) {
            return false;
        }
    }
    return true;
}

/* What os_remap leaves to be used: the new place, or the old mapping as it was. */
static char *remapped(char *p, size_t *bytes, size_t wanted, size_t align)
{
    char *target = os_reserve(wanted, align);
    assert_non_null(target);
    if (!os_remap(p, *bytes, wanted, target)) {
        return p;
    }
    *bytes = wanted;
    return target;
}

static void remapping_keeps_contents(void **state)
{
    (void)state;
    static const size_t sizes[] = {4, 64, 65, 700, 700};
    size_t bytes = 4 * page;
    char *p = os_map(bytes, page);
    number_pages(p, 4);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t before = bytes / page;
        p = remapped(p, &bytes, sizes[i] * page, i % 2 == 0 ? page : 2 * MIB);
        assert_true(pages_are_numbered(p, size_min(before, bytes / page)));
        if (bytes / page > before) {
            assert_true(is_zero(p + before * page, bytes - before * page));
        }
        number_pages(p, bytes / page);
    }
    assert_int_equal(os_release(p, bytes), 0);
}

static void refused_remapping_leaves_the_mapping(void **state)
{
    (void)state;
    char *p = os_map(4 * page, page);
    number_pages(p, 4);
    char *hole = os_map(8 * page, page); /* the kernel moves one mapping at a time, and this is two */
    assert_int_equal(os_release(hole + page, page), 0);
    char *target = os_reserve(16 * page, page);
    assert_false(os_remap(hole, 8 * page, 16 * page, target));
    hole[0] = 1;
    hole[2 * page] = 1;
    assert_int_equal(os_release(hole, 8 * page), 0);
    assert_false(os_extend(p, 4 * page, round_down(PTRDIFF_MAX, page)));
    assert_true(pages_are_numbered(p, 4));
    assert_int_equal(os_release(p, 4 * page), 0);
}

/* A kernel that gives the target away before it refuses: what another thread was given there meanwhile stays. */
static void refused_remapping_leaves_what_others_have(void **state)
{
    (void)state;
    char *p = os_map(4 * page, page);
    char *target = os_reserve(4 * page, page);
    if (!os_remap(p, 4 * page, 4 * page, target)) {
        assert_int_equal(os_release(p, 4 * page), 0);
        return; /* one that never asks the kernel still has the whole target */
    }
    p = target;
    target = os_reserve(16 * page, page);
    assert_int_equal(os_release(target, 2 * page), 0);
    assert_int_equal(os_commit(target + 3 * page, page), 0); /* another's */
    assert_false(os_remap(p + 1, 4 * page, 16 * page, target));
    target[3 * page] = 1;
    assert_int_equal(os_release(target + 2 * page, 14 * page), 0);
    assert_int_equal(os_release(p, 4 * page), 0);
}

static void extending_stays_in_place(void **state)
{
    (void)state;
    char *p = os_map(16 * page, page);
    assert_int_equal(os_release(p + 8 * page, 8 * page), 0);
    number_pages(p, 8);
    if (os_extend(p, 8 * page, 12 * page)) {
        assert_true(is_zero(p + 8 * page, 4 * page));
        number_pages(p, 12);
        assert_int_equal(os_release(p + 8 * page, 4 * page), 0);
    }
    char *wall = p + 4 * page; /* a mapping that is in the way stays */
    assert_false(os_extend(p, 4 * page, 6 * page));
    assert_int_equal(wall[0], 5);
    assert_int_equal(os_release(p, 8 * page), 0);
}

static void too_much_is_refused(void **state)
{
    (void)state;
    size_t all = round_down(SIZE_MAX, page);
    assert_null(os_reserve(all, page));
    assert_null(os_reserve(all, 2 * MIB));
    assert_null(os_reserve(round_down(PTRDIFF_MAX, page), GIB));
    assert_null(os_reserve_readable(all));
    assert_null(os_map(all, page));
    char *p = os_reserve(page, page);
    assert_int_equal(os_release(p, page), 0);
    assert_true(os_commit(p, page) < 0);
}

static void resident_bytes_are_those_touched(void **state)
{
    (void)state;
    size_t bytes = 3000 * page; /* more pages than are asked for at once */
    char *p = os_map(bytes, page);
    os_huge_never(p, bytes);
    assert_int_equal(os_resident_bytes(p, bytes), 0);
    for (size_t i = 0; i < 3000; i += 100) {
        p[i * page] = 1;
    }
    assert_int_equal(os_resident_bytes(p, bytes), 30 * page);
    assert_int_equal(os_resident_bytes(p, page), page);
    assert_int_equal(os_resident_bytes(p + page, page), 0);
    assert_int_equal(os_purge(p, bytes / 2, false), 0);
    assert_int_equal(os_resident_bytes(p, bytes), 15 * page);
    assert_int_equal(os_release(p, bytes), 0);
}

static void advice_is_harmless(void **state)
{
    (void)state;
    char *p = os_map(4 * MIB, 2 * MIB);
    p[0] = 1;
    assert_true(os_huge_wanted(p, 4 * MIB) <= 0);
    assert_true(os_huge_never(p, 4 * MIB) <= 0);
    assert_int_equal(p[0], 1);
    assert_true(is_zero(p + 2 * MIB, page));
    assert_int_equal(os_release(p, 4 * MIB), 0);
}

/* In a child: the break is the process's. */
static void use_the_break(void *unused)
{
    (void)unused;
    char *own = sbrk(100); /* the program's own, leaving the break unaligned */
    char *p = os_break_grow(4 * page);
    if (p == NULL) {
        EXPECT(own == (char *)-1 || os_break_now() == NULL); /* refused though there is one */
        return;
    }
    EXPECT(is_at_multiple(p, page));
    EXPECT(p >= own + 100);
    EXPECT(is_zero(p, 4 * page));
    EXPECT((char *)os_break_now() >= p + 4 * page);
    memset(own, 1, 100);
    memset(p, 2, 4 * page);
    char *later = os_break_grow(page);
    EXPECT(later != NULL && later >= p + 4 * page);
    EXPECT(own[99] == 1);
    EXPECT(os_break_grow(round_down(SIZE_MAX, page)) == NULL);
    EXPECT(os_break_grow(round_down(PTRDIFF_MAX, page)) == NULL);
}

static void break_grows_beside_the_programs_own_use(void **state)
{
    (void)state;
    child_succeeds(use_the_break, NULL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(page_is_a_power_of_two),
        TEST(reserved_memory_is_aligned),
        TEST(mapped_memory_is_aligned_and_zero),
        TEST(reserved_memory_is_out_of_reach),
        TEST(readable_memory_is_zero_and_not_writable),
        TEST(committing_again_keeps_contents),
        TEST(purged_memory_is_zero_between_its_neighbours),
        TEST(lazily_purged_memory_is_zero_or_as_it_was),
        TEST(remapping_keeps_contents),
        TEST(refused_remapping_leaves_the_mapping),
        TEST(refused_remapping_leaves_what_others_have),
        TEST(extending_stays_in_place),
        TEST(too_much_is_refused),
        TEST(resident_bytes_are_those_touched),
        TEST(advice_is_harmless),
        TEST(break_grows_beside_the_programs_own_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
