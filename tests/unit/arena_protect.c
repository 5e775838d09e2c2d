/* SPDX-License-Identifier: MIT */
/* arena_protect.c - the protection of an arena's memory: of all of it, also of what comes later, and malloc and free go
 * on whatever it is. */
#include "arena_test.h"
#include "child.h"

#include <errno.h>
#include <signal.h>

static int *volatile probe;

static void write_to_probe(void *unused)
{
    (void)unused;
    signal(SIGSEGV, SIG_DFL);
    signal(SIGBUS, SIG_DFL);
    *probe = 1;
}

static void read_from_probe(void *unused)
{
    (void)unused;
    signal(SIGSEGV, SIG_DFL);
    signal(SIGBUS, SIG_DFL);
    volatile int value = *probe;
    (void)value;
}

/* Whether a child of this process can. */
static bool can(void (*what)(void *), void *address)
{
    probe = address;
    struct child child = child_run(what, NULL);
    return WIFEXITED(child.status) && WEXITSTATUS(child.status) == 0;
}

static void assert_access(void *address, bool readable, bool writable)
{
    assert_int_equal(can(read_from_probe, address), readable);
    assert_int_equal(can(write_to_probe, address), writable);
}

static void protecting_nothing_is_fine_and_inherited(void **state)
{
    (void)state;
    struct made made = make_arena(0);
    assert_int_equal(allot_arena_protect(made.arena, PROT_READ), 0);
    void *block = allot_arena_malloc(made.arena, 100);
    assert_non_null(block);
    assert_access(block, true, false);
    unmake(&made);
}

/* Many pieces, some given back in between; what comes later is like the rest. */
static void all_of_it_changes_and_what_comes_later(void **state)
{
    (void)state;
    enum { N = 30 };
    unsigned char *blocks[N];
    struct made made = make_arena(PAGE);
    for (size_t i = 0; i < N; i++) {
        blocks[i] = allot_arena_malloc(made.arena, 20 * KIB);
        pattern_fill(blocks[i], 20 * KIB, (unsigned)i);
    }
    for (size_t i = 0; i < N; i += 3) {
        assert_int_equal(allot_arena_free(made.arena, blocks[i]), 0);
    }
    assert_int_equal(allot_arena_protect(made.arena, PROT_READ), 0);
    assert_access(blocks[1], true, false);
    assert_access(blocks[N - 1], true, false);
    void *late = allot_arena_malloc(made.arena, 900 * KIB);
    assert_non_null(late);
    assert_access(late, true, false);
    assert_access((char *)late + 900 * KIB - 4, true, false);
    allot_arena_report report = ALLOT_ARENA_REPORT_INIT;
    allot_arena_stats(made.arena, &report);
    assert_int_equal(report.protection, PROT_READ);
    assert_int_equal(allot_arena_protect(made.arena, PROT_READ | PROT_WRITE), 0);
    memset(late, 0xff, 900 * KIB);
    for (size_t i = 0; i < N; i++) {
        assert_true(i % 3 == 0 || pattern_holds(blocks[i], 20 * KIB, (unsigned)i));
        assert_true(i % 3 == 0 || (blocks[i][5] = 1) == 1);
    }
    unmake(&made);
}

static void contents_outlive_no_access(void **state)
{
    (void)state;
    struct made made = make_arena(PAGE);
    unsigned char *block = allot_arena_malloc(made.arena, 3 * PAGE);
    pattern_fill(block, 3 * PAGE, 1);
    assert_int_equal(allot_arena_protect(made.arena, PROT_NONE), 0);
    assert_access(block, false, false);
    assert_int_equal(allot_arena_protect(made.arena, PROT_NONE), 0); /* again */
    assert_int_equal(allot_arena_protect(made.arena, PROT_READ | PROT_WRITE), 0);
    assert_true(pattern_holds(block, 3 * PAGE, 1));
    unmake(&made);
}

/* The books lie outside. */
static void malloc_and_free_work_under_every_protection(void **state)
{
    (void)state;
    static const int protections[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_EXEC, PROT_EXEC, PROT_READ | PROT_WRITE};
    for (size_t p = 0; p < COUNT(protections); p++) {
        enum { N = 200 };
        void *blocks[N] = {NULL};
        struct made made = make_arena(PAGE);
        uint64_t random = p + 1;
        int error = allot_arena_protect(made.arena, protections[p]);
        if ((error == EACCES || error == EPERM) && (protections[p] & PROT_EXEC) != 0) {
            unmake(&made); /* the system lets nobody */
            continue;
        }
        assert_int_equal(error, 0);
        for (unsigned round = 0; round < 3000; round++) {
            size_t i = random_below(&random, N);
            if (blocks[i] == NULL) {
                blocks[i] = allot_arena_malloc(made.arena, 1 + random_below(&random, 3000));
                assert_non_null(blocks[i]);
            } else if (round % 3 == 0) {
                assert_int_equal(allot_arena_shrink(made.arena, blocks[i], 1), 0);
            } else {
                assert_int_equal(allot_arena_free(made.arena, blocks[i]), 0);
                blocks[i] = NULL;
            }
        }
        misuse.n = 0;
        assert_int_equal(allot_arena_free(made.arena, &made), EINVAL);
        assert_int_equal(misuse.n, 1);
        assert_int_equal(allot_arena_check(made.arena), 0);
        for (size_t i = 0; i < N; i++) {
            assert_int_equal(allot_arena_free(made.arena, blocks[i]), 0);
        }
        assert_arena_is_whole(&made);
        unmake(&made);
    }
}

static void bump_works_under_every_protection(void **state)
{
    (void)state;
    struct made made = make_arena(PAGE);
    assert_int_equal(allot_arena_protect(made.arena, PROT_NONE), 0);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 500; i++) {
            assert_non_null(allot_bump_malloc(made.arena, 100));
        }
        assert_int_equal(allot_arena_reset(made.arena), 0);
    }
    unmake(&made);
}

static void the_systems_error_comes_back_unchanged(void **state)
{
    (void)state;
    struct made made = make_arena(PAGE);
    const int strange = 0x40000000;
    void *page = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    errno = 0;
    int expected = mprotect(page, PAGE, strange) == 0 ? 0 : errno;
    munmap(page, PAGE);
    assert_int_equal(allot_arena_protect(made.arena, strange), expected);
    assert_true(expected != 0);
    assert_non_null(allot_arena_malloc(made.arena, 10 * PAGE)); /* and that isn't inherited */
    unmake(&made);
}

static void sealed_arenas_are_constant(void **state)
{
    (void)state;
    struct made made = make_arena(4 * PAGE);
    char *block = allot_arena_malloc(made.arena, 100);
    strcpy(block, "constant");
    void *out = &out;
    size_t before = allot_arena_free_bytes(made.arena);
    assert_int_equal(allot_arena_seal(made.arena), 0);
    assert_int_equal(allot_arena_seal(made.arena), 0);
    assert_access(block, true, false);
    errno = 0;
    assert_null(allot_arena_malloc(made.arena, 10));
    assert_int_equal(errno, EPERM);
    errno = 0;
    assert_null(allot_bump_malloc(made.arena, 10));
    assert_int_equal(errno, EPERM);
    assert_null(allot_arena_calloc(made.arena, 1, 10));
    assert_null(allot_arena_memalign(made.arena, 64, 10));
    assert_null(allot_arena_realloc(made.arena, block, 200));
    assert_int_equal(allot_arena_alloc(made.arena, 10, &out), EPERM);
    assert_int_equal(allot_arena_free(made.arena, block), EPERM);
    assert_int_equal(allot_arena_free_sized(made.arena, block, 16), EPERM);
    assert_int_equal(allot_arena_shrink(made.arena, block, 16), EPERM);
    assert_int_equal(allot_arena_malloc_batch(made.arena, 16, &out, 1), 0);
    assert_int_equal(allot_arena_reset(made.arena), EPERM);
    assert_int_equal(allot_arena_protect(made.arena, PROT_READ | PROT_WRITE), EPERM);
    assert_int_equal(allot_arena_free_bytes(made.arena), before);
    assert_int_equal(allot_arena_contains(made.arena, block), 1);
    assert_string_equal(block, "constant");
    allot_arena_report report = ALLOT_ARENA_REPORT_INIT;
    allot_arena_stats(made.arena, &report);
    assert_int_equal(report.sealed, 1);
    assert_int_equal(allot_arena_unseal(made.arena), 0);
    assert_int_equal(allot_arena_unseal(made.arena), 0);
    strcpy(block, "changed");
    assert_non_null(allot_arena_malloc(made.arena, 10));
    assert_int_equal(allot_arena_reset(made.arena), 0);
    assert_int_equal(allot_arena_seal(made.arena), 0);
    unmake(&made); /* a sealed one can be destroyed */
}

static void unseal_brings_back_the_protection_before(void **state)
{
    (void)state;
    struct made made = make_arena(PAGE);
    void *block = allot_arena_malloc(made.arena, 10);
    assert_int_equal(allot_arena_protect(made.arena, PROT_NONE), 0);
    assert_int_equal(allot_arena_seal(made.arena), 0);
    assert_access(block, true, false);
    assert_int_equal(allot_arena_unseal(made.arena), 0);
    assert_access(block, false, false);
    unmake(&made);
}

/* ---- others ----------------------------------------------------------------------------------------------------- */

static void the_heaps_memory_cant_be_protected(void **state)
{
    (void)state;
    struct made made = make_arena(PAGE);
    void *block = allot_arena_malloc(made.arena, 10);
    assert_int_equal(allot_arena_protect(made.arena, PROT_READ), ENOTSUP);
    assert_int_equal(allot_arena_seal(made.arena), ENOTSUP);
    assert_access(block, true, true);
    assert_int_equal(allot_arena_free(made.arena, block), 0);
    unmake(&made);
}

static void a_buffer_of_pages_can_be_protected(void **state)
{
    (void)state;
    char *pages = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    allot_arena *arena;
    for (size_t skew = 0; skew < 64; skew += 32) {
        assert_int_equal(allot_arena_create_at(pages + skew, 3 * PAGE, NULL, &arena), 0);
        char *block = allot_arena_malloc(arena, 10);
        int expected = skew == 0 ? 0 : EINVAL;
        assert_int_equal(allot_arena_protect(arena, PROT_READ), expected);
        assert_access(block, true, skew != 0);
        assert_non_null(allot_arena_malloc(arena, 10));
        assert_int_equal(allot_arena_seal(arena), expected);
        allot_arena_destroy(arena);
        memset(pages, 0xff, 4 * PAGE); /* the buffer is as it was given */
    }
    munmap(pages, 4 * PAGE);
}

static void the_protection_of_the_options_reaches_what_is_committed(void **state)
{
    (void)state;
    allot_map_options map = ALLOT_MAP_OPTIONS_INIT;
    map.protection = PROT_READ;
    for (int is_virt = 0; is_virt < 2; is_virt++) {
        allot_arena_options options = shape_options();
        allot_arena *arena;
        int error =
            is_virt ? allot_backend_virt(MIB, &map, &options.backend) : allot_backend_mmap(&map, &options.backend);
        assert_int_equal(error, 0);
        assert_int_equal(allot_arena_create(0, &options, &arena), 0);
        for (unsigned i = 0; i < 10; i++) {
            void *block = allot_arena_malloc(arena, 20 * KIB);
            assert_non_null(block);
            assert_access(block, true, false);
        }
        assert_int_equal(allot_arena_protect(arena, PROT_READ | PROT_WRITE), 0);
        char *block = allot_arena_malloc(arena, 100 * KIB);
        memset(block, 1, 100 * KIB);
        allot_arena_destroy(arena);
        assert_int_equal(allot_backend_destroy(options.backend), 0);
    }
}

int main(void)
{
    int failed = 0;
    const struct CMUnitTest every[] = {
        cmocka_unit_test(protecting_nothing_is_fine_and_inherited), cmocka_unit_test(contents_outlive_no_access),
        cmocka_unit_test(the_systems_error_comes_back_unchanged),   cmocka_unit_test(sealed_arenas_are_constant),
        cmocka_unit_test(unseal_brings_back_the_protection_before),
    };
    const struct CMUnitTest general[] = {
        cmocka_unit_test(all_of_it_changes_and_what_comes_later),
        cmocka_unit_test(malloc_and_free_work_under_every_protection),
    };
    const struct CMUnitTest bump[] = {cmocka_unit_test(bump_works_under_every_protection)};
    const struct CMUnitTest without[] = {cmocka_unit_test(the_heaps_memory_cant_be_protected)};
    const struct CMUnitTest once[] = {
        cmocka_unit_test(a_buffer_of_pages_can_be_protected),
        cmocka_unit_test(the_protection_of_the_options_reaches_what_is_committed),
    };
    run_on_every(every, CAN_PROTECT, 0, 0, 1);
    run_on_every(every, CAN_PROTECT, 0, GENERAL_SHAPES, 2);
    run_on_every(general, CAN_PROTECT, 0, 0, 1);
    run_on_every(bump, CAN_PROTECT, 0, GENERAL_SHAPES, BUMP_SHAPES);
    run_on_every(without, CAN_GROW, CAN_PROTECT, 0, 1);
    failed += cmocka_run_group_tests(once, NULL, NULL);
    return failed;
}
