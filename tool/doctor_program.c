/* SPDX-License-Identifier: MIT */
/* doctor_program.c - whether allot can be in a program, and whether it is in a process. */
#include "doctor.h"
#include "program.h"
#include "symbols.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- a program ---------------------------------------------------------------------------------------------- */

static void look_at_debug_info(struct visit *visit, const char *binary)
{
    struct symbols *symbols = symbols_open();
    const char *missing = symbols_missing(symbols, binary, NULL);
    char *build_id = symbols_build_id(binary);
    if (missing != NULL) {
        found(visit, STATE_NOTE, "debug info", "install its -dbgsym package, set DEBUGINFOD_URLS, or build with -g",
              "there is none: reports will name functions only where the program exports them%s",
              build_id == NULL ? ", and it has no build-id to find it by" : "");
    } else {
        found(visit, STATE_OK, "debug info", NULL, "it is there");
    }
    free(build_id);
    symbols_close(symbols);
}

static void look_at_malloc(struct visit *visit, const struct program *program)
{
    if (program->has_allot) {
        found(visit, STATE_OK, "malloc", NULL, "the program is linked to allot");
    } else if (program->has_own_malloc) {
        found(visit, STATE_WRONG, "malloc", "build it without its own malloc",
              "it exports one of its own, which comes before "
              "anything preloaded");
    } else if (program->allocator != NULL) {
        found(visit, STATE_NOTE, "malloc", NULL,
              "it is linked to %s; preloaded, allot comes before that, and only what it "
              "asks of that by name sees the other heap",
              program->allocator);
    } else {
        found(visit, STATE_OK, "malloc", NULL, "libc's: allot can take its place");
    }
}

static void look_at_binary(struct visit *visit, const struct program *program)
{
    const char *refusal = program_refusal(program);
    if (refusal != NULL) {
        found(visit, STATE_WRONG, "program", NULL, "%s: %s", program->binary, refusal);
        return;
    }
    if (program->script_of != NULL) {
        found(visit, STATE_NOTE, "program", NULL,
              "a script that %s runs; allot run gives allot to what the script starts", program->script_of);
    } else {
        found(visit, STATE_OK, "program", NULL, "%s is linked dynamically", program->binary);
    }
    look_at_malloc(visit, program);
}

void look_at_file(struct visit *visit, const char *name)
{
    struct program program;
    int error = program_find(name, &program);
    if (error != 0) {
        found(visit, STATE_WRONG, "program", error == ENOENT ? "give its path, or a name that is in PATH" : NULL,
              "%s: %s", name,
              error == ENOENT    ? "there is no such program"
              : error == ENOEXEC ? "no program that this system can run, or a damaged one"
                                 : strerror(error));
    } else {
        look_at_binary(visit, &program);
        if (program.script_of == NULL) {
            look_at_debug_info(visit, program.binary);
        }
    }
    program_free(&program);
}

/* ---- a process ---------------------------------------------------------------------------------------------- */

/* The file of a line of /proc/PID/maps; NULL when it has none. */
static char *file_of_line(const char *line, size_t length)
{
    const char *slash = memchr(line, '/', length);
    return slash == NULL ? NULL : take_text("%.*s", (int)(length - (size_t)(slash - line)), slash);
}

struct loaded {
    char *allot;     /* the file that liballot was loaded from; with " (deleted)" when it has gone */
    char *core;      /* liballot_core */
    char *allocator; /* another malloc */
};

static void keep_file(struct loaded *loaded, char *file)
{
    const char *name = strrchr(file, '/') + 1;
    char **slot = strncmp(name, "liballot.so", 11) == 0        ? &loaded->allot
                  : strncmp(name, "liballot_core.so", 16) == 0 ? &loaded->core
                  : allocator_named(file) != NULL              ? &loaded->allocator
                                                               : NULL;
    if (slot != NULL && *slot == NULL) {
        *slot = file;
    } else {
        free(file);
    }
}

static struct loaded read_loaded(const char *maps)
{
    struct loaded loaded = {.allot = NULL};
    while (*maps != '\0') {
        size_t length = strcspn(maps, "\n");
        char *file = file_of_line(maps, length);
        if (file != NULL) {
            keep_file(&loaded, file);
        }
        maps += length + (maps[length] == '\n');
    }
    return loaded;
}

/* The value of a variable that the process was started with; NULL when it has none or that can't be seen. */
static char *environment_of(const struct visit *visit, const char *name)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/proc/%d/environ", visit->root, visit->pid);
    FILE *file = fopen(path, "re");
    char *entry = NULL;
    char *value = NULL;
    size_t capacity = 0;
    size_t length = strlen(name);
    while (file != NULL && value == NULL && getdelim(&entry, &capacity, '\0', file) > 0) {
        if (strncmp(entry, name, length) == 0 && entry[length] == '=') {
            value = take_copy(entry + length + 1);
        }
    }
    free(entry);
    if (file != NULL) {
        fclose(file);
    }
    return value;
}

/* Why what LD_PRELOAD names is not there: it is no file, seen from the process's own root. */
static bool preload_is_missing(const struct visit *visit, const char *preload, char **missing)
{
    const char *name = strstr(preload, "liballot.so");
    if (name == NULL) {
        return false;
    }
    const char *begin = name;
    while (begin > preload && begin[-1] != ':' && begin[-1] != ' ') {
        begin--;
    }
    *missing = take_text("%.*s", (int)strcspn(begin, " :"), begin);
    char *path = take_text("%s/proc/%d/root/%s", visit->root, visit->pid, *missing);
    bool gone = (*missing)[0] == '/' && access(path, R_OK) != 0;
    free(path);
    return gone;
}

static void explain_absence(struct visit *visit, const struct program *program)
{
    char *preload = environment_of(visit, "LD_PRELOAD");
    char *missing = NULL;
    const char *refusal = program_refusal(program);
    if (refusal != NULL) {
        found(visit, STATE_WRONG, "loaded", NULL, "no: %s", refusal);
    } else if (preload == NULL || strstr(preload, "liballot.so") == NULL) {
        found(visit, STATE_WRONG, "loaded", "start it with allot run; allot run --print shows how for a service",
              "no: LD_PRELOAD didn't name liballot when the program was started");
    } else if (preload_is_missing(visit, preload, &missing)) {
        found(visit, STATE_WRONG, "loaded",
              "put the library where the process can see it, in its container for example",
              "no: LD_PRELOAD names %s, which is not there for the process", missing);
    } else {
        found(visit, STATE_WRONG, "loaded", "start it from a shell: ld.so says on standard error why",
              "no, though LD_PRELOAD is %s", preload);
    }
    free(preload);
    free(missing);
}

static void look_at_loaded(struct visit *visit, const struct loaded *loaded, const struct program *program)
{
    if (loaded->allot != NULL && strstr(loaded->allot, " (deleted)") != NULL) {
        found(visit, STATE_NOTE, "loaded", "restart the process to get the one that is installed now",
              "yes, %s: another one has been installed since", loaded->allot);
    } else if (loaded->allot != NULL) {
        found(visit, STATE_OK, "loaded", NULL, "yes, %s", loaded->allot);
    } else if (program->has_allot) {
        found(visit, STATE_OK, "loaded", NULL, "yes, linked statically");
    } else if (loaded->core != NULL) {
        found(visit, STATE_NOTE, "loaded", NULL, "%s: the program uses allot beside its own malloc", loaded->core);
    } else {
        explain_absence(visit, program);
    }
    if (loaded->allocator != NULL && (loaded->allot != NULL || program->has_allot)) {
        found(visit, STATE_NOTE, "malloc", NULL, "%s is there too; what asks it by name gets its heap",
              loaded->allocator);
    } else if (loaded->allocator != NULL) {
        found(visit, STATE_NOTE, "malloc", NULL, "it is %s", loaded->allocator);
    }
}

int look_at_process(struct visit *visit)
{
    char *path = take_text("%s/proc/%d", visit->root, visit->pid);
    bool there = access(path, F_OK) == 0;
    free(path);
    if (!there) {
        return complain("there is no process %d; pgrep NAME finds one", visit->pid);
    }
    char *maps = read_process_text(visit, "maps");
    if (maps == NULL) {
        return complain("process %d can't be looked at (%s); try as its user or as root", visit->pid, strerror(errno));
    }
    if (maps[0] == '\0') {
        free(maps);
        return complain("process %d has no memory of its own: it has ended, or is the kernel's", visit->pid);
    }
    struct program program;
    char *exe = take_text("%s/proc/%d/exe", visit->root, visit->pid);
    int error = program_find(exe, &program);
    struct loaded loaded = read_loaded(maps);
    if (error == 0 || loaded.allot != NULL) {
        look_at_loaded(visit, &loaded, &program);
        look_at_debug_info(visit, exe);
    } else {
        found(visit, STATE_NOTE, "program", "try as its user or as root", "%s can't be read: %s", exe, strerror(error));
    }
    program_free(&program);
    free(loaded.allot);
    free(loaded.core);
    free(loaded.allocator);
    free(exe);
    free(maps);
    return LEFT_WELL;
}
