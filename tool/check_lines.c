/* SPDX-License-Identifier: MIT */
/* check_lines.c - see check_lines.h. */
#include "check_lines.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char head[] = "    at ";

/* Splits "    at FUNCTION (MODULE+0xOFFSET)"; false when line is no such one. */
static bool split(char *line, char **function, char **module, uint64_t *offset)
{
    char *open = strrchr(line, '(');
    char *plus = open == NULL ? NULL : strrchr(open, '+');
    size_t length = strlen(line);
    if (strncmp(line, head, sizeof head - 1) != 0 || plus == NULL || line[length - 1] != ')' || open[-1] != ' ') {
        return false;
    }
    *plus = '\0';
    open[-1] = '\0';
    *function = line + sizeof head - 1;
    *module = open + 1;
    *offset = strtoull(plus + 1, NULL, 16);
    return true;
}

static void print_frame(const struct frame *frame, const char *function, const char *module, uint64_t offset)
{
    fprintf(stderr, "%s%s", head, frame->function != NULL ? frame->function : function);
    if (frame->file == NULL) {
        fprintf(stderr, " (%s+0x%llx)\n", module, (unsigned long long)offset);
    } else if (frame->line > 0) {
        fprintf(stderr, " %s:%d\n", frame->file, frame->line);
    } else {
        fprintf(stderr, " %s\n", frame->file);
    }
}

static void print_line(struct lines *lines, const char *line, size_t length)
{
    char *copy = take_text("%.*s", (int)length, line);
    char *function;
    char *module;
    uint64_t offset;
    if (!split(copy, &function, &module, &offset) || offset == 0) {
        fwrite(line, 1, length, stderr);
        fputc('\n', stderr);
        free(copy);
        return;
    }
    if (lines->symbols == NULL) {
        lines->symbols = symbols_open();
    }
    struct frames frames = symbols_find(lines->symbols, module, NULL, offset - 1); /* they are return addresses */
    for (size_t i = 0; i < frames.n; i++) {
        print_frame(&frames.all[i], function, module, offset);
    }
    frames_free(&frames);
    free(copy);
}

/* What doesn't begin a line of a stack needn't wait for its end. */
static bool may_be_stack(const char *text, size_t length)
{
    size_t known = length < sizeof head - 1 ? length : sizeof head - 1;
    return strncmp(text, head, known) == 0;
}

bool lines_take(struct lines *lines, int file)
{
    char text[65536];
    ssize_t n = read(file, text, sizeof text);
    if (n <= 0) {
        return false;
    }
    lines->text = take_more(lines->text, lines->length + (size_t)n);
    memcpy(lines->text + lines->length, text, (size_t)n);
    lines->length += (size_t)n;
    const char *begin = lines->text;
    const char *end = lines->text + lines->length;
    const char *newline;
    while ((newline = memchr(begin, '\n', (size_t)(end - begin))) != NULL) {
        print_line(lines, begin, (size_t)(newline - begin));
        begin = newline + 1;
    }
    if (begin < end && !may_be_stack(begin, (size_t)(end - begin))) {
        fwrite(begin, 1, (size_t)(end - begin), stderr);
        begin = end;
    }
    lines->length = (size_t)(end - begin);
    memmove(lines->text, begin, lines->length);
    return true;
}

void lines_end(struct lines *lines)
{
    if (lines->length > 0) {
        fwrite(lines->text, 1, lines->length, stderr);
    }
    if (lines->symbols != NULL) {
        symbols_close(lines->symbols);
    }
    free(lines->text);
    *lines = (struct lines){.length = 0};
}
