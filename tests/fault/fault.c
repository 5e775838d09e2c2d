/* SPDX-License-Identifier: MIT */
/* fault.c - see fault.h. */
#include "fault.h"

#include <fcntl.h>
#include <regex.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { EXPECTED_FD = 37, TOO_LONG_SECONDS = 60 };

/* ---- in the process of a case -------------------------------------------------------------------------------- */

static void announce(const char *format, ...)
{
    char text[700];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (n < 0 || write(EXPECTED_FD, text, (size_t)n) != n) {
        broken("can't announce");
    }
}

static long thread_id(void)
{
    return syscall(SYS_gettid);
}

void expect_block(const char *name, const void *address, const void *block, size_t block_bytes, const char *block_state)
{
    announce("^allot: %s of 0x%jx: offset %td in the %zu-byte block at 0x%jx \\(%s\\), thread %ld\n$", name,
             (uintmax_t)(uintptr_t)address, (const char *)address - (const char *)block, block_bytes,
             (uintmax_t)(uintptr_t)block, block_state, thread_id());
}

void expect_no_block(const char *name, const void *address, const char *place)
{
    announce("^allot: %s of 0x%jx: no block, %s, thread %ld\n$", name, (uintmax_t)(uintptr_t)address, place,
             thread_id());
}

void expect_address(const char *name, const void *address)
{
    announce("^allot: %s of 0x%jx: (no block, [^()]+|offset [0-9]+ in the [0-9]+-byte block at 0x[0-9a-f]+ "
             "\\([a-z ]+\\)), thread %ld\n$",
             name, (uintmax_t)(uintptr_t)address, thread_id());
}

void expect_line(const char *expression)
{
    announce("%s", expression);
}

enum { NOT_HERE = 77, BROKEN = 99 };

void not_here(const char *why)
{
    printf("    not here: %s\n", why);
    fflush(stdout);
    _exit(NOT_HERE);
}

void broken(const char *why)
{
    printf("    broken: %s\n", why);
    fflush(stdout);
    _exit(BROKEN);
}

void *elsewhere(void *(*work)(void *), void *argument)
{
    pthread_t thread;
    void *result = NULL;
    if (pthread_create(&thread, NULL, work, argument) != 0 || pthread_join(thread, &result) != 0) {
        broken("no thread");
    }
    return result;
}

static int run_inside(const struct fault_case *one, bool fault)
{
    const struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    alarm(TOO_LONG_SECONDS);
    one->run(fault);
    return 0;
}

/* ---- outside -------------------------------------------------------------------------------------------------- */

struct outcome {
    int status;
    char expected[1000];
    char said[4000];
};

static int file_without_name(void)
{
    char name[] = "/tmp/allot-fault-XXXXXX";
    int file = mkstemp(name);
    if (file < 0) {
        perror("mkstemp");
        exit(1);
    }
    unlink(name);
    return file;
}

static void read_back(int file, char *out, size_t capacity)
{
    ssize_t n = pread(file, out, capacity - 1, 0);
    out[n < 0 ? 0 : n] = '\0';
    close(file);
}

/* A fresh process, so that nothing of one case is left in the heap of the next. */
static void run_process(const char *name, bool fault, struct outcome *outcome)
{
    int expected = file_without_name();
    int said = file_without_name();
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        dup2(expected, EXPECTED_FD);
        dup2(said, 2);
        execl("/proc/self/exe", "case", "--inside", name, fault ? "fault" : "twin", (char *)NULL);
        _exit(BROKEN);
    }
    outcome->status = -1;
    waitpid(child, &outcome->status, 0);
    read_back(expected, outcome->expected, sizeof outcome->expected);
    read_back(said, outcome->said, sizeof outcome->said);
}

static bool matches(const char *expression, const char *text)
{
    regex_t compiled;
    if (regcomp(&compiled, expression, REG_EXTENDED | REG_NOSUB) != 0) {
        printf("    bad expression: %s\n", expression);
        return false;
    }
    bool result = regexec(&compiled, text, 0, NULL, 0) == 0;
    regfree(&compiled);
    return result;
}

static bool skipped(const struct outcome *outcome)
{
    return WIFEXITED(outcome->status) && WEXITSTATUS(outcome->status) == NOT_HERE;
}

static bool complain(const char *name, const char *what, const struct outcome *outcome)
{
    printf("FAILED %s: %s\n    status   %#x\n    expected %s\n    said     %s\n", name, what, outcome->status,
           outcome->expected, outcome->said);
    return false;
}

static bool check_case(const struct fault_case *one)
{
    struct outcome outcome;
    run_process(one->name, /* fault */ true, &outcome);
    if (skipped(&outcome)) {
        return true;
    }
    if (outcome.expected[0] == '\0') {
        return complain(one->name, "ended before its misuse", &outcome);
    }
    if (!WIFSIGNALED(outcome.status) || WTERMSIG(outcome.status) != SIGABRT) {
        return complain(one->name, "no SIGABRT", &outcome);
    }
    if (!matches(outcome.expected, outcome.said)) {
        return complain(one->name, "another line", &outcome);
    }
    run_process(one->name, /* fault */ false, &outcome);
    if (outcome.status != 0) {
        return complain(one->name, "the twin without a fault failed", &outcome);
    }
    if (outcome.said[0] != '\0') {
        return complain(one->name, "a false report", &outcome);
    }
    return true;
}

static const struct fault_case *find_case(const char *name, const struct fault_case *cases, size_t n_cases)
{
    for (size_t i = 0; i < n_cases; i++) {
        if (strcmp(cases[i].name, name) == 0) {
            return &cases[i];
        }
    }
    fprintf(stderr, "no case %s\n", name);
    exit(BROKEN);
}

int fault_main(int argc, char **argv, const struct fault_case *cases, size_t n_cases)
{
    if (argc == 4 && strcmp(argv[1], "--inside") == 0) {
        return run_inside(find_case(argv[2], cases, n_cases), strcmp(argv[3], "fault") == 0);
    }
    if (argc == 2) {
        return check_case(find_case(argv[1], cases, n_cases)) ? 0 : 1;
    }
    size_t n_failed = 0;
    for (size_t i = 0; i < n_cases; i++) {
        bool passed = check_case(&cases[i]);
        printf("%-6s %s\n", passed ? "ok" : "FAILED", cases[i].name);
        n_failed += !passed;
    }
    printf("%zu cases, %zu failed\n", n_cases, n_failed);
    return n_failed == 0 ? 0 : 1;
}
