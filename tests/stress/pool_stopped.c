/* SPDX-License-Identifier: MIT */
/* pool_stopped.c - threads stopped for good in the middle of calls: the others go on, and no more is lost than what the
 * stopped ones hold. Also in a child of _Fork, where all other threads are gone for good.
 *
 *     pool_stopped [rounds]
 */
#include "pool_stress.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define N_STOPPED 6
#define N_GOING 2
/* A stopped thread holds the block it was taking or giving, the superblock or run that it was making or taking apart,
 * and what the test's own step had in hand: a block taken and one exchanged. */
#define HELD_BYTES ((size_t)(16384 + 3 * 5000))

static const struct source source = {"public", allot_pool_malloc, allot_pool_free};
static _Atomic unsigned n_stopped;
static _Atomic bool over;

static void stop_for_good(int number)
{
    (void)number;
    atomic_fetch_add(&n_stopped, 1);
    for (;;) {
        pause();
    }
}

static void *work(void *context)
{
    uint32_t seed = (uint32_t)(uintptr_t)context * 2654435761u + (uint32_t)getpid();
    while (!atomic_load(&over)) {
        one_step(&source, &seed, 5000);
    }
    return NULL;
}

static void go_on_and_count(void)
{
    uint32_t seed = (uint32_t)getpid() | 1;
    for (int i = 0; i < 200000; i++) {
        one_step(&source, &seed, 5000);
    }
    drain(&source);
    /* All that can be had, in one size after the other. */
    size_t bytes = 0;
    for (size_t size = 4096; size >= 16; size /= 4) {
        while (allot_pool_malloc(size) != NULL) {
            bytes += size;
        }
    }
    size_t lost = (size_t)(2 << 20) - bytes;
    if (lost > (N_STOPPED + N_GOING) * HELD_BYTES) {
        printf("%zu bytes lost to %u stopped threads\n", lost, N_STOPPED);
        die("more is lost than was held", NULL);
    }
}

static void one_round(unsigned n)
{
    struct sigaction action = {.sa_handler = stop_for_good};
    sigaction(SIGUSR1, &action, NULL);
    pthread_t threads[N_STOPPED + N_GOING];
    for (uintptr_t i = 0; i < N_STOPPED + N_GOING; i++) {
        pthread_create(&threads[i], NULL, work, (void *)(i + 1));
    }
    usleep(500 + n * 37 % 1500);
    for (unsigned i = 0; i < N_STOPPED; i++) {
        pthread_kill(threads[i], SIGUSR1);
    }
    while (atomic_load(&n_stopped) < N_STOPPED) {
        usleep(100);
    }
    if (n % 2 == 0) {
        atomic_store(&over, true);
        for (unsigned i = N_STOPPED; i < N_STOPPED + N_GOING; i++) {
            pthread_join(threads[i], NULL);
        }
        go_on_and_count();
        _exit(0);
    }
    pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL); /* _Fork: no handlers of libc's run */
    if (child == 0) {
        go_on_and_count();
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    _exit(status == 0 ? 0 : 5);
}

int main(int argc, char **argv)
{
    unsigned n_rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 60;
    for (unsigned n = 0; n < n_rounds; n++) {
        pid_t child = fork();
        if (child == 0) {
            one_round(n);
        }
        int status;
        waitpid(child, &status, 0);
        if (status != 0) {
            printf("round %u failed with status %x\n", n, (unsigned)status);
            return 1;
        }
    }
    printf("%u rounds, %u threads stopped in each\n", n_rounds, N_STOPPED);
    return 0;
}
