/* SPDX-License-Identifier: MIT */
/* weak.c - see weak.h. */
#define _GNU_SOURCE
#include "weak.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define LOCATIONS 160
#define MESSAGES 120
#define STACK_BYTES 65536
#define CHOICES (2 * WEAK_DEEPEST)
#define SEEN_BITS 24

typedef uint8_t view_t[LOCATIONS];

struct message {
    uint64_t value;
    view_t view; /* what who acquires this message knows */
};

struct location {
    uint8_t *at;
    unsigned n;       /* messages */
    unsigned seq_cst; /* the newest that a sequentially consistent store left */
    struct message messages[MESSAGES];
};

struct thread {
    jmp_buf here;
    ucontext_t start;
    void (*body)(void);
    view_t view;
    uint64_t history;
    bool ended;
    bool begun;
    char *stack;
};

/* Who has touched a word, in any execution. While nobody but one thread did, or nobody wrote, the order of its
 * operations doesn't matter: they are done without stopping before. When that turns out wrong, all begins anew with
 * is_shared set. */
struct access {
    uint8_t by; /* a bit a thread */
    bool is_written;
    bool is_shared;
};

struct choice {
    uint8_t taken;
    uint8_t of;
};

unsigned weak_fault;
unsigned long weak_states;

static struct {
    const struct weak_scenario *scenario;
    uint8_t *memory, *initial;
    size_t bytes;
    struct access *accesses; /* by word of 4 bytes */
    uint16_t *number;        /* of the location at a word of 4 bytes, plus 1 */
    struct location locations[LOCATIONS];
    unsigned n_locations;
    struct thread threads[WEAK_THREADS + 1]; /* from 1 */
    unsigned n_threads;
    unsigned now; /* the running thread; 0: none, operations act on memory at once */
    jmp_buf scheduler;
    struct choice choices[CHOICES];
    unsigned n_choices, at_choice;
    unsigned n_operations;
    bool failed, quiet, anew;
    uint64_t *seen;
} model;

/* ---- choices ------------------------------------------------------------------------------------------------ */

static unsigned choose(unsigned of)
{
    if (of <= 1) {
        return 0;
    }
    if (model.at_choice == model.n_choices) {
        if (model.n_choices == CHOICES) {
            fprintf(stderr, "too many choices\n");
            exit(2);
        }
        model.choices[model.n_choices++] = (struct choice){.taken = 0, .of = (uint8_t)of};
    }
    return model.choices[model.at_choice++].taken;
}

/* The next list of choices; false when all have been gone through. */
static bool next_choices(void)
{
    while (model.n_choices > 0) {
        struct choice *last = &model.choices[model.n_choices - 1];
        if (++last->taken < last->of) {
            return true;
        }
        model.n_choices--;
    }
    return false;
}

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 29;
}

/* True when the state is new. The table holds whole hashes, so two states are taken for one only if all 64 bits agree.
 */
static bool state_is_new(void)
{
    uint64_t hash = 1;
    for (unsigned i = 1; i <= model.n_threads; i++) {
        hash = mix(mix(hash, model.threads[i].history), model.threads[i].ended);
    }
    hash |= 1;
    for (size_t i = hash >> (64 - SEEN_BITS);; i = (i + 1) & ((1u << SEEN_BITS) - 1)) {
        if (model.seen[i] == hash) {
            return false;
        }
        if (model.seen[i] == 0) {
            model.seen[i] = hash;
            if (++weak_states > (1u << SEEN_BITS) / 10 * 9) {
                fprintf(stderr, "too many states\n");
                exit(2);
            }
            return true;
        }
    }
}

/* ---- threads ------------------------------------------------------------------------------------------------ */

void weak_fail(const char *what)
{
    model.failed = true;
    if (!model.quiet) {
        printf("FAILED: %s: %s; choices", model.scenario->name, what);
        for (unsigned i = 0; i < model.at_choice; i++) {
            printf(" %u/%u", model.choices[i].taken, model.choices[i].of);
        }
        printf("\n");
        fflush(stdout);
    }
    if (model.now != 0) {
        _longjmp(model.scheduler, 1);
    }
}

static size_t word_of(const volatile void *p);

/* Before each operation: back to the scheduler, which says when it goes on. */
static void pause_thread(const volatile void *p, bool is_write)
{
    struct access *access = &model.accesses[word_of(p)];
    if (!access->is_shared) {
        access->by |= (uint8_t)(1u << model.now);
        access->is_written = access->is_written || is_write;
        if ((access->by & (access->by - 1)) == 0 || !access->is_written) {
            return;
        }
        access->is_shared = true;
        model.anew = true;
        _longjmp(model.scheduler, 1);
    }
    if (++model.n_operations > WEAK_DEEPEST) {
        weak_fail("no end");
    }
    if (_setjmp(model.threads[model.now].here) == 0) {
        _longjmp(model.scheduler, 1);
    }
}

static void thread_main(void)
{
    struct thread *thread = &model.threads[model.now];
    thread->body();
    thread->ended = true;
    _longjmp(model.scheduler, 1);
}

unsigned weak_thread(void)
{
    return model.now;
}

unsigned weak_place(void)
{
    return model.scenario->places % 100 == 1 ? 0 : model.now;
}

static void step_thread(unsigned i)
{
    struct thread *thread = &model.threads[i];
    model.now = i;
    if (_setjmp(model.scheduler) == 0) {
        if (!thread->begun) {
            thread->begun = true;
            setcontext(&thread->start);
        }
        _longjmp(thread->here, 1);
    }
    model.now = 0;
}

/* ---- memory ------------------------------------------------------------------------------------------------- */

static uint64_t raw_get(const volatile void *p, size_t bytes)
{
    uint64_t value = 0;
    memcpy(&value, (const void *)(uintptr_t)p, bytes);
    return value;
}

static void raw_set(volatile void *p, size_t bytes, uint64_t value)
{
    memcpy((void *)(uintptr_t)p, &value, bytes);
}

static size_t word_of(const volatile void *p)
{
    size_t offset = (size_t)((const uint8_t *)(uintptr_t)p - model.memory);
    return offset < model.bytes ? offset / 4 : SIZE_MAX;
}

static bool is_direct(const volatile void *p)
{
    size_t word = word_of(p);
    return model.now == 0 || word == SIZE_MAX;
}

static unsigned location_of(const volatile void *p, size_t bytes)
{
    uint16_t *number = &model.number[word_of(p)];
    if (*number == 0) {
        if (model.n_locations == LOCATIONS) {
            fprintf(stderr, "too many locations\n");
            exit(2);
        }
        struct location *location = &model.locations[model.n_locations++];
        *number = (uint16_t)model.n_locations;
        location->at = (uint8_t *)(uintptr_t)p;
        location->n = 1;
        location->seq_cst = 0;
        location->messages[0].value = raw_get(p, bytes);
        memset(location->messages[0].view, 0, LOCATIONS);
    }
    return *number - 1u;
}

static void join(view_t into, const view_t from)
{
    for (unsigned i = 0; i < LOCATIONS; i++) {
        into[i] = into[i] > from[i] ? into[i] : from[i];
    }
}

static enum weak_order effective(enum weak_order order, bool is_load, bool is_store)
{
    switch (weak_fault) {
    case FAULT_LOADS_NOT_SEQ_CST:
        return is_load && !is_store && order == SEQ_CST ? ACQUIRE : order;
    case FAULT_STORES_NOT_SEQ_CST:
        return is_store && order == SEQ_CST ? ACQ_REL : order;
    case FAULT_NO_RELEASE:
        return order & ~(unsigned)RELEASE;
    case FAULT_NO_ACQUIRE:
        return order & ~(unsigned)ACQUIRE;
    default:
        return order;
    }
}

static void remember(unsigned location, uint64_t message, bool wrote)
{
    struct thread *thread = &model.threads[model.now];
    thread->history =
        mix(thread->history, ((uint64_t)word_of(model.locations[location].at) << 16) ^ message << 1 ^ wrote);
}

static uint64_t read_message(unsigned l, unsigned m, enum weak_order order)
{
    struct thread *thread = &model.threads[model.now];
    struct message *message = &model.locations[l].messages[m];
    thread->view[l] = (uint8_t)m;
    if ((order & ACQUIRE) != 0) {
        join(thread->view, message->view);
    }
    remember(l, m, false);
    return message->value;
}

/* based_on: the message that a read-modify-write read, whose release sequence it carries on; -1 for a store. */
static void write_message(unsigned l, size_t bytes, uint64_t value, enum weak_order order, int based_on)
{
    struct thread *thread = &model.threads[model.now];
    struct location *location = &model.locations[l];
    unsigned m = location->n++;
    if (location->n > MESSAGES) {
        weak_fail("no end of stores");
    }
    struct message *message = &location->messages[m];
    thread->view[l] = (uint8_t)m;
    message->value = value;
    if ((order & RELEASE) != 0) {
        memcpy(message->view, thread->view, LOCATIONS);
    } else {
        memset(message->view, 0, LOCATIONS);
        message->view[l] = (uint8_t)m;
    }
    if (based_on >= 0) {
        join(message->view, location->messages[based_on].view);
    }
    if (order == SEQ_CST) {
        location->seq_cst = m;
    }
    raw_set(location->at, bytes, value);
    remember(l, m, true);
}

/* Would reading older tell the thread nothing more than reading newer? Then whatever can happen after the newer one can
 * happen after the older one as well. */
static bool tells_less(const struct location *location, unsigned older, unsigned newer, enum weak_order order)
{
    const struct message *a = &location->messages[older], *b = &location->messages[newer];
    if (a->value != b->value) {
        return false;
    }
    for (unsigned i = 0; (order & ACQUIRE) != 0 && i < LOCATIONS; i++) {
        if (a->view[i] > b->view[i] && a->view[i] > model.threads[model.now].view[i]) {
            return false;
        }
    }
    return true;
}

/* The messages that a load may read, without those that an older one stands for. Newest first. */
static unsigned readable(unsigned l, unsigned oldest, enum weak_order order, unsigned *options)
{
    const struct location *location = &model.locations[l];
    unsigned n = 0;
    for (unsigned m = location->n; m-- > oldest;) {
        bool stood_for = false;
        for (unsigned older = oldest; older < m && !stood_for; older++) {
            stood_for = tells_less(location, older, m, order);
        }
        if (!stood_for) {
            options[n++] = m;
        }
    }
    return n;
}

uint64_t weak_load(const volatile void *p, size_t bytes, enum weak_order order)
{
    if (is_direct(p)) {
        return raw_get(p, bytes);
    }
    pause_thread(p, /* is_write */ false);
    order = effective(order, true, false);
    unsigned l = location_of(p, bytes);
    struct location *location = &model.locations[l];
    unsigned oldest = model.threads[model.now].view[l];
    if (order == SEQ_CST && location->seq_cst > oldest) {
        oldest = location->seq_cst;
    }
    unsigned options[MESSAGES];
    unsigned n = readable(l, oldest, order, options);
    return read_message(l, options[choose(n)], order);
}

void weak_store(volatile void *p, size_t bytes, uint64_t value, enum weak_order order)
{
    if (model.now == 0) {
        raw_set(p, bytes, value);
        return;
    }
    pause_thread(p, /* is_write */ true);
    write_message(location_of(p, bytes), bytes, bytes == 8 ? value : value & ((UINT64_C(1) << bytes * 8) - 1),
                  effective(order, false, true), -1);
}

uint64_t weak_change(volatile void *p, size_t bytes, enum weak_change change, uint64_t operand, enum weak_order order)
{
    uint64_t old = 0;
    unsigned l = 0, newest = 0;
    if (model.now != 0) {
        pause_thread(p, /* is_write */ true);
        order = effective(order, true, true);
        l = location_of(p, bytes);
        newest = model.locations[l].n - 1;
        old = read_message(l, newest, order);
    } else {
        old = raw_get(p, bytes);
    }
    uint64_t value = change == CHANGE_SET   ? operand
                     : change == CHANGE_ADD ? old + operand
                     : change == CHANGE_OR  ? old | operand
                                            : old & operand;
    value = bytes == 8 ? value : value & ((UINT64_C(1) << bytes * 8) - 1);
    if (model.now != 0) {
        write_message(l, bytes, value, order, (int)newest);
    } else {
        raw_set(p, bytes, value);
    }
    return old;
}

/* On weak memory a failing one may have read any value that a load could have, but for the expected one. */
bool weak_cas(volatile void *p, size_t bytes, void *expected, uint64_t value, enum weak_order order,
              enum weak_order failed)
{
    uint64_t wanted = raw_get(expected, bytes);
    if (model.now == 0) {
        uint64_t old = raw_get(p, bytes);
        raw_set(old == wanted ? p : expected, bytes, old == wanted ? value : old);
        return old == wanted;
    }
    pause_thread(p, /* is_write */ true);
    order = effective(order, true, true);
    failed = effective(failed, true, false);
    unsigned l = location_of(p, bytes);
    struct location *location = &model.locations[l];
    unsigned newest = location->n - 1, oldest = model.threads[model.now].view[l];
    unsigned options[MESSAGES], n = 0;
    for (unsigned m = newest + 1; m-- > oldest;) {
        if (m == newest || location->messages[m].value != wanted) {
            options[n++] = m;
        }
    }
    unsigned m = options[choose(n)];
    if (m == newest && location->messages[m].value == wanted) {
        read_message(l, m, order);
        write_message(l, bytes, value, order, (int)m);
        return true;
    }
    uint64_t found = read_message(l, m, failed);
    raw_set(expected, bytes, found);
    return false;
}

void weak_own(const void *p, uint64_t old, uint64_t fresh)
{
    if (model.now == 0) {
        raw_set((void *)(uintptr_t)p, sizeof fresh, fresh);
        return;
    }
    unsigned l = location_of(p, sizeof fresh);
    struct location *location = &model.locations[l];
    if (model.threads[model.now].view[l] != location->n - 1) {
        weak_fail("a race on a block's contents");
    }
    if (location->messages[location->n - 1].value != old) {
        weak_fail("a block has another owner");
    }
    write_message(l, sizeof fresh, fresh, RELAXED, -1);
}

/* ---- executions --------------------------------------------------------------------------------------------- */

static void begin_execution(void)
{
    memcpy(model.memory, model.initial, model.bytes);
    for (unsigned i = 0; i < model.n_locations; i++) {
        model.number[word_of(model.locations[i].at)] = 0;
    }
    model.n_locations = 0;
    model.at_choice = 0;
    model.n_operations = 0;
    for (unsigned i = 1; i <= model.n_threads; i++) {
        struct thread *thread = &model.threads[i];
        memset(thread->view, 0, LOCATIONS);
        thread->history = i;
        thread->ended = thread->begun = false;
        getcontext(&thread->start);
        thread->start.uc_stack.ss_sp = thread->stack;
        thread->start.uc_stack.ss_size = STACK_BYTES;
        thread->start.uc_link = NULL;
        makecontext(&thread->start, thread_main, 0);
    }
    for (unsigned i = 1; i <= model.n_threads && !model.anew; i++) {
        step_thread(i); /* to its first operation */
    }
}

static unsigned unfinished_threads(unsigned *bits)
{
    unsigned n = 0;
    *bits = 0;
    for (unsigned i = 1; i <= model.n_threads; i++) {
        n += !model.threads[i].ended;
        *bits |= model.threads[i].ended ? 0 : 1u << i;
    }
    return n;
}

static unsigned nth_unfinished(unsigned n)
{
    for (unsigned i = 1;; i++) {
        if (!model.threads[i].ended && n-- == 0) {
            return i;
        }
    }
}

static void one_execution(void)
{
    begin_execution();
    for (;;) {
        unsigned bits;
        unsigned n = unfinished_threads(&bits);
        /* Only beyond the choices that were given has a state not been gone into yet. */
        bool beyond = model.at_choice == model.n_choices;
        if (beyond && n <= 1) {
            model.scenario->check(bits);
        }
        if (n == 0 || model.failed || model.anew) {
            return;
        }
        if (beyond && n > 1 && !state_is_new()) {
            return;
        }
        step_thread(nth_unfinished(choose(n)));
        if (model.failed || model.anew) {
            return;
        }
    }
}

unsigned long weak_explore(const struct weak_scenario *scenario, void *memory, size_t bytes, bool quiet)
{
    model.scenario = scenario;
    model.memory = memory;
    model.bytes = bytes;
    model.quiet = quiet;
    model.failed = false;
    model.now = 0;
    model.n_choices = model.n_locations = 0;
    model.n_threads = 0;
    weak_states = 0;
    model.initial = malloc(bytes);
    model.accesses = calloc(bytes / 4, sizeof *model.accesses);
    model.number = calloc(bytes / 4, sizeof *model.number);
    model.seen = calloc((size_t)1 << SEEN_BITS, sizeof *model.seen);
    for (unsigned i = 0; i < WEAK_THREADS && scenario->bodies[i] != NULL; i++) {
        model.threads[++model.n_threads].body = scenario->bodies[i];
        model.threads[i + 1].stack = malloc(STACK_BYTES);
    }
    memset(memory, 0, bytes);
    scenario->prepare();
    memcpy(model.initial, memory, bytes);
    unsigned long n = 0;
    do {
        n++;
        one_execution();
        if (model.anew) {
            model.anew = false;
            model.n_choices = 0;
            weak_states = 0;
            memset(model.seen, 0, sizeof *model.seen << SEEN_BITS);
            n = 0;
        }
    } while (n == 0 || (!model.failed && next_choices()));
    for (unsigned i = 1; i <= model.n_threads; i++) {
        free(model.threads[i].stack);
    }
    free(model.initial);
    free(model.accesses);
    free(model.number);
    free(model.seen);
    return model.failed ? 0 : n;
}
