/* SPDX-License-Identifier: MIT */
/* bench.c - allot bench: does allot suit my program? */
#include "bench.h"
#include "json.h"
#include "preload.h"
#include "table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LEAST_DIFFERENCE 0.01 /* below it nobody cares, however sure it is */
#define SHORT_SECONDS 0.05
#define NOISY 0.1

/* ---- the verdict -------------------------------------------------------------------------------------------- */

static bool is_sure(struct comparison comparison)
{
    return (comparison.low > 1 || comparison.high < 1) && fabs(comparison.ratio - 1) >= LEAST_DIFFERENCE;
}

static double most_difference(struct comparison comparison)
{
    return fmax(fabs(comparison.low - 1), fabs(comparison.high - 1));
}

/* "12 % smaller", "as large (within 3 %)". */
static char *in_words(struct comparison comparison, const char *less, const char *more, const char *same)
{
    if (is_sure(comparison)) {
        return take_text("%.0f %% %s", fabs(comparison.ratio - 1) * 100, comparison.ratio < 1 ? less : more);
    }
    return take_text("%s (within %.0f %%)", same, fmax(most_difference(comparison) * 100, 1));
}

/* By the clock, or, where that is too noisy to tell, by what the processors worked. */
static struct comparison compare_time(const struct bench *bench, const struct allocator *a, const struct allocator *b)
{
    struct comparison wall = bench_compare(bench, a, b, METRIC_WALL);
    struct comparison work = bench_compare(bench, a, b, METRIC_CPU);
    return is_sure(wall) || most_difference(wall) < most_difference(work) ? wall : work;
}

/* The malloc whose middle is least. */
static const struct allocator *best(const struct bench *bench, enum metric metric)
{
    const struct allocator *least = &bench->allocators[0];
    for (size_t i = 1; i < bench->n_allocators; i++) {
        const struct allocator *allocator = &bench->allocators[i];
        if (allocator->failure == NULL &&
            bench_summary(bench, allocator, metric).median < bench_summary(bench, least, metric).median) {
            least = allocator;
        }
    }
    return least;
}

/* What is surely better than allot among the others: "; mimalloc is 4 % faster than allot". */
static char *whoever_is_better(const struct bench *bench, enum metric metric, const char *word)
{
    const struct allocator *allot = &bench->allocators[1];
    const struct allocator *least = best(bench, metric);
    struct comparison comparison = bench_compare(bench, least, allot, metric);
    if (least->library == NULL || least == allot || !is_sure(comparison)) {
        return take_copy("");
    }
    return take_text("; %s is %.0f %% %s than allot", least->name, (1 - comparison.ratio) * 100, word);
}

static char *verdict_of(const struct bench *bench)
{
    const struct allocator *own = &bench->allocators[0];
    const struct allocator *allot = &bench->allocators[1];
    if (allot->failure != NULL) {
        return take_text("the program fails on allot: %s", allot->failure);
    }
    struct comparison time = compare_time(bench, allot, own);
    struct comparison peak = bench_compare(bench, allot, own, METRIC_PEAK);
    bool better = (is_sure(time) && time.ratio < 1) || (is_sure(peak) && peak.ratio < 1);
    bool worse = (is_sure(time) && time.ratio > 1) || (is_sure(peak) && peak.ratio > 1);
    const char *sum = better && worse ? "it depends on what you need"
                      : better        ? "allot suits it"
                      : worse         ? "its own malloc suits it better"
                                      : "it makes no difference";
    char *speed = in_words(time, "faster", "slower", "as fast");
    char *size = in_words(peak, "smaller", "larger", "as large");
    char *faster = whoever_is_better(bench, METRIC_WALL, "faster");
    char *smaller = whoever_is_better(bench, METRIC_PEAK, "smaller");
    char *verdict = take_text("%s: on allot it is %s and its peak %s than on its own malloc%s%s", sum, speed, size,
                              faster, smaller);
    free(speed);
    free(size);
    free(faster);
    free(smaller);
    return verdict;
}

/* ---- printing ----------------------------------------------------------------------------------------------- */

/* "1.10 s ±2 %": the middle, and half the way from the least to the most. */
static char *summary_text(const struct bench *bench, const struct allocator *allocator, enum metric metric)
{
    char text[BYTES_TEXT];
    struct summary summary = bench_summary(bench, allocator, metric);
    double spread = summary.median > 0 ? (summary.most - summary.least) / 2 / summary.median * 100 : 0;
    return take_text("%s \xc2\xb1%.0f %%", metric_text(text, metric, summary.median), spread);
}

/* The summary, and how it differs from the program's own malloc. */
static char *cell_text(const struct bench *bench, const struct allocator *allocator, enum metric metric)
{
    struct comparison comparison = bench_compare(bench, allocator, &bench->allocators[0], metric);
    char change[32] = "";
    if (allocator->library != NULL) {
        snprintf(change, sizeof change, is_sure(comparison) ? "%+.0f %%" : "same", (comparison.ratio - 1) * 100);
    }
    char *summary = summary_text(bench, allocator, metric);
    char *cell = take_text("%s %7s", summary, change);
    free(summary);
    return cell;
}

static void print_table(const struct bench *bench)
{
    static const struct table_column columns[] = {
        {"malloc", false}, {"time", true}, {"user+sys", true}, {"peak RSS", true}};
    struct table table = table_begin(columns, 4);
    for (size_t i = 0; i < bench->n_allocators; i++) {
        const struct allocator *allocator = &bench->allocators[i];
        if (allocator->failure != NULL) {
            continue;
        }
        char *cells[4] = {take_copy(allocator->name)};
        for (enum metric metric = 0; metric < METRICS; metric++) {
            cells[1 + metric] = cell_text(bench, allocator, metric);
        }
        table_row(&table, (const char *const *)cells);
        for (size_t j = 0; j < 4; j++) {
            free(cells[j]);
        }
    }
    table_end(&table, stdout);
}

static void print_text(const struct bench *bench, const char *verdict)
{
    print_table(bench);
    for (size_t i = 2; i < bench->n_allocators; i++) {
        if (bench->allocators[i].failure != NULL) {
            char *line = take_text("%s is left out: %s", bench->allocators[i].name, bench->allocators[i].failure);
            print_wrapped(stdout, 0, 2, line);
            free(line);
        }
    }
    char *line = take_text("%zu rounds; the middle, and half the way from the least to the most", bench->n_measured);
    print_wrapped(stdout, 0, 2, line);
    free(line);
    if (bench_summary(bench, &bench->allocators[0], METRIC_WALL).median < SHORT_SECONDS) {
        print_wrapped(stdout, 0, 2, "so short a run measures the start of the program more than its malloc");
    }
    if (most_difference(compare_time(bench, &bench->allocators[1], &bench->allocators[0])) > NOISY) {
        print_wrapped(stdout, 0, 2,
                      "the times differ much from run to run: a quieter machine or more --rounds would tell more");
    }
    printf("\n");
    print_wrapped(stdout, 0, 0, verdict);
}

static void json_metric(struct json *json, const struct bench *bench, const struct allocator *allocator,
                        enum metric metric)
{
    static const char *const names[METRICS] = {"wall_seconds", "cpu_seconds", "peak_bytes"};
    struct summary summary = bench_summary(bench, allocator, metric);
    struct comparison comparison = bench_compare(bench, allocator, &bench->allocators[0], metric);
    json_object(json, names[metric]);
    json_real(json, "median", summary.median);
    json_real(json, "least", summary.least);
    json_real(json, "most", summary.most);
    json_real(json, "ratio_to_own", comparison.ratio);
    json_real(json, "ratio_low", comparison.low);
    json_real(json, "ratio_high", comparison.high);
    json_array(json, "rounds");
    for (size_t i = 0; i < bench->n_measured; i++) {
        json_real(json, NULL, allocator->values[metric][i]);
    }
    json_close(json);
    json_close(json);
}

static void print_json(const struct bench *bench, const char *verdict)
{
    struct json json = json_begin(stdout, "bench");
    json_array(&json, "program");
    for (char *const *word = bench->command; *word != NULL; word++) {
        json_text(&json, NULL, *word);
    }
    json_close(&json);
    json_number(&json, "rounds", bench->n_measured);
    json_text(&json, "verdict", verdict);
    json_array(&json, "mallocs");
    for (size_t i = 0; i < bench->n_allocators; i++) {
        const struct allocator *allocator = &bench->allocators[i];
        json_object(&json, NULL);
        json_text(&json, "name", allocator->name);
        json_text(&json, "library", allocator->library);
        json_text(&json, "failure", allocator->failure);
        for (enum metric metric = 0; allocator->failure == NULL && metric < METRICS; metric++) {
            json_metric(&json, bench, allocator, metric);
        }
        json_close(&json);
    }
    json_end(&json);
}

/* ---- the command -------------------------------------------------------------------------------------------- */

struct request {
    uint64_t rounds;
    uint64_t seconds;
    char *chosen;
    const char *input;
    const char *picture;
    bool as_json;
    char **command;
};

static bool take_argument(struct request *request, int found)
{
    switch (found) {
    case 'r':
        return parse_number(optarg, "--rounds", LEAST_ROUNDS, 1000, &request->rounds);
    case 's':
        return parse_number(optarg, "--seconds", 1, 1000000, &request->seconds);
    case 'w':
        request->chosen = optarg;
        return true;
    case 'i':
        request->input = optarg;
        return true;
    case 'o':
        request->picture = optarg;
        return true;
    case 'j':
        request->as_json = true;
        return true;
    default:
        return false;
    }
}

static int parse(int argc, char **argv, struct request *request)
{
    static const struct option longs[] = {
        {"rounds", required_argument, NULL, 'r'},
        {"seconds", required_argument, NULL, 's'},
        {"with", required_argument, NULL, 'w'},
        {"input", required_argument, NULL, 'i'},
        {"output", required_argument, NULL, 'o'},
        {"json", no_argument, NULL, 'j'},
        {NULL, 0, NULL, 0},
    };
    int found;
    while ((found = next_option(argc, argv, "+o:", longs)) != -1) {
        if (!take_argument(request, found)) {
            return LEFT_MISUSED;
        }
    }
    request->command = argv + optind;
    if (request->command[0] == NULL) {
        return misused("which program?");
    }
    if (request->input != NULL && access(request->input, R_OK) != 0) {
        return complain("%s can't be read", request->input);
    }
    return LEFT_WELL;
}

static int run(int argc, char **argv)
{
    struct request request = {.rounds = 10, .seconds = 300};
    int status = parse(argc, argv, &request);
    if (status != LEFT_WELL) {
        return status;
    }
    struct program program;
    status = preload_find(request.command[0], &program);
    if (status != 0) {
        return status;
    }
    struct bench bench = {.n_rounds = request.rounds,
                          .most_seconds = (double)request.seconds,
                          .input = request.input,
                          .command = request.command,
                          .path = program.path};
    if (!bench_find_allocators(&bench, request.chosen) || !bench_measure(&bench)) {
        return LEFT_FAILED;
    }
    char *verdict = verdict_of(&bench);
    if (request.as_json) {
        print_json(&bench, verdict);
    } else {
        print_text(&bench, verdict);
    }
    if (request.picture != NULL && !bench_draw(&bench, verdict, request.picture)) {
        return LEFT_FAILED;
    }
    return bench.allocators[1].failure == NULL ? LEFT_WELL : LEFT_FOUND;
}

const struct command command_bench = {
    .name = "bench",
    .question = "Does allot suit my program?",
    .synopsis = "[OPTION]... [--] PROGRAM [ARGUMENT]...",
    .usage = "  --rounds N          measured runs on each malloc, at least 6 (10)\n"
             "  --seconds N         begin no round later than this, but do six (300)\n"
             "  --with NAME,...     against these: jemalloc, mimalloc, tcmalloc, or NAME=FILE; otherwise all that are "
             "installed\n"
             "  --input FILE        standard input of each run; otherwise empty\n"
             "  -o, --output FILE   draw it: an SVG\n"
             "  --json              as JSON, each run's figures included\n"
             "\n"
             "The program runs once a round on each malloc, and once before that is not counted. What it writes is "
             "dropped.\n"
             "A difference is named when it would arise by chance in less than 1 of 20 cases; the rest is \"same\".\n",
    .run = run,
};
