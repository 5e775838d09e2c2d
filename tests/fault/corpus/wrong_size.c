/* SPDX-License-Identifier: MIT */
/* wrong_size.c - C23's frees are told a size or an alignment that isn't the block's. */
#include "corpus.h"

#include <dlfcn.h>

#define FAMILY "wrong_size"

static void (*free_sized_if_any)(void *block, size_t size);
static void (*free_aligned_sized_if_any)(void *block, size_t alignment, size_t size);

static void *find(const char *name)
{
    void *function = dlsym(RTLD_DEFAULT, name);
    if (function == NULL) {
        not_here("this libc doesn't have it yet");
    }
    return function;
}

static void sized(bool fault, size_t asked, size_t told)
{
    *(void **)&free_sized_if_any = find("free_sized");
    void *block = watch(malloc(asked), asked);
    if (fault) {
        misuse(0, "live");
    }
    free_sized_if_any(block, fault ? told : asked);
}

static void one_too_large(bool fault)
{
    sized(fault, 100, 101);
}

static void one_too_small(bool fault)
{
    sized(fault, 100, 99);
}

static void twice_as_large(bool fault)
{
    sized(fault, 100, 200);
}

static void nothing(bool fault)
{
    sized(fault, 1000, 0);
}

static void the_size_of_a_pointer(bool fault)
{
    sized(fault, 1000, sizeof(void *));
}

static void too_small_for_a_large_block(bool fault)
{
    sized(fault, 1000000, 100);
}

static void aligned(bool fault, size_t alignment, size_t size)
{
    *(void **)&free_aligned_sized_if_any = find("free_aligned_sized");
    void *block = NULL, *others[64];
    size_t n = 0;
    do { /* some are aligned to more by chance */
        others[n++] = block;
        block = aligned_alloc(64, 192);
    } while (n < 64 && (uintptr_t)block % 4096 == 0);
    watch(block, 192);
    if (fault) {
        misuse(0, "live");
    }
    free_aligned_sized_if_any(block, fault ? alignment : 64, fault ? size : 192);
    while (n > 0) {
        free(others[--n]);
    }
}

static void an_alignment_it_has_not(bool fault)
{
    aligned(fault, 4096, 192);
}

static void an_alignment_it_was_not_asked_for(bool fault)
{
    aligned(fault, 32, 192);
}

static void aligned_and_too_large(bool fault)
{
    aligned(fault, 64, 100000);
}

static const struct fault_case cases[] = {
    FAULT(one_too_large, WRONG_SIZE, SILENT, NAMED, NAMED, NAMED), /* by default a block has the size of its class */
    FAULT(one_too_small, WRONG_SIZE, SILENT, NAMED, NAMED, NAMED),
    FAULT(twice_as_large, WRONG_SIZE, NAMED, NAMED, NAMED, NAMED),
    FAULT(nothing, WRONG_SIZE, NAMED, NAMED, NAMED, NAMED),
    FAULT(the_size_of_a_pointer, WRONG_SIZE, NAMED, NAMED, NAMED, NAMED),
    FAULT(too_small_for_a_large_block, WRONG_SIZE, NAMED, NAMED, SILENT, NAMED),
    FAULT(an_alignment_it_has_not, WRONG_SIZE, NAMED, NAMED, NAMED, NAMED),
    FAULT(an_alignment_it_was_not_asked_for, WRONG_SIZE, SILENT, NAMED, NAMED, NAMED),
    FAULT(aligned_and_too_large, WRONG_SIZE, NAMED, NAMED, NAMED, NAMED),
};

const struct fault_family wrong_size = FAMILY_OF(cases);
