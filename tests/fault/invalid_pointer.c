/* SPDX-License-Identifier: MIT */
/* invalid_pointer.c - every function that takes a block, given what is none. */
#include "fault.h"

#include <sys/mman.h>

/* ---- the functions ------------------------------------------------------------------------------------------------
 */

struct taker {
    const char *report; /* the name of its fault, an expression */
    void (*call)(void *pointer);
};

static void by_free(void *pointer)
{
    free(pointer);
}

static void by_realloc(void *pointer)
{
    hide(realloc(pointer, 100));
}

static void by_usable_size(void *pointer)
{
    opaque(malloc_usable_size(pointer));
}

static void by_try_expand(void *pointer)
{
    opaque((size_t)allot_try_expand(pointer, 100));
}

static void by_free_sized(void *pointer)
{
    free_sized(pointer, 48);
}

static void by_free_batch(void *pointer)
{
    void *const one[1] = {pointer};
    allot_free_batch(one, 1);
}

static const struct taker takers[] = {
    {"invalid free", by_free},
    {"invalid realloc", by_realloc},
    {"invalid usable size", by_usable_size},
    {"invalid [a-z ]*expand", by_try_expand},
    {"invalid free", by_free_sized},
    {"invalid free", by_free_batch},
};

/* ---- the pointers -------------------------------------------------------------------------------------------------
 */

static void inside(const struct taker *taker, bool fault, size_t size, size_t offset)
{
    char *kept = hide(malloc(size));
    char *block = hide(malloc(size));
    size_t usable = malloc_usable_size(block);
    if (fault) {
        char *address = block + (offset == SIZE_MAX ? usable - 1 : offset);
        expect_block(taker->report, address, block, usable, "live");
        taker->call(hide(address));
    }
    free(block);
    free(kept);
}

static int global_variable = 5;

static void outside(const struct taker *taker, bool fault, void *pointer, const char *place)
{
#ifdef ALLOT_TEST_NO_PLACES
    place = "not allot's";
#endif
    free(malloc(10));
    if (fault) {
        expect_no_block(taker->report, pointer, place);
        taker->call(hide(pointer));
    }
}

static const char anywhere[] = "[^()\n]+";

static void stack(const struct taker *taker, bool fault)
{
    char local[64];
    outside(taker, fault, (void *)(((uintptr_t)local + 15) & ~(uintptr_t)15), "on the stack");
}

static void *on_a_threads_stack(void *argument)
{
    stack(&takers[(size_t)argument / 2], (size_t)argument % 2);
    return NULL;
}

static void stack_of_a_thread(const struct taker *taker, bool fault)
{
    elsewhere(on_a_threads_stack, (void *)((size_t)(taker - takers) * 2 + fault));
}

static void global(const struct taker *taker, bool fault)
{
    outside(taker, fault, &global_variable, "in the data of [^ ]+");
}

static void code(const struct taker *taker, bool fault)
{
    outside(taker, fault, (void *)(uintptr_t)by_free, "in the code of [^ ]+");
}

static void string(const struct taker *taker, bool fault)
{
    outside(taker, fault, (void *)(uintptr_t) "sixteen characters", "in the data of [^ ]+");
}

static void foreign_mapping(const struct taker *taker, bool fault)
{
    char *mapped = mmap(NULL, 256 * KIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    outside(taker, fault, mapped + 4096, anywhere);
    munmap(mapped, 256 * KIB);
}

static void unmapped(const struct taker *taker, bool fault)
{
    char *mapped = mmap(NULL, 256 * KIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(mapped, 256 * KIB);
    outside(taker, fault, mapped + 64 * KIB, anywhere);
}

static void one(const struct taker *taker, bool fault)
{
    outside(taker, fault, (void *)(uintptr_t)1, anywhere);
}

static void sixteen(const struct taker *taker, bool fault)
{
    outside(taker, fault, (void *)(uintptr_t)16, anywhere);
}

static void non_canonical(const struct taker *taker, bool fault)
{
    outside(taker, fault, (void *)(uintptr_t)0x800000000000, anywhere);
}

static void letters(const struct taker *taker, bool fault)
{
    outside(taker, fault, (void *)(uintptr_t)0x6f6c6c6568206f74, anywhere);
}

static void kernel(const struct taker *taker, bool fault)
{
    outside(taker, fault, (void *)(uintptr_t)0xffffffff81000000, anywhere);
}

static void minus_one(const struct taker *taker, bool fault)
{
    outside(taker, fault, (void *)UINTPTR_MAX, anywhere);
}

static void minus_sixteen(const struct taker *taker, bool fault)
{
    outside(taker, fault, (void *)(UINTPTR_MAX - 15), anywhere);
}

/* A live block's address with a bit more: 2^40, 2^47, 2^63. */
static void far_from_a_block(const struct taker *taker, bool fault, int bit)
{
    void *block = malloc(48);
    outside(taker, fault, (void *)((uintptr_t)hide(block) ^ (uintptr_t)1 << bit), anywhere);
    free(block);
}

static void bit_40(const struct taker *taker, bool fault)
{
    far_from_a_block(taker, fault, 40);
}

static void bit_47(const struct taker *taker, bool fault)
{
    far_from_a_block(taker, fault, 47);
}

static void bit_63(const struct taker *taker, bool fault)
{
    far_from_a_block(taker, fault, 63);
}

static void interior_small(const struct taker *taker, bool fault)
{
    inside(taker, fault, 48, 16);
}

static void interior_misaligned(const struct taker *taker, bool fault)
{
    inside(taker, fault, 48, 1);
}

static void interior_last_byte(const struct taker *taker, bool fault)
{
    inside(taker, fault, 48, SIZE_MAX);
}

static void interior_8192(const struct taker *taker, bool fault)
{
    inside(taker, fault, 8192, 4096);
}

static void interior_medium(const struct taker *taker, bool fault)
{
    inside(taker, fault, 20000, 4096);
}

static void interior_large(const struct taker *taker, bool fault)
{
    inside(taker, fault, MIB, 65536);
}

static void interior_large_in_first_granule(const struct taker *taker, bool fault)
{
    inside(taker, fault, 300000, 16);
}

static void interior_mapped(const struct taker *taker, bool fault)
{
    inside(taker, fault, 50 * MIB, 33 * MIB);
}

static void interior_mapped_last_byte(const struct taker *taker, bool fault)
{
    inside(taker, fault, 50 * MIB, SIZE_MAX);
}

/* The first address in block's granule, by sixteens, of which query says that state, exact base or not. */
static char *find_state(char *block, allot_state state, allot_info *info)
{
    char *granule = (char *)((uintptr_t)block & ~(uintptr_t)65535);
    for (size_t at = 0; at < 65536; at += 16) {
        *info = (allot_info)ALLOT_INFO_INIT;
        if (allot_query(granule + at, info) != 0) {
            broken("query failed");
        }
        if (info->state == state && (info->base == NULL || info->offset == 0)) {
            return granule + at;
        }
    }
    return NULL;
}

static void never_handed_out(const struct taker *taker, bool fault)
{
    char *block = hide(malloc(1100));
    allot_info info;
    char *found = find_state(block, ALLOT_STATE_FREE, &info);
    if (found == NULL) {
        not_here("no block that was never handed out");
    }
    if (fault) {
        char name[80];
        snprintf(name, sizeof name, "(%s|double free)", taker->report);
        expect_block(name, found, found, info.size_bytes, "(free|never handed out)");
        taker->call(hide(found));
    }
    free(block);
}

static void tail_of_a_slab(const struct taker *taker, bool fault)
{
    const size_t sizes[] = {48, 80, 112, 1100, 1300, 3000, 5000};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        char *block = hide(malloc(sizes[i]));
        allot_info info;
        char *found = find_state(block, ALLOT_STATE_NONE, &info);
        if (found != NULL) {
            if (fault) {
                expect_no_block(taker->report, found, anywhere);
                taker->call(hide(found));
            }
            free(block);
            return;
        }
        free(block);
    }
    not_here("no slab has a tail");
}

/* ---- all together -------------------------------------------------------------------------------------------------
 */

#define POINTERS(X)                                                                                                    \
    X(stack)                                                                                                           \
    X(stack_of_a_thread)                                                                                               \
    X(global)                                                                                                          \
    X(code) X(string) X(foreign_mapping) X(unmapped) X(one) X(sixteen) X(non_canonical) X(letters) X(kernel)           \
        X(minus_one) X(minus_sixteen) X(bit_40) X(bit_47) X(bit_63) X(interior_small) X(interior_misaligned)           \
            X(interior_last_byte) X(interior_8192) X(interior_medium) X(interior_large)                                \
                X(interior_large_in_first_granule) X(interior_mapped) X(interior_mapped_last_byte) X(never_handed_out) \
                    X(tail_of_a_slab)

#define FUNCTIONS(pointer)                                                                                             \
    static void free_of_##pointer(bool fault)                                                                          \
    {                                                                                                                  \
        pointer(&takers[0], fault);                                                                                    \
    }                                                                                                                  \
    static void realloc_of_##pointer(bool fault)                                                                       \
    {                                                                                                                  \
        pointer(&takers[1], fault);                                                                                    \
    }                                                                                                                  \
    static void usable_size_of_##pointer(bool fault)                                                                   \
    {                                                                                                                  \
        pointer(&takers[2], fault);                                                                                    \
    }                                                                                                                  \
    static void try_expand_of_##pointer(bool fault)                                                                    \
    {                                                                                                                  \
        pointer(&takers[3], fault);                                                                                    \
    }                                                                                                                  \
    static void free_sized_of_##pointer(bool fault)                                                                    \
    {                                                                                                                  \
        pointer(&takers[4], fault);                                                                                    \
    }                                                                                                                  \
    static void free_batch_of_##pointer(bool fault)                                                                    \
    {                                                                                                                  \
        pointer(&takers[5], fault);                                                                                    \
    }
POINTERS(FUNCTIONS)

#define CASES(pointer)                                                                                                 \
    CASE(free_of_##pointer), CASE(realloc_of_##pointer), CASE(usable_size_of_##pointer),                               \
        CASE(try_expand_of_##pointer), CASE(free_sized_of_##pointer), CASE(free_batch_of_##pointer),

static const struct fault_case cases[] = {POINTERS(CASES)};

int main(int argc, char **argv)
{
    return fault_main(argc, argv, cases, COUNT(cases));
}
