/* SPDX-License-Identifier: MIT */
/* arena_shared.c - many threads on one arena, on every backend: no block twice, nothing lost, questions meanwhile; and
 * the child of a fork in the midst of it. */
#include "arena_test.h"
#include "child.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>

enum { THREADS = 4, EACH = 400 };

struct job {
    pthread_t thread;
    allot_arena *arena;
    unsigned number;
    void (*work)(struct job *job);
    unsigned char *blocks[EACH];
    size_t sizes[EACH];
};

static struct job jobs[THREADS];
static volatile int is_over;

static void *run_job(void *argument)
{
    struct job *job = argument;
    job->work(job);
    return NULL;
}

static void start_all(allot_arena *arena, void (*work)(struct job *))
{
    __atomic_store_n(&is_over, 0, __ATOMIC_RELEASE);
    for (unsigned i = 0; i < THREADS; i++) {
        jobs[i].arena = arena;
        jobs[i].number = i;
        jobs[i].work = work;
        assert_int_equal(pthread_create(&jobs[i].thread, NULL, run_job, &jobs[i]), 0);
    }
}

static void join_all(void)
{
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(jobs[i].thread, NULL);
    }
}

/* What goes wrong in a thread is told to all. */
static void expect(bool is_right, const char *what)
{
    if (!is_right) {
        fprintf(stderr, "on %s, %s: not true: %s\n", ground->name, shape->name, what);
        abort();
    }
}

static void take_all(struct job *job)
{
    for (size_t i = 0; i < EACH; i++) {
        job->sizes[i] = 1 + (i * 13 + job->number) % 100;
        job->blocks[i] = allot_arena_malloc(job->arena, job->sizes[i]);
        expect(job->blocks[i] != NULL, "a block");
        pattern_fill(job->blocks[i], job->sizes[i], job->number * EACH + (unsigned)i);
    }
}

static void give_all(struct job *job)
{
    for (size_t i = 0; i < EACH; i++) {
        expect(pattern_holds(job->blocks[i], job->sizes[i], job->number * EACH + (unsigned)i), "its contents");
        expect(allot_arena_free(job->arena, job->blocks[i]) == 0, "a free");
    }
}

static int by_address(const void *a, const void *b)
{
    uintptr_t x = *(const uintptr_t *)a;
    uintptr_t y = *(const uintptr_t *)b;
    return (x > y) - (x < y);
}

static void no_block_is_given_twice(void **state)
{
    (void)state;
    static uintptr_t all[THREADS * EACH];
    struct made made = make_arena(256 * KIB);
    start_all(made.arena, take_all);
    join_all();
    for (unsigned i = 0; i < THREADS; i++) {
        memcpy(all + (size_t)i * EACH, jobs[i].blocks, sizeof jobs[i].blocks);
    }
    qsort(all, COUNT(all), sizeof all[0], by_address);
    for (size_t i = 1; i < COUNT(all); i++) {
        assert_true(all[i] > all[i - 1]);
    }
    assert_int_equal(allot_arena_check(made.arena), 0);
    allot_arena_report report = ALLOT_ARENA_REPORT_INIT;
    allot_arena_stats(made.arena, &report);
    assert_true(shape->kind != ALLOT_ARENA_GENERAL || report.n_live_blocks == COUNT(all));
    start_all(made.arena, give_all); /* each its own */
    join_all();
    assert_true(shape->kind != ALLOT_ARENA_GENERAL ||
                allot_arena_free_bytes(made.arena) == allot_arena_capacity(made.arena));
    unmake(&made);
}

static void come_and_go(struct job *job)
{
    uint64_t random = job->number + 77;
    memset(job->blocks, 0, sizeof job->blocks);
    for (unsigned round = 0; round < 6000; round++) {
        size_t i = random_below(&random, 64);
        unsigned seed = job->number * 1000 + (unsigned)i;
        if (job->blocks[i] == NULL) {
            job->sizes[i] = 1 + random_below(&random, 200);
            job->blocks[i] = round % 4 == 0 ? allot_arena_calloc(job->arena, 1, job->sizes[i])
                                            : allot_arena_malloc(job->arena, job->sizes[i]);
            expect(job->blocks[i] != NULL, "a block");
            expect(round % 4 != 0 || all_zero(job->blocks[i], job->sizes[i]), "zeros");
            pattern_fill(job->blocks[i], job->sizes[i], seed);
        } else if (round % 7 == 0) {
            size_t bytes = 1 + random_below(&random, 300);
            unsigned char *moved = allot_arena_realloc(job->arena, job->blocks[i], bytes);
            expect(moved != NULL, "a larger block");
            expect(pattern_holds(moved, bytes < job->sizes[i] ? bytes : job->sizes[i], seed), "contents after realloc");
            job->blocks[i] = moved;
            job->sizes[i] = bytes;
            pattern_fill(moved, bytes, seed);
        } else {
            expect(pattern_holds(job->blocks[i], job->sizes[i], seed), "its contents");
            expect(allot_arena_free(job->arena, job->blocks[i]) == 0, "a free");
            job->blocks[i] = NULL;
        }
    }
    for (size_t i = 0; i < 64; i++) {
        expect(allot_arena_free(job->arena, job->blocks[i]) == 0, "the last frees");
    }
}

static void blocks_come_and_go_on_all_threads(void **state)
{
    (void)state;
    struct made made = make_arena(128 * KIB);
    start_all(made.arena, come_and_go);
    join_all();
    assert_arena_is_whole(&made);
    unmake(&made);
}

static int look(const allot_info *info, void *context)
{
    *(size_t *)context += info->size_bytes;
    return 0;
}

static void *ask(void *argument)
{
    allot_arena *arena = argument;
    unsigned char *copy = malloc(64 * KIB);
    while (!__atomic_load_n(&is_over, __ATOMIC_ACQUIRE)) {
        size_t walked = 0;
        expect(allot_arena_free_bytes(arena) <= allot_arena_size(arena) + GIB, "free bytes");
        expect(allot_arena_check(arena) == 0, "whole books");
        expect(allot_arena_walk(arena, look, &walked) == 0 && walked >= 64 * KIB - 16, "a walk over all of it");
        expect(allot_arena_contains(arena, arena) == 0, "what it doesn't contain");
        allot_arena_report report = ALLOT_ARENA_REPORT_INIT;
        expect(allot_arena_stats(arena, &report) == 0, "stats");
        expect(report.live_bytes + report.free_bytes == report.capacity_bytes, "figures that add up");
        allot_info info = ALLOT_INFO_INIT;
        expect(allot_query(copy, &info) == 0, "query");
        sched_yield();
    }
    free(copy);
    return NULL;
}

static void questions_are_answered_meanwhile(void **state)
{
    (void)state;
    struct made made = make_arena(128 * KIB);
    pthread_t asker;
    start_all(made.arena, come_and_go);
    assert_int_equal(pthread_create(&asker, NULL, ask, made.arena), 0);
    join_all();
    __atomic_store_n(&is_over, 1, __ATOMIC_RELEASE);
    pthread_join(asker, NULL);
    assert_arena_is_whole(&made);
    unmake(&made);
}

static void grow_much(struct job *job)
{
    for (size_t i = 0; i < 100; i++) {
        job->sizes[i] = 1 + i * 37 % 8000;
        job->blocks[i] = allot_arena_malloc(job->arena, job->sizes[i]);
        expect(job->blocks[i] != NULL, "a block of a growing arena");
        pattern_fill(job->blocks[i], job->sizes[i], job->number * 100 + (unsigned)i);
    }
    for (size_t i = 0; i < 100; i++) {
        expect(pattern_holds(job->blocks[i], job->sizes[i], job->number * 100 + (unsigned)i), "its contents");
        expect(allot_arena_contains(job->arena, job->blocks[i]) == 1, "its memory");
        expect(i % 2 == 0 || allot_arena_free(job->arena, job->blocks[i]) == 0, "a free");
    }
}

static void threads_grow_it_at_the_same_time(void **state)
{
    (void)state;
    struct made made = make_arena(0);
    for (unsigned round = 0; round < 4; round++) {
        start_all(made.arena, grow_much);
        join_all();
        assert_int_equal(allot_arena_check(made.arena), 0);
        assert_int_equal(allot_arena_reset(made.arena), 0);
        allot_arena_trim(made.arena, 0);
    }
    unmake(&made);
}

/* Blocks that one thread takes and another frees. */
static unsigned char *volatile shelf[64];

static void exchange(struct job *job)
{
    uint64_t random = job->number + 3;
    for (unsigned round = 0; round < 5000; round++) {
        unsigned char *fresh = allot_arena_malloc(job->arena, 1 + random_below(&random, 100));
        expect(fresh != NULL, "a block");
        *fresh = (unsigned char)(uintptr_t)fresh;
        unsigned char *old = __atomic_exchange_n(&shelf[random_below(&random, COUNT(shelf))], fresh, __ATOMIC_ACQ_REL);
        expect(old == NULL || *old == (unsigned char)(uintptr_t)old, "what another thread wrote");
        expect(allot_arena_free(job->arena, old) == 0, "a free of another thread's block");
    }
}

static void threads_free_each_others_blocks(void **state)
{
    (void)state;
    struct made made = make_arena(64 * KIB);
    start_all(made.arena, exchange);
    join_all();
    for (size_t i = 0; i < COUNT(shelf); i++) {
        assert_int_equal(allot_arena_free(made.arena, shelf[i]), 0);
        shelf[i] = NULL;
    }
    assert_arena_is_whole(&made);
    unmake(&made);
}

/* A block freed by two threads at once is taken by one of them, and the other is told. */
static void *volatile contested;
static unsigned n_taken;
static pthread_barrier_t meeting;

static allot_action go_on(const allot_error *error, void *context)
{
    (void)context;
    expect(strcmp(error->name, "double free") == 0, "a double free");
    return ALLOT_ACTION_CONTINUE;
}

static void free_contested(struct job *job)
{
    for (unsigned round = 0; round < 50; round++) {
        if (job->number == 0) {
            contested = allot_arena_malloc(job->arena, 48);
        }
        pthread_barrier_wait(&meeting);
        if (allot_arena_free(job->arena, contested) == 0) {
            __atomic_fetch_add(&n_taken, 1, __ATOMIC_RELAXED);
        }
        pthread_barrier_wait(&meeting);
    }
}

static void of_two_frees_at_once_one_is_told(void **state)
{
    (void)state;
    struct made made = make_arena(16 * KIB);
    allot_arena_set_error_handler(made.arena, go_on, NULL);
    pthread_barrier_init(&meeting, NULL, THREADS);
    n_taken = 0;
    start_all(made.arena, free_contested);
    join_all();
    pthread_barrier_destroy(&meeting);
    assert_int_equal(n_taken, 50);
    assert_arena_is_whole(&made);
    unmake(&made);
}

/* ---- fork ------------------------------------------------------------------------------------------------------- */

static void until_over(struct job *job)
{
    uint64_t random = job->number + 9;
    while (!__atomic_load_n(&is_over, __ATOMIC_ACQUIRE)) {
        void *block = allot_arena_malloc(job->arena, 1 + random_below(&random, 5000));
        expect(block == NULL || allot_arena_free(job->arena, block) == 0, "a free");
    }
}

static void use_in_child(void *argument)
{
    allot_arena *arena = argument;
    EXPECT(allot_arena_check(arena) == 0);
    for (unsigned i = 1; i < 50; i++) {
        char *block = allot_arena_malloc(arena, i * 100);
        EXPECT(block != NULL);
        memset(block, 1, i * 100);
        EXPECT(allot_arena_free(arena, block) == 0);
    }
    allot_arena *fresh;
    EXPECT(allot_arena_create(100, NULL, &fresh) == 0);
    allot_arena_destroy(fresh);
    EXPECT(allot_arena_check(arena) == 0);
}

static void the_child_of_a_fork_can_go_on(void **state)
{
    (void)state;
    struct made made = make_arena(16 * KIB);
    start_all(made.arena, until_over);
    for (unsigned i = 0; i < 20; i++) {
        child_succeeds(use_in_child, made.arena);
    }
    __atomic_store_n(&is_over, 1, __ATOMIC_RELEASE);
    join_all();
    assert_arena_is_whole(&made);
    unmake(&made);
}

/* ---- handlers ---------------------------------------------------------------------------------------------------- */

static allot_arena *interrupted;
static volatile sig_atomic_t n_refused, n_served;

static void in_handler(int signal)
{
    (void)signal;
    int saved = errno;
    void *block = NULL;
    int error = allot_arena_alloc(interrupted, 32, &block);
    if (error == EDEADLK) {
        n_refused++;
    } else if (error == 0 && allot_arena_free(interrupted, block) == 0) {
        n_served++;
    }
    errno = saved;
}

/* A handler that interrupts a call on the same arena is refused, one that doesn't is served; nothing hangs. */
static void a_handler_is_refused_not_hung(void **state)
{
    (void)state;
    struct made made = make_arena(16 * KIB);
    struct sigaction action = {.sa_handler = in_handler, .sa_flags = SA_RESTART};
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    struct itimerspec every = {{0, 100000}, {0, 100000}};
    interrupted = made.arena;
    n_refused = n_served = 0;
    sigaction(SIGUSR1, &action, NULL);
    assert_int_equal(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
    timer_settime(timer, 0, &every, NULL);
    uint64_t random = 4;
    for (unsigned i = 0; i < 2000000 && n_refused + n_served < 100; i++) {
        void *block = allot_arena_malloc(made.arena, 1 + random_below(&random, 1000));
        assert_non_null(block);
        assert_int_equal(allot_arena_free(made.arena, block), 0);
    }
    timer_delete(timer);
    signal(SIGUSR1, SIG_IGN);
    assert_true(n_refused + n_served > 0);
    assert_arena_is_whole(&made);
    unmake(&made);
}

int main(void)
{
    int failed = 0;
    const struct CMUnitTest every[] = {cmocka_unit_test(no_block_is_given_twice)};
    const struct CMUnitTest general[] = {
        cmocka_unit_test(blocks_come_and_go_on_all_threads),
        cmocka_unit_test(questions_are_answered_meanwhile),
        cmocka_unit_test(threads_free_each_others_blocks),
    };
    const struct CMUnitTest growing[] = {cmocka_unit_test(threads_grow_it_at_the_same_time)};
    const struct CMUnitTest fits[] = {
        cmocka_unit_test(of_two_frees_at_once_one_is_told),
        cmocka_unit_test(a_handler_is_refused_not_hung),
        cmocka_unit_test(the_child_of_a_fork_can_go_on),
    };
    run_on_every(every, 0, 0, 0, 3);
    run_on_every(every, 0, 0, GENERAL_SHAPES, 1);
    run_on_every(general, 0, 0, 0, 1);
    run_on_every(growing, CAN_GROW, 0, 0, 1);
    run_on_every(growing, CAN_GROW, 0, GENERAL_SHAPES, 1);
    for (shape = shapes; shape < shapes + 3; shape++) {
        failed += cmocka_run_group_tests(fits, NULL, NULL);
    }
    return failed;
}
