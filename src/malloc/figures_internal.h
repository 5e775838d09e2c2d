/* SPDX-License-Identifier: MIT */
/* figures_internal.h - the table that option stats prints at exit. */
#ifndef MALLOC_FIGURES_INTERNAL_H
#define MALLOC_FIGURES_INTERNAL_H

/* To standard error. Not async-signal-safe. */
void figures_print(void);

#endif
