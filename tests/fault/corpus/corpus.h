/* SPDX-License-Identifier: MIT */
/* corpus.h - the faults that programs make with memory, a case each. No allocator's own calls are used, so the same
 * program runs on any malloc and under any tool.
 *
 * A case watches the block that it will misuse, says where, and does it:
 *
 *     char *block = watch(malloc(24), 24);
 *     free(block);
 *     if (fault) {
 *         misuse(0, "free");
 *         free(block);
 *     }
 *
 * Then it does what a program would: frees what is left. Afterwards go_on() looks whether the heap is whole.
 * The columns of its row say what comes of it: by default, in check mode with guard pages and without, and with every
 * block sampled.
 */
#ifndef TESTS_FAULT_CORPUS_H
#define TESTS_FAULT_CORPUS_H

#include "../case.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fault_family {
    const struct fault_case *cases;
    size_t n_cases;
};

/* Each file's cases are named FAMILY.function. */
#define FAULT(function, error, by_default, checked, unguarded, sampled)                                                \
    {                                                                                                                  \
        FAMILY "." #function, function, error,                                                                         \
        {                                                                                                              \
            by_default, checked, unguarded, sampled                                                                    \
        }                                                                                                              \
    }
#define FAMILY_OF(cases)                                                                                               \
    {                                                                                                                  \
        cases, sizeof(cases) / sizeof(cases)[0]                                                                        \
    }

#define DOUBLE_FREE "double free"
#define INVALID_FREE "invalid free"
#define USE_AFTER_FREE "use after free"
#define BUFFER_OVERFLOW "buffer overflow"
#define BUFFER_UNDERFLOW "buffer underflow"
#define MISMATCHED "mismatched deallocation"
#define WRONG_SIZE "wrong size"
#define UNINITIALISED "uninitialised read"
#define LEAK "leak"

#ifdef __cplusplus
extern "C" {
#endif

extern const struct fault_family double_free, invalid_free, overflow, after_free, wrong_size, uninitialised, leak,
    cplusplus;

/* The block that the case is about, with the size it was asked for. Returns it, as if from nowhere. */
void *watch(void *block, size_t size);
/* What the compiler knows nothing about. */
void *hidden(const void *pointer);
size_t unknown(size_t n);

/* The misuse follows: at that offset of the watched block, which is in that state (an extended regular expression). */
void misuse(ptrdiff_t offset, const char *state);
/* At an address that belongs to no block. place says where that is: an extended regular expression. */
void misuse_outside(const void *address, const char *place);
/* At that address, wherever that is: what was there before may be forgotten. */
void misuse_of(const void *address);
/* The name in the line, when that is more exact than the error's: an extended regular expression. */
void named(const char *name);
/* The line may come from any thread. */
void by_any_thread(void);

/* One byte, read or written. */
void read_byte(const void *address);
void write_byte(void *address);
/* n bytes, from the first on: memset may begin at either end. */
void write_bytes(void *address, size_t n);

/* Takes blocks of that size and frees them again: so many that whatever was free comes up. */
void take_many(size_t size);
/* What an innocent program does next: leaves with EXIT_DAMAGED when the heap no longer keeps what it promises. */
void go_on(void);
/* Nothing of what was there before stays in registers or on the stack. */
void forget(void);

#ifdef __cplusplus
}
#endif
#endif
