/* SPDX-License-Identifier: MIT */
/* format.c - see format.h. */
#include "base/format.h"

#include <string.h>

struct text text_in(char *buffer, size_t capacity)
{
    buffer[0] = '\0';
    return (struct text){.bytes = buffer, .length = 0, .capacity = capacity};
}

static void add_char(struct text *text, char c)
{
    if (text->length + 1 >= text->capacity) {
        return;
    }
    text->bytes[text->length++] = c;
    text->bytes[text->length] = '\0';
}

void text_add(struct text *text, const char *s)
{
    for (; *s != '\0'; s++) {
        add_char(text, *s);
    }
}

static void add_base(struct text *text, uint64_t n, unsigned base)
{
    char digits[20];
    unsigned count = 0;
    do {
        digits[count++] = "0123456789abcdef"[n % base];
        n /= base;
    } while (n != 0);
    while (count > 0) {
        add_char(text, digits[--count]);
    }
}

void text_add_unsigned(struct text *text, uint64_t n)
{
    add_base(text, n, 10);
}

void text_add_signed(struct text *text, int64_t n)
{
    if (n < 0) {
        add_char(text, '-');
    }
    add_base(text, n < 0 ? 0 - (uint64_t)n : (uint64_t)n, 10);
}

void text_add_hex(struct text *text, uint64_t n)
{
    text_add(text, "0x");
    add_base(text, n, 16);
}

void text_add_bytes(struct text *text, uint64_t n)
{
    static const char *const units[] = {" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"};
    unsigned unit = 0;
    uint64_t tenths = 0;
    while (n >= 1024) {
        tenths = n % 1024 * 10 / 1024;
        n /= 1024;
        unit++;
    }
    add_base(text, n, 10);
    if (unit > 0) {
        add_char(text, '.');
        add_base(text, tenths, 10);
    }
    text_add(text, units[unit]);
}

void text_add_column(struct text *text, const char *s, size_t width)
{
    for (size_t used = strlen(s); used < width; used++) {
        add_char(text, ' ');
    }
    text_add(text, s);
}
