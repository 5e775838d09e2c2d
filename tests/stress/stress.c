/* SPDX-License-Identifier: MIT */
/* stress.c - see stress.h. */
#include "stress.h"

#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/wait.h>
#include <time.h>

enum { SKIPPED = 77, HUNG_SECONDS = 60 };

static bool is_long;

bool stress_is_long(void)
{
    return is_long;
}

void stress_fail(const char *file, int line, const char *format, ...)
{
    char text[600];
    va_list arguments;
    va_start(arguments, format);
    int n = snprintf(text, sizeof text, "    %s:%d: ", file, line);
    n += vsnprintf(text + n, sizeof text - (size_t)n - 2, format, arguments);
    va_end(arguments);
    n = n > (int)sizeof text - 2 ? (int)sizeof text - 2 : n;
    text[n++] = '\n';
    if (write(1, text, (size_t)n) < 0) {
        abort();
    }
    _exit(1);
}

void stress_skip(const char *why)
{
    printf("    skipped: %s\n", why);
    fflush(stdout);
    _exit(SKIPPED);
}

/* ---- from the system ------------------------------------------------------------------------------------------------
 */

static size_t read_file(const char *path, char *out, size_t capacity)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    size_t n = 0;
    ssize_t got = 1;
    while (file >= 0 && n + 1 < capacity && (got = read(file, out + n, capacity - 1 - n)) > 0) {
        n += (size_t)got;
    }
    out[n] = '\0';
    if (file >= 0) {
        close(file);
    }
    return n;
}

static size_t number_behind(const char *text, const char *label)
{
    const char *at = strstr(text, label);
    return at == NULL ? 0 : strtoull(at + strlen(label), NULL, 10);
}

size_t resident_bytes(void)
{
    char text[200];
    read_file("/proc/self/statm", text, sizeof text);
    return number_behind(text, " ") * PAGE;
}

size_t anonymous_bytes(void)
{
    char text[4000];
    read_file("/proc/self/smaps_rollup", text, sizeof text);
    return number_behind(text, "Anonymous:") * KIB;
}

size_t peak_resident_bytes(void)
{
    char text[4000];
    read_file("/proc/self/status", text, sizeof text);
    return number_behind(text, "VmHWM:") * KIB;
}

size_t n_mappings(void)
{
    char text[4096];
    size_t lines = 0;
    int file = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    for (ssize_t n; (n = read(file, text, sizeof text)) > 0;) {
        for (ssize_t i = 0; i < n; i++) {
            lines += text[i] == '\n';
        }
    }
    close(file);
    return lines;
}

uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void sleep_ms(unsigned ms)
{
    struct timespec rest = {ms / 1000, (long)(ms % 1000) * 1000000};
    while (nanosleep(&rest, &rest) != 0) {
    }
}

int wait_for(pid_t child)
{
    int status = -1;
    uint64_t end = now_ms() + HUNG_SECONDS * 1000;
    for (unsigned pause = 1; now_ms() < end;) {
        if (waitpid(child, &status, WNOHANG) == child) {
            return status;
        }
        sleep_ms(pause);
        pause = pause < 20 ? pause + 1 : 20;
    }
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    return -1;
}

int run_again(const char *what, const char *const *environment, char *said, size_t capacity)
{
    char name[] = "/tmp/allot-said-XXXXXX";
    int file = mkstemp(name);
    EXPECT(file >= 0, "no temporary file");
    unlink(name);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        for (; *environment != NULL; environment++) {
            putenv((char *)(uintptr_t)*environment);
        }
        if (said != NULL) {
            dup2(file, 2);
        }
        alarm(HUNG_SECONDS);
        execl("/proc/self/exe", "again", "--again", what, (char *)NULL);
        _exit(126);
    }
    int status = -1;
    waitpid(child, &status, 0);
    if (said != NULL) {
        ssize_t n = pread(file, said, capacity - 1, 0);
        said[n < 0 ? 0 : n] = '\0';
    }
    close(file);
    return status;
}

/* ---- churn
 * ------------------------------------------------------------------------------------------------------------ */

void churn_init(struct churn *churn, uint64_t seed, size_t most)
{
    memset(churn, 0, sizeof *churn);
    churn->random = seed * 7919 + 1;
    churn->most = most;
}

static size_t churn_size(struct churn *churn)
{
    size_t kind = random_below(&churn->random, 100);
    size_t most = kind < 80 ? 600 : kind < 95 ? 20000 : kind < 99 ? 200000 : 8 * MIB;
    return 1 + random_below(&churn->random, most < churn->most ? most : churn->most);
}

static size_t churn_filled(size_t size)
{
    return size < 4000 ? size : 4000;
}

bool churn_step(struct churn *churn)
{
    size_t i = random_below(&churn->random, CHURN_SLOTS);
    unsigned char *block = churn->slots[i].block;
    size_t kind = random_below(&churn->random, 8);
    size_t size = churn_size(churn);
    bool zero = true;
    if (block != NULL) {
        if (!pattern_holds(block, churn_filled(churn->slots[i].size), churn->slots[i].seed)) {
            return false;
        }
        if (kind > 1) {
            churn->slots[i].block = NULL;
            free(block);
            return true;
        }
        block = realloc(block, size);
        size_t kept = size < churn->slots[i].size ? size : churn->slots[i].size;
        zero = block != NULL && pattern_holds(block, churn_filled(kept), churn->slots[i].seed);
    } else if (kind == 0) {
        block = calloc(1, size);
        zero = block != NULL && all_zero(block, churn_filled(size));
    } else if (kind == 1) {
        block = memalign(256, size);
        zero = is_aligned(block, 256);
    } else {
        block = malloc(size);
    }
    if (block == NULL || !zero) {
        return false;
    }
    churn->slots[i].block = block;
    churn->slots[i].size = size;
    churn->slots[i].seed = (unsigned)(churn->random & 255);
    pattern_fill(block, churn_filled(size), churn->slots[i].seed);
    return true;
}

bool churn_end(struct churn *churn)
{
    bool whole = true;
    for (size_t i = 0; i < CHURN_SLOTS; i++) {
        unsigned char *block = churn->slots[i].block;
        whole &= block == NULL || pattern_holds(block, churn_filled(churn->slots[i].size), churn->slots[i].seed);
        free(block);
        churn->slots[i].block = NULL;
    }
    return whole;
}

/* ---- cases
 * ------------------------------------------------------------------------------------------------------------ */

static int run_case(const struct stress_case *one)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        if (one->options != NULL) {
            setenv("ALLOT_OPTIONS", one->options, 1);
        }
        execl("/proc/self/exe", "case", "--inside", one->name, is_long ? "long" : "quick", (char *)NULL);
        _exit(126);
    }
    int status = -1;
    waitpid(child, &status, 0);
    return status;
}

static bool case_passes(const struct stress_case *one)
{
    uint64_t begin = now_ms();
    int status = run_case(one);
    bool skipped = WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED;
    printf("%-7s %s (%ju ms)",
           skipped       ? "skipped"
           : status == 0 ? "ok"
                         : "FAILED",
           one->name, (uintmax_t)(now_ms() - begin));
    if (status != 0 && !skipped) {
        printf(" status %#x", (unsigned)status);
    }
    printf("\n");
    return status == 0 || skipped;
}

static const struct stress_case *find_case(const char *name, const struct stress_case *cases, size_t n_cases)
{
    for (size_t i = 0; i < n_cases; i++) {
        if (strcmp(cases[i].name, name) == 0) {
            return &cases[i];
        }
    }
    fprintf(stderr, "no case %s\n", name);
    exit(2);
}

int stress_main(int argc, char **argv, const struct stress_case *cases, size_t n_cases)
{
    if (argc == 4 && strcmp(argv[1], "--inside") == 0) {
        is_long = strcmp(argv[3], "long") == 0;
        find_case(argv[2], cases, n_cases)->run();
        return 0;
    }
    is_long = argc > 1 && strcmp(argv[argc - 1], "--long") == 0;
    if (argc > 1 && strcmp(argv[1], "--long") != 0) {
        return case_passes(find_case(argv[1], cases, n_cases)) ? 0 : 1;
    }
    int n_failed = 0;
    for (size_t i = 0; i < n_cases; i++) {
        n_failed += (is_long || !cases[i].is_long) && !case_passes(&cases[i]);
    }
    return n_failed == 0 ? 0 : 1;
}
