/* SPDX-License-Identifier: MIT */
/* heap_start.c - before constructors and after destructors, from thread-local destructors, and what a start costs. */
#include "stress.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sys/wait.h>

#ifndef ALLOT_TEST_LIBRARY
#define ALLOT_TEST_LIBRARY ""
#endif

/* ---- the edges of a process: each step leaves a block for a later one, and the last one says that all were there
 * --------- */

enum { n_steps = 8 };
static unsigned char *left[n_steps];
static bool edges_wanted;
static int n_steps_done;
static bool preinit_works; /* not every libc has it */

static void edge(int step)
{
    left[step] = malloc(100 + (size_t)step * 5000);
    if (left[step] == NULL) {
        _exit(40 + step);
    }
    memset(left[step], step + 1, 100);
    for (int i = 0; i < step; i++) {
        if (left[i] != NULL && (left[i][0] != i + 1 || left[i][99] != i + 1)) {
            _exit(50 + i);
        }
    }
    if (step > 1) {
        left[step - 2] = realloc(left[step - 2], 20000); /* of what an earlier step took */
        free(left[step - 2]);
        left[step - 2] = NULL;
    }
    free(calloc(1, 3 * MIB));
    n_steps_done++;
}

static void before_all(void)
{
    preinit_works = true;
    edge(0);
}

__attribute__((section(".preinit_array"), used)) static void (*const preinit)(void) = before_all;

__attribute__((constructor(101))) static void first_constructor(void)
{
    edge(1);
}

__attribute__((constructor)) static void a_constructor(void)
{
    edge(2);
}

__attribute__((destructor)) static void a_destructor(void)
{
    if (edges_wanted) {
        edge(6);
    }
}

__attribute__((destructor(101))) static void last_destructor(void)
{
    if (edges_wanted) {
        edge(7);
        _exit(n_steps_done == n_steps - !preinit_works ? 0 : 60 + n_steps_done);
    }
}

static void at_exit(void)
{
    edge(5);
}

static void leave_over_all_edges(void)
{
    edge(3);
    edge(4);
    atexit(at_exit);
    edges_wanted = true;
    exit(70);
}

/* ---- threads' ends
 * -------------------------------------------------------------------------------------------------------- */

static pthread_key_t keys[4];
static _Atomic int n_destroyed;

struct kept {
    size_t key;
    size_t round;
    char bytes[400];
};

static struct kept *kept_new(size_t key, size_t round)
{
    struct kept *kept = malloc(sizeof *kept);
    EXPECT(kept != NULL, "no memory");
    kept->key = key;
    kept->round = round;
    memset(kept->bytes, 1, sizeof kept->bytes);
    return kept;
}

/* Sets itself again, as often as the system calls it: later and later in the thread's end. */
static void destroy(void *value)
{
    struct kept *old = value;
    n_destroyed++;
    if (old->round < 3) {
        pthread_setspecific(keys[old->key], kept_new(old->key, old->round + 1));
    }
    free(old);
    void *some[50];
    for (size_t i = 0; i < COUNT(some); i++) {
        some[i] = malloc(i * 300);
    }
    for (size_t i = 0; i < COUNT(some); i++) {
        free(some[i]);
    }
}

static void *end_with_keys(void *argument)
{
    for (size_t i = 0; i < COUNT(keys); i++) {
        pthread_setspecific(keys[i], kept_new(i, 0));
    }
    return argument;
}

static void thread_local_destructors_allocate_and_free(void)
{
    for (size_t i = 0; i < COUNT(keys); i++) {
        EXPECT(pthread_key_create(&keys[i], destroy) == 0, "no key");
    }
    size_t before = 0;
    for (size_t i = 0; i < 4000; i++) {
        pthread_t thread;
        EXPECT(pthread_create(&thread, NULL, end_with_keys, NULL) == 0, "no thread");
        pthread_join(thread, NULL);
        if (i == 400) {
            before = resident_bytes();
        }
    }
    EXPECT(n_destroyed >= 4000 * 4, "%d destructors", (int)n_destroyed);
    EXPECT(resident_bytes() <= before + 256 * KIB, "%zu KiB stayed", (resident_bytes() - before) / KIB);
}

static _Atomic bool never;

static void *never_ends(void *argument)
{
    while (!never) {
        free(malloc((uintptr_t)argument));
    }
    return NULL;
}

/* exit() while other threads are at work. */
static void exit_beside_busy_threads(void)
{
    for (int i = 0; i < 30; i++) {
        fflush(NULL);
        pid_t child = fork();
        if (child == 0) {
            pthread_t thread;
            for (size_t k = 1; k < 5; k++) {
                pthread_create(&thread, NULL, never_ends, (void *)(k * 100));
            }
            sleep_ms(2);
            exit(0);
        }
        int status = wait_for(child);
        EXPECT(status == 0, "status %#x", (unsigned)status);
    }
}

/* The main thread ends before the others. */
static void *work_on(void *argument)
{
    sleep_ms(50);
    struct churn churn;
    churn_init(&churn, 4, 100000);
    for (int i = 0; i < 20000; i++) {
        if (!churn_step(&churn)) {
            _exit(3);
        }
    }
    churn_end(&churn);
    exit(0);
    return argument;
}

static void main_thread_ends_first(void)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        pthread_t thread;
        free(malloc(100));
        pthread_create(&thread, NULL, work_on, NULL);
        pthread_exit(NULL);
    }
    int status = wait_for(child);
    EXPECT(status == 0, "status %#x", (unsigned)status);
}

/* ---- the cost
 * ------------------------------------------------------------------------------------------------------------- */

/* A small program: says how much memory is its own alone, in KiB, when it has used a few blocks. */
static const char small_program[] =
    "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <unistd.h>\n"
    "int main(int argc, char **argv)\n{\n"
    "    for (int i = 1; i < 40; i++) { char *p = malloc(i % 4 * 100 + 20); memset(p, 1, 20);\n"
    "        if (i % 2) { free(p); } }\n"
    "    if (argc > 1) { printf(\"ready\\n\"); fflush(stdout); pause(); }\n"
    "    char line[300]; long kib = 0, n; (void)argv;\n"
    "    FILE *f = fopen(\"/proc/self/smaps_rollup\", \"r\");\n"
    "    while (f && fgets(line, sizeof line, f)) {\n"
    "        if (sscanf(line, \"Private_%*[a-zA-Z]: %ld\", &n) == 1) { kib += n; } }\n"
    "    printf(\"%ld\\n\", kib);\n    return 0;\n}\n";

static long private_kib(const char *directory, const char *preload)
{
    char command[600];
    /* A second one beside it, so that pages of code are shared, as they are on a machine in use. */
    snprintf(command, sizeof command,
             "cd %s && { LD_PRELOAD=%s ./small wait >ready & } && sleep 0.3 && LD_PRELOAD=%s ./small; kill $!",
             directory, preload, preload);
    FILE *out = popen(command, "r");
    long kib = -1;
    EXPECT(out != NULL && fscanf(out, "%ld", &kib) == 1, "the small program says nothing");
    pclose(out);
    return kib;
}

static void a_start_costs_little(void)
{
    char directory[] = "/tmp/allot-start-XXXXXX";
    char command[300];
    EXPECT(mkdtemp(directory) != NULL, "no directory");
    snprintf(command, sizeof command, "%s/small.c", directory);
    FILE *source = fopen(command, "w");
    EXPECT(source != NULL && fputs(small_program, source) >= 0 && fclose(source) == 0, "can't write");
    snprintf(command, sizeof command, "cc -O1 -w -o %s/small %s/small.c", directory, directory);
    bool made = system(command) == 0;
    long own = made ? private_kib(directory, "") : 0;
    long allot = made ? private_kib(directory, ALLOT_TEST_LIBRARY) : 0;
    snprintf(command, sizeof command, "rm -rf %s", directory);
    EXPECT(system(command) == 0, "can't tidy up");
    if (!made) {
        stress_skip("no compiler");
    }
    printf("    %ld KiB on allot, %ld without\n", allot, own);
    EXPECT(allot <= own + 100, "%ld KiB, %ld without", allot, own);
}

/* ---- libraries that come and go
 * ----------------------------------------------------------------------------------------- */

/* Any library will do that allocates at load and has a few relocations and a constructor or two. */
static void libraries_loaded_and_unloaded(void)
{
    const char *const names[] = {"libm.so.6",      "libresolv.so.2", "libutil.so.1",
                                 "libstdc++.so.6", "libz.so.1",      "libgcc_s.so.1"};
    size_t before = 0;
    size_t n_loaded = 0;
    for (size_t i = 0; i < 600; i++) {
        void *library = dlopen(names[i % COUNT(names)], i % 2 == 0 ? RTLD_NOW : RTLD_LAZY);
        void *block = malloc(i * 10);
        n_loaded += library != NULL;
        if (library != NULL) {
            dlclose(library);
        }
        free(block);
        if (i == 100) {
            before = resident_bytes();
        }
    }
    if (n_loaded == 0) {
        stress_skip("no library to load");
    }
    EXPECT(resident_bytes() <= before + 512 * KIB, "%zu KiB stayed", (resident_bytes() - before) / KIB);
}

static void *load_and_unload(void *argument)
{
    for (int i = 0; i < 100; i++) {
        void *library = dlopen("libresolv.so.2", RTLD_NOW);
        if (library != NULL) {
            dlclose(library);
        }
    }
    return argument;
}

static void libraries_loaded_beside_busy_threads(void)
{
    pthread_t threads[3];
    struct churn churn;
    churn_init(&churn, 6, 100000);
    for (size_t i = 0; i < COUNT(threads); i++) {
        EXPECT(pthread_create(&threads[i], NULL, load_and_unload, NULL) == 0, "no thread");
    }
    for (int i = 0; i < 60000; i++) {
        EXPECT(churn_step(&churn), "damage");
    }
    for (size_t i = 0; i < COUNT(threads); i++) {
        pthread_join(threads[i], NULL);
    }
    churn_end(&churn);
}

static const struct stress_case cases[] = {
    {"leave_over_all_edges", leave_over_all_edges, NULL, false},
    {"thread_local_destructors_allocate_and_free", thread_local_destructors_allocate_and_free, NULL, false},
    {"exit_beside_busy_threads", exit_beside_busy_threads, NULL, false},
    {"main_thread_ends_first", main_thread_ends_first, NULL, false},
    {"a_start_costs_little", a_start_costs_little, NULL, false},
    {"libraries_loaded_and_unloaded", libraries_loaded_and_unloaded, NULL, false},
    {"libraries_loaded_beside_busy_threads", libraries_loaded_beside_busy_threads, NULL, false},
};

int main(int argc, char **argv)
{
    return stress_main(argc, argv, cases, COUNT(cases));
}
