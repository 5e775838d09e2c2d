/* SPDX-License-Identifier: MIT */
/* heap_view.c - what is made of a heap's spans, whoever told of them: what is resident, and sums. heap_read.c reads
 * them through the root table, look_client.c over the socket. */
#include "heap_view.h"

#include "heap_read.h"
#include "look_client.h"
#include "tool.h"

#include <stdlib.h>
#include <string.h>

const char *const use_names[N_USES] = {
    [USE_SMALL] = "small blocks", [USE_MEDIUM] = "medium blocks", [USE_LARGE] = "large blocks",
    [USE_POOL] = "pool",          [USE_FREE] = "free spans",      [USE_OTHER] = "guards, other",
};

const char *const use_keys[N_USES] = {
    [USE_SMALL] = "small", [USE_MEDIUM] = "medium", [USE_LARGE] = "large",
    [USE_POOL] = "pool",   [USE_FREE] = "free",     [USE_OTHER] = "other",
};

/* ---- growing arrays ----------------------------------------------------------------------------------------- */

void *grown(void *items, size_t n, size_t item_bytes)
{
    return (n & (n - 1)) == 0 ? take_more(items, (n == 0 ? 1 : n * 2) * item_bytes) : items;
}

struct span_view *heap_view_add(struct heap_view *view)
{
    view->spans = grown(view->spans, view->n_spans, sizeof *view->spans);
    struct span_view *span = &view->spans[view->n_spans++];
    *span = (struct span_view){.age_ms = -1};
    return span;
}

void range_add(struct range **ranges, size_t *n, uint64_t begin, uint64_t bytes)
{
    *ranges = grown(*ranges, *n, sizeof **ranges);
    (*ranges)[(*n)++] = (struct range){begin, bytes};
}

/* ---- what is resident --------------------------------------------------------------------------------------- */

static uint64_t resident_in_mapping(struct target *target, uint64_t begin, uint64_t end)
{
    uint8_t states[4096];
    uint64_t page = target->page_bytes;
    uint64_t resident = 0;
    while (begin < end) {
        size_t n = (size_t)((end - begin + page - 1) / page);
        n = n < sizeof states ? n : sizeof states;
        target_pages(target, begin, n, states);
        for (size_t i = 0; i < n; i++) {
            resident += states[i] == PAGE_RESIDENT ? page : 0;
        }
        begin += n * page;
    }
    return resident;
}

/* What isn't mapped, or has nothing resident, isn't looked at: a length that was read wrong costs nothing. */
uint64_t resident_in(struct target *target, uint64_t begin, uint64_t bytes)
{
    uint64_t end = begin + bytes;
    uint64_t resident = 0;
    for (size_t i = target_mapping_from(target, begin); i < target->n_mappings; i++) {
        const struct mapping *mapping = &target->mappings[i];
        if (mapping->begin >= end) {
            break;
        }
        if (mapping->rss_bytes != 0) {
            resident += resident_in_mapping(target, begin > mapping->begin ? begin : mapping->begin,
                                            end < mapping->end ? end : mapping->end);
        }
    }
    return resident < bytes ? resident : bytes;
}

static bool bit(const unsigned char *bits, uint32_t i)
{
    return (bits[i / 8] >> i % 8 & 1) != 0;
}

static void add_live(uint32_t *live, size_t n_pages, uint64_t page, uint64_t offset, uint64_t bytes)
{
    uint64_t end = offset + bytes;
    while (offset < end && offset / page < n_pages) {
        uint64_t page_end = (offset / page + 1) * page;
        uint64_t step = (end < page_end ? end : page_end) - offset;
        live[offset / page] += (uint32_t)step;
        offset += step;
    }
}

static void measure_large(struct target *target, struct span_view *span)
{
    span->n_live = 1;
    span->live_bytes = span->block_bytes;
    span->live_resident_bytes = resident_in(target, span->begin, span->block_bytes);
    span->resident_bytes = span->live_resident_bytes +
                           resident_in(target, span->begin + span->block_bytes, span->bytes - span->block_bytes);
    span->idle_resident_bytes = span->resident_bytes - span->live_resident_bytes;
}

static void measure_blocks(struct target *target, struct span_view *span, const uint8_t *states)
{
    uint64_t page = target->page_bytes;
    size_t n_pages = (size_t)(span->bytes / page);
    uint32_t *live = take_memory(n_pages * sizeof *live);
    for (uint32_t i = 0; i < span->n_blocks; i++) {
        if (bit(span->live_bits, i)) {
            span->n_live++;
            span->live_bytes += span->block_bytes;
            add_live(live, n_pages, page, span->first_block - span->begin + i * span->block_bytes, span->block_bytes);
        }
    }
    for (size_t i = 0; i < n_pages; i++) {
        if (states[i] == PAGE_RESIDENT) {
            span->resident_bytes += page;
            span->live_resident_bytes += live[i];
            span->idle_resident_bytes += live[i] == 0 ? page : 0;
        }
    }
    free(live);
}

void span_measure(struct target *target, struct span_view *span)
{
    if (span->use == USE_SMALL || span->use == USE_MEDIUM) {
        size_t n = (size_t)(span->bytes / target->page_bytes);
        uint8_t *states = take_memory(n);
        target_pages(target, span->begin, n, states);
        measure_blocks(target, span, states);
        free(states);
    } else if (span->use == USE_LARGE) {
        measure_large(target, span);
    } else {
        span->resident_bytes = resident_in(target, span->begin, span->bytes);
        span->live_resident_bytes = span->use == USE_FREE ? 0
                                    : span->live_bytes < span->resident_bytes && span->use == USE_POOL
                                        ? span->live_bytes
                                        : span->resident_bytes;
        bool nothing = span->use == USE_FREE || (span->use == USE_POOL && span->live_bytes == 0);
        span->idle_resident_bytes = nothing ? span->resident_bytes : 0;
    }
}

/* ---- all of it ---------------------------------------------------------------------------------------------- */

static int by_address(const void *a, const void *b)
{
    uint64_t left = ((const struct span_view *)a)->begin;
    uint64_t right = ((const struct span_view *)b)->begin;
    return left < right ? -1 : left > right;
}

static struct heap_of_thread *heap_numbered(struct heap_view *view, uint32_t number)
{
    for (size_t i = 0; i < view->n_heaps; i++) {
        if (view->heaps[i].number == number) {
            return &view->heaps[i];
        }
    }
    return NULL;
}

static void credit_heaps(struct heap_view *view)
{
    struct heap_of_thread *heap = NULL;
    for (size_t i = 0; i < view->n_spans; i++) {
        const struct span_view *span = &view->spans[i];
        if (span->heap != 0 && (heap == NULL || heap->number != span->heap)) {
            heap = heap_numbered(view, span->heap);
        }
        if (heap != NULL && span->heap != 0) {
            heap->live_bytes += span->live_bytes;
        }
    }
}

bool heap_view_read(struct target *target, struct heap_view *view, bool with_blocks)
{
    *view = (struct heap_view){.rounding = 1};
    if (!(target->memory_refused ? look_view(target, view) : heap_read(target, view))) {
        heap_view_forget(view);
        return false;
    }
    if (view->n_spans > 0) {
        qsort(view->spans, view->n_spans, sizeof *view->spans, by_address);
    }
    credit_heaps(view);
    for (size_t i = 0; i < view->n_spans && !with_blocks; i++) {
        free(view->spans[i].live_bits);
        view->spans[i].live_bits = NULL;
    }
    return true;
}

void heap_view_forget(struct heap_view *view)
{
    for (size_t i = 0; i < view->n_spans; i++) {
        free(view->spans[i].live_bits);
    }
    free(view->spans);
    free(view->areas);
    free(view->books);
    free(view->heaps);
    free(view->arenas);
    free(view->options);
    *view = (struct heap_view){.rounding = 1};
}

int64_t heap_view_option(const struct heap_view *view, const char *name, int64_t otherwise)
{
    for (size_t i = 0; i < view->n_options; i++) {
        if (strcmp(view->options[i].name, name) == 0) {
            return view->options[i].value;
        }
    }
    return otherwise;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void heap_view_totals(const struct heap_view *view, struct heap_totals *totals)
{
    *totals = (struct heap_totals){0};
    for (size_t i = 0; i < view->n_spans; i++) {
        const struct span_view *span = &view->spans[i];
        uint64_t live = least(span->live_resident_bytes, span->resident_bytes);
        bool exact = span->use == USE_LARGE;
        bool rounded = span->use == USE_SMALL || span->use == USE_MEDIUM;
        uint64_t asked = exact     ? least(span->requested_bytes, live)
                         : rounded ? (uint64_t)((double)live / view->rounding)
                                   : live;
        totals->n_spans[span->use]++;
        totals->span_bytes[span->use] += span->bytes;
        totals->resident_bytes[span->use] += span->resident_bytes;
        totals->n_live += span->n_live;
        totals->live_bytes += span->live_bytes;
        totals->requested_bytes += exact     ? span->requested_bytes
                                   : rounded ? (uint64_t)((double)span->live_bytes / view->rounding)
                                             : span->live_bytes;
        if (rounded) {
            totals->n_free += span->n_blocks - least(span->n_blocks, span->n_live);
            totals->free_bytes += (span->n_blocks - least(span->n_blocks, span->n_live)) * span->block_bytes;
        }
        if (span->use == USE_FREE) {
            totals->resident_kept += span->resident_bytes;
            continue;
        }
        if (span->use == USE_OTHER) {
            totals->resident_other += span->resident_bytes;
            continue;
        }
        totals->resident_live += live;
        totals->resident_requested += asked;
        totals->resident_rounding += live - asked;
        totals->resident_free_slots += span->resident_bytes - live;
        totals->resident_idle += span->idle_resident_bytes;
    }
}
