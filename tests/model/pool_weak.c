/* SPDX-License-Identifier: MIT */
/* pool_weak.c - the pool's own sources and its stack under the model checker of weak/: every interleaving of the
 * scenarios below, with every value that weak memory lets a load read.
 *
 *     pool_weak            all scenarios but the long ones: nothing may fail
 *     pool_weak all        the long ones too (some minutes)
 *     pool_weak fault N    with an order taken away on purpose: some scenario must fail
 *     pool_weak NAME       one scenario
 */
#include "pool/pool_internal.h"

#include "allot/pool.h"

#include "weak.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POOL_BYTES 20480

/* All that an execution changes: put back before each. */
static _Alignas(4096) struct memory {
    char pool[POOL_BYTES];
    void *held[4][4]; /* by thread (0: prepared) */
    unsigned n_faults;
} memory;
static struct pool *pool;
static struct segment *segment;
static uint64_t unit_mask; /* the units that the pool has */

/* ---- what the pool asks of rooms that have no part in this --------------------------------------------------- */

bool map_init(const void *near)
{
    (void)near;
    return false;
}

int map_add(void *begin, size_t bytes)
{
    (void)begin, (void)bytes;
    return -1;
}

void *map_descriptor(const void *address)
{
    (void)address;
    return NULL;
}

void map_set(void *begin, size_t n_granules, uint32_t tag)
{
    (void)begin, (void)n_granules, (void)tag;
}

void *map_books(size_t bytes)
{
    (void)bytes;
    return NULL;
}

void *os_map(size_t bytes, size_t align);
void *os_map(size_t bytes, size_t align)
{
    (void)bytes, (void)align;
    return NULL;
}

int os_release(void *begin, size_t bytes);
int os_release(void *begin, size_t bytes)
{
    (void)begin, (void)bytes;
    return 0;
}

int os_purge(void *begin, size_t bytes, bool lazy);
int os_purge(void *begin, size_t bytes, bool lazy)
{
    (void)begin, (void)bytes, (void)lazy;
    return 0;
}

bool os_extend(void *begin, size_t old_bytes, size_t new_bytes);
bool os_extend(void *begin, size_t old_bytes, size_t new_bytes)
{
    (void)begin, (void)old_bytes, (void)new_bytes;
    return false;
}

size_t os_page_bytes(void);
size_t os_page_bytes(void)
{
    return 4096;
}

void fault_report(const struct fault *fault)
{
    (void)fault;
    memory.n_faults++;
}

void base_check_failed(const char *expression, const char *file, int line)
{
    (void)file, (void)line;
    weak_fail(expression);
    abort();
}

/* ---- steps of the scenarios --------------------------------------------------------------------------------- */

static void *take(size_t bytes)
{
    void *block = allot_pool_malloc_in((allot_pool *)pool, bytes);
    if (block != NULL) {
        weak_own(block, 0, weak_thread() + 1);
    }
    return block;
}

static void give_owned(void *block, unsigned owner)
{
    weak_own(block, owner, 0);
    allot_pool_free_in((allot_pool *)pool, block);
}

static void take_and_give(size_t bytes)
{
    void *block = take(bytes);
    if (block == NULL) {
        weak_fail("refused, though there is room for all");
    }
    give_owned(block, weak_thread() + 1);
}

/* A pool with so many free units, lying in a row. */
static void prepare_pool(unsigned n_units)
{
    allot_pool *made;
    if (allot_pool_create(memory.pool, POOL_BYTES, &made) != 0) {
        abort();
    }
    pool = (struct pool *)made;
    segment = pool_segment(pool, 0);
    unit_mask = (UINT64_C(1) << n_units) - 1;
    store_relaxed(&segment->used[0], ~unit_mask);
}

/* All blocks of one superblock of 16 bytes but n, with held[0] the first four taken. */
static void prepare_nearly_full(unsigned n_units, unsigned n_free)
{
    prepare_pool(n_units);
    for (unsigned i = 0; i + n_free < pool_class_shapes[1].blocks; i++) {
        void *block = take(16);
        if (i < 4) {
            memory.held[0][i] = block;
        }
    }
}

/* ---- checks ------------------------------------------------------------------------------------------------- */

static bool has_room_bits(unsigned u, unsigned c)
{
    return (load_relaxed(segment_room(segment, 0, c)) >> u & 1) != 0 && (load_relaxed(&segment->any[c]) & 1) != 0 &&
           (load_relaxed(pool_top(pool, c, 0)) & 1) != 0;
}

/* P3 and P4 for one superblock or run; its units are added to *covered. Returns 1 when its room can't be found. */
static unsigned check_first_unit(unsigned u, uint64_t *covered)
{
    struct unit *unit = segment_unit(segment, u);
    uint64_t anchor = load_relaxed(&unit->anchor);
    unsigned c = (unsigned)load_relaxed(&unit->kind);
    if (anchor == 0) {
        return 0;
    }
    unsigned n = c == KIND_RUN ? load_relaxed(&unit->info) : pool_class_shapes[c % CLASS_SLOTS].units;
    if ((anchor & ANCHOR_OPEN) == 0 || n == 0) {
        weak_fail("an anchor that belongs to nothing");
    }
    uint64_t mask = ((UINT64_C(1) << n) - 1) << u;
    if ((*covered & mask) != 0 || (load_relaxed(&segment->used[0]) & mask) != mask) {
        weak_fail("units with two owners, or none");
    }
    *covered |= mask;
    return c != KIND_RUN && anchor != ANCHOR_OPEN && !has_room_bits(u, c);
}

static unsigned lost_units(void)
{
    uint64_t covered = 0;
    unsigned n_hidden = 0;
    for (unsigned u = 0; u < 8; u++) {
        n_hidden += check_first_unit(u, &covered);
    }
    if (n_hidden > 1) {
        weak_fail("more than one superblock's room can't be found");
    }
    return n_hidden * 100 + bit_count(load_relaxed(&segment->used[0]) & unit_mask & ~covered);
}

static unsigned expected_faults;

static void check_pool(unsigned unfinished)
{
    unsigned lost = lost_units();
    if (unfinished == 0 && lost != 0) {
        weak_fail("units or room lost");
    }
    if (unfinished != 0 && lost % 100 > 5) {
        weak_fail("a stopped thread holds more than one superblock or run");
    }
    if (unfinished == 0 && memory.n_faults != expected_faults) {
        weak_fail("misuse seen where there was none, or not where it was");
    }
}

static void check_all_free(unsigned unfinished)
{
    check_pool(unfinished);
    for (unsigned u = 0; u < 8 && unfinished == 0; u++) {
        uint64_t anchor = load_relaxed(&segment_unit(segment, u)->anchor);
        unsigned c = load_relaxed(&segment_unit(segment, u)->kind);
        if (anchor != 0 && anchor != pool_classes[c % CLASS_SLOTS].empty) {
            weak_fail("a block is live that was freed");
        }
    }
}

/* ---- scenarios ---------------------------------------------------------------------------------------------- */

static void prepare_8(void)
{
    prepare_pool(8);
}

static void pair_16(void)
{
    take_and_give(16);
}

static void pair_32(void)
{
    take_and_give(32);
}

/* One block live in a superblock that is the hint of all: freeing it leaves it empty; taking apart for 32 bytes. */
static void prepare_last(void)
{
    prepare_pool(2);
    memory.held[0][0] = take(16);
    store_relaxed(&spot_unit(&(struct spot){segment, 0, 0})->info, 5); /* nobody's hint any more, so it is retired */
}

static void give_first(void)
{
    give_owned(memory.held[0][0], 1);
}

static void give_second(void)
{
    give_owned(memory.held[0][1], 1);
}

static void take_32_maybe(void)
{
    void *block = take(32); /* needs both units: only after the other superblock was taken apart */
    if (block != NULL) {
        give_owned(block, weak_thread() + 1);
    }
}

static void take_16_maybe(void)
{
    void *block = take(16);
    if (block != NULL) {
        give_owned(block, weak_thread() + 1);
    }
}

static void keep_16(void)
{
    memory.held[weak_thread()][0] = take(16);
}

static void prepare_full(void)
{
    prepare_nearly_full(1, 0);
}

static void prepare_full_2(void)
{
    prepare_nearly_full(2, 0);
}

static void prepare_one_free(void)
{
    prepare_nearly_full(1, 1);
}

static void give_same(void)
{
    allot_pool_free_in((allot_pool *)pool, memory.held[0][0]);
}

static void prepare_double_free(void)
{
    prepare_pool(8);
    memory.held[0][0] = take(16);
    take(16);
    expected_faults = 1;
}

static void prepare_double_free_of_run(void)
{
    prepare_pool(8);
    memory.held[0][0] = take(5000);
    expected_faults = 1;
}

static void run_5000(void)
{
    void *block = take(5000); /* 5 units */
    if (block != NULL) {
        give_owned(block, weak_thread() + 1);
    }
}

/* Three hold hints to one superblock, one takes it apart and makes another class of it. */
static void prepare_stale_hint(void)
{
    prepare_pool(2);
    memory.held[0][0] = take(16);
    for (unsigned place = 0; place < 4; place++) {
        store_relaxed(&pool->places[place].hint[1], unit_hint(pool, segment_unit(segment, 0)));
    }
    store_relaxed(&segment_unit(segment, 0)->info, 5);
}

static void give_then_32(void)
{
    give_owned(memory.held[0][0], 1);
    take_32_maybe();
}

static void reclaim(void)
{
    blocks_reclaim(pool);
}

/* ---- the stack ---------------------------------------------------------------------------------------------- */

static struct links {
    allot_stack stack;
    allot_stack_link links[8]; /* every second: links lie 16 bytes apart */
} * links;

static void prepare_stack(void)
{
    links = (struct links *)(void *)memory.pool;
    allot_stack_init(&links->stack, &links->links[0]);
    for (unsigned i = 0; i < 6; i += 2) {
        allot_stack_push(&links->stack, &links->links[i]);
    }
}

/* The version is about to wrap. */
static void prepare_stack_wrap(void)
{
    prepare_stack();
    links->stack.head |= UINT64_C(0xffffffff) << 32;
}

static void pop_one(void)
{
    allot_stack_link *link = allot_stack_pop(&links->stack);
    memory.held[weak_thread()][0] = link;
    if (link != NULL) {
        weak_own((char *)link + 8, 0, weak_thread());
    }
}

static void pop_two_push_first(void)
{
    allot_stack_link *a = allot_stack_pop(&links->stack);
    if (a == NULL) {
        return;
    }
    weak_own((char *)a + 8, 0, weak_thread());
    allot_stack_link *b = allot_stack_pop(&links->stack);
    if (b != NULL) {
        weak_own((char *)b + 8, 0, weak_thread());
    }
    memory.held[weak_thread()][0] = b;
    weak_own((char *)a + 8, weak_thread(), 0);
    allot_stack_push(&links->stack, a);
}

static void pop_and_push(void)
{
    allot_stack_link *a = allot_stack_pop(&links->stack);
    if (a != NULL) {
        weak_own((char *)a + 8, 0, weak_thread());
        weak_own((char *)a + 8, weak_thread(), 0);
        allot_stack_push(&links->stack, a);
    }
}

static void check_stack(unsigned unfinished)
{
    if (unfinished != 0) {
        return;
    }
    unsigned seen = 0;
    for (unsigned i = 1; i < 4; i++) {
        if (memory.held[i][0] != NULL) {
            unsigned n = (unsigned)((allot_stack_link *)memory.held[i][0] - links->links);
            seen |= (seen & 1u << n) != 0 ? 1u << 31 : 1u << n;
        }
    }
    for (allot_stack_link *link; (link = allot_stack_pop(&links->stack)) != NULL;) {
        unsigned n = (unsigned)(link - links->links);
        if ((seen & 1u << n) != 0) {
            weak_fail("an element twice");
        }
        seen |= 1u << n;
    }
    if (seen != (1u << 0 | 1u << 2 | 1u << 4)) {
        weak_fail("an element lost");
    }
}

#define LONG 100 /* added to places */

static const struct weak_scenario scenarios[] = {
    {"both make the first superblock", prepare_8, {pair_16, pair_16}, check_all_free, 0},
    {"both make the first superblock in one place", prepare_8, {pair_16, pair_16}, check_all_free, LONG + 1},
    {"two classes begin", prepare_8, {pair_16, pair_32}, check_all_free, 0},
    {"the last block goes while one is taken", prepare_last, {give_first, take_16_maybe}, check_all_free, 1},
    {"the last block goes, another class wants the units",
     prepare_last,
     {give_first, take_32_maybe},
     check_all_free,
     0},
    {"the last goes, one takes, another class waits",
     prepare_last,
     {give_first, take_16_maybe, take_32_maybe},
     check_all_free,
     LONG + 1},
    {"an old hint leads to another class", prepare_stale_hint, {give_then_32, take_16_maybe}, check_all_free, 0},
    {"a free and a search in a full pool", prepare_full, {give_first, keep_16}, check_pool, 1},
    {"two frees and a search in a full pool", prepare_full, {give_first, give_second, keep_16}, check_pool, 1},
    {"a free and two searches in a full pool", prepare_full, {give_first, keep_16, keep_16}, check_pool, LONG},
    {"a free while another superblock begins", prepare_full_2, {give_first, keep_16, keep_16}, check_pool, 0},
    {"the last free block is fought for", prepare_one_free, {keep_16, keep_16, give_first}, check_pool, 1},
    {"a double free at the same moment", prepare_double_free, {give_same, give_same}, check_pool, 1},
    {"a double free of a run at the same moment", prepare_double_free_of_run, {give_same, give_same}, check_pool, 1},
    {"a run against a superblock", prepare_8, {run_5000, pair_16}, check_all_free, 0},
    {"two runs where there is room for one", prepare_8, {run_5000, run_5000}, check_all_free, LONG},
    {"reclaim against take", prepare_last, {give_first, reclaim, take_16_maybe}, check_all_free, 1},
    {"stack: pop against pop, pop, push", prepare_stack, {pop_one, pop_two_push_first}, check_stack, 0},
    {"stack: three at it", prepare_stack, {pop_one, pop_two_push_first, pop_and_push}, check_stack, 0},
    {"stack: the version wraps", prepare_stack_wrap, {pop_one, pop_two_push_first, pop_and_push}, check_stack, 0},
};

/* Three threads with something to search for: up to a million states. */
static bool is_long(const struct weak_scenario *scenario)
{
    return scenario->places >= LONG;
}

static bool explore_all(const char *only, bool quiet)
{
    bool good = true;
    for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++) {
        if (only == NULL ? is_long(&scenarios[i]) : strcmp(only, "all") != 0 && strcmp(only, scenarios[i].name) != 0) {
            continue;
        }
        expected_faults = 0;
        unsigned long n = weak_explore(&scenarios[i], &memory, sizeof memory, quiet);
        if (n == 0) {
            good = false;
            if (quiet) {
                printf("found by: %s\n", scenarios[i].name);
                return false;
            }
        } else if (!quiet) {
            printf("%-52s %8lu states, %8lu executions\n", scenarios[i].name, weak_states, n);
            fflush(stdout);
        }
    }
    return good;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "fault") == 0) {
        weak_fault = (unsigned)atoi(argv[2]);
        return explore_all(NULL, /* quiet */ true) ? 1 : 0;
    }
    return explore_all(argc > 1 ? argv[1] : NULL, /* quiet */ false) ? 0 : 1;
}
