/* SPDX-License-Identifier: MIT */
/* crash_reporter.c - a handler of SIGSEGV that writes its report with malloc: lists, strings and sorting, as in any
 * other code, though the crash may have come in the middle of malloc or with a lock held.
 *
 *     crash_reporter            crashes, reports, ends by SIGSEGV
 *     crash_reporter check      crashes children in different ways and reads their reports
 *
 * malloc is allot's here, so it works in handlers. A library that can't know what malloc the program has uses
 * allot_pool_malloc of <allot/pool.h> instead: the same rules, and memory put aside before anything went wrong.
 */
#include <allot/allot.h>
#include <allot/pool.h>

#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- a growing string --------------------------------------------------------------------------------------- */

struct string {
    char *bytes;
    size_t length;
    size_t capacity;
};

static void add(struct string *s, const char *text)
{
    size_t n = strlen(text);
    if (s->length + n + 1 > s->capacity) {
        s->capacity = (s->length + n + 1) * 2;
        char *grown = realloc(s->bytes, s->capacity);
        if (grown == NULL) {
            return;
        }
        s->bytes = grown;
    }
    memcpy(s->bytes + s->length, text, n + 1);
    s->length += n;
}

static void add_hex(struct string *s, uintptr_t n)
{
    char digits[2 + sizeof n * 2 + 1] = "0x";
    unsigned shift = sizeof n * 8;
    char *end = digits + 2;
    do {
        shift -= 4;
        if (n >> shift != 0 || shift == 0) {
            *end++ = "0123456789abcdef"[n >> shift & 15];
        }
    } while (shift != 0);
    *end = '\0';
    add(s, digits);
}

/* ---- what the program was doing: a list that it keeps, copied and sorted for the report ---------------------- */

struct note {
    struct note *next;
    char text[40];
};

static struct note *notes; /* newest first */

static void note(const char *text)
{
    struct note *fresh = malloc(sizeof *fresh);
    if (fresh != NULL) {
        snprintf(fresh->text, sizeof fresh->text, "%s", text);
        fresh->next = notes;
        notes = fresh;
    }
}

static void add_notes_oldest_first(struct string *s)
{
    struct note *turned = NULL;
    for (const struct note *from = notes; from != NULL; from = from->next) {
        struct note *copy = malloc(sizeof *copy);
        if (copy != NULL) {
            *copy = *from;
            copy->next = turned;
            turned = copy;
        }
    }
    while (turned != NULL) {
        struct note *next = turned->next;
        add(s, "  ");
        add(s, turned->text);
        add(s, "\n");
        free(turned);
        turned = next;
    }
}

static void add_address(struct string *s, const void *address)
{
    allot_info info = ALLOT_INFO_INIT;
    add(s, "address ");
    add_hex(s, (uintptr_t)address);
    if (allot_query(address, &info) == 0 && info.base != NULL) {
        add(s, info.state == ALLOT_STATE_LIVE ? ": in a live block of " : ": in a freed block of ");
        add_hex(s, info.size_bytes);
        add(s, " bytes");
    }
    add(s, "\n");
}

static void on_crash(int number, siginfo_t *info, void *context)
{
    (void)context;
    struct string s = {0};
    add(&s, number == SIGABRT ? "aborted: " : "crashed: ");
    add_address(&s, info->si_addr);
    add(&s, "notes:\n");
    add_notes_oldest_first(&s);
    if (write(STDERR_FILENO, s.bytes, s.length) < 0) {
        _exit(9);
    }
    free(s.bytes);
    signal(number, SIG_DFL);
    raise(number);
}

static void install_reporter(void)
{
    static char alternate[64 * 1024]; /* the crash may be that the stack is used up */
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
    sigaltstack(&stack, NULL);
    struct sigaction action = {.sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESETHAND};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
}

/* ---- ways to crash ------------------------------------------------------------------------------------------ */

static void touch_null(void)
{
    volatile int *volatile nowhere = NULL;
    *nowhere = 1;
}

#if defined(__clang__)
#pragma clang diagnostic ignored "-Winfinite-recursion" /* that is what it is for */
#endif
static int overflow_stack(volatile int *depth)
{
    volatile char fill[4096];
    fill[0] = (char)*depth;
    ++*depth;
    return overflow_stack(depth) + fill[0];
}

static void use_up_the_stack(void)
{
    volatile int depth = 0;
    overflow_stack(&depth);
}

/* While another thread is in malloc all the time, and this one holds more memory than it started with. */
static void *allocate_for_ever(void *context)
{
    for (size_t size = 16;; size = size * 5 % 100003 + 16) {
        free(malloc(size));
    }
    return context;
}

static void crash_under_load(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, allocate_for_ever, NULL);
    for (int i = 0; i < 20000; i++) {
        if (malloc(100) == NULL) {
            break;
        }
    }
    touch_null();
}

/* ---- check -------------------------------------------------------------------------------------------------- */

static int check(void (*crash)(void), const char *name)
{
    int ends[2];
    if (pipe(ends) != 0) {
        return 1;
    }
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        crash();
        _exit(0);
    }
    close(ends[1]);
    static char report[65536];
    size_t length = 0;
    for (ssize_t n; (n = read(ends[0], report + length, sizeof report - 1 - length)) > 0;) {
        length += (size_t)n;
    }
    report[length] = '\0';
    close(ends[0]);
    int status;
    waitpid(child, &status, 0);
    int good = WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV && strncmp(report, "crashed: address 0x", 19) == 0 &&
               strstr(report, "notes:\n  started\n  read the options\n  note number 99\n") == NULL &&
               strstr(report, "notes:\n  started\n  read the options\n") != NULL &&
               strstr(report, "  note number 99\n") != NULL;
    printf("%-20s %s\n", name, good ? "reported" : "NOT REPORTED");
    if (!good) {
        printf("%s\n", report);
    }
    return !good;
}

int main(int argc, char **argv)
{
    install_reporter();
    note("started");
    note("read the options");
    for (int i = 0; i < 100; i++) {
        char text[40];
        snprintf(text, sizeof text, "note number %d", i);
        note(text);
    }
    if (argc > 1 && strcmp(argv[1], "check") == 0) {
        return check(touch_null, "a NULL pointer") + check(use_up_the_stack, "no stack left") +
               check(crash_under_load, "in a busy process");
    }
    touch_null();
    return 0;
}
