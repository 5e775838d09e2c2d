/* SPDX-License-Identifier: MIT */
/* table.h - rows of cells in columns that fit the terminal.
 *
 * The last column takes what is left and is broken into lines. Where less than a third of the terminal would be left
 * for it, each row becomes a paragraph instead: its first cell, and below it the others, each with its column's name.
 */
#ifndef TOOL_TABLE_H
#define TOOL_TABLE_H

#include "tool.h"

#define TABLE_COLUMNS 12

struct table_column {
    const char *name;
    bool right; /* aligned, for numbers */
};

struct table {
    const struct table_column *columns;
    size_t n_columns;
    size_t n_rows;
    char **cells; /* copies, row by row */
};

struct table table_begin(const struct table_column *columns, size_t n_columns);
void table_row(struct table *table, const char *const *cells);
/* Prints it with its names above, and frees what it holds. */
void table_end(struct table *table, FILE *out);

#endif
