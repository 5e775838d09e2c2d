/* SPDX-License-Identifier: MIT */
/* trace.c - one thread under ptrace. See step.h.
 *
 * Only the thread under test is traced; threads beside it run freely. It is seized, not attached to, so that nothing
 * is sent to it.
 */
#include "step.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

NORETURN static void broken(const char *what)
{
    fprintf(stderr, "step: %s: %s\n", what, strerror(errno));
    exit(2);
}

#ifdef __GLIBC__
typedef enum __ptrace_request ptrace_request;
#else
typedef int ptrace_request;
#endif

static void request(ptrace_request what, pid_t thread, void *address, void *data, const char *name)
{
    /* ESRCH: killed since it stopped, as by its alarm; the next wait says so. */
    if (ptrace(what, thread, address, data) != 0 && errno != ESRCH) {
        broken(name);
    }
}

/* Stops a thread's registers are read at are all the same to us: no system call is under way that could restart. */
static void set_registers(pid_t thread, struct user_regs_struct registers)
{
    registers.orig_rax = (unsigned long long)-1;
    request(PTRACE_SETREGS, thread, NULL, &registers, "PTRACE_SETREGS");
}

/* ---- waiting ------------------------------------------------------------------------------------------------ */

static volatile pid_t limited;
static volatile bool out_of_time;

static void kill_limited(int signal)
{
    (void)signal;
    if (limited > 0) {
        out_of_time = true;
        kill(limited, SIGKILL);
    }
}

bool time_limit(pid_t pid, double seconds)
{
    static bool has_handler;
    struct itimerval timer = {.it_value = {(time_t)seconds, (suseconds_t)((seconds - (double)(time_t)seconds) * 1e6)}};
    bool happened = out_of_time;
    if (!has_handler) {
        struct sigaction action = {.sa_handler = kill_limited, .sa_flags = SA_RESTART};
        has_handler = sigaction(SIGALRM, &action, NULL) == 0;
    }
    limited = pid;
    out_of_time = false;
    setitimer(ITIMER_REAL, &timer, NULL);
    return happened;
}

/* A thread that is stepped or copied stops at once, unless something is badly wrong. */
void tracee_wait(struct tracee *t)
{
    int status;
    bool is_limited = limited != 0;
    if (!is_limited) {
        time_limit(t->thread, 3 * options.seconds);
    }
    while (waitpid(t->thread, &status, __WALL) < 0) {
        if (errno != EINTR) {
            broken("waitpid");
        }
    }
    if (!is_limited) {
        t->out_of_time |= time_limit(0, 0);
    }
    t->status = status;
    t->ended = !WIFSTOPPED(status);
    t->signal = t->ended ? 0 : WSTOPSIG(status);
    struct user_regs_struct registers = {0};
    if (!t->ended) {
        request(PTRACE_GETREGS, t->thread, NULL, &registers, "PTRACE_GETREGS");
    }
    t->at = registers.rip;
    t->stack = registers.rsp;
}

void tracee_continue(struct tracee *t, int signal)
{
    request(PTRACE_CONT, t->thread, NULL, (void *)(intptr_t)signal, "PTRACE_CONT");
    tracee_wait(t);
}

/* ---- one instruction ---------------------------------------------------------------------------------------- */

/* What stands at an address, remembered: text doesn't change. length 0: not looked at yet. */
struct instruction {
    uintptr_t at;
    uint8_t repeat_length; /* of a repeated string instruction; 0: it is none */
    bool system_call;
};

static long peek(pid_t thread, uintptr_t at)
{
    errno = 0;
    return ptrace(PTRACE_PEEKTEXT, thread, (void *)at, NULL);
}

static struct instruction decode(uintptr_t at, long word)
{
    struct instruction result = {.at = at};
    unsigned char bytes[sizeof word];
    memcpy(bytes, &word, sizeof word);
    result.system_call = bytes[0] == 0x0f && bytes[1] == 0x05;
    unsigned i = 0;
    bool repeated = false;
    while (i < 4 && (bytes[i] == 0x66 || bytes[i] == 0xf2 || bytes[i] == 0xf3)) {
        repeated |= bytes[i] != 0x66;
        i++;
    }
    i += (bytes[i] & 0xf0) == 0x40; /* REX */
    bool string = (bytes[i] >= 0xa4 && bytes[i] <= 0xa7) || (bytes[i] >= 0xaa && bytes[i] <= 0xaf);
    if (repeated && string) {
        result.repeat_length = (uint8_t)(i + 1);
    }
    return result;
}

static const struct instruction *instruction_at(struct tracee *t)
{
    static struct instruction seen[1 << 14];
    struct instruction *slot = &seen[(t->at * 0x9e3779b97f4a7c15u) >> 50];
    if (slot->at != t->at) {
        *slot = decode(t->at, peek(t->thread, t->at));
    }
    return slot;
}

bool tracee_at_system_call(struct tracee *t)
{
    return instruction_at(t)->system_call;
}

/* By a trap planted there for the moment. */
static void run_to(struct tracee *t, uintptr_t target)
{
    long word = peek(t->thread, target);
    long trap = (word & ~0xffL) | 0xcc;
    request(PTRACE_POKETEXT, t->thread, (void *)target, (void *)trap, "PTRACE_POKETEXT");
    tracee_continue(t, 0);
    if (t->ended) {
        return;
    }
    request(PTRACE_POKETEXT, t->thread, (void *)target, (void *)word, "PTRACE_POKETEXT");
    if (t->at == target + 1) {
        struct user_regs_struct registers;
        request(PTRACE_GETREGS, t->thread, NULL, &registers, "PTRACE_GETREGS");
        registers.rip = target;
        set_registers(t->thread, registers);
        t->at = target;
    }
}

/* Which ranges the kernel wipes at fork: asked again when the program asks for one. */
static void find_wiped(struct tracee *t)
{
    char path[64];
    char line[256];
    unsigned long begin = 0;
    unsigned long end = 0;
    snprintf(path, sizeof path, "/proc/%d/smaps", (int)t->thread);
    FILE *file = fopen(path, "re");
    t->n_wiped = 0;
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        unsigned long from;
        unsigned long to;
        if (strncmp(line, "VmFlags:", 8) != 0) {
            if (sscanf(line, "%lx-%lx ", &from, &to) == 2) {
                begin = from;
                end = to;
            }
        } else if (strstr(line, " wf") != NULL && t->n_wiped < MAX_WIPED) {
            t->wiped[t->n_wiped].begin = begin;
            t->wiped[t->n_wiped++].end = end;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
}

static bool about_to_wipe_on_fork(struct tracee *t)
{
    struct user_regs_struct registers;
    if (!instruction_at(t)->system_call) {
        return false;
    }
    request(PTRACE_GETREGS, t->thread, NULL, &registers, "PTRACE_GETREGS");
    return registers.rax == SYS_madvise && registers.rdx == MADV_WIPEONFORK;
}

void tracee_step(struct tracee *t)
{
    unsigned repeat_length = instruction_at(t)->repeat_length;
    bool wiped = about_to_wipe_on_fork(t);
    uintptr_t before = t->at;
    if (t->in_repeat) {
        t->in_repeat = false;
        run_to(t, before + repeat_length);
    } else {
        request(PTRACE_SINGLESTEP, t->thread, NULL, NULL, "PTRACE_SINGLESTEP");
        tracee_wait(t);
        t->in_repeat = repeat_length != 0 && t->at == before;
    }
    if (wiped && !t->ended) {
        find_wiped(t);
    }
}

void tracee_step_signal(struct tracee *t, int signal)
{
    request(PTRACE_SINGLESTEP, t->thread, NULL, (void *)(intptr_t)signal, "PTRACE_SINGLESTEP");
    tracee_wait(t);
}

/* ---- a copy of the process ---------------------------------------------------------------------------------- */

static void copy_wiped(const struct tracee *from, const struct tracee *to)
{
    char page[4096];
    struct iovec here = {page, sizeof page};
    for (unsigned i = 0; i < from->n_wiped; i++) {
        for (uintptr_t at = from->wiped[i].begin; at < from->wiped[i].end; at += sizeof page) {
            struct iovec there = {(void *)at, sizeof page};
            if (process_vm_readv(from->thread, &here, 1, &there, 1, 0) == (ssize_t)sizeof page) {
                process_vm_writev(to->thread, &here, 1, &there, 1, 0);
            }
        }
    }
}

/* The tracee executes the clone at stage_system_call and runs into the trap behind it. Its parent becomes the copy's,
 * so that we can wait for the copy after we have let it go. */
void tracee_copy(struct tracee *t, struct tracee *copy)
{
    struct user_regs_struct saved;
    request(PTRACE_GETREGS, t->thread, NULL, &saved, "PTRACE_GETREGS");
    struct user_regs_struct registers = saved;
    registers.rip = (uintptr_t)stage_system_call;
    registers.rax = SYS_clone;
    registers.rdi = SIGCHLD | CLONE_PARENT;
    if (shared->tid_address != 0) {
        registers.rdi |= CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;
    }
    registers.rsi = 0;
    registers.rdx = 0;
    registers.r10 = shared->tid_address;
    registers.r8 = 0;
    set_registers(t->thread, registers);
    tracee_continue(t, 0);
    if (t->ended || t->status >> 8 != (SIGTRAP | PTRACE_EVENT_FORK << 8)) {
        broken("the stage can't be copied");
    }
    unsigned long pid;
    request(PTRACE_GETEVENTMSG, t->thread, NULL, &pid, "PTRACE_GETEVENTMSG");
    tracee_continue(t, 0);
    set_registers(t->thread, saved);
    t->at = saved.rip;
    t->stack = saved.rsp;
    *copy = *t;
    copy->thread = (pid_t)pid;
    tracee_wait(copy);
    set_registers(copy->thread, saved);
    copy->at = saved.rip;
    copy->stack = saved.rsp;
    copy_wiped(t, copy);
}

void tracee_let_go(struct tracee *t, int signal)
{
    if (signal != 0) {
        syscall(SYS_tgkill, t->thread, t->thread, signal);
    }
    request(PTRACE_DETACH, t->thread, NULL, NULL, "PTRACE_DETACH");
}

void tracee_kill(struct tracee *t)
{
    kill(t->thread, SIGKILL);
    while (!t->ended) {
        tracee_wait(t);
    }
}

bool tracee_seize(struct tracee *t, pid_t thread)
{
    *t = (struct tracee){.thread = thread};
    if (ptrace(PTRACE_SEIZE, thread, NULL, (void *)(PTRACE_O_TRACEFORK | PTRACE_O_EXITKILL)) != 0) {
        return false;
    }
    find_wiped(t);
    return true;
}

/* ---- children ----------------------------------------------------------------------------------------------- */

bool wait_for_end(pid_t pid, double seconds, int *status)
{
    time_limit(pid, seconds);
    while (waitpid(pid, status, __WALL) < 0) {
        if (errno != EINTR) {
            broken("waitpid");
        }
    }
    return !time_limit(0, 0);
}
