/* SPDX-License-Identifier: MIT */
/* arena_misuse.c - every misuse of an arena is found at the call, by name, and changes nothing. */
#include "arena_test.h"
#include "child.h"

#include <errno.h>
#include <signal.h>

/* One arena with a live block of four words between two others, and what must be unchanged after a misuse. */
struct scene {
    struct made made;
    char *before, *block, *behind;
    size_t free_bytes;
};

static struct scene scene_make(void)
{
    struct scene scene = {.made = make_arena(8 * KIB)};
    scene.before = allot_arena_malloc(scene.made.arena, 4 * WORD);
    scene.block = allot_arena_malloc(scene.made.arena, 4 * WORD);
    scene.behind = allot_arena_malloc(scene.made.arena, 4 * WORD);
    pattern_fill(scene.before, 4 * WORD, 1);
    pattern_fill(scene.block, 4 * WORD, 2);
    pattern_fill(scene.behind, 4 * WORD, 3);
    scene.free_bytes = allot_arena_free_bytes(scene.made.arena);
    return scene;
}

static void scene_end(struct scene *scene)
{
    assert_int_equal(allot_arena_free_bytes(scene->made.arena), scene->free_bytes);
    assert_true(pattern_holds(scene->before, 4 * WORD, 1));
    assert_true(pattern_holds(scene->behind, 4 * WORD, 3));
    unmake(&scene->made);
}

static void a_second_free_is_found(void **state)
{
    (void)state;
    struct scene scene = scene_make();
    assert_int_equal(allot_arena_free(scene.made.arena, scene.block), 0);
    scene.free_bytes += 4 * WORD;
    errno = 5;
    expect_misuse("double free", EINVAL, allot_arena_free(scene.made.arena, scene.block));
    assert_int_equal(errno, 5);
    assert_ptr_equal(misuse.address, scene.block);
    assert_true((const char *)misuse.block <= scene.block && misuse.block_bytes >= 4 * WORD);
    expect_misuse("double free", EINVAL, allot_arena_free_sized(scene.made.arena, scene.block, 4 * WORD));
    expect_misuse("double free", EINVAL, allot_arena_free_sized(scene.made.arena, scene.block + WORD, WORD));
    expect_misuse("double free", EINVAL, allot_arena_free(scene.made.arena, scene.block + 3 * WORD));
    scene_end(&scene);
}

static void a_range_that_reaches_beyond_its_block_is_found(void **state)
{
    (void)state;
    struct scene scene = scene_make();
    allot_arena *arena = scene.made.arena;
    expect_misuse("overlapping free", EINVAL, allot_arena_free_sized(arena, scene.block, 4 * WORD + 1));
    expect_misuse("overlapping free", EINVAL, allot_arena_free_sized(arena, scene.block + 3 * WORD, 2 * WORD));
    expect_misuse("overlapping free", EINVAL, allot_arena_free_sized(arena, scene.block, opaque(SIZE_MAX)));
    expect_misuse("overlapping free", EINVAL, allot_arena_free_sized(arena, scene.block, opaque(SIZE_MAX - 15)));
    expect_misuse("overlapping free", EINVAL,
                  allot_arena_free_sized(arena, scene.block, opaque(0 - (size_t)scene.block)));
    assert_int_equal(allot_arena_free_sized(arena, scene.block + 2 * WORD, 2 * WORD), 0);
    scene.free_bytes += 2 * WORD;
    expect_misuse("overlapping free", EINVAL,
                  allot_arena_free_sized(arena, scene.block, 4 * WORD)); /* into a free one */
    assert_true(pattern_holds(scene.block, 2 * WORD, 2));
    scene_end(&scene);
}

static void zero_length_and_misaligned_frees_are_found(void **state)
{
    (void)state;
    struct scene scene = scene_make();
    expect_misuse("zero-length free", EINVAL, allot_arena_free_sized(scene.made.arena, scene.block, 0));
    expect_misuse("zero-length free", EINVAL, allot_arena_free_sized(scene.made.arena, scene.block + WORD, 0));
    for (size_t i = 1; i < WORD; i++) {
        expect_misuse("misaligned free", EINVAL, allot_arena_free(scene.made.arena, scene.block + i));
        expect_misuse("misaligned free", EINVAL, allot_arena_free_sized(scene.made.arena, scene.block + i, WORD));
    }
    assert_true(pattern_holds(scene.block, 4 * WORD, 2)); /* nothing was written to it */
    scene_end(&scene);
}

static void the_middle_of_a_block_is_no_block(void **state)
{
    (void)state;
    struct scene scene = scene_make();
    expect_misuse("invalid free", EINVAL, allot_arena_free(scene.made.arena, scene.block + WORD));
    assert_ptr_equal(misuse.block, scene.block);
    assert_int_equal(misuse.block_bytes, 4 * WORD);
    char expected[200];
    snprintf(expected, sizeof expected, "allot: invalid free of 0x%jx: offset 16 in the 64-byte block at 0x%jx (live)",
             (uintmax_t)(uintptr_t)(scene.block + WORD), (uintmax_t)(uintptr_t)scene.block);
    assert_int_equal(strncmp(misuse.line, expected, strlen(expected)), 0);
    assert_non_null(strstr(misuse.line, allot_arena_name(scene.made.arena)));
    scene_end(&scene);
}

static void foreign_addresses_are_found(void **state)
{
    (void)state;
    static _Alignas(16) char elsewhere[64];
    struct scene scene = scene_make();
    allot_arena *other;
    assert_int_equal(allot_arena_create(4 * KIB, NULL, &other), 0);
    char *capacity_end = scene.block;
    while (allot_arena_contains(scene.made.arena, capacity_end)) {
        capacity_end++;
    }
    capacity_end = (char *)(((uintptr_t)capacity_end + 15) & ~(uintptr_t)15);
    void *const foreign[] = {
        elsewhere,
        &scene,
        allot_arena_malloc(other, 64),
        malloc(64),
        scene.made.arena,
        (void *)16,
        capacity_end,
        (void *)(UINTPTR_MAX - 15),
        (void *)((uintptr_t)1 << 47),
    };
    for (size_t i = 0; i < COUNT(foreign); i++) {
        expect_misuse("invalid free", EINVAL, allot_arena_free(scene.made.arena, foreign[i]));
        expect_misuse("invalid free", EINVAL, allot_arena_free_sized(scene.made.arena, foreign[i], 16));
        misuse.n = 0;
        errno = 0;
        assert_null(allot_arena_realloc(scene.made.arena, foreign[i], 100));
        assert_int_equal(errno, EINVAL);
        assert_int_equal(allot_arena_shrink(scene.made.arena, foreign[i], 8), EINVAL);
        assert_int_equal(allot_arena_usable_size(scene.made.arena, foreign[i]), 0);
        assert_int_equal(misuse.n, 3);
    }
    expect_misuse("invalid free", EINVAL, allot_arena_free_sized(scene.made.arena, NULL, 16));
    free(foreign[3]);
    allot_arena_destroy(other);
    scene_end(&scene);
}

static void use_of_a_freed_block_is_found(void **state)
{
    (void)state;
    struct scene scene = scene_make();
    allot_arena_free(scene.made.arena, scene.block);
    scene.free_bytes += 4 * WORD;
    expect_misuse("use of a freed block", 0, (size_t)allot_arena_realloc(scene.made.arena, scene.block, 100));
    expect_misuse("use of a freed block", EINVAL, allot_arena_shrink(scene.made.arena, scene.block, 16));
    expect_misuse("use of a freed block", 0, allot_arena_usable_size(scene.made.arena, scene.block));
    void *batch[3] = {scene.before, scene.block, NULL};
    expect_misuse("double free", EINVAL, allot_arena_free_batch(scene.made.arena, batch, 3));
    scene.before = allot_arena_malloc(scene.made.arena, 4 * WORD);
    pattern_fill(scene.before, 4 * WORD, 1);
    scene_end(&scene);
}

/* A block that was freed and handed out again is somebody's live block: whoever frees it at its begin can't be told
 * from its owner. Anything else can. */
static void a_stale_free_is_found_unless_it_is_exact(void **state)
{
    (void)state;
    struct made made = make_arena(4 * KIB);
    stop_growth(&made);
    size_t all_bytes = allot_arena_capacity(made.arena);
    char *stale = allot_arena_malloc(made.arena, 64);
    char *rest = allot_arena_malloc(made.arena, all_bytes - 64);
    allot_arena_free(made.arena, rest);
    allot_arena_free(made.arena, stale);
    char *fresh = allot_arena_malloc(made.arena, all_bytes);
    if (stale != fresh) {
        expect_misuse("invalid free", EINVAL, allot_arena_free(made.arena, stale));
    } else {
        expect_misuse("invalid free", EINVAL, allot_arena_free(made.arena, rest));
    }
    assert_int_equal(allot_arena_free(made.arena, fresh), 0);
    unmake(&made);
}

static void bump_arenas_know_their_own(void **state)
{
    (void)state;
    static _Alignas(16) char elsewhere[64];
    struct made made = make_arena(4 * KIB);
    char *block = allot_arena_malloc(made.arena, 64);
    size_t before = allot_arena_free_bytes(made.arena);
    expect_misuse("invalid free", EINVAL, allot_arena_free(made.arena, elsewhere));
    expect_misuse("misaligned free", EINVAL, allot_arena_free(made.arena, block + 1));
    expect_misuse("invalid free", EINVAL, allot_arena_free(made.arena, block + 128)); /* not handed out yet */
    expect_misuse("overlapping free", EINVAL, allot_arena_free_sized(made.arena, block, 80));
    expect_misuse("zero-length free", EINVAL, allot_arena_free_sized(made.arena, block, 0));
    misuse.n = 0;
    assert_null(allot_arena_realloc(made.arena, elsewhere, 100));
    assert_int_equal(allot_arena_shrink(made.arena, elsewhere, 8), EINVAL);
    assert_int_equal(misuse.n, 2);
    assert_int_equal(allot_arena_free_bytes(made.arena), before);
    unmake(&made);
}

/* ---- on one ground -------------------------------------------------------------------------------------------- */

static void one_backend_in_two_arenas_is_found(void **state)
{
    (void)state;
    allot_backend *(*const make[])(void) = {new_virt, new_mmap, new_own_region, new_own_pieces};
    for (size_t i = 0; i < COUNT(make); i++) {
        allot_arena_options options = shape_options();
        allot_arena *first;
        allot_arena *second = NULL;
        options.backend = make[i]();
        assert_int_equal(allot_arena_create(100, &options, &first), 0);
        expect_misuse("second arena", EBUSY, allot_arena_create(100, &options, &second));
        assert_null(second);
        assert_int_equal(allot_backend_destroy(options.backend), EBUSY);
        assert_non_null(allot_arena_malloc(first, 1000));
        assert_int_equal(allot_arena_check(first), 0);
        allot_arena_destroy(first);
        assert_int_equal(allot_arena_create(0, &options, &second), 0); /* one after the other is fine */
        allot_arena_destroy(second);
        assert_int_equal(allot_backend_destroy(options.backend), 0);
    }
}

/* Of 10,000 frees of addresses around the blocks, exactly the right ones are taken. */
static void only_right_frees_are_taken(void **state)
{
    (void)state;
    enum { BLOCKS = 40 };
    struct made made = make_arena(16 * KIB);
    char *blocks[BLOCKS];
    bool is_live[BLOCKS];
    uint64_t random = 99;
    stop_growth(&made);
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = allot_arena_malloc(made.arena, 16 * (1 + i % 7));
        is_live[i] = true;
    }
    for (unsigned round = 0; round < 10000; round++) {
        size_t i = random_below(&random, BLOCKS);
        size_t offset = random_below(&random, 3) != 0 ? 0 : random_below(&random, 130);
        misuse.n = 0;
        int error = allot_arena_free(made.arena, blocks[i] + offset);
        bool was_right = error == 0;
        assert_int_equal(misuse.n, was_right ? 0 : 1);
        for (size_t j = 0; j < BLOCKS; j++) {
            bool is_meant = is_live[j] && blocks[j] == blocks[i] + offset;
            if (is_meant) {
                assert_true(was_right);
                was_right = false;
                is_live[j] = false;
            }
        }
        assert_false(was_right);
        if (round % 3 == 0) {
            for (size_t j = 0; j < BLOCKS; j++) {
                if (!is_live[j]) {
                    blocks[j] = allot_arena_malloc(made.arena, 16 * (1 + random_below(&random, 8)));
                    is_live[j] = blocks[j] != NULL;
                    assert_non_null(blocks[j]);
                    break;
                }
            }
        }
    }
    unmake(&made);
}

static void without_a_handler(void *what)
{
    allot_arena *arena;
    allot_arena_options options = ALLOT_ARENA_OPTIONS_INIT;
    options.name = "requests";
    EXPECT(allot_arena_create(4096, &options, &arena) == 0);
    char *block = allot_arena_malloc(arena, 48);
    EXPECT(block != NULL && allot_arena_free(arena, block) == 0);
    if (what == NULL) {
        allot_arena_free(arena, block);
    } else {
        char *wrong = allot_arena_malloc(arena, 48);
        allot_free(wrong); /* the heap's free, of an arena's block */
    }
}

static void by_default_a_line_is_written_and_the_process_ends(void **state)
{
    (void)state;
    struct child child = child_run(without_a_handler, NULL);
    assert_true(child_killed_by(&child, SIGABRT));
    assert_int_equal(strncmp(child.said, "allot: double free of 0x", 24), 0);
    assert_non_null(strstr(child.said, ", arena requests, thread "));
    assert_ptr_equal(strchr(child.said, '\n'), child.said + strlen(child.said) - 1); /* one line */
    child = child_run(without_a_handler, &child);
    assert_true(child_killed_by(&child, SIGABRT));
    assert_int_equal(strncmp(child.said, "allot: invalid free of 0x", 25), 0);
    assert_non_null(strstr(child.said, "arena requests"));
}

static allot_action say_abort(const allot_error *error, void *context)
{
    (void)error;
    *(int *)context += 1;
    return ALLOT_ACTION_ABORT;
}

static void with_a_strict_handler(void *unused)
{
    (void)unused;
    allot_arena *arena;
    int calls = 0;
    EXPECT(allot_arena_create(4096, NULL, &arena) == 0);
    allot_arena_set_error_handler(arena, say_abort, &calls);
    allot_arena_free(arena, &calls);
}

static void a_handler_may_say_abort(void **state)
{
    (void)state;
    struct child child = child_run(with_a_strict_handler, NULL);
    assert_true(child_killed_by(&child, SIGABRT));
}

static void without_its_own_the_process_handler_is_asked(void **state)
{
    (void)state;
    allot_arena *arena;
    allot_set_error_handler(catch_misuse, NULL);
    assert_int_equal(allot_arena_create(4096, NULL, &arena), 0);
    expect_misuse("invalid free", EINVAL, allot_arena_free(arena, &arena));
    char *block = allot_arena_malloc(arena, 32);
    misuse.n = 0;
    allot_free(block);
    assert_int_equal(misuse.n, 1);
    assert_string_equal(misuse.name, "invalid free");
    assert_int_equal(allot_arena_check(arena), 0);
    assert_int_equal(allot_arena_free(arena, block), 0);
    allot_arena_destroy(arena);
    misuse.n = 0;
    allot_arena_destroy(arena); /* gone: its struct tells, for as long as that memory isn't used again */
    assert_int_equal(misuse.n, 1);
    allot_set_error_handler(NULL, NULL);
}

int main(void)
{
    int failed = 0;
    const struct CMUnitTest general[] = {
        cmocka_unit_test(a_second_free_is_found),
        cmocka_unit_test(a_range_that_reaches_beyond_its_block_is_found),
        cmocka_unit_test(zero_length_and_misaligned_frees_are_found),
        cmocka_unit_test(the_middle_of_a_block_is_no_block),
        cmocka_unit_test(foreign_addresses_are_found),
        cmocka_unit_test(use_of_a_freed_block_is_found),
        cmocka_unit_test(a_stale_free_is_found_unless_it_is_exact),
    };
    const struct CMUnitTest bump[] = {cmocka_unit_test(bump_arenas_know_their_own)};
    const struct CMUnitTest once[] = {
        cmocka_unit_test(one_backend_in_two_arenas_is_found),
        cmocka_unit_test(only_right_frees_are_taken),
        cmocka_unit_test(by_default_a_line_is_written_and_the_process_ends),
        cmocka_unit_test(a_handler_may_say_abort),
        cmocka_unit_test(without_its_own_the_process_handler_is_asked),
    };
    run_on_every(general, 0, 0, 0, GENERAL_SHAPES);
    run_on_every(bump, 0, 0, GENERAL_SHAPES, BUMP_SHAPES);
    failed += cmocka_run_group_tests(once, NULL, NULL);
    return failed;
}
