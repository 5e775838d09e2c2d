/* SPDX-License-Identifier: MIT */
/* map_tags.c - tags and descriptors: of any 64-bit value, in the window, outside it, and across its edges. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "map/map.h"

#define TIB ((uintptr_t)1 << 40)
/* Nothing need be mapped where the map is asked to look: it speaks of addresses. */
#define NEAR ((char *)(uintptr_t)0x7f1234560000)

static void *at(uintptr_t address)
{
    return (void *)address;
}

/* Every address with one bit set or cleared, the ends, and what no processor would take. */
static void assert_every_value_is_foreign(void)
{
    for (unsigned i = 0; i < 64; i++) {
        uintptr_t bit = (uintptr_t)1 << i;
        assert_int_equal(map_tag(at(bit)), 0);
        assert_int_equal(map_tag(at(~bit)), 0);
        assert_int_equal(map_tag(at(bit - 1)), 0);
        assert_int_equal(map_tag(at(0 - bit)), 0);
        assert_int_equal(map_tag(at((uintptr_t)NEAR ^ bit)), 0);
        assert_int_equal(map_tag(at((uintptr_t)NEAR + bit)), 0);
        map_descriptor(at(bit));
        assert_null(map_descriptor(at(~bit)));
    }
    assert_int_equal(map_tag(at(0x1234567812345678)), 0);
    assert_int_equal(map_tag(at(0xdeadbeefdeadbeef)), 0);
    assert_null(map_descriptor(at(0xdeadbeefdeadbeef)));
}

static void before_the_window_stands_nothing_is_ours(void **state)
{
    (void)state;
    assert_every_value_is_foreign();
    assert_int_equal(map_tag(NULL), 0);
}

static void the_window_lies_around_the_first_area(void **state)
{
    (void)state;
    assert_true(map_init(NEAR));
    uintptr_t begin = load_relaxed(&map_window.begin);
    size_t bytes = load_relaxed(&map_window.n_granules) * GRANULE_BYTES;
    assert_int_equal(begin % CHUNK_BYTES, 0);
    assert_true((uintptr_t)NEAR >= begin && (uintptr_t)NEAR - begin < bytes);
    assert_true(map_init(at(0x1000000)));
    assert_int_equal(load_relaxed(&map_window.begin), begin); /* it stays */
    assert_every_value_is_foreign();
}

/* Adds, tags and asks a range of n granules, and looks at its neighbours. */
static void check_range(uintptr_t begin, size_t n_granules, uint32_t tag)
{
    uintptr_t end = begin + n_granules * GRANULE_BYTES;
    assert_int_equal(map_add(at(begin), end - begin), 0);
    assert_int_equal(map_tag(at(begin)), 0); /* added is not yet ours */
    map_set(at(begin), n_granules, tag);
    for (uintptr_t granule = begin; granule < end; granule += GRANULE_BYTES) {
        assert_int_equal(map_tag(at(granule)), tag);
        assert_int_equal(map_tag(at(granule + 1)), tag);
        assert_int_equal(map_tag(at(granule + GRANULE_BYTES - 1)), tag);
    }
    assert_int_equal(map_tag(at(begin - 1)), 0);
    assert_int_equal(map_tag(at(end)), 0);
    map_set(at(begin), n_granules, 0);
    assert_int_equal(map_tag(at(begin)), 0);
}

static void check_descriptors(uintptr_t begin, size_t n_granules)
{
    static const char zeros[DESCRIPTOR_BYTES];
    assert_int_equal(map_add(at(begin), n_granules * GRANULE_BYTES), 0);
    for (size_t i = 0; i < n_granules; i++) {
        char *descriptor = map_descriptor(at(begin + i * GRANULE_BYTES));
        assert_non_null(descriptor);
        assert_int_equal((uintptr_t)descriptor % CACHE_LINE, 0);
        assert_memory_equal(descriptor, zeros, DESCRIPTOR_BYTES);
        assert_ptr_equal(map_descriptor(at(begin + i * GRANULE_BYTES + GRANULE_BYTES - 1)), descriptor);
        memset(descriptor, (int)i + 1, DESCRIPTOR_BYTES);
    }
    assert_int_equal(map_add(at(begin), n_granules * GRANULE_BYTES), 0); /* again changes nothing */
    for (size_t i = 0; i < n_granules; i++) {
        char *descriptor = map_descriptor(at(begin + i * GRANULE_BYTES));
        assert_int_equal((unsigned char)descriptor[0], (unsigned char)(i + 1));
        assert_int_equal((unsigned char)descriptor[DESCRIPTOR_BYTES - 1], (unsigned char)(i + 1));
    }
}

static void tags_everywhere(void **state)
{
    (void)state;
    assert_true(map_init(NEAR));
    uintptr_t window = load_relaxed(&map_window.begin);
    uintptr_t end = window + load_relaxed(&map_window.n_granules) * GRANULE_BYTES;
    uint32_t tag = map_make_tag(MAP_HEAP_LAST, 0xdf);
    check_range((uintptr_t)NEAR, 1, tag);
    check_range((uintptr_t)NEAR, 200, tag);
    check_range(window, 3, 1);
    check_range(end - 3 * GRANULE_BYTES, 3, UINT32_MAX);
    check_range(window - 2 * CHUNK_BYTES, 256, tag); /* across the window's edges */
    check_range(end - 2 * CHUNK_BYTES, 256, tag);
    check_range(0x10000, 5, tag);
    check_range(TIB, 300, tag);
    check_range(3 * TIB - 5 * GRANULE_BYTES, 10, tag); /* across two leaves */
    check_range(((uintptr_t)1 << 48) - 4 * GRANULE_BYTES, 4, tag);
    check_descriptors((uintptr_t)NEAR, 200);
    check_descriptors(window - 70 * GRANULE_BYTES, 140);
    check_descriptors(5 * TIB, 100);
    assert_every_value_is_foreign();
}

static void addresses_that_cannot_be_are_refused(void **state)
{
    (void)state;
    assert_true(map_init(NEAR));
    assert_true(map_add(at((uintptr_t)1 << 48), GRANULE_BYTES) < 0);
    assert_true(map_add(at((uintptr_t)1 << 63), GRANULE_BYTES) < 0);
    assert_int_equal(map_tag(at((uintptr_t)1 << 48)), 0);
}

static void tags_tell_their_parts(void **state)
{
    (void)state;
    for (uint32_t heap = 1; heap <= 0xffffff; heap = heap * 3 + 1) {
        uint32_t tag = map_make_tag(heap, heap % 251);
        assert_int_equal(map_tag_heap(tag), heap);
        assert_int_equal(map_tag_code(tag), heap % 251);
    }
}

static void large_blocks_tell_the_way_back(void **state)
{
    (void)state;
    enum { n = 100000 }; /* 6 GiB */
    assert_true(map_init(NEAR));
    char *begin = NEAR - ((size_t)n + 7) * GRANULE_BYTES;
    assert_int_equal(map_add(begin, n * GRANULE_BYTES), 0);
    map_set_large(begin, n);
    for (size_t i = 0; i < n; i += i < 300 ? 1 : 997) {
        uint32_t tag = map_tag(begin + i * GRANULE_BYTES + 17);
        assert_int_equal(map_tag_code(tag), MAP_CODE_LARGE);
        assert_int_equal(tag >> 8, i);
    }
    map_set(begin, n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(before_the_window_stands_nothing_is_ours),
        cmocka_unit_test(the_window_lies_around_the_first_area),
        cmocka_unit_test(tags_everywhere),
        cmocka_unit_test(addresses_that_cannot_be_are_refused),
        cmocka_unit_test(tags_tell_their_parts),
        cmocka_unit_test(large_blocks_tell_the_way_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
