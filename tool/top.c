/* SPDX-License-Identifier: MIT */
/* top.c - what is it doing now? Samples a process until told to stop, on a terminal that is drawn anew by ncurses, or
 * once, or as JSON a line a sample.
 *
 * When the process ends, the next one with its name that runs on allot is watched.
 */
#include "top.h"

#include "json.h"
#include "tool.h"

#include <curses.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ONCE_MS 300
/* Looking takes at most so large a share of the time. */
#define SHARE 10

static volatile sig_atomic_t is_over;

static void end(int number)
{
    (void)number;
    is_over = 1;
}

static void sleep_ms(unsigned ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&time, NULL);
}

/* ---- JSON --------------------------------------------------------------------------------------------------- */

static void json_sample(struct json *json, const struct watched *watched)
{
    const struct sample *now = &watched->now;
    json_number(json, "pid", (uint64_t)watched->target.pid);
    json_text(json, "program", watched->name);
    json_text(json, "allot_version", watched->version);
    json_text(json, "read_by", watched->by_socket ? "socket" : "memory");
    json_number(json, "rss_bytes", now->rss_bytes);
    json_number(json, "live_bytes", now->totals.live_bytes);
    json_number(json, "live_blocks", now->totals.n_live);
    json_number(json, "free_slots_bytes", now->totals.resident_free_slots);
    json_number(json, "kept_bytes", now->totals.resident_kept);
    json_number(json, "threads", now->n_threads);
    json_object(json, "per_second");
    json_real(json, "live_bytes", watched->rates.live_bytes);
    json_real(json, "handed_out_bytes", watched->rates.given_bytes);
    json_real(json, "returned_bytes", watched->rates.purged_bytes);
    json_real(json, "faults", watched->rates.faults);
    json_real(json, "cpu_seconds", watched->rates.cpu);
    json_close(json);
    json_array(json, "classes");
    for (size_t i = 0; i < CLASSES_MOST; i++) {
        const struct class_sample *sum = &now->classes[i];
        if (sum->n_slabs > 0) {
            json_object(json, NULL);
            json_number(json, "block_bytes", sum->block_bytes);
            json_number(json, "slabs", sum->n_slabs);
            json_number(json, "blocks", sum->n_blocks);
            json_number(json, "live", sum->n_live);
            json_number(json, "resident_bytes", sum->resident_bytes);
            json_close(json);
        }
    }
    json_close(json);
    json_array(json, "heaps");
    for (size_t i = 0; i < now->n_heaps; i++) {
        json_object(json, NULL);
        json_number(json, "number", now->heaps[i].number);
        json_truth(json, "idle", now->heaps[i].idle);
        json_number(json, "thread", (uint64_t)now->heaps[i].tid);
        json_number(json, "live_bytes", now->heaps[i].live_bytes);
        json_close(json);
    }
    json_close(json);
}

static void print_processes_json(const struct seen_process *processes, size_t n)
{
    struct json json = json_begin(stdout, "top");
    json_array(&json, "processes");
    for (size_t i = 0; i < n; i++) {
        json_object(&json, NULL);
        json_number(&json, "pid", (uint64_t)processes[i].pid);
        json_text(&json, "program", processes[i].name);
        json_number(&json, "rss_bytes", processes[i].rss_bytes);
        json_number(&json, "live_bytes", processes[i].live_bytes);
        json_number(&json, "free_slots_bytes", processes[i].free_slots_bytes);
        json_number(&json, "kept_bytes", processes[i].kept_bytes);
        json_close(&json);
    }
    json_close(&json);
    json_end(&json);
}

/* ---- showing ------------------------------------------------------------------------------------------------ */

/* The first columns of UTF-8 text, in bytes. */
static size_t cut(const char *line, size_t columns)
{
    size_t at = 0;
    while (line[at] != '\0' && columns > 0) {
        at++;
        while (((unsigned char)line[at] & 0xc0) == 0x80) {
            at++;
        }
        columns--;
    }
    return at;
}

static void print_lines(const struct lines *lines)
{
    size_t width = terminal_width();
    for (size_t i = 0; i < lines->n; i++) {
        printf("%.*s\n", (int)cut(lines->of[i], width), lines->of[i]);
    }
}

static void draw(const struct lines *lines, const char *foot)
{
    erase();
    for (int i = 0; i < LINES - 1 && i < (int)lines->n; i++) {
        const char *line = lines->of[i];
        mvaddnstr(i, 0, line, (int)cut(line, (size_t)COLS));
    }
    attron(A_REVERSE);
    mvprintw(LINES - 1, 0, "%-*.*s", COLS, COLS, foot);
    attroff(A_REVERSE);
    refresh();
}

/* ---- one process -------------------------------------------------------------------------------------------- */

struct how {
    unsigned interval_ms;
    bool once, as_json, by_socket;
};

static bool connect_to(struct watched *watched, const char *pid, const struct how *how)
{
    if (!target_open(&watched->target, pid)) {
        return false;
    }
    if (watched->target.pid == 0) {
        complain("a core file does nothing now: allot explain and allot map read it");
        watched_close(watched);
        return false;
    }
    watched->target.memory_refused = watched->target.memory_refused || how->by_socket;
    watched->n_samples = 0;
    watched->n_connects++;
    if (!watched_sample(watched)) {
        watched_close(watched);
        return false;
    }
    return true;
}

/* The next process of the same name; false when there is none yet. */
static bool reconnect(struct watched *watched, const struct how *how)
{
    struct seen_process *processes;
    size_t n = top_processes(&processes);
    bool found = false;
    for (size_t i = 0; i < n && !found; i++) {
        char pid[16];
        snprintf(pid, sizeof pid, "%d", (int)processes[i].pid);
        found = strcmp(processes[i].name, watched->name) == 0 && connect_to(watched, pid, how);
    }
    free(processes);
    return found;
}

static int once(struct watched *watched, const struct how *how)
{
    sleep_ms(how->interval_ms < ONCE_MS ? how->interval_ms : ONCE_MS);
    if (!watched_sample(watched)) {
        return LEFT_FAILED;
    }
    if (how->as_json) {
        struct json json = json_begin(stdout, "top");
        json_sample(&json, watched);
        json_end(&json);
        return LEFT_WELL;
    }
    struct lines lines = {.n = 0};
    top_lines(&lines, watched, terminal_width());
    print_lines(&lines);
    lines_forget(&lines);
    return LEFT_WELL;
}

static unsigned wait_of(const struct watched *watched, const struct how *how)
{
    unsigned least = (unsigned)(watched->now.took * 1000 * SHARE);
    return least > how->interval_ms ? least : how->interval_ms;
}

/* A document a line, until the process ends or the reader goes. */
static int stream(struct watched *watched, const struct how *how)
{
    while (!is_over) {
        struct json json = json_begin_line(stdout);
        json_sample(&json, watched);
        json_end(&json);
        if (fflush(stdout) != 0) {
            return LEFT_WELL;
        }
        sleep_ms(wait_of(watched, how));
        if (is_over || !watched_sample(watched)) {
            break;
        }
    }
    return LEFT_WELL;
}

/* Standard error would write over the picture: what there is to say stands in the last line. */
static void quiet(void)
{
    fflush(stderr);
    if (freopen("/dev/null", "w", stderr) == NULL) {
        return;
    }
}

static void live(struct watched *watched, const struct how *how)
{
    bool paused = false;
    quiet();
    initscr();
    cbreak();
    noecho();
    curs_set(0);
    while (!is_over) {
        bool there = watched->target.pid != 0;
        struct lines lines = {.n = 0};
        char foot[160];
        if (there) {
            top_lines(&lines, watched, (size_t)COLS);
            snprintf(foot, sizeof foot, " q leave  p %s  every %.1f s%s", paused ? "go on" : "pause",
                     wait_of(watched, how) / 1000.0, watched->by_socket ? "  by socket" : "");
        } else {
            lines_add(&lines, "%s has ended. Waiting for another %s that runs on allot.", watched->name, watched->name);
            snprintf(foot, sizeof foot, " q leave");
        }
        draw(&lines, foot);
        lines_forget(&lines);
        timeout((int)(there ? wait_of(watched, how) : how->interval_ms));
        int key = getch();
        if (key == 'q' || key == 27) {
            break;
        }
        if (key == 'p' || key == ' ') {
            paused = !paused;
        }
        if (there && !paused && !watched_sample(watched)) {
            watched_close(watched);
        } else if (!there) {
            reconnect(watched, how);
        }
    }
    endwin();
}

static int watch(const char *pid, const struct how *how)
{
    struct watched *watched = take_memory(sizeof *watched);
    int left = LEFT_WELL;
    if (!connect_to(watched, pid, how)) {
        left = LEFT_FAILED;
    } else if (how->once || (!how->as_json && !isatty(STDOUT_FILENO))) {
        left = once(watched, how);
    } else if (how->as_json) {
        left = stream(watched, how);
    } else {
        live(watched, how);
    }
    if (left == LEFT_WELL) {
        watched_close(watched);
    }
    free(watched);
    return left;
}

static int list(const struct how *how)
{
    struct seen_process *processes;
    size_t n = top_processes(&processes);
    if (how->as_json) {
        print_processes_json(processes, n);
    } else {
        struct lines lines = {.n = 0};
        top_process_lines(&lines, processes, n);
        print_lines(&lines);
        lines_forget(&lines);
    }
    free(processes);
    return LEFT_WELL;
}

/* ---- the subcommand ----------------------------------------------------------------------------------------- */

static int run(int argc, char **argv)
{
    static const struct option longs[] = {{"once", no_argument, NULL, 'o'},
                                          {"json", no_argument, NULL, 'j'},
                                          {"interval", required_argument, NULL, 'i'},
                                          {"socket", no_argument, NULL, 's'},
                                          {NULL, 0, NULL, 0}};
    struct how how = {.interval_ms = 1000};
    for (int option; (option = next_option(argc, argv, "", longs)) != -1;) {
        uint64_t ms;
        switch (option) {
        case 'o':
            how.once = true;
            break;
        case 'j':
            how.as_json = true;
            break;
        case 's':
            how.by_socket = true;
            break;
        case 'i':
            if (!parse_number(optarg, "--interval", 50, 3600000, &ms)) {
                return LEFT_MISUSED;
            }
            how.interval_ms = (unsigned)ms;
            break;
        default:
            return LEFT_MISUSED;
        }
    }
    if (optind + 1 < argc) {
        return misused("one process, not several");
    }
    setlocale(LC_ALL, "");
    signal(SIGINT, end);
    signal(SIGTERM, end);
    return optind == argc ? list(&how) : watch(argv[optind], &how);
}

const struct command command_top = {
    .name = "top",
    .question = "What is it doing now?",
    .synopsis = "[--once] [--json] [--interval MS] [--socket] [PID]",
    .usage =
        "  --once  one sample and its rates, then leave; so it is when standard output is no terminal\n"
        "  --json  as JSON; without --once a line a sample, until the process ends\n"
        "  --interval MS  milliseconds between samples, 1000 if it isn't said\n"
        "  --socket  ask the process, also where its memory could be read\n"
        "\n"
        "Without PID it lists the processes that run on allot. On the screen: p pauses, q leaves; when the process has "
        "ended, the next one of its name is watched.\n",
    .run = run,
};
