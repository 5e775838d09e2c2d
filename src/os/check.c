/* SPDX-License-Identifier: MIT */
/* check.c - what happens when an invariant of our own is broken. */
#include "base/base.h"
#include "base/format.h"
#include "os/os.h"

void base_check_failed(const char *expression, const char *file, int line)
{
    char buffer[256];
    struct text text = text_in(buffer, sizeof buffer);
    text_add(&text, "allot: internal fault: ");
    text_add(&text, expression);
    text_add(&text, " does not hold at ");
    text_add(&text, file);
    text_add(&text, ":");
    text_add_unsigned(&text, (uint64_t)line);
    text_add(&text, "\n");
    os_write_error(text.bytes, text.length);
    os_abort();
}
