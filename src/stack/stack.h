/* SPDX-License-Identifier: MIT */
/* stack.h - what lies at an address that is no block: stacks, modules, files.
 *
 * Threads.   Any.
 * Signals.   Async-signal-safe; nothing here allocates.
 */
#ifndef STACK_STACK_H
#define STACK_STACK_H

#include <stddef.h>

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
