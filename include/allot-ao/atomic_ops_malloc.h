/* SPDX-License-Identifier: MIT */
/* atomic_ops_malloc.h - AO_malloc of libatomic_ops, by its documented interface, on allot's pool.
 *
 * Always lock-free, so none of the documented restrictions apply: any number of threads may stop, handlers may nest, and
 * no lock is needed around calls outside of handlers. Link with -lallot_ao instead of -latomic_ops_gpl. AO_malloc(3).
 */
#ifndef ALLOT_ATOMIC_OPS_MALLOC_H
#define ALLOT_ATOMIC_OPS_MALLOC_H

#include "atomic_ops_stack.h"

#ifdef __cplusplus
extern "C" {
#endif

#define AO_MALLOC_IS_LOCK_FREE

/* AO_malloc - take a block aligned to 16, of any size that the static area (2 MiB) can hold.
 *
 *   progress    lock-free. No system call, but by AO_malloc_enable_mmap
 *   threads     any
 *   signals     safe, at any moment and depth
 *   fork        usable in the child at once, whatever made it
 *   errors      NULL; errno is kept
 */
void *AO_malloc(size_t size_bytes)
#if defined(__GNUC__)
    __attribute__((malloc, alloc_size(1)))
#endif
    ;

/* AO_free - give a block back; NULL does nothing.
 *
 *   progress    lock-free
 *   threads     any
 *   signals     safe, at any moment and depth
 *   fork        usable in the child at once
 *   errors      a double free or a pointer that is no block's: one line to standard error, and abort. errno is kept
 */
void AO_free(void *block);

/* AO_malloc_enable_mmap - let the memory grow by mappings, and blocks have any size. For good.
 *
 *   progress    wait-free
 *   threads     any
 *   signals     safe
 *   fork        the child inherits it
 *   errors      none
 */
void AO_malloc_enable_mmap(void);

#ifdef __cplusplus
}
#endif
#endif
