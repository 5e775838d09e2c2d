/* SPDX-License-Identifier: MIT */
/* calls.c - the calls under test, and the states that they start from.
 *
 * Only public functions bring about a state, so a path through the allocator is not aimed at but passed: a row of
 * calls long enough to run out of blocks, to pass a bin's limit, to fill an outbox. The numbers leave room.
 */
#include "step.h"

#include <allot/allot.h>
#include <stdlib.h>
#include <unistd.h>

#if __has_include(<allot/pool.h>)
#include <allot/pool.h>
#define HAS_POOL 1
/* The toy allocator has none. */
#pragma weak allot_pool_malloc
#pragma weak allot_pool_realloc
#pragma weak allot_pool_free
#endif

struct flight flight;

#define KIB(n) ((size_t)(n) << 10)
#define MIB(n) ((size_t)(n) << 20)

static void took(void *p)
{
    flight.after[flight.n_after] = p;
    flight.n_after++;
}

static void begin(unsigned i)
{
    flight.at = i;
    flight.begun = true;
}

static void end(unsigned i)
{
    flight.at = i + 1;
    flight.begun = false;
}

/* ---- between the marks -------------------------------------------------------------------------------------- */

static void run_malloc(const struct call *call)
{
    for (unsigned i = 0; i < call->n; i++) {
        took(malloc(call->bytes));
    }
}

static void run_calloc(const struct call *call)
{
    for (unsigned i = 0; i < call->n; i++) {
        took(calloc(1, call->bytes));
    }
}

static void run_aligned(const struct call *call)
{
    for (unsigned i = 0; i < call->n; i++) {
        took(aligned_alloc(call->extra, call->bytes));
    }
}

static void run_free(const struct call *call)
{
    (void)call;
    for (unsigned i = 0; i < flight.n_before; i++) {
        begin(i);
        free(flight.before[i]);
        end(i);
    }
}

static void run_realloc(const struct call *call)
{
    for (unsigned i = 0; i < flight.n_before; i++) {
        begin(i);
        took(realloc(flight.before[i], call->to_bytes));
        end(i);
    }
}

/* Neither takes nor gives: the block stays whose it is. */
static void run_expand(const struct call *call)
{
    for (unsigned i = 0; i < flight.n_before; i++) {
        end(i);
        took(flight.before[i]);
        if (allot_try_expand(flight.before[i], call->extra) < 0) {
            fail("allot_try_expand gave a number below 0");
        }
    }
}

static void run_ask(const struct call *call)
{
    allot_info info = ALLOT_INFO_INIT;
    void *p = flight.before[0];
    end(0);
    took(p);
    if (allot_query((char *)p + 1, &info) != 0 || info.base != p || info.state != ALLOT_STATE_LIVE) {
        fail("allot_query of %p says base %p, state %d", p, info.base, (int)info.state);
    }
    if (allot_malloc_usable_size(p) < call->bytes) {
        fail("allot_malloc_usable_size of %p (%zu bytes) says %zu", p, call->bytes, allot_malloc_usable_size(p));
    }
}

static void run_free_malloc(const struct call *call)
{
    run_free(call);
    run_malloc(call);
}

static void run_malloc_batch(const struct call *call)
{
    flight.n_after = (unsigned)allot_malloc_batch(call->bytes, flight.after, call->n);
}

static void run_free_batch(const struct call *call)
{
    begin(0);
    allot_free_batch(flight.before, flight.n_before);
    end(call->n - 1);
}

static void run_nothing(const struct call *call)
{
    (void)call;
}

#ifdef HAS_POOL
static void run_pool_malloc(const struct call *call)
{
    for (unsigned i = 0; i < call->n; i++) {
        took(allot_pool_malloc(call->bytes));
    }
}

static void run_pool_free(const struct call *call)
{
    (void)call;
    for (unsigned i = 0; i < flight.n_before; i++) {
        begin(i);
        allot_pool_free(flight.before[i]);
        end(i);
    }
}

static void run_pool_realloc(const struct call *call)
{
    for (unsigned i = 0; i < flight.n_before; i++) {
        begin(i);
        took(allot_pool_realloc(flight.before[i], call->to_bytes));
        end(i);
    }
}

static void prepare_pool(const struct call *call)
{
    for (unsigned i = 0; i < call->n; i++) {
        void *p = allot_pool_malloc(call->bytes);
        block_add_pool(p, call->bytes);
        flight.before[i] = p;
        flight.seed[i] = block_forget(p);
    }
    flight.n_before = call->n;
}

bool calls_have_pool(void)
{
    return allot_pool_malloc != NULL;
}

void calls_pool_free(void *p)
{
    block_forget(p);
    allot_pool_free(p);
}

void calls_pool_in_handler(const struct call *call)
{
    static void *kept[4];
    static unsigned n;
    void *p[3];
    for (unsigned i = 0; i < 3; i++) {
        p[i] = allot_pool_malloc(call->bytes);
        block_add_pool(p[i], call->bytes);
    }
    calls_pool_free(p[0]);
    block_forget(p[1]);
    p[1] = allot_pool_realloc(p[1], call->bytes + 500);
    block_add_pool(p[1], call->bytes + 500);
    calls_pool_free(p[1]);
    if (kept[n % 4] != NULL) {
        calls_pool_free(kept[n % 4]);
    }
    kept[n++ % 4] = p[2];
}
#else
bool calls_have_pool(void)
{
    return false;
}

void calls_pool_free(void *p)
{
    (void)p;
}

void calls_pool_in_handler(const struct call *call)
{
    (void)call;
}
#endif

/* ---- before the first mark ---------------------------------------------------------------------------------- */

static void prepare_before(const struct call *call)
{
    for (unsigned i = 0; i < call->n; i++) {
        flight.before[i] = block_malloc(call->bytes);
    }
    for (unsigned i = 0; i < call->n; i++) {
        flight.seed[i] = block_forget(flight.before[i]);
    }
    flight.n_before = call->n;
}

static const struct call *sleepers_call;

static void allocate_before(void)
{
    prepare_before(sleepers_call);
}

/* The blocks are another thread's. */
static void prepare_remote(const struct call *call)
{
    sleepers_call = call;
    stage_by_sleeper(allocate_before);
}

static void free_before(void)
{
    for (unsigned i = 0; i < flight.n_before; i++) {
        free(flight.before[i]);
    }
    flight.n_before = 0;
    allot_thread_flush();
}

/* Another thread has freed blocks of this one: they wait in its inbox. */
static void prepare_inbox(const struct call *call)
{
    prepare_before(call);
    stage_by_sleeper(free_before);
}

/* Used blocks lie ready, dirty. */
static void prepare_dirty(const struct call *call)
{
    prepare_before(call);
    while (flight.n_before > 0) {
        free(flight.before[--flight.n_before]);
    }
}

/* So many were freed so long ago that pages may go back. */
static void prepare_aged(const struct call *call)
{
    struct call more = *call;
    more.n = call->bytes > KIB(64) ? 12 : MAX_CALLS;
    prepare_dirty(&more);
    usleep(400 * 1000);
    prepare_before(call);
}

/* A thread's end finds live blocks, free ones, and an outbox that is not empty. */
static void prepare_exit(const struct call *call)
{
    prepare_dirty(call);
    for (unsigned i = 0; i < 5; i++) {
        block_malloc(call->bytes);
        block_malloc(40000);
        block_free(stage_stock(STOCK_SLEEPER));
        block_free(stage_stock(STOCK_GONE));
    }
}

/* ---- the list ----------------------------------------------------------------------------------------------- */

const struct call calls[] = {
    {"malloc", prepare_dirty, run_malloc, 48, 0, 0, 1, 0},
    {"malloc.row", NULL, run_malloc, 1024, 0, 0, 150, 0},
    {"malloc.inbox", prepare_inbox, run_malloc, 1024, 0, 0, 150, 0},
    {"malloc.medium.inbox", prepare_inbox, run_malloc, KIB(40), 0, 0, 20, 0},
    {"malloc.medium", NULL, run_malloc, KIB(40), 0, 0, 4, 0},
    {"malloc.medium.big", NULL, run_malloc, KIB(300), 0, 0, 2, 0},
    {"malloc.large", NULL, run_malloc, KIB(700), 0, 0, 2, 0},
    {"malloc.huge", NULL, run_malloc, MIB(40), 0, 0, 1, 0},
    {"free", prepare_before, run_free, 48, 0, 0, 1, 0},
    {"free.row", prepare_before, run_free, 256, 0, 0, 700, 0},
    {"free.remote", prepare_remote, run_free, 256, 0, 0, 200, 0},
    {"free.medium", prepare_before, run_free, KIB(40), 0, 0, 4, 0},
    {"free.medium.remote", prepare_remote, run_free, KIB(40), 0, 0, 20, 0},
    {"free.medium.big", prepare_before, run_free, KIB(300), 0, 0, 2, 0},
    {"free.large", prepare_before, run_free, KIB(700), 0, 0, 2, 0},
    {"free.cap", prepare_before, run_free, MIB(1), 0, 0, 12, 0},
    {"free.huge", prepare_before, run_free, MIB(40), 0, 0, 1, 0},
    {"free.aged", prepare_aged, run_free_malloc, 2048, 0, 0, 100, 0},
    {"free.large.aged", prepare_aged, run_free, KIB(700), 0, 0, 2, 0},
    {"malloc.large.aged", prepare_aged, run_malloc, KIB(700), 0, 0, 2, 0},
    {"calloc", prepare_dirty, run_calloc, 200, 0, 0, 2, CALL_ZEROED},
    {"calloc.medium", prepare_dirty, run_calloc, KIB(20), 0, 0, 2, CALL_ZEROED},
    {"calloc.large", prepare_dirty, run_calloc, KIB(700), 0, 0, 1, CALL_ZEROED},
    {"realloc.stays", prepare_before, run_realloc, 100, 101, 0, 2, CALL_MOVES},
    {"realloc.grows", prepare_before, run_realloc, 100, 1000, 0, 2, CALL_MOVES},
    {"realloc.shrinks", prepare_before, run_realloc, 1000, 100, 0, 2, CALL_MOVES},
    {"realloc.remote", prepare_remote, run_realloc, 100, 1000, 0, 20, CALL_MOVES},
    {"realloc.medium", prepare_before, run_realloc, KIB(20), KIB(90), 0, 2, CALL_MOVES},
    {"realloc.large", prepare_before, run_realloc, KIB(600), KIB(900), 0, 2, CALL_MOVES},
    {"realloc.large.shrinks", prepare_before, run_realloc, KIB(900), KIB(100), 0, 2, CALL_MOVES},
    {"realloc.huge", prepare_before, run_realloc, MIB(40), MIB(70), 0, 1, CALL_MOVES},
    {"aligned_alloc.small", NULL, run_aligned, 100, 0, 64, 2, 0},
    {"aligned_alloc.page", NULL, run_aligned, 100, 0, 4096, 2, 0},
    {"aligned_alloc.large", NULL, run_aligned, KIB(100), 0, MIB(1), 2, 0},
    {"try_expand", prepare_before, run_expand, KIB(600), 0, KIB(800), 2, CALL_MOVES},
    {"query", prepare_before, run_ask, 48, 0, 0, 1, CALL_MOVES},
    {"malloc_batch", NULL, run_malloc_batch, 1024, 0, 0, 100, CALL_AT_ONCE},
    {"free_batch", prepare_before, run_free_batch, 1024, 0, 0, 100, CALL_AT_ONCE},
    {"thread.malloc", NULL, run_malloc, 48, 0, 0, 1, CALL_NEW_THREAD | CALL_NO_HEIR},
    {"thread.malloc.heir", NULL, run_malloc, 48, 0, 0, 1, CALL_NEW_THREAD},
    {"thread.malloc.large", NULL, run_malloc, KIB(700), 0, 0, 1, CALL_NEW_THREAD},
    {"thread.free", prepare_before, run_free, 48, 0, 0, 1, CALL_NEW_THREAD},
    {"thread.realloc", prepare_before, run_realloc, 48, 500, 0, 1, CALL_NEW_THREAD | CALL_MOVES},
    {"thread.calloc", NULL, run_calloc, 500, 0, 0, 1, CALL_NEW_THREAD | CALL_ZEROED},
    {"thread.exit", prepare_exit, run_nothing, 256, 0, 0, 300, CALL_THREAD_EXIT},
    {"fork.malloc", prepare_dirty, run_malloc, 48, 0, 0, 2, CALL_FORKED},
    {"fork.malloc.row", NULL, run_malloc, 1024, 0, 0, 70, CALL_FORKED},
    {"fork.free", prepare_before, run_free, 48, 0, 0, 2, CALL_FORKED},
    {"fork.free.remote", prepare_remote, run_free, 256, 0, 0, 70, CALL_FORKED},
#ifdef HAS_POOL
    {"pool.malloc", NULL, run_pool_malloc, 48, 0, 0, 2, CALL_POOL},
    {"pool.malloc.row", NULL, run_pool_malloc, 1024, 0, 0, 150, CALL_POOL},
    {"pool.malloc.large", NULL, run_pool_malloc, KIB(100), 0, 0, 2, CALL_POOL},
    {"pool.free", prepare_pool, run_pool_free, 48, 0, 0, 2, CALL_POOL},
    {"pool.free.row", prepare_pool, run_pool_free, 1024, 0, 0, 150, CALL_POOL},
    {"pool.free.large", prepare_pool, run_pool_free, KIB(100), 0, 0, 2, CALL_POOL},
    {"pool.realloc", prepare_pool, run_pool_realloc, 100, 1000, 0, 2, CALL_POOL | CALL_MOVES},
#endif
};
const unsigned n_calls = sizeof calls / sizeof calls[0];
