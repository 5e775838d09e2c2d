/* SPDX-License-Identifier: MIT */
/* format.h - text into a fixed buffer, without stdio, locale or allocation.
 *
 * A text never overflows: what doesn't fit is cut, and the buffer always ends in a NUL byte.
 * Signals: every function is async-signal-safe.
 */
#ifndef BASE_FORMAT_H
#define BASE_FORMAT_H

#include <stddef.h>
#include <stdint.h>

struct text {
    char *bytes;
    size_t length;   /* without the NUL */
    size_t capacity; /* with it; at least 1 */
};

struct text text_in(char *buffer, size_t capacity);
void text_add(struct text *text, const char *s);
void text_add_unsigned(struct text *text, uint64_t n);
void text_add_signed(struct text *text, int64_t n);
void text_add_hex(struct text *text, uint64_t n); /* with 0x before it */
/* n in the widest unit that keeps it above 1, with one decimal: 0 B, 512 B, 1.5 KiB, 20.0 GiB. */
void text_add_bytes(struct text *text, uint64_t n);
/* Right-aligned in a column of width characters. */
void text_add_column(struct text *text, const char *s, size_t width);

#endif
