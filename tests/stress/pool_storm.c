/* SPDX-License-Identifier: MIT */
/* pool_storm.c - handlers that allocate and free, nested, on alternate stacks, fired by timers and by another thread as
 * fast as the machine gives, while the threads they interrupt do the same.
 *
 *     pool_storm [seconds [threads]]
 */
#include "pool_stress.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>

/* The thread sanitizer keeps signals back until the thread is between calls. */
#if defined(__SANITIZE_THREAD__)
#define SIGNALS_WAIT 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SIGNALS_WAIT 1
#endif
#endif
#ifndef SIGNALS_WAIT
#define SIGNALS_WAIT 0
#endif

#define DEEPEST 12
#define ALTERNATE_BYTES (4096 * 1024)

static double seconds = 2;
static unsigned n_threads = 4;
static const struct source *source;
static size_t most;
static _Atomic bool over;
static _Atomic uint64_t n_handled, n_nested;
static pthread_t workers[64];
static _Atomic uint32_t n_ready;

/* Handlers on each worker's stacks. Nobody sends a signal to where there are many: entering handlers takes stack before
 * they can count themselves. */
static _Atomic int depths[64];
static __thread _Atomic int *own_depth = &depths[63];
static __thread volatile uint32_t handler_seed;

/* Blocks that a handler holds across a handler that interrupts it are checked by their stamps. */
static void handler(int number)
{
    int saved = errno;
    int depth = atomic_fetch_add(own_depth, 1) + 1;
    atomic_fetch_add_explicit(&n_handled, 1, memory_order_relaxed);
    if (depth > 1) {
        atomic_fetch_add_explicit(&n_nested, 1, memory_order_relaxed);
    }
    uint32_t seed = handler_seed * 747796405u + (uint32_t)number + 1;
    handler_seed = seed;
    seed |= 1;
    errno = 1234;
    size_t bytes = random_bytes(next_random(&seed), most);
    size_t *block = source->take(bytes);
    if (block != NULL) {
        stamp(block, bytes);
    }
    for (int i = 0; i < 3; i++) {
        one_step(source, &seed, most);
    }
    if (depth < DEEPEST && number == SIGUSR1) {
        raise(SIGUSR2);
    } else if (depth < DEEPEST && next_random(&seed) % 2 == 0) {
        raise(SIGUSR1);
    }
    if (block != NULL) {
        check_and_wipe(block);
        source->give(block);
    }
    if (errno != 1234) {
        die("errno was changed", block);
    }
    errno = saved;
    atomic_fetch_sub(own_depth, 1);
}

static void install(int number, int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART | flags};
    sigaction(number, &action, NULL);
}

static timer_t start_timer(void)
{
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN};
#ifdef sigev_notify_thread_id
    event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
#else
    event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
#endif
    timer_t timer;
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0) {
        die("no timer", NULL);
    }
    struct itimerspec often = {.it_value.tv_nsec = 1, .it_interval.tv_nsec = 20000};
    timer_settime(timer, 0, &often, NULL);
    return timer;
}

static void *work(void *context)
{
    own_depth = &depths[(uintptr_t)context - 1];
    stack_t alternate = {.ss_sp = malloc(ALTERNATE_BYTES), .ss_size = ALTERNATE_BYTES};
    stack_t before;
    sigaltstack(&alternate, &before);
    handler_seed = (uint32_t)(uintptr_t)context * 40503u;
    uint32_t seed = (uint32_t)(uintptr_t)context * 2654435761u + 1;
    timer_t timer = start_timer();
    atomic_fetch_add(&n_ready, 1);
    while (!atomic_load(&over)) {
        one_step(source, &seed, most);
    }
    timer_delete(timer);
    sigaltstack(&before, NULL); /* a sanitizer's own */
    free(alternate.ss_sp);
    return NULL;
}

static void run(const struct source *which, struct pool *pool, size_t most_bytes)
{
    source = which;
    most = most_bytes;
    atomic_store(&over, false);
    atomic_store(&n_ready, 0);
    atomic_store(&n_handled, 0);
    atomic_store(&n_nested, 0);
    for (uintptr_t i = 0; i < n_threads; i++) {
        pthread_create(&workers[i], NULL, work, (void *)(i + 1));
    }
    while (atomic_load(&n_ready) < n_threads) {
        usleep(1000);
    }
    double until = now_seconds() + seconds;
    for (unsigned i = 0; now_seconds() < until; i++) {
        if (atomic_load(&depths[i % n_threads]) < DEEPEST) {
            pthread_kill(workers[i % n_threads], i % 3 == 0 ? SIGUSR2 : SIGUSR1);
        } else {
            sched_yield();
        }
    }
    atomic_store(&over, true);
    for (unsigned i = 0; i < n_threads; i++) {
        pthread_join(workers[i], NULL);
    }
    drain(source);
    printf("%llu handlers, %llu of them nested; ", (unsigned long long)n_handled, (unsigned long long)n_nested);
    expect_nothing_live(pool, which->name);
    if (n_handled < 1000 || (!SIGNALS_WAIT && n_nested < 100)) {
        die("that was no storm", NULL);
    }
}

int main(int argc, char **argv)
{
    static const struct source public_source = {"public", allot_pool_malloc, allot_pool_free};
    static const struct source heap_source = {"heap", take_heap, pool_free};
    seconds = argc > 1 ? atof(argv[1]) : seconds;
    n_threads = argc > 2 ? (unsigned)atoi(argv[2]) : n_threads;
    install(SIGUSR1, SA_ONSTACK | SA_NODEFER);
    install(SIGUSR2, 0);
    install(SIGRTMIN, SA_ONSTACK);

    source = &public_source;
    most = 1000;
    raise(SIGUSR1); /* the first call of all comes from a handler */

    run(&public_source, &pool_public, 50000);
    run(&heap_source, &pool_of_heap, 400000);
    return 0;
}
