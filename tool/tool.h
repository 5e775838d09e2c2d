/* SPDX-License-Identifier: MIT */
/* tool.h - what the subcommands of the allot command share: how they are called, how they complain, how they write.
 *
 * A subcommand is one file with one struct command, a line in commands.def and in CMakeLists.txt, a page
 * docs/man/allot-<name>.1 and a test below tests/tool/. Its run function gets argv[0] = its name, writes its answer to
 * standard output, complaints to standard error, and returns one of enum left. Whatever its answer is, --json gives it
 * as JSON that begins the same way everywhere (json.h).
 *
 * The tool includes public headers of include/allot/ alone, and is not linked to the library: it must look at programs
 * without having allot inside itself.
 */
#ifndef TOOL_TOOL_H
#define TOOL_TOOL_H

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct command {
    const char *name;
    const char *question; /* what it answers, in a line of allot help */
    const char *synopsis; /* what follows the name */
    const char *usage;    /* its options, a line each, and what else a user needs to know; ends in a newline */
    int (*run)(int argc, char **argv);
};

/* How a subcommand leaves. run, check and bench pass on what the program left with where that is what users expect. */
enum left {
    LEFT_WELL = 0,
    LEFT_FAILED = 1,  /* it could not be done; a line has said why */
    LEFT_FOUND = 2,   /* it was done and found faults */
    LEFT_MISUSED = 64 /* wrong arguments */
};

#define COMMAND(name) extern const struct command command_##name;
#include "commands.def"
#undef COMMAND

/* NULL when there is none of that name. */
const struct command *command_named(const char *name);

/* Tells complain() whose complaints they are. */
void command_begin(const struct command *command);

void command_print_help(FILE *out, const struct command *command);

/* ---- complaints: one line on standard error, which says what to do where anything can be done ---------------- */

/* "allot: NAME: ..." and a newline. Returns LEFT_FAILED. */
int complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same, and where the right arguments stand. Returns LEFT_MISUSED. */
int misused(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Closes standard output and leaves: silently when the reader has gone, with a line when a write failed otherwise. */
_Noreturn void leave(int status);

/* ---- arguments ---------------------------------------------------------------------------------------------- */

/* getopt_long that complains by itself: -1 at the end, '?' after a complaint. --help is answered here and doesn't
 * return. shorts as for getopt, without a leading ':'; longs needs no row for help. */
int next_option(int argc, char **argv, const char *shorts, const struct option *longs);

/* A whole number in [least, most]; complains about anything else as misuse of what. */
bool parse_number(const char *text, const char *what, uint64_t least, uint64_t most, uint64_t *out);

/* ---- memory: these end the command with a line when there is none ------------------------------------------- */

void *take_memory(size_t size_bytes); /* zeroed */
void *take_more(void *block, size_t size_bytes);
char *take_copy(const char *s);
char *take_text(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- the library and the files beside the tool -------------------------------------------------------------- */

/* liballot.so.1 of this installation, or of the build tree: $ALLOT_LIBRARY, otherwise found from where the tool lies.
 * NULL after a complaint. The caller frees it. */
char *library_path(void);

/* ---- terminal ----------------------------------------------------------------------------------------------- */

/* Columns of what standard output goes to: the terminal's, $COLUMNS, or 80. At least 20. */
size_t terminal_width(void);

/* Whether to colour: a terminal, no NO_COLOR, TERM not dumb. */
bool terminal_colours(FILE *out);

enum paint { PAINT_NONE, PAINT_BOLD, PAINT_FAINT, PAINT_GOOD, PAINT_BAD, PAINT_WARN };

/* s in a colour, where out takes colours. */
void print_painted(FILE *out, enum paint paint, const char *s);

/* Text broken at spaces into lines of the terminal's width, each indented; the first one stands at column at already.
 */
void print_wrapped(FILE *out, size_t at, size_t indent, const char *text);

/* How many columns UTF-8 text takes, each character counted as one. */
size_t text_columns(const char *s);

/* 0 B, 512 B, 1.5 KiB, 20.0 GiB: as the library writes it. Returns out. */
#define BYTES_TEXT 24
char *bytes_text(char out[BYTES_TEXT], uint64_t bytes);

#endif
