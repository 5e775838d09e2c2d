/* SPDX-License-Identifier: MIT */
/* pool.h - memory where nothing may lock: in signal handlers, and in code that knows no thread library.
 *
 * Every function here is lock-free in the strict sense: any number of threads (or processes, on a pool in shared
 * memory) may be stopped at any instruction for good, and the others go on. Handlers may interrupt each other without
 * limit. The first call may come from a handler. errno is kept, also when NULL is returned.
 *
 * Threads are those that libc knows: while it says that there is one, the static pools don't lock the bus. A thread made by
 * a bare clone, behind libc's back, may use private pools alone.
 *
 * The labels of the comments are those of allot.h, and
 *   progress  "wait-free": a bounded number of steps, whatever others do; "lock-free": some call always gets on, so a
 *             step is repeated only because another call succeeded
 *
 * The public pool is a static area of 2 MiB (the build option ALLOT_POOL_BYTES) and makes no system call until
 * allot_pool_enable_mmap. Blocks up to 4 KiB come in sizes at most 25 % above what was asked (from 64 bytes on), larger
 * ones in whole KiB, and large ones in a pool that grows have mappings of their own.
 */
#ifndef ALLOT_POOL_H
#define ALLOT_POOL_H

#include "allot/allot.h"

#ifdef __cplusplus
extern "C" {
#endif

/* True on every target that allot builds for: one without a 64-bit compare-and-swap is refused at compile time. */
#define ALLOT_POOL_IS_LOCK_FREE 1

/* ---- the public pool ---------------------------------------------------------------------------------------- */

/* allot_pool_malloc - take a block.
 *
 *   returns     a block of at least size_bytes, aligned to 16, contents unspecified; NULL when there is none. 0 gives
 *               a block of its own
 *   progress    lock-free. No system call, but by allot_pool_enable_mmap
 *   threads     any
 *   signals     safe, at any moment and depth
 *   fork        usable in the child at once, whatever made it
 *   errors      NULL; errno is kept
 */
ALLOT_API void *allot_pool_malloc(size_t size_bytes) ALLOT_MALLOC ALLOT_SIZE(1);

/* allot_pool_calloc - take a zeroed array.
 *
 *   progress, threads, signals, fork: as allot_pool_malloc
 *   errors      NULL, also when the product overflows; errno is kept
 */
ALLOT_API void *allot_pool_calloc(size_t n, size_t item_bytes) ALLOT_MALLOC ALLOT_SIZE(1, 2);

/* allot_pool_realloc - change a block's size; it may move.
 *
 *   block       a block of the public pool, or NULL: then it is allot_pool_malloc
 *   size_bytes  0 frees the block and returns NULL
 *   returns     the block, with the contents that fit; NULL: refused, the old block untouched
 *   progress, signals, fork: as allot_pool_malloc
 *   threads     any, but not at the same time as another use of the block
 *   errors      NULL; misuse: use of a freed block, invalid pointer. errno is kept
 */
ALLOT_API void *allot_pool_realloc(void *block, size_t size_bytes) ALLOT_NODISCARD ALLOT_SIZE(2);

/* allot_pool_aligned_alloc - take a block at a multiple of alignment, a power of two.
 *
 *   progress, threads, signals, fork: as allot_pool_malloc
 *   errors      NULL, also for a bad alignment; errno is kept
 */
ALLOT_API void *allot_pool_aligned_alloc(size_t alignment, size_t size_bytes) ALLOT_MALLOC ALLOT_SIZE(2) ALLOT_ALIGN(1);

/* allot_pool_free - give a block back; NULL does nothing.
 *
 *   block       a block of the public pool. free and allot_free take such blocks too
 *   progress    lock-free. A system call only for blocks and pages that allot_pool_enable_mmap brought
 *   threads     any; the freeing thread need not be the allocating one
 *   signals     safe, at any moment and depth
 *   fork        usable in the child at once
 *   errors      misuse: double free, invalid free (interior, foreign or wild pointer). errno is kept
 */
ALLOT_API void allot_pool_free(void *block);

/* allot_pool_usable_size - how many bytes of a block may be used; 0 for NULL.
 *
 *   progress    wait-free
 *   threads     any
 *   signals     safe
 *   fork        usable in the child at once
 *   errors      misuse: not a live block
 */
ALLOT_API size_t allot_pool_usable_size(const void *block);

/* allot_pool_owns - 1 when the address, any 64-bit value, lies in the public pool's memory.
 *
 *   progress    wait-free
 *   threads     any
 *   signals     safe
 *   fork        usable in the child at once
 *   errors      none
 */
ALLOT_API int allot_pool_owns(const void *address);

/* allot_pool_enable_mmap - let the public pool grow by mappings, and blocks have any size. For good.
 *
 * On Linux the calls that are then made in handlers (mmap, munmap, madvise) are plain system calls and safe there. On
 * other systems that is likely but not promised by them: reserve memory ahead instead.
 *
 *   progress    wait-free
 *   threads     any
 *   signals     safe
 *   fork        the child inherits it
 *   errors      none
 */
ALLOT_API void allot_pool_enable_mmap(void);

/* allot_pool_mmap_enabled - 1 after allot_pool_enable_mmap.
 *
 *   progress    wait-free
 *   threads, signals, fork: always safe.  errors: none
 */
ALLOT_API int allot_pool_mmap_enabled(void);

/* allot_pool_reserve - touch free memory ahead, so that handlers needn't wait for pages.
 *
 * In a pool that grows, memory is added until there is enough, and is kept for good: what is free within it doesn't go
 * back to the OS.
 *
 *   returns     how many free bytes are ready, counted in whole 64 KiB; less than asked when memory ran out
 *   progress    lock-free
 *   threads     any
 *   signals     safe
 *   fork        the child's pages are copied on write as usual: call it again there
 *   errors      by the return value
 */
ALLOT_API size_t allot_pool_reserve(size_t size_bytes);

/* allot_pool_trim - give free memory of the public pool back to the OS now; its static area stays.
 *
 *   returns     how many bytes went back
 *   progress    lock-free
 *   threads     any
 *   signals     safe
 *   fork        usable in the child at once
 *   errors      none
 */
ALLOT_API size_t allot_pool_trim(void);

typedef struct allot_pool_report {
    size_t abi_size;     /* in: sizeof(allot_pool_report), by ALLOT_POOL_REPORT_INIT */
    size_t memory_bytes; /* that blocks are cut from: the area, what it grew by, large blocks' mappings */
    size_t n_live_blocks;
    size_t live_bytes; /* usable bytes of live blocks */
    size_t free_bytes;
    size_t n_mappings; /* large blocks with a mapping of their own, live */
    size_t mapping_bytes;
    size_t purged_bytes; /* given back to the OS since the start */
} allot_pool_report;

/* clang-format off */
#define ALLOT_POOL_REPORT_INIT {sizeof(allot_pool_report), 0, 0, 0, 0, 0, 0, 0}
/* clang-format on */

/* allot_pool_stats - the public pool's figures, counted now.
 *
 *   returns     0; EINVAL when report is NULL or of an unknown size
 *   progress    wait-free, but long: all books are read
 *   threads     any; near while others run, exact when they don't
 *   signals     safe
 *   fork        usable in the child at once
 *   errors      by the return value
 */
ALLOT_API int allot_pool_stats(allot_pool_report *report);

/* ---- private pools ------------------------------------------------------------------------------------------ */

/* A pool in memory that the caller gives, with its books in that memory too and no pointers among them: processes that
 * share the memory may have it at different addresses. It doesn't grow and makes no system call. Whoever has the
 * pool's memory may change its books: share it with nobody who may not crash you. */
typedef struct allot_pool allot_pool;

#define ALLOT_POOL_BYTES_LEAST 16384

/* allot_pool_create - make a pool of a buffer.
 *
 *   buffer      aligned to 64; the pool is it. To have done with the pool, have done with the buffer
 *   bytes       at least ALLOT_POOL_BYTES_LEAST, at most 1 TiB
 *   out         set on success
 *   returns     0; EINVAL for a buffer that can't be one
 *   progress    wait-free
 *   threads     one, before others use it
 *   signals     safe
 *   fork        shared with the child if the buffer is
 *   errors      by the return value
 */
ALLOT_API int allot_pool_create(void *buffer, size_t bytes, allot_pool **out);

/* allot_pool_attach - the pool that another process (or an earlier mapping of a file) made of the same memory.
 *
 *   returns     0; EINVAL when no pool of that size is there; EAGAIN when it isn't ready yet
 *   progress    wait-free
 *   threads     any
 *   signals     safe
 *   fork        as allot_pool_create
 *   errors      by the return value
 */
ALLOT_API int allot_pool_attach(void *buffer, size_t bytes, allot_pool **out);

/* The functions of the public pool for a private one. Alignments above a page hold in the caller's address space.
 *
 *   progress    as for the public pool; never a system call
 *   threads     any, of any process that has the memory
 *   signals     safe
 *   fork        usable in the child at once
 *   errors      as for the public pool; a block of another pool is an invalid one
 */
ALLOT_API void *allot_pool_malloc_in(allot_pool *pool, size_t size_bytes) ALLOT_MALLOC ALLOT_SIZE(2);
ALLOT_API void *allot_pool_calloc_in(allot_pool *pool, size_t n, size_t item_bytes) ALLOT_MALLOC ALLOT_SIZE(2, 3);
ALLOT_API void *allot_pool_realloc_in(allot_pool *pool, void *block, size_t size_bytes) ALLOT_NODISCARD ALLOT_SIZE(3);
ALLOT_API void *allot_pool_aligned_alloc_in(allot_pool *pool, size_t alignment, size_t size_bytes) ALLOT_MALLOC
    ALLOT_SIZE(3) ALLOT_ALIGN(2);
ALLOT_API void allot_pool_free_in(allot_pool *pool, void *block);
ALLOT_API size_t allot_pool_usable_size_in(allot_pool *pool, const void *block);
ALLOT_API int allot_pool_owns_in(allot_pool *pool, const void *address);
ALLOT_API size_t allot_pool_reserve_in(allot_pool *pool, size_t size_bytes);
ALLOT_API int allot_pool_stats_in(allot_pool *pool, allot_pool_report *report);

/* allot_pool_offset, allot_pool_at - an address in the pool as a number that means the same in every process, and back.
 *
 *   returns     0 for NULL, and NULL for 0 and for numbers outside the pool
 *   progress    wait-free
 *   threads, signals, fork: always safe.  errors: allot_pool_offset gives 0 for an address outside the pool
 */
ALLOT_API size_t allot_pool_offset(allot_pool *pool, const void *address);
ALLOT_API void *allot_pool_at(allot_pool *pool, size_t offset);

/* allot_pool_set_root, allot_pool_root - one address that whoever attaches can ask for. What was written before
 * set_root is seen after root.
 *
 *   progress    wait-free
 *   threads, signals, fork: always safe.  errors: as allot_pool_offset
 */
ALLOT_API void allot_pool_set_root(allot_pool *pool, const void *address);
ALLOT_API void *allot_pool_root(allot_pool *pool);

/* ---- a lock-free stack -------------------------------------------------------------------------------------- */

/* A last-in-first-out list of links that lie in the caller's elements. A link's place in the list is a 32-bit number
 * of 16-byte steps from a base, so that the head and a version count of 32 bits share one word, and so that stack and
 * links may lie in memory that processes have at different addresses. */
typedef struct allot_stack {
    uint64_t head; /* only for the functions below */
    int64_t base;
} allot_stack;

typedef struct allot_stack_link {
    uint64_t next; /* only for the functions below, while the link is on a stack */
} allot_stack_link;

/* allot_stack_init - make an empty stack.
 *
 *   base        links will lie at base or up to 64 GiB - 32 behind it, at multiples of 16 from it
 *   progress    wait-free
 *   threads     one, before others use it
 *   signals     safe
 *   fork        shared with the child if its memory is
 *   errors      none
 */
ALLOT_API void allot_stack_init(allot_stack *stack, const void *base);

/* allot_stack_push - put a link on top. What was written before is seen by who pops it.
 *
 *   link        on no stack. Its memory must stay readable for as long as a pop may be under way that saw it
 *   progress    lock-free
 *   threads     any, of any process that has the memory
 *   signals     safe, at any moment and depth
 *   fork        usable in the child at once
 *   errors      misuse: a link out of reach of the base
 */
ALLOT_API void allot_stack_push(allot_stack *stack, allot_stack_link *link);

/* allot_stack_pop - take the top link; NULL when the stack is empty.
 *
 * A pop that was stopped for exactly a multiple of 2^32 changes of the stack, and finds the same link on top, could go
 * wrong: that is half a minute of the fastest use.
 *
 *   progress    lock-free
 *   threads     any, of any process that has the memory
 *   signals     safe, at any moment and depth
 *   fork        usable in the child at once
 *   errors      none
 */
ALLOT_API allot_stack_link *allot_stack_pop(allot_stack *stack);

/* allot_stack_is_empty - was it, at the moment of the call?
 *
 *   progress    wait-free
 *   threads, signals, fork: always safe.  errors: none
 */
ALLOT_API int allot_stack_is_empty(const allot_stack *stack);

#ifdef __cplusplus
}
#endif
#endif
