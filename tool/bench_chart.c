/* SPDX-License-Identifier: MIT */
/* bench_chart.c - the picture of a benchmark: a bar to the middle for each malloc, a dot for each run.
 *
 * One SVG that needs nothing else, light or dark as its reader's screen is. Every figure stands in it as text as well,
 * in reading order, for who can't see bars.
 */
#include "bench.h"
#include "json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WIDTH 800
#define LEFT 100  /* of the bars */
#define RIGHT 240 /* beside them: figures */
#define ROW 26
#define HEAD 34 /* above the rows of a metric */
#define LINE_CHARACTERS 105
#define TITLE_CHARACTERS 75

static const char style[] =
    "<style>\n"
    "  :root { color-scheme: light dark; --back: #ffffff; --ink: #1f2328; --faint: #656d76; --line: #d0d7de; "
    "--bar: #b6c2cf; --own: #8c959f; --allot: #0969da; --dot: #1f2328; }\n"
    "  @media (prefers-color-scheme: dark) { :root { --back: #0d1117; --ink: #e6edf3; --faint: #8d96a0; --line: "
    "#30363d; "
    "--bar: #3d4752; --own: #6e7681; --allot: #4493f8; --dot: #e6edf3; } }\n"
    "  svg { background: var(--back); font: 13px system-ui, sans-serif; fill: var(--ink); }\n"
    "  .faint { fill: var(--faint); } .title { font-size: 16px; font-weight: 600; } .head { font-weight: 600; }\n"
    "  .bar { fill: var(--bar); } .own { fill: var(--own); } .allot { fill: var(--allot); }\n"
    "  .dot { fill: var(--dot); fill-opacity: .55; } .line { stroke: var(--line); }\n"
    "</style>\n";

static void print_escaped(FILE *out, const char *s)
{
    for (; *s != '\0'; s++) {
        if (*s == '&' || *s == '<' || *s == '>') {
            fprintf(out, "&#%d;", *s);
        } else if ((unsigned char)*s >= 0x20) {
            fputc(*s, out);
        }
    }
}

/* Lines of at most so many characters; returns where the next thing may stand. */
static int draw_text(FILE *out, int y, size_t most, const char *class, const char *text)
{
    while (*text != '\0') {
        size_t length = strlen(text);
        if (length > most) {
            length = most;
            while (length > 0 && text[length] != ' ') {
                length--;
            }
            length = length == 0 ? most : length;
        }
        char *line = take_text("%.*s", (int)length, text);
        fprintf(out, "<text x=\"16\" y=\"%d\" class=\"%s\">", y, class);
        print_escaped(out, line);
        fprintf(out, "</text>\n");
        free(line);
        y += 20;
        text += length;
        text += strspn(text, " ");
    }
    return y;
}

static double most_of(const struct bench *bench, enum metric metric)
{
    double most = 0;
    for (size_t i = 0; i < bench->n_allocators; i++) {
        double value =
            bench->allocators[i].failure != NULL ? 0 : bench_summary(bench, &bench->allocators[i], metric).most;
        most = value > most ? value : most;
    }
    return most > 0 ? most : 1;
}

static void draw_row(FILE *out, const struct bench *bench, const struct allocator *allocator, enum metric metric, int y)
{
    double scale = (WIDTH - LEFT - RIGHT) / most_of(bench, metric);
    struct summary summary = bench_summary(bench, allocator, metric);
    char median[BYTES_TEXT];
    char least[BYTES_TEXT];
    char most[BYTES_TEXT];
    const char *class = allocator->library == NULL ? "own" : strcmp(allocator->name, "allot") == 0 ? "allot" : "bar";
    fprintf(out, "<g><text x=\"%d\" y=\"%d\" text-anchor=\"end\">", LEFT - 8, y + 15);
    print_escaped(out, allocator->name);
    fprintf(out, "</text>\n<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"18\" rx=\"2\"/>\n", class, LEFT,
            y + 2, summary.median * scale);
    for (size_t i = 0; i < bench->n_measured; i++) {
        fprintf(out, "<circle class=\"dot\" cx=\"%.1f\" cy=\"%d\" r=\"2\"/>",
                LEFT + allocator->values[metric][i] * scale, y + 6 + (int)(i % 3) * 5);
    }
    fprintf(out, "\n<text x=\"%d\" y=\"%d\">%s<tspan class=\"faint\"> %s to %s</tspan></text></g>\n", WIDTH - RIGHT + 8,
            y + 15, metric_text(median, metric, summary.median), metric_text(least, metric, summary.least),
            metric_text(most, metric, summary.most));
}

static int draw_metric(FILE *out, const struct bench *bench, enum metric metric, int y)
{
    fprintf(out, "<line class=\"line\" x1=\"16\" x2=\"%d\" y1=\"%d\" y2=\"%d\"/>\n", WIDTH - 16, y, y);
    fprintf(out, "<text x=\"16\" y=\"%d\" class=\"head\">%s</text>\n", y + 22, metric_names[metric]);
    y += HEAD;
    for (size_t i = 0; i < bench->n_allocators; i++) {
        if (bench->allocators[i].failure == NULL) {
            draw_row(out, bench, &bench->allocators[i], metric, y);
            y += ROW;
        }
    }
    return y + 10;
}

static char *command_text(const struct bench *bench)
{
    char *text = take_copy("");
    for (char *const *word = bench->command; *word != NULL; word++) {
        char *longer = take_text("%s%s%s", text, text[0] == '\0' ? "" : " ", *word);
        free(text);
        text = longer;
    }
    if (strlen(text) > 3 * TITLE_CHARACTERS) {
        memcpy(text + 3 * TITLE_CHARACTERS - 4, " ...", 5);
    }
    return text;
}

/* Everything below the head; returns how high it is. */
static int draw_body(FILE *out, const struct bench *bench, const char *command, const char *verdict)
{
    char *rounds =
        take_text("%zu rounds, least is best; a bar ends at the middle, each run is a dot", bench->n_measured);
    int y = draw_text(out, 30, TITLE_CHARACTERS, "title", command);
    y = draw_text(out, y + 2, LINE_CHARACTERS, "verdict", verdict);
    y = draw_text(out, y, LINE_CHARACTERS, "faint", rounds);
    for (enum metric metric = 0; metric < METRICS; metric++) {
        y = draw_metric(out, bench, metric, y);
    }
    free(rounds);
    return y;
}

static bool draw(FILE *out, const struct bench *bench, const char *verdict)
{
    char *body = NULL;
    size_t length;
    FILE *memory = open_memstream(&body, &length);
    if (memory == NULL) {
        return false;
    }
    char *command = command_text(bench);
    int height = draw_body(memory, bench, command, verdict);
    fclose(memory);
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" role=\"img\" "
            "aria-labelledby=\"title verdict\">\n<title id=\"title\">",
            WIDTH, height, WIDTH, height);
    print_escaped(out, command);
    fprintf(out, "</title>\n<desc id=\"verdict\">");
    print_escaped(out, verdict);
    fprintf(out, "</desc>\n%s<rect width=\"%d\" height=\"%d\" fill=\"var(--back)\"/>\n%s</svg>\n", style, WIDTH, height,
            body);
    free(command);
    free(body);
    return ferror(out) == 0;
}

bool bench_draw(const struct bench *bench, const char *verdict, const char *path)
{
    FILE *out = fopen(path, "we");
    if (out == NULL) {
        complain("%s: %s", path, strerror(errno));
        return false;
    }
    bool drawn = draw(out, bench, verdict);
    if (fclose(out) != 0 || !drawn) {
        complain("%s: %s", path, strerror(errno));
        return false;
    }
    return true;
}
