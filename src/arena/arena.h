/* SPDX-License-Identifier: MIT */
/* arena.h - what other rooms may ask of the arenas. What arenas are: allot/arena.h; how they work: arena_internal.h.
 *
 * All memory of all arenas stands in the map's table of ranges (map_range_find), so any address can be asked whether it
 * lies in an arena, without a lock. A tree leads to all arenas.
 *
 * For a leak search or a collector: memory that an arena has from the heap is a live block of the heap, of which nobody
 * but the arena has a pointer. So such a search begins with arena_walk_live: what it visits are the roots (all that
 * the program has in arenas that live), and heap blocks for which arena_owns_memory says yes are neither leaks nor
 * roots: what is live in them has been visited already.
 */
#ifndef ARENA_ARENA_H
#define ARENA_ARENA_H

#include "base/base.h"

#include <allot/arena.h>

/* The block of an arena that covers an address, any 64-bit value. False when that lies in no arena. info->exact says
 * whether another thread was changing the arena. Takes no lock; async-signal-safe. */
bool arena_query(const void *p, allot_info *info);

/* Visits the live blocks of all arenas; in a bump arena what has been cut is one block a piece of memory. Allocates
 * nothing. Takes no lock: other threads are stopped, at any instruction, or the answer is near. A value other than 0
 * ends it. */
int arena_walk_live(int (*visit)(const void *begin, size_t bytes, const allot_arena *arena, void *context),
                    void *context);

/* Visits all arenas, parents before children. Takes no lock, as arena_walk_live. */
int arena_each(int (*visit)(allot_arena *arena, unsigned depth, void *context), void *context);

/* Whether a heap block, by any address in it, is memory or books of an arena. Takes no lock. */
bool arena_owns_memory(const void *p);

/* What an arena says to somebody who only looks: it takes the lock of the tree, so that no arena ends meanwhile, and
 * none of an arena's own; what changes under it is told near. Visits those from number first on, most of them at most;
 * how many there were. Not for threads that hold the tree's lock. */
struct arena_seen {
    unsigned depth;
    uint64_t serial;
    allot_arena_kind kind;
    size_t size_bytes, live_bytes, total_bytes, soft_limit, hard_limit;
    size_t n_segments;
    bool sealed;
    const char *file; /* NULL: not known */
    int line;
    char name[32];
};
size_t arena_look(size_t first, struct arena_seen *out, size_t most);

/* What <allot/root.h> says of arenas. */
extern const struct allot_root_arena arena_root;
/* The room's own words that lead to arenas: for a search they are none of the program's. */
const void *arena_statics(size_t *bytes);

/* Start-up, from the first constructor: what fork needs. */
void arena_start(void);

/* The calling thread ends: its own free blocks go back to the arenas. */
void arena_thread_exit(void);

#endif
