/* SPDX-License-Identifier: MIT */
/* preload.h - what a program's environment must say for allot to be its malloc. */
#ifndef TOOL_PRELOAD_H
#define TOOL_PRELOAD_H

#include "program.h"

/* LD_PRELOAD with library before what stands there now; another liballot in it goes. NULL after a complaint: the linker
 * would break a path with spaces or colons in two. The caller frees it. */
char *preload_list(const char *library);

/* What is wrong with these options, or with the library itself, in the library's or the linker's own lines: it is
 * started once and asked. NULL when nothing is. The caller frees it. */
char *preload_objections(const char *library, const char *options);

/* Finds the program and complains when it can't be run, or can't be run on allot. 0, or what the shell would leave
 * with: 127 not found, 126 found but can't be run. */
int preload_find(const char *name, struct program *out);

/* A text in the form of ALLOT_OPTIONS that grows. */
void options_add(char **options, const char *name, const char *value); /* value NULL: the bare name */

/* The library's options as flags, --purge-age for purge_age, after the rows of own. getopt gives OPTION_FLAG plus the
 * place in option_entries for them. The caller frees the table. */
#define OPTION_FLAG 1000
struct option *options_as_flags(const struct option *own);
/* Adds what such a flag says. */
void options_add_flag(char **options, int found, const char *value);

#endif
