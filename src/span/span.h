/* SPDX-License-Identifier: MIT */
/* span.h - runs of granules, taken from large areas of the OS's memory and given back to it by age and by cap.
 *
 *     area  | span used | span free, dirty | span used | span free, clean | never cut ... |  reserved, not committed |
 *           begin                                                         cut             committed                end
 *
 * A free span is dirty (its pages are resident, its contents anything) or clean (purged, or never touched). Dirty ones
 * are used again first. They go back to the OS when they have been free for purge_age, or at once, largest first, when
 * all of them together pass the cap. The cap learns: it doubles when memory that the cap sent back is wanted again soon,
 * and shrinks when that stops.
 *
 * Invariants.  S1  The first and the last descriptor of a free span in the store are in state SPAN_FREE and tell its
 *                  length; no other descriptor is in that state. Changed under the store's lock alone.
 *              S2  Free neighbours of one kind are one span.
 * Threads.     Any. The store has a lock that nobody waits for: who can't have it soon takes fresh memory from the OS,
 *              and leaves what it gives on the pending stack for the next holder.
 * Signals.     All async-signal-safe, for the same reason.
 * Fork.        span_fork_child: a store whose lock a lost thread held is begun anew.
 * Orders.      O7  pending: push/release pairs with the exchange/acquire of the lock's next holder.
 *              O8  store lock: release pairs with acquire.
 */
#ifndef SPAN_SPAN_H
#define SPAN_SPAN_H

#include "base/base.h"
#include "map/map.h"

enum span_state {
    SPAN_NONE = 0, /* no span begins or ends here */
    SPAN_FREE,
    SPAN_USED
};

/* The descriptor of a span's first granule; the span's user may use the rest of its DESCRIPTOR_BYTES. */
struct span {
    char *begin;
    struct span *next; /* in the store's lists while free; the user's otherwise */
    struct span *prev;
    uint32_t n_granules;
    uint32_t back;     /* in any other descriptor of a span: granules back to the first one */
    uint32_t stamp_ms; /* when it became free, or was purged */
    _Atomic uint8_t state; /* written under the store's lock; relaxed: what is just being cut is not free either way */
    uint8_t zero;      /* every byte is known to be zero */
    uint8_t purged;    /* clean, and was dirty once: taking it soon again is a regret */
    uint8_t own;       /* a mapping of its own, in no area */
    uint8_t touched;   /* on the pending stack: its pages may be resident */
    /* dirty free spans, oldest first */
    struct span *older;
    struct span *younger;
};

INLINE size_t span_bytes(const struct span *span)
{
    return (size_t)span->n_granules << GRANULE_SHIFT;
}

/* Makes sure that there is an area, and so the map's window. False when the OS refuses. */
NODISCARD bool span_prepare(void);

/* A span of n granules, aligned to align_granules (a power of two) of them; its descriptor is filled, tags are the
 * caller's to set. NULL when the OS refuses. */
NODISCARD struct span *span_take(size_t n_granules, size_t align_granules);

/* Back to the store. touched: pages may be resident. The caller has taken its tags away. */
void span_give(struct span *span, bool touched);

/* Grows a used span into free memory right behind it. The new granules need tags. zero_tail tells whether they are. */
NODISCARD bool span_grow(struct span *span, size_t n_granules, bool *zero_tail);

/* Gives the granules behind the first n back, of a mapping of its own as well. The caller has taken their tags away. */
void span_shrink(struct span *span, size_t n_granules);

/* A span in a mapping of its own, bytes of it usable; NULL when the OS refuses. span_unmap gives it back. */
NODISCARD struct span *span_map(size_t bytes, size_t align);
void span_unmap(struct span *span);
/* Grows it and may move it; tags of the old place are taken away then, tags of the new one are the caller's. NULL: as it
 * was. */
NODISCARD struct span *span_remap(struct span *span, size_t bytes);

/* Returns to the OS what is due. Cheap when nothing is; for slow paths. */
void span_tick(uint64_t now_ms);

/* Returns dirty spans to the OS until at most keep_bytes remain; how much went. */
size_t span_trim(size_t keep_bytes);

/* In the child of a fork, before anything else. */
void span_fork_child(void);

/* When a thread ends: one that left the store by siglongjmp, for good, holds its lock. */
void span_thread_exit(void);

/* Whether the hard limit, if there is one, allows bytes more. */
bool span_within_limit(size_t bytes);

struct span_figures {
    size_t n_areas;
    size_t area_bytes;
    size_t committed_bytes;
    size_t used_bytes;
    size_t dirty_bytes;
    size_t n_own;
    size_t own_bytes;
    size_t purged_bytes;
    size_t n_purges;
    size_t n_refusals;
    size_t limit_soft;
    size_t limit_hard;
};
void span_figures(struct span_figures *figures);

/* Calls visit with each range of granules that has been cut from an area, until it returns other than 0; that, or 0. */
int span_each_area(int (*visit)(void *begin, size_t n_granules, void *context), void *context);
/* The same for mappings of their own, each whole. */
int span_each_own(int (*visit)(struct span *span, void *context), void *context);

/* What <allot/root.h> says of areas and of the store. */
extern const struct allot_root_areas span_root_areas;
extern const struct allot_root_store span_root_store;

#endif
