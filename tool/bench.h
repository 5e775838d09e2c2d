/* SPDX-License-Identifier: MIT */
/* bench.h - a program on several mallocs. bench.c reads arguments and prints, bench_run.c measures, bench_chart.c
 * draws. */
#ifndef TOOL_BENCH_H
#define TOOL_BENCH_H

#include "tool.h"

enum metric { METRIC_WALL, METRIC_CPU, METRIC_PEAK, METRICS };

#define MOST_ALLOCATORS 16
#define LEAST_ROUNDS 6 /* that let a difference be told from chance */

struct allocator {
    char *name;
    char *library;           /* NULL: what the program has by itself */
    char *preload;           /* LD_PRELOAD for it */
    double *values[METRICS]; /* one a round: seconds, seconds, bytes */
    char *failure;           /* how a run ended that didn't end well; NULL. Its later rounds are left out */
};

/* Where the middle of all runs lies, and between which bounds. */
struct summary {
    double median;
    double least;
    double most;
};

/* One malloc against another: the middle of the rounds' ratios, and the bounds that the true middle lies between in 19
 * of 20 cases, whatever the distribution: order statistics. With six to
 * eight rounds these are the least and the most. */
struct comparison {
    double ratio;
    double low;
    double high;
};

struct bench {
    struct allocator allocators[MOST_ALLOCATORS];
    size_t n_allocators;
    size_t n_rounds;   /* asked for */
    size_t n_measured; /* done: fewer when the time was up */
    double most_seconds;
    const char *input; /* standard input of each run; NULL: empty */
    char *const *command;
    const char *path;
};

extern const char *const metric_names[METRICS];

/* The program's own malloc first, then allot, then those that are installed. False after a complaint. */
bool bench_find_allocators(struct bench *bench, char *chosen);

/* A round that isn't counted, then the rounds, each malloc once a round, another one first each time. False after a
 * complaint: the program fails with its own malloc. */
bool bench_measure(struct bench *bench);

struct summary bench_summary(const struct bench *bench, const struct allocator *allocator, enum metric metric);
struct comparison bench_compare(const struct bench *bench, const struct allocator *a, const struct allocator *b,
                                enum metric metric);

/* 1.23 s, 45.1 MiB. */
char *metric_text(char out[BYTES_TEXT], enum metric metric, double value);

/* A picture of all of it. False after a complaint. */
bool bench_draw(const struct bench *bench, const char *verdict, const char *path);

#endif
