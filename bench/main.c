/* SPDX-License-Identifier: MIT */
/* main.c - runs one case and prints what it measured.
 *
 *     allot_bench --list             name<TAB>what, one case a line
 *     allot_bench CASE [EFFORT]      run CASE; EFFORT in percent, 100 unless given
 *
 * Reads with.  bench.h
 */
#define _GNU_SOURCE
#include "bench.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const bench_case *const tables[] = {small_cases, large_cases, thread_cases, memory_cases};
#define N_TABLES (sizeof(tables) / sizeof(tables[0]))

uint16_t bench_sizes[BENCH_TABLE];
uint32_t bench_picks[BENCH_TABLE];

static void fill_tables(void)
{
    uint64_t state = BENCH_SEED;
    for (size_t i = 0; i < BENCH_TABLE; i++) {
        uint64_t r = bench_random(&state);
        bench_sizes[i] = (uint16_t)(16 + r % 1009);
        bench_picks[i] = (uint32_t)(r >> 32);
    }
}

/* Which library malloc comes from: the runner checks that the preload took effect. */
static void report_malloc(void)
{
    Dl_info info;
    void *(*function)(size_t) = malloc;
    void *address;
    memcpy(&address, &function, sizeof(address));
    if (dladdr(address, &info) != 0 && info.dli_fname != NULL) {
        printf("malloc_from %s\n", info.dli_fname);
    }
}

static void list(void)
{
    for (size_t t = 0; t < N_TABLES; t++) {
        for (const bench_case *c = tables[t]; c->name != NULL; c++) {
            printf("%s\t%s\n", c->name, c->what);
        }
    }
}

static const bench_case *find(const char *name)
{
    for (size_t t = 0; t < N_TABLES; t++) {
        for (const bench_case *c = tables[t]; c->name != NULL; c++) {
            if (strcmp(c->name, name) == 0) {
                return c;
            }
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    static char out[4096];
    setvbuf(stdout, out, _IOFBF, sizeof(out));
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        list();
        return 0;
    }
    const bench_case *wanted = argc >= 2 ? find(argv[1]) : NULL;
    unsigned effort = argc >= 3 ? (unsigned)atoi(argv[2]) : 100;
    if (wanted == NULL || effort == 0) {
        fprintf(stderr, "usage: allot_bench --list | CASE [EFFORT percent]\n");
        return 2;
    }
    fill_tables();
    wanted->run(effort);
    bench_report("peak_kib", (double)bench_peak_kib());
    report_malloc();
    return 0;
}
