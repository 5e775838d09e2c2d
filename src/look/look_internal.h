/* SPDX-License-Identifier: MIT */
/* look_internal.h - what the files of this room share. */
#ifndef LOOK_LOOK_INTERNAL_H
#define LOOK_LOOK_INTERNAL_H

#include <stdbool.h>

/* What the command and this library must agree on; grows when a line loses a word or changes its meaning. */
#define LOOK_FORMAT 1

/* Says who answers: "allot VERSION look FORMAT". False when the other end has gone. */
bool answer_greeting(int connection);

/* Answers one question, without its newline. False when the other end has gone, or doesn't read. */
bool answer(int connection, const char *question);

#endif
