/* SPDX-License-Identifier: MIT */
/* start.c - what happens when the library is loaded, and when the process ends.
 *
 * The heap works before this constructor and after this destructor. The constructor adds what needs libc to be up: the
 * thread-exit key and the fork handler.
 */
#include "arena/arena.h"
#include "check/check.h"
#include "config/config.h"
#include "gc/gc.h"
#include "heap/heap.h"
#include "look/look.h"
#include "malloc/figures_internal.h"
#include "malloc/malloc_internal.h"
#include "os/os.h"

#include <dlfcn.h>
#include <stdio.h>

#define LEAKS_CODE 23 /* as LeakSanitizer has it */

/* Weak: a static program without it has one library at most. */
__attribute__((weak)) void *dlsym(void *handle, const char *name);

/* Blocks of one library are foreign to the other, though both answer to allot_malloc. */
static void report_twin_library(void)
{
    static const char line[] =
        "allot: both liballot and liballot_core are loaded; each has a heap of its own, and a block "
        "of one must not be freed by the other\n";
    void *first = dlsym == NULL ? NULL : dlsym(RTLD_DEFAULT, "allot_version");
    if (first != NULL && (uintptr_t)first != (uintptr_t)version_here) {
        os_write_error(line, sizeof line - 1);
    }
}

__attribute__((constructor(101))) static void start(void)
{
    config_init();
    heap_start();
    arena_start();
    check_start();
    report_twin_library();
    if (!option(OPT_children)) {
        os_environment_forget_file("LD_PRELOAD", "liballot.so");
    }
    look_start();
    if (option(OPT_help)) {
        config_print(os_write_error);
    }
}

/* What the program has written and not flushed is not lost by that. */
static void end_by_leaks(bool lost, int code)
{
    if (lost && code != 0) {
        fflush(NULL);
        os_exit(code);
    }
}

/* In check mode leaks are misuse. */
static int leaks_code(void)
{
    int code = (int)option(OPT_leaks_code);
    int misuse_code = (int)option(OPT_exit_code);
    return code != 0 ? code : misuse_code != 0 ? misuse_code : LEAKS_CODE;
}

__attribute__((destructor(101))) static void end(void)
{
    look_end();
    if (option(OPT_stats)) {
        figures_print();
    }
    bool lost = check_exit();
    if (option(OPT_leaks) && !check_tells_leaks()) {
        end_by_leaks(gc_leaks_print(), (int)option(OPT_leaks_code));
    }
    end_by_leaks(lost, leaks_code());
}
