/* SPDX-License-Identifier: MIT */
/* arena_maps.c - the backends that map memory: what their options do, what they refuse by name, and how a reservation
 * ends. */
#include "arena_test.h"

#include <errno.h>
#include <fcntl.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

static size_t to_pages(size_t bytes)
{
    return (bytes + PAGE - 1) / PAGE * PAGE;
}

static allot_arena *arena_on(allot_backend *backend, size_t bytes)
{
    allot_arena_options options = shape_options();
    allot_arena *arena = NULL;
    options.backend = backend;
    assert_int_equal(allot_arena_create(bytes, &options, &arena), 0);
    return arena;
}

static void end(allot_arena *arena, allot_backend *backend)
{
    assert_int_equal(allot_arena_check(arena), 0);
    allot_arena_destroy(arena);
    assert_int_equal(allot_backend_destroy(backend), 0);
}

/* ---- mmap ------------------------------------------------------------------------------------------------------- */

static void memory_comes_in_pages(void **state)
{
    (void)state;
    const size_t sizes[] = {1, PAGE, PAGE + 1, 3 * PAGE, 1337};
    allot_backend *(*const make[])(void) = {new_mmap, new_virt};
    for (size_t i = 0; i < 2 * COUNT(sizes); i++) {
        size_t bytes = sizes[i / 2];
        allot_backend *backend = make[i % 2]();
        allot_arena *arena = arena_on(backend, bytes);
        assert_int_equal(allot_arena_size(arena), to_pages(bytes));
        char *all = allot_arena_malloc(arena, allot_arena_capacity(arena));
        assert_non_null(all);
        assert_true(is_aligned(all, PAGE));
        assert_int_equal(allot_arena_capacity(arena), to_pages(bytes));
        assert_true(all_zero(all, to_pages(bytes)));
        memset(all, 0xff, to_pages(bytes));
        end(arena, backend);
    }
}

static void what_is_too_large_is_refused(void **state)
{
    (void)state;
    allot_backend *backend = new_mmap();
    allot_arena *arena = NULL;
    allot_arena_options options = shape_options();
    options.backend = backend;
    assert_int_equal(allot_arena_create((size_t)1 << 47, &options, &arena), ENOMEM);
    assert_int_equal(allot_arena_create(opaque(SIZE_MAX), &options, &arena), EINVAL);
    assert_null(arena);
    assert_int_equal(allot_backend_destroy(backend), 0);
    static const size_t sizes[] = {0, (size_t)1 << 47, (size_t)PTRDIFF_MAX, SIZE_MAX};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        allot_backend *none = NULL;
        assert_int_equal(allot_backend_virt(opaque(sizes[i]), NULL, &none), sizes[i] == 0 ? EINVAL : ENOMEM);
        assert_null(none);
    }
}

static void many_come_and_go(void **state)
{
    (void)state;
    allot_backend *(*const make[])(void) = {new_mmap, new_virt, new_shared_mmap};
    for (unsigned round = 0; round < 100; round++) {
        allot_backend *backend = make[round % 3]();
        allot_arena *arena = arena_on(backend, round * 100);
        for (unsigned i = 1; i < 20; i++) {
            char *block = allot_arena_malloc(arena, i * 1000);
            assert_non_null(block);
            memset(block, (int)i, i * 1000);
        }
        end(arena, backend);
    }
}

static void an_address_is_a_hint_rounded_down(void **state)
{
    (void)state;
    char *hole = mmap(NULL, 64 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(hole != MAP_FAILED);
    allot_map_options map = ALLOT_MAP_OPTIONS_INIT;
    map.address = hole + 8 * PAGE + 100;
    allot_backend *backend;
    assert_int_equal(allot_backend_virt(4 * PAGE, &map, &backend), 0);
    assert_true(allot_virt_address(backend) != hole + 8 * PAGE); /* taken: only a hint */
    assert_int_equal(allot_backend_destroy(backend), 0);
    munmap(hole + 8 * PAGE, 8 * PAGE);
    assert_int_equal(allot_backend_virt(4 * PAGE, &map, &backend), 0);
    assert_ptr_equal(allot_virt_address(backend), hole + 8 * PAGE);
    assert_int_equal(allot_backend_destroy(backend), 0);
    assert_int_equal(allot_backend_mmap(&map, &backend), 0);
    allot_arena *arena = arena_on(backend, PAGE);
    assert_int_equal(allot_arena_contains(arena, hole + 8 * PAGE), 1);
    end(arena, backend);
    munmap(hole, 64 * PAGE);
}

/* As whoever looks for a place near his code would: try, and go on where it is taken. */
static void a_taken_address_is_told(void **state)
{
    (void)state;
    char *hole = mmap(NULL, 16 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(hole + 8 * PAGE, 8 * PAGE);
    allot_map_options map = ALLOT_MAP_OPTIONS_INIT;
    map.flags = MAP_FIXED_NOREPLACE;
    allot_backend *backend = NULL;
    unsigned n_taken = 0;
    int error = EEXIST;
    for (char *at = hole; at < hole + 16 * PAGE && error != 0; at += 4 * PAGE) {
        map.address = at;
        error = allot_backend_virt(4 * PAGE, &map, &backend);
        assert_true(error == 0 || error == EEXIST);
        n_taken += error == EEXIST;
    }
    assert_int_equal(error, 0);
    assert_int_equal(n_taken, 2);
    assert_ptr_equal(allot_virt_address(backend), hole + 8 * PAGE);
    assert_int_equal(allot_virt_release(backend), 0);
    assert_int_equal(allot_backend_destroy(backend), 0);
    map.address = hole;
    assert_int_equal(allot_backend_mmap(&map, &backend), 0); /* here the error is that of the growth */
    allot_arena_options options = shape_options();
    options.backend = backend;
    allot_arena *arena = NULL;
    assert_int_equal(allot_arena_create(PAGE, &options, &arena), EEXIST);
    assert_int_equal(allot_backend_destroy(backend), 0);
    munmap(hole, 8 * PAGE);
}

static void alignment_holds_for_pieces(void **state)
{
    (void)state;
    for (size_t align = PAGE; align <= 4 * MIB; align *= 4) {
        allot_map_options map = ALLOT_MAP_OPTIONS_INIT;
        allot_backend *backend;
        map.align = align;
        assert_int_equal(allot_backend_mmap(&map, &backend), 0);
        allot_arena *arena = arena_on(backend, 100);
        assert_int_equal(allot_arena_size(arena) % align, 0);
        char *all = allot_arena_malloc(arena, allot_arena_capacity(arena));
        assert_true(is_aligned(all, align));
        end(arena, backend);
        assert_int_equal(allot_backend_virt(3 * PAGE, &map, &backend), 0);
        assert_true(is_aligned(allot_virt_address(backend), align));
        assert_int_equal(allot_backend_destroy(backend), 0);
    }
}

static void near_means_within_reach(void **state)
{
    (void)state;
    const char *text = (const char *)(uintptr_t)near_means_within_reach;
    allot_map_options map = ALLOT_MAP_OPTIONS_INIT;
    allot_backend *backend;
    map.near_to = text;
    assert_int_equal(allot_backend_virt(4 * MIB, &map, &backend), 0);
    char *base = allot_virt_address(backend);
    assert_true(base + 4 * MIB - text <= INT32_MAX || base < text);
    assert_true(text - base <= INT32_MAX || base > text);
    assert_int_equal(allot_backend_destroy(backend), 0);
    map.near_bytes = 512 * MIB;
    assert_int_equal(allot_backend_mmap(&map, &backend), 0);
    allot_arena *arena = arena_on(backend, 0);
    for (unsigned i = 0; i < 50; i++) {
        char *block = allot_arena_malloc(arena, 100 * KIB);
        assert_non_null(block);
        size_t far = block > text ? (size_t)(block + 100 * KIB - text) : (size_t)(text - block);
        assert_true(far <= 512 * MIB);
    }
    assert_null(allot_arena_malloc(arena, GIB)); /* more than lies within reach */
    end(arena, backend);
}

static void a_file_is_mapped_piece_by_piece(void **state)
{
    (void)state;
    FILE *file = tmpfile();
    assert_non_null(file);
    int fd = fileno(file);
    assert_int_equal(ftruncate(fd, (off_t)(64 * PAGE)), 0);
    allot_map_options map = ALLOT_MAP_OPTIONS_INIT;
    map.flags = MAP_SHARED;
    map.fd = fd;
    map.offset = 2 * PAGE;
    allot_backend *backend;
    assert_int_equal(allot_backend_mmap(&map, &backend), 0);
    allot_arena *arena = arena_on(backend, PAGE);
    char *first = allot_arena_malloc(arena, PAGE);
    memset(first, 'a', PAGE);
    char *second = allot_arena_malloc(arena, 2 * PAGE);
    assert_non_null(second);
    memset(second, 'b', 2 * PAGE);
    char byte = 0;
    assert_int_equal(pread(fd, &byte, 1, (off_t)(2 * PAGE)), 1);
    assert_int_equal(byte, 'a');
    char *all = malloc(61 * PAGE);
    assert_int_equal(pread(fd, all, 61 * PAGE, (off_t)(3 * PAGE)), 61 * PAGE);
    size_t n = 0;
    for (size_t i = 0; i < 61 * PAGE; i++) {
        n += all[i] == 'b';
    }
    assert_int_equal(n, 2 * PAGE);
    free(all);
    end(arena, backend);
    fclose(file);
}

static void options_that_make_no_sense_are_refused_by_name(void **state)
{
    (void)state;
    enum { IN_MMAP = 1, IN_VIRT = 2, IN_PAIR = 4, EVERYWHERE = 7 };
    static const struct {
        const char *member;
        unsigned where;
        allot_map_options options;
    } rows[] = {
        {"abi_size", EVERYWHERE, {.abi_size = 3, .protection = -1, .numa_node = -1, .fd = -1}},
        {"align", EVERYWHERE, {.align = 3 * 4096, .protection = -1, .numa_node = -1, .fd = -1}},
        {"align", EVERYWHERE, {.align = (size_t)1 << 60, .protection = -1, .numa_node = -1, .fd = -1}},
        {"huge_pages", EVERYWHERE, {.huge_pages = 2, .protection = -1, .numa_node = -1, .fd = -1}},
        {"huge_pages", IN_PAIR, {.huge_pages = 1, .protection = -1, .numa_node = -1, .fd = -1}},
        {"numa_node", EVERYWHERE, {.numa_node = -2, .protection = -1, .fd = -1}},
        {"numa_node", IN_PAIR, {.numa_node = 0, .protection = -1, .fd = -1}},
        {"protection", EVERYWHERE, {.protection = -2, .numa_node = -1, .fd = -1}},
        {"protection", IN_PAIR, {.protection = PROT_READ, .numa_node = -1, .fd = -1}},
        {"near_bytes", EVERYWHERE, {.near_bytes = 4096, .protection = -1, .numa_node = -1, .fd = -1}},
        {"near_to",
         EVERYWHERE,
         {.near_to = rows, .address = (void *)4096, .protection = -1, .numa_node = -1, .fd = -1}},
        {"fd", EVERYWHERE, {.fd = -2, .protection = -1, .numa_node = -1}},
        {"fd", IN_VIRT | IN_PAIR, {.fd = 1, .protection = -1, .numa_node = -1}},
        {"offset", EVERYWHERE, {.offset = 4096, .protection = -1, .numa_node = -1, .fd = -1}},
        {"offset", IN_MMAP, {.offset = 100, .fd = 1, .protection = -1, .numa_node = -1}},
        {"flags", IN_VIRT | IN_PAIR, {.flags = MAP_SHARED, .protection = -1, .numa_node = -1, .fd = -1}},
        {"flags", IN_VIRT | IN_PAIR, {.flags = MAP_POPULATE, .protection = -1, .numa_node = -1, .fd = -1}},
        {"flags", IN_VIRT | IN_PAIR, {.flags = MAP_LOCKED, .protection = -1, .numa_node = -1, .fd = -1}},
        {"flags", IN_VIRT | IN_PAIR, {.flags = MAP_HUGETLB, .protection = -1, .numa_node = -1, .fd = -1}},
    };
    for (size_t i = 0; i < 3 * COUNT(rows); i++) {
        unsigned where = 1u << i % 3;
        allot_map_options options = rows[i / 3].options;
        allot_backend *backend = NULL;
        options.abi_size = options.abi_size == 0 ? sizeof options : options.abi_size;
        options.refused = "nothing";
        if ((rows[i / 3].where & where) == 0) {
            continue;
        }
        int error = where == IN_MMAP   ? allot_backend_mmap(&options, &backend)
                    : where == IN_VIRT ? allot_backend_virt(MIB, &options, &backend)
                                       : allot_backend_pair(MIB, &options, &backend);
        assert_int_equal(error, EINVAL);
        assert_string_equal(options.refused, rows[i / 3].member);
        assert_null(backend);
    }
    allot_map_options right = ALLOT_MAP_OPTIONS_INIT;
    allot_backend *backend;
    right.refused = "nothing";
    right.huge_pages = 1;
    assert_int_equal(allot_backend_virt(MIB, &right, &backend), 0);
    assert_null(right.refused);
    assert_int_equal(allot_backend_destroy(backend), 0);
}

#ifdef MAP_32BIT
static void flags_reach_the_system(void **state)
{
    (void)state;
    allot_map_options map = ALLOT_MAP_OPTIONS_INIT;
    allot_backend *backend;
    map.flags = MAP_32BIT;
    assert_int_equal(allot_backend_mmap(&map, &backend), 0);
    allot_arena *arena = arena_on(backend, 100);
    assert_true((uintptr_t)allot_arena_malloc(arena, 50) < 4 * GIB);
    end(arena, backend);
    assert_int_equal(allot_backend_virt(MIB, &map, &backend), 0);
    assert_true((uintptr_t)allot_virt_address(backend) < 4 * GIB);
    assert_int_equal(allot_backend_destroy(backend), 0);
}
#endif

/* ---- virt ------------------------------------------------------------------------------------------------------- */

static void a_reservation_commits_on_demand_and_never_moves(void **state)
{
    (void)state;
    allot_backend *backend;
    assert_int_equal(allot_backend_virt(10 * MIB + 1, NULL, &backend), 0);
    char *base = allot_virt_address(backend);
    assert_int_equal(allot_virt_reserved(backend), to_pages(10 * MIB + 1));
    assert_int_equal(allot_virt_committed(backend), 0);
    allot_arena *arena = arena_on(backend, 0);
    assert_int_equal(allot_virt_committed(backend), 0);
    unsigned char *blocks[90];
    for (size_t i = 0; i < COUNT(blocks); i++) {
        blocks[i] = allot_arena_malloc(arena, 100 * KIB);
        assert_non_null(blocks[i]);
        memset(blocks[i], (int)i, 100 * KIB);
        assert_ptr_equal(allot_virt_address(backend), base);
        assert_int_equal(allot_virt_committed(backend), allot_arena_size(arena));
        assert_true((char *)blocks[i] >= base && (char *)blocks[i] < base + allot_virt_committed(backend));
    }
    for (size_t i = 0; i < COUNT(blocks); i++) {
        assert_true(blocks[i][0] == i && memcmp(blocks[i], blocks[i] + 1, 100 * KIB - 1) == 0);
    }
    end(arena, backend);
}

static void a_reservation_ends_at_its_capacity(void **state)
{
    (void)state;
    for (size_t pages = 1; pages <= 16; pages++) {
        allot_backend *backend;
        assert_int_equal(allot_backend_virt(pages * PAGE, NULL, &backend), 0);
        allot_arena *arena = arena_on(backend, 0);
        size_t taken = 0;
        while (allot_arena_malloc(arena, PAGE / 2) != NULL) {
            taken += PAGE / 2;
        }
        assert_int_equal(errno, ENOMEM);
        assert_int_equal(taken, pages * PAGE); /* to the last byte */
        assert_int_equal(allot_virt_committed(backend), pages * PAGE);
        end(arena, backend);
        assert_int_equal(allot_backend_virt(pages * PAGE, NULL, &backend), 0);
        arena = arena_on(backend, 0);
        assert_null(allot_arena_malloc(arena, pages * PAGE + 1));
        assert_non_null(allot_arena_malloc(arena, pages * PAGE)); /* at once */
        end(arena, backend);
    }
}

static void the_next_arena_finds_it_clear(void **state)
{
    (void)state;
    allot_backend *backend = new_virt();
    allot_arena *arena = arena_on(backend, MIB);
    memset(allot_arena_malloc(arena, 100 * KIB), 0xff, 100 * KIB);
    allot_arena_destroy(arena);
    assert_int_equal(allot_virt_committed(backend), 0);
    arena = arena_on(backend, 0);
    char *block = allot_arena_calloc(arena, 1, 200 * KIB);
    assert_true(all_zero(block, 200 * KIB));
    end(arena, backend);
}

static void release_before_an_arena_uses_it(void **state)
{
    (void)state;
    allot_backend *backend = new_virt();
    char *base = allot_virt_address(backend);
    assert_int_equal(allot_virt_release(backend), 0);
    assert_int_equal(msync(base, PAGE, MS_ASYNC), -1); /* unmapped */
    assert_null(allot_virt_address(backend));
    assert_int_equal(allot_virt_reserved(backend), 0);
    assert_int_equal(allot_virt_committed(backend), 0);
    assert_int_equal(allot_virt_release(backend), 0); /* again: nothing */
    assert_int_equal(allot_virt_release(NULL), 0);
    allot_arena_options options = shape_options();
    allot_arena *arena = NULL;
    options.backend = backend;
    expect_misuse("use after release", ENXIO, allot_arena_create(0, &options, &arena));
    assert_null(arena);
    assert_int_equal(allot_backend_destroy(backend), 0);
    assert_int_equal(allot_virt_release(allot_backend_heap()), EINVAL);
    assert_null(allot_virt_address(allot_backend_heap()));
    assert_int_equal(allot_virt_reserved(NULL), 0);
    backend = new_mmap();
    assert_int_equal(allot_virt_release(backend), EINVAL);
    assert_int_equal(allot_backend_destroy(backend), 0);
}

static int never_visit(const allot_info *info, void *context)
{
    (void)info, (void)context;
    return 1;
}

static void run_nothing(void *context)
{
    *(unsigned *)context += 1;
}

/* From then on each call gives a clear error, and none touches the memory, which is no longer there. */
static void release_under_an_arena(void **state)
{
    (void)state;
    allot_backend *backend = new_virt();
    allot_arena *arena = arena_on(backend, MIB);
    char *block = allot_arena_malloc(arena, 1000);
    unsigned cleaned_up = 0;
    allot_mark mark;
    assert_int_equal(allot_arena_cleanup_add(arena, run_nothing, &cleaned_up), 0);
    assert_int_equal(allot_virt_release(backend), 0);
    assert_int_equal(allot_virt_release(backend), 0);
    void *out = &out;
    expect_misuse("use after release", 0, (size_t)allot_arena_malloc(arena, 100));
    assert_int_equal(errno, ENXIO);
    expect_misuse("use after release", 0, (size_t)allot_bump_malloc(arena, 100));
    expect_misuse("use after release", 0, (size_t)allot_arena_calloc(arena, 1, 100));
    expect_misuse("use after release", 0, (size_t)allot_arena_memalign(arena, 64, 100));
    expect_misuse("use after release", 0, (size_t)allot_arena_realloc(arena, block, 2000));
    expect_misuse("use after release", ENXIO, allot_arena_alloc(arena, 100, &out));
    expect_misuse("use after release", ENXIO, allot_arena_free(arena, block));
    expect_misuse("use after release", ENXIO, allot_arena_free_sized(arena, block, 16));
    expect_misuse("use after release", ENXIO, allot_arena_shrink(arena, block, 16));
    expect_misuse("use after release", 0, allot_arena_malloc_batch(arena, 10, &out, 1));
    expect_misuse("use after release", ENXIO, allot_arena_reset(arena));
    expect_misuse("use after release", ENXIO, allot_arena_mark(arena, &mark));
    expect_misuse("use after release", ENXIO, allot_arena_protect(arena, PROT_READ));
    expect_misuse("use after release", ENXIO, allot_arena_seal(arena));
    assert_int_equal(allot_arena_size(arena), 0);
    assert_int_equal(allot_arena_capacity(arena), 0);
    assert_int_equal(allot_arena_free_bytes(arena), 0);
    assert_int_equal(allot_arena_contains(arena, block), 0);
    assert_int_equal(allot_arena_dump(arena, NULL, 0), 0);
    assert_int_equal(allot_arena_walk(arena, never_visit, NULL), 0);
    assert_null(allot_arena_find(block));
    allot_arena_report report = ALLOT_ARENA_REPORT_INIT;
    assert_int_equal(allot_arena_stats(arena, &report), 0);
    assert_int_equal(report.released, 1);
    /* What is mapped there by somebody else isn't touched either. */
    char *other = mmap(block - (uintptr_t)block % PAGE, PAGE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    memset(other, 0x77, PAGE);
    allot_arena_destroy(arena);
    assert_int_equal(cleaned_up, 1);
    assert_int_equal(allot_backend_destroy(backend), 0);
    for (size_t i = 0; i < PAGE; i++) {
        assert_int_equal(other[i], 0x77);
    }
    munmap(other, PAGE);
}

/* ---- pair ------------------------------------------------------------------------------------------------------- */

static void a_pair_has_two_views_of_one_memory(void **state)
{
    (void)state;
    allot_backend *backend = NULL;
    int error = allot_backend_pair(MIB, NULL, &backend);
    if (error == ENOTSUP || error == EACCES || error == EPERM) {
        skip();
    }
    assert_int_equal(error, 0);
    allot_arena *arena = arena_on(backend, 0);
    unsigned char *blocks[50];
    for (size_t i = 0; i < COUNT(blocks); i++) {
        blocks[i] = allot_arena_malloc(arena, 200 * (i + 1));
        assert_non_null(blocks[i]);
        unsigned char *writable = allot_pair_writable(backend, blocks[i]);
        assert_true(writable != NULL && writable != blocks[i]);
        pattern_fill(writable, 200 * (i + 1), (unsigned)i);
        assert_int_equal(allot_pair_publish(backend, blocks[i], 200 * (i + 1)), 0);
    }
    for (size_t i = 0; i < COUNT(blocks); i++) {
        assert_true(pattern_holds(blocks[i], 200 * (i + 1), (unsigned)i));
        assert_int_equal(allot_arena_free(arena, blocks[i]), 0);
    }
    assert_null(allot_pair_writable(backend, &backend));
    assert_null(allot_pair_writable(allot_backend_heap(), blocks[0]));
    assert_int_equal(allot_pair_publish(backend, &backend, 1), EINVAL);
    assert_int_equal(allot_pair_publish(backend, blocks[0], 2 * MIB), EINVAL);
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    while (maps != NULL && fgets(line, sizeof line, maps) != NULL) {
        assert_null(strstr(line, "rwx")); /* no page is both */
    }
    if (maps != NULL) {
        fclose(maps);
    }
    end(arena, backend);
}

#if defined(__x86_64__)
static void code_in_a_pair_runs_near_the_text(void **state)
{
    (void)state;
    allot_map_options map = ALLOT_MAP_OPTIONS_INIT;
    allot_backend *backend = NULL;
    map.near_to = (const void *)(uintptr_t)code_in_a_pair_runs_near_the_text;
    int error = allot_backend_pair(MIB, &map, &backend);
    if (error == ENOTSUP || error == EACCES || error == EPERM) {
        skip();
    }
    assert_int_equal(error, 0);
    static const unsigned char code[] = {0x8d, 0x47, 0x2a, 0xc3}; /* lea eax, [rdi + 42]; ret */
    allot_arena *arena = arena_on(backend, 0);
    void *block = allot_arena_malloc(arena, sizeof code);
    memcpy(allot_pair_writable(backend, block), code, sizeof code);
    assert_int_equal(allot_pair_publish(backend, block, sizeof code), 0);
    int (*add)(int) = (int (*)(int))(uintptr_t)block;
    assert_int_equal(add(8), 50);
    intptr_t distance = (const char *)block - (const char *)map.near_to;
    assert_true(distance <= INT32_MAX && distance >= INT32_MIN);
    end(arena, backend);
}
#endif

int main(void)
{
    int failed = 0;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_comes_in_pages),
        cmocka_unit_test(what_is_too_large_is_refused),
        cmocka_unit_test(many_come_and_go),
        cmocka_unit_test(an_address_is_a_hint_rounded_down),
        cmocka_unit_test(a_taken_address_is_told),
        cmocka_unit_test(alignment_holds_for_pieces),
        cmocka_unit_test(near_means_within_reach),
        cmocka_unit_test(a_file_is_mapped_piece_by_piece),
        cmocka_unit_test(options_that_make_no_sense_are_refused_by_name),
#ifdef MAP_32BIT
        cmocka_unit_test(flags_reach_the_system),
#endif
        cmocka_unit_test(a_reservation_commits_on_demand_and_never_moves),
        cmocka_unit_test(a_reservation_ends_at_its_capacity),
        cmocka_unit_test(the_next_arena_finds_it_clear),
        cmocka_unit_test(release_before_an_arena_uses_it),
        cmocka_unit_test(release_under_an_arena),
        cmocka_unit_test(a_pair_has_two_views_of_one_memory),
#if defined(__x86_64__)
        cmocka_unit_test(code_in_a_pair_runs_near_the_text),
#endif
    };
    const struct CMUnitTest bump[] = {
        cmocka_unit_test(memory_comes_in_pages),
        cmocka_unit_test(release_under_an_arena),
        cmocka_unit_test(the_next_arena_finds_it_clear),
        cmocka_unit_test(a_reservation_ends_at_its_capacity),
    };
    failed += cmocka_run_group_tests(tests, NULL, NULL);
    for (shape = &shapes[GENERAL_SHAPES]; shape < &shapes[GENERAL_SHAPES + 2]; shape++) {
        failed += cmocka_run_group_tests(bump, NULL, NULL);
    }
    return failed;
}
