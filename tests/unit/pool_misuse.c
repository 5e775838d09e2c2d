/* SPDX-License-Identifier: MIT */
/* pool_misuse.c - every wrong free is found, named, and does no harm when the handler says to go on. */
#include "pool_test.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void check_block(struct pool *pool, size_t size)
{
    char *block = pool_malloc(pool, size, 16);
    char *kept = pool_malloc(pool, size, 16);
    assert_non_null(block);
    size_t usable = pool_usable(block, "test");
    for (size_t at = 1; at < usable; at = at * 2 + 1) {
        expect_fault("invalid free", pool_free(block + at));
    }
    expect_fault("invalid free", pool_free(block + usable - 16 + (usable == 16)));
    pool_free(block);
    if (pool_owns(block)) {
        expect_fault("double free", pool_free(block));
        expect_fault("double free", pool_free(block));
    } else {
        expect_fault("invalid free", pool_free(block));
    }
    expect_fault(
        "use of a freed block", if (pool_owns(block)) { assert_null(pool_realloc(block, 8)); } else {
            catch_fault(&(struct fault){.name = "use of a freed block"}, "");
        });
    struct pool_block found;
    assert_true(pool_query(kept, &found));
    assert_true(found.live && found.base == kept && found.bytes == usable);
    assert_true(pool_query(kept + usable - 1, &found));
    assert_ptr_equal(found.base, kept);
    pool_free(kept);
    assert_true(!pool_query(kept, &found) || !found.live);
}

static void wrong_frees_are_found_at_every_size(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 16, 17, 48, 100, 112, 128, 500, 1000, 3584, 4096, 4097, 60000, 200000, 262144};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        check_block(&pool_public, sizes[i]);
        check_block(&pool_of_heap, sizes[i]);
    }
    check_block(&pool_of_heap, 300000);
    check_block(&pool_of_heap, 10000000);
}

static void a_double_free_gives_no_block_twice(void **state)
{
    (void)state;
    void *a = allot_pool_malloc(40);
    allot_pool_free(a);
    expect_fault("double free", allot_pool_free(a));
    void *b = allot_pool_malloc(40);
    void *c = allot_pool_malloc(40);
    assert_ptr_not_equal(b, c);
    allot_pool_free(b);
    allot_pool_free(c);
}

static void blocks_that_were_never_handed_out_are_not_taken(void **state)
{
    (void)state;
    char *first = allot_pool_malloc(16);
    expect_fault("double free", allot_pool_free(first + 16 * 40));
    expect_fault("invalid free", allot_pool_free(first + 16 * 63)); /* behind the superblock's last */
    allot_pool_free(first);
}

static void wild_pointers_are_no_block(void **state)
{
    (void)state;
    int on_stack;
    uint64_t wild[] = {1,
                       8,
                       4096,
                       0x7fffffffffff,
                       UINT64_C(0x800000000000),
                       UINT64_C(0xffff800000000000),
                       UINT64_MAX,
                       UINT64_MAX - 15,
                       (uintptr_t)&on_stack,
                       (uintptr_t)check_block,
                       UINT64_C(0x5a5a5a5a5a5a5a50)};
    for (size_t i = 0; i < sizeof wild / sizeof wild[0]; i++) {
        void *p = (void *)(uintptr_t)wild[i];
        struct pool_block found;
        assert_false(pool_owns(p));
        assert_false(pool_query(p, &found));
        expect_fault("invalid free", allot_pool_free(p));
        expect_fault("invalid pointer", assert_null(allot_pool_realloc(p, 100)));
        expect_fault("invalid pointer", assert_int_equal(allot_pool_usable_size(p), 0));
    }
    allot_pool_free(NULL);
    assert_int_equal(allot_pool_usable_size(NULL), 0);
}

static void the_report_says_what_and_where(void **state)
{
    (void)state;
    char *block = allot_pool_malloc(100);
    expect_fault("invalid free", allot_pool_free(block + 5));
    char expected[200];
    snprintf(expected, sizeof expected,
             "allot: invalid free of %p: offset 5 in the 112-byte block at %p (live), thread ", (void *)(block + 5),
             (void *)block);
    assert_memory_equal(caught.line, expected, strlen(expected));
    allot_pool_free(block);
    expect_fault("double free", allot_pool_free(block));
    snprintf(expected, sizeof expected,
             "allot: double free of %p: offset 0 in the 112-byte block at %p (free), thread ", (void *)block,
             (void *)block);
    assert_memory_equal(caught.line, expected, strlen(expected));
}

static void without_a_handler_the_process_ends(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 2);
        void *block = allot_pool_malloc(100);
        allot_pool_free(block);
        allot_pool_free(block);
        _exit(0);
    }
    close(ends[1]);
    char line[300] = "";
    assert_true(read(ends[0], line, sizeof line - 1) > 0);
    close(ends[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_memory_equal(line, "allot: double free of 0x", 24);
    assert_int_equal(line[strlen(line) - 1], '\n');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wild_pointers_are_no_block), /* first: also before the first call of malloc */
        cmocka_unit_test(wrong_frees_are_found_at_every_size),
        cmocka_unit_test(a_double_free_gives_no_block_twice),
        cmocka_unit_test(blocks_that_were_never_handed_out_are_not_taken),
        cmocka_unit_test(the_report_says_what_and_where),
        cmocka_unit_test(without_a_handler_the_process_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
