/* SPDX-License-Identifier: MIT */
/* run.c - allot run: use allot for this program. */
#include "json.h"
#include "preload.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FLAG_LIMIT = 1, FLAG_CHILDREN, FLAG_PRINT, FLAG_JSON };

enum form { FORM_NONE, FORM_SYSTEMD, FORM_DOCKER, FORM_ENV };

struct request {
    char *flags;   /* what was asked for by flags, as ALLOT_OPTIONS has it */
    char *options; /* what stood in ALLOT_OPTIONS, and the flags */
    char *library;
    char *preload;
    bool children;
    bool as_json;
    enum form form;
    char **command; /* NULL at its end; may be empty */
};

/* ---- how to make it permanent ------------------------------------------------------------------------------- */

static bool parse_form(const char *text, enum form *out)
{
    static const char *const names[] = {[FORM_SYSTEMD] = "systemd", [FORM_DOCKER] = "docker", [FORM_ENV] = "env"};
    for (enum form form = FORM_SYSTEMD; form <= FORM_ENV; form++) {
        if (strcmp(names[form], text) == 0) {
            *out = form;
            return true;
        }
    }
    misused("--print takes systemd, docker or env, not \"%s\"", text);
    return false;
}

static void print_systemd(const struct request *request)
{
    const char *slash = request->command[0] == NULL ? NULL : strrchr(request->command[0], '/');
    const char *name = request->command[0] == NULL ? "NAME" : slash == NULL ? request->command[0] : slash + 1;
    printf("# As root: systemctl edit %s.service, and there:\n"
           "[Service]\nEnvironment=LD_PRELOAD=%s\n",
           name, request->library);
    if (request->flags != NULL) {
        /* A percent sign of its own would begin a specifier. */
        printf("Environment=ALLOT_OPTIONS=");
        for (const char *c = request->flags; *c != '\0'; c++) {
            printf(*c == '%' ? "%%%%" : "%c", *c);
        }
        printf("\n");
    }
    printf("# Then: systemctl restart %s.service; allot doctor PID says whether it is loaded.\n", name);
}

static void print_docker(const struct request *request)
{
    printf("# In the Dockerfile, after the last FROM, for an image with the same libc. The library lies beside the "
           "Dockerfile:\n"
           "#     cp -L %s .\n"
           "COPY liballot.so.1 /usr/local/lib/liballot.so.1\n"
           "ENV LD_PRELOAD=/usr/local/lib/liballot.so.1\n",
           request->library);
    if (request->flags != NULL) {
        printf("ENV ALLOT_OPTIONS=%s\n", request->flags);
    }
}

static void print_env(const struct request *request)
{
    printf("export LD_PRELOAD=%s${LD_PRELOAD:+:$LD_PRELOAD}\n", request->library);
    if (request->flags != NULL) {
        printf("export ALLOT_OPTIONS=%s${ALLOT_OPTIONS:+,$ALLOT_OPTIONS}\n", request->flags);
    }
}

static void print_permanent(const struct request *request)
{
    if (request->form == FORM_SYSTEMD) {
        print_systemd(request);
    } else if (request->form == FORM_DOCKER) {
        print_docker(request);
    } else {
        print_env(request);
    }
}

static void print_json(const struct request *request)
{
    struct json json = json_begin(stdout, "run");
    json_text(&json, "library", request->library);
    json_object(&json, "environment");
    json_text(&json, "LD_PRELOAD", request->preload);
    if (request->options != NULL) {
        json_text(&json, "ALLOT_OPTIONS", request->options);
    }
    json_close(&json);
    json_array(&json, "program");
    for (char **word = request->command; *word != NULL; word++) {
        json_text(&json, NULL, *word);
    }
    json_end(&json);
}

/* ---- running ------------------------------------------------------------------------------------------------ */

static int start(const struct request *request, const struct program *program)
{
    if (program->has_own_malloc) {
        complain("%s has a malloc of its own, which comes before allot's; allot may not be used", program->binary);
    }
    if (!program->has_allot) {
        setenv("LD_PRELOAD", request->preload, 1);
    }
    if (request->options != NULL) {
        setenv("ALLOT_OPTIONS", request->options, 1);
    }
    execv(program->path, request->command);
    complain("%s: %s", program->path, strerror(errno));
    return errno == ENOENT ? 127 : 126;
}

static int parse(int argc, char **argv, struct request *request)
{
    static const struct option own[] = {
        {"limit", required_argument, NULL, FLAG_LIMIT},
        {"children", no_argument, NULL, FLAG_CHILDREN},
        {"print", required_argument, NULL, FLAG_PRINT},
        {"json", no_argument, NULL, FLAG_JSON},
        {NULL, 0, NULL, 0},
    };
    struct option *all = options_as_flags(own);
    int found;
    while ((found = next_option(argc, argv, "+", all)) != -1) {
        if (found == '?' || (found == FLAG_PRINT && !parse_form(optarg, &request->form))) {
            return LEFT_MISUSED;
        }
        if (found >= OPTION_FLAG) {
            options_add_flag(&request->flags, found, optarg);
        } else if (found == FLAG_LIMIT) {
            options_add(&request->flags, "hard_limit", optarg);
        }
        request->children = request->children || found == FLAG_CHILDREN;
        request->as_json = request->as_json || found == FLAG_JSON;
    }
    request->command = argv + optind;
    return LEFT_WELL;
}

/* What stood in ALLOT_OPTIONS, the flags, and whom allot is for. */
static void join_options(struct request *request, const struct program *program)
{
    const char *before = getenv("ALLOT_OPTIONS");
    if (before != NULL && before[0] != '\0') {
        options_add(&request->options, before, NULL);
    }
    if (request->flags != NULL) {
        options_add(&request->options, request->flags, NULL);
    }
    /* A script's interpreter or env would take allot away from the program that it runs in its place. */
    if (!request->children && !program->is_launcher) {
        options_add(&request->options, "children", "0");
    }
}

static int run(int argc, char **argv)
{
    struct request request = {.form = FORM_NONE};
    if (parse(argc, argv, &request) != LEFT_WELL) {
        return LEFT_MISUSED;
    }
    if (request.command[0] == NULL && request.form == FORM_NONE && !request.as_json) {
        return misused("which program?");
    }
    request.library = library_path();
    request.preload = request.library == NULL ? NULL : preload_list(request.library);
    if (request.preload == NULL) {
        return 125;
    }
    char *objections = request.flags == NULL ? NULL : preload_objections(request.library, request.flags);
    if (objections != NULL) {
        fputs(objections, stderr);
        complain("nothing was started; what may be set: allot options");
        return LEFT_MISUSED;
    }
    if (request.form != FORM_NONE) {
        print_permanent(&request);
        return LEFT_WELL;
    }
    struct program program = {.is_launcher = true};
    int refused = request.command[0] == NULL ? 0 : preload_find(request.command[0], &program);
    if (refused != 0) {
        return refused;
    }
    join_options(&request, &program);
    if (request.as_json) {
        print_json(&request);
        return LEFT_WELL;
    }
    return start(&request, &program);
}

const struct command command_run = {
    .name = "run",
    .question = "Use allot for this program.",
    .synopsis = "[OPTION]... [--] PROGRAM [ARGUMENT]...",
    .usage = "  --stats          print at exit where the memory was\n"
             "  --limit SIZE     malloc fails above it: 512m, 2g, 75%\n"
             "  --NAME=VALUE     any option that allot options shows, with - for _\n"
             "  --children       the programs that it starts run on allot too\n"
             "  --print FORM     print how to make it permanent: systemd, docker, env\n"
             "  --json           print what would be run, and in which environment\n"
             "\n"
             "A script, env, sh and the like have --children by themselves, so that it is the right program that gets "
             "allot.\n"
             "It leaves with what the program leaves with; 125 to 127 when it could not be started.\n",
    .run = run,
};
