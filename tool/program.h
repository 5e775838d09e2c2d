/* SPDX-License-Identifier: MIT */
/* program.h - what a file is that somebody wants to run, and whether a preloaded allot could be its malloc. */
#ifndef TOOL_PROGRAM_H
#define TOOL_PROGRAM_H

#include "tool.h"

struct program {
    char *path;         /* as it is found: with a folder, otherwise from PATH */
    char *script_of;    /* the interpreter of a script, NULL when it is none; what follows is then the interpreter's */
    char *binary;       /* the ELF file that the kernel starts */
    bool is_launcher;   /* env, sh and the like, or a script: what matters is what it starts */
    bool is_static;     /* no dynamic linker: nothing can be preloaded */
    bool is_privileged; /* set-uid, set-gid or with capabilities, and not ours already: the linker ignores LD_PRELOAD */
    bool is_other_machine; /* built for another processor or word size than this tool */
    bool is_other_libc;    /* its dynamic linker is not the one of this tool's libc */
    bool has_own_malloc;   /* it defines and exports malloc, which comes before anything preloaded */
    bool has_allot;        /* it is linked to liballot, in whichever way */
    char *linker;          /* its dynamic linker */
    char *allocator;       /* the first library it needs that is another malloc; NULL */
};

/* Looks for name as execvp does. 0, or the errno of what is wrong: ENOENT, EACCES, ENOEXEC. */
int program_find(const char *name, struct program *out);
void program_free(struct program *program);

/* Why a preloaded allot can't be its malloc, and what to do instead; NULL when it can. */
const char *program_refusal(const struct program *program);

/* Which malloc a library is, by its file's name: "jemalloc" for libjemalloc.so.2. NULL when it is none that is known.
 */
const char *allocator_named(const char *path);

#endif
