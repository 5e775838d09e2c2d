/* SPDX-License-Identifier: MIT */
/* double_free.c - a block is freed that was freed before. */
#include "corpus.h"

#include <pthread.h>
#include <signal.h>

#define FAMILY "double_free"

static void again(bool fault, void *block)
{
    if (fault) {
        misuse(0, "free");
        free(block);
    }
}

static void twice(bool fault, void *block, size_t size)
{
    block = watch(block, size);
    free(block);
    again(fault, block);
}

static void at_once(bool fault)
{
    twice(fault, malloc(24), 24);
}

static void of_nothing(bool fault)
{
    twice(fault, malloc(0), 0);
}

static void of_1000_bytes(bool fault)
{
    twice(fault, malloc(1000), 1000);
}

static void of_20000_bytes(bool fault)
{
    twice(fault, malloc(20000), 20000);
}

static void of_a_megabyte(bool fault)
{
    twice(fault, malloc(1000000), 1000000);
}

static void of_100_megabytes(bool fault)
{
    void *block = watch(malloc(100000000), 100000000);
    free(block);
    if (fault) {
        misuse_of(block);
        free(block);
    }
}

static void of_a_calloced_block(bool fault)
{
    twice(fault, calloc(5, 20), 100);
}

static void of_an_aligned_block(bool fault)
{
    twice(fault, aligned_alloc(64, 192), 192);
}

static void of_a_page_aligned_block(bool fault)
{
    void *block = NULL;
    if (posix_memalign(&block, 4096, 5000) != 0) {
        broken("no memory");
    }
    twice(fault, block, 5000);
}

static void of_a_string(bool fault)
{
    twice(fault, strdup("a string of its own"), 20);
}

static void after_one_other_free(bool fault)
{
    void *other = malloc(24);
    void *block = watch(malloc(24), 24);
    free(block);
    free(other);
    again(fault, block);
}

static void after_many_other_frees(bool fault)
{
    void *others[1000];
    for (size_t i = 0; i < 1000; i++) {
        others[i] = malloc(40);
    }
    void *kept = malloc(40);
    void *block = watch(malloc(40), 40);
    free(block);
    for (size_t i = 0; i < 1000; i++) {
        free(others[i]);
    }
    again(fault, block);
    free(kept);
}

static void after_other_mallocs(bool fault)
{
    void *block = watch(malloc(24), 24);
    free(block);
    take_many(300);
    again(fault, block);
}

static void after_a_write(bool fault)
{
    char *block = watch(malloc(100), 100);
    free(block);
    if (fault) {
        named("double free|use after free|write after free");
        by_any_thread();
        misuse(0, "free");
        memset(block, 'A', 40);
        free(block);
    }
}

static void after_realloc_moved_it(bool fault)
{
    char *block = watch(malloc(24), 24);
    void *moved = realloc(block, 100000);
    again(fault, block);
    free(moved);
}

static void after_realloc_to_nothing(bool fault)
{
    char *block = watch(malloc(24), 24);
    void *rest = realloc(block, unknown(0));
    if (rest != NULL) {
        free(rest);
    }
    again(fault, block);
}

/* By then the block is somebody else's: the stale free looks right, and the next one is the second. */
static void by_the_next_owner(bool fault)
{
    char *block = watch(malloc(24), 24);
    free(block);
    char *next = hidden(malloc(24));
    if (fault) {
        misuse(0, "free");
        free(block);
        free(next);
    } else {
        free(next);
    }
}

static void by_realloc(bool fault)
{
    char *block = watch(malloc(24), 24);
    free(block);
    if (fault) {
        misuse(0, "free");
        free(realloc(block, 50));
    }
}

static void by_realloc_to_nothing(bool fault)
{
    char *block = watch(malloc(24), 24);
    free(block);
    if (fault) {
        misuse(0, "free");
        block = realloc(block, unknown(0));
    }
}

static void by_realloc_of_a_large_block(bool fault)
{
    char *block = watch(malloc(1000000), 1000000);
    free(block);
    if (fault) {
        misuse(0, "free");
        free(realloc(block, 50));
    }
}

static void *free_it(void *block)
{
    free(block);
    return NULL;
}

static void *free_it_again(void *block)
{
    again(true, block);
    return NULL;
}

static void in_another_thread(bool fault)
{
    char *block = watch(malloc(24), 24);
    free(block);
    if (fault) {
        elsewhere(free_it_again, block);
    }
}

static void after_another_thread(bool fault)
{
    char *block = watch(malloc(24), 24);
    elsewhere(free_it, block);
    again(fault, block);
}

static pthread_barrier_t meeting;
static void *of_thread;

/* The thread has a heap of its own before the block is freed: what it needs doesn't take the block's place. */
static void *free_large_again(void *fault)
{
    free(hidden(malloc(100)));
    pthread_barrier_wait(&meeting);
    pthread_barrier_wait(&meeting);
    again(fault != NULL, of_thread);
    return NULL;
}

static void of_a_large_block_in_another_thread(bool fault)
{
    pthread_t thread;
    pthread_barrier_init(&meeting, NULL, 2);
    if (pthread_create(&thread, NULL, free_large_again, fault ? &meeting : NULL) != 0) {
        broken("no thread");
    }
    pthread_barrier_wait(&meeting);
    of_thread = watch(malloc(1000000), 1000000);
    free(of_thread);
    pthread_barrier_wait(&meeting);
    pthread_join(thread, NULL);
}

static void *of_handler;

static void handler(int number)
{
    (void)number;
    again(true, of_handler);
}

static void in_a_signal_handler(bool fault)
{
    of_handler = watch(malloc(24), 24);
    free(of_handler);
    signal(SIGUSR1, handler);
    if (fault) {
        raise(SIGUSR1);
    }
}

struct node {
    struct node *next;
    char *name;
};

/* Two lists share a tail, and both are freed to the end. */
static void of_a_shared_tail(bool fault)
{
    struct node *tail = watch(malloc(sizeof *tail), sizeof *tail);
    struct node *first = malloc(sizeof *first), *second = malloc(sizeof *second);
    first->next = tail;
    second->next = fault ? tail : NULL;
    tail->next = NULL;
    for (struct node *node = first; node != NULL;) {
        struct node *next = node->next;
        free(node);
        node = next;
    }
    if (fault) {
        misuse(0, "free");
    }
    struct node *rest = hidden(second->next);
    free(second);
    free(rest);
}

/* The struct is copied, the string in it is not. */
static void by_two_copies_of_a_struct(bool fault)
{
    struct node one = {NULL, watch(strdup("shared"), 7)};
    struct node copy = one;
    free(one.name);
    again(fault, copy.name);
}

static const struct fault_case cases[] = {
    FAULT(at_once, DOUBLE_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(of_nothing, DOUBLE_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(of_1000_bytes, DOUBLE_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(of_20000_bytes, DOUBLE_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(of_a_megabyte, DOUBLE_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(of_100_megabytes, DOUBLE_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(of_a_calloced_block, DOUBLE_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(of_an_aligned_block, DOUBLE_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(of_a_page_aligned_block, DOUBLE_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(of_a_string, DOUBLE_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(after_one_other_free, DOUBLE_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(after_many_other_frees, DOUBLE_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(after_other_mallocs, DOUBLE_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(after_a_write, DOUBLE_FREE "|" USE_AFTER_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(after_realloc_moved_it, DOUBLE_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(after_realloc_to_nothing, DOUBLE_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(by_the_next_owner, DOUBLE_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(by_realloc, DOUBLE_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(by_realloc_to_nothing, DOUBLE_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(by_realloc_of_a_large_block, DOUBLE_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(in_another_thread, DOUBLE_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(after_another_thread, DOUBLE_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(of_a_large_block_in_another_thread, DOUBLE_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(in_a_signal_handler, DOUBLE_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(of_a_shared_tail, DOUBLE_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(by_two_copies_of_a_struct, DOUBLE_FREE, NAMED, NAMED, NAMED, NAMED),
};

const struct fault_family double_free = FAMILY_OF(cases);
