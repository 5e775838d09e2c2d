/* SPDX-License-Identifier: MIT */
/* options.c - any text as ALLOT_OPTIONS: values stay in their bounds, complaints are whole printable lines, and
 * the same text says the same again. */
#include "config/config.h"
#include "fuzz.h"

#include <string.h>

static size_t n_lines;

static void on_complaint(const char *line, size_t length)
{
    n_lines++;
    PROMISE(length > 1 && line[length - 1] == '\n');
    PROMISE(strncmp(line, "allot: ", 7) == 0);
    for (size_t i = 0; i + 1 < length; i++)
        PROMISE((unsigned char)line[i] >= ' ' && line[i] != 127);
}

static struct config_parsed defaults(void)
{
    struct config_parsed parsed = {.complain = on_complaint};
    for (enum option_id id = 0; id < OPT_COUNT; id++)
        parsed.values[id] = option_row(id)->initial;
    return parsed;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    char text[4097];
    size_t n = length < sizeof text - 1 ? length : sizeof text - 1;
    memcpy(text, bytes, n);
    text[n] = 0;

    struct config_parsed parsed = defaults();
    n_lines = 0;
    config_parse(text, &parsed);
    PROMISE(n_lines == parsed.n_complaints);
    for (enum option_id id = 0; id < OPT_COUNT; id++) {
        const struct option_row *row = option_row(id);
        PROMISE(parsed.values[id] >= row->least && parsed.values[id] <= row->most);
    }

    struct config_parsed again = defaults();
    config_parse(text, &again);
    PROMISE(memcmp(parsed.values, again.values, sizeof again.values) == 0);
    return 0;
}
