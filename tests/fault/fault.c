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

/* Where the threads of the process can't be listed there is no search for leaks. */
#ifdef ALLOT_TEST_NO_LEAKS
#define LEAKS ""
#else
#define LEAKS "leaks,"
#endif

static const struct {
    const char *name, *options;
} modes[N_MODES] = {
    [MODE_DEFAULT] = {"default", "sample_rate=0"}, /* no luck: what a sample would find is not counted on */
    [MODE_CHECK] = {"check", "check," LEAKS "symbols=off"},
    [MODE_UNGUARDED] = {"unguarded", "check,guards=0,symbols=off"},
    [MODE_SAMPLER] = {"sampler", "sample_rate=1," LEAKS "symbols=off"},
};
static const char *const outcomes[N_OUTCOMES] = {"untried", "named", "stopped", "silent", "damaged"};

static struct {
    const struct fault_case *one;
    enum fault_mode mode;
} running;

const struct fault_case *running_case(void)
{
    return running.one;
}

enum fault_mode running_mode(void)
{
    return running.mode;
}

/* ---- in the process of a case -------------------------------------------------------------------------------- */

static void announce(const char *format, ...)
{
    char text[700];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (n < 0 || (size_t)n >= sizeof text) {
        broken("too much to announce");
    }
    ssize_t written = write(EXPECTED_FD, text, (size_t)n); /* nobody may be listening */
    (void)written;
}

/* By default a report is one line; otherwise more may follow. */
static const char *end_of_line(void)
{
    return running.mode == MODE_DEFAULT ? "\n$" : "\n";
}

static long thread_id(void)
{
    return syscall(SYS_gettid);
}

void expect_block(const char *name, const void *address, const void *block, size_t block_bytes, const char *block_state)
{
    announce("^allot: %s of 0x%jx: offset %td in the %zu-byte block at 0x%jx \\(%s\\), thread %ld%s", name,
             (uintmax_t)(uintptr_t)address, (const char *)address - (const char *)block, block_bytes,
             (uintmax_t)(uintptr_t)block, block_state, thread_id(), end_of_line());
}

void expect_no_block(const char *name, const void *address, const char *place)
{
    announce("^allot: %s of 0x%jx: no block, %s, thread %ld%s", name, (uintmax_t)(uintptr_t)address, place, thread_id(),
             end_of_line());
}

void expect_address(const char *name, const void *address)
{
    announce("^allot: %s of 0x%jx: (no block, [^()]+|offset [0-9]+ in the [0-9]+-byte block at 0x[0-9a-f]+ "
             "\\([a-z ]+\\)), thread %ld%s",
             name, (uintmax_t)(uintptr_t)address, thread_id(), end_of_line());
}

void expect_line(const char *expression)
{
    announce("%s", expression);
}

void not_here(const char *why)
{
    printf("    not here: %s\n", why);
    fflush(stdout);
    _exit(EXIT_NOT_HERE);
}

void broken(const char *why)
{
    printf("    broken: %s\n", why);
    fflush(stdout);
    _exit(EXIT_BROKEN);
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

static int run_inside(const struct fault_case *one, enum fault_mode mode, bool fault)
{
    const struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    alarm(TOO_LONG_SECONDS);
    running.one = one;
    running.mode = mode;
    one->run(fault);
    return 0;
}

/* ---- outside -------------------------------------------------------------------------------------------------- */

struct ending {
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
static void run_process(const char *name, enum fault_mode mode, bool fault, struct ending *ending)
{
    int expected = file_without_name();
    int said = file_without_name();
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        dup2(expected, EXPECTED_FD);
        dup2(said, 2);
        setenv("ALLOT_OPTIONS", modes[mode].options, 1);
        execl("/proc/self/exe", "case", "--inside", modes[mode].name, name, fault ? "fault" : "twin", (char *)NULL);
        _exit(EXIT_BROKEN);
    }
    ending->status = -1;
    waitpid(child, &ending->status, 0);
    read_back(expected, ending->expected, sizeof ending->expected);
    read_back(said, ending->said, sizeof ending->said);
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

static bool left_with(const struct ending *ending, int code)
{
    return WIFEXITED(ending->status) && WEXITSTATUS(ending->status) == code;
}

static enum fault_outcome outcome_of(const struct ending *ending)
{
    if (ending->expected[0] != '\0' && ending->status != 0 && matches(ending->expected, ending->said)) {
        return NAMED;
    }
    if (left_with(ending, EXIT_DAMAGED) || (WIFSIGNALED(ending->status) && WTERMSIG(ending->status) == SIGALRM)) {
        return DAMAGED;
    }
    return ending->status == 0 && ending->said[0] == '\0' ? SILENT : STOPPED;
}

static bool complain(const char *name, const char *what, const struct ending *ending)
{
    printf("FAILED %s: %s\n    status   %#x\n    expected %s\n    said     %s\n", name, what, ending->status,
           ending->expected, ending->said);
    return false;
}

static bool check_twin(const struct fault_case *one, enum fault_mode mode)
{
    struct ending ending;
    run_process(one->name, mode, /* fault */ false, &ending);
    if (ending.status != 0) {
        return complain(one->name, "the twin without a fault failed", &ending);
    }
    if (ending.said[0] != '\0') {
        return complain(one->name, "a false report", &ending);
    }
    return true;
}

/* Sets the outcome of the fault, UNTRIED when there was none. */
static bool can_be_told(const struct fault_case *one)
{
    return LEAKS[0] != '\0' || one->error == NULL || strcmp(one->error, "leak") != 0;
}

static bool check_case(const struct fault_case *one, enum fault_mode mode, enum fault_outcome *outcome)
{
    struct ending ending;
    *outcome = UNTRIED;
    if (one->expected[mode] == UNTRIED) {
        return true;
    }
    run_process(one->name, mode, /* fault */ true, &ending);
    if (left_with(&ending, EXIT_NOT_HERE)) {
        return true;
    }
    if (left_with(&ending, EXIT_BROKEN) || ending.expected[0] == '\0') {
        return complain(one->name, "ended before its misuse", &ending);
    }
    *outcome = outcome_of(&ending);
    enum fault_outcome expected = can_be_told(one) ? one->expected[mode] : SILENT;
    if (*outcome != expected) {
        char what[60];
        snprintf(what, sizeof what, "%s, not %s", outcomes[*outcome], outcomes[expected]);
        return complain(one->name, what, &ending);
    }
    if (mode == MODE_DEFAULT && *outcome == NAMED &&
        !(WIFSIGNALED(ending.status) && WTERMSIG(ending.status) == SIGABRT)) {
        return complain(one->name, "no SIGABRT", &ending);
    }
    return check_twin(one, mode);
}

static int check_all(const struct fault_case *cases, size_t n_cases, enum fault_mode mode)
{
    size_t n_failed = 0, n_tried = 0, n_of[N_OUTCOMES] = {0};
    for (size_t i = 0; i < n_cases; i++) {
        enum fault_outcome outcome;
        bool passed = check_case(&cases[i], mode, &outcome);
        printf("%-6s %-8s %s\n", passed ? "ok" : "FAILED", outcomes[outcome], cases[i].name);
        n_failed += !passed;
        n_tried += outcome != UNTRIED;
        n_of[outcome]++;
    }
    printf("%s mode: %zu faults, %zu named, %zu stopped, %zu silent, %zu damaged; %zu not as expected\n",
           modes[mode].name, n_tried, n_of[NAMED], n_of[STOPPED], n_of[SILENT], n_of[DAMAGED], n_failed);
    return n_failed == 0 && n_tried > 0 ? 0 : 1;
}

static int list_cases(const struct fault_case *cases, size_t n_cases)
{
    for (size_t i = 0; i < n_cases; i++) {
        printf("%s\t%s", cases[i].name, cases[i].error == NULL ? "" : cases[i].error);
        for (size_t mode = 0; mode < N_MODES; mode++) {
            printf("\t%s", outcomes[cases[i].expected[mode]]);
        }
        printf("\n");
    }
    return 0;
}

static const struct fault_case *find_case(const char *name, const struct fault_case *cases, size_t n_cases)
{
    for (size_t i = 0; i < n_cases; i++) {
        if (strcmp(cases[i].name, name) == 0) {
            return &cases[i];
        }
    }
    fprintf(stderr, "no case %s\n", name);
    exit(EXIT_BROKEN);
}

static enum fault_mode find_mode(const char *name)
{
    for (enum fault_mode mode = MODE_DEFAULT; mode < N_MODES; mode++) {
        if (strcmp(modes[mode].name, name) == 0) {
            return mode;
        }
    }
    fprintf(stderr, "no mode %s\n", name);
    exit(EXIT_BROKEN);
}

int fault_main(int argc, char **argv, const struct fault_case *cases, size_t n_cases)
{
    if (argc == 5 && strcmp(argv[1], "--inside") == 0) {
        return run_inside(find_case(argv[3], cases, n_cases), find_mode(argv[2]), strcmp(argv[4], "fault") == 0);
    }
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        return list_cases(cases, n_cases);
    }
    enum fault_mode mode = MODE_DEFAULT;
    if (argc >= 3 && strcmp(argv[1], "--mode") == 0) {
        mode = find_mode(argv[2]);
        argc -= 2;
        argv += 2;
    }
    return argc == 1 ? check_all(cases, n_cases, mode) : check_all(find_case(argv[1], cases, n_cases), 1, mode);
}
