/* SPDX-License-Identifier: MIT */
/* options.c - allot options: what can I set? */
#include "json.h"
#include "options_table.h"
#include "table.h"

#include <stdlib.h>
#include <string.h>

static bool is_wanted(const struct option_entry *entry, char **words)
{
    for (char **word = words; *word != NULL; word++) {
        if (strstr(entry->name, *word) != NULL) {
            return true;
        }
    }
    return words[0] == NULL;
}

static void print_json(char **words)
{
    struct json json = json_begin(stdout, "options");
    json_array(&json, "options");
    for (size_t i = 0; i < n_option_entries; i++) {
        const struct option_entry *entry = &option_entries[i];
        if (!is_wanted(entry, words)) {
            continue;
        }
        json_object(&json, NULL);
        json_text(&json, "name", entry->name);
        json_text(&json, "kind", entry->kind);
        json_signed(&json, "default", entry->initial);
        json_signed(&json, "least", entry->least);
        json_signed(&json, "most", entry->most);
        json_text(&json, strcmp(entry->kind, "word") == 0 || strcmp(entry->kind, "mode") == 0 ? "words" : "unit",
                  entry->unit);
        json_text(&json, "default_shown", entry->initial_shown);
        json_text(&json, "allowed_shown", entry->allowed_shown);
        json_text(&json, "meaning", entry->help);
        json_close(&json);
    }
    json_end(&json);
}

static void print_table(char **words)
{
    static const struct table_column columns[] = {{"option", false}, {"default", false}, {"meaning", false}};
    struct table table = table_begin(columns, 3);
    for (size_t i = 0; i < n_option_entries; i++) {
        const struct option_entry *entry = &option_entries[i];
        if (is_wanted(entry, words)) {
            char *meaning = take_text("%s (%s)", entry->help, entry->allowed_shown);
            table_row(&table, (const char *[]){entry->name, entry->initial_shown, meaning});
            free(meaning);
        }
    }
    table_end(&table, stdout);
}

static int run(int argc, char **argv)
{
    static const struct option longs[] = {{"json", no_argument, NULL, 'j'}, {NULL, 0, NULL, 0}};
    bool as_json = false;
    int found;
    while ((found = next_option(argc, argv, "", longs)) != -1) {
        if (found == '?') {
            return LEFT_MISUSED;
        }
        as_json = true;
    }
    for (char **word = argv + optind; *word != NULL; word++) {
        size_t i = 0;
        while (i < n_option_entries && strstr(option_entries[i].name, *word) == NULL) {
            i++;
        }
        if (i == n_option_entries) {
            return complain("no option has \"%s\" in its name; all of them: allot options", *word);
        }
    }
    if (as_json) {
        print_json(argv + optind);
    } else {
        print_table(argv + optind);
    }
    return LEFT_WELL;
}

const struct command command_options = {
    .name = "options",
    .question = "What can I set?",
    .synopsis = "[--json] [PART OF A NAME]...",
    .usage = "  --json  as JSON\n"
             "\n"
             "Set them for one program: ALLOT_OPTIONS=name=value,name program\n",
    .run = run,
};
