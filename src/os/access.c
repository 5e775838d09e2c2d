/* SPDX-License-Identifier: MIT */
/* access.c - accesses that the machine refused: asked about first, then passed on to the program's own action.
 *
 * The program's own action is what it was when the handler was set. A program that sets its own later is in its place,
 * and has ours if it asks for the old one.
 */
#define _GNU_SOURCE
#include "os/os.h"

#include "base/atomic.h"
#include "base/base.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <ucontext.h>

static const int caught_signals[] = {SIGSEGV, SIGBUS};
#define CAUGHT (sizeof caught_signals / sizeof caught_signals[0])

/* The program's action of a signal: two slots, of which one is current, so that a handler never sees half of one. */
struct own_action {
    struct sigaction slots[2];
    _Atomic unsigned current; /* O35 */
};

typedef bool (*handler_fn)(const struct os_access *);
#define HANDLERS 4u

static struct {
    _Atomic(handler_fn) handlers[HANDLERS]; /* O36: the first is NULL until the actions are there */
    struct own_action own[2];
} caught;

static struct own_action *own_of(int signal)
{
    for (size_t i = 0; i < CAUGHT; i++) {
        if (caught_signals[i] == signal) {
            return &caught.own[i];
        }
    }
    return NULL;
}

static struct sigaction get_own(struct own_action *own)
{
    return own->slots[load_acquire(&own->current) & 1]; /* O35 */
}

static void set_own(struct own_action *own, const struct sigaction *action)
{
    unsigned next = load_relaxed(&own->current) + 1; /* the program's threads don't set actions at the same time */
    own->slots[next & 1] = *action;
    store_release(&own->current, next); /* O35 */
}

/* ---- what was refused --------------------------------------------------------------------------------------- */

static int was_write(const void *context)
{
#if defined(__linux__) && defined(__x86_64__)
    const ucontext_t *c = context;
    return (c->uc_mcontext.gregs[REG_ERR] & 2) != 0;
#else
    (void)context;
    return -1;
#endif
}

static bool has_action(int signal)
{
    struct own_action *own = own_of(signal);
    struct sigaction action = own == NULL ? (struct sigaction){.sa_handler = SIG_DFL} : get_own(own);
    return (action.sa_flags & SA_SIGINFO) != 0 || (action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN);
}

static struct os_access describe(int signal, const siginfo_t *info, const void *context)
{
    struct os_access access = {.address = info->si_addr,
                               .address_known = true,
                               .is_write = was_write(context),
                               .beyond_file = signal == SIGBUS,
                               .handled = has_action(signal)};
#if defined(SI_KERNEL)
    access.address_known = info->si_code != SI_KERNEL;
#endif
    access.has_registers = os_registers_of(context, &access.registers);
    return access;
}

/* Sent by somebody, not by the machine. */
static bool was_sent(const siginfo_t *info)
{
#if defined(SI_KERNEL)
    return info->si_code <= 0;
#else
    return info->si_code == SI_USER || info->si_code == SI_QUEUE;
#endif
}

/* ---- passing on --------------------------------------------------------------------------------------------- */

/* The standard action, when the handler has returned: the access is tried again, or the signal sent again. */
static void pass_to_standard(int signal, const siginfo_t *info)
{
    struct sigaction standard = {.sa_handler = SIG_DFL};
    sigaction(signal, &standard, NULL);
    if (was_sent(info)) {
        raise(signal);
    }
}

static void pass_on(int signal, siginfo_t *info, void *context)
{
    struct own_action *own = own_of(signal);
    if (own == NULL) {
        return;
    }
    struct sigaction action = get_own(own);
    bool takes_info = (action.sa_flags & SA_SIGINFO) != 0;
    if (!takes_info && action.sa_handler == SIG_IGN && was_sent(info)) {
        return;
    }
    if (!takes_info && (action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN)) {
        pass_to_standard(signal, info);
        return;
    }
    if (((unsigned)action.sa_flags & (unsigned)SA_RESETHAND) != 0) {
        struct sigaction standard = {.sa_handler = SIG_DFL};
        set_own(own, &standard);
    }
    sigset_t mask = action.sa_mask;
    sigset_t before;
    if ((action.sa_flags & SA_NODEFER) == 0) {
        sigaddset(&mask, signal);
    }
    pthread_sigmask(SIG_BLOCK, &mask, &before);
    if (takes_info) {
        action.sa_sigaction(signal, info, context);
    } else {
        action.sa_handler(signal);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* SA_NODEFER: what goes wrong while a report is made is passed on, and not the process's silent end. */
static void handle(int signal, siginfo_t *info, void *context)
{
    int saved = errno;
    bool done = false;
    if (!was_sent(info)) {
        struct os_access access = describe(signal, info, context);
        for (size_t i = 0; i < HANDLERS && !done; i++) {
            handler_fn handler = load_acquire(&caught.handlers[i]); /* O36 */
            done = handler != NULL && handler(&access);
        }
    }
    if (!done) {
        pass_on(signal, info, context);
    }
    errno = saved;
}

static int take_signals(void)
{
    struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < CAUGHT; i++) {
        if (sigaction(caught_signals[i], &action, NULL) != 0) {
            return -errno;
        }
    }
    return 0;
}

static int keep_own(void)
{
    for (size_t i = 0; i < CAUGHT; i++) {
        struct sigaction old;
        if (sigaction(caught_signals[i], NULL, &old) != 0) {
            return -errno;
        }
        set_own(&caught.own[i], &old);
    }
    return 0;
}

int os_catch_faults(handler_fn handler)
{
    bool is_first = load_acquire(&caught.handlers[0]) == NULL; /* O36 */
    int result = is_first ? keep_own() : 0;
    for (size_t i = 0; i < HANDLERS && result == 0; i++) {
        handler_fn there = NULL;
        if (cas_acq_rel(&caught.handlers[i], &there, handler)) { /* O36: the program's actions are there */
            return is_first ? take_signals() : 0;
        }
    }
    return result == 0 ? -ENOSPC : result;
}
