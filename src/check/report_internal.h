/* SPDX-License-Identifier: MIT */
/* report_internal.h - a report, and the forms that it is written in.
 *
 * One report is made at a time, in memory that is there from the start: whoever faults while another reports has its
 * line and no more.
 */
#ifndef CHECK_REPORT_INTERNAL_H
#define CHECK_REPORT_INTERNAL_H

#include "base/format.h"
#include "check/check_internal.h"
#include "stack/stack.h"

#define REPORT_STACKS 3
#define REPORT_TEXT_MOST ((size_t)64 * KIB)

struct report_frame {
    uintptr_t pc;
    struct stack_module module; /* path "": none */
    const char *names; /* lines of function, tab, file:line, innermost first, an empty one behind them; NULL: none */
};

struct report_stack {
    const char *key;  /* in forms for programs: access, allocation, free */
    const char *what; /* in the text: what was done there */
    unsigned long thread;
    size_t n;
    uintptr_t pcs[STACK_FRAMES_MOST];
    struct report_frame frames[STACK_FRAMES_MOST];
};

struct report {
    const struct fault *fault;
    const char *line;
    struct noted noted; /* note NULL: nothing is known of the block */
    const char *rule;   /* the name with - for spaces */
    char rule_text[40];
    char hint[200];
    size_t n_stacks;
    struct report_stack stacks[REPORT_STACKS];
};

/* A name of a frame: the next of its lines. False when there are no more. */
struct report_name {
    char function[256];
    char file[512];
    uint64_t line; /* 0: unknown */
};
bool report_next_name(const char **names, struct report_name *name);

/* ---- symbols.c: functions and lines, found by a child ------------------------------------------------------- */

void symbols_find(struct report *report);

/* ---- text.c, forms.c ---------------------------------------------------------------------------------------- */

void text_report(const struct report *report, struct text *text, bool colour);
void json_report(const struct report *report, struct text *text);
/* A document of its own; item: what goes between its head and its tail. */
void sarif_item(const struct report *report, struct text *text);
void junit_item(const struct report *report, struct text *text);
extern const char sarif_head[];
extern const char sarif_tail[];
extern const char junit_head[];
extern const char junit_tail[];

/* The bytes around the fault, as far as they can be read. */
void draw_bytes(const struct report *report, struct text *text, bool colour);

#endif
