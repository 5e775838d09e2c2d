/* SPDX-License-Identifier: MIT */
/* place.h - stands in for src/pool/place.h: each thread of the model has a place of its own, unless they share one. */
#ifndef POOL_PLACE_H
#define POOL_PLACE_H

#include "weak.h"

extern _Atomic ptrdiff_t place_cpu_offset;

static inline void place_start(void)
{
}

static inline unsigned place_now(void)
{
    return weak_place();
}

#endif
