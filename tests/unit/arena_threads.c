/* SPDX-License-Identifier: MIT */
/* arena_threads.c - many threads on one arena: blocks pass from one to another, caches are emptied for who needs more,
 * and forks and handlers come in between.
 */
#include "unit.h"

#include <allot/arena.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 4
#define SLOTS 512

static allot_arena *arena;
static _Atomic(unsigned char *) slots[SLOTS];
static atomic_bool is_over;
static unsigned rounds;

static unsigned next(unsigned *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* A block tells its size in its first bytes, and its last byte. */
static unsigned char *some_block(unsigned *seed)
{
    size_t bytes = next(seed) % 16 == 0 ? 16 + next(seed) % 5000 : 16 + next(seed) % 200;
    unsigned char *block = allot_arena_malloc(arena, bytes);
    if (block != NULL) {
        memcpy(block, &bytes, sizeof bytes);
        block[bytes - 1] = (unsigned char)bytes;
    }
    return block;
}

static void end_block(unsigned char *block, unsigned *seed)
{
    size_t bytes;
    if (block == NULL) {
        return;
    }
    memcpy(&bytes, block, sizeof bytes);
    if (bytes > 5016 || block[bytes - 1] != (unsigned char)bytes) {
        abort();
    }
    if ((next(seed) % 2 == 0 ? allot_arena_free(arena, block) : allot_arena_free_sized(arena, block, bytes)) != 0) {
        abort();
    }
}

static void *replace_blocks(void *first)
{
    unsigned seed = (unsigned)(uintptr_t)first;
    for (unsigned i = 0; i < rounds && !is_over; i++) {
        unsigned char *block = some_block(&seed);
        end_block(atomic_exchange(&slots[next(&seed) % SLOTS], block), &seed);
    }
    return NULL;
}

static void end_all(void)
{
    unsigned seed = 1;
    for (unsigned i = 0; i < SLOTS; i++) {
        end_block(atomic_exchange(&slots[i], NULL), &seed);
    }
}

static void start_threads(pthread_t *threads, unsigned n_rounds)
{
    is_over = false;
    rounds = n_rounds;
    for (uintptr_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, replace_blocks, (void *)(i + 1)), 0);
    }
}

static void join_threads(pthread_t *threads)
{
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
}

static void make_arena(allot_backend *backend, size_t bytes)
{
    allot_arena_options options = ALLOT_ARENA_OPTIONS_INIT;
    options.backend = backend;
    assert_int_equal(allot_arena_create(bytes, &options, &arena), 0);
}

static void threads_get_blocks_of_their_own(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    make_arena(NULL, 0);
    start_threads(threads, 100000);
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(allot_arena_check(arena), 0);
        allot_arena_trim(arena, 0);
        assert_true(allot_arena_free_bytes(arena) <= allot_arena_capacity(arena) + (4 << 20));
    }
    join_threads(threads);
    end_all();
    assert_int_equal(allot_arena_check(arena), 0);
    assert_int_equal(allot_arena_free_bytes(arena), allot_arena_capacity(arena));
    allot_arena_destroy(arena);
}

static void *fill_cache_and_wait(void *pipe_end)
{
    enum { N = 1000 };
    void *blocks[N];
    char c = 'r';
    int *ends = pipe_end;
    for (unsigned round = 0; round < 10; round++) {
        assert_int_equal(allot_arena_malloc_batch(arena, 64, blocks, N), N);
        for (unsigned i = 0; i < N; i++) {
            allot_arena_free(arena, blocks[i]);
        }
        for (unsigned i = 0; i < N / 2; i++) {
            blocks[i] = allot_arena_malloc(arena, 64);
        }
        for (unsigned i = 0; i < N / 2; i++) {
            allot_arena_free(arena, blocks[i]);
        }
    }
    assert_int_equal(write(ends[1], &c, 1), 1);
    assert_int_equal(read(ends[2], &c, 1), 1);
    return NULL;
}

static void what_lies_in_a_cache_is_there_for_who_needs_it(void **state)
{
    (void)state;
    int ends[4];
    char c;
    pthread_t thread;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(pipe(ends + 2), 0);
    make_arena(allot_backend_fixed(), 100000);
    pthread_create(&thread, NULL, fill_cache_and_wait, ends);
    assert_int_equal(read(ends[0], &c, 1), 1);
    assert_int_equal(allot_arena_free_bytes(arena), allot_arena_capacity(arena));
    void *all = allot_arena_malloc(arena, 100000); /* the other thread sleeps */
    assert_non_null(all);
    assert_int_equal(allot_arena_free(arena, all), 0);
    assert_int_equal(write(ends[3], &c, 1), 1);
    pthread_join(thread, NULL);
    allot_arena_destroy(arena);
}

static int use_in_child(void)
{
    unsigned seed = 77;
    unsigned char *blocks[200];
    for (unsigned i = 0; i < 200; i++) {
        blocks[i] = some_block(&seed);
        if (blocks[i] == NULL) {
            return 1;
        }
    }
    for (unsigned i = 0; i < 200; i++) {
        end_block(blocks[i], &seed);
    }
    return allot_arena_check(arena) == 0 ? 0 : 2;
}

static void a_forked_child_uses_the_arena(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    make_arena(NULL, 0);
    start_threads(threads, UINT32_MAX);
    for (unsigned i = 0; i < 30; i++) {
        int status;
        pid_t child = fork();
        if (child == 0) {
            alarm(20);
            _exit(use_in_child());
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
    }
    is_over = true;
    join_threads(threads);
    end_all();
    allot_arena_destroy(arena);
}

static atomic_uint n_handled;
static void *not_freed; /* by the handler: it interrupted the same call */

static void allocate_in_handler(int signal)
{
    (void)signal;
    int saved = errno;
    void *block = allot_arena_malloc(arena, 48);
    if (block != NULL) {
        int error = allot_arena_free(arena, block);
        if (error == EDEADLK) {
            *(void **)block = not_freed;
            not_freed = block;
        } else if (error != 0) {
            abort();
        }
    } else if (errno != EDEADLK) {
        abort();
    }
    n_handled++;
    errno = saved;
}

static void a_handler_does_not_wait_for_what_it_interrupted(void **state)
{
    (void)state;
    struct itimerval often = {.it_interval = {0, 200}, .it_value = {0, 200}};
    struct itimerval never = {{0, 0}, {0, 0}};
    make_arena(NULL, 0);
    signal(SIGALRM, allocate_in_handler);
    setitimer(ITIMER_REAL, &often, NULL);
    is_over = false;
    rounds = 200000;
    replace_blocks((void *)5);
    setitimer(ITIMER_REAL, &never, NULL);
    end_all();
    while (not_freed != NULL) {
        void *block = not_freed;
        not_freed = *(void **)block;
        assert_int_equal(allot_arena_free(arena, block), 0);
    }
    assert_true(n_handled > 0);
    assert_int_equal(allot_arena_check(arena), 0);
    assert_int_equal(allot_arena_free_bytes(arena), allot_arena_capacity(arena));
    allot_arena_destroy(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_get_blocks_of_their_own),
        cmocka_unit_test(what_lies_in_a_cache_is_there_for_who_needs_it),
        cmocka_unit_test(a_forked_child_uses_the_arena),
        cmocka_unit_test(a_handler_does_not_wait_for_what_it_interrupted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
