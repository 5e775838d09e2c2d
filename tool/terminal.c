/* SPDX-License-Identifier: MIT */
/* terminal.c - widths, colours, and text that fits. */
#include "tool.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define LEAST_WIDTH 20
#define USUAL_WIDTH 80

size_t terminal_width(void)
{
    struct winsize size;
    size_t width = 0;
    const char *columns = getenv("COLUMNS");
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0) {
        width = size.ws_col;
    }
    if (width == 0 && columns != NULL) {
        width = strtoul(columns, NULL, 10);
    }
    if (width == 0 || width > 10000) {
        width = USUAL_WIDTH;
    }
    return width < LEAST_WIDTH ? LEAST_WIDTH : width;
}

bool terminal_colours(FILE *out)
{
    const char *refused = getenv("NO_COLOR");
    const char *kind = getenv("TERM");
    return isatty(fileno(out)) && (refused == NULL || refused[0] == '\0') && kind != NULL && strcmp(kind, "dumb") != 0;
}

void print_painted(FILE *out, enum paint paint, const char *s)
{
    static const char *const codes[] = {
        [PAINT_NONE] = "",        [PAINT_BOLD] = "\33[1m", [PAINT_FAINT] = "\33[2m",
        [PAINT_GOOD] = "\33[32m", [PAINT_BAD] = "\33[31m", [PAINT_WARN] = "\33[33m",
    };
    if (paint == PAINT_NONE || !terminal_colours(out)) {
        fputs(s, out);
    } else {
        fprintf(out, "%s%s\33[0m", codes[paint], s);
    }
}

size_t text_columns(const char *s)
{
    size_t n = 0;
    for (; *s != '\0'; s++) {
        n += ((unsigned char)*s & 0xc0) != 0x80; /* what continues a character takes no column */
    }
    return n;
}

static size_t word_columns(const char *s, size_t length)
{
    size_t n = 0;
    for (size_t i = 0; i < length; i++) {
        n += ((unsigned char)s[i] & 0xc0) != 0x80;
    }
    return n;
}

void print_wrapped(FILE *out, size_t at, size_t indent, const char *text)
{
    size_t width = terminal_width();
    bool first = true; /* of its line */
    while (*text != '\0') {
        text += strspn(text, " ");
        size_t length = strcspn(text, " ");
        if (length == 0) {
            break;
        }
        size_t columns = word_columns(text, length);
        if (at + !first + columns > width && at > indent) {
            fprintf(out, "\n%*s", (int)indent, "");
            at = indent;
            first = true;
        }
        fprintf(out, "%s%.*s", first ? "" : " ", (int)length, text);
        at += columns + !first;
        first = false;
        text += length;
    }
    fputc('\n', out);
}

char *bytes_text(char out[BYTES_TEXT], uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    size_t unit = 0;
    double value = (double)bytes;
    while (value >= 1024 && unit + 1 < sizeof units / sizeof units[0]) {
        value /= 1024;
        unit++;
    }
    snprintf(out, BYTES_TEXT, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
    return out;
}
