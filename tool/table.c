/* SPDX-License-Identifier: MIT */
/* table.c - see table.h. */
#include "table.h"

#include <stdlib.h>
#include <string.h>

#define GAP 2

struct table table_begin(const struct table_column *columns, size_t n_columns)
{
    return (struct table){.columns = columns, .n_columns = n_columns};
}

void table_row(struct table *table, const char *const *cells)
{
    size_t n = table->n_rows * table->n_columns;
    table->cells = take_more(table->cells, (n + table->n_columns) * sizeof *table->cells);
    for (size_t i = 0; i < table->n_columns; i++) {
        table->cells[n + i] = take_copy(cells[i]);
    }
    table->n_rows++;
}

static const char *cell(const struct table *table, size_t row, size_t column)
{
    return table->cells[row * table->n_columns + column];
}

static size_t column_width(const struct table *table, size_t column)
{
    size_t width = text_columns(table->columns[column].name);
    for (size_t row = 0; row < table->n_rows; row++) {
        size_t n = text_columns(cell(table, row, column));
        width = n > width ? n : width;
    }
    return width;
}

static void print_cell(FILE *out, const char *s, size_t width, bool right)
{
    int rest = (int)(width - text_columns(s));
    fprintf(out, "%*s%s%*s", right ? rest : 0, "", s, right ? GAP : rest + GAP, "");
}

static void print_paragraphs(const struct table *table, FILE *out)
{
    for (size_t row = 0; row < table->n_rows; row++) {
        print_painted(out, PAINT_BOLD, cell(table, row, 0));
        fputc('\n', out);
        for (size_t i = 1; i < table->n_columns; i++) {
            if (cell(table, row, i)[0] != '\0') {
                fprintf(out, "  %s: ", table->columns[i].name);
                print_wrapped(out, 4 + text_columns(table->columns[i].name), 4, cell(table, row, i));
            }
        }
    }
}

static void print_rows(const struct table *table, FILE *out, const size_t *widths, size_t last_at)
{
    size_t last = table->n_columns - 1;
    for (size_t i = 0; i < last; i++) {
        print_cell(out, table->columns[i].name, widths[i], table->columns[i].right);
    }
    fprintf(out, "%s\n", table->columns[last].name);
    for (size_t row = 0; row < table->n_rows; row++) {
        for (size_t i = 0; i < last; i++) {
            print_cell(out, cell(table, row, i), widths[i], table->columns[i].right);
        }
        const char *text = cell(table, row, last);
        if (table->columns[last].right) {
            fprintf(out, "%*s%s\n", (int)(widths[last] - text_columns(text)), "", text);
        } else {
            print_wrapped(out, last_at, last_at, text);
        }
    }
}

void table_end(struct table *table, FILE *out)
{
    size_t widths[TABLE_COLUMNS];
    size_t at = 0;
    for (size_t i = 0; i < table->n_columns; i++) {
        widths[i] = column_width(table, i);
        at += i + 1 < table->n_columns ? widths[i] + GAP : 0;
    }
    size_t width = terminal_width();
    bool fits = at + widths[table->n_columns - 1] <= width || (at < width && width - at >= width / 3);
    if (fits) {
        print_rows(table, out, widths, at);
    } else {
        print_paragraphs(table, out);
    }
    for (size_t i = 0; i < table->n_rows * table->n_columns; i++) {
        free(table->cells[i]);
    }
    free(table->cells);
    *table = (struct table){.n_rows = 0};
}
