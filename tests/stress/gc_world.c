/* SPDX-License-Identifier: MIT */
/* gc_world.c - collections while everything goes on: threads that allocate, map, end, fork, and load libraries. A
 * mapping that somebody holds must be there; what nobody holds must go.
 *
 *     program COLLECTIONS THREADS
 */
#include <allot/gcmap.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { page = 4096, slots = 32 };

static atomic_bool stop;
static atomic_size_t n_steps;
static atomic_size_t n_ended;

#define EXPECT(x)                                                                                                      \
    do {                                                                                                               \
        if (!(x)) {                                                                                                    \
            fprintf(stderr, "%s:%d: not true: %s (errno %d)\n", __FILE__, __LINE__, #x, errno);                        \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

/* A row of a table, as a program would have it: its text lies in a mapping. */
struct row {
    struct row *next;
    unsigned char *text; /* interior */
    size_t offset;
    unsigned char seed;
};

/* A child may find what a thread that it lost was about to fill. */
static bool in_child;

static void count_end(void *begin, size_t length, void *context)
{
    (void)context;
    EXPECT(in_child || ((unsigned char *)begin)[length - 1] == 0xee);
    atomic_fetch_add(&n_ended, 1);
}

static struct row *make_row(uint64_t random)
{
    allot_gcmap_opts opts = ALLOT_GCMAP_OPTS_INIT;
    opts.finalizer = count_end;
    size_t bytes = (1 + random % 4) * page;
    struct row *row = malloc(sizeof *row);
    unsigned char *mapping = allot_gcmap_with(-1, 0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, &opts);
    EXPECT(mapping != MAP_FAILED);
    row->seed = (unsigned char)random;
    row->offset = random / 7 % (bytes - 1);
    memset(mapping, row->seed, bytes);
    mapping[bytes - 1] = 0xee;
    row->text = mapping + row->offset;
    return row;
}

static void check_row(const struct row *row)
{
    EXPECT(row->text[0] == row->seed);
}

static void *works(void *context)
{
    uint64_t random = (uintptr_t)context * 0x9e3779b97f4a7c15u + 1;
    struct row *rows[slots] = {NULL};
    while (!atomic_load(&stop)) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        size_t i = random % slots;
        if (rows[i] != NULL) {
            check_row(rows[i]);
            if ((random >> 40 & 7) == 0) {
                int error = allot_gcmap_close(rows[i]->text - rows[i]->offset);
                EXPECT(error == 0 || error == ENOMEM); /* the kernel's number of mappings */
            }
            free(rows[i]);
            rows[i] = NULL;
        } else {
            rows[i] = make_row(random >> 8);
        }
        free(malloc(random >> 20 & 0x3ffff));
        if ((random >> 32 & 31) == 0) {
            struct timespec moment = {.tv_nsec = 100000};
            nanosleep(&moment, NULL);
        }
        atomic_fetch_add(&n_steps, 1);
    }
    for (int i = 0; i < slots; i++) {
        free(rows[i]);
    }
    return NULL;
}

static void *ends_soon(void *row)
{
    check_row(row);
    free(row);
    return NULL;
}

/* Threads that are made and end, each given the only pointer to a row. */
static void *makes_threads(void *unused)
{
    (void)unused;
    for (uint64_t i = 1; !atomic_load(&stop); i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, ends_soon, make_row(i)) == 0) {
            pthread_join(thread, NULL);
        }
    }
    return NULL;
}

static void *loads_libraries(void *unused)
{
    static const char *const names[] = {"libm.so.6", "libresolv.so.2", "libutil.so.1", "libanl.so.1"};
    (void)unused;
    for (size_t i = 0; !atomic_load(&stop); i++) {
        void *library = dlopen(names[i % 4], RTLD_NOW);
        struct row *row = make_row(i);
        if (library != NULL) {
            dlclose(library);
        }
        check_row(row);
        free(row);
        usleep(500);
    }
    return NULL;
}

/* Children collect too. */
static void *forks(void *unused)
{
    (void)unused;
    for (uint64_t i = 1; !atomic_load(&stop); i++) {
        struct row *row = make_row(i);
        pid_t child = fork();
        if (child == 0) {
            in_child = true;
            check_row(row);
            EXPECT(allot_gcmap_collect(NULL) == 0);
            check_row(row);
            _exit(0);
        }
        int status = 0;
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
        }
        EXPECT(child < 0 || status == 0);
        check_row(row);
        free(row);
        usleep(20000);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    size_t n = argc > 1 ? strtoul(argv[1], NULL, 10) : 300;
    size_t n_workers = argc > 2 ? strtoul(argv[2], NULL, 10) : 4;
    pthread_t threads[64 + 3];
    size_t n_threads = 0;
    size_t n_refused = 0;
    uint64_t longest = 0;
    allot_gcmap_trigger trigger = {.abi_size = sizeof trigger, .number = 1000};
    EXPECT(allot_gcmap_set_trigger(&trigger) == 0);
    for (; n_threads < n_workers && n_threads < 64; n_threads++) {
        pthread_create(&threads[n_threads], NULL, works, (void *)(n_threads + 1));
    }
    void *(*const others[])(void *) = {makes_threads, loads_libraries, forks};
    for (int i = 0; i < 3; i++) {
        pthread_create(&threads[n_threads++], NULL, others[i], NULL);
    }
    for (size_t i = 0; i < n; i++) {
        allot_gcmap_collected told = ALLOT_GCMAP_COLLECTED_INIT;
        int error = allot_gcmap_collect(&told);
        EXPECT(error == 0 || error == EBUSY);
        if (error != 0 && n_refused++ < 10) {
            printf("refused: %s, thread %lu\n", told.why, told.thread);
        }
        longest = told.pause_ns > longest ? told.pause_ns : longest;
        usleep(200);
    }
    atomic_store(&stop, true);
    for (size_t i = 0; i < n_threads; i++) {
        pthread_join(threads[i], NULL);
    }
    for (int i = 0; i < 20 && allot_gcmap_num_active() > 0; i++) {
        EXPECT(allot_gcmap_collect(NULL) == 0);
    }
    printf(
        "%zu collections, %zu refused, %zu threads, %zu steps, %zu mappings ended, longest pause %llu us, left %zu\n",
        n, n_refused, n_threads, (size_t)n_steps, (size_t)n_ended, (unsigned long long)longest / 1000,
        allot_gcmap_num_active());
    EXPECT(n_refused <= n / 20);
    EXPECT(allot_gcmap_num_active() <= 8);
    return 0;
}
