/* SPDX-License-Identifier: MIT */
/* gc.h - mappings that unmap themselves when nothing points into them, and blocks that nothing points to.
 *
 *     regions, reserved in steps      | live | live | ghost | live | free ...................... |
 *     pieces, by address                 ^      ^      a mapping has one piece, more after a part was unmapped
 *
 *     collect:  lock, stop the other threads, look at every word that could hold a pointer, let them go, unlock;
 *               then, mapping by mapping: finalizer, sync, reserve the range again
 *
 * Idea.        All mappings lie in regions of their own. "Could this word point into one" is a subtraction and a
 * compare with the hull of all regions, so a search runs at the speed of memory; only a word that passes is looked up.
 * And only then is it asked where the word itself lies: in a free block, it doesn't count. So nobody has to find the
 * live blocks beforehand: all private memory that was written to is looked through, whoever made it, less the room's
 * own books, the pool's free blocks and what lies below the stack pointers. Invariants.  G1  Pieces tile the regions,
 * without gap and overlap, in the order of their addresses. G2  What is in a region is always mapped: by a live
 * mapping, or reserved. A piece that is lost (a mapping failed half way, and somebody else has the addresses now) is
 * never touched again. G3  No word in scanned memory is a mapping's address because of the room: its books are its own
 * mappings, and its statics lead there alone. G4  Finalizers and the error handler run without the lock and with all
 * threads running. Threads.     Any. One lock (gc_lock) guards all but what gc_query, weak references and the fault
 * handler read. Signals.     gc_query and weak references are async-signal-safe; the rest is not. Fork.        The lock
 * is taken around a fork: the child has all of it. _Fork while another thread is inside leaves the child's lock taken.
 * Orders.      docs/CONCURRENCY.md, OG.
 */
#ifndef GC_GC_H
#define GC_GC_H

#include <allot/allot.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gc_answer {
    const void *begin; /* NULL: in no mapping that is or was */
    size_t bytes;
    bool live;
};
/* What is this address? */
void gc_query(const void *address, struct gc_answer *answer);

/* Where the caller's own frames begin, at the top of a function that somebody else called: what lies below, the
 * function's own variables too, is full of what others have left there. The registers that a call preserves are saved
 * right below the frame pointer. */
#if defined(__x86_64__)
#define SAVED_BYTES (6 * sizeof(uintptr_t))
#else
#define SAVED_BYTES 0
#endif
#define STACK_HERE() (__builtin_unwind_init(), (uintptr_t)__builtin_frame_address(0) - SAVED_BYTES)

/* ---- leaks -------------------------------------------------------------------------------------------------- */

enum gc_leak_kind { GC_LEAK_DEFINITE, GC_LEAK_INDIRECT, GC_LEAK_POSSIBLE, GC_LEAK_REACHABLE, GC_LEAK_KINDS };

struct gc_leak {
    const void *begin; /* of a block or a mapping, or an arena's handle. It may be freed by now */
    size_t bytes;
    allot_room room;
    enum gc_leak_kind kind;
    uintptr_t words[2]; /* the first of a block, as they were */
};
typedef void (*gc_leak_fn)(const struct gc_leak *leak, void *context);

struct gc_leaks_told {
    uint64_t pause_ns;
    size_t n_passed;      /* threads that slept and blocked the signal: their registers were not looked at */
    unsigned long thread; /* that could not be read */
    const char *why;      /* there is no answer */
};

/* Stops the other threads, finds what nothing points to, lets them go, and then visits each find, in no order; the
 * visitor may allocate. stack: from STACK_HERE. 0, or a positive errno: nothing was visited, and told says why. */
int gc_leaks(uintptr_t stack, bool with_reachable, gc_leak_fn visit, void *context, struct gc_leaks_told *told);

/* Who can tell the stack that a block was taken by: its number in the depot, 0 for unknown. Set once, at start. */
void gc_set_stacks(uint32_t (*stack_of)(const void *block));

/* A frame of a stack, as far as it is known; NULL: it isn't. */
struct gc_frame {
    const char *function;
    const char *file;
    const char *module;
};
#define GC_FRAMES_MOST 16u
/* Whether a suppression (allot/leak.h) matches the stack that a leak was allocated by, innermost frame first. */
bool gc_suppressed(enum gc_leak_kind kind, const struct gc_frame *frames, size_t n);

/* The leak check of ALLOT_OPTIONS=leaks, to standard error. Whether something is definitely lost. */
bool gc_leaks_print(void);

#endif
