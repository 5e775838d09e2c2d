/* SPDX-License-Identifier: MIT */
/* symbols.h - from an address in a module to functions, files and lines.
 *
 * An offset is an address less the place where the module was loaded (dlpi_addr): what the module's own tables call the
 * address. A module is found by its path when the build-id there is the wanted one, otherwise by build-id: below
 * /usr/lib/debug/.build-id, then from debuginfod where DEBUGINFOD_URLS is set. Nothing else goes to the network.
 */
#ifndef TOOL_SYMBOLS_H
#define TOOL_SYMBOLS_H

#include "tool.h"

struct frame {
    char *function; /* demangled; NULL when unknown */
    char *file;     /* NULL when unknown */
    int line;       /* 0 when unknown */
};

struct frames {
    struct frame *all; /* innermost first; what is inlined comes before what it is inlined into */
    size_t n;
};

struct symbols; /* modules that were opened */

struct symbols *symbols_open(void);
void symbols_close(struct symbols *symbols);

/* build_id in hex, or NULL when any will do. Always at least one frame; the caller gives them back. */
struct frames symbols_find(struct symbols *symbols, const char *path, const char *build_id, uint64_t offset);
void frames_free(struct frames *frames);

/* What is missing for better answers about this module, in words fit for a line; NULL when nothing is. */
const char *symbols_missing(struct symbols *symbols, const char *path, const char *build_id);

/* The build-id in hex, or NULL where the file has none or is none. The caller frees it. */
char *symbols_build_id(const char *path);

#endif
