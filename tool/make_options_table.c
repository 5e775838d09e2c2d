/* SPDX-License-Identifier: MIT */
/* make_options_table.c - make_options_table <file>: writes options_table.c from the library's table. Runs at build time
 * and is no part of the tool. */
#include "config/config.h"

#include <inttypes.h>
#include <stdio.h>

static const char *kind_name(enum option_kind kind)
{
    static const char *const names[] = {
        [OPTION_BOOL] = "bool", [OPTION_NUMBER] = "number", [OPTION_SIZE] = "size", [OPTION_LIMIT] = "limit",
        [OPTION_WORD] = "word", [OPTION_FILL] = "fill",     [OPTION_MODE] = "mode", [OPTION_TEXT] = "text",
    };
    return names[kind];
}

static void quoted(const char *s)
{
    printf("\"");
    for (; *s != '\0'; s++) {
        printf(*s == '"' || *s == '\\' ? "\\%c" : "%c", *s);
    }
    printf("\", ");
}

static void shown(enum option_id id, int64_t value)
{
    char buffer[64];
    struct text text = text_in(buffer, sizeof buffer);
    option_add_value(&text, id, value);
    printf("%s", text.bytes);
}

static void allowed(enum option_id id, const struct option_row *row)
{
    printf("\"");
    if (row->kind == OPTION_WORD || row->kind == OPTION_MODE) {
        printf("%s", row->unit);
    } else if (row->kind == OPTION_TEXT) {
        printf("text");
    } else if (row->kind == OPTION_BOOL) {
        printf("0 or 1");
    } else if (row->kind == OPTION_FILL) {
        printf("off, 0 to 255");
    } else {
        shown(id, row->least);
        printf(" to ");
        shown(id, row->most);
        printf(row->kind == OPTION_LIMIT ? ", or a share: 80%%" : "");
    }
    printf("\", ");
}

int main(int argc, char **argv)
{
    if (argc != 2 || freopen(argv[1], "w", stdout) == NULL) {
        return 1;
    }
    printf("#include \"options_table.h\"\n\nconst struct option_entry option_entries[] = {\n");
    for (enum option_id id = 0; id < OPT_COUNT; id++) {
        const struct option_row *row = option_row(id);
        printf("    {");
        quoted(row->name);
        quoted(kind_name(row->kind));
        printf("INT64_C(%" PRId64 "), INT64_C(%" PRId64 "), INT64_C(%" PRId64 "), ", row->initial, row->least,
               row->most);
        quoted(row->unit);
        printf("\"");
        shown(id, row->initial);
        printf("\", ");
        allowed(id, row);
        quoted(row->help);
        printf("},\n");
    }
    printf("};\n\nconst size_t n_option_entries = sizeof option_entries / sizeof option_entries[0];\n");
    return fclose(stdout) == 0 ? 0 : 1;
}
