/* SPDX-License-Identifier: MIT */
/* invalid_free.c - what is freed, reallocated or asked for its size is no block. */
#include "corpus.h"

#include <dlfcn.h>
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#define FAMILY "invalid_free"

/* ---- by whom ---------------------------------------------------------------------------------------------------- */

typedef void taker(void *pointer);

static void by_free(void *pointer)
{
    free(pointer);
}

static void by_realloc(void *pointer)
{
    free(realloc(pointer, 100));
}

static void by_usable_size(void *pointer)
{
    unknown(malloc_usable_size(pointer));
}

/* C23's, which not every libc has. */
static void (*free_sized_if_any)(void *, size_t);

static void by_free_sized(void *pointer)
{
    free_sized_if_any(pointer, 48);
}

static void find_free_sized(void)
{
    *(void **)&free_sized_if_any = dlsym(RTLD_DEFAULT, "free_sized");
    if (free_sized_if_any == NULL) {
        not_here("no free_sized");
    }
}

/* The name of the function's own misuse. */
static void name_by(taker *take)
{
    named(take == by_realloc       ? "invalid free|invalid realloc"
          : take == by_usable_size ? "invalid free|invalid usable size"
                                   : "invalid free");
}

static void outside(bool fault, taker *take, void *pointer, const char *place)
{
    void *kept = watch(malloc(48), 48);
    if (fault) {
        name_by(take);
        misuse_outside(pointer, place);
        take(hidden(pointer));
    }
    free(kept);
}

static void inside(bool fault, taker *take, size_t size, ptrdiff_t offset)
{
    char *block = watch(malloc(size), size);
    memset(block, 0, size);
    if (fault) {
        name_by(take);
        misuse(offset, "live");
        take(hidden(block + offset));
    }
    free(block);
}

/* ---- what ------------------------------------------------------------------------------------------------------- */

static const char anywhere[] = "[^()\n]+";

static void interior(bool fault, taker *take)
{
    inside(fault, take, 48, 16);
}

static void misaligned(bool fault, taker *take)
{
    inside(fault, take, 48, 1);
}

static void inside_a_medium_block(bool fault, taker *take)
{
    inside(fault, take, 20000, 4096);
}

static void inside_a_large_block(bool fault, taker *take)
{
    inside(fault, take, 1000000, 131072);
}

static void last_byte(bool fault, taker *take)
{
    inside(fault, take, 48, 47);
}

static void on_the_stack(bool fault, taker *take)
{
    char local[64] __attribute__((aligned(64)));
    memset(local, 0, sizeof local);
    outside(fault, take, local + 16, "on the stack");
}

static char global[64] __attribute__((aligned(64))) = "a global variable";

static void in_the_data(bool fault, taker *take)
{
    outside(fault, take, global + 16, "in the data of [^ ]+");
}

static void in_the_code(bool fault, taker *take)
{
    outside(fault, take, (void *)(uintptr_t)by_free, "in the code of [^ ]+");
}

static void a_string_literal(bool fault, taker *take)
{
    outside(fault, take, (void *)(uintptr_t) "sixteen characters", "in the data of [^ ]+");
}

static void thread_local_memory(bool fault, taker *take)
{
    static __thread char local[64] __attribute__((aligned(64)));
    outside(fault, take, hidden(local), anywhere);
}

static void mapped_by_the_program(bool fault, taker *take)
{
    char *mapped = mmap(NULL, 262144, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    outside(fault, take, mapped + 4096, anywhere);
    munmap(mapped, 262144);
}

static void unmapped(bool fault, taker *take)
{
    char *mapped = mmap(NULL, 262144, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(mapped, 262144);
    outside(fault, take, mapped + 65536, anywhere);
}

static void the_number_1(bool fault, taker *take)
{
    outside(fault, take, (void *)unknown(1), anywhere);
}

static void text_taken_for_a_pointer(bool fault, taker *take)
{
    outside(fault, take, (void *)unknown(0x6f6c6c6568206f70), anywhere); /* not canonical */
}

static void the_highest_address(bool fault, taker *take)
{
    outside(fault, take, (void *)unknown(UINTPTR_MAX - 15), anywhere);
}

static void a_block_with_a_bit_flipped(bool fault, taker *take)
{
    void *block = malloc(48);
    outside(fault, take, (void *)((uintptr_t)hidden(block) ^ (uintptr_t)1 << 45), anywhere);
    free(block);
}

/* ---- what only free gets ---------------------------------------------------------------------------------------- */

static void of_an_argument(bool fault)
{
    extern char **environ;
    static char *none[] = {NULL};
    char **from = environ == NULL || environ[0] == NULL ? none : environ;
    outside(fault, by_free, (void *)((uintptr_t)from[0] & ~(uintptr_t)15), "on the stack");
}

/* The string was trimmed in place, and the trimmed one is freed. */
static void of_a_trimmed_string(bool fault)
{
    char *text = watch(strdup("   padded"), 10);
    char *trimmed = text;
    while (*trimmed == ' ') {
        trimmed++;
    }
    if (fault) {
        misuse(trimmed - text, "live");
        free(hidden(trimmed));
    }
    free(text);
}

/* A small arena: one block, objects in it. */
static void of_an_object_in_an_arena(bool fault)
{
    char *arena = watch(malloc(1000), 1000);
    memset(arena, 0, 1000);
    char *first = arena, *second = first + 64;
    if (fault) {
        misuse(second - arena, "live");
        free(hidden(second));
    }
    free(arena);
}

static void of_a_pointer_moved_along(bool fault)
{
    char *block = watch(malloc(200), 200);
    memset(block, 0, 200);
    char *at = block;
    for (size_t i = 0; i < unknown(100); i++) {
        at++;
    }
    if (fault) {
        misuse(100, "live");
        free(at);
    }
    free(block);
}

/* The owner frees an element of the table, which is part of the table's block. */
static void of_an_element(bool fault)
{
    struct row {
        char *name;
        char text[24];
    } *table = watch(calloc(10, sizeof(struct row)), 10 * sizeof(struct row));
    if (fault) {
        misuse(3 * sizeof(struct row), "live");
        free(hidden(&table[3]));
    }
    free(table);
}

static void *free_in_another_thread(void *block)
{
    misuse(16, "live");
    free((char *)block + 16);
    return NULL;
}

static void of_an_interior_in_another_thread(bool fault)
{
    char *block = watch(malloc(48), 48);
    memset(block, 0, 48);
    if (fault) {
        elsewhere(free_in_another_thread, block);
    }
    free(block);
}

static void aligned_by_hand(bool fault)
{
    char *block = watch(malloc(500), 500);
    memset(block, 0, 500);
    char *aligned = (char *)(((uintptr_t)block + 256) & ~(uintptr_t)255);
    if (fault) {
        misuse(aligned - block, "live");
        free(hidden(aligned));
    }
    free(block);
}

/* ---- all together ----------------------------------------------------------------------------------------------- */

#define BY_FREE(X)                                                                                                     \
    X(free, interior)                                                                                                  \
    X(free, misaligned)                                                                                                \
    X(free, last_byte)                                                                                                 \
    X(free, inside_a_medium_block)                                                                                     \
    X(free, inside_a_large_block)                                                                                      \
    X(free, on_the_stack)                                                                                              \
    X(free, in_the_data)                                                                                               \
    X(free, in_the_code)                                                                                               \
    X(free, a_string_literal)                                                                                          \
    X(free, thread_local_memory)                                                                                       \
    X(free, mapped_by_the_program)                                                                                     \
    X(free, unmapped)                                                                                                  \
    X(free, the_number_1)                                                                                              \
    X(free, text_taken_for_a_pointer)                                                                                  \
    X(free, the_highest_address)                                                                                       \
    X(free, a_block_with_a_bit_flipped)
#define BY_REALLOC(X)                                                                                                  \
    X(realloc, interior)                                                                                               \
    X(realloc, misaligned)                                                                                             \
    X(realloc, on_the_stack)                                                                                           \
    X(realloc, in_the_data)                                                                                            \
    X(realloc, unmapped)                                                                                               \
    X(realloc, text_taken_for_a_pointer)
#define BY_USABLE_SIZE(X)                                                                                              \
    X(usable_size, interior)                                                                                           \
    X(usable_size, on_the_stack)                                                                                       \
    X(usable_size, unmapped)
#define BY_FREE_SIZED(X)                                                                                               \
    X(free_sized, interior)                                                                                            \
    X(free_sized, in_the_data)
#define ALL(X) BY_FREE(X) BY_REALLOC(X) BY_USABLE_SIZE(X) BY_FREE_SIZED(X)

#define FUNCTION(function, pointer)                                                                                    \
    static void function##_of_##pointer(bool fault)                                                                    \
    {                                                                                                                  \
        if (by_##function == by_free_sized) {                                                                          \
            find_free_sized();                                                                                         \
        }                                                                                                              \
        pointer(fault, by_##function);                                                                                 \
    }
ALL(FUNCTION)

#define ROW(function, pointer) FAULT(function##_of_##pointer, INVALID_FREE, NAMED, NAMED, NAMED, NAMED),

static const struct fault_case cases[] = {
    ALL(ROW) FAULT(of_an_argument, INVALID_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(of_a_trimmed_string, INVALID_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(of_an_object_in_an_arena, INVALID_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(of_a_pointer_moved_along, INVALID_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(of_an_element, INVALID_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(of_an_interior_in_another_thread, INVALID_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(aligned_by_hand, INVALID_FREE, NAMED, NAMED, NAMED, NAMED),
};

const struct fault_family invalid_free = FAMILY_OF(cases);
