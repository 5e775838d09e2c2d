/* SPDX-License-Identifier: MIT */
/* main.c - the stepper's command line. See step.h for what it does, README.md for how to run it. */
#include "step.h"

#include <fnmatch.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define SKIPPED 77 /* to ctest */

/* The toy allocator's, where it is linked. */
__attribute__((weak)) int toy_plant(const char *fault);

struct shared *shared;

static const char usage[] =
    "step [-m mode,...] [-c call,...] [-b boundaries] [-o outer boundaries] [-t seconds]\n"
    "     [-e expected failure] [-f fault in the toy allocator] [-s rate] [-l]\n"
    "  -m  once, always, nested, stopped, beside, jump, fork; all without it\n"
    "  -c  only calls with such names: patterns as the shell's, with commas between; !: not these\n"
    "  -b  at most so many boundaries a run; 0: all\n"
    "  -o  nested: so many boundaries where the outer handler comes in\n"
    "  -t  no copy may take longer\n"
    "  -e  succeed when a failure with these words (or those, with | between) is found, and only then\n"
    "  -s  one of about so many blocks is put between guard pages; 0, as without it: none\n"
    "  -l  list the calls\n";

NORETURN static void wrong_usage(void)
{
    fputs(usage, stderr);
    exit(2);
}

static unsigned parse_modes(char *list)
{
    unsigned modes = 0;
    for (char *name = strtok(list, ","); name != NULL; name = strtok(NULL, ",")) {
        unsigned mode = 0;
        while (mode < N_MODES && strcmp(name, mode_name[mode]) != 0) {
            mode++;
        }
        if (mode == N_MODES) {
            wrong_usage();
        }
        modes |= 1u << mode;
    }
    return modes;
}

static void list_calls(void)
{
    for (unsigned i = 0; i < n_calls; i++) {
        puts(calls[i].name);
    }
    exit(0);
}

static void parse(int n, char **arguments)
{
    int option;
    while ((option = getopt(n, arguments, "m:c:b:o:t:e:f:s:l")) >= 0) {
        switch (option) {
        case 'm':
            options.modes = parse_modes(optarg);
            break;
        case 'c':
            options.only_calls = optarg;
            break;
        case 'b':
            options.budget = (unsigned)strtoul(optarg, NULL, 10);
            options.budget = options.budget == 0 ? UINT32_MAX : options.budget;
            break;
        case 'o':
            options.n_outer = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 't':
            options.seconds = strtod(optarg, NULL);
            break;
        case 'e':
            options.expect = optarg;
            break;
        case 'f':
            if (toy_plant == NULL || !toy_plant(optarg)) {
                fputs("step: no such fault here\n", stderr);
                exit(2);
            }
            break;
        case 's':
            options.sample_rate = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'l':
            list_calls();
            break;
        default:
            wrong_usage();
        }
    }
}

/* The library reads its options at start. Blocks that are chosen by chance would be others each time. */
static void start_with_options(char **arguments)
{
    char wanted[40];
    snprintf(wanted, sizeof wanted, "sample_rate=%u", options.sample_rate);
    if (getenv("ALLOT_OPTIONS") == NULL) {
        setenv("ALLOT_OPTIONS", wanted, 1);
        execv("/proc/self/exe", arguments);
    }
}

/* Tracer and traced on one CPU hand over to each other several times faster than across two. */
static void stay_on_this_cpu(void)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((unsigned)sched_getcpu(), &one);
    sched_setaffinity(0, sizeof one, &one);
}

static const char *next_of(const char *patterns)
{
    const char *comma = strchr(patterns, ',');
    return comma == NULL ? NULL : comma + 1;
}

/* The last pattern that the name matches decides. */
static bool fits(const char *name, const char *patterns)
{
    char pattern[64];
    bool result = patterns[0] == '!';
    for (const char *p = patterns; p != NULL; p = next_of(p)) {
        bool leave_out = *p == '!';
        p += leave_out;
        snprintf(pattern, sizeof pattern, "%.*s", (int)strcspn(p, ","), p);
        if (fnmatch(pattern, name, 0) == 0) {
            result = !leave_out;
        }
    }
    return result;
}

static bool wanted(const struct call *call, enum mode mode)
{
    if ((options.modes & 1u << mode) == 0 || (options.only_calls != NULL && !fits(call->name, options.only_calls))) {
        return false;
    }
    if ((call->flags & CALL_POOL) != 0 && !calls_have_pool()) {
        return false;
    }
    if (mode == MODE_JUMP && (call->flags & CALL_THREAD_EXIT) != 0) {
        return false; /* nothing is left to jump to */
    }
    return mode != MODE_BESIDE || (call->flags & CALL_FORKED) == 0; /* the child has one thread */
}

static void print_result(const struct call *call, enum mode mode, const struct result *result, double seconds)
{
    char strays[40] = "";
    if (result->n_strays != 0) {
        snprintf(strays, sizeof strays, ", and %u off the path", result->n_strays);
    }
    printf("%-8s %-20s %7u boundaries, %3u system calls; tried %6u (%3.0f %%), %5u of %5u addresses%s; %.1f s%s\n",
           mode_name[mode], call->name, result->n_boundaries, result->n_system_calls, result->n_tried,
           100.0 * result->n_tried / (result->n_boundaries + 0.001), result->n_addresses_tried, result->n_addresses,
           strays, seconds, result->n_failed != 0 ? "; FAILED" : "");
}

/* Ends with SKIPPED where nothing may be traced. */
static void run_all(struct result *sum, unsigned *n_runs)
{
    for (unsigned mode = 0; mode < N_MODES; mode++) {
        for (unsigned i = 0; i < n_calls; i++) {
            if (!wanted(&calls[i], (enum mode)mode)) {
                continue;
            }
            struct result result = {0};
            double start = now_seconds();
            drive(&calls[i], (enum mode)mode, &result);
            if (result.may_not_trace) {
                puts("skipped: ptrace is not permitted here");
                exit(SKIPPED);
            }
            print_result(&calls[i], (enum mode)mode, &result, now_seconds() - start);
            sum->n_boundaries += result.n_boundaries;
            sum->n_tried += result.n_tried;
            sum->n_failed += result.n_failed;
            sum->n_expected += result.n_expected;
            ++*n_runs;
        }
    }
}

int main(int n, char **arguments)
{
    static char buffer[BUFSIZ];
    struct result sum = {0};
    unsigned n_runs = 0;
    setvbuf(stdout, buffer, _IOLBF, sizeof buffer);
    parse(n, arguments);
    start_with_options(arguments);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    stay_on_this_cpu();
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        perror("step: mmap");
        return 2;
    }
    run_all(&sum, &n_runs);
    printf("%u runs, %u boundaries, %u of them tried, %u failures\n", n_runs, sum.n_boundaries, sum.n_tried,
           sum.n_failed);
    if (n_runs == 0) {
        return 2;
    }
    if (options.expect != NULL) {
        printf("expected \"%s\": found %u times\n", options.expect, sum.n_expected);
        return sum.n_expected == 0;
    }
    return sum.n_failed != 0;
}
