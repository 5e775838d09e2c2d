/* SPDX-License-Identifier: MIT */
/* root.c - what <allot/root.h> says of heaps, for who looks from outside. */
#include "heap/heap_internal.h"

#include <allot/root.h>

/* The sizes of heap_class_size, as constants. */
#define LINEAR(c) (((c) + 1) * BLOCK_ALIGN)
#define STEP(doubling, n) ((128u << (doubling)) + (n) * (BLOCK_ALIGN << (doubling)))
#define DOUBLING(d) STEP(d, 1), STEP(d, 2), STEP(d, 3), STEP(d, 4), STEP(d, 5), STEP(d, 6), STEP(d, 7), STEP(d, 8)

static const uint32_t class_bytes[] = {
    LINEAR(0),   LINEAR(1),   LINEAR(2),   LINEAR(3),   LINEAR(4),    LINEAR(5),    LINEAR(6),
    LINEAR(7),   DOUBLING(0), DOUBLING(1), DOUBLING(2), DOUBLING(3),  DOUBLING(4),  DOUBLING(5),
    DOUBLING(6), DOUBLING(7), DOUBLING(8), DOUBLING(9), DOUBLING(10), DOUBLING(11),
};
_Static_assert(sizeof class_bytes == CLASS_COUNT * sizeof class_bytes[0], "one size a class");

const struct allot_root_heap heap_root = {
    .bytes = sizeof heap_root,
    .n_small = SMALL_CLASSES,
    .n_classes = CLASS_COUNT,
    .class_sparse = CLASS_SPARSE,
    .class_bytes = class_bytes,
    .secret = &heap_secret_word,
    .form_own = FORM_OWN,
    .form_sent = FORM_SENT,
    .form_sorted = FORM_SORTED,
    .form_outbox = FORM_OUTBOX,
    .form_outbox_number = FORM_OUTBOX_NUMBER,
    .n_heaps = &heaps.n_heaps,
    .pages = heaps.pages,
    .n_pages = TABLE_PAGES,
    .page_heaps = PAGE_HEAPS,
    .heap_bytes = sizeof(struct heap),
    .state_idle = HEAP_IDLE,
    .heap_number = ROOT_FIELD(struct heap, number),
    .heap_state = ROOT_FIELD(struct heap, state),
    .heap_current_of = ROOT_FIELD(struct heap, current_of),
    .heap_inbox_bytes = ROOT_FIELD(struct heap, inbox_bytes),
    .heap_requested = ROOT_FIELD(struct heap, requested_bytes),
    .heap_sampled = ROOT_FIELD(struct heap, sampled_bytes),
    .heap_bins = ROOT_FIELD(struct heap, bins),
    .bin_bytes = sizeof(struct bin),
    .bin_limit = ROOT_FIELD(struct bin, limit),
    .bin_room = ROOT_FIELD(struct bin, room),
    .slab_class = ROOT_FIELD(struct slab, class),
    .slab_capacity = ROOT_FIELD(struct slab, capacity),
    .slab_carved = ROOT_FIELD(struct slab, n_carved),
    .slab_bare_pages = ROOT_FIELD(struct slab, bare_pages),
    .slab_stamp_ms = ROOT_FIELD(struct slab, stamp_ms),
    .medium_class = ROOT_FIELD(struct medium, class),
    .medium_capacity = ROOT_FIELD(struct medium, capacity),
    .medium_block_bytes = ROOT_FIELD(struct medium, block_bytes),
    .medium_free = ROOT_FIELD(struct medium, free),
    .medium_remote = ROOT_FIELD(struct medium, remote),
    .medium_stamp_ms = ROOT_FIELD(struct medium, stamp_ms),
    .large_bytes = ROOT_FIELD(struct large, bytes),
    .large_requested = ROOT_FIELD(struct large, requested),
};
