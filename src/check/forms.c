/* SPDX-License-Identifier: MIT */
/* forms.c - the report for programs: JSON (a document a line), SARIF 2.1.0 and JUnit.
 *
 * SARIF and JUnit are one document for all reports: each goes in before what closes it.
 */
#include "check/report_internal.h"

#include <allot/allot.h>

#include <string.h>

#define STRING_OF(x) #x
#define STRING(x) STRING_OF(x)
#define VERSION STRING(ALLOT_VERSION_MAJOR) "." STRING(ALLOT_VERSION_MINOR) "." STRING(ALLOT_VERSION_PATCH)

const char sarif_head[] =
    "{\"version\":\"2.1.0\",\"$schema\":\"https://json.schemastore.org/sarif-2.1.0.json\","
    "\"runs\":[{\"tool\":{\"driver\":{\"name\":\"allot\",\"version\":\"" VERSION "\"}},\"results\":[\n";
const char sarif_tail[] = "\n]}]}\n";
const char junit_head[] = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites><testsuite name=\"allot\">\n";
const char junit_tail[] = "</testsuite></testsuites>\n";

/* ---- JSON --------------------------------------------------------------------------------------------------- */

static void add_string(struct text *text, const char *s)
{
    static const char digits[] = "0123456789abcdef";
    text_add(text, "\"");
    for (; *s != '\0'; s++) {
        unsigned char c = (unsigned char)*s;
        char plain[] = {*s, '\0'};
        char quoted[] = {'\\', *s, '\0'};
        char code[] = {'\\', 'u', '0', '0', digits[c >> 4], digits[c & 15], '\0'};
        text_add(text, c == '"' || c == '\\' ? quoted : c < ' ' || c > '~' ? code : plain);
    }
    text_add(text, "\"");
}

static void add_key(struct text *text, const char *key)
{
    text_add(text, text->bytes[text->length - 1] == '{' || text->bytes[text->length - 1] == '[' ? "" : ",");
    add_string(text, key);
    text_add(text, ":");
}

static void add_text_of(struct text *text, const char *key, const char *value)
{
    add_key(text, key);
    add_string(text, value);
}

static void add_hex_of(struct text *text, const char *key, uint64_t value)
{
    add_key(text, key);
    text_add(text, "\"");
    text_add_hex(text, value);
    text_add(text, "\"");
}

static void add_number_of(struct text *text, const char *key, int64_t value)
{
    add_key(text, key);
    text_add_signed(text, value);
}

static void add_item(struct text *text)
{
    text_add(text, text->bytes[text->length - 1] == '[' ? "{" : ",{");
}

static void add_names(struct text *text, const char *names)
{
    struct report_name name;
    add_key(text, "names");
    text_add(text, "[");
    while (report_next_name(&names, &name)) {
        add_item(text);
        add_text_of(text, "function", name.function);
        add_text_of(text, "file", name.file);
        if (name.line != 0) {
            add_number_of(text, "line", (int64_t)name.line);
        }
        text_add(text, "}");
    }
    text_add(text, "]");
}

static void add_build_id(struct text *text, const struct stack_module *module)
{
    char id[2 * STACK_BUILD_ID_MOST + 1];
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < module->build_id_bytes; i++) {
        id[2 * i] = digits[module->build_id[i] >> 4];
        id[2 * i + 1] = digits[module->build_id[i] & 15];
    }
    id[2 * module->build_id_bytes] = '\0';
    add_text_of(text, "build_id", id);
}

static void add_stack(struct text *text, const struct report_stack *stack)
{
    add_key(text, stack->key);
    text_add(text, "{");
    add_number_of(text, "thread", (int64_t)stack->thread);
    add_key(text, "frames");
    text_add(text, "[");
    for (size_t i = 0; i < stack->n; i++) {
        const struct report_frame *frame = &stack->frames[i];
        add_item(text);
        add_hex_of(text, "pc", frame->pc);
        add_text_of(text, "module", frame->module.path);
        add_hex_of(text, "offset", frame->module.offset);
        add_build_id(text, &frame->module);
        add_names(text, frame->names);
        text_add(text, "}");
    }
    text_add(text, "]}");
}

static int64_t offset_of(const struct fault *fault)
{
    return (int64_t)((uintptr_t)fault->address - (uintptr_t)fault->block);
}

void json_report(const struct report *report, struct text *text)
{
    const struct fault *fault = report->fault;
    text_add(text, "{");
    add_text_of(text, "name", fault->name);
    add_text_of(text, "line", report->line);
    add_hex_of(text, "address", (uintptr_t)fault->address);
    add_text_of(text, "action", fault->action == NULL ? "free" : fault->action);
    add_number_of(text, "thread", (int64_t)os_thread_id());
    add_text_of(text, "state", fault->state);
    if (fault->block != NULL) {
        add_key(text, "block");
        text_add(text, "{");
        add_hex_of(text, "address", (uintptr_t)fault->block);
        add_number_of(text, "bytes", (int64_t)fault->block_bytes);
        add_number_of(text, "offset", offset_of(fault));
        text_add(text, "}");
    }
    for (size_t i = 0; i < report->n_stacks; i++) {
        add_stack(text, &report->stacks[i]);
    }
    add_text_of(text, "hint", report->hint);
    text_add(text, "}\n");
}

/* ---- SARIF -------------------------------------------------------------------------------------------------- */

/* The place that a frame's first name tells. */
static bool add_location(struct text *text, const struct report_frame *frame)
{
    struct report_name name;
    const char *names = frame->names;
    if (!report_next_name(&names, &name)) {
        name = (struct report_name){.line = 0};
    }
    text_add(text, "{\"physicalLocation\":{");
    add_key(text, "artifactLocation");
    text_add(text, "{");
    add_text_of(text, "uri", name.file[0] != '\0' && name.file[0] != '?' ? name.file : frame->module.path);
    text_add(text, "}");
    if (name.line != 0) {
        add_key(text, "region");
        text_add(text, "{");
        add_number_of(text, "startLine", (int64_t)name.line);
        text_add(text, "}");
    }
    text_add(text, "},\"message\":{");
    add_text_of(text, "text", name.function[0] == '\0' ? "??" : name.function);
    text_add(text, "}}");
    return name.line != 0;
}

static void add_sarif_stack(struct text *text, const struct report_stack *stack)
{
    text_add(text, text->bytes[text->length - 1] == '[' ? "{\"message\":{" : ",{\"message\":{");
    add_text_of(text, "text", stack->what);
    text_add(text, "},\"frames\":[");
    for (size_t i = 0; i < stack->n; i++) {
        text_add(text, i == 0 ? "{\"location\":" : ",{\"location\":");
        add_location(text, &stack->frames[i]);
        text_add(text, "}");
    }
    text_add(text, "]}");
}

void sarif_item(const struct report *report, struct text *text)
{
    text_add(text, "{");
    add_text_of(text, "ruleId", report->rule);
    add_text_of(text, "level", "error");
    add_key(text, "message");
    text_add(text, "{");
    add_text_of(text, "text", report->line);
    text_add(text, "}");
    add_key(text, "locations");
    text_add(text, "[");
    if (report->n_stacks != 0 && report->stacks[0].n != 0) {
        add_location(text, &report->stacks[0].frames[0]);
    }
    text_add(text, "]");
    add_key(text, "stacks");
    text_add(text, "[");
    for (size_t i = 0; i < report->n_stacks; i++) {
        add_sarif_stack(text, &report->stacks[i]);
    }
    text_add(text, "]}");
}

/* ---- JUnit -------------------------------------------------------------------------------------------------- */

static void add_xml(struct text *text, const char *s)
{
    for (; *s != '\0'; s++) {
        char plain[] = {*s >= ' ' || *s == '\n' || *s == '\t' ? *s : '?', '\0'};
        text_add(text, *s == '<' ? "&lt;" : *s == '>' ? "&gt;" : *s == '&' ? "&amp;" : *s == '"' ? "&quot;" : plain);
    }
}

void junit_item(const struct report *report, struct text *text)
{
    static char details[REPORT_TEXT_MOST / 2];
    struct text inner = text_in(details, sizeof details);
    text_report(report, &inner, /* colour */ false);
    text_add(text, "<testcase classname=\"allot\" name=\"");
    add_xml(text, report->fault->name);
    text_add(text, "\"><failure type=\"");
    add_xml(text, report->rule);
    text_add(text, "\" message=\"");
    add_xml(text, report->line);
    text_add(text, "\">");
    add_xml(text, details);
    text_add(text, "</failure></testcase>\n");
}
