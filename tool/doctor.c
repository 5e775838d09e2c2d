/* SPDX-License-Identifier: MIT */
/* doctor.c - allot doctor: is it loaded, will it work, why not? */
#include "doctor.h"
#include "json.h"
#include "preload.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const state_names[] = {[STATE_OK] = "ok", [STATE_NOTE] = "note", [STATE_WRONG] = "wrong"};

void found(struct visit *visit, enum state state, const char *name, const char *todo, const char *format, ...)
{
    char *what = NULL;
    va_list list;
    va_start(list, format);
    int length = vasprintf(&what, format, list);
    va_end(list);
    visit->findings = take_more(visit->findings, (visit->n + 1) * sizeof *visit->findings);
    visit->findings[visit->n++] = (struct finding){state, name, length < 0 ? take_copy("?") : what, todo};
}

/* ---- files -------------------------------------------------------------------------------------------------- */

static char *read_whole(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return NULL;
    }
    size_t length = 0;
    size_t capacity = 4096;
    char *text = take_memory(capacity);
    ssize_t n;
    while ((n = read(fd, text + length, capacity - length - 1)) > 0) {
        length += (size_t)n;
        if (capacity - length < 2) {
            capacity *= 2;
            text = take_more(text, capacity);
        }
    }
    int error = errno;
    close(fd);
    if (n < 0) {
        free(text);
        errno = error;
        return NULL;
    }
    text[length] = '\0';
    return text;
}

char *read_text(const struct visit *visit, const char *format, ...)
{
    char path[4096];
    int at = snprintf(path, sizeof path, "%s", visit->root);
    va_list list;
    va_start(list, format);
    vsnprintf(path + at, sizeof path - (size_t)at, format, list);
    va_end(list);
    return read_whole(path);
}

char *read_process_text(const struct visit *visit, const char *name)
{
    return visit->pid == 0 ? read_text(visit, "/proc/self/%s", name)
                           : read_text(visit, "/proc/%d/%s", visit->pid, name);
}

/* ---- the installation --------------------------------------------------------------------------------------- */

static void look_at_library(struct visit *visit)
{
    visit->library = library_path();
    if (visit->library == NULL) {
        found(visit, STATE_WRONG, "library", "install allot, or name it: ALLOT_LIBRARY=/path/to/liballot.so.1",
              "there is no liballot.so.1 beside this command");
        return;
    }
    char *objections = preload_objections(visit->library, "");
    if (objections != NULL) {
        found(visit, STATE_WRONG, "library", "build or install allot for this machine and this libc",
              "%s can't be loaded: %.*s", visit->library, (int)strcspn(objections, "\n"), objections);
    } else {
        found(visit, STATE_OK, "library", NULL, "%s can be loaded", visit->library);
    }
    free(objections);
}

/* ---- printing ----------------------------------------------------------------------------------------------- */

static void print_text(const struct visit *visit)
{
    static const enum paint paints[] = {[STATE_OK] = PAINT_GOOD, [STATE_NOTE] = PAINT_WARN, [STATE_WRONG] = PAINT_BAD};
    size_t counts[] = {0, 0, 0};
    for (size_t i = 0; i < visit->n; i++) {
        const struct finding *finding = &visit->findings[i];
        counts[finding->state]++;
        print_painted(stdout, paints[finding->state], state_names[finding->state]);
        printf("%*s", (int)(7 - strlen(state_names[finding->state])), "");
        char *line = take_text("%s: %s", finding->name, finding->what);
        print_wrapped(stdout, 7, 7, line);
        free(line);
        if (finding->todo != NULL) {
            printf("       -> ");
            print_wrapped(stdout, 10, 10, finding->todo);
        }
    }
    printf("\n");
    char *sum = counts[STATE_WRONG] != 0 ? take_text("%zu wrong; the lines with -> say what to do", counts[STATE_WRONG])
                : counts[STATE_NOTE] != 0 ? take_text("nothing is wrong; %zu worth knowing", counts[STATE_NOTE])
                                          : take_copy("nothing is wrong");
    print_wrapped(stdout, 0, 0, sum);
    free(sum);
}

static void print_json(const struct visit *visit, const char *asked)
{
    struct json json = json_begin(stdout, "doctor");
    json_text(&json, "of", asked);
    json_array(&json, "findings");
    for (size_t i = 0; i < visit->n; i++) {
        const struct finding *finding = &visit->findings[i];
        json_object(&json, NULL);
        json_text(&json, "name", finding->name);
        json_text(&json, "state", state_names[finding->state]);
        json_text(&json, "finding", finding->what);
        json_text(&json, "to_do", finding->todo);
        json_close(&json);
    }
    json_end(&json);
}

static bool is_number(const char *s)
{
    return s[0] != '\0' && s[strspn(s, "0123456789")] == '\0';
}

static int look(struct visit *visit, const char *asked)
{
    look_at_library(visit);
    if (asked != NULL && is_number(asked)) {
        visit->pid = (pid_t)strtol(asked, NULL, 10);
        int status = look_at_process(visit);
        if (status != LEFT_WELL) {
            return status;
        }
    } else if (asked != NULL) {
        look_at_file(visit, asked);
    }
    look_at_system(visit);
    return LEFT_WELL;
}

static int run(int argc, char **argv)
{
    static const struct option longs[] = {
        {"json", no_argument, NULL, 'j'}, {"root", required_argument, NULL, 'r'}, {NULL, 0, NULL, 0}};
    struct visit visit = {.root = ""};
    bool as_json = false;
    int option;
    while ((option = next_option(argc, argv, "", longs)) != -1) {
        if (option == '?') {
            return LEFT_MISUSED;
        }
        as_json = as_json || option == 'j';
        visit.root = option == 'r' ? optarg : visit.root;
    }
    if (argc - optind > 1) {
        return misused("one process or one program at a time");
    }
    const char *asked = argv[optind];
    int status = look(&visit, asked);
    if (status != LEFT_WELL) {
        return status;
    }
    if (as_json) {
        print_json(&visit, asked);
    } else {
        print_text(&visit);
    }
    for (size_t i = 0; i < visit.n; i++) {
        status = visit.findings[i].state == STATE_WRONG ? LEFT_FOUND : status;
    }
    return status;
}

const struct command command_doctor = {
    .name = "doctor",
    .question = "Is it loaded, will it work, why not?",
    .synopsis = "[--json] [--root DIRECTORY] [PID|PROGRAM]",
    .usage = "  --json            as JSON\n"
             "  --root DIRECTORY  look at /proc and /sys below it, where a container has its host's\n"
             "\n"
             "Of a process: whether allot is in it, and if not, why. Of a program: whether it can be. Of neither: the "
             "machine.\n"
             "It leaves with 2 when something is wrong.\n",
    .run = run,
};
