/* SPDX-License-Identifier: MIT */
/* ao_stack.c - the stack of atomic_ops_stack.h: elements anywhere, so head and version need a word each.
 *
 *     x86-64, arm64    both words change in one instruction, or one exclusive pair; a version never wraps in practice
 *     32-bit targets   both words are 64 bits together
 *     others           one word: the address without the 3 bits that are zero and the 16 that user addresses leave,
 *                      and a version of 19 bits
 *
 * Orders.  AO1  The release of push pairs with the acquire of pop: the link, and what the pusher wrote to the element.
 */
#include "base/atomic.h"
#include "base/base.h"

#include "atomic_ops_stack.h"

#define EXPORT __attribute__((visibility("default")))

struct head {
    uintptr_t version;
    uintptr_t link;
};

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SEES_ATOMICS_ONLY 1
#endif
#elif defined(__SANITIZE_THREAD__)
#define SEES_ATOMICS_ONLY 1
#endif

/* The thread sanitizer doesn't see what assembly orders. */
#if !defined(SEES_ATOMICS_ONLY) && ((defined(__x86_64__) && !defined(__ILP32__)) || defined(__aarch64__))
#define TWO_WORDS 1
#else
#define TWO_WORDS 0
#endif

#if TWO_WORDS

static struct head head_load(volatile AO_stack_t *list)
{
    /* AO1 acquire. Two loads: a pair that never was makes the compare-and-swap fail, for versions only grow. */
    struct head head;
    head.version = load_acquire((volatile _Atomic uintptr_t *)&list->AO_version);
    head.link = load_acquire((volatile _Atomic uintptr_t *)&list->AO_ptr);
    return head;
}

/* AO1: acquires and releases. */
static bool head_cas(volatile AO_stack_t *list, struct head *expected, struct head desired)
{
    bool done;
#if defined(__x86_64__)
    __asm__ volatile("lock cmpxchg16b %1"
                     : "=@ccz"(done), "+m"(*list), "+a"(expected->version), "+d"(expected->link)
                     : "b"(desired.version), "c"(desired.link)
                     : "memory");
#else
    struct head found;
    uint32_t failed;
    __asm__ volatile(
        "1:  ldaxp %[v], %[l], %[list]\n"
        "    cmp   %[v], %[ev]\n"
        "    ccmp  %[l], %[el], #0, eq\n"
        "    b.ne  2f\n"
        "    stlxp %w[failed], %[dv], %[dl], %[list]\n"
        "    cbnz  %w[failed], 1b\n"
        "    b     3f\n"
        "2:  clrex\n"
        "    mov   %w[failed], #1\n"
        "3:"
        : [v] "=&r"(found.version), [l] "=&r"(found.link), [failed] "=&r"(failed), [list] "+Q"(*list)
        : [ev] "r"(expected->version), [el] "r"(expected->link), [dv] "r"(desired.version), [dl] "r"(desired.link)
        : "cc", "memory");
    done = failed == 0;
    *expected = done ? *expected : found;
#endif
    return done;
}

#else

#define VERSION_BITS (sizeof(uintptr_t) == 4 ? 32 : 19)

static _Atomic uint64_t *word_of(volatile AO_stack_t *list)
{
    return (_Atomic uint64_t *)(uintptr_t)list; /* the first of the two, or both where they are 32 bits */
}

static uint64_t pack(struct head head)
{
    uint64_t link = sizeof(uintptr_t) == 4 ? head.link : head.link >> 3;
    return link << VERSION_BITS | (head.version & (((uint64_t)1 << VERSION_BITS) - 1));
}

static struct head unpack(uint64_t word)
{
    uintptr_t link = (uintptr_t)(word >> VERSION_BITS);
    return (struct head){.version = (uintptr_t)(word & (((uint64_t)1 << VERSION_BITS) - 1)),
                         .link = sizeof(uintptr_t) == 4 ? link : link << 3};
}

static struct head head_load(volatile AO_stack_t *list)
{
    return unpack(load_acquire(word_of(list))); /* AO1 */
}

static bool head_cas(volatile AO_stack_t *list, struct head *expected, struct head desired)
{
    uint64_t word = pack(*expected);
    bool done = cas_acq_rel(word_of(list), &word, pack(desired)); /* AO1 */
    *expected = unpack(word);
    return done;
}

#endif

EXPORT void AO_stack_init(AO_stack_t *list)
{
    list->AO_version = 0;
    list->AO_ptr = 0;
}

EXPORT void AO_stack_push_release(AO_stack_t *list, AO_t *new_element)
{
    _Atomic AO_t *link = (_Atomic AO_t *)new_element;
    struct head head = head_load(list);
    struct head next;
    do {
        store_relaxed(link, (AO_t)head.link); /* relaxed: published by AO1 */
        next = (struct head){.version = head.version + 1, .link = (uintptr_t)new_element};
    } while (!head_cas(list, &head, next));
}

EXPORT AO_t *AO_stack_pop_acquire(volatile AO_stack_t *list)
{
    struct head head = head_load(list);
    struct head next;
    do {
        if (head.link == 0) {
            return NULL;
        }
        /* Relaxed: current if the head still is; otherwise what was read is not used. */
        next.link = (uintptr_t)load_relaxed((_Atomic AO_t *)head.link);
        next.version = head.version + 1;
    } while (!head_cas(list, &head, next));
    return (AO_t *)head.link;
}

EXPORT AO_t *AO_stack_head_ptr(const AO_stack_t *list)
{
    return (AO_t *)head_load((volatile AO_stack_t *)(uintptr_t)list).link;
}

EXPORT int AO_stack_is_lock_free(void)
{
    return 1;
}
