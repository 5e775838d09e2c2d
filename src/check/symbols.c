/* SPDX-License-Identifier: MIT */
/* symbols.c - functions, files and lines of a report's frames, by a child that runs "allot symbols".
 *
 * What the process's own memory is worth at this moment isn't known, so nothing is looked up in it but where the
 * modules are. Set-uid programs start no child; and where there is none, build-ids and offsets stand in the report.
 */
#include "check/report_internal.h"
#include "config/config.h"

#include <string.h>

#define ANSWER_MS 20000

static struct {
    char question[REPORT_TEXT_MOST];
    char answer[REPORT_TEXT_MOST];
} symbols;

static void add_hex_bytes(struct text *text, const unsigned char *bytes, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        char pair[] = {digits[bytes[i] >> 4], digits[bytes[i] & 15], '\0'};
        text_add(text, pair);
    }
}

/* What a return address returns from lies before it. The first of a stack that registers told is no return address. */
static uintptr_t offset_to_ask(const struct report *report, size_t stack, size_t i)
{
    bool is_exact = stack == 0 && i == 0 && report->fault->registers != NULL;
    return report->stacks[stack].frames[i].module.offset - (is_exact ? 0 : 1);
}

static void ask(struct text *text, const struct report *report, size_t stack, size_t i)
{
    const struct stack_module *module = &report->stacks[stack].frames[i].module;
    text_add(text, module->path[0] == '\0' ? "?" : module->path);
    text_add(text, " ");
    if (module->build_id_bytes == 0) {
        text_add(text, "-");
    }
    add_hex_bytes(text, module->build_id, module->build_id_bytes);
    text_add(text, " ");
    text_add_hex(text, module->path[0] == '\0' ? 0 : offset_to_ask(report, stack, i));
    text_add(text, "\n");
}

/* One answer: its lines, cut off at the empty one. NULL at the end. */
static char *next_answer(char **rest)
{
    char *begin = *rest;
    char *end = strstr(begin, "\n\n");
    if (*begin == '\n') {
        *rest = begin + 1;
        return begin;
    }
    if (end == NULL) {
        return NULL;
    }
    end[1] = '\0';
    *rest = end + 2;
    return begin;
}

static void ask_child(struct report *report, const char *path)
{
    char *const arguments[] = {(char *)(uintptr_t) "allot", (char *)(uintptr_t) "symbols", NULL};
    struct text question = text_in(symbols.question, sizeof symbols.question);
    for (size_t k = 0; k < report->n_stacks; k++) {
        for (size_t i = 0; i < report->stacks[k].n; i++) {
            ask(&question, report, k, i);
        }
    }
    long length =
        os_run(path, arguments, question.bytes, question.length, symbols.answer, sizeof symbols.answer - 1, ANSWER_MS);
    symbols.answer[length > 0 ? length : 0] = '\0';
    char *rest = symbols.answer;
    for (size_t k = 0; k < report->n_stacks; k++) {
        for (size_t i = 0; i < report->stacks[k].n; i++) {
            char *names = next_answer(&rest);
            if (names == NULL) {
                return;
            }
            report->stacks[k].frames[i].names = *names == '\n' ? NULL : names;
        }
    }
}

void symbols_find(struct report *report)
{
    char path[512];
    for (size_t k = 0; k < report->n_stacks; k++) {
        struct report_stack *stack = &report->stacks[k];
        for (size_t i = 0; i < stack->n; i++) {
            stack->frames[i].pc = stack->pcs[i];
            stack->frames[i].names = NULL;
            stack_module_at(stack->pcs[i], &stack->frames[i].module);
        }
    }
    option_text(OPT_symbols, path, sizeof path);
    if (strcmp(path, "off") != 0) {
        ask_child(report, path[0] == '\0' ? ALLOT_TOOL : path);
    }
}

/* ---- reading an answer -------------------------------------------------------------------------------------- */

static void copy_until(const char *begin, const char *end, char *out, size_t capacity)
{
    size_t length = size_min(ptr_diff(end, begin), capacity - 1);
    memcpy(out, begin, length);
    out[length] = '\0';
}

static uint64_t take_line_number(char *file)
{
    char *colon = strrchr(file, ':');
    uint64_t n = 0;
    if (colon == NULL) {
        return 0;
    }
    for (const char *c = colon + 1; *c >= '0' && *c <= '9'; c++) {
        n = n * 10 + (uint64_t)(*c - '0');
    }
    *colon = n == 0 ? *colon : '\0';
    return n;
}

bool report_next_name(const char **names, struct report_name *name)
{
    const char *at = *names;
    if (at == NULL || *at == '\0') {
        return false;
    }
    const char *end = at + strcspn(at, "\n");
    const char *tab = memchr(at, '\t', ptr_diff(end, at));
    const char *function_end = tab == NULL ? end : tab;
    copy_until(at, function_end, name->function, sizeof name->function);
    copy_until(tab == NULL ? end : tab + 1, end, name->file, sizeof name->file);
    name->line = take_line_number(name->file);
    *names = *end == '\n' ? end + 1 : end;
    return true;
}
