/* SPDX-License-Identifier: MIT */
/* arena.h - memory with an owner: taken from a backend, handed out in blocks, given back one by one or all at once.
 *
 *     allot_arena *arena;
 *     if (allot_arena_create(0, NULL, &arena) == 0) {
 *         struct node *node = ALLOT_NEW(arena, struct node);
 *         ...
 *         allot_arena_destroy(arena);
 *     }
 *
 * Kinds, with one interface:
 *   general   blocks are freed in any order, in whole or in part; malloc and free take the same time however many
 *             blocks there are (ALLOT_FIT_FIRST and ALLOT_FIT_BEST take more)
 *   bump      blocks are cut one behind the other and freed all at once, or back to a mark
 *   scratch   a bump arena in a buffer of the caller's, that goes on in the heap when the buffer is full
 *
 * Blocks are aligned to 16 and have sizes in steps of 16. What an arena knows of its memory lies outside of it, so
 * malloc and free work while the memory is read-only, executable or inaccessible, and no stray write damages the books.
 *
 * The labels of the comments are those of allot.h. Here
 *   "misuse"      goes to the arena's error handler (allot_arena_set_error_handler), or to the process's when it has
 *                 none: one line on standard error, then abort unless the handler says otherwise. The faulty call then
 *                 does nothing and gives the error code that its comment names
 *   "one owner"   any thread, but no two at the same time on one arena, whatever its flags
 *   "shared"      any number of threads at once, unless the arena was made with ALLOT_ARENA_UNSYNCHRONIZED: then one
 *                 owner. A call may wait for another thread for as long as that needs for its own; nothing is waited
 *                 for while a backend or the caller's own functions run, but for another thread's growth of this arena
 * An arena is never async-signal-safe: a handler that interrupted a call on an arena and calls on the same one gets
 * EDEADLK (NULL and that errno, or 0 where a count is returned). On other arenas, and outside of calls, it works.
 * After fork() the child may use every shared arena at once, whatever other threads were doing; what a thread was just
 * growing an arena by is lost to the child. An unsynchronized one it may use unless another thread was calling on it.
 */
#ifndef ALLOT_ARENA_H
#define ALLOT_ARENA_H

#include "allot/allot.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct allot_arena allot_arena;
typedef struct allot_backend allot_backend;

/* ---- making and ending -------------------------------------------------------------------------------------- */

typedef enum allot_arena_kind {
    ALLOT_ARENA_GENERAL = 0,
    ALLOT_ARENA_BUMP = 1,
    ALLOT_ARENA_SCRATCH = 2
} allot_arena_kind;

typedef enum allot_arena_fit {
    ALLOT_FIT_GOOD = 0,  /* from the smallest class of free blocks that all fit, in constant time */
    ALLOT_FIT_FIRST = 1, /* the free block with the lowest address; time grows with the logarithm of the memory */
    ALLOT_FIT_BEST = 2   /* the smallest that fits; from 1 KiB on, time grows with the free blocks of about that size */
} allot_arena_fit;

#define ALLOT_ARENA_UNSYNCHRONIZED 1u /* one owner: no locks, no caches of threads */
#define ALLOT_ARENA_OWNS_BACKEND 2u   /* allot_arena_destroy destroys the backend too */

/* Fill it by ALLOT_ARENA_OPTIONS_INIT, which notes where that stands as well, then set what differs. */
typedef struct allot_arena_options {
    size_t abi_size;
    const char *file; /* where the arena is made, for reports and pictures; must outlive it, may be NULL */
    int line;
    const char *name; /* copied, cut at 31 characters; NULL: made of file and line */
    allot_arena_kind kind;
    allot_arena_fit fit; /* of the general kind */
    unsigned flags;
    allot_arena *parent;    /* the arena dies with it; see allot_arena_move */
    allot_backend *backend; /* NULL: allot_backend_heap(); for arenas in a buffer: none, so they don't grow, but for
                               scratch arenas the heap */
    void *books;            /* where the arena keeps its books; NULL: in the heap */
    size_t books_bytes;     /* at least allot_arena_books_size says */
    size_t n_cleanups;      /* how many cleanup functions those books have room for */
    size_t grow_bytes;      /* the least to grow by; 0: a page. Arenas double or more, if the backend lets them */
    size_t keep_bytes;      /* how much empty memory may wait for use before it goes back to the backend */
    size_t soft_limit;      /* see allot_arena_set_limits; 0: none */
    size_t hard_limit;
    void (*on_soft_limit)(allot_arena *arena, size_t bytes, void *context);
    allot_error_handler on_error; /* see allot_arena_set_error_handler */
    void *context;                /* for both of them */
} allot_arena_options;

/* clang-format off */
#define ALLOT_ARENA_OPTIONS_INIT \
    {sizeof(allot_arena_options), __FILE__, __LINE__, NULL, ALLOT_ARENA_GENERAL, ALLOT_FIT_GOOD, 0, NULL, NULL, NULL, \
     0, 0, 0, 0, 0, 0, NULL, NULL, NULL}
/* clang-format on */

/* Books of an arena of kind bump or scratch fit into this many bytes, without cleanup functions. */
#define ALLOT_BUMP_BOOKS_BYTES 640

/* allot_arena_create - make an arena over a backend.
 *
 *   size_bytes  how much to take from the backend now, rounded up to 16; 0: nothing until the first block. At most 2^47
 *   options     NULL: a general arena over the heap
 *   out         set on success
 *   returns     0; EINVAL for options that contradict each other or a backend that can't do what is asked; ENOMEM;
 *               EBUSY when the backend serves one arena only and has one
 *   threads     any
 *   signals     not safe
 *   fork        the child has a copy
 *   errors      by the return value, and what the backend returns. misuse: a backend in use by another arena, or
 * released
 */
ALLOT_API int allot_arena_create(size_t size_bytes, const allot_arena_options *options,
                                 allot_arena **out) ALLOT_NODISCARD;

/* allot_arena_create_at - make an arena in a buffer, of any alignment, of 32 bytes or more.
 *
 * With options->books it asks neither the OS nor the heap for anything, also later, unless options->backend lets it
 * grow.
 *
 *   buffer      the arena's until it is destroyed
 *   returns     as allot_arena_create; EINVAL also for a buffer or books that are too small
 *   threads     any
 *   signals     not safe
 *   fork        the child has a copy
 *   errors      by the return value
 */
ALLOT_API int allot_arena_create_at(void *buffer, size_t buffer_bytes, const allot_arena_options *options,
                                    allot_arena **out) ALLOT_NODISCARD;

/* allot_arena_books_size - how many bytes of books an arena over buffer_bytes needs (any alignment).
 *
 *   returns     0 for options that allot_arena_create_at would refuse
 *   threads, signals, fork: always safe.  errors: by the return value
 */
ALLOT_API size_t allot_arena_books_size(size_t buffer_bytes, const allot_arena_options *options);

/* allot_arena_destroy - end an arena: its nested arenas first, then its cleanup functions, latest first, then its
 * memory goes back to the backend. NULL does nothing.
 *
 *   threads     one owner, and the last
 *   signals     not safe
 *   fork        the child's copy is its own
 *   errors      misuse: not an arena, or one that was destroyed
 */
ALLOT_API void allot_arena_destroy(allot_arena *arena);

/* allot_arena_reset - free all blocks at once: nested arenas are destroyed, cleanup functions run, the memory stays for
 * use (allot_arena_trim gives it back).
 *
 *   returns     0; EPERM: sealed
 *   threads     one owner
 *   signals     not safe
 *   fork        as the arena
 *   errors      by the return value; misuse: use after release (ENXIO)
 */
ALLOT_API int allot_arena_reset(allot_arena *arena);

/* ---- blocks ------------------------------------------------------------------------------------------------- */

/* allot_arena_malloc - take a block.
 *
 *   returns     a block of at least size_bytes, aligned to 16, contents unspecified. NULL when there is none; also for
 *               0, which changes nothing and is no failure: errno is kept then
 *   threads     shared
 *   signals     not safe: EDEADLK
 *   fork        as the arena
 *   errors      NULL and ENOMEM, also above a limit and for sizes above 2^47; EPERM: sealed; misuse: use after release
 *               (ENXIO)
 */
ALLOT_API void *allot_arena_malloc(allot_arena *arena, size_t size_bytes) ALLOT_MALLOC ALLOT_SIZE(2);

/* allot_arena_alloc - the same with the result through a pointer, so that no memory and no size are told apart.
 *
 *   out         set to the block, or for size 0 to NULL, on success only
 *   returns     0, or the errno that allot_arena_malloc would give; errno is kept
 *   threads     shared
 *   signals     not safe: EDEADLK
 *   fork        as the arena
 *   errors      by the return value
 */
ALLOT_API int allot_arena_alloc(allot_arena *arena, size_t size_bytes, void **out) ALLOT_NODISCARD;

/* allot_arena_calloc - take a zeroed array. The memory must be writable, unless it was never used before.
 *
 *   threads     shared
 *   signals     not safe: EDEADLK
 *   fork        as the arena
 *   errors      as allot_arena_malloc; ENOMEM also when the product overflows
 */
ALLOT_API void *allot_arena_calloc(allot_arena *arena, size_t n, size_t item_bytes) ALLOT_MALLOC ALLOT_SIZE(2, 3);

/* allot_arena_memalign - take a block at a multiple of alignment, a power of two.
 *
 *   threads     shared
 *   signals     not safe: EDEADLK
 *   fork        as the arena
 *   errors      as allot_arena_malloc; EINVAL for a bad alignment
 */
ALLOT_API void *allot_arena_memalign(allot_arena *arena, size_t alignment, size_t size_bytes) ALLOT_MALLOC ALLOT_SIZE(3)
    ALLOT_ALIGN(2);

/* allot_arena_realloc - change a block's size, in place if there is room behind it.
 *
 *   block       NULL: then it is allot_arena_malloc
 *   size_bytes  0 frees the block and returns NULL
 *   returns     the block, with the contents that fit; NULL on failure, the old block untouched
 *   threads     shared, but not at the same time as another use of the block
 *   signals     not safe: EDEADLK
 *   fork        as the arena
 *   errors      as allot_arena_malloc; misuse: not a live block of this arena (EINVAL)
 */
ALLOT_API void *allot_arena_realloc(allot_arena *arena, void *block, size_t size_bytes) ALLOT_NODISCARD ALLOT_SIZE(3);

/* allot_arena_free - give a block back; NULL does nothing. A bump arena takes only the latest block back, others stay
 * until reset.
 *
 *   returns     0
 *   threads     shared
 *   signals     not safe: EDEADLK
 *   fork        as the arena
 *   errors      EPERM: sealed; misuse (EINVAL): double free, misaligned free, invalid free (foreign address, middle of
 * a block); use after release (ENXIO). errno is kept
 */
ALLOT_API int allot_arena_free(allot_arena *arena, void *block);

/* allot_arena_free_sized - give a part of a block back: any range of whole 16 bytes in it, the whole block included.
 * What remains before and behind it are blocks of their own. A NULL range with size 0 does nothing.
 *
 *   size_bytes  rounded up to 16
 *   returns     0
 *   threads     shared
 *   signals     not safe: EDEADLK
 *   fork        as the arena
 *   errors      as allot_arena_free; misuse (EINVAL) as well: zero-length free, overlapping free (a range that reaches
 *               beyond its block)
 */
ALLOT_API int allot_arena_free_sized(allot_arena *arena, void *range, size_t size_bytes);

/* allot_arena_shrink - give the tail of a block back. The block stays where it is.
 *
 *   size_bytes  how much to keep, rounded up to 16; 0 frees the block; not more than it has
 *   returns     0
 *   threads     shared, but not at the same time as another use of the block
 *   signals     not safe: EDEADLK
 *   fork        as the arena
 *   errors      as allot_arena_free; EINVAL when the block is smaller. In a bump arena only the latest block shrinks
 */
ALLOT_API int allot_arena_shrink(allot_arena *arena, void *block, size_t size_bytes);

/* allot_arena_usable_size - how many bytes of a block may be used; 0 for NULL, and in bump arenas, which don't know.
 *
 *   threads     shared
 *   signals     not safe
 *   fork        as the arena
 *   errors      misuse: not a live block of this arena (0)
 */
ALLOT_API size_t allot_arena_usable_size(allot_arena *arena, const void *block);

/* allot_arena_malloc_batch - take up to n blocks of one size; allot_arena_free_batch - give n blocks back, of any
 * sizes.
 *
 *   out         receives the blocks; the rest of it is left alone
 *   returns     how many were taken; fewer than n only with an errno. allot_arena_free_batch: 0, or the last error
 *   threads     shared
 *   signals     not safe: EDEADLK
 *   fork        as the arena
 *   errors      as allot_arena_malloc and allot_arena_free; size 0 takes none, NULLs are skipped
 */
ALLOT_API size_t allot_arena_malloc_batch(allot_arena *arena, size_t size_bytes, void **out, size_t n);
ALLOT_API int allot_arena_free_batch(allot_arena *arena, void *const *blocks, size_t n);

/* allot_arena_memdup - a copy of bytes in the arena; allot_arena_strdup - of a string.
 *
 *   threads     shared
 *   signals     not safe: EDEADLK
 *   fork        as the arena
 *   errors      as allot_arena_malloc
 */
ALLOT_API void *allot_arena_memdup(allot_arena *arena, const void *bytes, size_t n) ALLOT_MALLOC ALLOT_SIZE(3);
ALLOT_API char *allot_arena_strdup(allot_arena *arena, const char *string) ALLOT_MALLOC;

/* Typed: zeroed objects, and arrays whose product is checked. */
#define ALLOT_NEW(arena, type) ((type *)allot_arena_calloc((arena), 1, sizeof(type)))
#define ALLOT_NEW_ARRAY(arena, type, n) ((type *)allot_arena_calloc((arena), (n), sizeof(type)))
#define ALLOT_DELETE(arena, object) allot_arena_free_sized((arena), (object), (object) == NULL ? 0 : sizeof *(object))
/* The array keeps its first n items; what lies behind them goes back to the arena. */
#define ALLOT_SHRINK_ARRAY(arena, array, n) allot_arena_shrink((arena), (array), sizeof *(array) * (n))

/* ---- bump, inline ------------------------------------------------------------------------------------------- */

/* The first words of every arena. next == end unless it is an unsynchronized bump or scratch arena. */
typedef struct allot_arena_head {
    char *next; /* where the next block is cut, a multiple of 16 */
    char *end;
} allot_arena_head;

/* allot_arena_malloc, a few instructions long in an unsynchronized bump or scratch arena; the same in any other. */
static inline void *allot_bump_malloc(allot_arena *arena, size_t size_bytes)
{
    allot_arena_head *head = (allot_arena_head *)(void *)arena;
    char *block = head->next;
    if (size_bytes - 1 < (size_t)(head->end - block)) { /* not for 0 */
        head->next = block + ((size_bytes + 15) & ~(size_t)15);
        return block;
    }
    return allot_arena_malloc(arena, size_bytes);
}

/* ---- questions ---------------------------------------------------------------------------------------------- */

/* allot_arena_size - bytes that the arena has from its backend, or of its buffer.
 * allot_arena_capacity - of these, what blocks can be made of. It is live bytes and free bytes.
 * allot_arena_free_bytes - of these, what is free, in however many pieces. Doesn't depend on how many blocks there are.
 *
 *   threads     shared
 *   signals     not safe
 *   fork        as the arena
 *   errors      none: 0 after release
 */
ALLOT_API size_t allot_arena_size(allot_arena *arena);
ALLOT_API size_t allot_arena_capacity(allot_arena *arena);
ALLOT_API size_t allot_arena_free_bytes(allot_arena *arena);

/* allot_arena_contains - 1 when the address, any 64-bit value, lies in memory that this arena's blocks are made of.
 *
 *   threads     shared
 *   signals     not safe
 *   fork        as the arena
 *   errors      none
 */
ALLOT_API int allot_arena_contains(allot_arena *arena, const void *address);

/* allot_arena_dump - copy the arena's memory, block by block of memory from the backend, free bytes included.
 *
 *   out         receives the first n bytes; may be NULL when n is 0
 *   returns     how many bytes there are. The memory must be readable
 *   threads     shared; the copy is of one moment if nobody writes to blocks
 *   signals     not safe
 *   fork        as the arena
 *   errors      none
 */
ALLOT_API size_t allot_arena_dump(allot_arena *arena, void *out, size_t n);

/* allot_arena_walk - visit every block, live and free, by ascending address within each piece of memory. A bump arena
 * has one live and one free block a piece.
 *
 *   visit       may not call on the arena; a value other than 0 ends the walk
 *   returns     0, or what visit returned
 *   threads     shared; others wait until the walk is over
 *   signals     not safe
 *   fork        as the arena
 *   errors      EDEADLK
 */
ALLOT_API int allot_arena_walk(allot_arena *arena, int (*visit)(const allot_info *info, void *context), void *context);

/* allot_arena_check - read all books and see whether they agree with each other.
 *
 *   returns     0; EUCLEAN when they don't (something wrote to them)
 *   threads     shared; others wait
 *   signals     not safe
 *   fork        as the arena
 *   errors      by the return value
 */
ALLOT_API int allot_arena_check(allot_arena *arena);

typedef struct allot_arena_report {
    size_t abi_size; /* in: sizeof(allot_arena_report), by ALLOT_ARENA_REPORT_INIT */
    char name[32];
    const char *file; /* NULL when unknown */
    int line;
    allot_arena_kind kind;
    const allot_arena *parent; /* NULL: none */
    size_t n_children;
    size_t size_bytes;
    size_t capacity_bytes;
    size_t live_bytes;
    size_t free_bytes;
    size_t n_live_blocks; /* 0 in bump arenas */
    size_t n_segments;    /* pieces of memory from the backend, or the buffer */
    size_t books_bytes;
    size_t total_bytes; /* from backends, of this arena and all below it: what the limits count. No buffers */
    size_t soft_limit;  /* 0: none */
    size_t hard_limit;
    size_t n_cleanups;
    int protection; /* as set by allot_arena_protect; -1: never */
    int sealed;
    int released; /* its reservation is gone */
} allot_arena_report;

/* clang-format off */
#define ALLOT_ARENA_REPORT_INIT \
    {sizeof(allot_arena_report), {0}, NULL, 0, ALLOT_ARENA_GENERAL, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
/* clang-format on */

/* allot_arena_stats - what the arena is and holds.
 *
 *   returns     0; EINVAL when report is NULL or of an unknown size
 *   threads     shared; n_live_blocks is counted, the rest is at hand
 *   signals     not safe
 *   fork        as the arena
 *   errors      by the return value
 */
ALLOT_API int allot_arena_stats(allot_arena *arena, allot_arena_report *report);

/* allot_arena_name - the arena's name; lives as long as the arena.
 *
 *   threads, signals, fork: always safe while the arena lives.  errors: none
 */
ALLOT_API const char *allot_arena_name(const allot_arena *arena);

/* allot_arena_each - visit every arena of the process, parents before their children.
 *
 *   visit       may ask for stats of the arena; may make or end none. A value other than 0 ends it
 *   returns     0, or what visit returned
 *   threads     any; making and ending arenas waits meanwhile
 *   signals     not safe
 *   fork        usable in the child
 *   errors      none of its own
 */
ALLOT_API int allot_arena_each(int (*visit)(allot_arena *arena, unsigned depth, void *context), void *context);

/* allot_arena_find - the arena whose memory an address, any 64-bit value, lies in; NULL: none.
 *
 *   threads     any; the answer holds for as long as that arena isn't destroyed
 *   signals     safe
 *   fork        usable in the child at once
 *   errors      none
 */
ALLOT_API allot_arena *allot_arena_find(const void *address);

/* ---- lifetimes ---------------------------------------------------------------------------------------------- */

typedef struct allot_mark {
    uint64_t reserved[4];
} allot_mark;

/* allot_arena_mark - remember how far a bump or scratch arena is; allot_arena_rewind - free all that was taken since,
 * run the cleanup functions added since, and destroy the nested arenas made since.
 *
 *   returns     0; ENOTSUP: a general arena; rewind: EINVAL for a mark that was made before a reset, or behind one that
 *               was rewound to (if the last eight such rewinds were not all deeper)
 *   threads     one owner
 *   signals     not safe
 *   fork        as the arena
 *   errors      by the return value; misuse: use after release (ENXIO)
 */
ALLOT_API int allot_arena_mark(allot_arena *arena, allot_mark *out);
ALLOT_API int allot_arena_rewind(allot_arena *arena, const allot_mark *mark);

/* allot_arena_move - give an arena another parent, or none (NULL): its memory and blocks stay what they are.
 *
 *   returns     0; EINVAL: the new parent is the arena itself or lies below it; ENOMEM: its hard limit
 *   threads     one owner of both arenas
 *   signals     not safe
 *   fork        as the arena
 *   errors      by the return value
 */
ALLOT_API int allot_arena_move(allot_arena *arena, allot_arena *parent);

/* allot_arena_parent - the arena that it dies with; NULL: none.
 *
 *   threads     any, not at the same time as allot_arena_move
 *   signals, fork: always safe.  errors: none
 */
ALLOT_API allot_arena *allot_arena_parent(const allot_arena *arena);

/* allot_arena_cleanup_add - have a function called at reset, rewind (if added since the mark) and destroy, latest
 * first. allot_arena_cleanup_cancel - take it out again, the latest one with this function and context.
 *
 *   cleanup     may use the arena's blocks; what it takes from the arena is freed with the rest
 *   returns     0; ENOMEM; cancel: ENOENT when there is no such one
 *   threads     shared
 *   signals     not safe: EDEADLK
 *   fork        as the arena
 *   errors      by the return value
 */
ALLOT_API int allot_arena_cleanup_add(allot_arena *arena, void (*cleanup)(void *context),
                                      void *context) ALLOT_NODISCARD;
ALLOT_API int allot_arena_cleanup_cancel(allot_arena *arena, void (*cleanup)(void *context), void *context);

/* allot_arena_set_limits - how much memory the arena and all below it may take from their backends together.
 *
 *   soft_limit  above it, on_soft_limit is called, once for each time that it is passed; 0: none
 *   hard_limit  above it, growing fails with ENOMEM; 0: none. What is there already stays
 *   returns     0; EINVAL: soft above hard
 *   threads     shared
 *   signals     not safe
 *   fork        as the arena
 *   errors      by the return value
 */
ALLOT_API int allot_arena_set_limits(allot_arena *arena, size_t soft_limit, size_t hard_limit);

/* allot_arena_set_error_handler - be asked when misuse of this arena is found, after the line is written. NULL: the
 * process's handler (allot_set_error_handler).
 *
 *   threads     one owner; the handler runs on the thread that made the faulty call, with no lock held
 *   signals     not safe
 *   fork        as the arena
 *   errors      none
 */
ALLOT_API void allot_arena_set_error_handler(allot_arena *arena, allot_error_handler handler, void *context);

/* allot_arena_trim - give empty memory back to the backend, and decommit free pages, until keep_bytes remain.
 *
 *   returns     how many bytes went back
 *   threads     shared
 *   signals     not safe
 *   fork        as the arena
 *   errors      none
 */
ALLOT_API size_t allot_arena_trim(allot_arena *arena, size_t keep_bytes);

/* ---- protection --------------------------------------------------------------------------------------------- */

/* allot_arena_protect - change the protection of all of the arena's memory, and of what it grows by from now on.
 *
 *   prot        what mprotect takes; any value goes there unchanged
 *   returns     0, also without memory; the error of the system call unchanged; EINVAL for a buffer that is not whole
 *               pages; ENOTSUP when the backend can't (the heap's)
 *   threads     shared
 *   signals     not safe
 *   fork        as the arena
 *   errors      by the return value; after one the memory may have either protection, and prot isn't inherited.
 *               misuse: use after release (ENXIO)
 */
ALLOT_API int allot_arena_protect(allot_arena *arena, int prot);

/* allot_arena_seal - make an arena and its contents constant: read-only memory, and every call that would change what
 * is in it gives EPERM. allot_arena_unseal - back to what it was before.
 *
 *   returns     0, also when it is (un)sealed already; as allot_arena_protect
 *   threads     one owner
 *   signals     not safe
 *   fork        as the arena
 *   errors      as allot_arena_protect
 */
ALLOT_API int allot_arena_seal(allot_arena *arena);
ALLOT_API int allot_arena_unseal(allot_arena *arena);

/* ---- backends ----------------------------------------------------------------------------------------------- */

/* What a backend does. Each returns 0 or an errno. They are called with no lock held, never two at a time for one
 * arena; for several arenas at once only when shared is set. They may not call on the arena. */
typedef struct allot_backend_ops {
    size_t abi_size;
    unsigned shared; /* 1: one backend may serve several arenas. 0: a second arena on it is refused as misuse */

    /* At least need_bytes, better want_bytes (not less) of readable and writable memory. begin NULL: a new piece.
     * Otherwise begin is the arena's latest piece, of size_bytes: grown in place if it can be (*out_begin is begin and
     * *out_bytes at least size_bytes + need_bytes), otherwise a new piece; the old one stays as it is either way.
     * ENOMEM: none. */
    int (*grow)(allot_backend *backend, void *begin, size_t size_bytes, size_t need_bytes, size_t want_bytes,
                void **out_begin, size_t *out_bytes);

    /* Optional. A piece, whole, goes back. Without it pieces stay until the arena ends. */
    int (*release)(allot_backend *backend, void *begin, size_t size_bytes);

    /* Optional: ENOTSUP without. Protection as for mprotect, of a piece or its end. */
    int (*protect)(allot_backend *backend, void *begin, size_t size_bytes, int prot);

    /* Optional. The contents of whole pages of a piece may be dropped; they stay usable. */
    int (*decommit)(allot_backend *backend, void *begin, size_t size_bytes);

    /* Optional. The end of the backend itself; it has no arena any more. */
    void (*destroy)(allot_backend *backend);
} allot_backend_ops;

/* A backend of your own has this as its first member, ops set and the rest zero. */
struct allot_backend {
    const allot_backend_ops *ops;
    void *reserved[2]; /* the library's */
};

/* How memory is mapped. Fill it by ALLOT_MAP_OPTIONS_INIT. */
typedef struct allot_map_options {
    size_t abi_size;
    int protection;      /* PROT_*, passed on unchanged; -1: readable and writable */
    int flags;           /* MAP_* beyond private and anonymous; MAP_SHARED replaces private */
    void *address;       /* a hint, rounded down to a page; with MAP_FIXED_NOREPLACE in flags more than that */
    size_t align;        /* a power of two: pieces begin there and are multiples of it long; 0: the page */
    int huge_pages;      /* 1: wanted; -1: never; 0: as the system has it */
    int numa_node;       /* -1: any. Preferred where the system has nodes */
    int fd;              /* -1: none. A file to map instead of anonymous memory */
    uint64_t offset;     /* in it */
    const void *near_to; /* not NULL: all of the memory within near_bytes of this address */
    size_t near_bytes;   /* 0: 2 GiB less a page, as far as a 32-bit displacement reaches */
    const char *refused; /* out: after EINVAL, the name of the member that was wrong; NULL otherwise */
} allot_map_options;

/* clang-format off */
#define ALLOT_MAP_OPTIONS_INIT {sizeof(allot_map_options), -1, 0, NULL, 0, 0, -1, -1, 0, NULL, 0, NULL}
/* clang-format on */

/* allot_backend_heap - allot's own heap: grows by pieces, moves nothing. One for all; not to be destroyed.
 *
 *   threads, signals, fork: always safe.  errors: none
 */
ALLOT_API allot_backend *allot_backend_heap(void);

/* allot_backend_fixed - one piece of the heap, as large as the first request; growing beyond it is ENOMEM. One for all.
 *
 *   threads, signals, fork: always safe.  errors: none
 */
ALLOT_API allot_backend *allot_backend_fixed(void);

/* allot_backend_mmap - mappings: grown in place where the address space behind them is free, otherwise by new ones. For
 * one arena. Mappings of a file end with it, and shared ones don't grow in place.
 *
 *   options     NULL: private, anonymous, readable and writable. A file is mapped piece by piece from offset on
 *   returns     0; EINVAL (options->refused names the member); ENOMEM
 *   threads     any
 *   signals     not safe
 *   fork        the child has a copy, or shares what MAP_SHARED says
 *   errors      by the return value. What the system says to the flags is the error of the arena's growth
 */
ALLOT_API int allot_backend_mmap(allot_map_options *options, allot_backend **out) ALLOT_NODISCARD;

/* allot_backend_virt - a reservation of address space, committed on demand: the base never moves.
 *
 *   reserve_bytes  rounded up to pages; growing beyond it is ENOMEM
 *   options        NULL, or: protection (of what is committed), flags (MAP_FIXED_NOREPLACE, MAP_32BIT and the like),
 *                  address, align, huge_pages, numa_node, near_to, near_bytes. fd and offset are EINVAL, and so are the
 *                  flags MAP_SHARED, MAP_POPULATE, MAP_LOCKED and MAP_HUGETLB
 *   returns        0; EINVAL (options->refused names the member); what mmap says: ENOMEM, EEXIST (MAP_FIXED_NOREPLACE)
 *   threads        any
 *   signals        not safe
 *   fork           the child has a copy
 *   errors         by the return value
 */
ALLOT_API int allot_backend_virt(size_t reserve_bytes, allot_map_options *options, allot_backend **out) ALLOT_NODISCARD;

/* allot_virt_address - the reservation's first byte; NULL after release.
 * allot_virt_reserved, allot_virt_committed - how many bytes it has, and how many of them can be used; 0 after release.
 *
 *   backend     made by allot_backend_virt or allot_backend_pair
 *   threads     any; the answer holds while no other thread grows or releases it
 *   signals     safe
 *   fork        as the backend
 *   errors      none; 0 or NULL for a backend of another kind
 */
ALLOT_API void *allot_virt_address(const allot_backend *backend);
ALLOT_API size_t allot_virt_reserved(const allot_backend *backend);
ALLOT_API size_t allot_virt_committed(const allot_backend *backend);

/* allot_virt_release - unmap the reservation. An arena that uses it has no memory from then on, and every call on it
 * but destroy and questions is misuse (use after release). A second release does nothing, nor does NULL.
 *
 *   returns     0; EINVAL for a backend of another kind
 *   threads     one owner of the backend and its arena
 *   signals     not safe
 *   fork        the parent's stays
 *   errors      by the return value
 */
ALLOT_API int allot_virt_release(allot_backend *backend);

/* allot_backend_pair - for code made at run time: one memory in two views, of which the arena's is readable and
 * executable, the other one readable and writable. No page is ever both writable and executable.
 *
 *   reserve_bytes  rounded up to pages; growing beyond it is ENOMEM
 *   options        NULL, or: address, align, near_to, near_bytes, for the executable view; others are EINVAL
 *   returns        0; EINVAL (options->refused); ENOTSUP where the system has no anonymous files; ENOMEM; EACCES,
 * EPERM: the system lets nobody make code threads        any signals        not safe fork           the views are
 * shared with the child errors         by the return value
 */
ALLOT_API int allot_backend_pair(size_t reserve_bytes, allot_map_options *options, allot_backend **out) ALLOT_NODISCARD;

/* allot_pair_writable - where to write what is to be read or executed at address; NULL when that is not in the pair.
 *
 *   threads, signals, fork: always safe.  errors: NULL
 */
ALLOT_API void *allot_pair_writable(const allot_backend *backend, const void *address);

/* allot_pair_publish - after writing and before executing: makes the processor see the code.
 *
 *   returns     0; EINVAL for a range outside of the pair
 *   threads     any; other threads must learn of the code in a way that orders memory
 *   signals     safe
 *   fork        as the backend
 *   errors      by the return value
 */
ALLOT_API int allot_pair_publish(const allot_backend *backend, const void *address, size_t bytes);

typedef enum allot_backend_call {
    ALLOT_BACKEND_GROW = 0,
    ALLOT_BACKEND_RELEASE = 1,
    ALLOT_BACKEND_PROTECT = 2,
    ALLOT_BACKEND_DECOMMIT = 3,
    ALLOT_BACKEND_ANY = 4
} allot_backend_call;

/* allot_backend_failing - for tests: passes all calls on to inner (NULL: the heap), and fails on command.
 *
 *   returns     0; ENOMEM
 *   threads     any
 *   signals     not safe
 *   fork        as inner
 *   errors      by the return value
 */
ALLOT_API int allot_backend_failing(allot_backend *inner, allot_backend **out) ALLOT_NODISCARD;

/* allot_backend_fail - from now on the first-th call of that kind (1 is the next one) fails with error, and those that
 * follow it: n in all. Replaces what was asked for before; n 0: nothing fails.
 *
 *   backend     made by allot_backend_failing
 *   threads     one owner
 *   signals     not safe
 *   fork        as the backend
 *   errors      none; a backend of another kind is left alone
 */
ALLOT_API void allot_backend_fail(allot_backend *backend, allot_backend_call call, size_t first, size_t n, int error);

/* allot_backend_failures - how many calls have failed on command since allot_backend_fail.
 *
 *   threads     one owner
 *   signals, fork: always safe.  errors: 0 for a backend of another kind
 */
ALLOT_API size_t allot_backend_failures(const allot_backend *backend);

/* allot_backend_destroy - end a backend that no arena uses any more. NULL does nothing, nor does a backend of all.
 *
 *   returns     0; EBUSY: an arena still uses it
 *   threads     one owner
 *   signals     not safe
 *   fork        the parent's stays
 *   errors      by the return value
 */
ALLOT_API int allot_backend_destroy(allot_backend *backend);

#ifdef __cplusplus
}
#endif
#endif
