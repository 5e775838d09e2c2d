/* SPDX-License-Identifier: MIT */
/* check_lines.h - what a checked program writes on standard error, with functions and lines in the stacks of leaks.
 *
 * Leaks are told when the program is about to end, in lines "    at FUNCTION (MODULE+OFFSET)" that know what the
 * program exports and no more. The rest passes as it is, also a line that isn't complete yet.
 */
#ifndef TOOL_CHECK_LINES_H
#define TOOL_CHECK_LINES_H

#include "symbols.h"

struct lines {
    struct symbols *symbols;
    char *text; /* the beginning of a line of a stack */
    size_t length;
};

/* Passes on what has come at file to standard error; false when nothing has. */
bool lines_take(struct lines *lines, int file);
/* Whatever is left. */
void lines_end(struct lines *lines);

#endif
