/* SPDX-License-Identifier: MIT */
/* symbols.c - allot symbols: what are these addresses?
 *
 * For people: a file and offsets in it. For programs: a line per address on standard input, its answer on standard
 * output before the next line is read, so that a parent can hold a conversation. The library's reports are made so.
 */
#include "symbols.h"
#include "json.h"

#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

static bool parse_hex(const char *text, uint64_t *out)
{
    text += strncmp(text, "0x", 2) == 0 ? 2 : 0;
    size_t length = strspn(text, "0123456789abcdefABCDEF");
    *out = strtoull(text, NULL, 16);
    return length > 0 && length <= 16 && text[length] == '\0';
}

static void print_lines(const struct frames *frames)
{
    for (size_t i = 0; i < frames->n; i++) {
        const struct frame *frame = &frames->all[i];
        printf("%s\t%s", frame->function == NULL ? "??" : frame->function, frame->file == NULL ? "??" : frame->file);
        if (frame->file != NULL && frame->line > 0) {
            printf(":%d", frame->line);
        }
        printf("\n");
    }
    printf("\n");
}

static void print_json(const char *module, const char *build_id, uint64_t offset, const struct frames *frames,
                       const char *missing)
{
    char hex[32];
    snprintf(hex, sizeof hex, "0x%llx", (unsigned long long)offset);
    struct json json = json_begin_line(stdout);
    json_text(&json, "module", module);
    json_text(&json, "build_id", build_id);
    json_text(&json, "offset", hex);
    json_text(&json, "missing", missing);
    json_array(&json, "frames");
    for (size_t i = 0; i < frames->n; i++) {
        const struct frame *frame = &frames->all[i];
        json_object(&json, NULL);
        json_text(&json, "function", frame->function);
        json_text(&json, "file", frame->file);
        if (frame->line > 0) {
            json_number(&json, "line", (uint64_t)frame->line);
        } else {
            json_text(&json, "line", NULL);
        }
        json_close(&json);
    }
    json_end(&json);
}

static void answer(struct symbols *symbols, const char *module, const char *build_id, uint64_t offset, bool as_json)
{
    struct frames frames = symbols_find(symbols, module, build_id, offset);
    if (as_json) {
        print_json(module, build_id, offset, &frames, symbols_missing(symbols, module, build_id));
    } else {
        print_lines(&frames);
    }
    frames_free(&frames);
}

/* Splits "<path> <build-id or -> <offset>" from its end: a path may have spaces. False when it is no such line. */
static bool split_line(char *line, char **build_id, uint64_t *offset)
{
    char *last = strrchr(line, ' ');
    if (last == NULL || !parse_hex(last + 1, offset)) {
        return false;
    }
    *last = '\0';
    char *middle = strrchr(line, ' ');
    if (middle == NULL) {
        return false;
    }
    *middle = '\0';
    *build_id = strcmp(middle + 1, "-") == 0 ? NULL : middle + 1;
    return *build_id == NULL || (*build_id)[strspn(*build_id, "0123456789abcdefABCDEF")] == '\0';
}

/* Answers each line, a wrong one as unknown, so that a parent that waits for an answer gets one. */
static int converse(struct symbols *symbols, bool as_json)
{
    int status = LEFT_WELL;
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length;
    while ((length = getline(&line, &capacity, stdin)) > 0 && !ferror(stdout)) {
        line[strcspn(line, "\n")] = '\0';
        char *whole = take_copy(line);
        char *build_id;
        uint64_t offset;
        if (split_line(line, &build_id, &offset)) {
            answer(symbols, line, build_id, offset, as_json);
        } else {
            status = complain("a line is: MODULE BUILD-ID OFFSET, with - for no build-id, both in hex; not: %s", whole);
            struct frame unknown = {.line = 0};
            struct frames frames = {&unknown, 1};
            if (as_json) {
                print_json(NULL, NULL, 0, &frames, "the line is malformed");
            } else {
                print_lines(&frames);
            }
        }
        free(whole);
        fflush(stdout);
    }
    free(line);
    return status;
}

static int answer_arguments(struct symbols *symbols, char **arguments, bool as_json)
{
    const char *module = arguments[0];
    for (char **text = arguments + 1; *text != NULL; text++) {
        uint64_t offset;
        if (!parse_hex(*text, &offset)) {
            return misused("\"%s\" is not an offset in hex", *text);
        }
        answer(symbols, module, NULL, offset, as_json);
    }
    const char *missing = symbols_missing(symbols, module, NULL);
    return missing == NULL ? LEFT_WELL : complain("%s: %s", module, missing);
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
    if (argc - optind == 1) {
        return misused("which offsets in %s?", argv[optind]);
    }
    struct symbols *symbols = symbols_open();
    int status = argc == optind ? converse(symbols, as_json) : answer_arguments(symbols, argv + optind, as_json);
    symbols_close(symbols);
    return status;
}

const struct command command_symbols = {
    .name = "symbols",
    .question = "What are these addresses?",
    .synopsis = "[--json] [FILE OFFSET...]",
    .usage =
        "  --json  a JSON document a line\n"
        "\n"
        "Without arguments it reads lines from standard input: MODULE BUILD-ID OFFSET, with - where there is no "
        "build-id.\n"
        "It answers each with lines of function, tab, file:line, innermost first, ?? for what is unknown, and an empty "
        "line.\n"
        "\n"
        "An offset is an address less the one that the module was loaded at. For a return address give one less.\n"
        "Debug info is looked for below /usr/lib/debug, and asked from debuginfod only where DEBUGINFOD_URLS is set.\n",
    .run = run,
};
