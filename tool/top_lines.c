/* SPDX-License-Identifier: MIT */
/* top_lines.c - samples as lines of text, the same for a terminal that is drawn anew and for a pipe. */
#include "tool.h"
#include "top.h"

#include <langinfo.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define CLASSES_SHOWN 8
#define HEAPS_SHOWN 8

void lines_add(struct lines *lines, const char *format, ...)
{
    char *line = NULL;
    va_list list;
    va_start(list, format);
    if (vasprintf(&line, format, list) < 0) {
        line = take_copy("");
    }
    va_end(list);
    lines->of = take_more(lines->of, (lines->n + 1) * sizeof *lines->of);
    lines->of[lines->n++] = line;
}

/* Broken at spaces; what goes on is indented. */
static void add_wrapped(struct lines *lines, const char *text, size_t width)
{
    size_t indent = 0;
    while (*text != '\0') {
        size_t length = strlen(text);
        size_t room = width > indent + 8 ? width - indent : 8;
        if (length > room) {
            length = room;
            while (length > 1 && text[length] != ' ') {
                length--;
            }
        }
        lines_add(lines, "%*s%.*s", (int)indent, "", (int)length, text);
        text += length + (text[length] == ' ');
        indent = 2;
    }
}

void lines_forget(struct lines *lines)
{
    for (size_t i = 0; i < lines->n; i++) {
        free(lines->of[i]);
    }
    free(lines->of);
    *lines = (struct lines){.n = 0};
}

/* ---- sparklines --------------------------------------------------------------------------------------------- */

static const char *step(double share)
{
    static const char *const blocks[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    static const char *const letters[] = {"_", ".", ":", "-", "=", "+", "*", "#"};
    int i = (int)(share * 7.99);
    i = i < 0 ? 0 : i > 7 ? 7 : i;
    return strcmp(nl_langinfo(CODESET), "UTF-8") == 0 ? blocks[i] : letters[i];
}

/* The newest samples, from 0 to the largest of them. */
static void add_sparkline(struct lines *lines, const char *name, const float *ring, unsigned n, size_t width)
{
    char text[BYTES_TEXT * 4] = "";
    char line[HISTORY * 4 + 1] = "";
    size_t shown = width > 34 ? width - 34 : 6;
    shown = shown > HISTORY ? HISTORY : shown;
    shown = shown > n ? n : shown;
    float most = 0;
    for (size_t i = 0; i < shown; i++) {
        float value = ring[(n - 1 - i) % HISTORY];
        most = value > most ? value : most;
    }
    for (size_t i = shown; i-- > 0;) {
        float value = ring[(n - 1 - i) % HISTORY];
        strcat(line, step(most <= 0 ? 0 : value / most));
    }
    if (strcmp(name, "faults") == 0) {
        snprintf(text, sizeof text, "%.0f/s", (double)ring[(n - 1) % HISTORY]);
    } else {
        char bytes[BYTES_TEXT];
        float last = ring[(n - 1) % HISTORY];
        snprintf(text, sizeof text, "%s%s", bytes_text(bytes, last <= 0 ? 0 : (uint64_t)last),
                 strcmp(name, "handed out") == 0 ? "/s" : "");
    }
    lines_add(lines, "%-10s %12s  %s", name, text, line);
}

/* ---- a process ---------------------------------------------------------------------------------------------- */

static int by_resident(const void *a, const void *b)
{
    uint64_t left = (*(const struct class_sample *const *)a)->resident_bytes;
    uint64_t right = (*(const struct class_sample *const *)b)->resident_bytes;
    return left > right ? -1 : left < right;
}

static void add_classes(struct lines *lines, const struct watched *watched)
{
    const struct class_sample *order[CLASSES_MOST];
    double seconds = watched->now.at - watched->before.at;
    for (size_t i = 0; i < CLASSES_MOST; i++) {
        order[i] = &watched->now.classes[i];
    }
    qsort(order, CLASSES_MOST, sizeof order[0], by_resident);
    lines_add(lines, "%11s %11s %9s %6s %11s %7s", "blocks of", "resident", "live", "full", "live/s", "slabs");
    for (size_t i = 0; i < CLASSES_SHOWN && order[i]->n_slabs > 0; i++) {
        char size[BYTES_TEXT], resident[BYTES_TEXT];
        const struct class_sample *before = &watched->before.classes[order[i] - watched->now.classes];
        double change =
            watched->n_samples < 2 || seconds <= 0 ? 0 : ((double)order[i]->n_live - (double)before->n_live) / seconds;
        lines_add(lines, "%11s %11s %9llu %4llu %% %+11.0f %7llu", bytes_text(size, order[i]->block_bytes),
                  bytes_text(resident, order[i]->resident_bytes), (unsigned long long)order[i]->n_live,
                  (unsigned long long)(order[i]->n_blocks == 0 ? 0 : order[i]->n_live * 100 / order[i]->n_blocks),
                  change, (unsigned long long)order[i]->n_slabs);
    }
}

static const char *thread_name(const struct watched *watched, pid_t tid)
{
    for (size_t i = 0; i < watched->target.n_threads; i++) {
        if (watched->target.threads[i].tid == tid) {
            return watched->target.threads[i].name;
        }
    }
    return "";
}

static int by_live(const void *a, const void *b)
{
    uint64_t left = ((const struct heap_of_thread *)a)->live_bytes;
    uint64_t right = ((const struct heap_of_thread *)b)->live_bytes;
    return left > right ? -1 : left < right;
}

static void add_heaps(struct lines *lines, const struct watched *watched)
{
    size_t n = watched->now.n_heaps;
    struct heap_of_thread *heaps = take_memory(n * sizeof *heaps);
    if (n > 0) {
        memcpy(heaps, watched->now.heaps, n * sizeof *heaps);
        qsort(heaps, n, sizeof *heaps, by_live);
    }
    lines_add(lines, "%11s %11s %9s  %s", "heap", "live", "in bins", "thread");
    for (size_t i = 0; i < n && i < HEAPS_SHOWN; i++) {
        char live[BYTES_TEXT], thread[64] = "?";
        if (heaps[i].idle) {
            snprintf(thread, sizeof thread, "idle");
        } else if (heaps[i].tid != 0) {
            snprintf(thread, sizeof thread, "%d %s", (int)heaps[i].tid, thread_name(watched, heaps[i].tid));
        }
        lines_add(lines, "%11u %11s %9llu  %s", heaps[i].number, bytes_text(live, heaps[i].live_bytes),
                  (unsigned long long)heaps[i].binned_blocks, thread);
    }
    if (n > HEAPS_SHOWN) {
        lines_add(lines, "%11s and %zu more", "", n - HEAPS_SHOWN);
    }
    free(heaps);
}

static size_t idle_heaps(const struct watched *watched)
{
    size_t n = 0;
    for (size_t i = 0; i < watched->now.n_heaps; i++) {
        n += watched->now.heaps[i].idle;
    }
    return n;
}

void top_lines(struct lines *lines, const struct watched *watched, size_t width)
{
    const struct sample *now = &watched->now;
    char a[BYTES_TEXT], b[BYTES_TEXT], c[BYTES_TEXT];
    char *head = take_text("%d %s, allot %s, %zu threads, %zu heaps (%zu idle), CPU %.0f %%", (int)watched->target.pid,
                           watched->name, watched->version, now->n_threads, now->n_heaps, idle_heaps(watched),
                           watched->rates.cpu * 100);
    char *more = take_text("%llu live blocks; free slots %s, kept %s, back to the system %s/s",
                           (unsigned long long)now->totals.n_live, bytes_text(a, now->totals.resident_free_slots),
                           bytes_text(b, now->totals.resident_kept),
                           bytes_text(c, watched->rates.purged_bytes <= 0 ? 0 : (uint64_t)watched->rates.purged_bytes));
    add_wrapped(lines, head, width);
    add_wrapped(lines, more, width);
    free(head);
    free(more);
    lines_add(lines, "%s", "");
    add_sparkline(lines, "resident", watched->rss, watched->n_samples, width);
    add_sparkline(lines, "live", watched->live, watched->n_samples, width);
    add_sparkline(lines, "handed out", watched->given, watched->n_samples, width);
    add_sparkline(lines, "faults", watched->faults, watched->n_samples, width);
    lines_add(lines, "%s", "");
    add_classes(lines, watched);
    lines_add(lines, "%s", "");
    add_heaps(lines, watched);
}

/* ---- all processes ------------------------------------------------------------------------------------------ */

void top_process_lines(struct lines *lines, const struct seen_process *processes, size_t n)
{
    lines_add(lines, "%8s %11s %11s %11s %11s  %s", "pid", "resident", "live", "free slots", "kept", "program");
    for (size_t i = 0; i < n; i++) {
        char a[BYTES_TEXT], b[BYTES_TEXT], c[BYTES_TEXT], d[BYTES_TEXT];
        lines_add(lines, "%8d %11s %11s %11s %11s  %s", (int)processes[i].pid, bytes_text(a, processes[i].rss_bytes),
                  bytes_text(b, processes[i].live_bytes), bytes_text(c, processes[i].free_slots_bytes),
                  bytes_text(d, processes[i].kept_bytes), processes[i].name);
    }
    if (n == 0) {
        lines_add(lines, "no process that may be looked at runs on allot: allot run PROGRAM starts one");
    }
}
