/* SPDX-License-Identifier: MIT */
/* index_internal.h - the free spans of a store by kind and length, the dirty ones also by age.
 *
 *     kind   CLEAN, DIRTY
 *     row    lengths 1 .. 32 have one each, then four to a doubling; a bit a row tells whether it is empty
 *
 * Time is constant but for one row, of which INDEX_SCAN spans are tried.
 * Threads.  Under the store's lock, all of it.
 */
#ifndef SPAN_INDEX_INTERNAL_H
#define SPAN_INDEX_INTERNAL_H

#include "span/span.h"

enum span_kind { SPAN_CLEAN, SPAN_DIRTY };

#define INDEX_ROWS 128

struct index {
    struct span *rows[2][INDEX_ROWS];
    uint64_t occupied[2][INDEX_ROWS / 64];
    struct span *oldest;
    struct span *youngest;
    size_t granules[2];
};

/* The span joins free neighbours of its kind. Its stamp and, when clean, zero and purged are set. */
void index_add(struct index *index, struct span *span, enum span_kind kind);

/* A span of n granules at a multiple of align_granules, out of the smallest that is found; NULL when there is none. */
struct span *index_take(struct index *index, enum span_kind kind, size_t n, size_t align_granules);

/* A span of n granules out of a shorter dirty one, a large one, and its free neighbours, which are clean; NULL when there
 * is none. */
struct span *index_take_extended(struct index *index, size_t n);

/* Takes the largest dirty span, at most one of at_most granules, out of the index. NULL when there is none. */
struct span *index_take_largest(struct index *index, size_t at_most);

/* Takes the oldest dirty span if it is older than that. */
struct span *index_take_older(struct index *index, uint32_t stamp_ms);

/* The first n granules of the free span that begins at begin leave the index; false when there is none so long. The
 * span's own descriptor tells whether they were zero. */
bool index_take_at(struct index *index, void *begin, size_t n, bool *zero);

/* For span_each_area, when an index is begun anew: none of these granules is the end of a free span any more. */
int index_forget(void *begin, size_t n, void *unused);

#endif
