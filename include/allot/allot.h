/* SPDX-License-Identifier: MIT */
/* allot.h - the heap under its own names, and the questions that it answers.
 *
 * liballot defines the standard names (malloc, free, operator new, ...) as well; liballot_core defines only what
 * stands here, for programs and libraries that keep the malloc they have. Blocks from the standard names and from
 * their allot_ twins are the same blocks: either free takes them.
 *
 * Each comment uses the same labels:
 *   threads   who may call at the same time
 *   signals   whether a signal handler may call it
 *   fork      what holds in the child of a threaded process
 *   errors    how failure and misuse show
 *   source    the standard or manual that says what it does
 *
 * "misuse" always means: the call is found out, one line names the fault on standard error, the error handler is
 * asked (allot_set_error_handler), and unless that says otherwise the process aborts.
 */
#ifndef ALLOT_ALLOT_H
#define ALLOT_ALLOT_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define ALLOT_API __attribute__((visibility("default")))
#define ALLOT_NODISCARD __attribute__((warn_unused_result))
#define ALLOT_MALLOC __attribute__((malloc, warn_unused_result))
#define ALLOT_SIZE(...) __attribute__((alloc_size(__VA_ARGS__)))
#define ALLOT_ALIGN(n) __attribute__((alloc_align(n)))
#else
#define ALLOT_API
#define ALLOT_NODISCARD
#define ALLOT_MALLOC
#define ALLOT_SIZE(...)
#define ALLOT_ALIGN(n)
#endif

#define ALLOT_VERSION_MAJOR 0
#define ALLOT_VERSION_MINOR 1
#define ALLOT_VERSION_PATCH 0

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the malloc family -------------------------------------------------------------------------------------- */

/* allot_malloc - take a block.
 *
 *   size_bytes  what the caller will use; 0 gives a block of its own that must be freed like any other
 *   returns     a block of at least size_bytes, aligned to 16, contents unspecified; NULL when there is none
 *   threads     any
 *   signals     safe, at any moment and depth
 *   fork        usable in the child at once
 *   errors      NULL and ENOMEM when memory is refused or size_bytes exceeds PTRDIFF_MAX
 *   source      C11 7.22.3.4
 */
ALLOT_API void *allot_malloc(size_t size_bytes) ALLOT_MALLOC ALLOT_SIZE(1);

/* allot_free - give a block back.
 *
 *   block       what an allocating function returned and nobody has freed since; NULL does nothing
 *   threads     any; the freeing thread need not be the allocating one
 *   signals     safe, at any moment and depth
 *   fork        usable in the child at once
 *   errors      misuse: double free, invalid free. errno is kept
 *   source      C11 7.22.3.3, POSIX.1-2024
 */
ALLOT_API void allot_free(void *block);

/* allot_calloc - take a zeroed array.
 *
 *   returns     a block of n * item_bytes zero bytes, aligned to 16; NULL when there is none
 *   threads     any
 *   signals     safe
 *   fork        usable in the child at once
 *   errors      NULL and ENOMEM, also when the product overflows
 *   source      C11 7.22.3.2
 */
ALLOT_API void *allot_calloc(size_t n, size_t item_bytes) ALLOT_MALLOC ALLOT_SIZE(1, 2);

/* allot_realloc - change a block's size; it may move.
 *
 *   block       a block, or NULL: then it is allot_malloc
 *   size_bytes  0 frees the block and returns NULL (option realloc_zero changes that)
 *   returns     the block, with the contents that fit; NULL on failure, the old block untouched
 *   threads     any, but not at the same time as another use of the block
 *   signals     safe
 *   fork        usable in the child at once
 *   errors      NULL and ENOMEM; misuse: double free when the block is free already, invalid realloc
 *   source      C17 7.22.3.5, glibc for size 0
 */
ALLOT_API void *allot_realloc(void *block, size_t size_bytes) ALLOT_NODISCARD ALLOT_SIZE(2);

/* allot_reallocarray - allot_realloc of n * item_bytes, with the product checked.
 *
 *   threads     as allot_realloc
 *   signals     safe
 *   fork        usable in the child at once
 *   errors      NULL and ENOMEM, also when the product overflows: the block is untouched; misuse as allot_realloc
 *   source      POSIX.1-2024
 */
ALLOT_API void *allot_reallocarray(void *block, size_t n, size_t item_bytes) ALLOT_NODISCARD ALLOT_SIZE(2, 3);

/* allot_aligned_alloc, allot_memalign - take a block at a multiple of alignment.
 *
 *   alignment   a power of two; for allot_memalign any other number is rounded up to one, as glibc does
 *   threads     any
 *   signals     safe
 *   fork        usable in the child at once
 *   errors      NULL and EINVAL for a bad alignment, NULL and ENOMEM when there is no memory
 *   source      C17 7.22.3.1; glibc's memalign(3)
 */
ALLOT_API void *allot_aligned_alloc(size_t alignment, size_t size_bytes) ALLOT_MALLOC ALLOT_SIZE(2) ALLOT_ALIGN(1);
ALLOT_API void *allot_memalign(size_t alignment, size_t size_bytes) ALLOT_MALLOC ALLOT_SIZE(2);

/* allot_posix_memalign - the same with the result through a pointer.
 *
 *   out         set on success only
 *   returns     0, EINVAL (alignment is no power of two times sizeof(void *)) or ENOMEM; errno is kept
 *   threads     any
 *   signals     safe
 *   fork        usable in the child at once
 *   errors      by the return value
 *   source      POSIX.1-2024
 */
ALLOT_API int allot_posix_memalign(void **out, size_t alignment, size_t size_bytes) ALLOT_NODISCARD;

/* allot_valloc, allot_pvalloc - a block aligned to the page; pvalloc also rounds its size up to whole pages.
 *
 *   threads     any
 *   signals     safe
 *   fork        usable in the child at once
 *   errors      NULL and ENOMEM
 *   source      glibc's valloc(3)
 */
ALLOT_API void *allot_valloc(size_t size_bytes) ALLOT_MALLOC ALLOT_SIZE(1);
ALLOT_API void *allot_pvalloc(size_t size_bytes) ALLOT_MALLOC;

/* allot_malloc_usable_size - how many bytes of a block may be used; 0 for NULL.
 *
 *   threads     any
 *   signals     safe
 *   fork        usable in the child at once
 *   errors      misuse: not a live block
 *   source      glibc's malloc_usable_size(3)
 */
ALLOT_API size_t allot_malloc_usable_size(const void *block);

/* allot_free_sized, allot_free_aligned_sized - free by a caller who knows what it asked for.
 *
 *   size_bytes  the size asked for, alignment likewise
 *   threads     any
 *   signals     safe
 *   fork        usable in the child at once
 *   errors      misuse: as allot_free; a size or an alignment that the block can't have been asked for is a wrong size
 *   source      C23 7.24.3.4, 7.24.3.5
 */
ALLOT_API void allot_free_sized(void *block, size_t size_bytes);
ALLOT_API void allot_free_aligned_sized(void *block, size_t alignment, size_t size_bytes);

/* allot_malloc_trim - give free memory back to the OS now, keeping keep_bytes of it.
 *
 *   returns     1 when something went back, 0 when there was nothing
 *   threads     any; other threads' own lists are left alone
 *   signals     not safe
 *   fork        usable in the child at once
 *   errors      none
 *   source      glibc's malloc_trim(3)
 */
ALLOT_API int allot_malloc_trim(size_t keep_bytes);

/* allot_mallopt - set a parameter of <malloc.h>.
 *
 *   returns     1 when it now does what it says; 0 when allot has nothing that it could mean, or value is out of bounds
 *   threads     any
 *   signals     safe
 *   fork        the child inherits it
 *   errors      by the return value
 *   source      glibc's mallopt(3)
 */
ALLOT_API int allot_mallopt(int parameter, int value);

/* glibc's struct mallinfo2, field by field, for systems whose <malloc.h> has none. Bytes, but for the counts. */
struct allot_mallinfo2 {
    size_t arena;    /* bytes taken from the OS, large blocks with a mapping of their own left out */
    size_t ordblks;  /* free blocks */
    size_t smblks;   /* 0: allot has no fast bins */
    size_t hblks;    /* blocks with a mapping of their own */
    size_t hblkhd;   /* bytes in them */
    size_t usmblks;  /* 0 */
    size_t fsmblks;  /* 0 */
    size_t uordblks; /* live bytes */
    size_t fordblks; /* free bytes */
    size_t keepcost; /* bytes that allot_trim(0) could give back */
};

/* allot_mallinfo2, allot_malloc_info, allot_malloc_stats - glibc's questions, answered from allot_stats.
 *
 *   threads     any; while others run the figures are near, not exact
 *   signals     not safe (malloc_info and malloc_stats write to a stream or to standard error)
 *   fork        usable in the child at once
 *   errors      allot_malloc_info: EINVAL when options is not 0, -1 and errno when stream fails
 *   source      glibc's mallinfo(3), malloc_info(3), malloc_stats(3)
 */
ALLOT_API struct allot_mallinfo2 allot_mallinfo2(void);
ALLOT_API int allot_malloc_info(int options, void *stdio_stream);
ALLOT_API void allot_malloc_stats(void);

/* ---- beyond the standard ------------------------------------------------------------------------------------ */

/* allot_good_size - the usable size that a request of size_bytes would get; size_bytes when it could never be met.
 *
 *   threads, signals, fork: always safe.  errors: none
 */
ALLOT_API size_t allot_good_size(size_t size_bytes);

/* allot_size_classes - the table of sizes that blocks come in, ascending.
 *
 *   out         receives the first n of them; may be NULL when n is 0
 *   returns     how many there are; larger blocks come in whole pages
 *   threads, signals, fork: always safe.  errors: none
 */
ALLOT_API size_t allot_size_classes(size_t *out, size_t n);

/* allot_try_expand - make a block usable up to size_bytes without moving it.
 *
 *   returns     1 when it now is, 0 when that can't be done: the block is as it was
 *   threads     any, but not at the same time as another use of the block
 *   signals     safe
 *   fork        usable in the child at once
 *   errors      misuse: not a live block
 */
ALLOT_API int allot_try_expand(void *block, size_t size_bytes) ALLOT_NODISCARD;

/* allot_malloc_batch - take up to n blocks of one size; allot_free_batch - give n blocks back, of any sizes.
 *
 *   out         receives the blocks; the rest of it is left alone
 *   returns     how many blocks were taken; fewer than n only when memory ran out
 *   threads     any
 *   signals     safe
 *   fork        usable in the child at once
 *   errors      ENOMEM when fewer than n; misuse in allot_free_batch as in allot_free, NULLs are skipped
 */
ALLOT_API size_t allot_malloc_batch(size_t size_bytes, void **out, size_t n);
ALLOT_API void allot_free_batch(void *const *blocks, size_t n);

/* allot_trim - give free memory back to the OS now.
 *
 *   keep_bytes  how much free memory may stay resident
 *   returns     how many bytes went back
 *   threads     any; the calling thread's lists are emptied, other threads' are left alone
 *   signals     not safe
 *   fork        usable in the child at once
 *   errors      none
 */
ALLOT_API size_t allot_trim(size_t keep_bytes);

/* allot_thread_flush - put the calling thread's free blocks back to their slabs and send off what it freed for others.
 * allot_thread_idle  - the same, and give the pages that became free to the OS: for a thread about to sleep long.
 *
 *   threads     acts on the caller
 *   signals     not safe
 *   fork        usable in the child at once
 *   errors      none
 */
ALLOT_API void allot_thread_flush(void);
ALLOT_API void allot_thread_idle(void);

/* ---- what is this address? ---------------------------------------------------------------------------------- */

typedef enum allot_room {
    ALLOT_ROOM_NONE = 0, /* not allot's */
    ALLOT_ROOM_HEAP = 1,
    ALLOT_ROOM_POOL = 2,
    ALLOT_ROOM_ARENA = 3,
    ALLOT_ROOM_GCMAP = 4
} allot_room;

typedef enum allot_state {
    ALLOT_STATE_NONE = 0, /* no block covers the address */
    ALLOT_STATE_LIVE = 1,
    ALLOT_STATE_FREE = 2, /* was handed out, or was cut and never handed out: not a live block */
} allot_state;

typedef struct allot_info {
    size_t abi_size;   /* in: sizeof(allot_info), by ALLOT_INFO_INIT */
    const void *base;  /* the block's first byte, NULL when no block covers the address */
    size_t size_bytes; /* its usable size */
    size_t offset;     /* of the address asked for, from base */
    allot_room room;
    allot_state state;
    int exact; /* 1: true at the moment of the call. 0: another thread owns the block's slab and was running */
} allot_info;

/* clang-format off */
#define ALLOT_INFO_INIT {sizeof(allot_info), NULL, 0, 0, ALLOT_ROOM_NONE, ALLOT_STATE_NONE, 0}
/* clang-format on */

/* allot_query - what is this address?
 *
 *   address     any 64-bit value
 *   info        in: abi_size. out: the answer
 *   returns     0; EINVAL when info is NULL or of an unknown size
 *   threads     any
 *   signals     safe
 *   fork        usable in the child at once
 *   errors      by the return value
 */
ALLOT_API int allot_query(const void *address, allot_info *info);

/* allot_walk - visit every block of the heap, live and free, by ascending address within a slab.
 *
 *   visit       may not allocate or free; a value other than 0 ends the walk
 *   returns     0, or what visit returned
 *   threads     any. Exact when other threads are stopped or quiet; while they run, a block that is live or free
 *               throughout is told right, one that changes may be told either way, and info->exact is 0
 *   signals     not safe
 *   fork        usable in the child at once
 *   errors      none of its own
 */
ALLOT_API int allot_walk(int (*visit)(const allot_info *info, void *context), void *context);

/* ---- figures ------------------------------------------------------------------------------------------------ */

/* Bytes unless the name says n_. The parts rss_live_requested ... rss_not_malloc add up to rss. */
typedef struct allot_stats_report {
    size_t abi_size; /* in: sizeof(allot_stats_report), by ALLOT_STATS_INIT */
    size_t rss;
    size_t rss_live_requested; /* what callers asked for, in resident pages; small blocks' share is an estimate */
    size_t rss_live_rounding;  /* what the size classes added */
    size_t rss_free_slots;     /* free blocks in pages that hold live ones too, or that a thread keeps in its lists */
    size_t rss_kept;           /* whole free spans, resident until their age or the cap */
    size_t rss_tables;         /* allot's own books */
    size_t rss_not_malloc;     /* the rest of the process */
    size_t n_live_blocks;
    size_t live_bytes; /* usable bytes of live blocks, resident or not */
    size_t n_free_blocks;
    size_t free_bytes;
    size_t n_slabs;
    size_t n_large_blocks;
    size_t large_bytes;
    size_t n_own_mappings; /* large blocks with a mapping of their own */
    size_t own_mapping_bytes;
    size_t n_areas;
    size_t area_bytes;      /* address space reserved in areas */
    size_t committed_bytes; /* of it, writable */
    size_t n_heaps;         /* thread heaps ever made */
    size_t n_heaps_idle;    /* of them, waiting for a thread */
    size_t purged_bytes;    /* given back to the OS since the start */
    size_t n_purges;
    size_t n_os_refusals; /* advice or protection that the OS refused; allot carried on */
    size_t limit_soft;    /* 0: none */
    size_t limit_hard;    /* 0: none */
} allot_stats_report;

/* clang-format off */
#define ALLOT_STATS_INIT {sizeof(allot_stats_report), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
/* clang-format on */

/* allot_stats - where the process's memory is.
 *
 *   returns     0; EINVAL when report is NULL or of an unknown size
 *   threads     any; near while others run, exact when they don't
 *   signals     not safe
 *   fork        usable in the child at once
 *   errors      by the return value
 */
ALLOT_API int allot_stats(allot_stats_report *report);

/* ---- misuse ------------------------------------------------------------------------------------------------- */

typedef enum allot_action {
    ALLOT_ACTION_ABORT = 0,
    ALLOT_ACTION_CONTINUE = 1 /* the faulty call does nothing; one that returns gives NULL (EINVAL) or 0 */
} allot_action;

typedef struct allot_error {
    size_t abi_size;
    const char *name;     /* "double free", "invalid free", ... */
    const void *address;  /* what the caller passed */
    const void *block;    /* the block that covers it, or NULL */
    size_t block_bytes;   /* its usable size */
    size_t offset;        /* of address, from block */
    const char *state;    /* "free", "live", "never handed out"; "" without a block */
    unsigned long thread; /* the OS's number of the thread that made the call */
    const char *line;     /* the whole report line, without its newline */
} allot_error;

typedef allot_action (*allot_error_handler)(const allot_error *error, void *context);

/* allot_set_error_handler - be asked when misuse is found, after the line is written. NULL: abort.
 *
 *   handler     may allocate. Damage that can't be walked around (an overwritten link) aborts whatever it says
 *   threads     any; the handler runs on the thread that made the faulty call, with no lock held
 *   signals     safe
 *   fork        the child inherits it
 *   errors      none
 */
ALLOT_API void allot_set_error_handler(allot_error_handler handler, void *context);

/* allot_version - "major.minor.patch" of the library that is running.
 *
 *   threads, signals, fork: always safe.  errors: none
 */
ALLOT_API const char *allot_version(void);

#ifdef __cplusplus
}
#endif
#endif
