/* SPDX-License-Identifier: MIT */
/* say.c - complaints, arguments, memory, and how the command leaves. */
#include "tool.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct command *current; /* NULL before the subcommand is known */

void command_begin(const struct command *command)
{
    current = command;
}

void command_print_help(FILE *out, const struct command *command)
{
    int at = fprintf(out, "allot %s ", command->name);
    print_wrapped(out, (size_t)at, 6, command->synopsis);
    fprintf(out, "\n");
    print_wrapped(out, 0, 0, command->question);
    fprintf(out, "\n");
    const char *line = command->usage;
    while (*line != '\0') { /* a line each; what follows two spaces in a row is the option's meaning */
        size_t length = strcspn(line, "\n");
        char *copy = take_memory(length + 1);
        memcpy(copy, line, length);
        size_t indent = strspn(copy, " ");
        char *meaning = strstr(copy + indent, "  ");
        if (meaning != NULL) {
            meaning += strspn(meaning, " ");
        }
        if (meaning != NULL && (size_t)(meaning - copy) < terminal_width() / 2) {
            fprintf(out, "%.*s", (int)(meaning - copy), copy);
            print_wrapped(out, (size_t)(meaning - copy), (size_t)(meaning - copy), meaning);
        } else {
            fprintf(out, "%*s", (int)indent, "");
            print_wrapped(out, indent, indent + 6, copy + indent);
        }
        free(copy);
        line += length + (line[length] == '\n');
    }
}

/* ---- complaints --------------------------------------------------------------------------------------------- */

static void complain_list(const char *format, va_list list)
{
    fflush(stdout);
    fprintf(stderr, "allot: ");
    if (current != NULL) {
        fprintf(stderr, "%s: ", current->name);
    }
    vfprintf(stderr, format, list);
    fprintf(stderr, "\n");
}

int complain(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    complain_list(format, list);
    va_end(list);
    return LEFT_FAILED;
}

int misused(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    complain_list(format, list);
    va_end(list);
    fprintf(stderr, "allot: right is: %s%s\n", current == NULL ? "allot help" : "allot help ",
            current == NULL ? "" : current->name);
    return LEFT_MISUSED;
}

_Noreturn void leave(int status)
{
    errno = 0;
    bool failed = ferror(stdout) != 0;
    failed = fflush(stdout) != 0 || failed;
    int error = errno;
    if (failed && error != EPIPE && status == LEFT_WELL) {
        status = complain("could not write all of the answer: %s", strerror(error == 0 ? EIO : error));
    } else if (failed && status == LEFT_WELL) {
        status = LEFT_FAILED; /* the reader has gone and knows it */
    }
    _exit(status);
}

/* ---- arguments ---------------------------------------------------------------------------------------------- */

#define MOST_OPTIONS 160

/* longs with a row for --help behind its own. */
static void with_help(struct option out[MOST_OPTIONS], const struct option *longs)
{
    size_t n = 0;
    while (longs[n].name != NULL && n + 2 < MOST_OPTIONS) {
        out[n] = longs[n];
        n++;
    }
    out[n] = (struct option){.name = "help", .val = -2};
    out[n + 1] = (struct option){.name = NULL};
}

int next_option(int argc, char **argv, const char *shorts, const struct option *longs)
{
    char quiet_shorts[128];
    struct option all[MOST_OPTIONS];
    with_help(all, longs);
    bool stop_at_first = shorts[0] == '+'; /* what follows the first argument is another program's */
    snprintf(quiet_shorts, sizeof quiet_shorts, "%s:h%s", stop_at_first ? "+" : "", shorts + stop_at_first);
    opterr = 0;
    int before = optind;
    int found = getopt_long(argc, argv, quiet_shorts, all, NULL);
    if (found == 'h' || found == -2) {
        command_print_help(stdout, current);
        leave(LEFT_WELL);
    }
    if (found != '?' && found != ':') {
        return found;
    }
    const char *written = argv[optind > before ? optind - 1 : before];
    char letter[3] = {'-', (char)optopt, '\0'};
    if (optopt > 0 && optopt < 256 && strncmp(written, "--", 2) != 0) {
        written = letter;
    }
    if (found == ':') {
        misused("option %s needs a value", written);
    } else {
        misused("option %s is unknown, ambiguous, or takes no value", written);
    }
    return '?';
}

bool parse_number(const char *text, const char *what, uint64_t least, uint64_t most, uint64_t *out)
{
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0) {
        misused("%s \"%s\" is not a whole number", what, text);
        return false;
    }
    if (n < least || n > most) {
        misused("%s %s is not in %llu to %llu", what, text, (unsigned long long)least, (unsigned long long)most);
        return false;
    }
    *out = n;
    return true;
}

/* ---- memory ------------------------------------------------------------------------------------------------- */

static void *must(void *block)
{
    if (block == NULL) {
        complain("no memory");
        _exit(LEFT_FAILED);
    }
    return block;
}

void *take_memory(size_t size_bytes)
{
    return must(calloc(1, size_bytes == 0 ? 1 : size_bytes));
}

void *take_more(void *block, size_t size_bytes)
{
    return must(realloc(block, size_bytes == 0 ? 1 : size_bytes));
}

char *take_copy(const char *s)
{
    return must(strdup(s));
}

char *take_text(const char *format, ...)
{
    char *text = NULL;
    va_list list;
    va_start(list, format);
    int length = vasprintf(&text, format, list);
    va_end(list);
    return must(length < 0 ? NULL : text);
}

/* ---- the library -------------------------------------------------------------------------------------------- */

/* The whole path, with the name that it was asked by: liballot.so.1, and not what that is a link to at the moment. */
static char *path_of(const char *wanted)
{
    const char *slash = strrchr(wanted, '/');
    const char *name = slash == NULL ? wanted : slash + 1;
    char *folder = slash == NULL ? take_copy(".") : take_text("%.*s/", (int)(slash - wanted), wanted);
    char *whole = access(wanted, R_OK) != 0 ? NULL : realpath(folder, NULL);
    char *path = whole == NULL ? NULL : take_text("%s/%s", whole, name);
    free(folder);
    free(whole);
    return path;
}

char *library_path(void)
{
    const char *chosen = getenv("ALLOT_LIBRARY");
    if (chosen != NULL && chosen[0] != '\0') {
        char *path = path_of(chosen);
        if (path == NULL) {
            complain("ALLOT_LIBRARY=%s: %s", chosen, strerror(errno));
        }
        return path;
    }
    char own[4096];
    ssize_t length = readlink("/proc/self/exe", own, sizeof own - 1);
    if (length < 0) {
        complain("/proc/self/exe can't be read (%s); name the library: ALLOT_LIBRARY=/path/to/liballot.so.1",
                 strerror(errno));
        return NULL;
    }
    own[length] = '\0';
    *strrchr(own, '/') = '\0';
    /* Where it is installed; and in the build tree. */
    static const char *const places[] = {TOOL_TO_LIBRARY, "../liballot.so.1"};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        char *wanted = take_text("%s/%s", own, places[i]);
        char *path = path_of(wanted);
        free(wanted);
        if (path != NULL) {
            return path;
        }
    }
    complain("no liballot.so.1 in %s/%s; name it: ALLOT_LIBRARY=/path/to/liballot.so.1", own, TOOL_TO_LIBRARY);
    return NULL;
}
