/* SPDX-License-Identifier: MIT */
/* span_internal.h - what the files of this room share. */
#ifndef SPAN_SPAN_INTERNAL_H
#define SPAN_SPAN_INTERNAL_H

#include "span/span.h"

size_t own_count(void);
size_t own_bytes(void);
void own_shrink(struct span *span, size_t n);

#endif
