/* SPDX-License-Identifier: MIT */
/* config.h - the options: ALLOT_OPTIONS="name=value,name" at start, option_set later.
 *
 * options.def is the table; this header and config.c are what is made of it. Values are right from the first
 * instruction on: the defaults are there before config_init has read the environment.
 *
 * Threads.   Any. option and option_set are wait-free, config_init is lock-free.
 * Signals.   All async-signal-safe.
 */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include "base/atomic.h"
#include "base/base.h"
#include "base/format.h"

#define MOST_BYTES ((int64_t)1 << 47)

/* The values of the WORD options, in the order of their unit column. */
enum { PURGE_DONTNEED, PURGE_FREE };
enum { SOURCE_MMAP, SOURCE_BRK };
enum { HUGE_NEVER, HUGE_AUTO, HUGE_ALWAYS };
enum { REALLOC_ZERO_FREE, REALLOC_ZERO_KEEP };

enum { CHECK_OFF, CHECK_ON, CHECK_FULL };
enum { REPORT_AUTO, REPORT_LINE, REPORT_TEXT, REPORT_JSON, REPORT_SARIF, REPORT_JUNIT };
enum { LEAKS_AUTO, LEAKS_OFF, LEAKS_ON };

enum option_id {
#define OPTION(id, kind, initial, least, most, unit, help) OPT_##id,
#include "config/options.def"
#undef OPTION
    OPT_COUNT
};

enum option_kind {
    OPTION_BOOL,
    OPTION_NUMBER,
    OPTION_SIZE,
    OPTION_LIMIT,
    OPTION_WORD,
    OPTION_MODE,
    OPTION_FILL,
    OPTION_TEXT
};

struct option_row {
    const char *name;
    enum option_kind kind;
    int64_t initial;
    int64_t least;
    int64_t most;
    const char *unit; /* for OPTION_WORD and OPTION_MODE the words, with | between them */
    const char *help;
};

extern _Atomic int64_t config_values[OPT_COUNT];

/* Relaxed: a value stands alone; nothing is published with it. */
INLINE int64_t option(enum option_id id)
{
    return load_relaxed(&config_values[id]);
}

/* The text of a TEXT option, copied and cut; empty when none was given. n is at least 1. Returns buffer. */
const char *option_text(enum option_id id, char *buffer, size_t n);

/* Reads ALLOT_OPTIONS, once: later calls do nothing. What is wrong in it is said on standard error and passed over.
 * Callers at the same time store the same values, one of them speaks, and none waits for another. */
void config_init(void);

/* Changes an option while the program runs. False, and nothing happens, when value is out of its bounds. */
bool option_set(enum option_id id, int64_t value);

const struct option_row *option_row(enum option_id id);

/* A value as a person would write it: 250 ms, 4 MiB, dontneed, off. */
void option_add_value(struct text *text, enum option_id id, int64_t value);

/* Writes the table of all options with their present values through write, line by line. */
void config_print(void (*write)(const char *bytes, size_t length));

/* What a text in the form of ALLOT_OPTIONS says: values starts as the caller filled it; complain is called with one
 * line, newline included, for each thing that is wrong, and may be NULL. Reads nothing else and writes nothing else. */
#define CONFIG_TEXTS_MOST 1024

struct config_parsed {
    int64_t values[OPT_COUNT];     /* of a TEXT option: where in texts it begins, plus 1; 0: none was given */
    char texts[CONFIG_TEXTS_MOST]; /* each ends in a NUL */
    size_t texts_length;
    size_t n_complaints;
    void (*complain)(const char *line, size_t length);
};

void config_parse(const char *text, struct config_parsed *parsed);

/* What <allot/root.h> says of the options. */
extern const struct allot_root_config config_root;

#endif
