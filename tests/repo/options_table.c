/* SPDX-License-Identifier: MIT */
/* options_table.c - writes docs/options.md from the table of options. */
#include "config/config.h"

#include <stdio.h>
#include <string.h>

/* What stands in a cell must not end it. */
static void cell(const char *s)
{
    for (; *s; s++)
        printf(*s == '|' ? "\\|" : "%c", *s);
}

static void value(enum option_id id, int64_t n)
{
    char buffer[64];
    struct text text = text_in(buffer, sizeof buffer);
    option_add_value(&text, id, n);
    cell(text.bytes);
}

static void allowed(enum option_id id)
{
    const struct option_row *row = option_row(id);
    switch (row->kind) {
    case OPTION_WORD:
    case OPTION_MODE:
        cell(row->unit);
        break;
    case OPTION_TEXT:
        printf("text");
        break;
    case OPTION_BOOL:
        printf("0, 1");
        break;
    case OPTION_FILL:
        printf("off, 0 to 255");
        break;
    case OPTION_NUMBER:
    case OPTION_SIZE:
    case OPTION_LIMIT:
        value(id, row->least);
        printf(" to ");
        value(id, row->most);
        if (row->kind == OPTION_LIMIT)
            printf(", or a share: 80%%");
    }
}

int main(void)
{
    printf("<!-- Made by `make docs` from src/config/options.def. -->\n"
           "# Options\n\n"
           "    ALLOT_OPTIONS=stats,purge_age=1000,hard_limit=80%% program\n\n"
           "A list of `name=value` with commas between them, read once at start. Sizes take k, m, g and t for KiB, "
           "MiB, GiB\n"
           "and TiB; a bare name means 1. Set-uid programs and programs with capabilities ignore it. What is wrong in "
           "it is\n"
           "said on standard error with the nearest thing that would be right, and the program runs on without it.\n\n"
           "| option | default | allowed | meaning |\n|---|---|---|---|\n");
    for (enum option_id id = 0; id < OPT_COUNT; id++) {
        const struct option_row *row = option_row(id);
        printf("| `%s` | ", row->name);
        value(id, row->initial);
        printf(" | ");
        allowed(id);
        printf(" | ");
        cell(row->help);
        printf(" |\n");
    }
    return 0;
}
