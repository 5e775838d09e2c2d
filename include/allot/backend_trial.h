/* SPDX-License-Identifier: MIT */
/* backend_trial.h - does a backend of your own keep what arenas count on? A test to be called from your tests; header
 * only, and no part of the library.
 *
 *     static allot_backend *make_mine(void *context) { ... }
 *
 *     int main(void)
 *     {
 *         allot_backend_trial trial = {make_mine, NULL, NULL, 0, NULL};
 *         return allot_backend_try(&trial) == 0 ? 0 : 1;
 *     }
 *
 * Each promise that is broken gives one line. The table is called as an arena calls it, first by hand, then by arenas
 * of every kind whose blocks are filled and compared. Under valgrind or a sanitizer it sees more.
 */
#ifndef ALLOT_BACKEND_TRIAL_H
#define ALLOT_BACKEND_TRIAL_H

#include "allot/arena.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>
#include <unistd.h>
#define ALLOT_TRIAL_PROTECTS 1
#else
#define ALLOT_TRIAL_PROTECTS 0
#endif

typedef struct allot_backend_trial {
    allot_backend *(*make)(void *context); /* a backend that nobody uses; called for each part of the trial */
    void (*end)(allot_backend *backend, void *context); /* NULL: allot_backend_destroy */
    void *context;
    size_t most_bytes; /* how much to ask for in sum, 0: 16 MiB; to run out before is fine */
    void (*tell)(const char *line, void *context); /* NULL: to standard error */
} allot_backend_trial;

/* ---- inside ------------------------------------------------------------------------------------------------- */

enum { ALLOT_TRIAL_PIECES = 64 };

typedef struct allot_trial_run {
    const allot_backend_trial *trial;
    allot_backend *backend;
    size_t n_broken;
    const char *part;
    unsigned char *piece[ALLOT_TRIAL_PIECES];
    size_t bytes[ALLOT_TRIAL_PIECES];
    size_t n;
    size_t sum;
} allot_trial_run;

static inline void allot_trial_tell(allot_trial_run *run, const char *promise)
{
    char line[256];
    run->n_broken++;
    snprintf(line, sizeof line, "backend: %s: %s", run->part, promise);
    if (run->trial->tell != NULL)
        run->trial->tell(line, run->trial->context);
    else
        fprintf(stderr, "%s\n", line);
}

static inline int allot_trial_require(allot_trial_run *run, int holds, const char *promise)
{
    if (!holds)
        allot_trial_tell(run, promise);
    return holds;
}

static inline unsigned char allot_trial_byte(size_t piece, size_t at)
{
    return (unsigned char)(at * 31 + (at >> 9) + piece * 101 + 7);
}

/* Of large pieces both ends and a byte a page. */
static inline size_t allot_trial_next(size_t at, size_t bytes)
{
    return at < 4096 || at + 4096 >= bytes ? at + 1 : at + 509;
}

static inline void allot_trial_fill(allot_trial_run *run, size_t i, size_t from)
{
    size_t at;
    for (at = from; at < run->bytes[i]; at = allot_trial_next(at, run->bytes[i]))
        run->piece[i][at] = allot_trial_byte(i, at);
}

static inline int allot_trial_holds(const allot_trial_run *run, size_t i, size_t bytes)
{
    size_t at;
    for (at = 0; at < bytes && at < 4096; at++)
        if (run->piece[i][at] != allot_trial_byte(i, at))
            return 0;
    return bytes < 4096 || run->piece[i][bytes - 1] == allot_trial_byte(i, bytes - 1);
}

static inline void allot_trial_begin(allot_trial_run *run, const char *part)
{
    run->part = part;
    run->n = 0;
    run->sum = 0;
    run->backend = run->trial->make(run->trial->context);
}

static inline void allot_trial_end(allot_trial_run *run)
{
    if (run->trial->end != NULL)
        run->trial->end(run->backend, run->trial->context);
    else
        allot_trial_require(run, allot_backend_destroy(run->backend) == 0,
                            "it can't be destroyed when no arena uses it");
}

static inline size_t allot_trial_most(const allot_trial_run *run)
{
    return run->trial->most_bytes != 0 ? run->trial->most_bytes : (size_t)16 << 20;
}

static inline int allot_trial_is_apart(const allot_trial_run *run, const unsigned char *begin, size_t bytes, size_t but)
{
    size_t i;
    for (i = 0; i < run->n; i++)
        if (i != but && begin < run->piece[i] + run->bytes[i] && run->piece[i] < begin + bytes)
            return 0;
    return 1;
}

/* One call of grow, and all that it promises. Returns 0, or what it returned. */
static inline int allot_trial_grow(allot_trial_run *run, size_t need, size_t want)
{
    static unsigned char untouched;
    const size_t no_bytes = 4711;
    size_t last = run->n - 1;
    void *begin = run->n == 0 ? NULL : run->piece[last];
    size_t old = run->n == 0 ? 0 : run->bytes[last];
    void *out = &untouched;
    size_t out_bytes = no_bytes;
    int error = run->backend->ops->grow(run->backend, begin, old, need, want, &out, &out_bytes);
    allot_trial_require(run, error >= 0, "grow returns an errno, not a negative number");
    if (run->n > 0)
        allot_trial_require(run, allot_trial_holds(run, last, old),
                            "grow leaves the contents of the latest piece alone");
    if (error != 0)
        return error;
    if (!allot_trial_require(run, out != NULL && out != &untouched && out_bytes != no_bytes, "grow sets its results"))
        return EINVAL;
    if (out == begin) {
        if (!allot_trial_require(run, out_bytes >= old + need, "a piece grown in place has need_bytes more"))
            return EINVAL;
        run->bytes[last] = out_bytes;
        allot_trial_require(run, allot_trial_is_apart(run, run->piece[last], out_bytes, last),
                            "a piece grown in place reaches into no other");
        allot_trial_fill(run, last, old);
    } else {
        if (!allot_trial_require(run, out_bytes >= need, "a new piece has need_bytes"))
            return EINVAL;
        if (!allot_trial_require(run, allot_trial_is_apart(run, (unsigned char *)out, out_bytes, ALLOT_TRIAL_PIECES),
                                 "a new piece overlaps no other"))
            return EINVAL;
        run->piece[run->n] = (unsigned char *)out;
        run->bytes[run->n] = out_bytes;
        run->n++;
        allot_trial_fill(run, run->n - 1, 0);
    }
    run->sum += out_bytes;
    return 0;
}

static inline void allot_trial_release_all(allot_trial_run *run)
{
    size_t i;
    while (run->n > 0 && run->backend->ops->release != NULL) {
        i = run->n / 2;
        allot_trial_require(run, allot_trial_holds(run, i, run->bytes[i]), "no piece changes when others come or go");
        allot_trial_require(run, run->backend->ops->release(run->backend, run->piece[i], run->bytes[i]) == 0,
                            "release of a whole piece succeeds");
        for (run->n--; i < run->n; i++) {
            size_t at;
            run->piece[i] = run->piece[i + 1];
            run->bytes[i] = run->bytes[i + 1];
            for (at = 0; at < run->bytes[i]; at = allot_trial_next(at, run->bytes[i]))
                run->piece[i][at] = allot_trial_byte(i, at);
        }
    }
}

/* ---- the parts ------------------------------------------------------------------------------------------------ */

static inline int allot_trial_table(allot_trial_run *run)
{
    int is_whole;
    run->part = "table";
    run->backend = run->trial->make(run->trial->context);
    if (!allot_trial_require(run, run->backend != NULL && run->backend->ops != NULL, "there is a backend with a table"))
        return 0;
    is_whole = allot_trial_require(run, run->backend->ops->abi_size == sizeof(allot_backend_ops), "abi_size is set") &&
               allot_trial_require(run, run->backend->ops->grow != NULL, "grow is there");
    allot_trial_require(run, run->backend->reserved[0] == NULL && run->backend->reserved[1] == NULL,
                        "the library's members are zero at first");
    if (is_whole)
        allot_trial_end(run);
    return is_whole;
}

static inline void allot_trial_growing(allot_trial_run *run)
{
    static const size_t needs[] = {1, 16, 15, 17, 4096, 4095, 4097, 100, 65536, 32, 300000, 16, 1, 70000};
    size_t i;
    int error = 0;
    allot_trial_begin(run, "grow");
    for (i = 0; error == 0 && i < sizeof needs / sizeof needs[0] && run->sum < allot_trial_most(run); i++)
        error = allot_trial_grow(run, needs[i], needs[i] + (i % 3) * 5000);
    allot_trial_require(run, run->n > 0, "an unused backend has a byte");
    while (error == 0 && run->n < ALLOT_TRIAL_PIECES && run->sum < allot_trial_most(run))
        error = allot_trial_grow(run, 200000, 400000);
    for (i = 0; i < run->n; i++)
        allot_trial_require(run, allot_trial_holds(run, i, run->bytes[i]), "no piece changes when others come");
    allot_trial_release_all(run);
    if (run->backend->ops->release != NULL)
        allot_trial_require(run, allot_trial_grow(run, 16, 16) == 0, "after release there is memory again");
    allot_trial_release_all(run);
    allot_trial_end(run);
}

static inline void allot_trial_too_much(allot_trial_run *run)
{
    static const size_t needs[] = {(size_t)1 << 47, SIZE_MAX / 2, SIZE_MAX - 100, SIZE_MAX};
    size_t i;
    allot_trial_begin(run, "more than there is");
    allot_trial_grow(run, 1000, 1000);
    for (i = 0; i < sizeof needs / sizeof needs[0]; i++) {
        void *begin = run->n == 0 ? NULL : run->piece[0];
        size_t old = run->n == 0 ? 0 : run->bytes[0];
        void *out = NULL;
        size_t out_bytes = 0;
        allot_trial_require(run,
                            run->backend->ops->grow(run->backend, begin, old, needs[i], needs[i], &out, &out_bytes) > 0,
                            "grow by more than any system has fails with an errno");
        if (run->n > 0)
            allot_trial_require(run, allot_trial_holds(run, 0, old), "a grow that fails changes nothing");
    }
    allot_trial_release_all(run);
    allot_trial_end(run);
}

#if ALLOT_TRIAL_PROTECTS
static inline void allot_trial_protecting(allot_trial_run *run)
{
    int (*protect)(allot_backend *, void *, size_t, int);
    allot_trial_begin(run, "protect");
    protect = run->backend->ops->protect;
    if (protect != NULL && allot_trial_grow(run, 100000, 100000) == 0) {
        allot_trial_require(run, protect(run->backend, run->piece[0], run->bytes[0], PROT_READ) == 0,
                            "a piece can be made read-only");
        allot_trial_require(run, allot_trial_holds(run, 0, run->bytes[0]), "and keeps its contents");
        allot_trial_require(run, protect(run->backend, run->piece[0], run->bytes[0], PROT_NONE) == 0,
                            "a piece can be made inaccessible");
        if (allot_trial_require(run, protect(run->backend, run->piece[0], run->bytes[0], PROT_READ | PROT_WRITE) == 0,
                                "a piece can be made writable again")) {
            allot_trial_require(run, allot_trial_holds(run, 0, run->bytes[0]), "with the contents it had");
            allot_trial_fill(run, 0, 0);
        }
        allot_trial_require(run, protect(run->backend, run->piece[0], run->bytes[0], 0x40000000) >= 0,
                            "protect returns an errno, not a negative number");
        allot_trial_require(run, protect(run->backend, run->piece[0], run->bytes[0], PROT_READ | PROT_WRITE) == 0,
                            "a refused protection does no harm");
    }
    allot_trial_release_all(run);
    allot_trial_end(run);
}

static inline void allot_trial_decommitting(allot_trial_run *run)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    allot_trial_begin(run, "decommit");
    if (run->backend->ops->decommit != NULL && allot_trial_grow(run, 20 * page, 20 * page) == 0) {
        size_t skip = (page - (size_t)((uintptr_t)run->piece[0] % page)) % page;
        unsigned char *begin = run->piece[0] + skip + 2 * page;
        size_t bytes = 10 * page;
        size_t at;
        int error = run->backend->ops->decommit(run->backend, begin, bytes);
        allot_trial_require(run, error >= 0, "decommit returns an errno, not a negative number");
        for (at = 0; at < skip + 2 * page && at < 4096; at++)
            allot_trial_require(run, run->piece[0][at] == allot_trial_byte(0, at),
                                "pages beside it keep their contents");
        allot_trial_fill(run, 0, 0); /* all of it stays usable */
        allot_trial_require(run, allot_trial_holds(run, 0, run->bytes[0]), "what is written later stays");
    }
    allot_trial_release_all(run);
    allot_trial_end(run);
}
#endif

/* Blocks of an arena: filled, compared, given back. */
static inline void allot_trial_work(allot_trial_run *run, allot_arena *arena)
{
    enum { N = 200 };
    unsigned char *blocks[N] = {NULL};
    size_t sizes[N];
    size_t sum = 0;
    unsigned long random = 12345;
    unsigned round;
    size_t i, at;
    for (round = 0; round < 3000 && sum < allot_trial_most(run); round++) {
        random = (random * 1103515245ul + 12345ul) & 0x7fffffff;
        i = (random >> 8) % N;
        if (blocks[i] != NULL) {
            for (at = 0; at < sizes[i] && blocks[i][at] == allot_trial_byte(i, at);)
                at++;
            allot_trial_require(run, at == sizes[i], "an arena's blocks keep their contents");
            allot_arena_free(arena, blocks[i]);
            blocks[i] = NULL;
            continue;
        }
        sizes[i] = 1 + (random >> 4) % (round % 20 == 0 ? 30000 : 600);
        sum += sizes[i];
        blocks[i] = (unsigned char *)allot_arena_malloc(arena, sizes[i]);
        for (at = 0; blocks[i] != NULL && at < sizes[i]; at++)
            blocks[i][at] = allot_trial_byte(i, at);
        if (round % 100 == 0)
            allot_trial_require(run, allot_arena_check(arena) == 0, "an arena on it stays whole");
    }
}

static inline void allot_trial_arena(allot_trial_run *run, allot_arena_kind kind, allot_arena_fit fit)
{
    allot_arena_options options = ALLOT_ARENA_OPTIONS_INIT;
    allot_arena *arena = NULL;
    allot_arena *second = NULL;
    int round;
    allot_trial_begin(run, "arena");
    options.name = "backend trial";
    options.kind = kind;
    options.fit = fit;
    options.backend = run->backend;
    for (round = 0; round < 3; round++) { /* one after the other */
        if (!allot_trial_require(run, allot_arena_create(round == 1 ? 5000 : 0, &options, &arena) == 0,
                                 "it can have an arena, and another one after that"))
            break;
        if (run->backend->ops->shared && allot_arena_create(100, &options, &second) == 0) {
            allot_trial_work(run, second);
            allot_trial_work(run, arena);
            allot_trial_require(run, allot_arena_check(second) == 0, "two arenas on it stay whole");
            allot_arena_destroy(second);
        }
        allot_trial_work(run, arena);
        allot_trial_require(run, allot_arena_reset(arena) == 0, "an arena on it can be reset");
        allot_trial_work(run, arena);
        allot_arena_trim(arena, 0);
        allot_trial_work(run, arena);
        allot_trial_require(run, allot_arena_check(arena) == 0, "an arena on it stays whole");
        allot_arena_destroy(arena);
    }
    allot_trial_end(run);
}

/* ---- to be called --------------------------------------------------------------------------------------------- */

/* allot_backend_try - put a backend to the test.
 *
 *   returns     how many promises were broken; each was told by a line
 *   threads     any; the backend is used by the caller alone
 *   signals     not safe
 *   fork        no part of it
 *   errors      by the return value; a backend that hands out what can't be written to ends the process
 */
static inline size_t allot_backend_try(const allot_backend_trial *trial)
{
    allot_trial_run run;
    memset(&run, 0, sizeof run);
    run.trial = trial;
    if (!allot_trial_table(&run))
        return run.n_broken;
    allot_trial_growing(&run);
    if (run.n_broken != 0)
        return run.n_broken; /* no arena could stand on that */
    allot_trial_too_much(&run);
#if ALLOT_TRIAL_PROTECTS
    allot_trial_protecting(&run);
    allot_trial_decommitting(&run);
#endif
    allot_trial_arena(&run, ALLOT_ARENA_GENERAL, ALLOT_FIT_GOOD);
    allot_trial_arena(&run, ALLOT_ARENA_GENERAL, ALLOT_FIT_FIRST);
    allot_trial_arena(&run, ALLOT_ARENA_GENERAL, ALLOT_FIT_BEST);
    allot_trial_arena(&run, ALLOT_ARENA_BUMP, ALLOT_FIT_GOOD);
    return run.n_broken;
}

#endif
