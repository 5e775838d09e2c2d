/* SPDX-License-Identifier: MIT */
/* gc_mapping.c - allot_gcmap does what mmap does, and mappings end when they are told to. */
#include "gc.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

enum { readable = PROT_READ, both = PROT_READ | PROT_WRITE, anonymous = MAP_PRIVATE | MAP_ANONYMOUS };

static void *map_pages(size_t n)
{
    void *mapping = allot_gcmap(-1, 0, n * page, both, anonymous);
    assert_ptr_not_equal(mapping, MAP_FAILED);
    return mapping;
}

/* An unlinked file of so many bytes, each page beginning with its number. */
static int make_file(size_t n_pages)
{
    char path[] = "/tmp/allot-gc-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    unlink(path);
    assert_int_equal(ftruncate(fd, (off_t)(n_pages * page)), 0);
    for (size_t i = 0; i < n_pages; i++) {
        char number = (char)('a' + i % 26);
        assert_int_equal(pwrite(fd, &number, 1, (off_t)(i * page)), 1);
    }
    return fd;
}

static void a_file_is_mapped_with_offset_and_rights(void **state)
{
    (void)state;
    int fd = make_file(8);
    char *mapping = allot_gcmap(fd, 3 * page, 2 * page + 1, readable, MAP_PRIVATE);
    assert_ptr_not_equal(mapping, MAP_FAILED);
    assert_int_equal((uintptr_t)mapping % page, 0);
    assert_int_equal(mapping[0], 'd');
    assert_int_equal(mapping[2 * page], 'f');
    assert_int_equal(allot_gcmap_num_active(), 1);
    assert_int_equal(allot_gcmap_bytes_active(), 3 * page);
    assert_in_range(allot_gcmap_resident_bytes(), page, 3 * page);
    char *shared = allot_gcmap(fd, 0, page, both, MAP_SHARED);
    assert_ptr_not_equal(shared, MAP_FAILED);
    shared[1] = 'X';
    char byte;
    assert_int_equal(pread(fd, &byte, 1, 1), 1);
    assert_int_equal(byte, 'X');
    assert_int_equal(allot_gcmap_close(shared), 0);
    assert_int_equal(allot_gcmap_close(mapping), 0);
    assert_int_equal(allot_gcmap_num_active(), 0);
    assert_int_equal(allot_gcmap_bytes_active(), 0);
    assert_int_equal(allot_gcmap_close(NULL), 0);
    close(fd);
}

static void expect_error(int error, int fd, off_t offset, size_t length, int prot, int flags)
{
    errno = 0;
    assert_ptr_equal(allot_gcmap(fd, offset, length, prot, flags), MAP_FAILED);
    assert_int_equal(errno, error);
    assert_int_equal(allot_gcmap_num_active(), 0);
    assert_int_equal(allot_gcmap_bytes_active(), 0);
}

static void errors_are_those_of_mmap(void **state)
{
    (void)state;
    int fd = make_file(1);
    int write_only = open("/dev/null", O_WRONLY);
    expect_error(EINVAL, -1, 0, 0, both, anonymous);
    expect_error(EINVAL, fd, 100, page, readable, MAP_PRIVATE);
    expect_error(EBADF, 9999, 0, page, readable, MAP_PRIVATE);
    expect_error(EACCES, write_only, 0, page, readable, MAP_PRIVATE);
    expect_error(EINVAL, -1, 0, page, both, MAP_ANONYMOUS); /* neither shared nor private */
    expect_error(ENOMEM, -1, 0, SIZE_MAX - page, both, anonymous);
    expect_error(ENOMEM, -1, 0, (size_t)PTRDIFF_MAX, both, anonymous);
    expect_error(ENOMEM, -1, 0, (size_t)1 << 47, both, anonymous);
    expect_error(EINVAL, -1, 0, page, both, anonymous | MAP_FIXED);
    expect_error(EINVAL, -1, 0, page, both, anonymous | MAP_FIXED_NOREPLACE);
    expect_error(EINVAL, -1, 0, page, both, anonymous | MAP_GROWSDOWN);
    allot_gcmap_opts opts = ALLOT_GCMAP_OPTS_INIT;
    opts.abi_size--;
    assert_ptr_equal(allot_gcmap_with(-1, 0, page, both, anonymous, &opts), MAP_FAILED);
    assert_int_equal(errno, EINVAL);
    opts.abi_size++;
    opts.flags = 64;
    assert_ptr_equal(allot_gcmap_with(-1, 0, page, both, anonymous, &opts), MAP_FAILED);
    assert_int_equal(errno, EINVAL);
    close(write_only);
    close(fd);
}

/* After refusals there is no hole: the range that would have been used can be used. */
static void refused_calls_leave_no_hole(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        expect_error(EBADF, 9999, 0, (size_t)(i + 1) * page, readable, MAP_PRIVATE);
    }
    char *mapping = map_pages(60);
    memset(mapping, 1, 60 * page);
    assert_int_equal(allot_gcmap_close(mapping), 0);
}

static void a_hint_is_followed_where_it_can_be(void **state)
{
    (void)state;
    char *first = map_pages(4);
    allot_gcmap_opts opts = ALLOT_GCMAP_OPTS_INIT;
    opts.hint = first + 100 * page;
    char *second = allot_gcmap_with(-1, 0, page, both, anonymous, &opts);
    assert_ptr_equal(second, opts.hint);
    opts.hint = first + page; /* taken */
    char *third = allot_gcmap_with(-1, 0, page, both, anonymous, &opts);
    assert_true(third != MAP_FAILED && third != opts.hint);
    opts.hint = &opts; /* not in the range */
    char *fourth = allot_gcmap_with(-1, 0, page, both, anonymous, &opts);
    assert_true(fourth != MAP_FAILED);
    assert_int_equal(allot_gcmap_close(first), 0);
    assert_int_equal(allot_gcmap_close(second), 0);
    assert_int_equal(allot_gcmap_close(third), 0);
    assert_int_equal(allot_gcmap_close(fourth), 0);
}

static void huge_pages_are_aligned_or_refused(void **state)
{
    (void)state;
#if defined(MAP_HUGETLB)
    char *small = map_pages(1);
    char *huge = allot_gcmap(-1, 0, 100, both, anonymous | MAP_HUGETLB);
    if (huge == MAP_FAILED) {
        assert_int_equal(errno, ENOMEM); /* none set aside */
        print_message("no huge pages here\n");
    } else {
        assert_int_equal((uintptr_t)huge % (2 << 20), 0);
        assert_int_equal(allot_gcmap_bytes_active(), page + (2 << 20));
        huge[(2 << 20) - 1] = 1;
        assert_int_equal(allot_gcmap_close(huge), 0);
    }
    assert_ptr_equal(allot_gcmap(-1, 0, 100, both, anonymous | MAP_HUGETLB | 13 << 26), MAP_FAILED); /* of 8 KiB */
    assert_int_equal(errno, EINVAL);
    assert_int_equal(allot_gcmap_close(small), 0);
#endif
}

static void a_part_is_unmapped_and_the_rest_is_one_mapping(void **state)
{
    (void)state;
    char *mapping = map_pages(10);
    memset(mapping, 1, 10 * page);
    assert_int_equal(allot_gcmap_unmap(mapping + 2 * page, page + 1), 0);
    assert_int_equal(allot_gcmap_bytes_active(), 8 * page);
    assert_int_equal(allot_gcmap_num_active(), 1);
    mapping[2 * page - 1] = 2;
    mapping[4 * page] = 3;
    assert_int_equal(allot_gcmap_unmap(mapping + 2 * page, page), EINVAL); /* gone already */
    assert_int_equal(allot_gcmap_unmap(mapping + page, 2 * page), EINVAL); /* in part */
    assert_int_equal(allot_gcmap_unmap(mapping + 5 * page + 1, page), EINVAL);
    assert_int_equal(allot_gcmap_unmap(mapping, 0), EINVAL);
    assert_int_equal(allot_gcmap_unmap(&mapping, page), EINVAL);
    assert_int_equal(allot_gcmap_unmap(mapping, page), 0); /* its head */
    assert_int_equal(allot_gcmap_pin(mapping + 9 * page), 0);
    assert_int_equal(allot_gcmap_unpin(mapping + page), 0); /* they are one */
    assert_int_equal(allot_gcmap_close(mapping), 0);
    assert_int_equal(allot_gcmap_num_active(), 0);
    assert_int_equal(allot_gcmap_bytes_active(), 0);
    mapping = map_pages(2);
    assert_int_equal(allot_gcmap_unmap(mapping, 2 * page), 0); /* all of it */
    assert_int_equal(allot_gcmap_num_active(), 0);
}

static int n_ended;
static void *ended_begin;

static void note_end(void *begin, size_t length, void *context)
{
    (void)context;
    n_ended++;
    ended_begin = begin;
    ((char *)begin)[length - 1] = 'Z';
}

static void closing_runs_the_finalizer_and_writes_back(void **state)
{
    (void)state;
    int fd = make_file(1);
    allot_gcmap_opts opts = ALLOT_GCMAP_OPTS_INIT;
    opts.finalizer = note_end;
    opts.flags = ALLOT_GCMAP_SYNC;
    opts.name = "a name that is far longer than there is room for";
    void *mapping = allot_gcmap_with(fd, 0, page, both, MAP_SHARED, &opts);
    assert_ptr_not_equal(mapping, MAP_FAILED);
    n_ended = 0;
    assert_int_equal(allot_gcmap_close(mapping), 0);
    assert_int_equal(n_ended, 1);
    assert_ptr_equal(ended_begin, mapping);
    char byte;
    assert_int_equal(pread(fd, &byte, 1, page - 1), 1);
    assert_int_equal(byte, 'Z');
    close(fd);
}

static void a_weak_reference_ends_with_its_mapping(void **state)
{
    (void)state;
    char *mapping = map_pages(2);
    allot_weak *weak = allot_weak_create(mapping + 5000);
    assert_ptr_equal(allot_weak_get(weak), mapping + 5000);
    assert_int_equal(allot_gcmap_close(mapping), 0);
    assert_null(allot_weak_get(weak));
    allot_weak_destroy(weak);
    allot_weak_destroy(NULL);
    errno = 0;
    assert_null(allot_weak_create(&weak));
    assert_int_equal(errno, EINVAL);
    assert_int_equal(allot_gcmap_pin(&weak), EINVAL);
}

static void any_address_can_be_asked(void **state)
{
    (void)state;
    allot_info info = ALLOT_INFO_INIT;
    char *mapping = allot_gcmap(-1, 0, 5000, both, anonymous);
    assert_int_equal(allot_query(mapping + 4999, &info), 0);
    assert_int_equal(info.room, ALLOT_ROOM_GCMAP);
    assert_int_equal(info.state, ALLOT_STATE_LIVE);
    assert_ptr_equal(info.base, mapping);
    assert_int_equal(info.size_bytes, 5000);
    assert_int_equal(info.offset, 4999);
    assert_int_equal(allot_gcmap_close(mapping), 0);
    assert_int_equal(allot_query(mapping, &info), 0);
    assert_int_equal(info.state, ALLOT_STATE_FREE);
    assert_int_equal(allot_query(mapping + ((size_t)1 << 46), &info), 0);
    assert_ptr_equal(info.base, NULL);
}

static void sixty_thousand_mappings_at_once(void **state)
{
    (void)state;
    size_t n = SANITIZED ? 6000 : 60000;
    int fd = make_file(1);
    allot_gcmap_trigger trigger = {.abi_size = sizeof trigger};
    assert_int_equal(allot_gcmap_set_trigger(&trigger), 0);
    char **mappings = malloc(n * sizeof *mappings);
    for (size_t i = 0; i < n; i++) {
        mappings[i] = allot_gcmap(fd, 0, page, readable, MAP_PRIVATE);
        assert_ptr_not_equal(mappings[i], MAP_FAILED);
    }
    assert_int_equal(allot_gcmap_num_active(), n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(mappings[i][0], 'a');
        assert_int_equal(allot_gcmap_close(mappings[i]), 0);
    }
    assert_int_equal(allot_gcmap_num_active(), 0);
    free(mappings);
    close(fd);
}

/* ---- what ends the process: in one of its own, without cmocka's handlers and the mappings of other tests ------ */

static void uses_after_close(void)
{
    int fd = open("/bin/sh", O_RDONLY);
    allot_gcmap_opts opts = ALLOT_GCMAP_OPTS_INIT;
    opts.name = "index";
    volatile char *mapping = allot_gcmap_with(fd, 0, 5000, readable, MAP_PRIVATE, &opts);
    EXPECT(allot_gcmap_close((void *)mapping) == 0);
    (void)mapping[4200];
}

static void closes_twice(void)
{
    void *mapping = map_pages(1);
    EXPECT(allot_gcmap_close(mapping) == 0);
    allot_gcmap_close(mapping);
}

static void closes_the_middle(void)
{
    char *mapping = map_pages(2);
    allot_gcmap_close(mapping + page);
}

static void reads_behind_the_end(void)
{
    int fd = make_file(2);
    volatile char *mapping = allot_gcmap(fd, 0, 2 * page, readable, MAP_SHARED);
    EXPECT(ftruncate(fd, page) == 0);
    (void)mapping[page];
}

static void writes_where_it_may_not(void)
{
    volatile char *mapping = allot_gcmap(-1, 0, page, readable, anonymous);
    mapping[0] = 1;
}

/* ---- limits and fork ---------------------------------------------------------------------------------------- */

/* 512 MiB of address space; each mapping takes 32, and 6 GiB are mapped in turn. */
static void lives_within_a_limit(void)
{
    struct rlimit limit = {512 << 20, 512 << 20};
    EXPECT(setrlimit(RLIMIT_AS, &limit) == 0);
    for (int i = 0; i < 200; i++) {
        char *mapping = allot_gcmap(-1, 0, 32 << 20, both, anonymous);
        EXPECT(mapping != MAP_FAILED);
        mapping[0] = 1;
        EXPECT(allot_gcmap_close(mapping) == 0);
    }
    char *all[64];
    int n = 0;
    while (n < 64 && (all[n] = allot_gcmap(-1, 0, 32 << 20, both, anonymous)) != MAP_FAILED) {
        n++;
    }
    EXPECT(n >= 8 && n < 16 && errno == ENOMEM);
    EXPECT(allot_gcmap_num_active() == (size_t)n);
    for (int i = 0; i < n; i++) {
        all[i][0] = 1;
        EXPECT(allot_gcmap_close(all[i]) == 0);
    }
}

/* ---- each again, by its name -------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    void (*run)(void);
} alone[] = {
    {"uses_after_close", uses_after_close},
    {"closes_twice", closes_twice},
    {"closes_the_middle", closes_the_middle},
    {"reads_behind_the_end", reads_behind_the_end},
    {"writes_where_it_may_not", writes_where_it_may_not},
    {"lives_within_a_limit", lives_within_a_limit},
};

static int run_alone(const char *name)
{
    for (size_t i = 0; i < sizeof alone / sizeof *alone; i++) {
        if (strcmp(name, alone[i].name) == 0) {
            alone[i].run();
            return 0;
        }
    }
    return 98;
}

static void run_again(void *name)
{
    signal(SIGSEGV, SIG_DFL);
    signal(SIGBUS, SIG_DFL);
    setenv("ASAN_OPTIONS", "symbolize=0", 1);
    setenv("TSAN_OPTIONS", "symbolize=0", 1);
    execl("/proc/self/exe", "again", name, (char *)NULL);
}

static void misuse_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const char *says[3];
    } cases[] = {
        {"uses_after_close",
         {"allot: use after close of 0x", "in the 5000-byte mapping at 0x", "(closed; \"index\" of "}},
        {"closes_twice", {"allot: double close of 0x", "in the 4096-byte mapping at 0x", "(closed; no file, made by "}},
        {"closes_the_middle",
         {"allot: invalid close of 0x", "offset 4096 in the 8192-byte mapping at 0x", "(live; no file"}},
        {"reads_behind_the_end", {"allot: use beyond the end of the file of 0x", "offset 4096 in", "(live; "}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct child child = child_run(run_again, (void *)(uintptr_t)cases[i].name);
        /* A sanitizer has a handler of its own for SIGBUS, and gets what is a live mapping's. */
        bool passed_on = SANITIZED && strcmp(cases[i].name, "reads_behind_the_end") == 0;
        for (int j = 0; j < 3 && !passed_on; j++) {
            if (strstr(child.said, cases[i].says[j]) == NULL) {
                print_error("not said: %s; but: %s\n", cases[i].says[j], child.said);
                fail();
            }
        }
        assert_true(SANITIZED || child_killed_by(&child, SIGABRT));
    }
    struct child child = child_run(run_again, (void *)(uintptr_t) "writes_where_it_may_not");
    assert_null(strstr(child.said, "allot:"));
    assert_true(SANITIZED || child_killed_by(&child, SIGSEGV));
}

static void a_limited_address_space_is_enough(void **state)
{
    (void)state;
    if (!SANITIZED) {
        child_succeeds(run_again, (void *)(uintptr_t) "lives_within_a_limit");
    }
}

static void goes_on_in_the_child(void *mapping)
{
    EXPECT(((char *)mapping)[0] == 3);
    EXPECT(allot_gcmap_num_active() == 1);
    EXPECT(allot_gcmap_close(mapping) == 0);
    EXPECT(allot_gcmap(-1, 0, page, both, anonymous) != MAP_FAILED);
}

static void a_child_has_its_own(void **state)
{
    (void)state;
    char *mapping = map_pages(1);
    mapping[0] = 3;
    child_succeeds(goes_on_in_the_child, mapping);
    mapping[0] = 4;
    assert_int_equal(allot_gcmap_close(mapping), 0);
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        return run_alone(argv[1]);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_mapped_with_offset_and_rights),
        cmocka_unit_test(errors_are_those_of_mmap),
        cmocka_unit_test(refused_calls_leave_no_hole),
        cmocka_unit_test(a_hint_is_followed_where_it_can_be),
        cmocka_unit_test(huge_pages_are_aligned_or_refused),
        cmocka_unit_test(a_part_is_unmapped_and_the_rest_is_one_mapping),
        cmocka_unit_test(closing_runs_the_finalizer_and_writes_back),
        cmocka_unit_test(a_weak_reference_ends_with_its_mapping),
        cmocka_unit_test(any_address_can_be_asked),
        cmocka_unit_test(sixty_thousand_mappings_at_once),
        cmocka_unit_test(misuse_is_named),
        cmocka_unit_test(a_limited_address_space_is_enough),
        cmocka_unit_test(a_child_has_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
