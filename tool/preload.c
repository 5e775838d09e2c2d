/* SPDX-License-Identifier: MIT */
/* preload.c - see preload.h. */
#include "preload.h"
#include "options_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- LD_PRELOAD --------------------------------------------------------------------------------------------- */

static bool is_liballot(const char *path, size_t length)
{
    size_t begin = length;
    while (begin > 0 && path[begin - 1] != '/') {
        begin--;
    }
    return length - begin >= 11 && strncmp(path + begin, "liballot.so", 11) == 0;
}

char *preload_list(const char *library)
{
    if (strpbrk(library, " :") != NULL) {
        complain("LD_PRELOAD can't name %s: spaces and colons separate its files; move the library", library);
        return NULL;
    }
    char *list = take_copy(library);
    const char *rest = getenv("LD_PRELOAD");
    rest = rest == NULL ? "" : rest + strspn(rest, " :");
    while (*rest != '\0') {
        size_t length = strcspn(rest, " :");
        if (!is_liballot(rest, length)) {
            char *longer = take_text("%s:%.*s", list, (int)length, rest);
            free(list);
            list = longer;
        }
        rest += length;
        rest += strspn(rest, " :");
    }
    return list;
}

/* ---- options ------------------------------------------------------------------------------------------------ */

void options_add(char **options, const char *name, const char *value)
{
    bool first = *options == NULL || (*options)[0] == '\0';
    char *longer = take_text("%s%s%s%s%s", first ? "" : *options, first ? "" : ",", name, value == NULL ? "" : "=",
                             value == NULL ? "" : value);
    free(*options);
    *options = longer;
}

struct option *options_as_flags(const struct option *own)
{
    size_t n = 0;
    while (own[n].name != NULL) {
        n++;
    }
    struct option *all = take_memory((n + n_option_entries + 1) * sizeof *all);
    memcpy(all, own, n * sizeof *all);
    for (size_t i = 0; i < n_option_entries; i++) {
        const struct option_entry *entry = &option_entries[i];
        bool taken = strcmp(entry->name, "help") == 0;
        for (size_t j = 0; own[j].name != NULL; j++) {
            taken = taken || strcmp(own[j].name, entry->name) == 0;
        }
        if (taken) {
            continue; /* the subcommand means something of its own by it */
        }
        char *name = take_copy(entry->name);
        for (char *c = name; *c != '\0'; c++) {
            *c = *c == '_' ? '-' : *c;
        }
        bool may_stand_alone = strcmp(entry->kind, "bool") == 0 || strcmp(entry->kind, "mode") == 0;
        int argument = may_stand_alone ? optional_argument : required_argument;
        all[n++] = (struct option){name, argument, NULL, OPTION_FLAG + (int)i};
    }
    return all;
}

void options_add_flag(char **options, int found, const char *value)
{
    options_add(options, option_entries[found - OPTION_FLAG].name, value);
}

/* This very program, with the library and the options, and its complaints in a pipe. */
_Noreturn static void be_asked(const char *library, const char *options, const int said[2])
{
    char *arguments[] = {"allot", "--version", NULL};
    dup2(said[1], STDERR_FILENO);
    close(said[0]);
    close(said[1]);
    setenv("LD_PRELOAD", library, 1);
    setenv("ALLOT_OPTIONS", options, 1);
    if (freopen("/dev/null", "w", stdout) != NULL) {
        execv("/proc/self/exe", arguments);
    }
    _exit(LEFT_FAILED);
}

static bool is_objection(const char *line)
{
    static const char *const begins[] = {"allot: option", "allot: ALLOT_OPTIONS", "ERROR: ld.so"};
    for (size_t i = 0; i < sizeof begins / sizeof begins[0]; i++) {
        if (strncmp(line, begins[i], strlen(begins[i])) == 0) {
            return strstr(line, " takes these") == NULL; /* the head of option help's table */
        }
    }
    return false;
}

static char *read_objections(FILE *lines)
{
    char *all = NULL;
    char *line = NULL;
    size_t capacity = 0;
    while (getline(&line, &capacity, lines) > 0) {
        if (is_objection(line)) {
            char *longer = take_text("%s%s", all == NULL ? "" : all, line);
            free(all);
            all = longer;
        }
    }
    free(line);
    return all;
}

char *preload_objections(const char *library, const char *options)
{
    int said[2];
    if (pipe(said) != 0) {
        return take_text("allot: no pipe to ask %s: %s\n", library, strerror(errno));
    }
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        be_asked(library, options, said);
    }
    close(said[1]);
    FILE *lines = fdopen(said[0], "r");
    char *all = lines == NULL ? NULL : read_objections(lines);
    if (lines != NULL) {
        fclose(lines);
    }
    if (child > 0) {
        waitpid(child, NULL, 0);
    }
    return all;
}

/* ---- the program -------------------------------------------------------------------------------------------- */

int preload_find(const char *name, struct program *out)
{
    int error = program_find(name, out);
    if (error == ENOENT) {
        complain("%s: there is no such program", name);
        return 127;
    }
    if (error != 0) {
        complain("%s: %s", name,
                 error == ENOEXEC ? "it is no program that this system can run, or a damaged one" : strerror(error));
        return 126;
    }
    const char *refusal = program_refusal(out);
    if (refusal != NULL) {
        complain("%s: %s", out->binary, refusal);
        return 126;
    }
    return 0;
}
