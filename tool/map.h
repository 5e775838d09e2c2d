/* SPDX-License-Identifier: MIT */
/* map.h - between the files of allot map. */
#ifndef TOOL_MAP_H
#define TOOL_MAP_H

#include "heap_view.h"

#include <stdio.h>

/* Writes the picture: one SVG that needs nothing else. */
void map_svg(FILE *out, const struct target *target, const struct heap_view *view);

/* The same in letters. */
void map_text(FILE *out, const struct target *target, const struct heap_view *view);

/* "process 12 (redis-server)", or the core file's path. The caller frees it. */
char *map_whose(const struct target *target);

#endif
