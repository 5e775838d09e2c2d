/* SPDX-License-Identifier: MIT */
/* stack.h - call stacks: who called whom, which module that is in, and what lies at an address that is no block.
 *
 * The unwinder reads what the compiler says in .eh_frame, so code needs neither frame pointers nor debug information. A
 * frame of the usual form is boiled down to one word and remembered by its address: from then on a step costs a few
 * loads. Code that says nothing (a just-in-time compiler's) is followed by its frame pointers.
 *
 * Threads.   Any. No locks.
 * Signals.   Async-signal-safe; nothing here allocates by malloc, or takes the loader's lock.
 * Reads.     Of the stack nothing is read that the system hasn't said is there.
 * Orders.    O31 depot chunks and chains; O32, O33 the table of modules.
 */
#ifndef STACK_STACK_H
#define STACK_STACK_H

#include "base/base.h"
#include "os/os.h"

/* ---- capturing ---------------------------------------------------------------------------------------------- */

#define STACK_FRAMES_MOST 64u

/* The caller's own stack: where it called this, where it was called from, and so on. How many; at most n. */
NOINLINE size_t stack_capture(uintptr_t *pcs, size_t n);

/* The stack of an interrupted piece of code, as a signal handler is given it; the first is where it was. */
size_t stack_capture_from(const struct os_registers *registers, uintptr_t *pcs, size_t n);

/* ---- the depot ---------------------------------------------------------------------------------------------- */

/* Keeps a stack and gives its number; the same stack has the same one. 0: there is no memory for it, or n is 0. */
uint32_t stack_keep(const uintptr_t *pcs, size_t n);

/* The stack of that number; how many there are. pcs: room for STACK_FRAMES_MOST. */
size_t stack_recall(uint32_t number, uintptr_t *pcs);

/* What the depot takes of memory. */
size_t stack_depot_bytes(void);
/* The room's own memory, statics included: its words may look like the address of anything, and are none. */
void stack_each_books(int (*visit)(void *begin, size_t bytes, void *context), void *context);

/* ---- modules ------------------------------------------------------------------------------------------------ */

#define STACK_BUILD_ID_MOST 20u

struct stack_module {
    char path[256];
    uintptr_t offset; /* of the address, as the module's own tables count */
    unsigned char build_id[STACK_BUILD_ID_MOST];
    size_t build_id_bytes; /* 0: it has none */
};

/* The module that address lies in; false when there is none, or the platform can't tell. Slow: for reports. */
bool stack_module_at(uintptr_t address, struct stack_module *module);

/* ---- anything else ------------------------------------------------------------------------------------------ */

/* Says in a few words where address lies, fit for the end of "no block, ...":
 *
 *     on the stack                                of the calling thread, or of the first one
 *     in the code of PROGRAM, in the data of LIBRARY.so
 *     in the mapping of FILE                      a file that is no module
 *     in memory that allot did not give out       anonymous: another thread's stack, somebody's own mmap
 *     not mapped
 *     not allot's                                 where the platform can't tell
 *
 * buffer   n bytes of it, at least 1; the words are cut to fit and end in a NUL
 * returns  buffer
 */
const char *stack_describe(const void *address, char *buffer, size_t n);

#endif
