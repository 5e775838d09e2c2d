/* SPDX-License-Identifier: MIT */
/* map_svg.c - a heap as one SVG: spans in the order of their addresses along a Hilbert curve, so that neighbours stay
 * neighbours; gaps between areas are left out.
 *
 * A cell is a granule, or a power of two of them when there are more than 16,384. What is drawn here are the cells by
 * use; map.js, which goes into the file, draws them again for other questions.
 */
#include "map.h"
#include "tool.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ORDER_LEAST 3u
#define ORDER_MOST 7u
/* Beyond so many bytes of them, blocks are counted and no longer shown one by one. */
#define BITS_MOST (4u << 20)

#define INCLUDE_FILE(name, path)                                                                                       \
    extern const char name[];                                                                                          \
    __asm__(".pushsection .rodata\n.globl " #name "\n" #name ":\n.incbin \"" path "\"\n.byte 0\n.popsection\n")
INCLUDE_FILE(map_script, TOOL_SOURCE "/map.js");
INCLUDE_FILE(map_style, TOOL_SOURCE "/map.css");

struct curve {
    unsigned order;
    uint64_t step; /* granules a cell */
    uint64_t n_cells;
    uint64_t n_granules;
};

static struct curve curve_of(const struct heap_view *view)
{
    struct curve curve = {.order = ORDER_LEAST, .step = 1};
    for (size_t i = 0; i < view->n_spans; i++) {
        curve.n_granules += view->spans[i].bytes / GRANULE_BYTES;
    }
    while (curve.order < ORDER_MOST && UINT64_C(1) << 2 * curve.order < curve.n_granules) {
        curve.order++;
    }
    while (curve.step << 2 * curve.order < curve.n_granules) {
        curve.step *= 2;
    }
    curve.n_cells = (curve.n_granules + curve.step - 1) / curve.step;
    return curve;
}

static void place(unsigned order, uint64_t d, unsigned *x_out, unsigned *y_out)
{
    unsigned x = 0;
    unsigned y = 0;
    for (unsigned s = 1; s < 1u << order; s *= 2) {
        unsigned rx = 1 & (unsigned)(d >> 1);
        unsigned ry = 1 & ((unsigned)d ^ rx);
        if (ry == 0) {
            if (rx == 1) {
                x = s - 1 - x;
                y = s - 1 - y;
            }
            unsigned kept = x;
            x = y;
            y = kept;
        }
        x += s * rx;
        y += s * ry;
        d >>= 2;
    }
    *x_out = x;
    *y_out = y;
}

/* ---- the cells, as they are seen without a script ----------------------------------------------------------- */

#define NO_CELL 0xff

/* The use and, in quarters, how much of each cell is live: use * 4 + quarter. */
static unsigned char *cells_of(const struct heap_view *view, const struct curve *curve)
{
    unsigned side = 1u << curve->order;
    unsigned char *cells = take_memory((size_t)side * side);
    memset(cells, NO_CELL, (size_t)side * side);
    uint64_t granule = 0;
    uint64_t next_cell = 0;
    for (size_t i = 0; i < view->n_spans; i++) {
        const struct span_view *span = &view->spans[i];
        uint64_t quarter =
            span->use >= USE_POOL || span->n_blocks == 0 ? 3 : span->n_live * UINT64_C(4) / span->n_blocks;
        granule += span->bytes / GRANULE_BYTES;
        for (; next_cell < curve->n_cells && next_cell * curve->step < granule; next_cell++) {
            unsigned x, y;
            place(curve->order, next_cell, &x, &y);
            cells[y * side + x] = (unsigned char)(span->use * 4 + (quarter > 3 ? 3 : quarter));
        }
    }
    return cells;
}

static void print_cells(FILE *out, const struct heap_view *view, const struct curve *curve)
{
    static const char *const opacity[] = {"0.35", "0.55", "0.78", "1"};
    unsigned side = 1u << curve->order;
    unsigned char *cells = cells_of(view, curve);
    for (unsigned key = 0; key < N_USES * 4; key++) {
        bool any = false;
        for (unsigned y = 0; y < side; y++) {
            for (unsigned x = 0; x < side; x++) {
                unsigned end = x;
                while (end < side && cells[y * side + end] == key) {
                    end++;
                }
                if (end > x) {
                    if (!any) {
                        fprintf(out, "<path fill=\"var(--u%u)\" opacity=\"%s\" d=\"", key / 4, opacity[key % 4]);
                    }
                    fprintf(out, "M%u %uh%uv1h-%uz", x, y, end - x, end - x);
                    any = true;
                    x = end;
                }
            }
        }
        fputs(any ? "\"/>\n" : "", out);
    }
    free(cells);
}

/* ---- data for the script ------------------------------------------------------------------------------------ */

static void print_base64(FILE *out, const unsigned char *bytes, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        unsigned three = (unsigned)bytes[i] << 16 | (i + 1 < n ? (unsigned)bytes[i + 1] << 8 : 0) |
                         (i + 2 < n ? (unsigned)bytes[i + 2] : 0);
        fputc(digits[three >> 18], out);
        fputc(digits[three >> 12 & 63], out);
        fputc(i + 1 < n ? digits[three >> 6 & 63] : '=', out);
        fputc(i + 2 < n ? digits[three & 63] : '=', out);
    }
}

static void print_data(FILE *out, const struct heap_view *view, const struct curve *curve)
{
    size_t bits_bytes = 0;
    fprintf(out, "const data = {order: %u, step: %" PRIu64 ", uses: [", curve->order, curve->step);
    for (enum span_use use = 0; use < N_USES; use++) {
        fprintf(out, "\"%s\",", use_names[use]);
    }
    fprintf(out, "], spans: [\n");
    for (size_t i = 0; i < view->n_spans; i++) {
        const struct span_view *span = &view->spans[i];
        bool has_blocks = span->n_blocks > 0;
        fprintf(out,
                "[\"0x%" PRIx64 "\",%" PRIu64 ",%d,%" PRIu64 ",%" PRIu32 ",%" PRIu32 ",%" PRIu32 ",%" PRIu64 ",%" PRId64
                ",\"",
                span->begin, span->bytes / GRANULE_BYTES, (int)span->use, has_blocks ? span->block_bytes : 0,
                span->heap, span->n_blocks, span->n_live, span->resident_bytes, span->age_ms);
        if (span->live_bits != NULL && bits_bytes < BITS_MOST) {
            bits_bytes += span->n_blocks / 8 + 1;
            print_base64(out, span->live_bits, span->n_blocks / 8 + 1);
        }
        fprintf(out, "\"],\n");
    }
    fprintf(out, "]};\n");
}

/* ---- the page ----------------------------------------------------------------------------------------------- */

static void print_escaped(FILE *out, const char *s)
{
    for (; *s != '\0'; s++) {
        switch (*s) {
        case '&':
            fputs("&amp;", out);
            break;
        case '<':
            fputs("&lt;", out);
            break;
        case '>':
            fputs("&gt;", out);
            break;
        case '"':
            fputs("&quot;", out);
            break;
        default:
            fputc((unsigned char)*s < ' ' ? ' ' : *s, out);
        }
    }
}

static char *description(const struct heap_view *view, const struct heap_totals *totals)
{
    char live[BYTES_TEXT], resident[BYTES_TEXT], slots[BYTES_TEXT], kept[BYTES_TEXT];
    uint64_t all = 0;
    for (enum span_use use = 0; use < N_USES; use++) {
        all += totals->resident_bytes[use];
    }
    return take_text("%zu spans, %s resident: %llu live blocks of %s, %s in free slots, %s in kept pages.",
                     view->n_spans, bytes_text(resident, all), (unsigned long long)totals->n_live,
                     bytes_text(live, totals->live_bytes), bytes_text(slots, totals->resident_free_slots),
                     bytes_text(kept, totals->resident_kept));
}

static void print_static_legend(FILE *out, const struct heap_totals *totals)
{
    char text[BYTES_TEXT];
    unsigned y = 200;
    fprintf(out, "<g id=\"static\">\n");
    for (enum span_use use = 0; use < N_USES; use++) {
        if (totals->n_spans[use] > 0) {
            fprintf(out,
                    "<rect x=\"680\" y=\"%u\" width=\"13\" height=\"13\" fill=\"var(--u%d)\"/><text x=\"700\" "
                    "y=\"%u\">%s</text>"
                    "<text x=\"980\" y=\"%u\" text-anchor=\"end\">%s</text>\n",
                    y, (int)use, y + 11, use_names[use], y + 11, bytes_text(text, totals->span_bytes[use]));
            y += 19;
        }
    }
    fprintf(out, "</g>\n");
}

static void print_buttons(FILE *out)
{
    static const char *const modes[] = {"use", "class", "age", "room", "heap"};
    fprintf(out, "<g id=\"buttons\" visibility=\"hidden\" role=\"group\" aria-label=\"Colour by\">\n");
    for (unsigned i = 0; i < 5; i++) {
        fprintf(out,
                "<g class=\"button\" role=\"button\" tabindex=\"0\" data-mode=\"%s\" aria-pressed=\"%s\" "
                "aria-label=\"Colour by %s, key %u\" "
                "transform=\"translate(%u,158)\"><rect width=\"56\" height=\"24\" rx=\"5\"/><text x=\"28\" y=\"16\" "
                "text-anchor=\"middle\">%s</text></g>\n",
                modes[i], i == 0 ? "true" : "false", modes[i], i + 1, 680 + i * 61, modes[i]);
    }
    fprintf(out, "</g>\n");
}

/* Of the words, as many as fit in about 46 columns go on one line of the page. */
static void print_lines(FILE *out, const char *text, unsigned x, unsigned y)
{
    fprintf(out, "<text x=\"%u\" y=\"%u\" class=\"soft\">", x, y);
    while (*text != '\0') {
        size_t length = strlen(text);
        if (length > 46) {
            length = 46;
            while (length > 1 && text[length] != ' ') {
                length--;
            }
        }
        char *line = take_text("%.*s", (int)length, text);
        fprintf(out, "<tspan x=\"%u\" dy=\"16\">", x);
        print_escaped(out, line);
        fprintf(out, "</tspan>");
        free(line);
        text += length + (text[length] == ' ');
    }
    fprintf(out, "</text>\n");
}

void map_svg(FILE *out, const struct target *target, const struct heap_view *view)
{
    struct curve curve = curve_of(view);
    struct heap_totals totals;
    char when[64];
    time_t now = time(NULL);
    struct tm parts;
    heap_view_totals(view, &totals);
    strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", localtime_r(&now, &parts));
    char *whose = map_whose(target);
    char *said = description(view, &totals);
    double cell = 640.0 / (double)(1u << curve.order);
    fprintf(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 1000 740\" role=\"group\" "
                 "aria-labelledby=\"title desc\">\n"
                 "<title id=\"title\">The heap of ");
    print_escaped(out, whose);
    fprintf(out,
            "</title>\n<desc id=\"desc\">%s Arrow keys go from span to span, Enter shows a span's blocks, Escape leads "
            "back, keys 1 to 5 choose what colours mean.</desc>\n<style>\n%s</style>\n",
            said, map_style);
    fprintf(out, "<rect width=\"1000\" height=\"740\" fill=\"var(--bg)\"/>\n<text x=\"20\" y=\"34\" "
                 "class=\"strong\">The heap of ");
    print_escaped(out, whose);
    fprintf(out,
            "</text>\n<text x=\"20\" y=\"54\" class=\"soft\">allot %s, %s%s. A cell is %" PRIu64 " KiB%s.</text>\n",
            view->version, when, target->pid == 0 ? "" : ", read while it ran", curve.step * 64,
            curve.step > 1 ? ": more granules than cells" : "");
    print_lines(out, said, 680, 66);
    print_buttons(out);
    fprintf(out,
            "<g id=\"map\" transform=\"translate(20,70)\" role=\"application\" aria-roledescription=\"heap map\" "
            "aria-label=\"The spans\" "
            "aria-describedby=\"desc\">\n<g id=\"cells\" transform=\"scale(%g)\" shape-rendering=\"crispEdges\">\n",
            cell);
    print_cells(out, view, &curve);
    fprintf(out,
            "</g>\n<path id=\"mark\" transform=\"scale(%g)\"/>\n<rect id=\"frame\" width=\"640\" height=\"640\"/>\n"
            "<g id=\"blocks\" visibility=\"hidden\"></g>\n</g>\n",
            cell);
    print_static_legend(out, &totals);
    fprintf(out,
            "<g id=\"legend\" transform=\"translate(680,200)\"></g>\n"
            "<text id=\"told\" x=\"680\" y=\"600\" role=\"status\" aria-live=\"polite\"></text>\n<script><![CDATA[\n");
    print_data(out, view, &curve);
    fprintf(out, "%s]]></script>\n</svg>\n", map_script);
    free(said);
    free(whose);
}
