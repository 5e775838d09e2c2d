/* SPDX-License-Identifier: MIT */
/* heap_query.c - any address can be asked what it is. */
#include "unit.h"

#include <pthread.h>
#include <sys/mman.h>

static int global_variable = 1;

static allot_info ask(const void *address)
{
    allot_info info = ALLOT_INFO_INIT;
    info.offset = 12345;
    info.base = &info;
    int error = allot_query(address, &info);
    assert_int_equal(error, 0);
    return info;
}

static void assert_not_ours(const void *address)
{
    allot_info info = ask(address);
    assert_int_equal(info.room, ALLOT_ROOM_NONE);
    assert_int_equal(info.state, ALLOT_STATE_NONE);
    assert_null(info.base);
}

static void assert_live_everywhere(const char *block, size_t usable)
{
    const size_t offsets[] = {0, 1, 7, 8, 15, usable / 3, usable / 2, usable - 1};
    for (size_t i = 0; i < COUNT(offsets); i++) {
        allot_info info = ask(block + offsets[i]);
        assert_ptr_equal(info.base, block);
        assert_int_equal(info.offset, offsets[i]);
        assert_int_equal(info.size_bytes, usable);
        assert_int_equal(info.room, ALLOT_ROOM_HEAP);
        assert_int_equal(info.state, ALLOT_STATE_LIVE);
        assert_int_equal(info.exact, 1);
    }
}

static void live_blocks_are_known_at_every_offset(void **state)
{
    (void)state;
    size_t sizes[MOST_SIZES];
    size_t n = sizes_possible(sizes, 65 * MIB);
    for (size_t i = 0; i < n; i++) {
        char *block = malloc(sizes[i]);
        memset(block, 0, sizes[i] < 32 ? sizes[i] : 32);
        assert_live_everywhere(block, malloc_usable_size(block));
        free(block);
    }
}

static void aligned_blocks_are_known(void **state)
{
    (void)state;
    for (size_t alignment = 32; alignment <= 4 * MIB; alignment *= 2) {
        char *block = memalign(alignment, 3 * alignment / 2 + 1);
        assert_live_everywhere(block, malloc_usable_size(block));
        free(block);
    }
}

static void freed_small_blocks_are_free(void **state)
{
    (void)state;
    for (size_t size = 16; size <= 8 * KIB; size += size / 2) {
        char *kept = malloc(size);
        char *block = malloc(size);
        char *kept_too = malloc(size);
        free(block);
        allot_info info = ask(block + size / 2);
        assert_int_equal(info.state, ALLOT_STATE_FREE);
        assert_int_equal(info.room, ALLOT_ROOM_HEAP);
        assert_ptr_equal(info.base, block);
        assert_int_equal(info.offset, size / 2);
        assert_live_everywhere(kept, malloc_usable_size(kept));
        assert_live_everywhere(kept_too, malloc_usable_size(kept_too));
        free(kept);
        free(kept_too);
    }
}

static void freed_large_blocks_are_not_live(void **state)
{
    (void)state;
    const size_t sizes[] = {9 * KIB, 20 * KIB, 70 * KIB, MIB, 10 * MIB, 40 * MIB, 200 * MIB};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        char *block = malloc(sizes[i]);
        free(block);
        assert_int_not_equal(ask(block).state, ALLOT_STATE_LIVE);
        assert_int_not_equal(ask(block + sizes[i] - 1).state, ALLOT_STATE_LIVE);
    }
}

static void what_was_never_handed_out_is_not_live(void **state)
{
    (void)state;
    char *block = malloc(48);
    char *granule = (char *)((uintptr_t)block & ~(uintptr_t)65535);
    size_t n_live = 0;
    for (size_t i = 0; i < 65536; i++) {
        allot_info info = ask(granule + i);
        if (info.state == ALLOT_STATE_NONE) {
            assert_null(info.base);
            continue;
        }
        assert_true((const char *)info.base >= granule && (const char *)info.base <= granule + i);
        assert_true(info.offset < info.size_bytes);
        assert_ptr_equal((const char *)info.base + info.offset, granule + i);
        n_live += info.state == ALLOT_STATE_LIVE && info.offset == 0;
    }
    assert_true(n_live >= 1);
    free(block);
}

static void past_the_end_is_another_block_or_none(void **state)
{
    (void)state;
    size_t sizes[MOST_SIZES];
    size_t n = sizes_possible(sizes, 40 * MIB);
    for (size_t i = 0; i < n; i++) {
        char *block = malloc(sizes[i]);
        assert_ptr_not_equal(ask(block + malloc_usable_size(block)).base, block);
        assert_ptr_not_equal(ask(block - 1).base, block);
        free(block);
    }
}

static void what_is_not_ours_is_none(void **state)
{
    (void)state;
    int local = 0;
    void *mapped = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_not_ours(NULL);
    assert_not_ours(&local);
    assert_not_ours(&global_variable);
    assert_not_ours((void *)(uintptr_t)what_is_not_ours_is_none);
    assert_not_ours("a string");
    assert_not_ours(mapped);
    assert_not_ours((char *)mapped + 65536);
    munmap(mapped, MIB);
    assert_not_ours(mapped);
}

static void any_64_bit_value_may_be_asked(void **state)
{
    (void)state;
    uint64_t seed = 4711;
    for (int bit = 0; bit < 64; bit++) {
        for (int delta = -1; delta <= 1; delta++) {
            ask((void *)(uintptr_t)((UINT64_C(1) << bit) + (uint64_t)delta));
            ask((void *)(uintptr_t)(~(UINT64_C(1) << bit) + (uint64_t)delta));
        }
    }
    for (int i = 0; i < 2000000; i++) {
        uint64_t value = random_next(&seed);
        allot_info info = ask((void *)(uintptr_t)(value >> (i % 40)));
        assert_true(info.state != ALLOT_STATE_LIVE || info.base != NULL);
    }
    ask((void *)UINTPTR_MAX);
    ask((void *)(uintptr_t)0x800000000000);
    ask((void *)(uintptr_t)0xffff800000000000);
}

static void the_form_of_the_answer_is_checked(void **state)
{
    (void)state;
    allot_info info = ALLOT_INFO_INIT;
    assert_int_equal(allot_query(&info, NULL), EINVAL);
    info.abi_size = 0;
    assert_int_equal(allot_query(&info, &info), EINVAL);
    info.abi_size = 7;
    assert_int_equal(allot_query(&info, &info), EINVAL);
    info.abi_size = SIZE_MAX;
    assert_int_equal(allot_query(&info, &info), EINVAL);
}

static void *shared[1000];

static void *ask_from_elsewhere(void *argument)
{
    (void)argument;
    for (size_t i = 0; i < COUNT(shared); i++) {
        allot_info info = ask((char *)shared[i] + i % 40);
        if (info.base != shared[i] || info.state != ALLOT_STATE_LIVE) {
            return shared[i];
        }
    }
    return NULL;
}

static void blocks_of_other_threads_are_known(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(shared); i++) {
        shared[i] = malloc(40 + i * 13);
    }
    pthread_t thread;
    void *wrong = NULL;
    pthread_create(&thread, NULL, ask_from_elsewhere, NULL);
    pthread_join(thread, &wrong);
    assert_null(wrong);
    for (size_t i = 0; i < COUNT(shared); i++) {
        free(shared[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(live_blocks_are_known_at_every_offset),
        cmocka_unit_test(aligned_blocks_are_known),
        cmocka_unit_test(freed_small_blocks_are_free),
        cmocka_unit_test(freed_large_blocks_are_not_live),
        cmocka_unit_test(what_was_never_handed_out_is_not_live),
        cmocka_unit_test(past_the_end_is_another_block_or_none),
        cmocka_unit_test(what_is_not_ours_is_none),
        cmocka_unit_test(any_64_bit_value_may_be_asked),
        cmocka_unit_test(the_form_of_the_answer_is_checked),
        cmocka_unit_test(blocks_of_other_threads_are_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
