/* SPDX-License-Identifier: MIT */
/* doctor.h - what allot doctor finds, and where it looks. doctor.c gathers and prints, doctor_system.c looks at the
 * machine and at limits, doctor_program.c at a file or a process. */
#ifndef TOOL_DOCTOR_H
#define TOOL_DOCTOR_H

#include "tool.h"

#include <sys/types.h>

enum state {
    STATE_OK,
    STATE_NOTE, /* worth knowing; allot works */
    STATE_WRONG /* allot doesn't work, or not as it should */
};

struct finding {
    enum state state;
    const char *name;
    char *what;
    const char *todo; /* NULL when there is nothing to do */
};

struct visit {
    const char *root; /* before /proc and /sys; "" */
    pid_t pid;        /* 0: no process */
    char *library;    /* NULL when it was not found */
    struct finding *findings;
    size_t n;
};

void found(struct visit *visit, enum state state, const char *name, const char *todo, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* A file below the visit's root, whole; NULL and errno when it can't be read. The caller frees it. */
char *read_text(const struct visit *visit, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same with /proc/PID/ before it, or /proc/self/. */
char *read_process_text(const struct visit *visit, const char *name);

void look_at_system(struct visit *visit);
void look_at_file(struct visit *visit, const char *name);
/* 0, or LEFT_FAILED after a complaint when there is nothing to look at. */
int look_at_process(struct visit *visit);

#endif
