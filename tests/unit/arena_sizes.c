/* SPDX-License-Identifier: MIT */
/* arena_sizes.c - the smallest and the largest arenas and blocks, buffers of any alignment, products that overflow. */
#include "arena_test.h"

#include <errno.h>

static const size_t huge[] = {
    2 * GIB,
    4 * GIB - 64 * KIB,
    4 * GIB - 1,
    4 * GIB,
    4 * GIB + 1,
    4 * GIB + 64 * KIB,
    64 * GIB,
    (size_t)1 << 46,
    (size_t)1 << 47,
    ((size_t)1 << 47) + 1,
    (size_t)PTRDIFF_MAX,
    (size_t)PTRDIFF_MAX + 1,
    SIZE_MAX - 65535,
    SIZE_MAX - 4096,
    SIZE_MAX - 16,
    SIZE_MAX - 15,
    SIZE_MAX - 14,
    SIZE_MAX - 1,
    SIZE_MAX,
};

/* ---- on every backend ------------------------------------------------------------------------------------------- */

static void huge_requests_fail_and_change_nothing(void **state)
{
    (void)state;
    struct made made = make_arena(64 * KIB);
    unsigned char *block = allot_arena_malloc(made.arena, 1000);
    pattern_fill(block, 1000, 1);
    stop_growth(&made);
    size_t before = allot_arena_free_bytes(made.arena);
    for (size_t i = 0; i < COUNT(huge); i++) {
        size_t bytes = opaque(huge[i]);
        void *out = &out;
        errno = 0;
        assert_null(allot_arena_malloc(made.arena, bytes));
        assert_int_equal(errno, ENOMEM);
        assert_null(allot_bump_malloc(made.arena, bytes));
        assert_null(allot_arena_calloc(made.arena, 1, bytes));
        assert_null(allot_arena_memalign(made.arena, 4096, bytes));
        assert_int_equal(allot_arena_alloc(made.arena, bytes, &out), ENOMEM);
        assert_ptr_equal(out, &out); /* set on success only */
        assert_null(allot_arena_realloc(made.arena, block, bytes));
        assert_int_equal(allot_arena_malloc_batch(made.arena, bytes, &out, 1), 0);
        assert_int_equal(allot_arena_free_bytes(made.arena), before);
    }
    assert_null(allot_arena_memalign(made.arena, opaque((size_t)1 << 63), 10));
    assert_true(pattern_holds(block, 1000, 1));
    unmake(&made);
}

static void overflowing_products_fail(void **state)
{
    (void)state;
    static const struct {
        size_t n, item;
    } products[] = {
        {SIZE_MAX, 2},
        {2, SIZE_MAX},
        {SIZE_MAX / 2 + 1, 2},
        {(size_t)1 << 32, (size_t)1 << 32},
        {((size_t)1 << 32) + 1, (size_t)1 << 32},
        {SIZE_MAX / 16 + 2, 16},
        {SIZE_MAX, SIZE_MAX},
        {(size_t)1 << 60, 16},
        {((size_t)1 << 60) + 1, 16},
    };
    struct made made = make_arena(4 * KIB);
    stop_growth(&made);
    size_t before = allot_arena_free_bytes(made.arena);
    for (size_t i = 0; i < COUNT(products); i++) {
        errno = 0;
        assert_null(allot_arena_calloc(made.arena, opaque(products[i].n), opaque(products[i].item)));
        assert_int_equal(errno, ENOMEM);
    }
    errno = 0;
    assert_null(ALLOT_NEW_ARRAY(made.arena, double, opaque(SIZE_MAX / 4)));
    assert_int_equal(errno, ENOMEM);
    assert_int_equal(allot_arena_free_bytes(made.arena), before);
    unmake(&made);
}

/* ---- creating --------------------------------------------------------------------------------------------------- */

static void sizes_are_rounded_up_to_words(void **state)
{
    (void)state;
    for (size_t bytes = 1; bytes <= 200; bytes++) {
        allot_arena *arena;
        assert_int_equal(allot_arena_create(bytes, NULL, &arena), 0);
        size_t rounded = (bytes + 15) / WORD * WORD;
        assert_true(allot_arena_capacity(arena) >= rounded);
        assert_true(allot_arena_size(arena) >= allot_arena_capacity(arena));
        assert_non_null(allot_arena_malloc(arena, rounded));
        allot_arena_destroy(arena);
    }
}

static void sizes_that_nobody_can_have_are_refused(void **state)
{
    (void)state;
    allot_arena *arena = NULL;
    for (size_t i = 8; i < COUNT(huge); i++) {
        int error = allot_arena_create(opaque(huge[i]), NULL, &arena);
        assert_int_equal(error, huge[i] > (size_t)1 << 47 ? EINVAL : ENOMEM);
        assert_null(arena);
    }
}

static void bad_options_are_refused(void **state)
{
    (void)state;
    static const allot_backend_ops no_grow = {.abi_size = sizeof(allot_backend_ops)};
    static const allot_backend_ops old = {.abi_size = 8, .grow = own_pieces_grow};
    allot_backend bad_backends[] = {{.ops = NULL}, {.ops = &no_grow}, {.ops = &old}};
    allot_arena *arena = NULL;
    for (unsigned fault = 0; fault < 8; fault++) {
        allot_arena_options options = ALLOT_ARENA_OPTIONS_INIT;
        char buffer[4096];
        switch (fault) {
        case 0:
            options.abi_size--;
            break;
        case 1:
            options.kind = (allot_arena_kind)3;
            break;
        case 2:
            options.fit = (allot_arena_fit)3;
            break;
        case 3:
            options.flags = 4;
            break;
        case 4:
            options.soft_limit = 2;
            options.hard_limit = 1;
            break;
        default:
            options.backend = &bad_backends[fault - 5];
        }
        assert_int_equal(allot_arena_create(4096, &options, &arena), EINVAL);
        assert_int_equal(allot_arena_create_at(buffer, sizeof buffer, &options, &arena), EINVAL);
        assert_int_equal(allot_arena_books_size(4096, &options), 0);
        assert_null(arena);
    }
}

/* ---- buffers ---------------------------------------------------------------------------------------------------- */

static void a_buffer_of_any_alignment_and_size_makes_an_arena(void **state)
{
    (void)state;
    static _Alignas(16) char memory[600];
    static char books[64 * 1024];
    for (size_t skew = 0; skew < 16; skew++) {
        for (size_t bytes = 0; bytes <= 260; bytes++) {
            allot_arena_options options = shape_options();
            allot_arena *arena = NULL;
            memset(memory, 0x5c, sizeof memory);
            options.books_bytes = allot_arena_books_size(bytes, &options);
            options.books = options.books_bytes == 0 ? NULL : books + skew;
            int error = allot_arena_create_at(memory + 16 + skew, bytes, &options, &arena);
            if (bytes < 32) {
                assert_int_equal(error, EINVAL);
                assert_int_equal(options.books_bytes, 0);
                continue;
            }
            assert_int_equal(error, 0);
            size_t words = (bytes - (16 - skew) % 16) / WORD;
            assert_int_equal(allot_arena_capacity(arena), words * WORD);
            stop_growth(&(struct made){.arena = arena, .buffer = memory});
            size_t taken = 0;
            for (char *block; shape->kind != ALLOT_ARENA_SCRATCH && (block = allot_arena_malloc(arena, 16)) != NULL;) {
                assert_true(is_aligned(block, WORD));
                assert_true(block >= memory + 16 + skew && block + 16 <= memory + 16 + skew + bytes);
                memset(block, 0xff, 16);
                taken++;
                if (taken % 2 == 1) {
                    assert_int_equal(allot_arena_free(arena, block), 0); /* a misaligned base hinders nobody */
                    assert_ptr_equal(allot_arena_malloc(arena, 16), block);
                }
            }
            assert_true(shape->kind == ALLOT_ARENA_SCRATCH || taken == words);
            allot_arena_destroy(arena);
            for (size_t i = 0; i < 16 + skew; i++) {
                assert_int_equal(memory[i], 0x5c);
            }
            for (size_t i = 16 + skew + bytes; i < sizeof memory; i++) {
                assert_int_equal(memory[i], 0x5c);
            }
        }
    }
}

static void a_hundred_bytes_are_six_words(void **state)
{
    (void)state;
    static _Alignas(16) char memory[100];
    allot_arena *arena;
    assert_int_equal(allot_arena_create_at(memory, sizeof memory, NULL, &arena), 0);
    assert_int_equal(allot_arena_capacity(arena), 96);
    for (unsigned i = 0; i < 6; i++) {
        assert_non_null(allot_arena_malloc(arena, 1));
    }
    assert_null(allot_arena_malloc(arena, 1)); /* a buffer doesn't grow */
    allot_arena_destroy(arena);
    assert_int_equal(allot_arena_create_at(NULL, 100, NULL, &arena), EINVAL);
    assert_int_equal(allot_arena_create_at(memory, opaque(SIZE_MAX), NULL, &arena), EINVAL);
}

static void books_that_are_too_small_are_refused(void **state)
{
    (void)state;
    static _Alignas(16) char memory[2048];
    static _Alignas(16) char books[64 * 1024];
    allot_arena_options options = shape_options();
    size_t enough = allot_arena_books_size(sizeof memory, &options);
    assert_true(enough > 0 && enough < sizeof books);
    memset(books, 0x5c, sizeof books);
    options.books = books;
    for (size_t bytes = 0; bytes + 16 < enough; bytes += 16) {
        allot_arena *arena = NULL;
        options.books_bytes = bytes;
        assert_int_equal(allot_arena_create_at(memory, sizeof memory, &options, &arena), EINVAL);
        assert_null(arena);
        for (size_t i = bytes; i < enough + 64; i++) {
            assert_int_equal(books[i], 0x5c);
        }
    }
    if (shape->kind != ALLOT_ARENA_GENERAL) {
        assert_true(enough <= ALLOT_BUMP_BOOKS_BYTES);
    }
    /* Small for what they describe: less than an eighth of a large buffer. */
    assert_true(allot_arena_books_size(MIB, &options) < MIB / 2);
}

/* ---- large ones ------------------------------------------------------------------------------------------------- */

static void blocks_beyond_4_gib_are_blocks(void **state)
{
    (void)state;
    allot_arena_options options = shape_options();
    allot_arena *arena;
    if (allot_backend_virt(16 * GIB, NULL, &options.backend) != 0 || allot_arena_create(0, &options, &arena) != 0) {
        skip();
    }
    static const size_t sizes[] = {2 * GIB, 4 * GIB - 64 * KIB, 4 * GIB, 4 * GIB + 64 * KIB};
    char *blocks[COUNT(sizes)];
    for (size_t i = 0; i < COUNT(sizes); i++) {
        blocks[i] = allot_arena_malloc(arena, sizes[i]);
        if (blocks[i] == NULL) {
            assert_int_equal(errno, ENOMEM); /* the system commits no more */
            break;
        }
        touch_ends(blocks[i], sizes[i]);
        assert_int_equal(allot_arena_usable_size(arena, blocks[i]), shape->kind == ALLOT_ARENA_GENERAL ? sizes[i] : 0);
        assert_int_equal(allot_arena_contains(arena, blocks[i] + sizes[i] - 1), 1);
        if (shape->kind == ALLOT_ARENA_GENERAL) {
            assert_int_equal(allot_arena_free(arena, blocks[i]), 0);
            void *zeroed = allot_arena_calloc(arena, sizes[i] / 64, 64);
            assert_int_equal(allot_arena_free(arena, zeroed), 0);
        } else {
            assert_int_equal(allot_arena_reset(arena), 0);
        }
    }
    assert_int_equal(allot_arena_check(arena), 0);
    assert_null(allot_arena_malloc(arena, 16 * GIB + 1));
    allot_arena_destroy(arena);
    assert_int_equal(allot_backend_destroy(options.backend), 0);
}

int main(void)
{
    int failed = 0;
    const struct CMUnitTest every[] = {
        cmocka_unit_test(huge_requests_fail_and_change_nothing),
        cmocka_unit_test(overflowing_products_fail),
    };
    const struct CMUnitTest once[] = {
        cmocka_unit_test(sizes_are_rounded_up_to_words),
        cmocka_unit_test(sizes_that_nobody_can_have_are_refused),
        cmocka_unit_test(bad_options_are_refused),
        cmocka_unit_test(a_hundred_bytes_are_six_words),
    };
    const struct CMUnitTest each_shape[] = {
        cmocka_unit_test(a_buffer_of_any_alignment_and_size_makes_an_arena),
        cmocka_unit_test(books_that_are_too_small_are_refused),
        cmocka_unit_test(blocks_beyond_4_gib_are_blocks),
    };
    run_on_every(every, 0, 0, 0, ALL_SHAPES);
    failed += cmocka_run_group_tests(once, NULL, NULL);
    for (shape = shapes; shape < shapes + ALL_SHAPES; shape++) {
        printf("%s\n", shape->name);
        failed += cmocka_run_group_tests(each_shape, NULL, NULL);
    }
    return failed;
}
