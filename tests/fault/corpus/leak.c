/* SPDX-License-Identifier: MIT */
/* leak.c - blocks that nobody can free any more. */
#include "corpus.h"

#include <pthread.h>

#define FAMILY "leak"

/* One of the lost blocks, the first to be told. */
static void announce(void)
{
    expect_line("^allot: leak of 0x[0-9a-f]+: offset 0 in the [0-9]+-byte block at 0x[0-9a-f]+ \\(live\\), thread "
                "[0-9]+\n");
}

/* What a case leaves in registers and on the stack would keep the block reachable. */
static void lose(bool fault, void (*work)(bool fault))
{
    if (fault) {
        announce();
    }
    work(fault);
    forget();
}

struct node {
    struct node *next;
    char *name;
};

static __attribute__((noinline)) void lose_one(bool fault)
{
    char *block = hidden(malloc(100));
    memset(block, 0, 100);
    if (!fault) {
        free(block);
    }
}

static __attribute__((noinline)) void lose_a_large_one(bool fault)
{
    char *block = hidden(calloc(1, 1000000));
    if (!fault) {
        free(block);
    }
}

static __attribute__((noinline)) void lose_an_aligned_one(bool fault)
{
    char *block = hidden(aligned_alloc(64, 192));
    memset(block, 0, 192);
    if (!fault) {
        free(block);
    }
}

static __attribute__((noinline)) void lose_a_hundred(bool fault)
{
    for (size_t i = 0; i < 100; i++) {
        lose_one(fault);
    }
}

/* The struct is freed, what it names is not. */
static __attribute__((noinline)) void lose_what_a_struct_names(bool fault)
{
    struct node *node = hidden(calloc(1, sizeof *node));
    node->name = strdup("a name in a struct");
    if (!fault) {
        free(node->name);
    }
    free(node);
}

/* The struct is lost, and with it what it names. */
static __attribute__((noinline)) void lose_a_struct(bool fault)
{
    struct node *node = hidden(calloc(1, sizeof *node));
    node->name = strdup("a name in a struct");
    if (!fault) {
        free(node->name);
        free(node);
    }
}

static __attribute__((noinline)) void lose_a_ring(bool fault)
{
    struct node *one = hidden(calloc(1, sizeof *one)), *two = hidden(calloc(1, sizeof *two));
    one->next = two;
    two->next = one;
    if (!fault) {
        free(one);
        free(two);
    }
}

static char *kept;

static __attribute__((noinline)) void lose_by_overwriting(bool fault)
{
    kept = hidden(malloc(100));
    if (!fault) {
        free(kept);
    }
    kept = hidden(malloc(200));
}

/* p = realloc(p, more) without a look at what comes back. */
static __attribute__((noinline)) void lose_by_a_failed_realloc(bool fault)
{
    char *block = hidden(malloc(100));
    char *grown = realloc(block, unknown((size_t)PTRDIFF_MAX / 2));
    if (grown != NULL) {
        broken("so much memory");
    }
    if (!fault) {
        free(block);
    }
}

static void *lose_in_a_thread(void *fault)
{
    lose_one(fault != NULL);
    forget(); /* the stack outlives the thread */
    return NULL;
}

static __attribute__((noinline)) void lose_at_a_threads_end(bool fault)
{
    elsewhere(lose_in_a_thread, fault ? &kept : NULL);
}

/* A key without a destructor keeps nothing. */
static void *lose_with_a_key(void *fault)
{
    pthread_key_t key;
    pthread_key_create(&key, fault == NULL ? free : NULL);
    pthread_setspecific(key, malloc(100));
    forget();
    return NULL;
}

static __attribute__((noinline)) void lose_with_a_threads_key(bool fault)
{
    elsewhere(lose_with_a_key, fault ? &kept : NULL);
}

#define LEAK_OF(name, work)                                                                                            \
    static void name(bool fault)                                                                                       \
    {                                                                                                                  \
        lose(fault, work);                                                                                             \
    }

LEAK_OF(plain, lose_one)
LEAK_OF(of_a_large_block, lose_a_large_one)
LEAK_OF(of_an_aligned_block, lose_an_aligned_one)
LEAK_OF(of_a_hundred_blocks, lose_a_hundred)
LEAK_OF(of_what_a_freed_struct_names, lose_what_a_struct_names)
LEAK_OF(of_a_struct_and_what_it_names, lose_a_struct)
LEAK_OF(of_a_ring, lose_a_ring)
LEAK_OF(by_overwriting_the_pointer, lose_by_overwriting)
LEAK_OF(by_a_failed_realloc, lose_by_a_failed_realloc)
LEAK_OF(at_a_threads_end, lose_at_a_threads_end)
LEAK_OF(with_a_threads_key, lose_with_a_threads_key)

static const struct fault_case cases[] = {
    FAULT(plain, LEAK, SILENT, NAMED, SILENT, NAMED),
    FAULT(of_a_large_block, LEAK, SILENT, NAMED, SILENT, NAMED),
    FAULT(of_an_aligned_block, LEAK, SILENT, NAMED, SILENT, NAMED),
    FAULT(of_a_hundred_blocks, LEAK, SILENT, NAMED, SILENT, NAMED),
    FAULT(of_what_a_freed_struct_names, LEAK, SILENT, NAMED, SILENT, NAMED),
    FAULT(of_a_struct_and_what_it_names, LEAK, SILENT, NAMED, SILENT, NAMED),
    FAULT(of_a_ring, LEAK, SILENT, NAMED, SILENT, NAMED),
    FAULT(by_overwriting_the_pointer, LEAK, SILENT, NAMED, SILENT, NAMED),
    FAULT(by_a_failed_realloc, LEAK, SILENT, NAMED, SILENT, NAMED),
    FAULT(at_a_threads_end, LEAK, SILENT, NAMED, SILENT, NAMED),
    FAULT(with_a_threads_key, LEAK, SILENT, NAMED, SILENT, NAMED),
};

const struct fault_family leak = FAMILY_OF(cases);
