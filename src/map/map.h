/* SPDX-License-Identifier: MIT */
/* map.h - the address map: any 64-bit value can be asked what it is.
 *
 *     address   | 47 ......... 22 | 21 ..... 16 | 15 ......... 0 |
 *                 chunk (4 MiB)     granule       within a granule
 *
 * A granule has a 32-bit tag: heap number << 8 | class, or one of the codes below in the low byte; 0 is "not ours".
 * A chunk has an array of 64 descriptors, one a granule, out of line: no user memory lies beside them.
 *
 * Tags of a window of address space around the first area stand in one flat array: one load. Memory that the kernel
 * put elsewhere stands in a tree of 1 GiB leaves, asked when the address is outside the window.
 *
 * Invariants.  M1  A tag other than 0 is stored only after map_add covered its granule, and its descriptor exists.
 *              M2  Neither tag arrays, descriptors nor books are ever freed or moved.
 * Threads.     Any. map_tag is wait-free; map_add is lock-free. No locks.
 * Signals.     All async-signal-safe.
 * Orders.      O1 map_set/release pairs with map_tag_acquire: who sees a tag sees the descriptor filled before it.
 *              A thread that passes a live block's address has been synchronised with already, so map_tag is relaxed.
 */
#ifndef MAP_MAP_H
#define MAP_MAP_H

#include "base/atomic.h"
#include "base/base.h"

#define GRANULE_SHIFT 16
#define GRANULE_BYTES ((size_t)1 << GRANULE_SHIFT)
#define CHUNK_SHIFT 22
#define CHUNK_BYTES ((size_t)1 << CHUNK_SHIFT)
#define CHUNK_GRANULES (CHUNK_BYTES / GRANULE_BYTES)
#define DESCRIPTOR_BYTES 128

/* The low byte of a tag. Below MAP_CODE_OTHER it is a size class of the heap named in the upper 24 bits. */
enum {
    MAP_CODE_OTHER = 0xe0,
    MAP_CODE_LARGE = 0xe0, /* a large block; upper bits: granules back to its first one, saturated */
    MAP_CODE_POOL = 0xe1,  /* a superblock or a mapping of the pool */
    MAP_CODE_FREE = 0xe2,  /* a free span: ours, and nothing is in it */
    MAP_CODE_GUARD = 0xe3, /* one block between pages that can't be touched: base/hooks.h says what it is */
};

/* Heap numbers with a meaning. Real heaps start at MAP_HEAP_FIRST. */
enum {
    MAP_HEAP_NONE = 0,
    MAP_HEAP_GONE = 1, /* a slab whose granules went back; the code says which class it had */
    MAP_HEAP_FIRST = 2,
    MAP_HEAP_LAST = 0xfffffd,
    MAP_HEAP_CLOSED = 0xfffffe, /* never in the map */
    MAP_HEAP_LENT = 0xffffff    /* never in the map */
};

INLINE uint32_t map_make_tag(uint32_t heap_number, uint32_t code)
{
    return heap_number << 8 | code;
}

INLINE uint32_t map_tag_heap(uint32_t tag)
{
    return tag >> 8;
}

INLINE uint32_t map_tag_code(uint32_t tag)
{
    return tag & 0xff;
}

struct map_window {
    _Atomic uintptr_t begin;
    _Atomic size_t n_granules; /* 0 until the window stands; O2 published last */
    _Atomic(_Atomic uint32_t *) tags;
    _Atomic(_Atomic(char *) *) chunks;
};

extern struct map_window map_window; /* set once, by map_init */

/* Sets the window up around near, an address in the first area. False when the OS refuses: nothing may be added then.
 * Idempotent; lock-free; before the first map_add. */
NODISCARD bool map_init(const void *near);

/* Makes room for the tags and descriptors of a range of whole granules. 0 or -ENOMEM. Idempotent. */
NODISCARD int map_add(void *begin, size_t bytes);

/* The tag of an address outside the window. */
uint32_t map_tag_outside(uintptr_t address);

/* The descriptor of an address outside the window. */
void *map_descriptor_outside(uintptr_t address);

/* Gives n granules from begin on the same tag. They have been added. */
void map_set(void *begin, size_t n_granules, uint32_t tag);

/* Changes the tag of one granule from one value to another; false when it had a third. Of several threads that try, one
 * succeeds. */
NODISCARD bool map_claim(void *begin, uint32_t from, uint32_t to);

/* Tags a large block: each granule tells how far back the first one is. */
void map_set_large(void *begin, size_t n_granules);

/* Calls visit with the begin of each chunk that has descriptors, by ascending address within the window and the tree,
 * until it returns other than 0; that, or 0. */
int map_each_chunk(int (*visit)(char *begin, void *context), void *context);

/* Memory for books that live as long as the process: zeroed, aligned to a cache line, NULL when the OS refuses. */
void *map_books(size_t bytes);
/* Calls visit with each piece of memory that books lie in, the window's arrays included, until it returns other than 0;
 * that, or 0. */
int map_each_books(int (*visit)(void *begin, size_t bytes, void *context), void *context);
/* Address space and resident bytes of all books, the window included. */
size_t map_books_bytes(void);
size_t map_books_resident_bytes(void);
/* Calls visit with each piece of books, the window's arrays and the tree's leaves included, until it returns other than 0;
 * that, or 0. */
int map_each_book(int (*visit)(void *begin, size_t bytes, void *context), void *context);

INLINE uint32_t map_tag(const void *p)
{
    /* O2 acquire: pairs with the release in map_init, so that begin and tags are there when n_granules is. */
    size_t n = load_acquire(&map_window.n_granules);
    uintptr_t granule = ((uintptr_t)p - load_relaxed(&map_window.begin)) >> GRANULE_SHIFT;
    if (UNLIKELY(granule >= n)) {
        return map_tag_outside((uintptr_t)p);
    }
    return load_relaxed(&load_relaxed(&map_window.tags)[granule]);
}

/* For those who have no block there, and look at what the descriptor says. */
uint32_t map_tag_acquire(const void *p);

/* The granule's descriptor, DESCRIPTOR_BYTES of it, zeroed when new. NULL where map_add never was. */
INLINE void *map_descriptor(const void *p)
{
    size_t n = load_acquire(&map_window.n_granules); /* O2 */
    uintptr_t offset = (uintptr_t)p - load_relaxed(&map_window.begin);
    if (UNLIKELY(offset >> GRANULE_SHIFT >= n)) {
        return map_descriptor_outside((uintptr_t)p);
    }
    /* O5 acquire: pairs with the release in chunk_make, so that the descriptors read as zeros. */
    char *descriptors = load_acquire(&load_relaxed(&map_window.chunks)[offset >> CHUNK_SHIFT]);
    return descriptors == NULL ? NULL : descriptors + (offset >> GRANULE_SHIFT) % CHUNK_GRANULES * DESCRIPTOR_BYTES;
}

/* What <allot/root.h> says of the map. */
extern const struct allot_root_map map_root;

/* ---- ranges: memory of any size and place, and who owns it --------------------------------------------------- */

/* Ranges are added and removed by one thread at a time; of two that overlap one contains the other. Asking needs no
 * lock. bytes is not 0. NULL when the OS refuses books; the first few hundred need none. */
struct map_range *map_range_add(const void *begin, size_t bytes, void *owner);
void map_range_remove(struct map_range *range);

struct map_range_found {
    char *begin;
    size_t bytes;
    void *owner;
};
/* The table itself, as far as it is no book: it is full of addresses that are none of the program's pointers. */
void *map_range_statics(size_t *bytes);
/* The smallest range that an address, any 64-bit value, lies in. */
bool map_range_find(const void *p, struct map_range_found *found);

/* ---- faults: a statement about an address ------------------------------------------------------------------- */

struct os_registers;

struct fault {
    const char *name;    /* the field's word: "double free", "invalid free", ... */
    const void *address; /* what the caller passed */
    const void *block;   /* NULL when no block covers it */
    size_t block_bytes;
    const char *state;  /* of the block: "free", "live", ...; or, without a block, what the address is instead */
    bool is_mapping;    /* the block is a collected mapping */
    bool fatal;         /* going on would damage memory: the handler can't ask for it */
    const char *arena;  /* the name of the arena that the call was for; NULL: none */
    const char *action; /* what was done: "free", "realloc", "read", ...; NULL: free */
    const struct os_registers *registers; /* of the code that touched the address; NULL: the caller's own stack tells */
};

/* Writes the one line, asks the handler, and aborts unless that says to go on. Keeps errno. */
void fault_report(const struct fault *fault);

/* The line, into a buffer that it is cut to; its length without the NUL. */
size_t fault_line(const struct fault *fault, char *line, size_t capacity);

/* How ranges describe an address of theirs: block, state and arena of a fault that was found by somebody else. */
typedef void (*map_range_describer)(void *owner, const void *p, struct fault *fault);
void map_range_set_describer(map_range_describer describe);

/* The handler is called with the line (without a newline) and says whether to go on. NULL: abort. */
typedef bool (*fault_handler)(const struct fault *fault, const char *line);
void fault_set_handler(fault_handler handler);

#endif
