/* SPDX-License-Identifier: MIT */
/* text.c - the report for people.
 *
 *     what was done, by whom: a stack
 *     the block was taken by ...: a stack
 *     it was freed by ...: a stack
 *     the bytes around the fault
 *     what to do
 */
#include "check/report_internal.h"

#include <string.h>

#define ROW 16
#define ROWS_AROUND 2

#define RED "\033[1;31m"
#define BOLD "\033[1m"
#define FAINT "\033[2m"
#define CYAN "\033[36m"
#define YELLOW "\033[33m"
#define PLAIN "\033[0m"

static void add_coloured(struct text *text, bool colour, const char *code, const char *s)
{
    text_add(text, colour ? code : "");
    text_add(text, s);
    text_add(text, colour ? PLAIN : "");
}

/* ---- stacks ------------------------------------------------------------------------------------------------- */

static void add_build_id(struct text *text, const struct stack_module *module)
{
    static const char digits[] = "0123456789abcdef";
    text_add(text, ", build-id ");
    for (size_t i = 0; i < module->build_id_bytes; i++) {
        char pair[] = {digits[module->build_id[i] >> 4], digits[module->build_id[i] & 15], '\0'};
        text_add(text, pair);
    }
}

static void add_place(struct text *text, const struct report_frame *frame, bool with_build_id)
{
    if (frame->module.path[0] == '\0') {
        text_add_hex(text, frame->pc);
        return;
    }
    text_add(text, frame->module.path);
    text_add(text, "+");
    text_add_hex(text, frame->module.offset);
    if (with_build_id && frame->module.build_id_bytes != 0) {
        add_build_id(text, &frame->module);
    }
}

static void add_number(struct text *text, size_t i)
{
    char number[24];
    struct text n = text_in(number, sizeof number);
    text_add(&n, "#");
    text_add_unsigned(&n, i);
    text_add_column(text, number, 9);
    text_add(text, "  ");
}

static bool is_known(const char *s)
{
    return s[0] != '\0' && strcmp(s, "??") != 0;
}

static void add_name(struct text *text, const struct report_frame *frame, const struct report_name *name, bool colour)
{
    add_coloured(text, colour, CYAN, is_known(name->function) ? name->function : "??");
    text_add(text, "  ");
    if (is_known(name->file)) {
        text_add(text, name->file);
        if (name->line != 0) {
            text_add(text, ":");
            text_add_unsigned(text, name->line);
        }
    } else {
        add_place(text, frame, /* with_build_id */ !is_known(name->function));
    }
    text_add(text, "\n");
}

static void add_frame(struct text *text, const struct report_frame *frame, size_t i, bool colour)
{
    struct report_name name;
    const char *names = frame->names;
    if (!report_next_name(&names, &name)) {
        add_number(text, i);
        add_place(text, frame, /* with_build_id */ true);
        text_add(text, "\n");
        return;
    }
    add_number(text, i);
    add_name(text, frame, &name, colour);
    while (report_next_name(&names, &name)) {
        text_add_column(text, "in", 9);
        text_add(text, "  ");
        add_name(text, frame, &name, colour);
    }
}

/* What calls main is the same in every program. */
static bool is_main(const struct report_frame *frame)
{
    struct report_name name;
    const char *names = frame->names;
    while (report_next_name(&names, &name)) {
        if (strcmp(name.function, "main") == 0) {
            return true;
        }
    }
    return false;
}

static void add_stack(struct text *text, const struct report_stack *stack, bool colour)
{
    text_add(text, "  ");
    text_add(text, colour ? BOLD : "");
    text_add(text, stack->what);
    text_add(text, ", thread ");
    text_add_unsigned(text, stack->thread);
    text_add(text, colour ? PLAIN : "");
    text_add(text, stack->n == 0 ? ", from an unknown place\n" : ":\n");
    for (size_t i = 0; i < stack->n; i++) {
        add_frame(text, &stack->frames[i], i, colour);
        if (is_main(&stack->frames[i])) {
            break;
        }
    }
}

/* ---- bytes -------------------------------------------------------------------------------------------------- */

/* Where the system only knows what is mapped, the guards know more. */
static bool can_read(const void *at)
{
    return guard_is_open(at) && os_readable(at);
}

static void add_cell(struct text *text, const struct report *report, const char *at, bool colour)
{
    static const char digits[] = "0123456789abcdef";
    const struct fault *fault = report->fault;
    const char *begin = fault->block;
    const char *end = begin + fault->block_bytes;
    bool is_fault = at == fault->address;
    bool behind_fault = at - 1 == (const char *)fault->address && (uintptr_t)at % ROW != 0;
    text_add(text, is_fault                       ? "["
                   : behind_fault                 ? "]"
                   : begin != NULL && at == begin ? "<"
                   : begin != NULL && at == end   ? ">"
                                                  : " ");
    if (!can_read(at)) {
        text_add(text, "--");
        return;
    }
    unsigned char byte = (unsigned char)*(const volatile char *)at;
    char pair[] = {digits[byte >> 4], digits[byte & 15], '\0'};
    add_coloured(text, colour && is_fault, RED, pair);
}

static void add_characters(struct text *text, const char *row)
{
    text_add(text, "  ");
    for (size_t i = 0; i < ROW; i++) {
        char c[2] = {' ', '\0'};
        if (can_read(row + i)) {
            char byte = *(const volatile char *)(row + i);
            c[0] = byte > ' ' && byte <= '~' ? byte : '.';
        }
        text_add(text, c);
    }
}

static void add_row(struct text *text, const struct report *report, const char *row, bool colour)
{
    char address[24];
    struct text number = text_in(address, sizeof address);
    text_add_hex(&number, (uintptr_t)row);
    text_add_column(text, address, 18);
    text_add(text, " ");
    for (size_t i = 0; i < ROW; i++) {
        add_cell(text, report, row + i, colour);
    }
    text_add(text, report->fault->address == (const void *)(row + ROW - 1) ? "]" : " ");
    add_characters(text, row);
    text_add(text, "\n");
}

void draw_bytes(const struct report *report, struct text *text, bool colour)
{
    const struct fault *fault = report->fault;
    uintptr_t row = round_down((uintptr_t)fault->address, ROW);
    bool any = false;
    for (intptr_t i = -ROWS_AROUND; i <= ROWS_AROUND; i++) {
        any = any || can_read((const void *)(row + (uintptr_t)(i * ROW)));
    }
    if (fault->block == NULL || !any) {
        return;
    }
    add_coloured(text, colour, BOLD, "  bytes around it");
    text_add(text, " (<block>, [fault], -- no access):\n");
    for (intptr_t i = -ROWS_AROUND; i <= ROWS_AROUND; i++) {
        add_row(text, report, (const char *)(row + (uintptr_t)(i * ROW)), colour);
    }
}

/* ---- all of it ---------------------------------------------------------------------------------------------- */

void text_report(const struct report *report, struct text *text, bool colour)
{
    for (size_t i = 0; i < report->n_stacks; i++) {
        add_stack(text, &report->stacks[i], colour);
    }
    draw_bytes(report, text, colour);
    if (report->hint[0] != '\0') {
        add_coloured(text, colour, YELLOW, "  hint: ");
        text_add(text, report->hint);
        text_add(text, "\n");
    }
}
