/* SPDX-License-Identifier: MIT */
/* fault.h - one process a misuse, and the exact line that it must be reported in.
 *
 * A case is a function that is run twice, each time in a process of its own. With fault it announces the line that it
 * expects and then misuses the heap: the process must end by SIGABRT, that line alone on standard error. Without fault
 * it does the same but for the misuse: the process must end well, with nothing on standard error.
 *
 *     program            runs all its cases
 *     program <case>     runs one
 */
#ifndef TESTS_FAULT_FAULT_H
#define TESTS_FAULT_FAULT_H

#include "../names.h"

#include <pthread.h>

struct fault_case {
    const char *name;
    void (*run)(bool fault);
};

#define CASE(function)                                                                                                 \
    {                                                                                                                  \
#function, function                                                                                            \
    }

int fault_main(int argc, char **argv, const struct fault_case *cases, size_t n_cases);

/* The line is expected from the calling thread. block_state and place are extended regular expressions. */
void expect_block(const char *name, const void *address, const void *block, size_t block_bytes,
                  const char *block_state);
void expect_no_block(const char *name, const void *address, const char *place);
/* Any line of that name (an expression) about that address. */
void expect_address(const char *name, const void *address);
/* A whole line as an extended regular expression, for faults whose address or thread the case can't know. */
void expect_line(const char *expression);

/* The case can't be set up here: it passes. */
void not_here(const char *why) __attribute__((noreturn));
/* The case itself went wrong. */
void broken(const char *why) __attribute__((noreturn));

/* Runs work on another thread and waits for its end. */
void *elsewhere(void *(*work)(void *), void *argument);

#endif
