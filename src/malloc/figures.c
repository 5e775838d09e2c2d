/* SPDX-License-Identifier: MIT */
/* figures.c - where the process's memory is: allot_stats, and glibc's questions answered from it. */
#include "base/format.h"
#include "config/config.h"
#include "heap/heap.h"
#include "malloc/figures_internal.h"
#include "os/os.h"
#include "span/span.h"

#include <allot/allot.h>
#include <errno.h>
#include <stdio.h>

int allot_stats(allot_stats_report *report)
{
    if (report == NULL || report->abi_size != sizeof *report) {
        return EINVAL;
    }
    struct heap_figures heap;
    struct span_figures span;
    heap_figures(&heap);
    span_figures(&span);
    size_t rss = os_process_resident_bytes();
    size_t ours = heap.rss_live_requested + heap.rss_live_rounding + heap.rss_free_slots + heap.rss_kept +
                  heap.rss_tables;
    *report = (allot_stats_report){
        .abi_size = sizeof *report,
        .rss = size_max(rss, ours),
        .rss_live_requested = heap.rss_live_requested,
        .rss_live_rounding = heap.rss_live_rounding,
        .rss_free_slots = heap.rss_free_slots,
        .rss_kept = heap.rss_kept,
        .rss_tables = heap.rss_tables,
        .rss_not_malloc = rss > ours ? rss - ours : 0,
        .n_live_blocks = heap.n_live,
        .live_bytes = heap.live_bytes,
        .n_free_blocks = heap.n_free,
        .free_bytes = heap.free_bytes,
        .n_slabs = heap.n_slabs,
        .n_large_blocks = heap.n_large,
        .large_bytes = heap.large_bytes,
        .n_own_mappings = span.n_own,
        .own_mapping_bytes = span.own_bytes,
        .n_areas = span.n_areas,
        .area_bytes = span.area_bytes,
        .committed_bytes = span.committed_bytes,
        .n_heaps = heap.n_heaps,
        .n_heaps_idle = heap.n_heaps_idle,
        .purged_bytes = span.purged_bytes,
        .n_purges = span.n_purges,
        .n_os_refusals = span.n_refusals,
        .limit_soft = span.limit_soft,
        .limit_hard = span.limit_hard,
    };
    return 0;
}

/* ---- the table ---------------------------------------------------------------------------------------------- */

static void print_row(const char *name, size_t bytes)
{
    char number[32];
    char line[128];
    struct text value = text_in(number, sizeof number);
    text_add_bytes(&value, bytes);
    struct text text = text_in(line, sizeof line);
    text_add(&text, "allot:   ");
    text_add_column(&text, number, 12);
    text_add(&text, "  ");
    text_add(&text, name);
    text_add(&text, "\n");
    os_write_error(text.bytes, text.length);
}

void figures_print(void)
{
    static const char title[] = "allot: where the process's resident memory is\n";
    allot_stats_report report = ALLOT_STATS_INIT;
    allot_stats(&report);
    os_write_error(title, sizeof title - 1);
    print_row("live blocks, as requested (small ones estimated)", report.rss_live_requested);
    print_row("live blocks, rounding", report.rss_live_rounding);
    print_row("free slots in used pages", report.rss_free_slots);
    print_row("kept pages", report.rss_kept);
    print_row("allot's own tables", report.rss_tables);
    print_row("not malloc", report.rss_not_malloc);
    print_row("resident", report.rss);
}

void allot_malloc_stats(void)
{
    figures_print();
}

/* ---- glibc's questions -------------------------------------------------------------------------------------- */

struct allot_mallinfo2 allot_mallinfo2(void)
{
    allot_stats_report report = ALLOT_STATS_INIT;
    allot_stats(&report);
    return (struct allot_mallinfo2){
        .arena = report.committed_bytes,
        .ordblks = report.n_free_blocks,
        .hblks = report.n_own_mappings,
        .hblkhd = report.own_mapping_bytes,
        .uordblks = report.live_bytes,
        .fordblks = report.free_bytes + report.rss_kept,
        .keepcost = report.rss_kept,
    };
}

int allot_malloc_info(int options, void *stdio_stream)
{
    if (options != 0 || stdio_stream == NULL) {
        return EINVAL;
    }
    allot_stats_report r = ALLOT_STATS_INIT;
    allot_stats(&r);
    int written = fprintf(stdio_stream,
                          "<malloc version=\"1\" allocator=\"allot %s\">\n"
                          "<total type=\"live\" count=\"%zu\" size=\"%zu\"/>\n"
                          "<total type=\"rest\" count=\"%zu\" size=\"%zu\"/>\n"
                          "<total type=\"mmap\" count=\"%zu\" size=\"%zu\"/>\n"
                          "<system type=\"current\" size=\"%zu\"/>\n"
                          "<resident type=\"requested\" size=\"%zu\"/>\n"
                          "<resident type=\"rounding\" size=\"%zu\"/>\n"
                          "<resident type=\"free-slots\" size=\"%zu\"/>\n"
                          "<resident type=\"kept\" size=\"%zu\"/>\n"
                          "<resident type=\"tables\" size=\"%zu\"/>\n"
                          "<resident type=\"not-malloc\" size=\"%zu\"/>\n"
                          "</malloc>\n",
                          allot_version(), r.n_live_blocks, r.live_bytes, r.n_free_blocks, r.free_bytes,
                          r.n_own_mappings, r.own_mapping_bytes, r.committed_bytes, r.rss_live_requested,
                          r.rss_live_rounding, r.rss_free_slots, r.rss_kept, r.rss_tables, r.rss_not_malloc);
    return written < 0 ? -1 : 0;
}

/* The parameters of <malloc.h>, which not every system has. */
enum {
    M_MMAP_MAX_ = -4,
    M_MMAP_THRESHOLD_ = -3,
    M_TRIM_THRESHOLD_ = -1,
    M_PERTURB_ = -6,
};

int allot_mallopt(int parameter, int value)
{
    switch (parameter) {
    case M_MMAP_THRESHOLD_:
        return option_set(OPT_mmap_threshold, value);
    case M_TRIM_THRESHOLD_:
        /* glibc's -1 turns trimming off. */
        return option_set(OPT_purge_cap, value == -1 ? MOST_BYTES : value);
    case M_MMAP_MAX_:
        /* Only none can be meant: allot has no count to keep below. */
        return value == 0 && option_set(OPT_mmap_threshold, MOST_BYTES);
    case M_PERTURB_:
        /* glibc fills freed memory with value and new memory with its complement. */
        return heap_set_fill(value == 0 ? -1 : ~value & 0xff);
    default:
        return 0;
    }
}
