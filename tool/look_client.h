/* SPDX-License-Identifier: MIT */
/* look_client.h - asks a process over the socket that it has opened for that (options look and look_signal).
 *
 * The process says "allot VERSION look FORMAT", then answers each line with lines, the last of them "end". The words of
 * the answers stand in src/look/answer.c.
 */
#ifndef TOOL_LOOK_CLIENT_H
#define TOOL_LOOK_CLIENT_H

#include "heap_view.h"

#include <stdio.h>

struct look {
    FILE *in; /* NULL: no connection */
    int fd;
    char version[24];
};

enum look_error { LOOK_NO_SOCKET, LOOK_NO_ANSWER, LOOK_OTHER_FORMAT, LOOK_REFUSED, LOOK_OPEN };

/* Connects, if the process has a socket, answers, and is the one that is meant. */
enum look_error look_open(const struct target *target, struct look *look);
void look_close(struct look *look);
bool look_ask(struct look *look, const char *question);
/* The next line of the answer without its newline; false at its end, or when the process has gone. */
bool look_line(struct look *look, char *line, size_t capacity);

/* Fills an empty view with what the process tells. False after a line that says what to do. */
bool look_view(struct target *target, struct heap_view *view);

#endif
