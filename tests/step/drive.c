/* SPDX-License-Identifier: MIT */
/* drive.c - one run: one call, one mode. See step.h.
 *
 *     1. The stage stops at the first mark. A copy of it is stepped to the second mark: that is the path, an address a
 *        boundary.
 *     2. Boundaries are chosen: all, or as many as the budget allows; see choose().
 *     3. The stage is stepped along the same path, and what the mode says is done at each chosen boundary.
 *     4. The stage is let go at the second mark and checks everything itself.
 *
 * An allocator that asks the time may go another way in step 3 than in step 1. So a boundary is known by its address
 * and by how often the path has been there; one never seen before is tried as well; what counts as tried is what was.
 */
#include "step.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_PATH ((size_t)1 << 21)

const char *const mode_name[N_MODES] = {"once", "always", "nested", "stopped", "beside", "jump", "fork"};

struct options options = {.budget = 300, .seconds = 20, .max_reports = 5, .n_outer = 3, .modes = (1u << N_MODES) - 1};

/* A path and what was chosen of it. Memory that no child inherits: copying the stage stays cheap. */
struct path {
    uintptr_t *at;
    uint32_t *visit; /* how often the path has been there before */
    uint32_t *next;  /* when it is there again; NEVER */
    uint8_t *chosen;
    unsigned n;
    struct address *addresses; /* by hash */
    unsigned n_addresses;
    unsigned n_strays; /* addresses met on the walk that are not on the path */
};

#define NEVER UINT32_MAX
#define MAX_ADDRESSES ((size_t)1 << 16)
#define MAX_STRAYS 200

struct address {
    uintptr_t at;
    uint32_t n_visits;
    uint32_t last; /* visit, while the path is read */
    uint32_t due;  /* visit, while it is walked again */
    bool tried;
};

struct run {
    const struct call *call;
    enum mode mode;
    struct result *result;
    pid_t process;
    struct tracee spine;
    int error_fd;
    char outer[200]; /* nested: where the outer handler interrupted */
    bool silent_end; /* the stage is ended by us, or its end was reported already */
};

double now_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void *unshared(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED || madvise(p, bytes, MADV_DONTFORK) != 0) {
        perror("step: mmap");
        exit(2);
    }
    return p;
}

static void path_init(struct path *path)
{
    if (path->at == NULL) {
        path->at = unshared(MAX_PATH * sizeof path->at[0]);
        path->visit = unshared(MAX_PATH * sizeof path->visit[0]);
        path->next = unshared(MAX_PATH * sizeof path->next[0]);
        path->chosen = unshared(MAX_PATH);
        path->addresses = unshared(MAX_ADDRESSES * sizeof path->addresses[0]);
    }
    path->n = 0;
}

/* ---- reports ------------------------------------------------------------------------------------------------ */

static void forget_failure(struct run *run)
{
    atomic_store(&shared->failed, 0);
    shared->message[0] = '\0';
    shared->fault_at = 0;
    if (ftruncate(run->error_fd, 0) == 0) {
        lseek(run->error_fd, 0, SEEK_SET);
    }
}

/* What the process said when it ended in a wrong way. */
static void describe(struct run *run, int status, bool in_time, char *text, size_t capacity)
{
    char line[300];
    ssize_t n = pread(run->error_fd, line, sizeof line - 1, 0);
    line[n < 0 ? 0 : n] = '\0';
    line[strcspn(line, "\n")] = '\0';
    if (atomic_load(&shared->failed) != 0) {
        snprintf(text, capacity, "%s", shared->message);
    } else if (!in_time) {
        snprintf(text, capacity, "no progress: not done within %.1f s", options.seconds);
    } else if (WIFSIGNALED(status)) {
        char at[200] = "";
        if (shared->fault_at != 0) {
            where(shared->fault_at, at, sizeof at);
        }
        snprintf(text, capacity, "ended by signal %d (%s)%s%s%s%s", WTERMSIG(status), strsignal(WTERMSIG(status)),
                 at[0] != '\0' ? " at " : "", at, line[0] != '\0' ? ", said: " : "", line);
    } else {
        snprintf(text, capacity, "ended with status %d%s%s", WEXITSTATUS(status), line[0] != '\0' ? ", said: " : "",
                 line);
    }
}

/* Does what happened contain one of the expected words? */
static bool is_expected(const char *what)
{
    char words[64];
    for (const char *p = options.expect; p != NULL && *p != '\0'; p += p[0] == '|') {
        size_t n = strcspn(p, "|");
        snprintf(words, sizeof words, "%.*s", (int)n, p);
        if (strstr(what, words) != NULL) {
            return true;
        }
        p += n;
    }
    return false;
}

static void report(struct run *run, const char *place, const char *what)
{
    struct result *result = run->result;
    result->n_failed++;
    result->n_expected += is_expected(what);
    if (result->n_failed <= options.max_reports) {
        printf("    %s %s: %s%s: %s\n", mode_name[run->mode], run->call->name, run->outer, place, what);
    } else if (result->n_failed == options.max_reports + 1) {
        printf("    ... and more\n");
    }
}

static void report_boundary(struct run *run, const struct tracee *t, const struct path *path, unsigned k,
                            const char *what)
{
    char address[200];
    char place[300];
    where(t->at, address, sizeof address);
    snprintf(place, sizeof place, "boundary %u of %u, before %s", k, path->n, address);
    report(run, place, what);
}

/* ---- the stage ---------------------------------------------------------------------------------------------- */

/* Its thread waits to be traced. False: the stage has failed before. */
static bool wait_for_thread(struct run *run)
{
    double end = now_seconds() + 30;
    bool forked = (run->call->flags & CALL_FORKED) != 0;
    while (!futex_wait(&shared->tid, 0, 20)) {
        int status;
        if (run->process != 0 && waitpid(run->process, &status, WNOHANG) == run->process) {
            run->process = 0;
            if (!forked || status != 0) {
                char text[500];
                describe(run, status, true, text, sizeof text);
                report(run, "before the call", text);
                return false;
            }
        }
        if (now_seconds() > end) {
            if (run->process > 0) {
                kill(run->process, SIGKILL);
            }
            report(run, "before the call", "no progress");
            return false;
        }
    }
    if (forked) {
        if (run->process > 0) {
            waitpid(run->process, NULL, 0);
        }
        run->process = (pid_t)shared->tid;
    }
    return true;
}

static bool stage_start(struct run *run)
{
    memset(shared, 0, sizeof *shared);
    forget_failure(run);
    struct stage stage = {run->call, run->mode, run->error_fd};
    fflush(stdout);
    run->process = fork();
    if (run->process == 0) {
        stage_run(&stage);
    }
    if (run->process < 0 || !wait_for_thread(run)) {
        return false;
    }
    if (!tracee_seize(&run->spine, (pid_t)shared->tid)) {
        run->result->may_not_trace = true;
        kill(run->process, SIGKILL);
        waitpid(run->process, NULL, __WALL);
        return false;
    }
    atomic_store(&shared->go, 1);
    futex_wake(&shared->go);
    do {
        tracee_wait(&run->spine);
    } while (!run->spine.ended && run->spine.at != (uintptr_t)stage_begin_mark);
    return true;
}

/* At the second mark, or gone. */
static void stage_end_run(struct run *run)
{
    struct tracee *t = &run->spine;
    int status = t->status;
    bool in_time = true;
    if (run->process == t->thread && t->ended) {
        in_time = !t->out_of_time;
    } else {
        if (!t->ended) {
            tracee_let_go(t, 0);
        }
        in_time = wait_for_end(run->process, options.seconds, &status);
    }
    if (!run->silent_end && (!in_time || status != 0)) {
        char text[500];
        describe(run, status, in_time, text, sizeof text);
        report(run, "after the last boundary", text);
    }
}

static bool is_fault(int signal)
{
    return signal == SIGSEGV || signal == SIGBUS || signal == SIGILL || signal == SIGABRT;
}

static bool at_end(const struct tracee *t)
{
    return t->ended || t->at == (uintptr_t)stage_end_mark;
}

/* ---- which boundaries --------------------------------------------------------------------------------------- */

/* Steps a copy to the end mark. False when that isn't reached. */
static bool record(struct run *run, struct tracee *t, struct path *path)
{
    struct tracee copy;
    tracee_copy(t, &copy);
    path_init(path);
    run->result->n_system_calls = 0;
    time_limit(copy.thread, 10 * options.seconds);
    while (!at_end(&copy) && path->n < MAX_PATH && !is_fault(copy.signal)) {
        run->result->n_system_calls += tracee_at_system_call(&copy);
        path->at[path->n++] = copy.at;
        tracee_step(&copy);
    }
    bool in_time = !time_limit(0, 0);
    bool whole = !copy.ended && copy.at == (uintptr_t)stage_end_mark;
    if (!whole) {
        char text[500];
        describe(run, copy.ended ? copy.status : copy.signal, in_time, text, sizeof text);
        report(run, "on the way, without a signal", text);
    }
    tracee_kill(&copy);
    return whole;
}

/* Its place, or the free one where it belongs. */
static struct address *find_address(const struct path *path, uintptr_t at)
{
    size_t i = at * 0x9e3779b97f4a7c15u >> 48;
    while (path->addresses[i].at != 0 && path->addresses[i].at != at) {
        i = (i + 1) % MAX_ADDRESSES;
    }
    return &path->addresses[i];
}

static void count_visits(struct path *path)
{
    memset(path->addresses, 0, MAX_ADDRESSES * sizeof path->addresses[0]);
    path->n_addresses = 0;
    path->n_strays = 0;
    for (unsigned k = 0; k < path->n; k++) {
        struct address *address = find_address(path, path->at[k]);
        if (address->at == 0) {
            *address = (struct address){.at = path->at[k], .due = k};
            path->n_addresses++;
        } else {
            path->next[address->last] = k;
        }
        path->visit[k] = address->n_visits++;
        path->next[k] = NEVER;
        address->last = k;
    }
}

/* At most n more, evenly spread, of the boundaries of a kind. kind: visit number; or -1 last visits, -2 all. */
static unsigned choose_evenly(struct path *path, int kind, unsigned n)
{
    unsigned n_found = 0;
    unsigned n_chosen = 0;
    for (unsigned pass = 0; pass < 2; pass++) {
        unsigned i = 0;
        for (unsigned k = 0; k < path->n; k++) {
            bool fits = kind == -2 || (kind == -1 ? path->next[k] == NEVER : path->visit[k] == (unsigned)kind);
            if (!fits || (path->chosen[k] & 1) != 0) {
                continue;
            }
            if (pass == 0) {
                n_found++;
            } else if (n_found <= n || (uint64_t)(i + 1) * n / n_found != (uint64_t)i * n / n_found) {
                path->chosen[k] |= 2;
                n_chosen++;
            }
            i++;
        }
    }
    for (unsigned k = 0; k < path->n; k++) {
        path->chosen[k] |= (uint8_t)(path->chosen[k] >> 1);
    }
    return n_chosen;
}

/* All that the budget allows: of a path that is too long the first visit of every address, then the last, the second,
 * the third, as long as there is room; a quarter of the budget is spread evenly over the rest. */
static void choose(struct path *path, unsigned budget)
{
    memset(path->chosen, 0, path->n);
    if (path->n <= budget) {
        memset(path->chosen, 1, path->n);
        return;
    }
    static const int kinds[] = {0, -1, 1, 2};
    unsigned left = budget - budget / 4;
    for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        left -= choose_evenly(path, kinds[i], left);
    }
    choose_evenly(path, -2, left + budget / 4);
}

static void plan(struct run *run, struct path *path, unsigned budget)
{
    count_visits(path);
    choose(path, budget);
    run->result->n_boundaries += path->n;
    run->result->n_addresses += path->n_addresses;
}

/* Is this where something is to be done? *k: which boundary it is. */
static bool is_chosen(struct run *run, struct path *path, uintptr_t at, unsigned *k)
{
    struct address *address = find_address(path, at);
    if (run->mode == MODE_ALWAYS && path->n <= options.budget) {
        /* What the handlers did leads elsewhere soon: every boundary there is. But the pool's calls begin anew when a
         * handler was quicker, and a collection takes what handlers have freed meanwhile: these have to be left alone
         * for so long now and then that they come to an end. */
        bool may_not_end = (run->call->flags & CALL_POOL) != 0 || run->result->n_tried > 5 * path->n + 20000;
        if (may_not_end && ++path->n_strays % 61 != 0) {
            return false;
        }
        run->result->n_tried++;
        run->result->n_addresses_tried += address->at != 0 && !address->tried;
        address->tried = true;
        ++*k;
        return true;
    }
    bool outer = run->mode == MODE_NESTED && run->outer[0] == '\0';
    if (address->at == 0) {
        if (path->n_strays == MAX_STRAYS || outer) {
            return false;
        }
        *address = (struct address){.at = at, .due = NEVER};
        path->n_strays++;
        run->result->n_strays++;
    } else {
        if (address->due == NEVER) {
            return false;
        }
        *k = address->due;
        address->due = path->next[*k];
        if ((path->chosen[*k] & 1) == 0) {
            return false;
        }
        if (!outer) {
            run->result->n_tried++;
            run->result->n_addresses_tried += !address->tried;
            address->tried = true;
        }
    }
    return true;
}

/* ---- what is done at a boundary ----------------------------------------------------------------------------- */

/* A copy gets the signal and runs to its end. */
static void try_copy(struct run *run, struct tracee *t, const struct path *path, unsigned k, int signal)
{
    struct tracee copy;
    int status;
    tracee_copy(t, &copy);
    tracee_let_go(&copy, signal);
    bool in_time = wait_for_end(copy.thread, options.seconds, &status);
    if (!in_time || status != 0) {
        char text[500];
        describe(run, status, in_time, text, sizeof text);
        report_boundary(run, t, path, k, text);
        forget_failure(run);
    }
}

/* The signal comes before the next instruction, the handler runs, and the thread stands where it stood. False when it
 * could not: the process is gone, or signals are blocked here and an instruction has been executed. */
static bool through_handler(struct run *run, struct tracee *t, const struct path *path, unsigned k)
{
    struct tracee before = *t;
    tracee_step_signal(t, SIGUSR1);
    if (!t->ended && t->at != (uintptr_t)stage_on_signal) {
        return false;
    }
    time_limit(run->process, options.seconds);
    while (!t->ended && t->at != (uintptr_t)stage_handled_mark) {
        tracee_continue(t, t->signal == SIGTRAP || t->signal == SIGKILL ? 0 : t->signal);
    }
    bool in_time = !time_limit(0, 0);
    while (!t->ended && (t->at != before.at || t->stack != before.stack)) {
        tracee_step_signal(t, 0);
    }
    t->in_repeat = before.in_repeat;
    if (t->ended) {
        char text[500];
        describe(run, t->status, in_time, text, sizeof text);
        report_boundary(run, &before, path, k, text);
        run->silent_end = true;
        return false;
    }
    return true;
}

/* Two threads beside do 10,000 calls each. */
static void burst(struct run *run, struct tracee *t, const struct path *path, unsigned k)
{
    uint32_t round = atomic_fetch_add(&shared->round, 1) + 1;
    double end = now_seconds() + options.seconds;
    futex_wake(&shared->round);
    for (uint32_t n = atomic_load(&shared->n_done); n != 2 * round; n = atomic_load(&shared->n_done)) {
        futex_wait(&shared->n_done, n, 50);
        int status;
        bool ended = waitpid(t->thread, &status, WNOHANG | __WALL) == t->thread && !WIFSTOPPED(status);
        if (ended || now_seconds() > end) {
            char text[500];
            describe(run, status, ended, text, sizeof text);
            t->ended = ended;
            t->status = status;
            if (!ended) {
                report_boundary(run, t, path, k, text);
                tracee_kill(t);
            } else {
                report(run, "while the threads beside went on", text);
            }
            run->silent_end = true;
            return;
        }
    }
}

static void run_nested(struct run *run, struct tracee *t, const struct path *path, unsigned k);

/* What the mode says, at one boundary. Returns whether the thread still stands there. */
static bool act(struct run *run, struct tracee *t, const struct path *path, unsigned k)
{
    switch (run->mode) {
    case MODE_ALWAYS:
        return through_handler(run, t, path, k);
    case MODE_BESIDE:
        burst(run, t, path, k);
        return !t->ended;
    case MODE_NESTED:
        if (run->outer[0] == '\0') {
            run_nested(run, t, path, k);
        } else {
            try_copy(run, t, path, k, SIGUSR2);
        }
        return true;
    default:
        try_copy(run, t, path, k, SIGUSR1);
        return true;
    }
}

/* To the next boundary. */
static void step(struct run *run, struct tracee *t, const struct path *path, unsigned k)
{
    struct tracee before = *t;
    tracee_step(t);
    if (t->ended) {
        char text[500];
        describe(run, t->status, !t->out_of_time, text, sizeof text);
        report_boundary(run, &before, path, k, text);
        run->silent_end = true;
    }
}

/* From the first mark to the second. */
static void walk(struct run *run, struct tracee *t, struct path *path)
{
    unsigned k = 0;
    for (unsigned n = 0; !at_end(t); n++) {
        bool stands = true;
        if (is_chosen(run, path, t->at, &k)) {
            stands = act(run, t, path, k);
        }
        if (stands) {
            step(run, t, path, k);
        }
        /* A heap that retires sorts all it holds, and what handlers have freed. */
        bool endless = n > 20 * path->n + 1000000 + 300 * run->result->n_tried;
        if (!t->ended && (endless || is_fault(t->signal))) {
            char text[100];
            snprintf(text, sizeof text, "%s, signal %d (%s)", endless ? "the path has no end" : "stopped", t->signal,
                     strsignal(t->signal));
            report_boundary(run, t, path, k, text);
            run->silent_end = true;
            tracee_kill(t);
        }
        while (!t->ended && t->signal == SIGUSR1 && run->mode == MODE_ALWAYS) {
            through_handler(run, t, path, k); /* it was blocked and is not any more */
        }
        if (options.expect != NULL && run->result->n_expected >= 3 && !t->ended) {
            run->silent_end = true;
            tracee_kill(t);
        }
    }
}

/* A copy gets the signal; what its handler calls is stepped in turn, and copied at each boundary. */
static void run_nested(struct run *run, struct tracee *t, const struct path *path, unsigned k)
{
    static struct path inner;
    struct tracee copy;
    char address[150];
    int status;
    tracee_copy(t, &copy);
    where(t->at, address, sizeof address);
    snprintf(run->outer, sizeof run->outer, "in a handler at boundary %u of %u, before %s: ", k, path->n, address);
    kill(copy.thread, SIGUSR1);
    do {
        tracee_continue(&copy, copy.signal == SIGUSR1 ? SIGUSR1 : 0);
    } while (!copy.ended && copy.at != (uintptr_t)stage_begin_mark && !is_fault(copy.signal));
    if (copy.ended || copy.at != (uintptr_t)stage_begin_mark) {
        describe(run, copy.ended ? copy.status : copy.signal, true, address, sizeof address);
        report(run, "before the inner calls", address);
        tracee_kill(&copy);
    } else if (record(run, &copy, &inner)) {
        plan(run, &inner, options.budget);
        walk(run, &copy, &inner);
        bool in_time = true;
        if (!copy.ended) {
            tracee_let_go(&copy, 0);
            in_time = wait_for_end(copy.thread, options.seconds, &status);
        } else {
            status = copy.status;
        }
        if (!in_time || status != 0) {
            describe(run, status, in_time, address, sizeof address);
            report(run, "after the inner calls", address);
        }
    } else {
        tracee_kill(&copy);
    }
    run->outer[0] = '\0';
    forget_failure(run);
}

/* Of the outer path, spread over the addresses that are seldom passed: there the work is done. */
static void choose_outer(struct path *path, unsigned n)
{
    memset(path->chosen, 0, path->n);
    count_visits(path);
    choose_evenly(path, 0, n);
}

void drive(const struct call *call, enum mode mode, struct result *result)
{
    static int error_fd = -1;
    static struct path path;
    if (error_fd < 0) {
        error_fd = memfd_create("step", MFD_CLOEXEC);
    }
    struct run run = {.call = call, .mode = mode, .result = result, .error_fd = error_fd};
    if (!stage_start(&run)) {
        return;
    }
    struct tracee *t = &run.spine;
    if (t->ended) {
        stage_end_run(&run);
        return;
    }
    if (!record(&run, t, &path)) {
        tracee_kill(t);
        run.silent_end = true;
        stage_end_run(&run);
        return;
    }
    if (mode == MODE_NESTED) {
        choose_outer(&path, options.n_outer);
    } else {
        plan(&run, &path, options.budget);
    }
    walk(&run, t, &path);
    stage_end_run(&run);
}
