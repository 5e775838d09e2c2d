/* SPDX-License-Identifier: MIT */
/* arena_calls.c - what each call on an arena does, on every backend: taking, giving whole and in part, changing,
 * asking. */
#include "arena_test.h"

#include <errno.h>

/* ---- general arenas ------------------------------------------------------------------------------------------- */

/* Fills it up, byte by byte; nothing more is to be had; all of it comes back. */
static void all_of_an_arena_can_be_taken(void **state)
{
    (void)state;
    struct made made = make_arena(8 * KIB);
    stop_growth(&made);
    size_t capacity = allot_arena_capacity(made.arena);
    assert_int_equal(allot_arena_free_bytes(made.arena), capacity);
    unsigned char *all = allot_arena_malloc(made.arena, capacity);
    assert_non_null(all);
    assert_int_equal(allot_arena_free_bytes(made.arena), 0);
    pattern_fill(all, capacity, 1);
    errno = 0;
    assert_null(allot_arena_malloc(made.arena, 1));
    assert_int_equal(errno, ENOMEM);
    unsigned char *copy = malloc(capacity);
    assert_int_equal(allot_arena_dump(made.arena, copy, capacity), capacity);
    assert_true(pattern_holds(copy, capacity, 1));
    memset(copy, 0, capacity);
    assert_int_equal(allot_arena_dump(made.arena, copy, 100), capacity);
    assert_true(pattern_holds(copy, 100, 1) && all_zero(copy + 100, capacity - 100));
    free(copy);
    assert_int_equal(allot_arena_free(made.arena, all), 0);
    assert_arena_is_whole(&made);
    assert_ptr_equal(allot_arena_malloc(made.arena, capacity), all);
    assert_int_equal(allot_arena_free_sized(made.arena, all, capacity), 0);
    unmake(&made);
}

static size_t fill_with(allot_arena *arena, void **blocks, size_t most, size_t bytes)
{
    size_t n = 0;
    for (void *block; n < most && (block = allot_arena_malloc(arena, bytes)) != NULL; n++) {
        pattern_fill(block, bytes, (unsigned)n);
        blocks[n] = block;
    }
    return n;
}

static void small_blocks_fill_it_and_refill_it(void **state)
{
    (void)state;
    enum { MOST = 2000 };
    static void *blocks[MOST];
    struct made made = make_arena(8 * KIB);
    uint64_t random = 7;
    stop_growth(&made);
    size_t capacity = allot_arena_capacity(made.arena);
    for (unsigned round = 0; round < 3; round++) {
        size_t n = fill_with(made.arena, blocks, MOST, 5);
        assert_int_equal(n, capacity / WORD < MOST ? capacity / WORD : MOST);
        for (size_t i = 0; i < n; i++) {
            assert_true(pattern_holds(blocks[i], 5, (unsigned)i));
        }
        for (size_t left = n; left > 0; left--) { /* in order, in reverse, by chance */
            size_t i = round == 0 ? n - left : round == 1 ? left - 1 : random_below(&random, left);
            assert_int_equal(allot_arena_free(made.arena, blocks[i]), 0);
            if (round == 2) {
                blocks[i] = blocks[left - 1];
            }
        }
        assert_arena_is_whole(&made);
    }
    unmake(&made);
}

struct valued {
    int number;
    const char *text;
    int (*function)(const char *);
    struct valued *next;
};

static void structures_and_functions_are_kept(void **state)
{
    (void)state;
    struct made made = make_arena(64 * KIB);
    struct valued *list = NULL;
    for (int i = 0; i < 500; i++) {
        struct valued *fresh = ALLOT_NEW(made.arena, struct valued);
        assert_non_null(fresh);
        assert_true(fresh->number == 0 && fresh->text == NULL && fresh->function == NULL && fresh->next == NULL);
        *fresh = (struct valued){i, "text", atoi, list};
        list = fresh;
    }
    for (int i = 499; list != NULL; i--) {
        struct valued *next = list->next;
        assert_int_equal(list->number, i);
        assert_int_equal(list->function("12"), 12);
        assert_string_equal(list->text, "text");
        assert_int_equal(ALLOT_DELETE(made.arena, list), 0);
        list = next;
    }
    assert_arena_is_whole(&made);
    unmake(&made);
}

static void size_zero_changes_nothing_and_is_no_failure(void **state)
{
    (void)state;
    struct made made = make_arena(4 * KIB);
    size_t before = allot_arena_free_bytes(made.arena);
    void *out = &out;
    errno = 77;
    assert_null(allot_arena_malloc(made.arena, 0));
    assert_null(allot_arena_calloc(made.arena, 0, 8));
    assert_null(allot_arena_calloc(made.arena, 8, 0));
    assert_null(allot_arena_memalign(made.arena, 64, 0));
    assert_null(allot_arena_realloc(made.arena, NULL, 0));
    assert_null(allot_arena_memdup(made.arena, "", 0));
    assert_int_equal(allot_arena_alloc(made.arena, 0, &out), 0);
    assert_null(out);
    out = &out;
    assert_int_equal(allot_arena_malloc_batch(made.arena, 0, &out, 1), 0);
    assert_ptr_equal(out, &out);
    assert_int_equal(allot_arena_free(made.arena, NULL), 0);
    assert_int_equal(allot_arena_free_sized(made.arena, NULL, 0), 0);
    assert_int_equal(errno, 77);
    assert_int_equal(allot_arena_free_bytes(made.arena), before);
    unmake(&made);
}

static void objects_are_clear_also_in_used_memory(void **state)
{
    (void)state;
    struct made made = make_arena(4 * KIB);
    stop_growth(&made);
    size_t all_bytes = allot_arena_capacity(made.arena);
    void *all = allot_arena_malloc(made.arena, all_bytes);
    memset(all, 0xff, all_bytes);
    allot_arena_free(made.arena, all);
    for (size_t bytes = 1; bytes <= all_bytes; bytes += bytes / 3 + 1) {
        unsigned char *block = ALLOT_NEW_ARRAY(made.arena, unsigned char, bytes);
        assert_non_null(block);
        assert_true(all_zero(block, bytes));
        memset(block, 0xff, bytes);
        assert_int_equal(allot_arena_free(made.arena, block), 0);
    }
    unmake(&made);
}

/* From a block of ten words: its end, its beginning, a word out of the middle. */
static void any_part_of_a_block_can_be_given_back(void **state)
{
    (void)state;
    struct made made = make_arena(4 * KIB);
    stop_growth(&made);
    size_t before = allot_arena_free_bytes(made.arena);
    char *block = allot_arena_malloc(made.arena, 10 * WORD);
    pattern_fill(block, 10 * WORD, 3);
    assert_int_equal(allot_arena_free_sized(made.arena, block + 8 * WORD, 2 * WORD - 3), 0); /* rounded up */
    assert_int_equal(allot_arena_usable_size(made.arena, block), 8 * WORD);
    assert_int_equal(allot_arena_free_sized(made.arena, block, WORD), 0);
    assert_int_equal(allot_arena_usable_size(made.arena, block + WORD), 7 * WORD);
    assert_int_equal(allot_arena_free_sized(made.arena, block + 4 * WORD, 1), 0);
    assert_int_equal(allot_arena_usable_size(made.arena, block + WORD), 3 * WORD);
    assert_int_equal(allot_arena_usable_size(made.arena, block + 5 * WORD), 3 * WORD);
    assert_int_equal(allot_arena_free_bytes(made.arena), before - 6 * WORD);
    assert_int_equal(allot_arena_check(made.arena), 0);
    for (size_t i = WORD; i < 8 * WORD; i++) {
        assert_true(i / WORD == 4 || (unsigned char)block[i] == pattern_byte(i, 3));
    }
    void *one = allot_arena_malloc(made.arena, before - 6 * WORD);
    assert_true(one == NULL || allot_arena_free(made.arena, one) == 0);
    assert_int_equal(allot_arena_free(made.arena, block + WORD), 0);
    assert_int_equal(allot_arena_free_sized(made.arena, block + 5 * WORD, 3 * WORD), 0);
    assert_arena_is_whole(&made);
    unmake(&made);
}

/* Every begin and every length in a block of six words. */
static void every_part_can_be_given_back(void **state)
{
    (void)state;
    enum { WORDS = 6 };
    struct made made = make_arena(4 * KIB);
    stop_growth(&made);
    for (size_t begin = 0; begin < WORDS; begin++) {
        for (size_t end = begin + 1; end <= WORDS; end++) {
            char *block = allot_arena_malloc(made.arena, WORDS * WORD);
            assert_int_equal(allot_arena_free_sized(made.arena, block + begin * WORD, (end - begin) * WORD), 0);
            assert_int_equal(allot_arena_check(made.arena), 0);
            assert_true(begin == 0 || allot_arena_free(made.arena, block) == 0);
            assert_true(end == WORDS || allot_arena_free(made.arena, block + end * WORD) == 0);
            assert_arena_is_whole(&made);
        }
    }
    unmake(&made);
}

static void neighbours_join_in_every_order(void **state)
{
    (void)state;
    static const unsigned char orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    struct made made = make_arena(96);
    stop_growth(&made);
    size_t third = allot_arena_capacity(made.arena) / 3 / WORD * WORD;
    for (size_t order = 0; order < COUNT(orders); order++) {
        char *blocks[3];
        for (size_t i = 0; i < 3; i++) {
            blocks[i] = allot_arena_malloc(made.arena, third);
            assert_non_null(blocks[i]);
        }
        for (size_t i = 0; i < 3; i++) {
            assert_int_equal(allot_arena_free(made.arena, blocks[orders[order][i]]), 0);
            assert_int_equal(allot_arena_check(made.arena), 0);
        }
        char *all = allot_arena_malloc(made.arena, allot_arena_capacity(made.arena));
        assert_non_null(all); /* one block again */
        assert_int_equal(allot_arena_free(made.arena, all), 0);
    }
    unmake(&made);
}

static void arrays_shrink_in_place(void **state)
{
    (void)state;
    struct made made = make_arena(4 * KIB);
    stop_growth(&made);
    size_t before = allot_arena_free_bytes(made.arena);
    static const struct {
        size_t items, kept, bytes_left;
    } cases[] = {
        {16, 4, 16},  /* three words of four go */
        {16, 15, 64}, /* no whole word to free */
        {16, 16, 64}, /* nothing to do */
        {16, 5, 32},  /* in the middle of a word */
        {100, 1, 16},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        int *array = ALLOT_NEW_ARRAY(made.arena, int, cases[i].items);
        for (size_t j = 0; j < cases[i].items; j++) {
            array[j] = (int)j;
        }
        assert_int_equal(ALLOT_SHRINK_ARRAY(made.arena, array, cases[i].kept), 0);
        assert_int_equal(allot_arena_usable_size(made.arena, array), cases[i].bytes_left);
        assert_int_equal(allot_arena_free_bytes(made.arena), before - cases[i].bytes_left);
        for (size_t j = 0; j < cases[i].kept; j++) {
            assert_int_equal(array[j], (int)j);
        }
        assert_int_equal(allot_arena_shrink(made.arena, array, cases[i].bytes_left + 1), EINVAL);
        assert_int_equal(ALLOT_SHRINK_ARRAY(made.arena, array, 0), 0); /* frees it */
        assert_arena_is_whole(&made);
    }
    unmake(&made);
}

static void realloc_stays_in_place_where_it_can(void **state)
{
    (void)state;
    struct made made = make_arena(64 * KIB);
    stop_growth(&made);
    unsigned char *block = allot_arena_realloc(made.arena, NULL, 100);
    pattern_fill(block, 100, 9);
    unsigned char *shorter = allot_arena_realloc(made.arena, block, 40);
    assert_ptr_equal(shorter, block);
    unsigned char *longer = allot_arena_realloc(made.arena, block, 112); /* what was just given up */
    assert_ptr_equal(longer, block);
    block = longer;
    assert_true(pattern_holds(block, 40, 9));
    unsigned char *wall = allot_arena_malloc(made.arena, 16);
    pattern_fill(block, 112, 9);
    unsigned char *moved = allot_arena_realloc(made.arena, block, 5000);
    assert_non_null(moved);
    assert_true(pattern_holds(moved, 112, 9));
    errno = 0;
    assert_null(allot_arena_realloc(made.arena, moved, allot_arena_capacity(made.arena) + 1));
    assert_int_equal(errno, ENOMEM);
    assert_true(pattern_holds(moved, 112, 9));
    errno = 0;
    assert_null(allot_arena_realloc(made.arena, moved, opaque(SIZE_MAX)));
    assert_int_equal(errno, ENOMEM);
    assert_int_equal(allot_arena_free(made.arena, wall), 0);
    assert_null(allot_arena_realloc(made.arena, moved, 0)); /* frees it */
    assert_arena_is_whole(&made);
    unmake(&made);
}

static void alignment_is_kept_and_nothing_is_lost(void **state)
{
    (void)state;
    struct made made = make_arena(MIB);
    stop_growth(&made);
    for (size_t alignment = 1; alignment <= 64 * KIB; alignment *= 2) {
        void *blocks[8];
        for (size_t i = 0; i < COUNT(blocks); i++) {
            blocks[i] = allot_arena_memalign(made.arena, alignment, 100 * i + 1);
            assert_non_null(blocks[i]);
            assert_true(is_aligned(blocks[i], alignment < WORD ? WORD : alignment));
            pattern_fill(blocks[i], 100 * i + 1, (unsigned)i);
        }
        assert_int_equal(allot_arena_check(made.arena), 0);
        for (size_t i = 0; i < COUNT(blocks); i++) {
            assert_true(pattern_holds(blocks[i], 100 * i + 1, (unsigned)i));
            assert_int_equal(allot_arena_free(made.arena, blocks[i]), 0);
        }
        assert_arena_is_whole(&made);
    }
    static const size_t bad[] = {0, 3, 24, SIZE_MAX};
    for (size_t i = 0; i < COUNT(bad); i++) {
        errno = 0;
        assert_null(allot_arena_memalign(made.arena, opaque(bad[i]), 10));
        assert_int_equal(errno, EINVAL);
    }
    unmake(&made);
}

static void batches_take_what_there_is(void **state)
{
    (void)state;
    void *blocks[300];
    struct made made = make_arena(4 * KIB);
    stop_growth(&made);
    size_t room = allot_arena_capacity(made.arena) / 32;
    assert_int_equal(allot_arena_malloc_batch(made.arena, 32, blocks, 10), 10);
    blocks[10] = &made;
    assert_int_equal(allot_arena_free_batch(made.arena, blocks, 10), 0);
    assert_arena_is_whole(&made);
    errno = 0;
    size_t n = allot_arena_malloc_batch(made.arena, 32, blocks, COUNT(blocks));
    assert_true(n == room || (n == COUNT(blocks) && room > n));
    assert_true(n == COUNT(blocks) || errno == ENOMEM);
    blocks[0] = NULL; /* is skipped */
    assert_int_equal(allot_arena_free_batch(made.arena, blocks, n), 0);
    assert_int_equal(allot_arena_free_bytes(made.arena), allot_arena_capacity(made.arena) - 32);
    assert_int_equal(allot_arena_reset(made.arena), 0);
    assert_arena_is_whole(&made);
    unmake(&made);
}

static void copies_are_copies(void **state)
{
    (void)state;
    struct made made = make_arena(4 * KIB);
    char *copy = allot_arena_strdup(made.arena, "a string");
    assert_string_equal(copy, "a string");
    unsigned char *bytes = allot_arena_memdup(made.arena, "\1\0\2", 3);
    assert_memory_equal(bytes, "\1\0\2", 3);
    assert_int_equal(*allot_arena_strdup(made.arena, ""), 0);
    unmake(&made);
}

/* ---- questions ------------------------------------------------------------------------------------------------ */

static void contains_is_exact_to_the_byte(void **state)
{
    (void)state;
    struct made made = make_arena(4 * KIB);
    stop_growth(&made);
    size_t capacity = allot_arena_capacity(made.arena);
    char *all = allot_arena_malloc(made.arena, capacity);
    assert_non_null(all);
    assert_int_equal(allot_arena_contains(made.arena, all), 1);
    assert_int_equal(allot_arena_contains(made.arena, all - 1), 0);
    for (size_t i = capacity - 17; i < capacity; i++) {
        assert_int_equal(allot_arena_contains(made.arena, all + i), 1);
    }
    assert_int_equal(allot_arena_contains(made.arena, all + capacity), 0);
    assert_int_equal(allot_arena_contains(made.arena, made.arena), 0); /* its books lie elsewhere */
    assert_int_equal(allot_arena_contains(made.arena, NULL), 0);
    assert_int_equal(allot_arena_contains(made.arena, (void *)UINTPTR_MAX), 0);
    assert_int_equal(allot_arena_contains(made.arena, (void *)((uintptr_t)1 << 63)), 0);
    assert_int_equal(allot_arena_contains(made.arena, &made), 0);
    assert_ptr_equal(allot_arena_find(all + capacity - 1), made.arena);
    assert_ptr_equal(allot_arena_find(&made), NULL);
    allot_arena_free(made.arena, all);
    assert_int_equal(allot_arena_contains(made.arena, all), 1); /* free memory is still its own */
    unmake(&made);
    assert_ptr_equal(allot_arena_find(all), NULL);
}

struct seen {
    size_t n_live, live_bytes, n_free, free_bytes;
    const char *last;
    bool ascends;
};

static int see(const allot_info *info, void *context)
{
    struct seen *seen = context;
    bool is_live = info->state == ALLOT_STATE_LIVE;
    assert_int_equal(info->room, ALLOT_ROOM_ARENA);
    *(is_live ? &seen->n_live : &seen->n_free) += 1;
    *(is_live ? &seen->live_bytes : &seen->free_bytes) += info->size_bytes;
    seen->ascends = seen->ascends && (const char *)info->base > seen->last;
    seen->last = info->base;
    return 0;
}

static int stop_at_third(const allot_info *info, void *context)
{
    (void)info;
    return ++*(int *)context == 3 ? 42 : 0;
}

static void walk_stats_and_query_agree(void **state)
{
    (void)state;
    char *blocks[20];
    struct made made = make_arena(16 * KIB);
    stop_growth(&made);
    for (size_t i = 0; i < COUNT(blocks); i++) {
        blocks[i] = allot_arena_malloc(made.arena, 16 + 40 * i);
        assert_non_null(blocks[i]);
    }
    for (size_t i = 0; i < COUNT(blocks); i += 2) {
        allot_arena_free(made.arena, blocks[i]);
    }
    struct seen seen = {.ascends = true};
    assert_int_equal(allot_arena_walk(made.arena, see, &seen), 0);
    allot_arena_report report = ALLOT_ARENA_REPORT_INIT;
    assert_int_equal(allot_arena_stats(made.arena, &report), 0);
    assert_true(seen.ascends);
    assert_int_equal(seen.n_live, COUNT(blocks) / 2);
    assert_int_equal(report.n_live_blocks, seen.n_live);
    assert_int_equal(report.live_bytes, seen.live_bytes);
    assert_int_equal(report.free_bytes, seen.free_bytes);
    assert_int_equal(report.free_bytes, allot_arena_free_bytes(made.arena));
    assert_int_equal(report.capacity_bytes, seen.live_bytes + seen.free_bytes);
    assert_int_equal(report.capacity_bytes, allot_arena_capacity(made.arena));
    assert_int_equal(report.size_bytes, allot_arena_size(made.arena));
    assert_string_equal(report.name, shape->name);
    assert_string_equal(allot_arena_name(made.arena), shape->name);
    int n = 0;
    assert_int_equal(allot_arena_walk(made.arena, stop_at_third, &n), 42);
    report.abi_size = 1;
    assert_int_equal(allot_arena_stats(made.arena, &report), EINVAL);
    assert_int_equal(allot_arena_stats(made.arena, NULL), EINVAL);
    for (size_t i = 0; i < COUNT(blocks); i++) {
        allot_info info = ALLOT_INFO_INIT;
        assert_int_equal(allot_query(blocks[i] + 7, &info), 0);
        assert_int_equal(info.room, ALLOT_ROOM_ARENA);
        assert_int_equal(info.state, i % 2 == 0 ? ALLOT_STATE_FREE : ALLOT_STATE_LIVE);
        assert_int_equal(info.exact, 1);
        if (i % 2 == 1) {
            assert_ptr_equal(info.base, blocks[i]);
            assert_int_equal(info.offset, 7);
            assert_int_equal(info.size_bytes, allot_arena_usable_size(made.arena, blocks[i]));
        }
    }
    unmake(&made);
}

static void all_calls_keep_errno_on_success(void **state)
{
    (void)state;
    struct made made = make_arena(0 == (ground->can & IS_BUFFER) && (ground->can & CAN_GROW) ? 0 : 16 * KIB);
    errno = 4711;
    void *block = allot_arena_malloc(made.arena, 100);
    block = allot_arena_realloc(made.arena, block, 3000);
    assert_int_equal(allot_arena_shrink(made.arena, block, 10), 0);
    assert_int_equal(allot_arena_free(made.arena, block), 0);
    assert_int_equal(allot_arena_free(made.arena, allot_arena_calloc(made.arena, 10, 10)), 0);
    assert_int_equal(allot_arena_alloc(made.arena, opaque(SIZE_MAX), &block), ENOMEM);
    assert_int_equal(allot_arena_reset(made.arena), 0);
    allot_arena_trim(made.arena, 0);
    assert_int_equal(errno, 4711);
    unmake(&made);
}

/* ---- every kind ------------------------------------------------------------------------------------------------ */

static void blocks_are_apart_and_keep_what_is_in_them(void **state)
{
    (void)state;
    enum { N = 300 };
    unsigned char *blocks[N];
    struct made made = make_arena(32 * KIB);
    for (size_t i = 0; i < N; i++) {
        size_t bytes = 1 + i * 7 % 90;
        blocks[i] = i % 3 == 0   ? allot_bump_malloc(made.arena, bytes)
                    : i % 3 == 1 ? allot_arena_malloc(made.arena, bytes)
                                 : allot_arena_memalign(made.arena, 32, bytes);
        assert_non_null(blocks[i]);
        assert_true(is_aligned(blocks[i], i % 3 == 2 ? 32 : WORD));
        pattern_fill(blocks[i], bytes, (unsigned)i);
        assert_int_equal(allot_arena_contains(made.arena, blocks[i]), 1);
    }
    for (size_t i = 0; i < N; i++) {
        assert_true(pattern_holds(blocks[i], 1 + i * 7 % 90, (unsigned)i));
    }
    assert_int_equal(allot_arena_check(made.arena), 0);
    size_t sum = allot_arena_free_bytes(made.arena);
    struct seen seen = {.ascends = true};
    allot_arena_walk(made.arena, see, &seen);
    assert_true(seen.free_bytes >= sum);
    assert_int_equal(seen.free_bytes + seen.live_bytes, allot_arena_capacity(made.arena));
    assert_int_equal(allot_arena_reset(made.arena), 0);
    assert_arena_is_whole(&made);
    assert_null(allot_bump_malloc(made.arena, 0));
    unmake(&made);
}

static void a_reset_arena_is_as_good_as_new(void **state)
{
    (void)state;
    struct made made = make_arena(8 * KIB);
    stop_growth(&made);
    size_t capacity = allot_arena_capacity(made.arena);
    for (unsigned round = 0; round < 20; round++) {
        size_t taken = 0;
        for (unsigned char *block; (block = allot_arena_calloc(made.arena, 1, 48 + round)) != NULL;) {
            assert_true(all_zero(block, 48 + round));
            memset(block, 0xee, 48 + round);
            taken += (48 + round + 15) / WORD * WORD;
        }
        assert_true(taken <= capacity && taken + 80 >= capacity);
        assert_int_equal(allot_arena_reset(made.arena), 0);
        assert_arena_is_whole(&made);
    }
    unmake(&made);
}

static void bump_takes_back_the_latest_alone(void **state)
{
    (void)state;
    struct made made = make_arena(8 * KIB);
    stop_growth(&made);
    size_t before = allot_arena_free_bytes(made.arena);
    char *first = allot_arena_malloc(made.arena, 100);
    size_t after_first = allot_arena_free_bytes(made.arena);
    char *second = allot_arena_malloc(made.arena, 200);
    pattern_fill(second, 200, 4);
    char *longer = allot_arena_realloc(made.arena, second, 1000);
    assert_ptr_equal(longer, second); /* the latest grows in place */
    assert_true(pattern_holds(second, 200, 4));
    assert_int_equal(allot_arena_shrink(made.arena, second, 64), 0);
    assert_int_equal(allot_arena_free_bytes(made.arena), after_first - 64);
    assert_int_equal(allot_arena_free(made.arena, first), 0); /* stays until reset */
    assert_int_equal(allot_arena_free_bytes(made.arena), after_first - 64);
    assert_int_equal(allot_arena_free(made.arena, second), 0);
    assert_int_equal(allot_arena_free_bytes(made.arena), after_first);
    char *moved = allot_arena_malloc(made.arena, 10);
    memset(first, 'x', 100);
    char *copy = allot_arena_realloc(made.arena, first, 300);
    assert_true(copy != first && copy != moved && copy[99] == 'x');
    assert_int_equal(allot_arena_usable_size(made.arena, copy), 0); /* it doesn't know */
    assert_true(before > allot_arena_free_bytes(made.arena));
    unmake(&made);
}

/* The inline way leaves no trace but the end: what came before it is no longer the latest. */
static void inlined_blocks_are_the_latest_too(void **state)
{
    (void)state;
    for (unsigned how = 0; how < 4; how++) {
        struct made made = make_arena(4 * KIB);
        unsigned char *before = allot_arena_malloc(made.arena, 32);
        unsigned char *inlined = allot_bump_malloc(made.arena, 32);
        memset(before, 'a', 32);
        memset(inlined, 'b', 32);
        if (how == 0) {
            assert_int_equal(allot_arena_free(made.arena, before), 0);
        } else if (how == 1) {
            assert_int_equal(allot_arena_free_sized(made.arena, before, 32), 0);
        } else if (how == 2) {
            assert_int_equal(allot_arena_shrink(made.arena, before, 16), 0);
        } else {
            unsigned char *longer = allot_arena_realloc(made.arena, before, 64);
            assert_non_null(longer);
            memset(longer, 'c', 64);
        }
        unsigned char *fresh = allot_bump_malloc(made.arena, 100);
        memset(fresh, 'd', 100);
        for (size_t i = 0; i < 32; i++) {
            assert_int_equal(inlined[i], 'b');
        }
        unmake(&made);
    }
}

int main(void)
{
    int failed = 0;
    const struct CMUnitTest general[] = {
        cmocka_unit_test(all_of_an_arena_can_be_taken),
        cmocka_unit_test(small_blocks_fill_it_and_refill_it),
        cmocka_unit_test(structures_and_functions_are_kept),
        cmocka_unit_test(objects_are_clear_also_in_used_memory),
        cmocka_unit_test(any_part_of_a_block_can_be_given_back),
        cmocka_unit_test(every_part_can_be_given_back),
        cmocka_unit_test(neighbours_join_in_every_order),
        cmocka_unit_test(arrays_shrink_in_place),
        cmocka_unit_test(realloc_stays_in_place_where_it_can),
        cmocka_unit_test(alignment_is_kept_and_nothing_is_lost),
        cmocka_unit_test(batches_take_what_there_is),
        cmocka_unit_test(contains_is_exact_to_the_byte),
        cmocka_unit_test(walk_stats_and_query_agree),
        cmocka_unit_test(all_calls_keep_errno_on_success),
    };
    const struct CMUnitTest every_kind[] = {
        cmocka_unit_test(size_zero_changes_nothing_and_is_no_failure),
        cmocka_unit_test(blocks_are_apart_and_keep_what_is_in_them),
        cmocka_unit_test(a_reset_arena_is_as_good_as_new),
        cmocka_unit_test(copies_are_copies),
    };
    const struct CMUnitTest bump[] = {cmocka_unit_test(bump_takes_back_the_latest_alone),
                                      cmocka_unit_test(inlined_blocks_are_the_latest_too)};
    run_on_every(general, 0, 0, 0, GENERAL_SHAPES);
    run_on_every(every_kind, 0, 0, 0, ALL_SHAPES);
    run_on_every(bump, 0, 0, GENERAL_SHAPES, BUMP_SHAPES);
    return failed;
}
