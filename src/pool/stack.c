/* SPDX-License-Identifier: MIT */
/* stack.c - the public lock-free stack: Treiber's, with the head's number and a version count in one word.
 *
 *     head   | 63 .. version .. 32 | 31 .. link number .. 0 |      link number: 16-byte steps from the base, plus 1
 *
 * A pop reads the top link's next, and then changes head by compare-and-swap. In between the link may be popped and
 * pushed again by others with another next: each change moves the version on, so that the compare-and-swap fails.
 *
 * Orders.  OP9  The release of push pairs with the acquire in pop: the link's next, and what the pusher wrote to the
 *               element. A pop's compare-and-swap is part of the release sequences of the pushes before it.
 */
#include "base/atomic.h"
#include "map/map.h"

#include "allot/pool.h"

#define STEP 16
#define NUMBER(head) ((uint32_t)(head))
#define VERSION_ONE ((uint64_t)1 << 32)

static _Atomic uint64_t *word(const uint64_t *field)
{
    return (_Atomic uint64_t *)(uintptr_t)field;
}

static char *base_of(const allot_stack *stack)
{
    return (char *)(uintptr_t)stack + stack->base;
}

static allot_stack_link *link_of(const allot_stack *stack, uint64_t head)
{
    return (allot_stack_link *)(void *)(base_of(stack) + (size_t)(NUMBER(head) - 1) * STEP);
}

void allot_stack_init(allot_stack *stack, const void *base)
{
    stack->base = (int64_t)((uintptr_t)base - (uintptr_t)stack);
    store_relaxed(word(&stack->head), 0);
}

void allot_stack_push(allot_stack *stack, allot_stack_link *link)
{
    size_t distance = ptr_diff(link, base_of(stack));
    if (distance % STEP != 0 || distance / STEP >= UINT32_MAX) {
        fault_report(&(struct fault){
            .name = "invalid link", .address = link, .state = "out of reach of the stack's base", .fatal = true});
    }
    uint64_t head = load_relaxed(word(&stack->head)); /* relaxed: the compare-and-swap decides */
    uint64_t next;
    do {
        store_relaxed(word(&link->next), NUMBER(head)); /* relaxed: published by OP9 */
        next = ((head & ~(uint64_t)UINT32_MAX) + VERSION_ONE) | (uint32_t)(distance / STEP + 1);
    } while (!cas_weak_release(word(&stack->head), &head, next)); /* OP9 */
}

allot_stack_link *allot_stack_pop(allot_stack *stack)
{
    uint64_t head = load_acquire(word(&stack->head)); /* OP9 */
    for (;;) {
        if (NUMBER(head) == 0) {
            return NULL;
        }
        allot_stack_link *link = link_of(stack, head);
        /* Relaxed: current if head still is. If another thread owns the link by now, what is read here is not used. */
        uint64_t next = load_relaxed(word(&link->next)) & UINT32_MAX;
        next |= (head & ~(uint64_t)UINT32_MAX) + VERSION_ONE;
        if (cas_weak_acq_rel(word(&stack->head), &head, next)) { /* OP9 */
            return link;
        }
    }
}

int allot_stack_is_empty(const allot_stack *stack)
{
    return NUMBER(load_relaxed(word(&stack->head))) == 0;
}
