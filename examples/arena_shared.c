/* SPDX-License-Identifier: MIT */
/* arena_shared.c - blocks in memory that processes share: one process has the arena, the others get blocks from it and
 * write to them. What they write by mistake can't damage the arena: its books are its owner's, in memory of its own.
 *
 *     cc arena_shared.c $(pkg-config --cflags --libs allot) -o arena_shared && ./arena_shared
 *
 * Here the owner hands out jobs by two pipes; the workers, forked before, see the memory at the same address.
 */
#include <allot/arena.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N_WORKERS = 3, N_JOBS = 300, SHARED_BYTES = 1 << 20 };

struct job {
    uint32_t n;
    uint32_t sum; /* the worker's answer */
    uint32_t numbers[];
};

static int work(int from_owner, int to_owner)
{
    struct job *job;
    while (read(from_owner, &job, sizeof job) == sizeof job) {
        job->sum = 0;
        for (uint32_t i = 0; i < job->n; i++)
            job->sum += job->numbers[i];
        if (write(to_owner, &job, sizeof job) != sizeof job)
            return 1;
    }
    return 0;
}

static struct job *make_job(allot_arena *arena, uint32_t number)
{
    uint32_t n = 1 + number * 37 % 2000;
    struct job *job = allot_arena_malloc(arena, sizeof *job + n * sizeof job->numbers[0]);
    if (job != NULL) {
        job->n = n;
        for (uint32_t i = 0; i < n; i++)
            job->numbers[i] = number + i;
    }
    return job;
}

static uint32_t right_answer(const struct job *job)
{
    return job->n * job->numbers[0] + job->n * (job->n - 1) / 2;
}

/* Takes one answer and gives its block back. 1: it is right. */
static int collect(allot_arena *arena, int from_workers)
{
    struct job *job;
    if (read(from_workers, &job, sizeof job) != sizeof job)
        return 0;
    int is_right = job->sum == right_answer(job);
    allot_arena_free(arena, job);
    return is_right;
}

static int own(allot_arena *arena, int to_workers, int from_workers)
{
    int n_sent = 0;
    int n_right = 0;
    int n_out = 0;
    while (n_right < N_JOBS) {
        struct job *job = n_sent < N_JOBS && n_out < 100 ? make_job(arena, (uint32_t)n_sent) : NULL;
        if (job != NULL) {
            if (write(to_workers, &job, sizeof job) != sizeof job)
                return 1;
            n_sent++;
            n_out++;
        } else { /* the memory is full, or all is sent */
            if (n_out == 0 || !collect(arena, from_workers))
                return 1;
            n_out--;
            n_right++;
        }
    }
    printf("%d jobs done by %d processes in %d KiB\n", n_right, N_WORKERS, SHARED_BYTES / 1024);
    return allot_arena_check(arena) != 0 || allot_arena_free_bytes(arena) != allot_arena_capacity(arena);
}

int main(void)
{
    int jobs[2];
    int answers[2];
    void *shared = mmap(NULL, SHARED_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED || pipe(jobs) != 0 || pipe(answers) != 0)
        return 1;
    for (int i = 0; i < N_WORKERS; i++) {
        pid_t pid = fork();
        if (pid < 0)
            return 1;
        if (pid == 0) {
            close(jobs[1]);
            _exit(work(jobs[0], answers[1]));
        }
    }
    close(jobs[0]);
    close(answers[1]);
    allot_arena_options options = ALLOT_ARENA_OPTIONS_INIT;
    allot_arena *arena;
    options.name = "shared jobs";
    if (allot_arena_create_at(shared, SHARED_BYTES, &options, &arena) != 0)
        return 1;
    int result = own(arena, jobs[1], answers[0]);
    close(jobs[1]);
    for (int i = 0; i < N_WORKERS; i++) {
        int status;
        wait(&status);
        result |= status;
    }
    allot_arena_destroy(arena);
    return result != 0;
}
