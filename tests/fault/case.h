/* SPDX-License-Identifier: MIT */
/* case.h - what a case of misuse is, for C and C++.
 *
 * A case is a function that is run twice, each time in a process of its own: with fault it announces what it is about
 * to do and then misuses the heap; without, the twin, it does the same but for the misuse, and nobody may say a word.
 */
#ifndef TESTS_FAULT_CASE_H
#define TESTS_FAULT_CASE_H

#include <stdbool.h>
#include <stddef.h>

/* How the library runs. */
enum fault_mode { MODE_DEFAULT, MODE_CHECK, MODE_UNGUARDED, MODE_SAMPLER, N_MODES };

enum fault_outcome {
    UNTRIED, /* the case is not for that mode */
    NAMED,   /* the line that the case announced is the first on standard error, and the process ends badly */
    STOPPED, /* the process ends badly, or something is said, but not that line */
    SILENT,  /* the process ends well and nothing is said */
    DAMAGED, /* nothing is said, and what the heap hands out afterwards overlaps, isn't zero, or never comes */
    N_OUTCOMES
};

struct fault_case {
    const char *name;
    void (*run)(bool fault);
    const char *error; /* what a tool that sees everything calls it; NULL: the case announces its line itself */
    enum fault_outcome expected[N_MODES];
};

/* What the exit code of a case's process says. */
enum { EXIT_NOT_HERE = 77, EXIT_DAMAGED = 43, EXIT_BROKEN = 99 };

#ifdef __cplusplus
extern "C" {
#endif

/* The case can't be set up here: it passes. */
void not_here(const char *why) __attribute__((noreturn));
/* The case itself went wrong. */
void broken(const char *why) __attribute__((noreturn));

/* The line is expected from the calling thread. block_state and place are extended regular expressions. */
void expect_block(const char *name, const void *address, const void *block, size_t block_bytes,
                  const char *block_state);
void expect_no_block(const char *name, const void *address, const char *place);
/* Any line of that name (an expression) about that address. */
void expect_address(const char *name, const void *address);
/* A whole line as an extended regular expression, for faults whose address or thread the case can't know. */
void expect_line(const char *expression);

/* Runs work on another thread and waits for its end. */
void *elsewhere(void *(*work)(void *), void *argument);

#ifdef __cplusplus
}
#endif
#endif
