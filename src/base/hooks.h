/* SPDX-License-Identifier: MIT */
/* hooks.h - how news travels upward: what the heap and the reports ask of the rooms above them.
 *
 * Where all goes through the hooks, every heap's lists are empty to the fast path, so nothing is tested there.
 * Otherwise the slow path asks now and then, when a block is due to be sampled. The rooms below know this table alone.
 *
 * Threads.   Any. The table is constant, and is set once.
 * Orders.    O34
 */
#ifndef BASE_HOOKS_H
#define BASE_HOOKS_H

#include "base/atomic.h"
#include "base/base.h"

struct fault;

/* By which names a block was taken, or is given back. */
enum block_kind {
    KIND_MALLOC, /* the malloc family, aligned or not */
    KIND_NEW,
    KIND_NEW_ARRAY,
    KIND_NEW_ALIGNED,
    KIND_NEW_ARRAY_ALIGNED
};

#define HOOK_SIZE_UNKNOWN SIZE_MAX

struct hook_take {
    size_t bytes; /* anything */
    size_t align;
    enum block_kind kind;
    bool zero; /* the block is to hold zeros */
};

/* What whoever gives a block back says of it. */
struct hook_give {
    enum block_kind kind;
    size_t bytes; /* or HOOK_SIZE_UNKNOWN */
    size_t align; /* or 0 */
};

/* A block that the hooks hold themselves. */
struct hook_block {
    char *begin;
    size_t bytes;
    bool live;
};

struct hooks {
    bool all; /* every block is taken and given through the hooks */
    /* NULL with all: memory is refused, errno is set. Otherwise: the heap serves. */
    void *(*take)(const struct hook_take *wanted);
    /* False: the pointer is the heap's business, a fault in it included. */
    bool (*give)(void *p, const struct hook_give *said);
    /* The same, answering through result. */
    bool (*resize)(void *p, size_t bytes, void **result);
    bool (*usable)(const void *p, size_t *result);
    /* Of an address in a granule tagged MAP_CODE_GUARD. */
    bool (*locate)(const void *p, struct hook_block *block);
    /* Whether a block that the heap takes for live has been freed by the program. */
    bool (*is_freed)(const void *block);
    /* How many blocks may go by until the next is due. */
    int32_t (*until_sample)(void);
    void (*fork_child)(void);
    /* A fault is about to be reported: false to pass it over, which what is fatal can't be. */
    bool (*is_wanted)(const struct fault *fault);
    /* Its line is written, and stands here without its newline. */
    void (*tell)(const struct fault *fault, const char *line);
    /* Nobody has asked to go on: whether to do so all the same. Otherwise it may end the process in its own way. */
    bool (*goes_on)(const struct fault *fault);
};

extern _Atomic(const struct hooks *) hooks_set; /* NULL: nobody listens */

INLINE const struct hooks *hooks_now(void)
{
    return load_acquire(&hooks_set); /* O34: what the hooks need was made ready before they were set */
}

/* Defined by the room that has hooks to set, called when options are there and no block has been given out yet. Where
 * no such room is linked there is none. */
__attribute__((weak)) void hooks_start(void);

#endif
