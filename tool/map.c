/* SPDX-License-Identifier: MIT */
/* map.c - what does my heap look like? The subcommand, its letters for terminals, and its JSON. map_svg.c draws. */
#include "map.h"

#include "json.h"
#include "tool.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

char *map_whose(const struct target *target)
{
    return target->pid == 0 ? take_text("core file %s (%s)", target->path, target->name)
                            : take_text("process %d (%s)", (int)target->pid, target->name);
}

/* ---- letters ------------------------------------------------------------------------------------------------ */

#define ROWS_MOST 12u

/* Capital: at least half of it is live. */
static char letter(const struct span_view *span)
{
    bool full = span->n_blocks > 0 && span->n_live * UINT64_C(2) >= span->n_blocks;
    switch (span->use) {
    case USE_SMALL:
        return full ? 'S' : 's';
    case USE_MEDIUM:
        return full ? 'M' : 'm';
    case USE_LARGE:
        return 'L';
    case USE_POOL:
        return 'P';
    case USE_FREE:
        return span->resident_bytes > 0 ? 'f' : '.';
    default:
        return 'O';
    }
}

static void print_letters(FILE *out, const struct heap_view *view)
{
    size_t width = terminal_width();
    uint64_t granules = 0;
    for (size_t i = 0; i < view->n_spans; i++) {
        granules += view->spans[i].bytes / GRANULE_BYTES;
    }
    uint64_t step = (granules + width * ROWS_MOST - 1) / (width * ROWS_MOST);
    step = step == 0 ? 1 : step;
    uint64_t at = 0;
    uint64_t next = 0;
    size_t column = 0;
    for (size_t i = 0; i < view->n_spans; i++) {
        at += view->spans[i].bytes / GRANULE_BYTES;
        for (; next < at; next += step) {
            fputc(letter(&view->spans[i]), out);
            if (++column == width) {
                fputc('\n', out);
                column = 0;
            }
        }
    }
    fputs(column > 0 ? "\n" : "", out);
    char text[BYTES_TEXT];
    char *legend =
        take_text("A letter is %s. S small blocks, M medium ones (small letters: less than half live), L large "
                  "blocks, P pool, O guarded blocks and other, f free and resident, . free",
                  bytes_text(text, step * GRANULE_BYTES));
    print_wrapped(out, 0, 0, legend);
    free(legend);
}

static void print_uses(FILE *out, const struct heap_totals *totals)
{
    char span[BYTES_TEXT], resident[BYTES_TEXT];
    bool narrow = terminal_width() < 60;
    if (narrow) {
        fprintf(out, "%-14s %10s %10s\n", "", "space", "resident");
    } else {
        fprintf(out, "%-16s %8s %12s %12s\n", "", "spans", "space", "resident");
    }
    for (enum span_use use = 0; use < N_USES; use++) {
        if (totals->n_spans[use] == 0) {
            continue;
        }
        bytes_text(span, totals->span_bytes[use]);
        bytes_text(resident, totals->resident_bytes[use]);
        if (narrow) {
            fprintf(out, "%-14s %10s %10s\n", use_names[use], span, resident);
        } else {
            fprintf(out, "%-16s %8" PRIu64 " %12s %12s\n", use_names[use], totals->n_spans[use], span, resident);
        }
    }
}

struct class_sum {
    uint64_t block_bytes, n_spans, n_blocks, n_live, resident_bytes;
};

static int by_resident(const void *a, const void *b)
{
    uint64_t left = ((const struct class_sum *)a)->resident_bytes;
    uint64_t right = ((const struct class_sum *)b)->resident_bytes;
    return left > right ? -1 : left < right;
}

/* The classes that take most. */
static void print_classes(FILE *out, const struct heap_view *view)
{
    struct class_sum sums[256] = {{0}};
    for (size_t i = 0; i < view->n_spans; i++) {
        const struct span_view *span = &view->spans[i];
        if ((span->use == USE_SMALL || span->use == USE_MEDIUM) && span->class_index < 256) {
            struct class_sum *sum = &sums[span->class_index];
            sum->block_bytes = span->block_bytes;
            sum->n_spans++;
            sum->n_blocks += span->n_blocks;
            sum->n_live += span->n_live;
            sum->resident_bytes += span->resident_bytes;
        }
    }
    qsort(sums, 256, sizeof sums[0], by_resident);
    bool narrow = terminal_width() < 60;
    fprintf(out, "\n");
    if (!narrow) {
        fprintf(out, "%-16s %8s %12s %12s %6s\n", "blocks of", "slabs", "resident", "live", "full");
    }
    for (size_t i = 0; i < 6 && sums[i].n_spans > 0; i++) {
        char size[BYTES_TEXT], resident[BYTES_TEXT];
        unsigned full = sums[i].n_blocks == 0 ? 0 : (unsigned)(sums[i].n_live * 100 / sums[i].n_blocks);
        bytes_text(size, sums[i].block_bytes);
        bytes_text(resident, sums[i].resident_bytes);
        if (narrow) {
            fprintf(out, "%-14s %10s %3u %% live\n", size, resident, full);
        } else {
            fprintf(out, "%-16s %8" PRIu64 " %12s %12" PRIu64 " %4u %%\n", size, sums[i].n_spans, resident,
                    sums[i].n_live, full);
        }
    }
}

void map_text(FILE *out, const struct target *target, const struct heap_view *view)
{
    struct heap_totals totals;
    char *whose = map_whose(target);
    char *head =
        take_text("The heap of %s, allot %s%s:", whose, view->version, target->pid == 0 ? "" : ", read while it ran");
    heap_view_totals(view, &totals);
    print_wrapped(out, 0, 2, head);
    print_letters(out, view);
    fprintf(out, "\n");
    print_uses(out, &totals);
    print_classes(out, view);
    free(head);
    free(whose);
}

/* ---- JSON --------------------------------------------------------------------------------------------------- */

static void print_span(struct json *json, const struct span_view *span)
{
    char begin[24];
    snprintf(begin, sizeof begin, "0x%" PRIx64, span->begin);
    json_object(json, NULL);
    json_text(json, "begin", begin);
    json_number(json, "bytes", span->bytes);
    json_text(json, "use", use_keys[span->use]);
    json_truth(json, "own_mapping", span->own);
    json_number(json, "heap", span->heap);
    json_number(json, "block_bytes", span->n_blocks > 0 ? span->block_bytes : 0);
    json_number(json, "blocks", span->n_blocks);
    json_number(json, "live", span->n_live);
    json_number(json, "live_bytes", span->live_bytes);
    json_number(json, "resident_bytes", span->resident_bytes);
    json_signed(json, "age_ms", span->age_ms);
    json_close(json);
}

static void map_json(const struct target *target, const struct heap_view *view)
{
    struct heap_totals totals;
    struct json json = json_begin(stdout, "map");
    heap_view_totals(view, &totals);
    json_number(&json, "pid", (uint64_t)target->pid);
    json_text(&json, "program", target->name);
    json_text(&json, "allot_version", view->version);
    json_text(&json, "read_by", target->pid == 0 ? "core" : view->by_socket ? "socket" : "memory");
    json_truth(&json, "while_it_ran", target->pid != 0);
    json_number(&json, "live_blocks", totals.n_live);
    json_number(&json, "live_bytes", totals.live_bytes);
    json_number(&json, "torn_spans", view->n_torn);
    json_array(&json, "spans");
    for (size_t i = 0; i < view->n_spans; i++) {
        print_span(&json, &view->spans[i]);
    }
    json_close(&json);
    json_end(&json);
}

/* ---- the subcommand ----------------------------------------------------------------------------------------- */

static int write_picture(const char *path, const struct target *target, const struct heap_view *view)
{
    FILE *out = strcmp(path, "-") == 0 ? stdout : fopen(path, "we");
    if (out == NULL) {
        return complain("%s: %s", path, strerror(errno));
    }
    map_svg(out, target, view);
    if (out == stdout) {
        return LEFT_WELL;
    }
    bool failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed) {
        return complain("%s could not be written: %s", path, strerror(errno == 0 ? EIO : errno));
    }
    struct heap_totals totals;
    char live[BYTES_TEXT];
    heap_view_totals(view, &totals);
    char *said =
        take_text("%s: %zu spans, %llu live blocks of %s. A browser shows it: arrows go from span to span, Enter "
                  "looks into one, 1 to 5 choose the colours.",
                  path, view->n_spans, (unsigned long long)totals.n_live, bytes_text(live, totals.live_bytes));
    print_wrapped(stdout, 0, 0, said);
    free(said);
    return LEFT_WELL;
}

static int run(int argc, char **argv)
{
    static const struct option longs[] = {{"output", required_argument, NULL, 'o'},
                                          {"json", no_argument, NULL, 'j'},
                                          {"socket", no_argument, NULL, 's'},
                                          {NULL, 0, NULL, 0}};
    const char *path = NULL;
    bool as_json = false;
    bool by_socket = false;
    for (int option; (option = next_option(argc, argv, "o:", longs)) != -1;) {
        if (option == '?') {
            return LEFT_MISUSED;
        }
        path = option == 'o' ? optarg : path;
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
    int left = LEFT_FAILED;
    if (heap_view_read(&target, &view, /* with_blocks */ true)) {
        left = LEFT_WELL;
        if (path != NULL) {
            left = write_picture(path, &target, &view);
        }
        if (as_json) {
            map_json(&target, &view);
        } else if (path == NULL) {
            map_text(stdout, &target, &view);
        }
        heap_view_forget(&view);
    }
    target_close(&target);
    return left;
}

const struct command command_map = {
    .name = "map",
    .question = "What does my heap look like?",
    .synopsis = "[-o FILE.svg] [--json] [--socket] PID|COREFILE",
    .usage =
        "  -o, --output FILE  draw it as one SVG that any browser shows; - is standard output\n"
        "  --json  each span as JSON\n"
        "  --socket  ask the process, also where its memory could be read\n"
        "\n"
        "Without -o and --json it is drawn in letters. Every span has its place on the picture; it can be coloured by "
        "use, class, age, room or heap, and looked into, block by block.\n",
    .run = run,
};
