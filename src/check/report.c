/* SPDX-License-Identifier: MIT */
/* report.c - what follows the line: what is known is gathered, names are found, and it is written in the form that was
 * asked for.
 */
#include "check/report_internal.h"
#include "config/config.h"

#include <string.h>

static struct {
    _Atomic bool busy; /* O38: the rest; tried, not waited for */
    struct report report;
    char text[REPORT_TEXT_MOST];
    _Atomic(check_listener) listener; /* O45 */
    _Atomic(void *) context;          /* stored before listener, loaded after it */
} reports;

/* ---- gathering ---------------------------------------------------------------------------------------------- */

static const char *const took[] = {"malloc", "new", "new[]", "aligned new", "aligned new[]"};
static const char *const gives[] = {"free", "delete", "delete[]", "aligned delete", "aligned delete[]"};

static struct report_stack *stack_new(struct report *report, const char *key, const char *what, unsigned long thread)
{
    struct report_stack *stack = &report->stacks[report->n_stacks++];
    stack->key = key;
    stack->what = what;
    stack->thread = thread;
    stack->n = 0;
    return stack;
}

static const char *describe_action(const struct fault *fault)
{
    static char what[80];
    struct text text = text_in(what, sizeof what);
    text_add(&text, "the ");
    text_add(&text, fault->action == NULL ? "free" : fault->action);
    return what;
}

/* A leak is nobody's doing at any moment. */
static bool has_culprit(const struct fault *fault)
{
    return strcmp(fault->name, "leak") != 0;
}

static void gather_access(struct report *report)
{
    const struct fault *fault = report->fault;
    if (!has_culprit(fault)) {
        return;
    }
    struct report_stack *stack = stack_new(report, "access", describe_action(fault), os_thread_id());
    if (fault->registers != NULL) {
        stack->n = stack_capture_from(fault->registers, stack->pcs, STACK_FRAMES_MOST);
    } else {
        stack->n = stack_capture(stack->pcs, STACK_FRAMES_MOST);
        stack->n = check_leave_own(stack->pcs, stack->n);
    }
}

static const char *describe_taking(const struct note *note)
{
    static char what[120];
    struct text text = text_in(what, sizeof what);
    text_add(&text, "its ");
    text_add_unsigned(&text, note->requested);
    text_add(&text, note->requested == 1 ? " byte was taken by " : " bytes were taken by ");
    text_add(&text, took[note->kind % (sizeof took / sizeof took[0])]);
    return what;
}

static void gather_block(struct report *report)
{
    const struct note *note = report->noted.note;
    if (note == NULL || report->noted.block != report->fault->block) {
        return;
    }
    struct report_stack *taken = stack_new(report, "allocation", describe_taking(note), note->take_thread);
    taken->n = stack_recall(note->take_stack, taken->pcs);
    if (load_relaxed(&note->state) != NOTE_LIVE && note->give_thread != 0) {
        struct report_stack *given = stack_new(report, "free", "it was freed", note->give_thread);
        given->n = stack_recall(note->give_stack, given->pcs);
    }
}

/* ---- the hint ----------------------------------------------------------------------------------------------- */

static void add_distance(struct text *hint, const struct report *report)
{
    const struct fault *fault = report->fault;
    intptr_t offset = (intptr_t)((uintptr_t)fault->address - (uintptr_t)fault->block);
    size_t beyond = offset < 0 ? (size_t)-offset : (size_t)offset - fault->block_bytes;
    text_add_unsigned(hint, offset < 0 ? beyond : beyond + 1);
    text_add(hint, (offset < 0 ? beyond : beyond + 1) == 1 ? " byte " : " bytes ");
    text_add(hint, offset < 0 ? "before its begin" : "beyond its end");
}

static void hint_mismatch(struct text *hint, const struct report *report)
{
    const struct note *note = report->noted.note;
    size_t kind = note == NULL ? 0 : note->kind % (sizeof took / sizeof took[0]);
    text_add(hint, "what ");
    text_add(hint, took[kind]);
    text_add(hint, " returned is given back by ");
    text_add(hint, gives[kind]);
}

static void make_hint(struct report *report)
{
    struct text hint = text_in(report->hint, sizeof report->hint);
    const char *name = report->fault->name;
    if (strcmp(name, "double free") == 0) {
        text_add(&hint,
                 "one of the two frees is too many: who owns the block? Set the pointer to NULL after the first");
    } else if (strcmp(name, "invalid free") == 0) {
        text_add(&hint, report->fault->block == NULL
                            ? "free takes only what malloc and its family returned"
                            : "free takes the pointer that malloc returned, not one into the block");
    } else if (strcmp(name, "use after free") == 0) {
        text_add(&hint, "a copy of the pointer outlived the block: see who freed it, and who kept the copy");
    } else if (strcmp(name, "buffer overflow") == 0) {
        add_distance(&hint, report);
        text_add(&hint, ": an index one too far, or no room for a string's NUL?");
    } else if (strcmp(name, "buffer underflow") == 0) {
        add_distance(&hint, report);
        text_add(&hint, ": an index below 0, or a loop that runs one too far down?");
    } else if (strcmp(name, "mismatched deallocation") == 0) {
        hint_mismatch(&hint, report);
    } else if (strcmp(name, "wrong size") == 0) {
        text_add(&hint, "who frees by size must say what was asked for: ");
        text_add_unsigned(&hint, report->fault->block_bytes);
        text_add(&hint, " bytes");
    } else if (strcmp(name, "uninitialised read") == 0) {
        text_add(&hint, "malloc clears nothing: set every member before it is used, or take the block by calloc");
    } else if (strcmp(name, "leak") == 0) {
        text_add(&hint, "nothing points to it any more: free it before the last pointer to it goes");
    }
}

static void make_rule(struct report *report)
{
    struct text rule = text_in(report->rule_text, sizeof report->rule_text);
    text_add(&rule, report->fault->name);
    for (char *c = report->rule_text; *c != '\0'; c++) {
        *c = *c == ' ' ? '-' : *c;
    }
    report->rule = report->rule_text;
}

/* ---- writing ------------------------------------------------------------------------------------------------ */

static bool wants_colour(void)
{
    char value[2];
    char term[16] = "";
    os_environment("TERM", term, sizeof term);
    bool refused = os_environment("NO_COLOR", value, sizeof value) && value[0] != '\0';
    return !refused && strcmp(term, "dumb") != 0 && os_error_is_terminal();
}

static void write_out(const struct text *text)
{
    char path[512];
    option_text(OPT_report_file, path, sizeof path);
    int file = path[0] == '\0' ? 2 : os_append_to(path);
    os_write(file < 0 ? 2 : file, text->bytes, text->length);
    if (file > 2) {
        os_close(file);
    }
}

/* A document that further reports can be put into, where it is a file. */
static void write_document(const struct text *item, const char *head, const char *between, const char *tail)
{
    char path[512];
    option_text(OPT_report_file, path, sizeof path);
    const struct os_document document = {.head = head, .between = between, .tail = tail};
    if (path[0] == '\0' || os_document_add(path, &document, item->bytes, item->length) != 0) {
        os_write_error(head, strlen(head));
        os_write_error(item->bytes, item->length);
        os_write_error(tail, strlen(tail));
    }
}

static int64_t form_wanted(const struct report *report)
{
    const struct hooks *hooks = hooks_now();
    int64_t form = option(OPT_report);
    bool knows_more = hooks->all || report->noted.note != NULL;
    return form != REPORT_AUTO ? form : knows_more ? REPORT_TEXT : REPORT_LINE;
}

static void write_report(const struct report *report, int64_t form)
{
    struct text text = text_in(reports.text, sizeof reports.text);
    switch (form) {
    case REPORT_JSON:
        json_report(report, &text);
        write_out(&text);
        return;
    case REPORT_SARIF:
        sarif_item(report, &text);
        write_document(&text, sarif_head, ",\n", sarif_tail);
        return;
    case REPORT_JUNIT:
        junit_item(report, &text);
        write_document(&text, junit_head, "", junit_tail);
        return;
    default:
        text_report(report, &text, wants_colour());
        write_out(&text);
        return;
    }
}

static void tell_listener(struct report *report)
{
    check_listener listener = load_acquire(&reports.listener); /* O45 */
    if (listener != NULL) {
        struct text text = text_in(reports.text, sizeof reports.text);
        text_report(report, &text, /* colour */ false);
        listener(report->fault, report->line, text.bytes, load_relaxed(&reports.context));
    }
}

void check_set_listener(check_listener listener, void *context)
{
    store_relaxed(&reports.context, context);
    store_release(&reports.listener, listener); /* O45 pairs with tell_listener: context is there */
}

static void make_report(const struct fault *fault, const char *line)
{
    struct report *report = &reports.report;
    report->fault = fault;
    report->line = line;
    report->n_stacks = 0;
    report->noted = fault->block == NULL ? (struct noted){.note = NULL} : noted_find(fault->block);
    int64_t form = form_wanted(report);
    bool is_heard = load_relaxed(&reports.listener) != NULL;
    if (form == REPORT_LINE && !is_heard) {
        return;
    }
    gather_access(report);
    gather_block(report);
    make_hint(report);
    make_rule(report);
    symbols_find(report);
    if (form != REPORT_LINE) {
        write_report(report, form);
    }
    tell_listener(report);
}

void report_tell(const struct fault *fault, const char *line)
{
    if (check_try_lock(&reports.busy)) {
        make_report(fault, line);
        check_unlock(&reports.busy);
    }
}

bool report_goes_on(const struct fault *fault)
{
    if (!has_culprit(fault) || (!fault->fatal && option(OPT_halt) == 0)) {
        return true; /* after a leak there are others; the process ends as it was about to */
    }
    int code = (int)option(OPT_exit_code);
    if (code != 0) {
        os_exit(code);
    }
    return false;
}
