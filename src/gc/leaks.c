/* SPDX-License-Identifier: MIT */
/* leaks.c - what the leak search found, in groups: allot_leak_check, and ALLOT_OPTIONS=leaks.
 *
 * A group is what was allocated by one stack, where stacks are known, and otherwise what has one size; its first words
 * are shown, as they often tell what it was.
 */
#include "config/config.h"
#include "gc/gc_internal.h"
#include "stack/stack.h"

#include <allot/leak.h>
#include <errno.h>
#include <string.h>

#define GROUPS_MOST 4096u
#define GROUPS_SHOWN 20u

static _Atomic(uint32_t (*)(const void *)) stack_source; /* OG7 */

void gc_set_stacks(uint32_t (*stack_of)(const void *block))
{
    store_release(&stack_source, stack_of); /* OG7: what it needs is ready */
}

struct group {
    enum gc_leak_kind kind;
    allot_room room;
    uint32_t stack; /* 0: unknown */
    size_t each;    /* bytes */
    size_t n;
    size_t bytes;
    struct gc_leak first;
};

struct summary {
    unsigned flags;
    allot_leak_report report;
    struct group *groups;
    size_t n_groups;
    size_t n_ungrouped; /* finds of groups that there was no room for */
};

/* ---- gathering ---------------------------------------------------------------------------------------------- */

static size_t frames_of(uint32_t stack, struct gc_frame *frames, struct os_symbol *names, struct stack_module *modules)
{
    uintptr_t pcs[STACK_FRAMES_MOST];
    size_t n = stack == 0 ? 0 : size_min(stack_recall(stack, pcs), GC_FRAMES_MOST);
    for (size_t i = 0; i < n; i++) {
        frames[i].function = os_symbol_at(pcs[i] - 1, &names[i]) ? names[i].name : NULL;
        frames[i].file = NULL;
        frames[i].module = stack_module_at(pcs[i] - 1, &modules[i]) ? modules[i].path : NULL;
    }
    return n;
}

static bool is_suppressed(enum gc_leak_kind kind, uint32_t stack)
{
    struct gc_frame frames[GC_FRAMES_MOST];
    struct os_symbol names[GC_FRAMES_MOST];
    struct stack_module modules[GC_FRAMES_MOST];
    size_t n = frames_of(stack, frames, names, modules);
    return n > 0 && gc_suppressed(kind, frames, n);
}

static allot_leak_count *count_of(allot_leak_report *report, enum gc_leak_kind kind)
{
    allot_leak_count *const counts[] = {&report->definite, &report->indirect, &report->possible, &report->reachable};
    return counts[kind];
}

static void add_to(allot_leak_count *count, size_t bytes)
{
    count->n++;
    count->bytes += bytes;
}

static struct group *group_of(struct summary *summary, const struct gc_leak *leak, uint32_t stack)
{
    for (size_t i = 0; i < summary->n_groups; i++) {
        struct group *group = &summary->groups[i];
        if (group->kind == leak->kind && group->room == leak->room && group->stack == stack &&
            (stack != 0 || group->each == leak->bytes)) {
            return group;
        }
    }
    if (summary->n_groups == GROUPS_MOST) {
        return NULL;
    }
    struct group *group = &summary->groups[summary->n_groups++];
    *group =
        (struct group){.kind = leak->kind, .room = leak->room, .stack = stack, .each = leak->bytes, .first = *leak};
    return group;
}

static void note(const struct gc_leak *leak, void *context)
{
    struct summary *summary = context;
    uint32_t (*stack_of)(const void *) = load_acquire(&stack_source); /* OG7 */
    uint32_t stack = stack_of == NULL ? 0 : stack_of(leak->begin);
    if (stack != 0 && is_suppressed(leak->kind, stack)) {
        add_to(&summary->report.suppressed, leak->bytes);
        return;
    }
    add_to(count_of(&summary->report, leak->kind), leak->bytes);
    if (leak->kind == GC_LEAK_REACHABLE && (summary->flags & ALLOT_LEAK_REACHABLE) == 0) {
        return;
    }
    struct group *group = summary->groups == NULL ? NULL : group_of(summary, leak, stack);
    if (group == NULL) {
        summary->n_ungrouped++;
        return;
    }
    group->n++;
    group->bytes += leak->bytes;
}

/* ---- printing ----------------------------------------------------------------------------------------------- */

static const char *const kind_words[] = {"definitely lost", "indirectly lost", "possibly lost", "still reachable"};
static const char *const room_words[] = {"", "block", "pool block", "arena", "mapping"};

static void write_line(struct text *text)
{
    text->bytes[text->length] = '\n';
    os_write_error(text->bytes, text->length + 1);
}

static void print_stack(uint32_t stack)
{
    struct gc_frame frames[GC_FRAMES_MOST];
    struct os_symbol names[GC_FRAMES_MOST];
    struct stack_module modules[GC_FRAMES_MOST];
    size_t n = frames_of(stack, frames, names, modules);
    for (size_t i = 0; i < n; i++) {
        char buffer[512];
        struct text text = text_in(buffer, sizeof buffer - 1);
        text_add(&text, "    at ");
        text_add(&text, frames[i].function == NULL ? "?" : frames[i].function);
        if (frames[i].module != NULL) {
            text_add(&text, " (");
            text_add(&text, frames[i].module);
            text_add(&text, "+");
            text_add_hex(&text, modules[i].offset);
            text_add(&text, ")");
        }
        write_line(&text);
    }
}

static void print_group(const struct group *group)
{
    char buffer[256];
    struct text text = text_in(buffer, sizeof buffer - 1);
    text_add(&text, "allot: leak: ");
    text_add_unsigned(&text, group->bytes);
    text_add(&text, " bytes ");
    text_add(&text, kind_words[group->kind]);
    text_add(&text, " in ");
    text_add_unsigned(&text, group->n);
    text_add(&text, group->n == 1 ? " " : " times a ");
    text_add_unsigned(&text, group->each);
    text_add(&text, "-byte ");
    text_add(&text, room_words[group->room]);
    text_add(&text, group->n == 1 ? " at " : ", the first at ");
    text_add_hex(&text, (uintptr_t)group->first.begin);
    if (group->room == ALLOT_ROOM_HEAP || group->room == ALLOT_ROOM_POOL) {
        text_add(&text, ": ");
        text_add_hex(&text, group->first.words[0]);
        text_add(&text, " ");
        text_add_hex(&text, group->first.words[1]);
    }
    write_line(&text);
    print_stack(group->stack);
}

/* Largest first, kind by kind. */
static void print_groups(struct summary *summary)
{
    size_t shown = 0;
    for (; shown < GROUPS_SHOWN && shown < summary->n_groups; shown++) {
        size_t best = shown;
        for (size_t i = shown + 1; i < summary->n_groups; i++) {
            const struct group *a = &summary->groups[i];
            const struct group *b = &summary->groups[best];
            if (a->kind != b->kind ? a->kind < b->kind : a->bytes > b->bytes) {
                best = i;
            }
        }
        struct group group = summary->groups[best];
        summary->groups[best] = summary->groups[shown];
        summary->groups[shown] = group;
        print_group(&group);
    }
    if (summary->n_groups > shown || summary->n_ungrouped > 0) {
        char buffer[128];
        struct text text = text_in(buffer, sizeof buffer - 1);
        text_add(&text, "allot: leak: and ");
        text_add_unsigned(&text, summary->n_groups - shown + summary->n_ungrouped);
        text_add(&text, " more groups");
        write_line(&text);
    }
}

static void print_counts(allot_leak_report *report, size_t n_passed)
{
    char buffer[400];
    struct text text = text_in(buffer, sizeof buffer - 1);
    text_add(&text, "allot: leaks: ");
    for (unsigned kind = 0; kind <= GC_LEAK_KINDS; kind++) {
        const allot_leak_count *count =
            kind == GC_LEAK_KINDS ? &report->suppressed : count_of(report, (enum gc_leak_kind)kind);
        text_add(&text, kind == 0 ? "" : ", ");
        text_add(&text, kind == GC_LEAK_KINDS ? "suppressed" : kind_words[kind]);
        text_add(&text, " ");
        text_add_unsigned(&text, count->bytes);
        text_add(&text, " bytes in ");
        text_add_unsigned(&text, count->n);
    }
    write_line(&text);
    if (n_passed > 0) {
        text = text_in(buffer, sizeof buffer - 1);
        text_add(&text, "allot: leaks: the registers of ");
        text_add_unsigned(&text, n_passed);
        text_add(&text, " threads, which sleep and block all signals, were not looked at");
        write_line(&text);
    }
}

static void print_why(const allot_leak_report *report)
{
    char buffer[256];
    struct text text = text_in(buffer, sizeof buffer - 1);
    text_add(&text, "allot: no leak check: ");
    text_add(&text, report->why);
    if (report->thread != 0) {
        text_add(&text, ", thread ");
        text_add_unsigned(&text, report->thread);
    }
    write_line(&text);
}

/* ---- the check ---------------------------------------------------------------------------------------------- */

static int run(struct summary *summary, uintptr_t stack)
{
    struct gc *gc = gc_start();
    struct gc_leaks_told told;
    summary->report = (allot_leak_report)ALLOT_LEAK_REPORT_INIT;
    if (gc == NULL) {
        summary->report.why = "the system refuses memory for the search";
        return ENOMEM;
    }
    os_lock(&gc->lock);
    summary->groups = books_map(GROUPS_MOST * sizeof *summary->groups);
    os_unlock(&gc->lock);
    int error = gc_leaks(stack, /* with_reachable */ true, note, summary, &told);
    summary->report.thread = told.thread;
    summary->report.why = told.why;
    if ((summary->flags & ALLOT_LEAK_PRINT) != 0) {
        if (error == 0) {
            print_groups(summary);
            print_counts(&summary->report, told.n_passed);
        } else {
            print_why(&summary->report);
        }
    }
    if (summary->groups != NULL) {
        os_lock(&gc->lock);
        books_release(summary->groups, GROUPS_MOST * sizeof *summary->groups);
        os_unlock(&gc->lock);
    }
    return error;
}

int allot_leak_check(unsigned flags, allot_leak_report *report)
{
    uintptr_t stack = STACK_HERE();
    struct summary summary = {.flags = flags};
    if (report != NULL && report->abi_size != sizeof *report) {
        return EINVAL;
    }
    config_init();
    int error = run(&summary, stack);
    if (report != NULL) {
        *report = summary.report;
    }
    return error;
}

bool gc_leaks_print(void)
{
    uintptr_t stack = STACK_HERE();
    struct summary summary = {.flags = ALLOT_LEAK_PRINT};
    return run(&summary, stack) == 0 && summary.report.definite.n > 0;
}
