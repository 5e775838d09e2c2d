/* SPDX-License-Identifier: MIT */
/* check.c - allot check: any heap bug?
 *
 * The library finds and tells; this starts the program in check mode, and listens. Reports come through a pipe that the
 * program's processes open by its name below /proc (option report_file): as text they go on to standard error, as JSON
 * they are gathered into one document. So it is known whether there were any, however the program ended.
 * SARIF and JUnit are written by the library, which can put a report into a document.
 */
#include "check_lines.h"
#include "json.h"
#include "preload.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum form { FORM_TEXT, FORM_JSON, FORM_SARIF, FORM_JUNIT };

struct request {
    char *options; /* as ALLOT_OPTIONS has it */
    enum form form;
    char *file; /* whole path; NULL with FORM_TEXT */
    bool full;
    bool leaks;
    bool children;
    char **command;
};

struct reports {
    char *text; /* all of them; as JSON a line each */
    size_t length;
};

/* ---- arguments ---------------------------------------------------------------------------------------------- */

/* The path as the program will find it, wherever it goes to. NULL after a complaint. */
static char *whole_path(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash == NULL ? path : slash + 1;
    char *folder = slash == NULL ? take_copy(".") : take_text("%.*s/", (int)(slash - path), path);
    char *whole = realpath(folder, NULL);
    free(folder);
    if (whole == NULL) {
        complain("%s: %s", path, strerror(errno));
        return NULL;
    }
    char *result = take_text("%s/%s", whole, name);
    free(whole);
    if (strpbrk(result, ", \t\n") != NULL) {
        complain("%s: a name with spaces or commas can't stand in ALLOT_OPTIONS", result);
        free(result);
        return NULL;
    }
    return result;
}

/* A fresh file: the library appends. */
static bool choose_form(struct request *request, enum form form, const char *path)
{
    struct stat status;
    if (request->form != FORM_TEXT) {
        misused("one of --json, --sarif and --junit at a time");
        return false;
    }
    request->form = form;
    request->file = whole_path(path);
    if (request->file != NULL && lstat(request->file, &status) == 0 && S_ISREG(status.st_mode)) {
        unlink(request->file);
    }
    return request->file != NULL;
}

enum {
    FLAG_LEAKS = 1,
    FLAG_SUPPRESS,
    FLAG_OWN,
    FLAG_JSON,
    FLAG_SARIF,
    FLAG_JUNIT,
    FLAG_HALT,
    FLAG_CONTINUE,
    FLAG_FULL,
    FLAG_CHILDREN
};

static const struct option own_flags[] = {
    {"leaks", no_argument, NULL, FLAG_LEAKS},
    {"suppress", required_argument, NULL, FLAG_SUPPRESS},
    {"own", required_argument, NULL, FLAG_OWN},
    {"json", required_argument, NULL, FLAG_JSON},
    {"sarif", required_argument, NULL, FLAG_SARIF},
    {"junit", required_argument, NULL, FLAG_JUNIT},
    {"halt", no_argument, NULL, FLAG_HALT},
    {"continue", no_argument, NULL, FLAG_CONTINUE},
    {"full", no_argument, NULL, FLAG_FULL},
    {"children", no_argument, NULL, FLAG_CHILDREN},
    {NULL, 0, NULL, 0},
};

/* To the files that ALLOT_SUPPRESSIONS names, with colons between them. */
static bool add_suppressions(const char *path)
{
    const char *before = getenv("ALLOT_SUPPRESSIONS");
    char *whole = realpath(path, NULL);
    if (whole == NULL || access(whole, R_OK) != 0) {
        complain("%s: %s", path, strerror(errno));
        free(whole);
        return false;
    }
    char *all = before == NULL || before[0] == '\0' ? take_copy(whole) : take_text("%s:%s", before, whole);
    setenv("ALLOT_SUPPRESSIONS", all, 1);
    free(all);
    free(whole);
    return true;
}

static bool take_flag(struct request *request, int found)
{
    switch (found) {
    case FLAG_LEAKS:
        request->leaks = true;
        return true;
    case FLAG_SUPPRESS:
        return add_suppressions(optarg);
    case FLAG_HALT:
    case FLAG_CONTINUE:
        options_add(&request->options, "halt", found == FLAG_HALT ? "1" : "0");
        return true;
    case FLAG_OWN:
        options_add(&request->options, "only", optarg);
        return true;
    case FLAG_JSON:
        return choose_form(request, FORM_JSON, optarg);
    case FLAG_SARIF:
        return choose_form(request, FORM_SARIF, optarg);
    case FLAG_JUNIT:
        return choose_form(request, FORM_JUNIT, optarg);
    case FLAG_FULL:
        request->full = true;
        return true;
    case FLAG_CHILDREN:
        request->children = true;
        return true;
    default:
        return false;
    }
}

static bool parse(int argc, char **argv, struct request *request)
{
    struct option *all = options_as_flags(own_flags);
    int found;
    while ((found = next_option(argc, argv, "+", all)) != -1) {
        if (found >= OPTION_FLAG) {
            options_add_flag(&request->options, found, optarg);
        } else if (!take_flag(request, found)) {
            return false;
        }
    }
    request->command = argv + optind;
    if (request->command[0] == NULL) {
        misused("which program?");
        return false;
    }
    return true;
}

/* ---- the program -------------------------------------------------------------------------------------------- */

/* Behind what the user said, so that nothing in ALLOT_OPTIONS turns it off. */
static void add_own_options(struct request *request, const struct program *program, int pipe_end)
{
    static const char *const forms[] = {
        [FORM_TEXT] = "text", [FORM_JSON] = "json", [FORM_SARIF] = "sarif", [FORM_JUNIT] = "junit"};
    char number[16];
    snprintf(number, sizeof number, "%d", LEFT_FOUND);
    options_add(&request->options, "check", request->full ? "full" : "on");
    options_add(&request->options, "exit_code", number);
    if (request->leaks) {
        options_add(&request->options, "leaks", NULL);
        options_add(&request->options, "leaks_code", number);
    }
    options_add(&request->options, "report", forms[request->form]);
    char *pipe_path = take_text("/proc/%d/fd/%d", getpid(), pipe_end);
    bool by_library = request->form == FORM_SARIF || request->form == FORM_JUNIT;
    options_add(&request->options, "report_file", by_library ? request->file : pipe_path);
    free(pipe_path);
    char *self = realpath("/proc/self/exe", NULL);
    if (self != NULL && strpbrk(self, ", \t\n") == NULL) {
        options_add(&request->options, "symbols", self);
    }
    free(self);
    if (!request->children && !program->is_launcher) {
        options_add(&request->options, "children", "0");
    }
}

static volatile sig_atomic_t listened_to; /* the program's process, once it is there */

/* SIGCHLD only ends a wait; the others are meant for the program. */
static void pass_on(int signal)
{
    if (signal != SIGCHLD && listened_to != 0) {
        kill(listened_to, signal);
    }
}

/* What the terminal sends goes to the program as well; it decides. The rest is passed on while this waits. */
static sigset_t prepare_signals(void)
{
    static const int passed[] = {SIGCHLD, SIGTERM, SIGHUP};
    struct sigaction handled = {.sa_handler = pass_on};
    sigset_t blocked;
    sigset_t before;
    sigemptyset(&blocked);
    for (size_t i = 0; i < sizeof passed / sizeof passed[0]; i++) {
        sigaddset(&blocked, passed[i]);
        sigaction(passed[i], &handled, NULL);
    }
    sigprocmask(SIG_BLOCK, &blocked, &before);
    signal(SIGINT, SIG_IGN);
    signal(SIGQUIT, SIG_IGN);
    return before;
}

/* The pipes that this listens at. */
struct channels {
    int reports[2];
    int errors[2]; /* the program's standard error, where lines of it have to be changed; otherwise -1 */
};

static bool open_channels(struct channels *channels, bool listens_to_errors)
{
    channels->errors[0] = channels->errors[1] = -1;
    if (pipe2(channels->reports, O_NONBLOCK | O_CLOEXEC) != 0) {
        return false;
    }
    return !listens_to_errors ||
           (pipe2(channels->errors, O_CLOEXEC) == 0 && fcntl(channels->errors[0], F_SETFL, O_NONBLOCK) == 0);
}

_Noreturn static void become(const struct request *request, const struct program *program, const char *preload,
                             const struct channels *channels, const sigset_t *signals)
{
    signal(SIGINT, SIG_DFL); /* handlers go by themselves */
    signal(SIGQUIT, SIG_DFL);
    sigprocmask(SIG_SETMASK, signals, NULL);
    if (channels->errors[1] >= 0) {
        dup2(channels->errors[1], STDERR_FILENO);
    }
    if (!program->has_allot) {
        setenv("LD_PRELOAD", preload, 1);
    }
    setenv("ALLOT_OPTIONS", request->options, 1);
    execv(program->path, request->command);
    complain("%s: %s", program->path, strerror(errno));
    _exit(126);
}

/* Passes on or gathers what has come; false when nothing has. */
static bool take_report(const struct request *request, struct reports *reports, int file)
{
    char text[65536];
    ssize_t n = read(file, text, sizeof text);
    if (n <= 0) {
        return false;
    }
    if (request->form == FORM_TEXT) {
        fwrite(text, 1, (size_t)n, stderr);
    }
    reports->text = take_more(reports->text, reports->length + (size_t)n + 1);
    memcpy(reports->text + reports->length, text, (size_t)n);
    reports->length += (size_t)n;
    reports->text[reports->length] = '\0';
    return true;
}

/* Until the program has ended; returns its status as wait gives it. */
static int listen_to(const struct request *request, struct reports *reports, const struct channels *channels,
                     pid_t child, const sigset_t *signals)
{
    listened_to = child;
    struct pollfd come[] = {{.fd = channels->reports[0], .events = POLLIN},
                            {.fd = channels->errors[0], .events = POLLIN}};
    struct lines lines = {.length = 0};
    int status = 0;
    while (waitpid(child, &status, WNOHANG) == 0) {
        if (ppoll(come, 2, NULL, signals) > 0) {
            lines_take(&lines, channels->errors[0]);
            take_report(request, reports, channels->reports[0]);
        }
    }
    while (lines_take(&lines, channels->errors[0]) || take_report(request, reports, channels->reports[0])) {
    }
    lines_end(&lines);
    return status;
}

/* ---- what was found ----------------------------------------------------------------------------------------- */

static FILE *open_file(const char *path)
{
    FILE *out = fopen(path, "we");
    if (out == NULL) {
        complain("%s: %s", path, strerror(errno));
    }
    return out;
}

static bool close_file(FILE *out, const char *path)
{
    bool failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed) {
        complain("%s: %s", path, strerror(errno));
        return false;
    }
    return true;
}

/* The reports are objects already, one a line. */
static bool write_json(const struct request *request, const struct reports *reports, int status)
{
    FILE *out = open_file(request->file);
    if (out == NULL) {
        return false;
    }
    struct json json = json_begin(out, "check");
    json_array(&json, "program");
    for (char **word = request->command; *word != NULL; word++) {
        json_text(&json, NULL, *word);
    }
    json_close(&json);
    json_number(&json, "status", (uint64_t)status);
    json_array(&json, "findings");
    for (const char *line = reports->text == NULL ? "" : reports->text; *line != '\0';) {
        size_t length = strcspn(line, "\n");
        json_raw(&json, line, length);
        line += length + (line[length] == '\n');
    }
    json_end(&json);
    return close_file(out, request->file);
}

/* For who reads the file whatever it says. */
static bool write_nothing_found(const struct request *request)
{
    FILE *out = open_file(request->file);
    if (out == NULL) {
        return false;
    }
    if (request->form == FORM_SARIF) {
        fprintf(
            out,
            "{\"version\":\"2.1.0\",\"$schema\":\"https://json.schemastore.org/sarif-2.1.0.json\",\"runs\":[{\"tool\":"
            "{\"driver\":{\"name\":\"allot\"}},\"results\":[]}]}\n");
    } else {
        fprintf(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites><testsuite name=\"allot\">\n"
                     "<testcase classname=\"allot\" name=\"nothing found\"/>\n</testsuite></testsuites>\n");
    }
    return close_file(out, request->file);
}

static bool has_contents(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && status.st_size > 0;
}

/* How to leave: 2 when anything was found, otherwise as the program did. */
static int conclude(const struct request *request, const struct reports *reports, int status)
{
    bool by_library = request->form == FORM_SARIF || request->form == FORM_JUNIT;
    bool any = reports->length > 0 || (by_library && has_contents(request->file));
    int left = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    if (WIFSIGNALED(status)) {
        complain("the program ended by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    }
    if (!any && left != LEFT_FOUND) {
        fprintf(stderr, "allot: check: nothing was found\n");
    }
    if (request->form == FORM_JSON && !write_json(request, reports, left)) {
        return LEFT_FAILED;
    }
    if (by_library && !any && !write_nothing_found(request)) {
        return LEFT_FAILED;
    }
    return any ? LEFT_FOUND : left;
}

static int start(struct request *request, const struct program *program, const char *library, const char *preload)
{
    struct channels channels;
    if (!open_channels(&channels, request->leaks)) {
        return complain("no pipe for the reports: %s", strerror(errno));
    }
    add_own_options(request, program, channels.reports[1]);
    char *objections = preload_objections(library, request->options);
    if (objections != NULL) {
        fputs(objections, stderr);
        complain("nothing was started; what may be set: allot options");
        return LEFT_MISUSED;
    }
    sigset_t signals = prepare_signals();
    fflush(NULL);
    pid_t child = fork();
    if (child < 0) {
        return complain("no process could be made: %s", strerror(errno));
    }
    if (child == 0) {
        become(request, program, preload, &channels, &signals);
    }
    struct reports reports = {.length = 0};
    int status = listen_to(request, &reports, &channels, child, &signals);
    return conclude(request, &reports, status);
}

static int run(int argc, char **argv)
{
    struct request request = {.form = FORM_TEXT};
    const char *before = getenv("ALLOT_OPTIONS");
    if (before != NULL && before[0] != '\0') {
        options_add(&request.options, before, NULL);
    }
    if (!parse(argc, argv, &request)) {
        return LEFT_MISUSED;
    }
    struct program program;
    int refused = preload_find(request.command[0], &program);
    if (refused != 0) {
        return refused;
    }
    char *library = library_path();
    char *preload = library == NULL ? NULL : preload_list(library);
    return preload == NULL ? 125 : start(&request, &program, library, preload);
}

const struct command command_check = {
    .name = "check",
    .question = "Any heap bug?",
    .synopsis = "[OPTION]... [--] PROGRAM [ARGUMENT]...",
    .usage = "  --continue       go on after a bug where that is safe\n"
             "  --halt           end at the first bug (the default)\n"
             "  --leaks          at exit, tell what nothing points to any more\n"
             "  --suppress FILE  leaks that are not told, in LeakSanitizer's or Valgrind's form\n"
             "  --full           guard pages around every block: slower, and finds bad reads too\n"
             "  --own GLOB       only what has a module of this name on its stack\n"
             "  --json FILE      the findings as JSON\n"
             "  --sarif FILE     the findings as SARIF, for code scanning\n"
             "  --junit FILE     the findings as JUnit, for test runners\n"
             "  --children       the programs that it starts are checked too\n"
             "  --NAME=VALUE     any option that allot options shows, with - for _\n"
             "\n"
             "It leaves with 2 when anything was found, otherwise with what the program leaves with.\n",
    .run = run,
};
