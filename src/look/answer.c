/* SPDX-License-Identifier: MIT */
/* answer.c - what the process says of itself: lines of words, the last of them "end".
 *
 *     stats      NAME BYTES, the fields of allot_stats_report
 *     heap       span USE BEGIN BYTES OWN CLASS HEAP FIRST BLOCK_BYTES N_BLOCKS REQUESTED LIVE_BYTES AGE_MS [BITS]
 *                heap NUMBER IDLE BINNED STORAGE       book BEGIN BYTES      area BEGIN BYTES    reserved BYTES
 *                option NAME VALUE     class BYTES     small N               sampled REQUESTED GIVEN
 *                purged BYTES N        refusals N
 *     options    option NAME VALUE
 *     arenas     arena DEPTH SERIAL KIND SIZE LIVE TOTAL SOFT HARD SEGMENTS SEALED LINE NAME-BYTES NAME FILE
 *
 * Addresses and bits are hexadecimal; bits have two digits for eight blocks, the first block in the lowest bit. What
 * isn't known is 0, an age -1.
 */
#include "arena/arena.h"
#include "base/base.h"
#include "base/format.h"
#include "config/config.h"
#include "heap/heap.h"
#include "look/look_internal.h"
#include "map/map.h"
#include "os/os.h"
#include "pool/pool.h"
#include "span/span.h"

#include <allot/allot.h>
#include <string.h>

#define OUT_BYTES 8192
/* The longest line: a span's words, and a digit for four blocks. */
#define LINE_MOST (HEAP_SPAN_BLOCKS / 4 + 400)

struct out {
    int connection;
    bool gone;
    struct text text;
    char bytes[OUT_BYTES];
    uint64_t requested;
    uint64_t sampled;
};

static void flush(struct out *out)
{
    if (!out->gone && out->text.length > 0) {
        out->gone = os_send(out->connection, out->bytes, out->text.length) != 0;
    }
    out->text = text_in(out->bytes, sizeof out->bytes);
}

static void word(struct out *out, const char *s)
{
    text_add(&out->text, s);
}

static void number(struct out *out, uint64_t n)
{
    text_add(&out->text, " ");
    text_add_unsigned(&out->text, n);
}

static void address(struct out *out, const void *p)
{
    text_add(&out->text, " ");
    text_add_hex(&out->text, (uintptr_t)p);
}

static int end_line(struct out *out)
{
    text_add(&out->text, "\n");
    if (out->text.length > OUT_BYTES - LINE_MOST) {
        flush(out);
    }
    return out->gone;
}

/* ---- stats -------------------------------------------------------------------------------------------------- */

/* allot_stats is for a caller that has a right to be in the heap. This one only looks, so it counts what spans tell. */
struct sums {
    size_t requested, rounding, free_slots, kept;
    size_t n_live, live_bytes, n_free, free_bytes;
    size_t n_slabs, n_large, large_bytes;
    size_t n_heaps, n_idle;
    uint64_t heap_requested, heap_sampled;
};

static void sum_heap(const struct heap_seen *heap, void *context)
{
    struct sums *sums = context;
    sums->heap_requested += heap->requested_bytes;
    sums->heap_sampled += heap->sampled_bytes;
    sums->n_heaps++;
    sums->n_idle += heap->idle;
}

static unsigned count_bits(const unsigned char *bits, unsigned n)
{
    unsigned sum = 0;
    for (unsigned i = 0; i < (n + 7) / 8; i++) {
        sum += bit_count(bits[i]);
    }
    return sum;
}

static size_t asked(size_t bytes, uint64_t requested, uint64_t given)
{
    return given == 0 ? bytes : (size_t)((double)bytes * (double)requested / (double)given);
}

static int sum_span(const struct heap_span *span, void *context)
{
    struct sums *sums = context;
    size_t resident = os_resident_bytes((void *)(uintptr_t)span->begin, span->bytes);
    if (span->use == HEAP_SPAN_FREE) {
        sums->kept += resident;
        return 0;
    }
    if (span->use == HEAP_SPAN_OTHER) {
        return 0;
    }
    bool is_large = span->use == HEAP_SPAN_LARGE;
    unsigned n_live = count_bits(span->live, span->n_blocks);
    size_t live = size_min(n_live * span->block_bytes, resident);
    size_t of_it = is_large ? asked(live, span->requested, span->block_bytes)
                            : asked(live, sums->heap_requested, sums->heap_sampled);
    sums->requested += of_it;
    sums->rounding += live - of_it;
    sums->free_slots += resident - live;
    sums->n_live += n_live;
    sums->live_bytes += n_live * span->block_bytes;
    sums->n_free += span->n_blocks - n_live;
    sums->free_bytes += (span->n_blocks - n_live) * span->block_bytes;
    sums->n_slabs += !is_large;
    sums->n_large += is_large;
    sums->large_bytes += is_large ? span->block_bytes : 0;
    return 0;
}

static void sum_pool(struct sums *sums)
{
    struct pool_figures pool;
    pool_figures(&pool_of_heap, &pool);
    sums->requested += pool.live_bytes;
    sums->n_live += pool.n_live_blocks;
    sums->live_bytes += pool.live_bytes;
    sums->free_bytes += pool.free_bytes;
}

static void answer_stats(struct out *out)
{
    struct sums sums = {0};
    struct span_figures spans;
    heap_each(sum_heap, &sums);
    heap_each_span(sum_span, &sums);
    sum_pool(&sums);
    span_figures(&spans);
    size_t tables = map_books_resident_bytes();
    size_t ours = sums.requested + sums.rounding + sums.free_slots + sums.kept + tables;
    size_t rss = size_max(os_process_resident_bytes(), ours);
    const struct {
        const char *name;
        size_t value;
    } rows[] = {
        {"rss", rss},
        {"rss_live_requested", sums.requested},
        {"rss_live_rounding", sums.rounding},
        {"rss_free_slots", sums.free_slots},
        {"rss_kept", sums.kept},
        {"rss_tables", tables},
        {"rss_not_malloc", rss - ours},
        {"n_live_blocks", sums.n_live},
        {"live_bytes", sums.live_bytes},
        {"n_free_blocks", sums.n_free},
        {"free_bytes", sums.free_bytes},
        {"n_slabs", sums.n_slabs},
        {"n_large_blocks", sums.n_large},
        {"large_bytes", sums.large_bytes},
        {"n_own_mappings", spans.n_own},
        {"own_mapping_bytes", spans.own_bytes},
        {"n_areas", spans.n_areas},
        {"area_bytes", spans.area_bytes},
        {"committed_bytes", spans.committed_bytes},
        {"n_heaps", sums.n_heaps},
        {"n_heaps_idle", sums.n_idle},
        {"purged_bytes", spans.purged_bytes},
        {"n_purges", spans.n_purges},
        {"n_os_refusals", spans.n_refusals},
        {"limit_soft", spans.limit_soft},
        {"limit_hard", spans.limit_hard},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        word(out, rows[i].name);
        number(out, rows[i].value);
        end_line(out);
    }
}

/* ---- heap --------------------------------------------------------------------------------------------------- */

static void add_bits(struct out *out, const unsigned char *bits, unsigned n)
{
    static const char digits[] = "0123456789abcdef";
    word(out, " ");
    for (unsigned i = 0; i < (n + 7) / 8; i++) {
        char pair[3] = {digits[bits[i] >> 4], digits[bits[i] & 15], '\0'};
        word(out, pair);
    }
}

static int say_span(const struct heap_span *span, void *context)
{
    static const char *const uses[] = {[HEAP_SPAN_SMALL] = "small",
                                       [HEAP_SPAN_MEDIUM] = "medium",
                                       [HEAP_SPAN_LARGE] = "large",
                                       [HEAP_SPAN_FREE] = "free",
                                       [HEAP_SPAN_OTHER] = "other"};
    struct out *out = context;
    word(out, "span ");
    word(out, uses[span->use]);
    address(out, span->begin);
    number(out, span->bytes);
    number(out, span->own);
    number(out, span->size_class);
    number(out, span->heap);
    address(out, span->first_block);
    number(out, span->block_bytes);
    number(out, span->n_blocks);
    number(out, span->requested);
    word(out, " 0 -1");
    if (span->n_blocks > 0) {
        add_bits(out, span->live, span->n_blocks);
    }
    return end_line(out);
}

static int say_pool(const struct pool_granule *granule, void *context)
{
    struct out *out = context;
    size_t bytes = round_up(granule->bytes, GRANULE_BYTES);
    word(out, "span pool");
    address(out, granule->begin);
    number(out, bytes);
    number(out, granule->units == UINT64_MAX);
    word(out, " 0 0");
    address(out, granule->begin);
    number(out, granule->units == UINT64_MAX ? bytes : 1024);
    number(out, granule->units == UINT64_MAX ? 1 : 64);
    word(out, " 0");
    number(out, granule->live_bytes);
    word(out, " -1");
    unsigned char bits[8];
    for (unsigned i = 0; i < 8; i++) {
        bits[i] = (unsigned char)(granule->units >> i * 8);
    }
    add_bits(out, bits, granule->units == UINT64_MAX ? 1 : 64);
    return end_line(out);
}

static void say_heap(const struct heap_seen *heap, void *context)
{
    struct out *out = context;
    out->requested += heap->requested_bytes;
    out->sampled += heap->sampled_bytes;
    word(out, "heap");
    number(out, heap->number);
    number(out, heap->idle);
    number(out, 0);
    address(out, heap->storage);
    end_line(out);
}

static int say_book(void *begin, size_t bytes, void *context)
{
    struct out *out = context;
    word(out, "book");
    address(out, begin);
    number(out, bytes);
    return end_line(out);
}

static int say_area(void *begin, size_t n_granules, void *context)
{
    struct out *out = context;
    word(out, "area");
    address(out, begin);
    number(out, n_granules << GRANULE_SHIFT);
    return end_line(out);
}

static void answer_options(struct out *out)
{
    for (enum option_id id = 0; id < OPT_COUNT; id++) {
        word(out, "option ");
        word(out, option_row(id)->name);
        word(out, " ");
        text_add_signed(&out->text, option(id));
        end_line(out);
    }
}

static void answer_heap(struct out *out)
{
    struct span_figures spans;
    span_figures(&spans);
    for (unsigned c = 0; c < CLASS_COUNT; c++) {
        word(out, "class");
        number(out, heap_class_size(c));
        end_line(out);
    }
    word(out, "small");
    number(out, SMALL_CLASSES);
    end_line(out);
    heap_each_span(say_span, out);
    pool_each_granule(&pool_of_heap, say_pool, out);
    pool_each_granule(&pool_public, say_pool, out);
    heap_each(say_heap, out);
    word(out, "sampled");
    number(out, out->requested);
    number(out, out->sampled);
    end_line(out);
    map_each_book(say_book, out);
    span_each_area(say_area, out);
    word(out, "reserved");
    number(out, spans.area_bytes);
    word(out, "\npurged");
    number(out, spans.purged_bytes);
    number(out, spans.n_purges);
    word(out, "\nrefusals");
    number(out, spans.n_refusals);
    end_line(out);
    answer_options(out);
}

/* ---- arenas ------------------------------------------------------------------------------------------------- */

#define ARENAS_AT_ONCE 64

/* A name or a path; what would end the line is shown as a question mark. */
static void plain_text(struct out *out, const char *s, size_t most)
{
    for (size_t i = 0; s != NULL && s[i] != '\0' && i < most; i++) {
        char c[2] = {(unsigned char)s[i] < ' ' ? '?' : s[i], '\0'};
        word(out, c);
    }
}

static void say_arena(struct out *out, const struct arena_seen *arena)
{
    const uint64_t numbers[] = {
        arena->depth,      arena->serial,      (uint64_t)arena->kind, arena->size_bytes,
        arena->live_bytes, arena->total_bytes, arena->soft_limit,     arena->hard_limit,
        arena->n_segments, arena->sealed,      (uint64_t)arena->line,
    };
    word(out, "arena");
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        number(out, numbers[i]);
    }
    number(out, strlen(arena->name));
    word(out, " ");
    plain_text(out, arena->name, sizeof arena->name);
    word(out, " ");
    plain_text(out, arena->file, 200);
    end_line(out);
}

static void answer_arenas(struct out *out)
{
    static struct arena_seen seen[ARENAS_AT_ONCE]; /* the room has one thread */
    size_t n = 1;
    for (size_t first = 0; first < n && !out->gone; first += ARENAS_AT_ONCE) {
        n = arena_look(first, seen, ARENAS_AT_ONCE);
        for (size_t i = first; i < n && i - first < ARENAS_AT_ONCE; i++) {
            say_arena(out, &seen[i - first]);
        }
    }
}

/* ---- questions ---------------------------------------------------------------------------------------------- */

bool answer_greeting(int connection)
{
    char bytes[64];
    struct text text = text_in(bytes, sizeof bytes);
    text_add(&text, "allot ");
    text_add_unsigned(&text, ALLOT_VERSION_MAJOR);
    text_add(&text, ".");
    text_add_unsigned(&text, ALLOT_VERSION_MINOR);
    text_add(&text, ".");
    text_add_unsigned(&text, ALLOT_VERSION_PATCH);
    text_add(&text, " look ");
    text_add_unsigned(&text, LOOK_FORMAT);
    text_add(&text, "\n");
    return os_send(connection, text.bytes, text.length) == 0;
}

bool answer(int connection, const char *question)
{
    struct out out = {.connection = connection};
    out.text = text_in(out.bytes, sizeof out.bytes);
    if (strcmp(question, "stats") == 0) {
        answer_stats(&out);
    } else if (strcmp(question, "heap") == 0) {
        answer_heap(&out);
    } else if (strcmp(question, "arenas") == 0) {
        answer_arenas(&out);
    } else if (strcmp(question, "options") == 0) {
        answer_options(&out);
    } else {
        word(&out, "unknown question\n");
    }
    word(&out, "end\n");
    flush(&out);
    return !out.gone;
}
