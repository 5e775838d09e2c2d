/* SPDX-License-Identifier: MIT */
/* heap_read.h - between the files that make a heap_view.h. */
#ifndef TOOL_HEAP_READ_H
#define TOOL_HEAP_READ_H

#include "heap_view.h"

/* Reads the heap through the root table into an empty view. False after a line. */
bool heap_read(struct target *target, struct heap_view *view);

/* A span of which nothing is known yet. */
struct span_view *heap_view_add(struct heap_view *view);
void range_add(struct range **ranges, size_t *n, uint64_t begin, uint64_t bytes);
/* An array with room for one more; it grows by powers of two. */
void *grown(void *items, size_t n, size_t item_bytes);

/* From what is in the span (use, blocks, live_bits; of a pool live_bytes): what is live, and what of it is resident. */
void span_measure(struct target *target, struct span_view *span);
uint64_t resident_in(struct target *target, uint64_t begin, uint64_t bytes);

#endif
