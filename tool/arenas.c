/* SPDX-License-Identifier: MIT */
/* arenas.c - the tree of named arenas: what each holds, what its limits are, and how it grows. */
#include "heap_view.h"
#include "json.h"
#include "tool.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *kind_name(unsigned kind)
{
    static const char *const names[] = {"general", "bump", "scratch"};
    return kind < 3 ? names[kind] : "unknown";
}

struct two {
    struct heap_view before, now;
    double seconds;
};

/* Bytes a second since the first look; 0 for who wasn't there then. */
static double growth(const struct two *two, const struct arena_view *arena)
{
    for (size_t i = 0; i < two->before.n_arenas; i++) {
        if (two->before.arenas[i].serial == arena->serial) {
            return ((double)arena->live_bytes - (double)two->before.arenas[i].live_bytes) / two->seconds;
        }
    }
    return 0;
}

/* ---- text --------------------------------------------------------------------------------------------------- */

static void growth_text(char out[BYTES_TEXT + 8], double bytes)
{
    char text[BYTES_TEXT];
    if (bytes == 0) {
        snprintf(out, BYTES_TEXT + 8, "-");
    } else {
        snprintf(out, BYTES_TEXT + 8, "%c%s/s", bytes < 0 ? '-' : '+',
                 bytes_text(text, (uint64_t)(bytes < 0 ? -bytes : bytes)));
    }
}

static void limit_text(char out[BYTES_TEXT + 16], const struct arena_view *arena)
{
    char text[BYTES_TEXT];
    uint64_t limit = arena->hard_limit != 0 ? arena->hard_limit : arena->soft_limit;
    if (limit == 0) {
        snprintf(out, BYTES_TEXT + 16, "-");
    } else {
        snprintf(out, BYTES_TEXT + 16, "%s %llu %%%s", bytes_text(text, limit),
                 (unsigned long long)(arena->total_bytes * 100 / limit), arena->hard_limit != 0 ? "" : " soft");
    }
}

static void print_arena(const struct two *two, const struct arena_view *arena)
{
    char live[BYTES_TEXT], size[BYTES_TEXT], limit[BYTES_TEXT + 16], rate[BYTES_TEXT + 8];
    int indent = arena->depth > 10 ? 20 : (int)arena->depth * 2;
    const char *name = arena->name[0] != '\0' ? arena->name : arena->file[0] != '\0' ? arena->file : "(no name)";
    growth_text(rate, growth(two, arena));
    limit_text(limit, arena);
    bytes_text(live, arena->live_bytes);
    bytes_text(size, arena->size_bytes);
    if (terminal_width() < 76) {
        int room = (int)terminal_width() - indent;
        printf("%*s%.*s\n", indent, "", room, name);
        printf("%*s  %s of %s\n", indent, "", live, size);
        if (limit[0] != '-' || rate[0] != '-') {
            printf("%*s  %s%s%s\n", indent, "", limit[0] == '-' ? "" : limit,
                   limit[0] != '-' && rate[0] != '-' ? ", " : "", rate[0] == '-' && rate[1] == '\0' ? "" : rate);
        }
        return;
    }
    printf("%*s%-*.*s %-7s %10s %10s %17s %13s%s\n", indent, "", 24 - indent, 24 - indent, name, kind_name(arena->kind),
           live, size, limit, rate, arena->sealed ? " sealed" : "");
}

static void print_text(const struct target *target, const struct two *two)
{
    char live[BYTES_TEXT], size[BYTES_TEXT];
    uint64_t all_live = 0;
    uint64_t all_size = 0;
    for (size_t i = 0; i < two->now.n_arenas; i++) {
        all_live += two->now.arenas[i].live_bytes;
        all_size += two->now.arenas[i].size_bytes;
    }
    char *head =
        take_text("%s (%s), allot %s: %zu arenas, %s live of %s%s", target->pid == 0 ? target->path : "process",
                  target->name, two->now.version, two->now.n_arenas, bytes_text(live, all_live),
                  bytes_text(size, all_size), target->pid == 0 ? "" : ", read while it ran");
    print_wrapped(stdout, 0, 2, head);
    free(head);
    if (two->now.n_arenas == 0) {
        print_wrapped(stdout, 0, 0,
                      "It has made none, or all have ended: allot_arena_create() makes one, see allot/arena.h.");
        return;
    }
    if (terminal_width() >= 76) {
        printf("\n%-24s %-7s %10s %10s %17s %13s\n", "arena", "kind", "live", "size", "limit, used", "growth");
    }
    for (size_t i = 0; i < two->now.n_arenas; i++) {
        print_arena(two, &two->now.arenas[i]);
    }
}

/* ---- JSON --------------------------------------------------------------------------------------------------- */

static void print_json(const struct target *target, const struct two *two)
{
    struct json json = json_begin(stdout, "arenas");
    json_number(&json, "pid", (uint64_t)target->pid);
    json_text(&json, "program", target->name);
    json_text(&json, "allot_version", two->now.version);
    json_text(&json, "read_by", target->pid == 0 ? "core" : two->now.by_socket ? "socket" : "memory");
    json_truth(&json, "while_it_ran", target->pid != 0);
    json_array(&json, "arenas");
    for (size_t i = 0; i < two->now.n_arenas; i++) {
        const struct arena_view *arena = &two->now.arenas[i];
        json_object(&json, NULL);
        json_text(&json, "name", arena->name);
        json_number(&json, "depth", arena->depth);
        json_number(&json, "serial", arena->serial);
        json_text(&json, "kind", kind_name(arena->kind));
        json_number(&json, "live_bytes", arena->live_bytes);
        json_number(&json, "size_bytes", arena->size_bytes);
        json_number(&json, "total_bytes", arena->total_bytes);
        json_number(&json, "soft_limit_bytes", arena->soft_limit);
        json_number(&json, "hard_limit_bytes", arena->hard_limit);
        json_number(&json, "segments", arena->n_segments);
        json_truth(&json, "sealed", arena->sealed);
        json_real(&json, "growth_bytes_per_second", growth(two, arena));
        json_text(&json, "file", arena->file[0] == '\0' ? NULL : arena->file);
        json_number(&json, "line", (uint64_t)arena->line);
        json_close(&json);
    }
    json_close(&json);
    json_end(&json);
}

/* ---- the subcommand ----------------------------------------------------------------------------------------- */

static bool look_twice(struct target *target, struct two *two, unsigned ms)
{
    struct timespec wait = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    bool refused = target->memory_refused;
    if (!heap_view_read(target, &two->before, /* with_blocks */ false)) {
        return false;
    }
    if (target->pid != 0) {
        nanosleep(&wait, NULL);
    }
    bool there = target_refresh(target);
    target->memory_refused = refused;
    two->seconds = ms / 1000.0;
    if (!there || !heap_view_read(target, &two->now, /* with_blocks */ false)) {
        heap_view_forget(&two->before);
        return false;
    }
    return true;
}

static int run(int argc, char **argv)
{
    static const struct option longs[] = {{"json", no_argument, NULL, 'j'},
                                          {"interval", required_argument, NULL, 'i'},
                                          {"socket", no_argument, NULL, 's'},
                                          {NULL, 0, NULL, 0}};
    bool as_json = false;
    bool by_socket = false;
    uint64_t ms = 500;
    for (int option; (option = next_option(argc, argv, "", longs)) != -1;) {
        if (option == '?' || (option == 'i' && !parse_number(optarg, "--interval", 50, 3600000, &ms))) {
            return LEFT_MISUSED;
        }
        as_json = as_json || option == 'j';
        by_socket = by_socket || option == 's';
    }
    if (optind + 1 != argc) {
        return misused(optind == argc ? "which process, or which core file?" : "one process or core file, not several");
    }
    struct target target;
    struct two two;
    if (!target_open(&target, argv[optind])) {
        return LEFT_FAILED;
    }
    target.memory_refused = target.memory_refused || by_socket;
    int left = LEFT_FAILED;
    if (look_twice(&target, &two, (unsigned)ms)) {
        left = LEFT_WELL;
        if (as_json) {
            print_json(&target, &two);
        } else {
            print_text(&target, &two);
        }
        heap_view_forget(&two.before);
        heap_view_forget(&two.now);
    }
    target_close(&target);
    return left;
}

const struct command command_arenas = {
    .name = "arenas",
    .question = "Which arenas are there, and how do they grow?",
    .synopsis = "[--json] [--interval MS] [--socket] PID|COREFILE",
    .usage = "  --json  as JSON\n"
             "  --interval MS  milliseconds over which growth is measured, 500 if it isn't said\n"
             "  --socket  ask the process, also where its memory could be read\n",
    .run = run,
};
