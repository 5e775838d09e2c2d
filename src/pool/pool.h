/* SPDX-License-Identifier: MIT */
/* pool.h - memory where nothing may lock: for signal handlers, and for code that knows no thread library.
 *
 *     pool --> segment (up to 4 MiB) --> unit (1 KiB)
 *                                         units in a row make a superblock (blocks of one class) or a run (one block)
 *
 * Every unit has an anchor word out of line; the first unit's anchor speaks for its superblock:
 *
 *     anchor   | 63 open | 62 ................. 0 |      bit i set: block i is free, and whoever clears it owns it
 *
 * Idea.        To allocate is to clear one bit by compare-and-swap, and only then to look at what one has got: a block
 *              that is owned pins its superblock, so its class can't change any more. Whoever came by an old hint and
 *              got a block of another class puts it back. So nothing has to be true of hints and bitmaps that lead to
 *              a superblock, no version counter is needed, and a thread that stops anywhere keeps one block at most,
 *              or the one superblock that it was making or taking apart.
 * Progress.    Lock-free: any number of threads may stop at any instruction for good, the rest go on.
 * Signals.     Everything here is async-signal-safe, nests without limit, and keeps errno.
 * Fork.        Usable in a child at once, whatever made it and whatever other threads were doing.
 * Reads with.  pool_internal.h for the structures and their invariants; docs/CONCURRENCY.md for the orders.
 */
#ifndef POOL_POOL_H
#define POOL_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pool;

/* The heap's: grows by mapping from the first call on. Every granule of it has a tag with MAP_CODE_POOL. */
extern struct pool pool_of_heap;
/* The public one: a static area, and no system call until the program lets it grow. */
extern struct pool pool_public;

/* From now on the pool grows by mapping. */
void pool_enable_growth(struct pool *pool);

/* A block of at least bytes at a multiple of align (a power of two; at least 16 is given). NULL when refused. Never
 * fails for want of anything but memory; a pool that grows gives any size. */
void *pool_malloc(struct pool *pool, size_t bytes, size_t align) __attribute__((warn_unused_result));

/* The same for memory that other processes may share. */
void *pool_malloc_shared(struct pool *pool, size_t bytes, size_t align) __attribute__((warn_unused_result));

/* Is a block that pool_malloc just returned zero already? */
bool pool_is_fresh(const void *block);

/* Does the address lie in memory of pool_of_heap or pool_public? By the map's tag, or the static area's range. */
bool pool_owns(const void *p);

/* Takes a block of either pool back; NULL does nothing. Misuse goes to fault_report; if that returns, nothing else
 * happens. */
void pool_free(void *p);

/* The usable size of a live block of either pool, with misuse reported under the name given; 0 then. */
size_t pool_usable(const void *p, const char *misuse);

/* A block of either pool gets another size, in the pool that it is from. NULL: refused or misuse, the block untouched.
 */
void *pool_realloc(void *p, size_t bytes) __attribute__((warn_unused_result));

struct pool_block {
    void *base;
    size_t bytes;
    bool live;
};

/* What covers the address? False when no block of either pool does. */
bool pool_query(const void *p, struct pool_block *out);

/* Visits every block of the pool, live and free. The visitor may not use the pool. Stops at a value other than 0. */
int pool_walk(struct pool *pool, int (*visit)(const struct pool_block *block, void *context), void *context);

/* Visits the memory that the pool's blocks lie in, live and free. Stops at a value other than 0. */
int pool_each_range(struct pool *pool, int (*visit)(void *begin, size_t bytes, void *context), void *context);
/* Visits every granule of the pool that has live blocks, and every large block, by its begin and granules. units: a bit
 * a KiB that is in use, of the first granule. */
struct pool_granule {
    void *begin;
    size_t bytes;
    uint64_t units;
    size_t n_live;
    size_t live_bytes; /* of blocks that begin here */
};
int pool_each_granule(struct pool *pool, int (*visit)(const struct pool_granule *granule, void *context), void *context);

/* Gives free memory back to the OS now. Returns the bytes. */
size_t pool_trim(struct pool *pool);

/* Bytes in segments and own mappings; bytes in live blocks. Near while others run. */
struct pool_figures {
    size_t n_live_blocks;
    size_t live_bytes;
    size_t free_bytes; /* in free blocks and free units */
    size_t n_segments;
    size_t segment_bytes;
    size_t n_mappings; /* large blocks with a mapping of their own */
    size_t mapping_bytes;
    size_t purged_bytes; /* given back to the OS since the start */
};
void pool_figures(struct pool *pool, struct pool_figures *out);

/* What <allot/root.h> says of pools. */
extern const struct allot_root_pool pool_root;

#endif
