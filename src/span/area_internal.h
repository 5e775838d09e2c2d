/* SPDX-License-Identifier: MIT */
/* area_internal.h - large pieces of address space from the OS, committed in steps and cut from the front.
 *
 * Areas are never given back: what is free in them is purged. Each new one is a quarter of all before it, so a heap of
 * any size stays within a few dozen kernel mappings.
 *
 * Threads.  Any; lock-free.
 * Orders.   O9   an area is published whole.
 *           O11  committed: release pairs with acquire.
 */
#ifndef SPAN_AREA_INTERNAL_H
#define SPAN_AREA_INTERNAL_H

#include "base/atomic.h"
#include "base/base.h"

struct area {
    char *begin;
    char *end;
    _Atomic(char *) cut;       /* begin <= cut <= committed: below it lie spans */
    _Atomic(char *) committed; /* up to here it is writable */
    struct area *next;         /* set before it is published */
};

/* Room for at least bytes at a multiple of align; not yet published. NULL when the OS refuses. */
struct area *area_new(size_t bytes, size_t align);

void area_publish(struct area *area);

/* The newest; the others by next. */
struct area *area_list(void);

/* The next bytes of the area, at a multiple of align, committed and zero; NULL when there is no room or no commitment.
 * *skipped is where the bytes passed over for align begin: they are committed too. */
void *area_cut(struct area *area, size_t bytes, size_t align, char **skipped);

/* Cuts bytes more, if begin is where the area is cut now; false when it isn't or there is no room. */
bool area_extend(struct area *area, char *begin, size_t bytes);

#endif
