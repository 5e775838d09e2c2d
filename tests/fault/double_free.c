/* SPDX-License-Identifier: MIT */
/* double_free.c - a block freed twice, by whom and after what ever. */
#include "fault.h"

#include <signal.h>
#include <sys/wait.h>

static void free_again(void *block, size_t usable)
{
    expect_block("double free", block, block, usable, "free");
    free(hide(block));
}

static void of_size(bool fault, size_t size)
{
    void *kept = malloc(size);
    void *block = hide(malloc(size));
    size_t usable = malloc_usable_size(block);
    free(block);
    if (fault) {
        free_again(block, usable);
    }
    free(kept);
}

static void at_once_0(bool fault)
{
    of_size(fault, 0);
}

static void at_once_16(bool fault)
{
    of_size(fault, 16);
}

static void at_once_17(bool fault)
{
    of_size(fault, 17);
}

static void at_once_48(bool fault)
{
    of_size(fault, 48);
}

static void at_once_1000(bool fault)
{
    of_size(fault, 1000);
}

static void at_once_8192(bool fault)
{
    of_size(fault, 8192);
}

static void first_block_of_the_process(bool fault)
{
    void *block = hide(malloc(3000));
    size_t usable = malloc_usable_size(block);
    free(block);
    if (fault) {
        free_again(block, usable);
    }
}

/* What was freed before and after it doesn't matter: the head of a list, its middle or its end. */
static void after_others(bool fault, size_t which)
{
    enum { n = 100 };
    void *blocks[n];
    for (size_t i = 0; i < n; i++) {
        blocks[i] = hide(malloc(64));
    }
    size_t usable = malloc_usable_size(blocks[0]);
    for (size_t i = 0; i < n; i++) {
        free(blocks[i]);
    }
    if (fault) {
        free_again(blocks[which], usable);
    }
}

static void the_first_of_many(bool fault)
{
    after_others(fault, 0);
}

static void one_in_the_middle_of_many(bool fault)
{
    after_others(fault, 50);
}

static void the_last_of_many(bool fault)
{
    after_others(fault, 99);
}

/* So many that lists are sorted and slabs given back, one block of the slab kept live. */
static void after_a_hundred_thousand_others(bool fault)
{
    enum { n = 100000 };
    static void *blocks[n];
    for (size_t i = 0; i < n; i++) {
        blocks[i] = hide(malloc(64));
    }
    size_t usable = malloc_usable_size(blocks[0]);
    for (size_t i = 0; i < n; i += 2) {
        free(blocks[i]);
    }
    if (fault) {
        free_again(blocks[500], usable);
    }
}

static void after_a_flush(bool fault)
{
    void *kept = malloc(200);
    void *block = hide(malloc(200));
    size_t usable = malloc_usable_size(block);
    free(block);
    allot_thread_flush();
    if (fault) {
        free_again(block, usable);
    }
    free(kept);
}

/* The slab itself is gone: what it was may be forgotten, that it is no live block may not. */
static void after_its_slab_went_back(bool fault)
{
    enum { n = 20000 };
    static void *blocks[n];
    for (size_t i = 0; i < n; i++) {
        blocks[i] = hide(malloc(500));
    }
    for (size_t i = 0; i < n; i++) {
        free(blocks[i]);
    }
    allot_trim(0);
    if (fault) {
        expect_address("(double|invalid) free", blocks[n / 2]);
        free(hide(blocks[n / 2]));
    }
}

static void of_large_size(bool fault, size_t size)
{
    void *block = hide(malloc(size));
    free(block);
    if (fault) {
        expect_address("double free", block);
        free(hide(block));
    }
}

static void medium_9000(bool fault)
{
    of_large_size(fault, 9000);
}

static void medium_20000(bool fault)
{
    of_large_size(fault, 20000);
}

static void medium_40000(bool fault)
{
    of_large_size(fault, 40000);
}

static void large_100000(bool fault)
{
    of_large_size(fault, 100000);
}

static void large_1_mib(bool fault)
{
    of_large_size(fault, MIB);
}

static void large_10_mib(bool fault)
{
    of_large_size(fault, 10 * MIB);
}

/* The mapping is gone, its address is nobody's. */
static void mapped_and_gone(bool fault)
{
    void *block = hide(malloc(50 * MIB));
    free(block);
    if (fault) {
        expect_address("(double|invalid) free", block);
        free(hide(block));
    }
}

static void of_alignment(bool fault, size_t alignment, size_t size)
{
    void *kept = memalign(alignment, size);
    void *block = hide(memalign(alignment, size));
    free(block);
    if (fault) {
        expect_address("double free", block);
        free(hide(block));
    }
    free(kept);
}

static void aligned_64(bool fault)
{
    of_alignment(fault, 64, 100);
}

static void aligned_4096(bool fault)
{
    of_alignment(fault, 4096, 100);
}

static void aligned_64_kib(bool fault)
{
    of_alignment(fault, 64 * KIB, 100);
}

static void aligned_2_mib(bool fault)
{
    of_alignment(fault, 2 * MIB, 3 * MIB);
}

static void zeroed(bool fault)
{
    void *block = hide(calloc(10, 10));
    size_t usable = malloc_usable_size(block);
    free(block);
    if (fault) {
        free_again(block, usable);
    }
}

static void after_realloc_to_zero(bool fault)
{
    void *block = hide(malloc(100));
    size_t usable = malloc_usable_size(block);
    if (realloc(block, opaque(0)) != NULL) {
        broken("realloc to 0 gave a block");
    }
    if (fault) {
        free_again(block, usable);
    }
}

/* realloc moved the block: the old address is free. */
static void after_realloc_moved_it(bool fault)
{
    void *block = hide(malloc(100));
    size_t usable = malloc_usable_size(block);
    void *moved = realloc(block, 100000);
    if (moved == block) {
        broken("realloc didn't move");
    }
    if (fault) {
        free_again(block, usable);
    }
    free(moved);
}

static void by_realloc(bool fault)
{
    void *block = hide(malloc(100));
    size_t usable = malloc_usable_size(block);
    free(block);
    if (fault) {
        expect_block("double free", block, block, usable, "free");
        block = realloc(hide(block), 200);
    }
}

static void by_realloc_to_zero(bool fault)
{
    void *block = hide(malloc(100));
    size_t usable = malloc_usable_size(block);
    free(block);
    if (fault) {
        expect_block("double free", block, block, usable, "free");
        block = realloc(hide(block), opaque(0));
    }
}

static void by_free_sized(bool fault)
{
    void *block = hide(malloc(100));
    size_t usable = malloc_usable_size(block);
    free(block);
    if (fault) {
        expect_block("double free", block, block, usable, "free");
        free_sized(hide(block), 100);
    }
}

static void twice_in_one_batch(bool fault)
{
    void *blocks[3] = {hide(malloc(100)), hide(malloc(100)), NULL};
    size_t usable = malloc_usable_size(blocks[0]);
    if (fault) {
        blocks[2] = blocks[0];
        expect_block("double free", blocks[0], blocks[0], usable, "free");
    }
    allot_free_batch(blocks, 3);
}

/* ---- threads ---------------------------------------------------------------------------------------------------- */

static void *free_it(void *block)
{
    free(block);
    return NULL;
}

static void *take_100(void *argument)
{
    (void)argument;
    return malloc(100);
}

struct second {
    void *block;
    size_t usable;
    bool fault;
};

static void *free_it_again(void *argument)
{
    struct second *second = argument;
    if (second->fault) {
        expect_block("double free", second->block, second->block, second->usable, "free");
        free(hide(second->block));
    }
    return NULL;
}

static void *free_it_twice(void *argument)
{
    struct second *second = argument;
    free(hide(second->block));
    return free_it_again(argument);
}

static struct second second_of(bool fault)
{
    void *block = hide(malloc(100));
    return (struct second){block, malloc_usable_size(block), fault};
}

static void here_then_in_another_thread(bool fault)
{
    struct second second = second_of(fault);
    free(hide(second.block));
    elsewhere(free_it_again, &second);
}

static void twice_in_another_thread(bool fault)
{
    struct second second = second_of(fault);
    elsewhere(free_it_twice, &second);
}

static void in_another_thread_then_here(bool fault)
{
    struct second second = second_of(fault);
    elsewhere(free_it, second.block);
    free_it_again(&second);
}

static void in_two_other_threads(bool fault)
{
    struct second second = second_of(fault);
    elsewhere(free_it, second.block);
    elsewhere(free_it_again, &second);
}

static void its_owner_is_gone(bool fault)
{
    void *block = hide(elsewhere(take_100, NULL));
    struct second second = {block, malloc_usable_size(block), fault};
    free(hide(block));
    free_it_again(&second);
}

static void remote_and_large(bool fault)
{
    void *block = hide(malloc(MIB));
    elsewhere(free_it, block);
    if (fault) {
        expect_address("double free", block);
        free(hide(block));
    }
}

static pthread_barrier_t meeting;
static void *_Atomic contested;

static void *free_contested(void *argument)
{
    bool *fault = argument;
    for (int round = 0; round < 3000; round++) {
        pthread_barrier_wait(&meeting);
        if (*fault) {
            free(hide(contested));
        }
        pthread_barrier_wait(&meeting);
    }
    return NULL;
}

static void two_threads_at_once(bool fault)
{
    pthread_t thread;
    pthread_barrier_init(&meeting, NULL, 2);
    if (fault) {
        expect_line("^(allot: double free of 0x[0-9a-f]+: offset 0 in the 112-byte block at 0x[0-9a-f]+ \\(free\\), "
                    "thread [0-9]+\n)+$");
    }
    pthread_create(&thread, NULL, free_contested, &fault);
    for (int round = 0; round < 3000; round++) {
        contested = hide(malloc(112));
        pthread_barrier_wait(&meeting);
        free(hide(contested));
        pthread_barrier_wait(&meeting);
    }
    pthread_join(thread, NULL);
    for (int i = 0; i < 10000; i++) {
        contested = malloc(112);
    }
}

/* Neither of the two owns it. */
static void two_other_threads_at_once(bool fault)
{
    pthread_t threads[2];
    pthread_barrier_init(&meeting, NULL, 3);
    if (fault) {
        expect_line("^(allot: double free of 0x[0-9a-f]+: offset 0 in the 112-byte block at 0x[0-9a-f]+ \\(free\\), "
                    "thread [0-9]+\n)+$");
    }
    for (size_t i = 0; i < 2; i++) {
        pthread_create(&threads[i], NULL, free_contested, &fault);
    }
    for (int round = 0; round < 3000; round++) {
        contested = hide(malloc(112));
        pthread_barrier_wait(&meeting);
        pthread_barrier_wait(&meeting);
    }
    for (size_t i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
    }
}

/* ---- handlers and children --------------------------------------------------------------------------------------- */

static struct second in_handler;

static void handler(int number)
{
    (void)number;
    free_it_again(&in_handler);
}

static void in_a_signal_handler(bool fault)
{
    in_handler = second_of(fault);
    free(hide(in_handler.block));
    signal(SIGUSR1, handler);
    raise(SIGUSR1);
}

static void taken_in_a_signal_handler(int number)
{
    (void)number;
    in_handler.block = malloc(100);
    in_handler.usable = malloc_usable_size(in_handler.block);
    free(hide(in_handler.block));
}

static void after_a_signal_handler_freed_it(bool fault)
{
    free(malloc(1));
    in_handler.fault = fault;
    signal(SIGUSR1, taken_in_a_signal_handler);
    raise(SIGUSR1);
    free_it_again(&in_handler);
}

static void in_the_child_of_a_fork(bool fault)
{
    struct second second = second_of(fault);
    free(hide(second.block));
    pid_t child = fork();
    if (child == 0) {
        free_it_again(&second);
        _exit(0);
    }
    int status = -1;
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT) {
        abort();
    }
    if (status != 0) {
        broken("the child ended oddly");
    }
}

static const struct fault_case cases[] = {
    CASE(at_once_0),
    CASE(at_once_16),
    CASE(at_once_17),
    CASE(at_once_48),
    CASE(at_once_1000),
    CASE(at_once_8192),
    CASE(first_block_of_the_process),
    CASE(the_first_of_many),
    CASE(one_in_the_middle_of_many),
    CASE(the_last_of_many),
    CASE(after_a_hundred_thousand_others),
    CASE(after_a_flush),
    CASE(after_its_slab_went_back),
    CASE(medium_9000),
    CASE(medium_20000),
    CASE(medium_40000),
    CASE(large_100000),
    CASE(large_1_mib),
    CASE(large_10_mib),
    CASE(mapped_and_gone),
    CASE(aligned_64),
    CASE(aligned_4096),
    CASE(aligned_64_kib),
    CASE(aligned_2_mib),
    CASE(zeroed),
    CASE(after_realloc_to_zero),
    CASE(after_realloc_moved_it),
    CASE(by_realloc),
    CASE(by_realloc_to_zero),
    CASE(by_free_sized),
    CASE(twice_in_one_batch),
    CASE(here_then_in_another_thread),
    CASE(twice_in_another_thread),
    CASE(in_another_thread_then_here),
    CASE(in_two_other_threads),
    CASE(its_owner_is_gone),
    CASE(remote_and_large),
    CASE(two_threads_at_once),
    CASE(two_other_threads_at_once),
    CASE(in_a_signal_handler),
    CASE(after_a_signal_handler_freed_it),
    CASE(in_the_child_of_a_fork),
};

int main(int argc, char **argv)
{
    return fault_main(argc, argv, cases, COUNT(cases));
}
