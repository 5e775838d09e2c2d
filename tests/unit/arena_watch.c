/* SPDX-License-Identifier: MIT */
/* arena_watch.c - what debuggers are told: with the address sanitizer, or under valgrind, a use of an arena's free
 * memory is found where it happens; the use of live blocks is not objected to.
 *
 *     unit.arena_watch [right|wrong]      in this process: uses blocks rightly, or reads a free one
 */
#include "arena_test.h"
#include "child.h"

static volatile char sink;

/* In general and bump arenas, through frees, shrinks and resets. */
static void use_rightly(void)
{
    for (shape = shapes; shape < shapes + GENERAL_SHAPES + 2; shape++) {
        struct made made = make_arena(64 * KIB);
        for (unsigned round = 0; round < 3; round++) {
            for (size_t i = 1; i < 200; i++) {
                char *block = i % 2 ? allot_bump_malloc(made.arena, i) : allot_arena_calloc(made.arena, 1, i);
                EXPECT(block != NULL);
                memset(block, 'x', i);
                block = allot_arena_realloc(made.arena, block, 2 * i);
                EXPECT(block != NULL && block[i - 1] == 'x');
                memset(block, 'y', 2 * i);
                if (i % 3 == 0) {
                    EXPECT(allot_arena_shrink(made.arena, block, i) == 0);
                    memset(block, 'z', i);
                } else {
                    EXPECT(allot_arena_free(made.arena, block) == 0);
                }
            }
            EXPECT(allot_arena_reset(made.arena) == 0);
        }
        allot_arena_destroy(made.arena);
        memset(made.buffer, 0, 64 * KIB); /* the buffer is the caller's again */
        free(made.buffer);
        free(made.books);
    }
    shape = &shapes[0];
}

static void read_a_free_block(void)
{
    struct made made = make_arena(64 * KIB);
    char *block = allot_arena_malloc(made.arena, 100);
    EXPECT(block != NULL);
    memset(block, 'x', 100);
    EXPECT(allot_arena_free(made.arena, block) == 0);
    sink = *(volatile char *)(block + 20);
}

#if SANITIZED && (defined(__SANITIZE_ADDRESS__) || !defined(__SANITIZE_THREAD__))
static void in_child(void *wrong)
{
    if (wrong != NULL) {
        read_a_free_block();
    } else {
        use_rightly();
    }
}

static void the_sanitizer_sees_free_memory(void **state)
{
    (void)state;
    child_succeeds(in_child, NULL);
    struct child child = child_run(in_child, state);
    assert_int_not_equal(child.status, 0);
    assert_non_null(strstr(child.said, "use-after-poison"));
}
#endif

static void without_a_debugger_nothing_is_in_the_way(void **state)
{
    (void)state;
    use_rightly();
}

int main(int argc, char **argv)
{
    ground = &grounds[0];
    if (argc > 1) {
        if (strcmp(argv[1], "wrong") == 0) {
            read_a_free_block();
        } else {
            use_rightly();
        }
        return 0;
    }
    const struct CMUnitTest tests[] = {
#if SANITIZED && (defined(__SANITIZE_ADDRESS__) || !defined(__SANITIZE_THREAD__))
        cmocka_unit_test(the_sanitizer_sees_free_memory),
#endif
        cmocka_unit_test(without_a_debugger_nothing_is_in_the_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
