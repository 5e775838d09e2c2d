/* SPDX-License-Identifier: MIT */
/* options_table.h - the library's options, as the tool knows them.
 *
 * options_table.c is written at build time by make_options_table from the library's one table, src/config/options.def.
 */
#ifndef TOOL_OPTIONS_TABLE_H
#define TOOL_OPTIONS_TABLE_H

#include <stddef.h>
#include <stdint.h>

struct option_entry {
    const char *name;
    const char *kind; /* bool, number, size, limit, word, fill */
    int64_t initial;
    int64_t least;
    int64_t most;
    const char *unit; /* of a word: the words, with | between them */
    const char *initial_shown;
    const char *allowed_shown;
    const char *help;
};

extern const struct option_entry option_entries[];
extern const size_t n_option_entries;

#endif
