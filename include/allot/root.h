/* SPDX-License-Identifier: MIT */
/* root.h - where allot's books are, for who looks at a process from outside: through /proc, a debugger, or a core file.
 *
 * Nothing here is called. A reader finds the table allot_root by its name, or by the ELF note "allot" of type
 * ALLOT_ROOT_NOTE, whose 8 bytes say how far the table lies behind them (so a stripped static program is read as well).
 * From there addresses lead to the books, and fields tell how their structures are laid out. Whoever changes such a
 * structure changes the table with it: it is made of sizeof and offsetof.
 *
 * Everything may change while it is read. A reader takes nothing for granted: it checks each number before it uses it
 * as an index or a length, follows no list longer than it can be, and says that the process ran.
 *
 * A table belongs to one version of allot: who reads another ALLOT_ROOT_VERSION can't go on. Sizes and fields within a
 * version may grow at the end of a table only; bytes tells how much of it there is.
 */
#ifndef ALLOT_ROOT_H
#define ALLOT_ROOT_H

#include <allot/allot.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ALLOT_ROOT_MAGIC UINT64_C(0x746f6f722d6c6c61) /* "all-root" in memory of a little-endian machine */
#define ALLOT_ROOT_VERSION 1u
#define ALLOT_ROOT_NOTE 1u

/* Where a field is in its structure. Of bytes 1, 2, 4 or 8 it is a number; of others an array. */
typedef struct allot_field {
    uint32_t at;
    uint32_t bytes;
} allot_field;

/* The address map: granules of address space, a 32-bit tag and a descriptor each. src/map/map.h */
typedef struct allot_root_map {
    uint32_t bytes; /* of this table; so begin all of them */
    uint32_t granule_shift;
    uint32_t chunk_shift; /* a chunk's descriptors lie in one array */
    uint32_t leaf_shift;  /* what one of roots covers */
    uint32_t n_roots;
    uint32_t descriptor_bytes;
    uint32_t code_other; /* a tag is heap number << 8 | code; below this the code is a class */
    uint32_t code_large;
    uint32_t code_pool;
    uint32_t code_free;
    uint32_t heap_first; /* heaps have numbers from here on */
    uint32_t leaf_bytes;
    const void *window; /* the structure that the next four are in */
    allot_field window_begin;
    allot_field window_granules; /* 0: there is none yet */
    allot_field window_tags;
    allot_field window_chunks;
    const void *roots; /* n_roots addresses of leaves */
    allot_field leaf_tags;
    allot_field leaf_chunks;
    const void *books; /* the address of the newest piece of books */
    allot_field books_older;
    allot_field books_bytes; /* counted from the piece's own address */
} allot_root_map;

/* Areas: address space that spans are cut from. src/span/area_internal.h */
typedef struct allot_root_areas {
    uint32_t bytes;
    uint32_t area_bytes;
    const void *newest; /* the address of the newest area's address */
    allot_field begin;
    allot_field end;
    allot_field cut;
    allot_field committed;
    allot_field next;
} allot_root_areas;

/* Spans that are free, and what went back to the system. A free span's first descriptor has state state_free. */
typedef struct allot_root_store {
    uint32_t bytes;
    uint32_t state_free;
    allot_field span_begin; /* of a descriptor */
    allot_field span_granules;
    allot_field span_back; /* granules from this descriptor's back to the span's first */
    allot_field span_stamp_ms;
    allot_field span_state;
    allot_field span_zero;
    allot_field span_purged;
    allot_field span_own;
    const void *used_granules; /* addresses of size_t */
    const void *dirty_granules;
    const void *purged_bytes;
    const void *n_purges;
    const void *n_refusals;
    const void *learned_cap;
} allot_root_store;

/* Heaps, and the descriptors of their slabs and of large blocks. src/heap/heap.h, src/heap/heap_internal.h */
typedef struct allot_root_heap {
    uint32_t bytes;
    uint32_t n_small; /* classes below this have bins, and slabs of one granule */
    uint32_t n_classes;
    uint32_t class_sparse;       /* a bit in the code of a small slab some of whose pages went to the system */
    const uint32_t *class_bytes; /* n_classes of them */
    const void *secret;
    /* A free block's words are its link and link ^ address ^ secret ^ form, for the first three forms; for outbox the
     * second alone, without a link, and with a number in form_outbox_number bits below. */
    uint64_t form_own;
    uint64_t form_sent;
    uint64_t form_sorted;
    uint64_t form_outbox;
    uint32_t form_outbox_number;
    uint32_t heap_bytes;
    const void *n_heaps; /* the address of a uint32_t */
    const void *pages;   /* n_pages addresses of pages, each of page_heaps addresses of heaps */
    uint32_t n_pages;
    uint32_t page_heaps;
    uint32_t state_idle;
    uint32_t unused_0;
    allot_field heap_number;
    allot_field heap_state;
    allot_field heap_current_of; /* an address in the thread-local storage of the heap's thread */
    allot_field heap_inbox_bytes;
    allot_field heap_requested; /* a sample: of so many bytes asked for ... */
    allot_field heap_sampled;   /* ... blocks of so many came */
    allot_field heap_bins;      /* n_small + 1 of bin_bytes each */
    uint32_t bin_bytes;
    uint32_t unused;
    allot_field bin_limit; /* both are signed: limit - room free blocks are in the bin */
    allot_field bin_room;
    allot_field slab_class; /* of a descriptor, as are the rest */
    allot_field slab_capacity;
    allot_field slab_carved;
    allot_field slab_bare_pages; /* a bit a page; blocks that begin there are free */
    allot_field slab_stamp_ms;   /* when a block last came back; milliseconds of the monotonic clock, cut to 32 bits */
    allot_field medium_class;
    allot_field medium_capacity;
    allot_field medium_block_bytes;
    allot_field medium_free;
    allot_field medium_remote; /* a bit a block in both: free, if in either */
    allot_field medium_stamp_ms;
    allot_field large_bytes;
    allot_field large_requested;
} allot_root_heap;

/* A static pool, and the structures of both. src/pool/pool_internal.h */
typedef struct allot_root_pool {
    uint32_t bytes;
    uint32_t unit_shift;
    uint32_t segment_units; /* at most */
    uint32_t granule_units;
    uint32_t class_last;
    uint32_t class_slot_bytes;
    uint32_t shape_slot_bytes;
    uint32_t kind_run;
    uint64_t anchor_open;
    const void *of_heap; /* the two pools */
    const void *of_public;
    const void *classes;
    const void *shapes;
    allot_field class_bytes;
    allot_field shape_blocks;
    allot_field shape_units;
    allot_field segs; /* from the pool to its table of segments; 0 while there is none */
    allot_field n_segments;
    allot_field segment_data; /* from the segment to its memory */
    allot_field segment_granules;
    allot_field segment_used; /* a word a granule, a bit a unit */
    uint32_t segment_first_unit;
    uint32_t unit_bytes;
    allot_field unit_anchor;
    allot_field unit_kind;
    allot_field unit_info;
    allot_field mapping_bytes; /* of a large block's first descriptor; 0: not live */
    uint32_t tag_own;          /* in a tag's upper 24 bits: a large block with a mapping of its own */
    uint32_t tag_number_shift;
} allot_root_pool;

/* The options and their present values. src/config/config.h */
typedef struct allot_root_config {
    uint32_t bytes;
    uint32_t n;
    const void *values; /* n of int64_t */
    const void *rows;
    uint32_t row_bytes;
    uint32_t unused;
    allot_field row_name; /* the address of a string */
} allot_root_config;

/* Arenas: a tree of structures. src/arena/arena_internal.h */
typedef struct allot_root_arena {
    uint32_t bytes;
    uint32_t arena_bytes;   /* so much of it is there in any arena */
    uint32_t segment_bytes; /* likewise */
    uint32_t word_shift;    /* words below are so large */
    uint32_t life;          /* what an arena that lives has in its field */
    uint32_t kind_general;
    const void *roots; /* the address of the first arena without a parent */
    allot_field arena_life;
    allot_field arena_serial; /* of no other arena */
    allot_field arena_kind;
    allot_field arena_children; /* the first of them */
    allot_field arena_sibling;
    allot_field arena_segments; /* the first of them */
    allot_field arena_current;  /* of another kind than general: the segment that is being cut */
    allot_field arena_head;     /* where the next block is cut, in one of these two, and the segment's end behind it */
    allot_field arena_hidden;
    allot_field arena_size;
    allot_field arena_capacity; /* in words */
    allot_field arena_free;     /* of a general one, in words */
    allot_field arena_total;
    allot_field arena_soft_limit;
    allot_field arena_hard_limit;
    allot_field arena_sealed;
    allot_field arena_file; /* the address of a string */
    allot_field arena_line;
    allot_field arena_name; /* the text itself */
    allot_field segment_next;
    allot_field segment_words;
} allot_root_arena;

struct allot_root {
    uint64_t magic;
    uint32_t version;
    uint32_t bytes;
    const char *library_version; /* as allot_version() says */
    const allot_root_map *map;
    const allot_root_areas *areas;
    const allot_root_store *store;
    const allot_root_heap *heap;
    const allot_root_pool *pool;
    const allot_root_config *config;
    const allot_root_arena *arena;
};

/* The table itself. Constant. */
ALLOT_API extern const struct allot_root allot_root;

#ifdef __cplusplus
}
#endif
#endif
