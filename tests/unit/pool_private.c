/* SPDX-License-Identifier: MIT */
/* pool_private.c - pools in buffers, and in memory that processes have at different addresses. */
#include "pool_test.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static _Alignas(64) char buffer[3 << 20];

static void every_buffer_size_makes_a_pool_within_it(void **state)
{
    (void)state;
    for (size_t bytes = ALLOT_POOL_BYTES_LEAST; bytes < sizeof buffer - 64; bytes += bytes / 7 + 13) {
        memset(buffer, 0xee, sizeof buffer);
        allot_pool *pool = NULL;
        assert_int_equal(allot_pool_create(buffer, bytes, &pool), 0);
        void *list = NULL;
        size_t n = 0, sum = 0;
        for (size_t size = 4096; size >= 16; size /= 2) {
            n = 0;
            for (char *block; (block = allot_pool_malloc_in(pool, size)) != NULL; n++) {
                assert_true(block >= buffer && block + size <= buffer + bytes);
                memset(block, 0x77, size);
                *(void **)(void *)block = list;
                list = block;
                sum += size;
            }
        }
        assert_true(sum >= bytes / 3 && (bytes < 300000 || sum >= bytes / 10 * 9));
        assert_int_equal((unsigned char)buffer[bytes], 0xee);
        give_all(give_private, pool, &list);
        allot_pool_report report = ALLOT_POOL_REPORT_INIT;
        assert_int_equal(allot_pool_stats_in(pool, &report), 0);
        assert_int_equal(report.n_live_blocks, 0);
        void *all = allot_pool_malloc_in(pool, report.memory_bytes - 65536 * (report.memory_bytes > 65536));
        assert_true(all != NULL || bytes < 100000);
        allot_pool_free_in(pool, all);
    }
}

static void bad_buffers_are_refused(void **state)
{
    (void)state;
    allot_pool *pool;
    assert_int_equal(allot_pool_create(NULL, 1 << 20, &pool), EINVAL);
    assert_int_equal(allot_pool_create(buffer + 8, 1 << 20, &pool), EINVAL);
    assert_int_equal(allot_pool_create(buffer, ALLOT_POOL_BYTES_LEAST - 1, &pool), EINVAL);
    assert_int_equal(allot_pool_create(buffer, SIZE_MAX, &pool), EINVAL);
    assert_int_equal(allot_pool_create(buffer, 1 << 20, NULL), EINVAL);
    memset(buffer, 0, 4096);
    assert_int_equal(allot_pool_attach(buffer, 1 << 20, &pool), EAGAIN);
    memset(buffer, 0x55, 4096);
    assert_int_equal(allot_pool_attach(buffer, 1 << 20, &pool), EINVAL);
    assert_int_equal(allot_pool_create(buffer, 1 << 20, &pool), 0);
    assert_int_equal(allot_pool_attach(buffer, 2 << 20, &pool), EINVAL);
    assert_int_equal(allot_pool_attach(buffer, 1 << 20, &pool), 0);
}

static void the_functions_are_those_of_the_public_pool(void **state)
{
    (void)state;
    allot_pool *pool;
    assert_int_equal(allot_pool_create(buffer, 1 << 20, &pool), 0);
    char *block = allot_pool_calloc_in(pool, 10, 10);
    assert_int_equal(block[99], 0);
    assert_int_equal(allot_pool_usable_size_in(pool, block), 112);
    strcpy(block, "kept");
    block = allot_pool_realloc_in(pool, block, 5000);
    assert_string_equal(block, "kept");
    assert_int_equal(allot_pool_owns_in(pool, block), 1);
    assert_int_equal(allot_pool_owns_in(pool, buffer + sizeof buffer - 1), 0);
    assert_true(aligned_to(allot_pool_aligned_alloc_in(pool, 256, 10), 256));
    assert_true(allot_pool_reserve_in(pool, 65536) >= 65536);
    expect_fault("invalid free", allot_pool_free_in(pool, block + 16));
    expect_fault("invalid free", allot_pool_free_in(pool, buffer));
    allot_pool_free_in(pool, block);
    expect_fault("double free", allot_pool_free_in(pool, block));
    void *foreign = allot_pool_malloc(10);
    expect_fault("invalid free", allot_pool_free_in(pool, foreign));
    allot_pool_free(foreign);
    volatile size_t huge = SIZE_MAX;
    assert_null(allot_pool_malloc_in(pool, huge));
    assert_null(allot_pool_calloc_in(pool, huge, 2));
    assert_null(allot_pool_malloc_in(pool, 1 << 20));
}

struct node {
    size_t next; /* an offset */
    int value;
};

static void child_reads_and_frees(int file, size_t bytes)
{
    char *hole = mmap(NULL, 1 << 24, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); /* so the address differs */
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    allot_pool *pool;
    if (hole == MAP_FAILED || memory == MAP_FAILED || allot_pool_attach(memory, bytes, &pool) != 0) {
        _exit(1);
    }
    int sum = 0;
    for (struct node *node = allot_pool_root(pool), *next; node != NULL; node = next) {
        next = allot_pool_at(pool, node->next);
        sum += node->value;
        allot_pool_free_in(pool, node);
    }
    char *answer = allot_pool_malloc_in(pool, 100);
    snprintf(answer, 100, "sum %d", sum);
    allot_pool_set_root(pool, answer);
    _exit(0);
}

static void processes_share_a_pool_at_different_addresses(void **state)
{
    (void)state;
    size_t bytes = 6 << 20; /* two segments */
    int file = memfd_create("pool", 0);
    assert_int_equal(ftruncate(file, (off_t)bytes), 0);
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    allot_pool *pool;
    assert_int_equal(allot_pool_create(memory, bytes, &pool), 0);
    assert_null(allot_pool_root(pool));
    size_t head = 0;
    for (int i = 1; i <= 100000; i++) {
        struct node *node = allot_pool_malloc_in(pool, sizeof *node + 16);
        assert_non_null(node);
        node->next = head;
        node->value = i % 10;
        head = allot_pool_offset(pool, node);
    }
    allot_pool_set_root(pool, allot_pool_at(pool, head));
    pid_t child = fork();
    if (child == 0) {
        munmap(memory, bytes);
        child_reads_and_frees(file, bytes);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_string_equal(allot_pool_root(pool), "sum 450000");
    allot_pool_free_in(pool, allot_pool_root(pool));
    allot_pool_report report = ALLOT_POOL_REPORT_INIT;
    allot_pool_stats_in(pool, &report);
    assert_int_equal(report.n_live_blocks, 0);
    munmap(memory, bytes);
    close(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_buffer_size_makes_a_pool_within_it),
        cmocka_unit_test(bad_buffers_are_refused),
        cmocka_unit_test(the_functions_are_those_of_the_public_pool),
        cmocka_unit_test(processes_share_a_pool_at_different_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
