/* SPDX-License-Identifier: MIT */
/* bench_run.c - which mallocs are there, and what a run takes on each. */
#include "bench.h"
#include "preload.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

const char *const metric_names[METRICS] = {"time", "user+sys", "peak RSS"};

/* ---- which mallocs ------------------------------------------------------------------------------------------ */

/* By the names that their packages install. The first that is there of each is taken. */
static const struct {
    const char *name;
    const char *files[4];
} known[] = {
    {"jemalloc", {"libjemalloc.so.2", "libjemalloc.so"}},
    {"mimalloc", {"libmimalloc.so.3", "libmimalloc.so.2", "libmimalloc.so.2.0", "libmimalloc.so"}},
    {"tcmalloc", {"libtcmalloc_minimal.so.4", "libtcmalloc.so.4", "libtcmalloc_minimal.so"}},
    {"snmalloc", {"libsnmallocshim.so"}},
    {"rpmalloc", {"librpmallocwrap.so", "librpmalloc.so"}},
    {"hardened", {"libhardened_malloc.so"}},
};

static char *installed(const char *file)
{
    static const char *const folders[] = {"/usr/local/lib/", "/usr/local/lib/*/", "/usr/lib/", "/usr/lib/*/",
                                          "/usr/lib64/"};
    char *path = NULL;
    for (size_t i = 0; i < sizeof folders / sizeof folders[0] && path == NULL; i++) {
        char *pattern = take_text("%s%s", folders[i], file);
        glob_t found;
        if (glob(pattern, 0, NULL, &found) == 0) {
            path = take_copy(found.gl_pathv[0]);
            globfree(&found);
        }
        free(pattern);
    }
    return path;
}

static void add(struct bench *bench, const char *name, char *library)
{
    if (bench->n_allocators == MOST_ALLOCATORS) {
        return;
    }
    struct allocator *allocator = &bench->allocators[bench->n_allocators++];
    *allocator = (struct allocator){.name = take_copy(name), .library = library};
    if (library != NULL) {
        allocator->preload = preload_list(library);
    }
    for (enum metric metric = 0; metric < METRICS; metric++) {
        allocator->values[metric] = take_memory(bench->n_rounds * sizeof(double));
    }
}

static char *find_known(const char *name)
{
    char *library = NULL;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        for (size_t j = 0; strcmp(known[i].name, name) == 0 && j < 4 && known[i].files[j] != NULL && library == NULL;
             j++) {
            library = installed(known[i].files[j]);
        }
    }
    return library;
}

/* NAME, or NAME=FILE. */
static bool add_chosen(struct bench *bench, char *word)
{
    char *file = strchr(word, '=');
    if (file != NULL) {
        *file++ = '\0';
        char *path = realpath(file, NULL);
        if (path == NULL) {
            complain("%s: %s", file, strerror(errno));
            return false;
        }
        add(bench, word, path);
        return true;
    }
    char *library = find_known(word);
    if (library == NULL) {
        complain("%s is not installed where libraries are; name its file: --with %s=/path/to/it.so", word, word);
        return false;
    }
    add(bench, word, library);
    return true;
}

bool bench_find_allocators(struct bench *bench, char *chosen)
{
    char *own = library_path();
    if (own == NULL) {
        return false;
    }
    add(bench, "own", NULL);
    add(bench, "allot", own);
    char *rest = NULL;
    for (char *word = chosen == NULL ? NULL : strtok_r(chosen, ",", &rest); word != NULL;
         word = strtok_r(NULL, ",", &rest)) {
        if (!add_chosen(bench, word)) {
            return false;
        }
    }
    for (size_t i = 0; chosen == NULL && i < sizeof known / sizeof known[0]; i++) {
        char *library = find_known(known[i].name);
        if (library != NULL) {
            add(bench, known[i].name, library);
        }
    }
    return bench->allocators[1].preload != NULL;
}

/* ---- a run -------------------------------------------------------------------------------------------------- */

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

_Noreturn static void become(const struct bench *bench, const struct allocator *allocator, int errors)
{
    int in = open(bench->input == NULL ? "/dev/null" : bench->input, O_RDONLY);
    int out = open("/dev/null", O_WRONLY);
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(errors, STDERR_FILENO);
    if (allocator->preload != NULL) {
        setenv("LD_PRELOAD", allocator->preload, 1);
    }
    execv(bench->path, bench->command);
    _exit(127);
}

/* The last line that a run wrote on standard error. */
static char *last_line(int errors)
{
    char text[4096];
    off_t end = lseek(errors, 0, SEEK_END);
    off_t from = end > (off_t)sizeof text - 1 ? end - (off_t)sizeof text + 1 : 0;
    ssize_t n = pread(errors, text, sizeof text - 1, from);
    text[n < 0 ? 0 : n] = '\0';
    for (size_t length = strlen(text); length > 0 && text[length - 1] == '\n'; length--) {
        text[length - 1] = '\0';
    }
    const char *line = strrchr(text, '\n');
    return take_copy(line == NULL ? text : line + 1);
}

static char *failure_of(int status, int errors)
{
    char *said = last_line(errors);
    char *how = WIFSIGNALED(status)
                    ? take_text("it ended by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)))
                    : take_text("it left with %d", WEXITSTATUS(status));
    char *all = take_text("%s%s%s", how, said[0] == '\0' ? "" : ": ", said);
    free(said);
    free(how);
    return all;
}

/* Puts what it took into values; NULL, or how it failed. */
static char *run_once(const struct bench *bench, const struct allocator *allocator, double values[METRICS])
{
    FILE *errors = tmpfile();
    if (errors == NULL) {
        return take_text("no temporary file: %s", strerror(errno));
    }
    fflush(NULL);
    double begin = now();
    pid_t child = fork();
    if (child == 0) {
        become(bench, allocator, fileno(errors));
    }
    int status = 0;
    struct rusage usage = {.ru_maxrss = 0};
    char *failure = NULL;
    if (child < 0) {
        failure = take_text("no process could be made: %s", strerror(errno));
    } else {
        while (wait4(child, &status, 0, &usage) < 0 && errno == EINTR) {
        }
        values[METRIC_WALL] = now() - begin;
        values[METRIC_CPU] = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                             (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
        values[METRIC_PEAK] = (double)usage.ru_maxrss * 1024;
        failure = status == 0 ? NULL : failure_of(status, fileno(errors));
    }
    fclose(errors);
    return failure;
}

static void say_progress(const struct bench *bench, size_t round, const struct allocator *allocator)
{
    if (isatty(STDERR_FILENO)) {
        fprintf(stderr, allocator == NULL ? "\r\33[K" : "\r\33[Kround %zu of %zu: %s", round, bench->n_rounds,
                allocator == NULL ? "" : allocator->name);
    }
}

/* Each malloc once, the one whose turn it is first. False when the program fails with its own. */
static bool run_round(struct bench *bench, size_t round, bool counts)
{
    for (size_t i = 0; i < bench->n_allocators; i++) {
        struct allocator *allocator = &bench->allocators[(i + round) % bench->n_allocators];
        double values[METRICS];
        if (allocator->failure != NULL) {
            continue;
        }
        say_progress(bench, round + counts, allocator);
        allocator->failure = run_once(bench, allocator, values);
        if (allocator->failure != NULL && allocator->library == NULL) {
            say_progress(bench, round, NULL);
            complain("%s fails without allot already: %s", bench->path, allocator->failure);
            return false;
        }
        for (enum metric metric = 0; counts && metric < METRICS; metric++) {
            allocator->values[metric][round] = values[metric];
        }
    }
    return true;
}

bool bench_measure(struct bench *bench)
{
    if (!run_round(bench, 0, /* counts */ false)) {
        return false;
    }
    double begin = now();
    while (bench->n_measured < bench->n_rounds) {
        if (!run_round(bench, bench->n_measured, /* counts */ true)) {
            return false;
        }
        bench->n_measured++;
        if (now() - begin > bench->most_seconds && bench->n_measured >= LEAST_ROUNDS) {
            break;
        }
    }
    say_progress(bench, 0, NULL);
    return true;
}

/* ---- what it means ------------------------------------------------------------------------------------------ */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double *sorted(const double *values, size_t n)
{
    double *copy = take_memory(n * sizeof *copy);
    memcpy(copy, values, n * sizeof *copy);
    qsort(copy, n, sizeof *copy, by_value);
    return copy;
}

static double middle(const double *values, size_t n)
{
    return n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

struct summary bench_summary(const struct bench *bench, const struct allocator *allocator, enum metric metric)
{
    size_t n = bench->n_measured;
    double *values = sorted(allocator->values[metric], n);
    struct summary summary = {middle(values, n), values[0], values[n - 1]};
    free(values);
    return summary;
}

/* How many of n sorted values may be left out at each end so that the true middle lies between the rest in 19 of 20
 * cases: each value is below it as often as a coin falls. */
static size_t outliers(size_t n)
{
    double chance = pow(0.5, (double)n); /* that exactly i of them are below */
    double sum = chance;
    size_t i = 0;
    while (i < n && 2 * (sum + chance * (double)(n - i) / (double)(i + 1)) <= 0.05) {
        chance *= (double)(n - i) / (double)(i + 1);
        sum += chance;
        i++;
    }
    return i;
}

struct comparison bench_compare(const struct bench *bench, const struct allocator *a, const struct allocator *b,
                                enum metric metric)
{
    size_t n = bench->n_measured;
    double *ratios = take_memory(n * sizeof *ratios);
    for (size_t i = 0; i < n; i++) {
        double other = b->values[metric][i];
        ratios[i] = other > 0 ? a->values[metric][i] / other : 1;
    }
    qsort(ratios, n, sizeof *ratios, by_value);
    size_t out = outliers(n);
    struct comparison comparison = {middle(ratios, n), ratios[out], ratios[n - 1 - out]};
    free(ratios);
    return comparison;
}

char *metric_text(char out[BYTES_TEXT], enum metric metric, double value)
{
    if (metric == METRIC_PEAK) {
        return bytes_text(out, (uint64_t)value);
    }
    if (value < 1) {
        snprintf(out, BYTES_TEXT, "%.1f ms", value * 1000);
    } else {
        snprintf(out, BYTES_TEXT, "%.2f s", value);
    }
    return out;
}
