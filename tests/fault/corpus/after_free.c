/* SPDX-License-Identifier: MIT */
/* after_free.c - a block is read from or written to that was freed. */
#include "corpus.h"

#include <signal.h>
#include <stdlib.h>

#define FAMILY "after_free"

#define WHEN_WRITTEN "use after free|write after free"

static void use(bool fault, char *block, ptrdiff_t offset)
{
    if (fault) {
        misuse(offset, "free");
        read_byte(block + offset);
    }
}

static void change(bool fault, char *block, ptrdiff_t offset)
{
    if (fault) {
        named(WHEN_WRITTEN);
        by_any_thread();
        misuse(offset, "free");
        write_byte(block + offset);
    }
}

static char *freed(size_t size)
{
    char *block = watch(malloc(size), size);
    memset(block, 1, size);
    free(block);
    return hidden(block);
}

#define READ(name, size, offset)                                                                                       \
    static void name(bool fault)                                                                                       \
    {                                                                                                                  \
        use(fault, freed(size), offset);                                                                               \
    }
#define WRITE(name, size, offset)                                                                                      \
    static void name(bool fault)                                                                                       \
    {                                                                                                                  \
        change(fault, freed(size), offset);                                                                            \
    }

READ(read_at_once, 48, 0)
READ(read_in_its_middle, 200, 100)
READ(read_of_a_medium_block, 20000, 10000)
READ(read_of_a_large_block, 1000000, 500000)
READ(read_of_a_huge_block, 50000000, 25000000)
WRITE(write_at_once, 48, 0)
WRITE(write_in_its_middle, 200, 100)
WRITE(write_to_its_last_byte, 48, 47)
WRITE(write_to_a_medium_block, 20000, 10000)
WRITE(write_to_a_large_block, 1000000, 500000)
WRITE(write_to_a_huge_block, 50000000, 25000000)

static void read_after_much_else(bool fault)
{
    char *block = freed(48);
    take_many(300);
    take_many(5000);
    use(fault, block, 8);
}

static void write_after_much_else(bool fault)
{
    char *block = freed(48);
    take_many(300);
    take_many(5000);
    change(fault, block, 0);
}

/* Others of its size were taken and freed since. */
static void read_after_others_of_its_size(bool fault)
{
    char *block = freed(48);
    take_many(48);
    use(fault, block, 8);
}

/* The block comes up again: the damage is found then, at the latest. */
static void write_found_when_it_comes_up(bool fault)
{
    char *block = freed(48);
    change(fault, block, 24);
    take_many(48);
}

static void filled_after_free(bool fault)
{
    char *block = freed(200);
    if (fault) {
        named(WHEN_WRITTEN);
        by_any_thread();
        misuse(0, "free");
        write_bytes(block, 200);
    }
}

static void *read_it(void *block)
{
    use(true, block, 8);
    return NULL;
}

static void *write_it(void *block)
{
    change(true, block, 0);
    return NULL;
}

static void *free_it(void *block)
{
    free(block);
    return NULL;
}

static void read_in_another_thread(bool fault)
{
    char *block = freed(48);
    if (fault) {
        elsewhere(read_it, block);
    }
}

static void write_in_another_thread(bool fault)
{
    char *block = freed(48);
    if (fault) {
        elsewhere(write_it, block);
    }
}

static void read_of_what_another_thread_freed(bool fault)
{
    char *block = watch(malloc(48), 48);
    memset(block, 1, 48);
    elsewhere(free_it, block);
    use(fault, hidden(block), 8);
}

static void read_after_realloc_moved_it(bool fault)
{
    char *block = watch(malloc(48), 48);
    memset(block, 1, 48);
    char *moved = realloc(block, 200000);
    use(fault, hidden(block), 8);
    free(moved);
}

static void write_after_realloc_moved_it(bool fault)
{
    char *block = watch(malloc(48), 48);
    memset(block, 1, 48);
    char *moved = realloc(block, 200000);
    change(fault, hidden(block), 0);
    free(moved);
}

static void read_of_an_aligned_block(bool fault)
{
    char *block = watch(aligned_alloc(256, 512), 512);
    memset(block, 1, 512);
    free(block);
    use(fault, hidden(block), 100);
}

struct node {
    struct node *next;
    char text[40];
};

/* for (node = first; node != NULL; node = node->next) free(node); */
static void next_of_a_freed_node(bool fault)
{
    struct node *first = watch(calloc(1, sizeof *first), sizeof *first);
    free(first);
    if (fault) {
        misuse(0, "free");
        first = hidden(((struct node *)hidden(first))->next);
    }
}

static void a_string_compared_after_free(bool fault)
{
    char *text = watch(strdup("a string of some length"), 24);
    free(text);
    if (fault) {
        misuse(0, "free");
        unknown((size_t)strcmp(hidden(text), hidden("a string of some length")));
    }
}

static void a_string_copied_to_a_freed_block(bool fault)
{
    char *text = freed(48);
    if (fault) {
        named(WHEN_WRITTEN);
        by_any_thread();
        misuse(0, "free");
        strcpy(text, hidden("longer than sixteen bytes"));
    }
}

static void reversed_after_free(bool fault)
{
    int *numbers = watch(calloc(16, sizeof *numbers), 16 * sizeof *numbers);
    free(numbers);
    if (fault) {
        by_any_thread();
        named(WHEN_WRITTEN);
        misuse(0, "free");
        volatile int *left = hidden(numbers), *right = left + 15;
        for (; left < right; left++, right--) {
            int last = *left;
            *left = *right;
            *right = last;
        }
    }
}

static char *of_handler;

static void handler(int number)
{
    (void)number;
    use(true, of_handler, 8);
}

static void read_in_a_signal_handler(bool fault)
{
    of_handler = freed(48);
    signal(SIGUSR1, handler);
    if (fault) {
        raise(SIGUSR1);
    }
}

static const struct fault_case cases[] = {
    FAULT(read_at_once, USE_AFTER_FREE, SILENT, NAMED, SILENT, NAMED),
    FAULT(read_in_its_middle, USE_AFTER_FREE, SILENT, NAMED, SILENT, NAMED),
    FAULT(read_of_a_medium_block, USE_AFTER_FREE, SILENT, NAMED, SILENT, NAMED),
    FAULT(read_of_a_large_block, USE_AFTER_FREE, SILENT, NAMED, SILENT, NAMED),
    FAULT(read_of_a_huge_block, USE_AFTER_FREE, STOPPED, NAMED, STOPPED, NAMED),
    FAULT(write_at_once, USE_AFTER_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(write_in_its_middle, USE_AFTER_FREE, SILENT, NAMED, NAMED, NAMED),
    FAULT(write_to_its_last_byte, USE_AFTER_FREE, SILENT, NAMED, NAMED, NAMED),
    FAULT(write_to_a_medium_block, USE_AFTER_FREE, SILENT, NAMED, NAMED, NAMED),
    FAULT(write_to_a_large_block, USE_AFTER_FREE, SILENT, NAMED, SILENT, NAMED),
    FAULT(write_to_a_huge_block, USE_AFTER_FREE, STOPPED, NAMED, STOPPED, NAMED),
    FAULT(read_after_much_else, USE_AFTER_FREE, SILENT, NAMED, SILENT, NAMED),
    FAULT(write_after_much_else, USE_AFTER_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(read_after_others_of_its_size, USE_AFTER_FREE, SILENT, NAMED, SILENT, NAMED),
    FAULT(write_found_when_it_comes_up, USE_AFTER_FREE, SILENT, NAMED, NAMED, NAMED),
    FAULT(filled_after_free, USE_AFTER_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(read_in_another_thread, USE_AFTER_FREE, SILENT, NAMED, SILENT, NAMED),
    FAULT(write_in_another_thread, USE_AFTER_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(read_of_what_another_thread_freed, USE_AFTER_FREE, SILENT, NAMED, SILENT, NAMED),
    FAULT(read_after_realloc_moved_it, USE_AFTER_FREE, SILENT, NAMED, SILENT, NAMED),
    FAULT(write_after_realloc_moved_it, USE_AFTER_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(read_of_an_aligned_block, USE_AFTER_FREE, SILENT, NAMED, SILENT, NAMED),
    FAULT(next_of_a_freed_node, USE_AFTER_FREE, SILENT, NAMED, SILENT, NAMED),
    FAULT(a_string_compared_after_free, USE_AFTER_FREE, SILENT, NAMED, SILENT, NAMED),
    FAULT(a_string_copied_to_a_freed_block, USE_AFTER_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(reversed_after_free, USE_AFTER_FREE, NAMED, NAMED, SILENT, NAMED),
    FAULT(read_in_a_signal_handler, USE_AFTER_FREE, SILENT, NAMED, SILENT, NAMED),
};

const struct fault_family after_free = FAMILY_OF(cases);
