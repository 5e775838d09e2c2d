/* SPDX-License-Identifier: MIT */
/* gc.c - a collection of mappings beside bdwgc's mark, over the same data, and beside the machine's memory.
 *
 *     allot_bench_gc [MIB [THREADS [ROUNDS]]]
 *
 * The data is a binary tree of 64-byte nodes, each with two pointers. Each measurement is made in a process of its own,
 * in turns: reading memory (a sum over as many bytes), allot_gcmap_collect, GC_gcollect from the start of its mark to
 * the end. Shown are the medians of the rounds.
 */
#include <allot/gcmap.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(HAS_BDWGC)
#define GC_THREADS
#include <gc/gc.h>
#endif

enum { rounds_most = 32, repeats = 5 };

struct node {
    struct node *left;
    struct node *right;
    uint64_t data[6];
};

struct result {
    uint64_t ns;
    uint64_t bytes;
};

static size_t wanted_bytes;
static size_t n_threads;
static struct node **volatile tree; /* volatile: the root is memory */
static volatile uint64_t sink;

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void *sleeps(void *unused)
{
    (void)unused;
    for (;;) {
        pause();
    }
    return NULL;
}

static void start_threads(void)
{
    pthread_t thread;
    for (size_t i = 0; i < n_threads; i++) {
        pthread_create(&thread, NULL, sleeps, NULL);
    }
}

/* Node i has 2i+1 and 2i+2 below it. The table of all nodes goes: what is left hangs on the root. */
static struct node *make_tree(void *(*take)(size_t))
{
    size_t n = wanted_bytes / sizeof(struct node);
    struct node **nodes = mmap(NULL, n * sizeof *nodes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (size_t i = 0; i < n; i++) {
        nodes[i] = take(sizeof(struct node));
        memset(nodes[i], 0, sizeof(struct node));
        nodes[i]->data[0] = i;
        if (i == 0) {
            tree = take(sizeof *tree);
            tree[0] = nodes[0];
        } else if (i % 2 == 1) {
            nodes[(i - 1) / 2]->left = nodes[i];
        } else {
            nodes[(i - 1) / 2]->right = nodes[i];
        }
    }
    struct node *root = nodes[0];
    munmap(nodes, n * sizeof *nodes);
    return root;
}

static struct result least(struct result a, struct result b)
{
    return a.ns == 0 || b.ns < a.ns ? b : a;
}

static struct result read_memory(void)
{
    struct result best = {0};
    uint64_t *words = mmap(NULL, wanted_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(words, 1, wanted_bytes);
    for (int i = 0; i < repeats; i++) {
        uint64_t sums[4] = {0};
        uint64_t begin = now_ns();
        for (size_t j = 0; j < wanted_bytes / sizeof *words; j += 4) {
            sums[0] += words[j];
            sums[1] += words[j + 1];
            sums[2] += words[j + 2];
            sums[3] += words[j + 3];
        }
        sink = sums[0] + sums[1] + sums[2] + sums[3];
        best = least(best, (struct result){now_ns() - begin, wanted_bytes});
    }
    return best;
}

static struct result collect_mappings(void)
{
    struct result best = {0};
    make_tree(allot_malloc);
    void *mapping = allot_gcmap(-1, 0, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS);
    start_threads();
    for (int i = 0; i < repeats; i++) {
        allot_gcmap_collected told = ALLOT_GCMAP_COLLECTED_INIT;
        if (allot_gcmap_collect(&told) != 0) {
            fprintf(stderr, "not collected: %s\n", told.why);
            _exit(1);
        }
        best = least(best, (struct result){told.pause_ns, told.scanned_bytes});
    }
    sink = (uintptr_t)mapping;
    return best;
}

#if defined(HAS_BDWGC)
static uint64_t mark_begin_ns;
static uint64_t mark_ns;

static void on_event(GC_EventType event)
{
    if (event == GC_EVENT_MARK_START) {
        mark_begin_ns = now_ns();
    } else if (event == GC_EVENT_MARK_END) {
        mark_ns = now_ns() - mark_begin_ns;
    }
}

static void *take_from_bdwgc(size_t bytes)
{
    return GC_MALLOC(bytes);
}

static struct result collect_by_bdwgc(void)
{
    struct result best = {0};
    GC_INIT();
    GC_disable();
    struct node *root = make_tree(take_from_bdwgc);
    GC_enable();
    GC_set_on_collection_event(on_event);
    start_threads();
    usleep(50000);
    for (int i = 0; i < repeats; i++) {
        GC_gcollect();
        best = least(best, (struct result){mark_ns, wanted_bytes});
    }
    sink = root->data[0];
    return best;
}
#endif

static struct result in_a_child(struct result (*measure)(void))
{
    int ends[2];
    struct result result = {0};
    if (pipe(ends) != 0) {
        return result;
    }
    pid_t child = fork();
    if (child == 0) {
        result = measure();
        _exit(write(ends[1], &result, sizeof result) != sizeof result);
    }
    close(ends[1]);
    if (read(ends[0], &result, sizeof result) != sizeof result) {
        fprintf(stderr, "a measurement failed\n");
        exit(1);
    }
    close(ends[0]);
    waitpid(child, NULL, 0);
    return result;
}

static int by_ns(const void *a, const void *b)
{
    const struct result *x = a;
    const struct result *y = b;
    return (x->ns > y->ns) - (x->ns < y->ns);
}

int main(int argc, char **argv)
{
    static struct {
        const char *name;
        struct result (*measure)(void);
        struct result results[rounds_most];
    } cases[] = {
        {"reading memory", read_memory, {{0, 0}}},
        {"allot_gcmap_collect", collect_mappings, {{0, 0}}},
#if defined(HAS_BDWGC)
        {"bdwgc, mark", collect_by_bdwgc, {{0, 0}}},
#endif
    };
    const size_t n_cases = sizeof cases / sizeof *cases;
    wanted_bytes = (argc > 1 ? strtoul(argv[1], NULL, 10) : 1024) << 20;
    n_threads = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
    size_t rounds = argc > 3 ? strtoul(argv[3], NULL, 10) : 3;
    for (size_t round = 0; round < rounds && round < rounds_most; round++) {
        for (size_t i = 0; i < n_cases; i++) {
            cases[i].results[round] = in_a_child(cases[i].measure);
        }
    }
    printf("%zu MiB in 64-byte nodes, %zu other threads, %zu rounds\n", wanted_bytes >> 20, n_threads, rounds);
    for (size_t i = 0; i < n_cases; i++) {
        qsort(cases[i].results, rounds, sizeof cases[i].results[0], by_ns);
        struct result middle = cases[i].results[rounds / 2];
        printf("%-22s %8.1f ms %7.2f GB/s of the data, %7.2f GB/s of what was looked at\n", cases[i].name,
               (double)middle.ns / 1e6, (double)wanted_bytes / (double)middle.ns,
               (double)middle.bytes / (double)middle.ns);
    }
    return 0;
}
