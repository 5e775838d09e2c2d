/* SPDX-License-Identifier: MIT */
/* heap_signals.c - handlers that allocate and free at any moment and depth, that never return, and threads that are
 * cancelled. */
#include "stress.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

/* ---- a timer for the calling thread
 * ---------------------------------------------------------------------------------------- */

static timer_t timer_start(int number, long microseconds)
{
    struct sigevent event;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = number;
    event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
    timer_t timer;
    EXPECT(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0, "no timer");
    struct itimerspec often = {{0, microseconds * 1000}, {0, microseconds * 1000}};
    timer_settime(timer, 0, &often, NULL);
    return timer;
}

static void alternate_stack(void)
{
    stack_t stack = {.ss_size = 256 * KIB};
    stack.ss_sp = malloc(stack.ss_size);
    EXPECT(stack.ss_sp != NULL && sigaltstack(&stack, NULL) == 0, "no alternate stack");
}

static void handle(int number, void (*handler)(int), int flags)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = SA_RESTART | flags;
    sigaction(number, &action, NULL);
}

/* ---- handlers that take and give
 * ------------------------------------------------------------------------------------------- */

static __thread struct churn in_handler;
static __thread struct churn in_nested_handler;
static __thread void *volatile passed; /* taken on one side, freed on the other */
static _Atomic size_t n_handled;
static _Atomic bool damage;

static void work_in_handler(int number)
{
    int kept = errno;
    struct churn *churn = number == SIGUSR1 ? &in_handler : &in_nested_handler;
    for (int i = 0; i < 3; i++) {
        if (!churn_step(churn)) {
            damage = true;
        }
    }
    if (number == SIGUSR1) {
        void *block = passed;
        passed = NULL;
        free(block);
        block = malloc(200);
        passed = block;
    }
    n_handled++;
    errno = kept;
}

static void *work_under_signals(void *argument)
{
    uint64_t seed = (uintptr_t)argument;
    alternate_stack();
    churn_init(&in_handler, seed, 300000);
    churn_init(&in_nested_handler, seed + 100, 300000);
    struct churn churn;
    churn_init(&churn, seed + 200, 300000);
    timer_t slow = timer_start(SIGUSR1, 90);
    timer_t fast = timer_start(SIGUSR2, 70);
    uint64_t end = now_ms() + (stress_is_long() ? 60000 : 2500);
    while (now_ms() < end && !damage) {
        for (int i = 0; i < 50; i++) {
            if (!churn_step(&churn)) {
                damage = true;
            }
        }
        free(__atomic_exchange_n((void **)(uintptr_t)&passed, NULL, __ATOMIC_RELAXED));
    }
    timer_delete(slow);
    timer_delete(fast);
    bool whole = churn_end(&churn) && churn_end(&in_handler) && churn_end(&in_nested_handler);
    return whole && !damage ? NULL : argument;
}

static void run_under_signals(size_t n_threads)
{
    handle(SIGUSR1, work_in_handler, SA_ONSTACK);
    handle(SIGUSR2, work_in_handler, SA_ONSTACK); /* interrupts the other handler too */
    pthread_t threads[8];
    for (size_t i = 0; i < n_threads; i++) {
        EXPECT(pthread_create(&threads[i], NULL, work_under_signals, (void *)(i + 1)) == 0, "no thread");
    }
    for (size_t i = 0; i < n_threads; i++) {
        void *result = NULL;
        pthread_join(threads[i], &result);
        EXPECT(result == NULL, "damage");
    }
    EXPECT(n_handled > 500, "only %zu signals", (size_t)n_handled);
    EXPECT(resident_bytes() < 300 * MIB, "%zu MiB resident", resident_bytes() / MIB);
}

static void handlers_in_one_thread(void)
{
    run_under_signals(1);
}

static void handlers_in_four_threads(void)
{
    run_under_signals(4);
}

/* Small sizes alone: nearly every signal hits malloc or free. The memory of handlers comes back. */
static void work_small_in_handler(int number)
{
    (void)number;
    int kept = errno;
    void *blocks[20];
    for (size_t i = 0; i < COUNT(blocks); i++) {
        blocks[i] = malloc(16 + i * 50);
        pattern_fill(blocks[i], 16 + i * 50, (unsigned)i);
    }
    for (size_t i = 0; i < COUNT(blocks); i++) {
        damage = damage || !pattern_holds(blocks[i], 16 + i * 50, (unsigned)i);
        free(blocks[i]);
    }
    n_handled++;
    errno = kept;
}

static void memory_of_handlers_comes_back(void)
{
    handle(SIGUSR1, work_small_in_handler, 0);
    timer_t timer = timer_start(SIGUSR1, 60);
    size_t before = 0;
    uint64_t begin = now_ms();
    uint64_t end = begin + (stress_is_long() ? 30000 : 3000);
    while (now_ms() < end) {
        for (size_t i = 0; i < 1000; i++) {
            void *block = malloc(48);
            *(volatile char *)block = 1;
            free(block);
        }
        if (before == 0 && now_ms() > begin + 1000) {
            before = resident_bytes();
        }
    }
    timer_delete(timer);
    EXPECT(!damage, "damage");
    EXPECT(n_handled > 500, "only %zu signals", (size_t)n_handled);
    EXPECT(resident_bytes() < before + 4 * MIB, "grows: %zu KiB", (resident_bytes() - before) / KIB);
}

/* ---- handlers that leave by siglongjmp
 * --------------------------------------------------------------------------------------- */

static __thread sigjmp_buf out;
static __thread volatile sig_atomic_t may_jump;
static __thread volatile size_t n_jumps;

static void jump_out(int number)
{
    (void)number;
    free(malloc(100));
    if (may_jump) {
        may_jump = 0;
        siglongjmp(out, 1);
    }
}

static void take_and_give_small(uint64_t *random)
{
    for (;;) {
        size_t size = 16 + random_below(random, 400);
        unsigned char *block = malloc(size);
        if (block == NULL) {
            _exit(9);
        }
        memset(block, 0x3c, size);
        if (block[0] != 0x3c || block[size - 1] != 0x3c) {
            _exit(8);
        }
        free(block);
    }
}

static void *jump_out_of_malloc(void *argument)
{
    uint64_t seed = (uintptr_t)argument;
    struct churn churn; /* lives through all the jumps */
    churn_init(&churn, seed, 20000);
    timer_t timer = timer_start(SIGUSR1, 150);
    size_t wanted = stress_is_long() ? 100000 : 5000;
    uint64_t end = now_ms() + (stress_is_long() ? 120000 : 20000);
    while (n_jumps < wanted && now_ms() < end) {
        uint64_t random = seed + n_jumps * 977;
        if (sigsetjmp(out, 1) == 0) {
            may_jump = 1;
            take_and_give_small(&random);
        }
        n_jumps++;
        if (!churn_step(&churn)) {
            damage = true;
            break;
        }
    }
    may_jump = 0;
    timer_delete(timer);
    if (n_jumps < 200 || !churn_end(&churn)) {
        damage = true;
    }
    return NULL;
}

/* A jump may lose the block in flight and no more: 5000 times 400 bytes here. */
static void jumps_out_of_handlers(void)
{
    handle(SIGUSR1, jump_out, 0);
    size_t before = resident_bytes();
    jump_out_of_malloc((void *)1);
    EXPECT(!damage, "damage after %zu jumps", (size_t)n_jumps);
    size_t grown = resident_bytes() - before;
    EXPECT(grown < (stress_is_long() ? 128 : 24) * MIB, "%zu jumps, %zu KiB more", (size_t)n_jumps, grown / KIB);
}

static void jumps_in_four_threads(void)
{
    handle(SIGUSR1, jump_out, 0);
    size_t before = resident_bytes();
    pthread_t threads[4];
    for (size_t i = 0; i < COUNT(threads); i++) {
        EXPECT(pthread_create(&threads[i], NULL, jump_out_of_malloc, (void *)(i + 1)) == 0, "no thread");
    }
    for (size_t i = 0; i < COUNT(threads); i++) {
        pthread_join(threads[i], NULL);
    }
    EXPECT(!damage, "damage");
    EXPECT(resident_bytes() - before < (stress_is_long() ? 512 : 96) * MIB, "%zu KiB more",
           (resident_bytes() - before) / KIB);
}

/* ---- cancellation
 * -------------------------------------------------------------------------------------------------------------- */

static void *cancelled_but_busy(void *argument)
{
    bool *reached = argument;
    pthread_cancel(pthread_self());
    bool whole = true;
    for (size_t size = 1; size < 300 * MIB; size = size * 3 + 1) {
        void *block = calloc(1, size);
        block = realloc(block, size * 2);
        whole &= block != NULL;
        free(block);
    }
    malloc_trim(0);
    *reached = whole; /* none of these was a cancellation point */
    pthread_testcancel();
    *reached = false;
    return NULL;
}

static void no_call_is_a_cancellation_point(void)
{
    for (int i = 0; i < 20; i++) {
        bool reached = false;
        void *result = NULL;
        pthread_t thread;
        EXPECT(pthread_create(&thread, NULL, cancelled_but_busy, &reached) == 0, "no thread");
        pthread_join(thread, &result);
        EXPECT(reached && result == PTHREAD_CANCELED, "cancelled inside");
    }
}

static void leave_if_cancelled(int number)
{
    (void)number;
    free(malloc(64));
    pthread_testcancel();
}

static void *churn_until_cancelled(void *argument)
{
    struct churn *churn = argument;
    while (churn_step(churn)) {
    }
    damage = true;
    return NULL;
}

/* The handler ends the thread in the middle of whatever it did. */
static void cancelled_in_a_handler(void)
{
    handle(SIGUSR1, leave_if_cancelled, 0);
    size_t before = 0;
    size_t n = stress_is_long() ? 5000 : 400;
    for (size_t i = 0; i < n; i++) {
        static struct churn churn;
        churn_init(&churn, i + 1, 2000);
        pthread_t thread;
        EXPECT(pthread_create(&thread, NULL, churn_until_cancelled, &churn) == 0, "no thread");
        if (i % 2 == 0) {
            sleep_ms(1);
        }
        pthread_cancel(thread);
        pthread_kill(thread, SIGUSR1);
        pthread_join(thread, NULL);
        EXPECT(!damage, "damage in thread %zu", i);
        if (i == n / 4) {
            before = resident_bytes();
        }
    }
    /* each may leave its 64 blocks of at most 2000 bytes */
    size_t grown = resident_bytes() - before;
    EXPECT(grown < n * 64 * 2000, "%zu KiB more", grown / KIB);
    struct churn churn;
    churn_init(&churn, 3, 100000);
    for (size_t i = 0; i < 20000; i++) {
        EXPECT(churn_step(&churn), "damage afterwards");
    }
    churn_end(&churn);
}

/* ---- a thread that jumps out of free, and ends
 * --------------------------------------------------------------------------------------- */

enum { n_handed_over = 20000 };
static void *handed_over[n_handed_over];
static __thread sigjmp_buf out_of_free;
static __thread volatile sig_atomic_t is_freeing;

static void jump_out_of_free(int number)
{
    (void)number;
    if (is_freeing) {
        is_freeing = 0;
        siglongjmp(out_of_free, 1);
    }
}

static void *free_until_the_jump(void *unused)
{
    if (sigsetjmp(out_of_free, 1) == 0) {
        is_freeing = 1;
        for (size_t i = 0; i < n_handed_over; i++) {
            free(handed_over[i]);
        }
    }
    is_freeing = 0;
    return unused;
}

/* What the outbox of such a thread holds is in several forms. Its end must tell them apart. */
static void ends_after_a_jump_out_of_free(void)
{
    struct sigaction action = {.sa_handler = jump_out_of_free};
    sigaction(SIGUSR1, &action, NULL);
    unsigned random = 1;
    for (size_t round = 0; round < (stress_is_long() ? 5000 : 300); round++) {
        for (size_t i = 0; i < n_handed_over; i++) {
            handed_over[i] = malloc(16 + i % 7 * 16);
        }
        pthread_t thread;
        EXPECT(pthread_create(&thread, NULL, free_until_the_jump, NULL) == 0, "no thread");
        random = random * 1103515245 + 12345;
        nanosleep(&(struct timespec){0, 20000 + random / 65536 % 200 * 1000}, NULL);
        pthread_kill(thread, SIGUSR1);
        pthread_join(thread, NULL);
    }
}

static const struct stress_case cases[] = {
    {"handlers_in_one_thread", handlers_in_one_thread, NULL, false},
    {"handlers_in_four_threads", handlers_in_four_threads, NULL, false},
    {"handlers_in_four_threads_with_small_bins", handlers_in_four_threads,
     "bin_limit=8,bin_bytes=64k,purge_age=0,purge_cap=0", false},
    {"memory_of_handlers_comes_back", memory_of_handlers_comes_back, NULL, false},
    {"jumps_out_of_handlers", jumps_out_of_handlers, NULL, false},
    {"jumps_in_four_threads", jumps_in_four_threads, NULL, false},
    {"ends_after_a_jump_out_of_free", ends_after_a_jump_out_of_free, NULL, false},
    {"no_call_is_a_cancellation_point", no_call_is_a_cancellation_point, NULL, false},
    {"cancelled_in_a_handler", cancelled_in_a_handler, NULL, false},
};

int main(int argc, char **argv)
{
    return stress_main(argc, argv, cases, COUNT(cases));
}
