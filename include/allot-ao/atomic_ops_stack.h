/* SPDX-License-Identifier: MIT */
/* atomic_ops_stack.h - the stack of libatomic_ops, by its documented interface, always lock-free.
 *
 * An element is any object with a link field of type AO_t; the functions take and return pointers to that field. Link
 * with -lallot_ao instead of -latomic_ops_gpl. allot/pool.h has a stack that processes can share.
 */
#ifndef ALLOT_ATOMIC_OPS_STACK_H
#define ALLOT_ATOMIC_OPS_STACK_H

#include <stddef.h>
#include <stdint.h>

#if defined(__has_include)
#if __has_include(<atomic_ops.h>)
#include <atomic_ops.h> /* the programs that this is for may count on its operations */
#endif
#endif
#ifndef AO_t
#define AO_t size_t
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Also where the library was built without the other one's macro, such programs compile the same way. */
#define AO_STACK_IS_LOCK_FREE

/* The head and a version count, changed together; how they lie in the two words is the processor's matter. */
typedef struct AO_stack_t {
    volatile AO_t AO_version;
    volatile AO_t AO_ptr;
} __attribute__((aligned(2 * sizeof(AO_t)))) AO_stack_t;

/* clang-format off */
#define AO_STACK_INITIALIZER {0, 0}
/* clang-format on */

/* For debugging, and for lists that nobody changes any more. */
#define AO_REAL_HEAD_PTR(list) AO_stack_head_ptr(&(list))
#define AO_REAL_NEXT_PTR(link) ((AO_t *)(link))

/* AO_stack_init - make an empty stack.
 *
 *   progress    wait-free
 *   threads     one, before others use it
 *   signals     safe
 *   fork        usable in the child at once
 *   errors      none
 */
void AO_stack_init(AO_stack_t *list);

/* AO_stack_push_release - put an element on top. What was written before is seen by who pops it.
 *
 *   progress    lock-free
 *   threads     any. The element must stay readable while a pop may be under way that saw it
 *   signals     safe, at any moment and depth
 *   fork        usable in the child at once
 *   errors      none
 */
void AO_stack_push_release(AO_stack_t *list, AO_t *new_element);

/* AO_stack_pop_acquire - take the top element; NULL when there is none.
 *
 *   progress    lock-free
 *   threads     any
 *   signals     safe, at any moment and depth
 *   fork        usable in the child at once
 *   errors      none
 */
AO_t *AO_stack_pop_acquire(volatile AO_stack_t *list);

/* AO_stack_head_ptr - the top element, which stays where it is; NULL when there is none.
 *
 *   progress    wait-free
 *   threads     any; while others push and pop, it may be gone by the time it is returned
 *   signals     safe, at any moment and depth
 *   fork        usable in the child at once
 *   errors      none
 */
AO_t *AO_stack_head_ptr(const AO_stack_t *list);

/* AO_stack_is_lock_free - 1.
 *
 *   threads, signals, fork: always safe.  errors: none
 */
int AO_stack_is_lock_free(void);

#define AO_HAVE_stack_push_release
#define AO_HAVE_stack_push
#define AO_HAVE_stack_pop_acquire
#define AO_HAVE_stack_pop
#define AO_stack_push(list, element) AO_stack_push_release(list, element)
#define AO_stack_pop(list) AO_stack_pop_acquire(list)

#ifdef __cplusplus
}
#endif
#endif
