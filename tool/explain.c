/* SPDX-License-Identifier: MIT */
/* explain.c - why is the RSS so much larger than what was allocated? Parts that add up to it, and what would free how
 * much of each.
 *
 * Each resident page counts once: by its span if it is in one, by allot's books, and otherwise by the mapping it is in.
 * Of a process that runs, mappings are read before and after the heap, and all again when the two differ much.
 */
#include "heap_read.h"
#include "heap_view.h"
#include "json.h"
#include "memory_limit.h"
#include "tool.h"

#include <stdlib.h>
#include <string.h>

#define TRIES 3
#define MIB (UINT64_C(1) << 20)

enum part {
    PART_REQUESTED,
    PART_ROUNDING,
    PART_FREE_SLOTS,
    PART_KEPT,
    PART_TABLES,
    PART_OTHER_ROOMS,
    PART_STACKS,
    PART_PROGRAM,
    PART_BREAK,
    PART_ANONYMOUS,
    PART_SHARED,
    N_PARTS
};

static const struct {
    const char *key;
    const char *name;
} parts[N_PARTS] = {
    [PART_REQUESTED] = {"live_requested", "live blocks, as requested"},
    [PART_ROUNDING] = {"live_rounding", "live blocks, rounding"},
    [PART_FREE_SLOTS] = {"free_slots", "free slots in used pages"},
    [PART_KEPT] = {"kept", "kept pages"},
    [PART_TABLES] = {"tables", "allot's own tables"},
    [PART_OTHER_ROOMS] = {"other_rooms", "guarded blocks and other"},
    [PART_STACKS] = {"stacks", "thread stacks"},
    [PART_PROGRAM] = {"program", "program and libraries"},
    [PART_BREAK] = {"break", "program break"},
    [PART_ANONYMOUS] = {"other", "mapped by others"},
    [PART_SHARED] = {"shared", "shared memory and files"},
};

struct explained {
    uint64_t bytes[N_PARTS];
    uint64_t sum;
    uint64_t rss_bytes;
    uint64_t swap_bytes;
    uint64_t n_stacks;
    struct heap_totals totals;
    const struct mapping *largest_other; /* of PART_ANONYMOUS */
    struct memory_limit limit;
};

/* ---- mappings ----------------------------------------------------------------------------------------------- */

static bool is_stack(const struct target *target, size_t i)
{
    const struct mapping *mapping = &target->mappings[i];
    if (strncmp(mapping->name, "[stack", 6) == 0) {
        return true;
    }
    if (!mapping->writable || mapping->shared || mapping->name[0] != '\0') {
        return false;
    }
    for (size_t k = 0; k < target->n_threads; k++) {
        if (target->threads[k].stack >= mapping->begin && target->threads[k].stack < mapping->end) {
            return true;
        }
    }
    /* A thread that runs doesn't say where its stack is; libc puts a guard below it. */
    const struct mapping *below = i == 0 ? NULL : &target->mappings[i - 1];
    return below != NULL && below->end == mapping->begin && !below->readable && !below->writable &&
           below->name[0] == '\0' && below->end - below->begin <= 16 * target->page_bytes;
}

static bool is_of_allot(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash != NULL && strncmp(slash, "/liballot", 9) == 0;
}

/* The file whose data a nameless mapping right behind it continues. */
static const char *file_of(const struct target *target, size_t i)
{
    const struct mapping *mapping = &target->mappings[i];
    if (mapping->name[0] == '\0' && i > 0) {
        const struct mapping *before = &target->mappings[i - 1];
        if (before->end == mapping->begin && before->name[0] == '/' && before->writable && mapping->writable) {
            return before->name;
        }
    }
    return mapping->name;
}

static enum part part_of(const struct target *target, size_t i)
{
    const struct mapping *mapping = &target->mappings[i];
    const char *file = file_of(target, i);
    if (is_stack(target, i)) {
        return PART_STACKS;
    }
    if (mapping->shared) {
        return PART_SHARED;
    }
    if (file[0] == '/') {
        return is_of_allot(file) && mapping->writable ? PART_TABLES : PART_PROGRAM;
    }
    if (strcmp(mapping->name, "[heap]") == 0) {
        return PART_BREAK;
    }
    return mapping->name[0] == '[' && strncmp(mapping->name, "[anon", 5) != 0 ? PART_PROGRAM : PART_ANONYMOUS;
}

/* ---- whose each page is ------------------------------------------------------------------------------------- */

/* Takes what is resident in a range off the mappings that it lies in. */
static uint64_t claim(struct target *target, uint64_t *left, uint64_t begin, uint64_t bytes)
{
    uint64_t end = begin + bytes;
    uint64_t claimed = 0;
    for (size_t i = target_mapping_from(target, begin); i < target->n_mappings; i++) {
        const struct mapping *mapping = &target->mappings[i];
        if (mapping->begin >= end) {
            break;
        }
        uint64_t from = begin > mapping->begin ? begin : mapping->begin;
        uint64_t to = end < mapping->end ? end : mapping->end;
        uint64_t resident = resident_in(target, from, to - from);
        resident = resident < left[i] ? resident : left[i];
        left[i] -= resident;
        claimed += resident;
    }
    return claimed;
}

static void claim_spans(struct target *target, const struct heap_view *view, uint64_t *left)
{
    for (size_t i = 0; i < view->n_spans; i++) {
        const struct span_view *span = &view->spans[i];
        size_t k = target_mapping_from(target, span->begin);
        bool within = k < target->n_mappings && span->begin + span->bytes <= target->mappings[k].end;
        if (span->resident_bytes == 0) {
            continue;
        }
        if (within && span->resident_bytes <= left[k]) {
            left[k] -= span->resident_bytes;
        } else {
            claim(target, left, span->begin, span->bytes);
        }
    }
}

static bool in_area(const struct heap_view *view, uint64_t address)
{
    for (size_t i = 0; i < view->n_areas; i++) {
        if (address - view->areas[i].begin < view->areas[i].bytes) {
            return true;
        }
    }
    return false;
}

static void explain(struct target *target, const struct heap_view *view, struct explained *out)
{
    *out = (struct explained){.rss_bytes = target->rss_bytes, .swap_bytes = target->swap_bytes};
    uint64_t *left = take_memory(target->n_mappings * sizeof *left + 1);
    for (size_t i = 0; i < target->n_mappings; i++) {
        left[i] = target->mappings[i].rss_bytes;
    }
    heap_view_totals(view, &out->totals);
    out->bytes[PART_REQUESTED] = out->totals.resident_requested;
    out->bytes[PART_ROUNDING] = out->totals.resident_rounding;
    out->bytes[PART_FREE_SLOTS] = out->totals.resident_free_slots;
    out->bytes[PART_KEPT] = out->totals.resident_kept;
    out->bytes[PART_OTHER_ROOMS] = out->totals.resident_other;
    claim_spans(target, view, left);
    for (size_t i = 0; i < view->n_books; i++) {
        out->bytes[PART_TABLES] += claim(target, left, view->books[i].begin, view->books[i].bytes);
    }
    uint64_t largest = 0;
    for (size_t i = 0; i < target->n_mappings; i++) {
        enum part part = in_area(view, target->mappings[i].begin) ? PART_KEPT : part_of(target, i);
        out->bytes[part] += left[i];
        out->n_stacks += part == PART_STACKS;
        if (part == PART_ANONYMOUS && left[i] > largest) {
            largest = left[i];
            out->largest_other = &target->mappings[i];
        }
    }
    for (enum part part = 0; part < N_PARTS; part++) {
        out->sum += out->bytes[part];
    }
    free(left);
    memory_limit_of(target->pid, &out->limit);
}

/* ---- what to do --------------------------------------------------------------------------------------------- */

struct advice {
    uint64_t bytes; /* that it would free; 0: it tells something */
    const char *key;
    const char *knob; /* "" when there is none */
    char text[400];
};

#define ADVICE_MOST 8

struct advices {
    struct advice of[ADVICE_MOST];
    size_t n;
};

static struct advice *advise(struct advices *advices, uint64_t bytes, const char *key, const char *knob)
{
    struct advice *advice = &advices->of[advices->n < ADVICE_MOST ? advices->n++ : ADVICE_MOST - 1];
    *advice = (struct advice){.bytes = bytes, .key = key, .knob = knob};
    return advice;
}

static bool matters(const struct explained *it, uint64_t bytes)
{
    return bytes >= MIB && bytes >= it->rss_bytes / 50;
}

static void advise_on_heap(struct advices *advices, const struct heap_view *view, const struct explained *it)
{
    char a[BYTES_TEXT], b[BYTES_TEXT];
    uint64_t kept = it->bytes[PART_KEPT];
    uint64_t idle = it->totals.resident_idle;
    uint64_t slots = it->bytes[PART_FREE_SLOTS];
    if (matters(it, kept)) {
        struct advice *advice = advise(advices, kept, "kept", "purge_cap");
        snprintf(
            advice->text, sizeof advice->text,
            "malloc_trim(0) gives the kept pages back at once; ALLOT_OPTIONS=purge_cap=0 never keeps more than %lld "
            "ms of them, and each page that is wanted again then costs a fault",
            (long long)heap_view_option(view, "purge_age", 250));
    }
    if (matters(it, idle)) {
        struct advice *advice = advise(advices, idle, "idle_slots", "bin_limit");
        snprintf(
            advice->text, sizeof advice->text,
            "free slots in pages without any live block: malloc_trim(0), or allot_thread_idle() in the threads that "
            "hold them, gives these back; a lower ALLOT_OPTIONS=bin_limit (now %lld) lets threads hold fewer",
            (long long)heap_view_option(view, "bin_limit", 256));
    }
    if (matters(it, slots - (idle < slots ? idle : slots))) {
        struct advice *advice = advise(advices, 0, "pinned_slots", "");
        snprintf(advice->text, sizeof advice->text,
                 "%s of the free slots share their pages with live blocks: no option frees them, only what is freed or "
                 "allocated next to them; allot map shows where they are",
                 bytes_text(a, slots - idle));
    }
    if (matters(it, it->bytes[PART_ROUNDING]) && it->bytes[PART_ROUNDING] > it->bytes[PART_REQUESTED] / 8) {
        struct advice *advice = advise(advices, 0, "rounding", "");
        snprintf(advice->text, sizeof advice->text,
                 "%s are rounding: sizes just above a class; allot_good_size() tells what a size becomes",
                 bytes_text(b, it->bytes[PART_ROUNDING]));
    }
}

static void advise_on_rest(struct advices *advices, const struct target *target, const struct explained *it)
{
    char a[BYTES_TEXT], b[BYTES_TEXT];
    if (matters(it, it->bytes[PART_ANONYMOUS]) && it->bytes[PART_ANONYMOUS] > it->rss_bytes / 5) {
        struct advice *advice = advise(advices, 0, "other", "");
        snprintf(advice->text, sizeof advice->text,
                 "%s were mapped by the program or by another allocator, not by allot; the largest piece is at %#llx",
                 bytes_text(a, it->bytes[PART_ANONYMOUS]),
                 it->largest_other == NULL ? 0 : (unsigned long long)it->largest_other->begin);
    }
    if (it->limit.limit_bytes != 0) {
        bool near = it->limit.used_bytes > it->limit.limit_bytes / 10 * 8;
        struct advice *advice = advise(advices, 0, "limit", near ? "soft_limit" : "");
        snprintf(advice->text, sizeof advice->text, "its cgroup may use %s and uses %s%s",
                 bytes_text(a, it->limit.limit_bytes), bytes_text(b, it->limit.used_bytes),
                 near ? ": ALLOT_OPTIONS=soft_limit=80% makes allot keep nothing when it comes near" : "");
    }
    if (matters(it, it->swap_bytes)) {
        struct advice *advice = advise(advices, 0, "swap", "");
        snprintf(advice->text, sizeof advice->text, "%s more are swapped out", bytes_text(a, it->swap_bytes));
    }
    if (it->bytes[PART_REQUESTED] > it->rss_bytes / 2) {
        struct advice *advice = advise(advices, 0, "live", "");
        snprintf(advice->text, sizeof advice->text,
                 "%llu %% of it is what the program asked for and has not freed: no option changes that",
                 (unsigned long long)(it->bytes[PART_REQUESTED] * 100 / it->rss_bytes));
    }
    (void)target;
}

/* ---- output ------------------------------------------------------------------------------------------------- */

static void print_json(const struct target *target, const struct heap_view *view, const struct explained *it,
                       const struct advices *advices)
{
    struct json json = json_begin(stdout, "explain");
    json_number(&json, "pid", (uint64_t)target->pid);
    json_text(&json, "program", target->name);
    json_text(&json, "allot_version", view->version);
    json_text(&json, "read_by", target->pid == 0 ? "core" : view->by_socket ? "socket" : "memory");
    json_truth(&json, "while_it_ran", target->pid != 0);
    json_number(&json, "rss_bytes", it->rss_bytes);
    json_number(&json, "sum_bytes", it->sum);
    json_number(&json, "swap_bytes", it->swap_bytes);
    json_object(&json, "parts");
    for (enum part part = 0; part < N_PARTS; part++) {
        json_number(&json, parts[part].key, it->bytes[part]);
    }
    json_close(&json);
    json_number(&json, "idle_slots_bytes", it->totals.resident_idle);
    json_number(&json, "live_blocks", it->totals.n_live);
    json_number(&json, "live_bytes", it->totals.live_bytes);
    json_number(&json, "stacks", it->n_stacks);
    json_number(&json, "limit_bytes", it->limit.limit_bytes);
    json_number(&json, "limit_used_bytes", it->limit.used_bytes);
    json_number(&json, "torn_spans", view->n_torn);
    json_array(&json, "advice");
    for (size_t i = 0; i < advices->n; i++) {
        json_object(&json, NULL);
        json_text(&json, "about", advices->of[i].key);
        json_number(&json, "frees_bytes", advices->of[i].bytes);
        json_text(&json, "option", advices->of[i].knob[0] == '\0' ? NULL : advices->of[i].knob);
        json_text(&json, "text", advices->of[i].text);
        json_close(&json);
    }
    json_close(&json);
    json_end(&json);
}

static void print_part(const char *name, uint64_t bytes, uint64_t rss_bytes)
{
    char text[BYTES_TEXT];
    size_t width = terminal_width();
    unsigned tenths = rss_bytes == 0 ? 0 : (unsigned)(bytes * 1000 / rss_bytes);
    if (width < 50) {
        printf("%-25.25s %10s\n", name, bytes_text(text, bytes));
        return;
    }
    printf("  %-28s %11s  %3u.%u %%", name, bytes_text(text, bytes), tenths / 10, tenths % 10);
    size_t bar = width > 76 ? (width > 100 ? 50 : width - 53) : 0;
    unsigned filled = (unsigned)((uint64_t)tenths * bar / 1000);
    fputs(filled > 0 ? "  " : "", stdout);
    for (unsigned i = 0; i < filled; i++) {
        putchar('#');
    }
    putchar('\n');
}

static void print_advice(const struct advices *advices)
{
    char text[BYTES_TEXT];
    for (size_t i = 0; i < advices->n; i++) {
        const struct advice *advice = &advices->of[i];
        if (advice->bytes == 0) {
            continue;
        }
        int at = printf("  up to %s: ", bytes_text(text, advice->bytes));
        print_wrapped(stdout, (size_t)at, 4, advice->text);
    }
    for (size_t i = 0; i < advices->n; i++) {
        if (advices->of[i].bytes == 0) {
            printf("  ");
            print_wrapped(stdout, 2, 4, advices->of[i].text);
        }
    }
}

static void print_text(const struct target *target, const struct heap_view *view, const struct explained *it,
                       const struct advices *advices)
{
    char a[BYTES_TEXT], b[BYTES_TEXT];
    char *head = target->pid == 0
                     ? take_text("core file %s (%s), allot %s: %s in it", target->path, target->name, view->version,
                                 bytes_text(a, it->rss_bytes))
                     : take_text("process %d (%s), allot %s: %s resident, read while it ran", (int)target->pid,
                                 target->name, view->version, bytes_text(a, it->rss_bytes));
    print_wrapped(stdout, 0, 2, head);
    free(head);
    printf("\n");
    for (enum part part = 0; part < N_PARTS; part++) {
        if (it->bytes[part] != 0 || part <= PART_TABLES) {
            print_part(parts[part].name, it->bytes[part], it->rss_bytes);
        }
    }
    print_part("sum", it->sum, it->rss_bytes);
    printf("\n");
    char *live = take_text("%llu live blocks hold %s; the requested share of small ones is an estimate.",
                           (unsigned long long)it->totals.n_live, bytes_text(b, it->totals.live_bytes));
    print_wrapped(stdout, 0, 0, live);
    free(live);
    if (advices->n > 0) {
        printf("\nWhat it means:\n");
        print_advice(advices);
    }
}

/* ---- the subcommand ----------------------------------------------------------------------------------------- */

static bool differ_much(uint64_t a, uint64_t b)
{
    uint64_t difference = a > b ? a - b : b - a;
    return difference > b / 100 + 256 * 1024;
}

/* Reads mappings and heap as near to one instant as can be. */
static bool read_all(struct target *target, struct heap_view *view)
{
    for (int tries = 0;; tries++) {
        uint64_t before = target->rss_bytes;
        if (!heap_view_read(target, view, /* with_blocks */ false)) {
            return false;
        }
        if (tries + 1 == TRIES || target->pid == 0) {
            return true;
        }
        if (!target_refresh(target)) {
            heap_view_forget(view);
            return false;
        }
        if (!differ_much(before, target->rss_bytes)) {
            return true;
        }
        heap_view_forget(view);
    }
}

static int run(int argc, char **argv)
{
    static const struct option longs[] = {
        {"json", no_argument, NULL, 'j'}, {"socket", no_argument, NULL, 's'}, {NULL, 0, NULL, 0}};
    bool as_json = false;
    bool by_socket = false;
    for (int option; (option = next_option(argc, argv, "", longs)) != -1;) {
        if (option == '?') {
            return LEFT_MISUSED;
        }
        as_json = as_json || option == 'j';
        by_socket = by_socket || option == 's';
    }
    if (optind + 1 != argc) {
        return misused(optind == argc ? "which process, or which core file?" : "one process or core file, not several");
    }
    struct target target;
    struct heap_view view;
    if (!target_open(&target, argv[optind])) {
        return LEFT_FAILED;
    }
    target.memory_refused = target.memory_refused || by_socket;
    if (!read_all(&target, &view)) {
        target_close(&target);
        return LEFT_FAILED;
    }
    struct explained it;
    struct advices advices = {.n = 0};
    explain(&target, &view, &it);
    advise_on_heap(&advices, &view, &it);
    advise_on_rest(&advices, &target, &it);
    if (as_json) {
        print_json(&target, &view, &it, &advices);
    } else {
        print_text(&target, &view, &it, &advices);
    }
    heap_view_forget(&view);
    target_close(&target);
    return LEFT_WELL;
}

const struct command command_explain = {
    .name = "explain",
    .question = "Why is the RSS so much larger than what was allocated?",
    .synopsis = "[--json] [--socket] PID|COREFILE",
    .usage =
        "  --json  as JSON: each part in bytes, and what would free how much\n"
        "  --socket  ask the process, also where its memory could be read\n"
        "\n"
        "The parts add up to the process's resident memory. The process is not stopped; where the kernel lets nobody "
        "read its memory, it answers by itself if it was started with ALLOT_OPTIONS=look.\n",
    .run = run,
};
