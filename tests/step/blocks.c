/* SPDX-License-Identifier: MIT */
/* blocks.c - which blocks are whose, what stands in them, and does the allocator agree.
 *
 * The table lies in static memory and is used by one thread at a time: by the one under test, outside the marks or in
 * a handler that interrupted it between them. Threads beside use blocks_churn.
 *
 * How each way of going wrong shows:
 *   given twice      a new block overlaps one of the table; what one holder wrote is not there any more
 *   lost while live  allot_walk calls a block live that nobody holds
 *   lost while free  blocks_check_reuse: a free block of the thread's own slabs is never handed out again
 *   freed too early  allot_walk calls a block of the table free; its contents are damaged
 */
#include "step.h"

#include <allot/allot.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BLOCKS 8192
#define MAX_KNOWN 2048
#define MAX_EITHER MAX_CALLS
#define MAX_GRANULES 4096
#define MAX_SMALL ((size_t)8192) /* larger blocks don't come in slabs */
#define GRANULE_SHIFT 16

struct block {
    char *at;
    size_t bytes;
    uint64_t seed; /* of what stands in it */
    bool optional; /* allot_walk needn't show it */
    bool own;      /* the thread under test got it, in no handler */
};

static struct {
    struct block block[MAX_BLOCKS];
    unsigned n;
    uint64_t last_seed;
    const void *known[MAX_KNOWN];
    unsigned n_known;
    const void *either[MAX_EITHER];
    unsigned n_either;
    uintptr_t own[MAX_GRANULES]; /* where its own small blocks were when they were freed */
    unsigned n_own;
} blocks;

/* ---- contents ----------------------------------------------------------------------------------------------- */

typedef uint64_t __attribute__((may_alias, aligned(1))) any_word;

static uint64_t pattern(uint64_t seed, size_t at)
{
    return (seed + at) * 0x9e3779b97f4a7c15u;
}

/* Every word of small blocks, one a page or fewer of large ones: a copy shouldn't cost more than what it shows. */
static size_t pattern_step(size_t bytes)
{
    return bytes <= 16384 ? sizeof(uint64_t) : bytes <= ((size_t)1 << 20) ? 4096 : 65536;
}

static void block_fill(char *at, size_t bytes, uint64_t seed)
{
    size_t step = pattern_step(bytes);
    size_t i = 0;
    for (; i + sizeof(uint64_t) <= bytes; i += step) {
        *(any_word *)(at + i) = pattern(seed, i);
    }
    if (i < bytes) {
        uint64_t word = pattern(seed, i);
        __builtin_memcpy(at + i, &word, bytes - i);
    }
}

bool block_intact(const void *p, size_t bytes, size_t upto, uint64_t seed)
{
    const char *at = p;
    size_t step = pattern_step(bytes);
    size_t i = 0;
    for (; i + sizeof(uint64_t) <= upto; i += step) {
        if (*(const any_word *)(at + i) != pattern(seed, i)) {
            return false;
        }
    }
    uint64_t word = pattern(seed, i);
    return i >= upto || memcmp(at + i, &word, upto - i) == 0;
}

/* ---- the table ---------------------------------------------------------------------------------------------- */

static void own_add(const void *p)
{
    uintptr_t granule = (uintptr_t)p >> GRANULE_SHIFT;
    for (unsigned i = blocks.n_own; i-- > 0;) {
        if (blocks.own[i] == granule) {
            return;
        }
    }
    if (blocks.n_own < MAX_GRANULES) {
        blocks.own[blocks.n_own++] = granule;
    }
}

static bool own_has(const void *p)
{
    for (unsigned i = 0; i < blocks.n_own; i++) {
        if (blocks.own[i] == (uintptr_t)p >> GRANULE_SHIFT) {
            return true;
        }
    }
    return false;
}

void block_add(void *p, size_t bytes, const char *call)
{
    char *at = p;
    if (at == NULL) {
        fail("%s of %zu bytes gave NULL, errno %d", call, bytes, errno);
    }
    if ((uintptr_t)at % 16 != 0) {
        fail("%s gave %p, not a multiple of 16", call, p);
    }
    for (unsigned i = 0; i < blocks.n; i++) {
        const struct block *other = &blocks.block[i];
        if (at < other->at + other->bytes && other->at < at + bytes) {
            fail("given twice: %s gave %p (%zu bytes), inside the live block at %p (%zu bytes)", call, p, bytes,
                 (void *)other->at, other->bytes);
        }
    }
    if (blocks.n == MAX_BLOCKS) {
        fail("the stepper's table is too small");
    }
    blocks.block[blocks.n] = (struct block){at, bytes, ++blocks.last_seed << 20, false, !stage_is_elsewhere()};
    block_fill(at, bytes, blocks.block[blocks.n].seed);
    blocks.n++;
}

void block_add_pool(void *p, size_t bytes)
{
    block_add(p, bytes, "the pool");
    blocks.block[blocks.n - 1].optional = true;
    blocks.block[blocks.n - 1].own = false;
}

static void verify(const struct block *block)
{
    if (!block_intact(block->at, block->bytes, block->bytes, block->seed)) {
        fail("damaged: the contents of the live block at %p (%zu bytes) have changed", (void *)block->at, block->bytes);
    }
}

void blocks_verify(void)
{
    for (unsigned i = 0; i < blocks.n; i++) {
        verify(&blocks.block[i]);
    }
}

static struct block take_out(const void *p)
{
    for (unsigned i = blocks.n; i-- > 0;) {
        if (blocks.block[i].at == p) {
            struct block block = blocks.block[i];
            blocks.block[i] = blocks.block[--blocks.n];
            verify(&block);
            return block;
        }
    }
    fail("the stepper's table has no block at %p", p);
}

uint64_t block_forget(void *p)
{
    return take_out(p).seed;
}

void *block_malloc(size_t bytes)
{
    void *p = malloc(bytes);
    block_add(p, bytes, "malloc");
    return p;
}

void *block_calloc(size_t bytes)
{
    char *p = calloc(1, bytes);
    for (size_t i = 0; p != NULL && i < bytes; i++) {
        if (p[i] != 0) {
            fail("calloc of %zu bytes gave %p, not zero at %zu", bytes, (void *)p, i);
        }
    }
    block_add(p, bytes, "calloc");
    return p;
}

void *block_aligned(size_t alignment, size_t bytes)
{
    void *p = aligned_alloc(alignment, bytes);
    if ((uintptr_t)p % alignment != 0) {
        fail("aligned_alloc(%zu, %zu) gave %p", alignment, bytes, p);
    }
    block_add(p, bytes, "aligned_alloc");
    return p;
}

void *block_realloc(void *p, size_t bytes)
{
    struct block old = take_out(p);
    void *q = realloc(p, bytes);
    if (q != NULL && !block_intact(q, old.bytes, old.bytes < bytes ? old.bytes : bytes, old.seed)) {
        fail("damaged: realloc of %zu bytes to %zu gave %p with other contents", old.bytes, bytes, q);
    }
    block_add(q, bytes, "realloc");
    return q;
}

void block_free(void *p)
{
    take_out(p);
    errno = 4711;
    free(p);
    if (errno != 4711) {
        fail("free set errno to %d", errno);
    }
}

void blocks_free_all(void)
{
    /* A granule may have been another heap's before; that of a live block is whose the block is. */
    blocks.n_own = 0;
    for (unsigned i = 0; i < blocks.n; i++) {
        if (blocks.block[i].own && blocks.block[i].bytes <= MAX_SMALL) {
            own_add(blocks.block[i].at);
        }
    }
    while (blocks.n > 0) {
        const struct block *last = &blocks.block[blocks.n - 1];
        if (last->optional) {
            calls_pool_free(last->at);
        } else {
            block_free(last->at);
        }
    }
}

/* ---- does the allocator agree? ------------------------------------------------------------------------------ */

/* A set of addresses; power of two slots, found by hash. */
#define MAX_SLOTS 32768
struct slot {
    const void *at;
    unsigned value;
};

static struct {
    struct slot slot[MAX_SLOTS];
    size_t mask;
} set;

static void set_clear(unsigned n_to_come)
{
    size_t n = 64;
    while (n < 3 * (size_t)n_to_come && n < MAX_SLOTS) {
        n *= 2;
    }
    set.mask = n - 1;
    memset(set.slot, 0, n * sizeof set.slot[0]);
}

/* Where p is or would be. */
static struct slot *set_find(const void *p)
{
    size_t i = ((uintptr_t)p * 0x9e3779b97f4a7c15u >> 40) & set.mask;
    while (set.slot[i].at != NULL && set.slot[i].at != p) {
        i = (i + 1) & set.mask;
    }
    return &set.slot[i];
}

struct audit {
    unsigned n_in_flight; /* still allowed */
    const char *when;
};

static bool among(const void *p, const void *const *list, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        if (list[i] == p) {
            return true;
        }
    }
    return false;
}

/* The interrupted call holds it, or the caller that it has given it to. */
static bool in_flight(const void *p)
{
    return flight.open && (among(p, (const void *const *)flight.before + flight.at, flight.n_before - flight.at) ||
                           among(p, (const void *const *)flight.after, flight.n_after));
}

/* May not allocate, but may end the process. */
static int audit_block(const allot_info *info, void *context)
{
    struct audit *audit = context;
    if (info->state != ALLOT_STATE_LIVE) {
        return 0;
    }
    struct slot *slot = set_find(info->base);
    if (slot->at != NULL) {
        const struct block *block = &blocks.block[slot->value & 0xffffff];
        if (slot->value >> 24 != 0) {
            fail("%s: allot_walk shows the block at %p twice", audit->when, info->base);
        }
        if (info->size_bytes < block->bytes) {
            fail("%s: allot_walk shows %zu bytes at %p, %zu were asked for", audit->when, info->size_bytes, info->base,
                 block->bytes);
        }
        slot->value |= 1u << 24;
    } else if (!among(info->base, blocks.known, blocks.n_known) && !among(info->base, blocks.either, blocks.n_either) &&
               !in_flight(info->base) && !(stage_tests_pool() && info->room == ALLOT_ROOM_POOL)) {
        if (audit->n_in_flight == 0) {
            fail("%s: lost: nobody holds the live block at %p (%zu bytes)", audit->when, info->base, info->size_bytes);
        }
        audit->n_in_flight--;
    }
    return 0;
}

void blocks_audit(unsigned n_in_flight, const char *when)
{
    struct audit audit = {n_in_flight, when};
    set_clear(blocks.n);
    for (unsigned i = 0; i < blocks.n; i++) {
        *set_find(blocks.block[i].at) = (struct slot){blocks.block[i].at, i};
    }
    allot_walk(audit_block, &audit);
    for (unsigned i = 0; i < blocks.n; i++) {
        if (set_find(blocks.block[i].at)->value >> 24 == 0 && !blocks.block[i].optional) {
            fail("%s: allot_walk doesn't show the live block at %p (%zu bytes)", when, (void *)blocks.block[i].at,
                 blocks.block[i].bytes);
        }
    }
}

static int know_block(const allot_info *info, void *context)
{
    (void)context;
    if (info->state == ALLOT_STATE_LIVE && set_find(info->base)->at == NULL) {
        blocks_know(info->base);
    }
    return 0;
}

void blocks_own_nothing(void)
{
    for (unsigned i = 0; i < blocks.n; i++) {
        blocks.block[i].own = false;
    }
}

void blocks_know_the_rest(void)
{
    set_clear(blocks.n + flight.n_before);
    for (unsigned i = 0; i < blocks.n; i++) {
        set_find(blocks.block[i].at)->at = blocks.block[i].at;
    }
    for (unsigned i = 0; i < flight.n_before; i++) {
        set_find(flight.before[i])->at = flight.before[i];
    }
    allot_walk(know_block, NULL);
}

void blocks_know(const void *p)
{
    if (blocks.n_known == MAX_KNOWN) {
        fail("the stepper's list of libc's blocks is too small");
    }
    blocks.known[blocks.n_known++] = p;
}

void blocks_either(const void *p)
{
    blocks.either[blocks.n_either++] = p;
}

/* ---- are free blocks handed out again? ---------------------------------------------------------------------- */

#define MAX_HELD 16384

static struct {
    void *at[MAX_HELD];
    unsigned n;
    size_t bytes; /* of the class looked at */
    unsigned n_free;
    unsigned n_elsewhere; /* free ones that may be the thread's or another's: nothing tells which */
} held;

/* context: NULL the first time, when they are only counted. */
static int collect_free(const allot_info *info, void *context)
{
    if (info->state != ALLOT_STATE_FREE || info->room != ALLOT_ROOM_HEAP || info->size_bytes != held.bytes) {
        return 0;
    }
    if (!own_has(info->base) || held.n_free == MAX_SLOTS / 3) {
        held.n_elsewhere++;
        return 0;
    }
    held.n_free++;
    if (context != NULL) {
        *set_find(info->base) = (struct slot){info->base, 1};
    }
    return 0;
}

/* One block more. Was it among the free ones? */
static bool hold_one(size_t bytes)
{
    void **p = malloc(bytes);
    if (p == NULL) {
        fail("malloc of %zu bytes gave NULL, errno %d", bytes, errno);
    }
    *p = p;
    held.at[held.n++] = p;
    struct slot *slot = set_find(p);
    if (slot->at != NULL && slot->value-- == 0) {
        fail("given twice: malloc gave %p, which is live", (void *)p);
    }
    return slot->at != NULL;
}

/* All other free ones, and as many again as four slabs hold, may come first: an allocator may have its reasons. */
void blocks_check_reuse(size_t bytes)
{
    if (bytes > MAX_SMALL || bytes < sizeof(void *)) {
        return;
    }
    held.n = 0;
    held.n_free = 0;
    held.bytes = allot_good_size(bytes);
    allot_walk(collect_free, NULL);
    set_clear(held.n_free);
    held.n_free = 0;
    held.n_elsewhere = 0;
    allot_walk(collect_free, &held);
    size_t limit = held.n_free + held.n_elsewhere + ((size_t)4 << GRANULE_SHIFT) / held.bytes + 512;
    unsigned n_missing = held.n_free;
    while (n_missing > 0 && held.n < limit && held.n < MAX_HELD) {
        n_missing -= hold_one(bytes);
    }
    for (size_t i = 0; n_missing > 0 && i <= set.mask; i++) {
        if (set.slot[i].at != NULL && set.slot[i].value != 0) {
            fail("lost: the free block at %p (%zu bytes) is not handed out again: %u of %u such after %u calls",
                 set.slot[i].at, held.bytes, n_missing, held.n_free, held.n);
        }
    }
    while (held.n > 0) {
        void **p = held.at[--held.n];
        if (*p != p) {
            fail("given twice or damaged: the live block at %p (%zu bytes)", (void *)p, bytes);
        }
        free(p);
    }
}

/* ---- loads -------------------------------------------------------------------------------------------------- */

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

static size_t random_bytes(uint64_t *state)
{
    uint64_t r = next_random(state);
    return r % 64 == 0 ? 9000 + r % 100000 : 1 + r % 1100;
}

void blocks_work(unsigned n)
{
    void *slot[32] = {NULL};
    uint64_t state = n;
    for (unsigned i = 0; i < n; i++) {
        void **p = &slot[next_random(&state) % 32];
        size_t bytes = random_bytes(&state);
        if (*p == NULL) {
            uint64_t r = next_random(&state) % 8;
            *p = r == 0 ? block_calloc(bytes) : r == 1 ? block_aligned(64, bytes) : block_malloc(bytes);
        } else if (next_random(&state) % 4 == 0) {
            *p = block_realloc(*p, bytes);
        } else {
            block_free(*p);
            *p = NULL;
        }
    }
    for (unsigned i = 0; i < 32; i++) {
        if (slot[i] != NULL) {
            block_free(slot[i]);
        }
    }
}

struct churned {
    uint64_t *at;
    uint64_t seed;
    size_t last; /* its last word */
};

static void churn_free(struct churned *slot)
{
    if (slot->at[0] != slot->seed || slot->at[slot->last] != slot->seed) {
        fail("given twice or damaged: the live block at %p of a thread beside", (void *)slot->at);
    }
    free(slot->at);
    slot->at = NULL;
}

void blocks_churn(unsigned who, unsigned n)
{
    static _Atomic uint64_t n_churns;
    struct churned slots[64] = {{NULL, 0, 0}};
    uint64_t state = ++n_churns;
    for (unsigned i = 0; i < n; i++) {
        struct churned *slot = &slots[next_random(&state) % 64];
        if (slot->at != NULL) {
            churn_free(slot);
            continue;
        }
        size_t bytes = 15 + random_bytes(&state);
        *slot = (struct churned){malloc(bytes), (uint64_t)who << 60 | n_churns << 32 | i, bytes / sizeof(uint64_t) - 1};
        if (slot->at == NULL) {
            fail("malloc of %zu bytes gave NULL, errno %d", bytes, errno);
        }
        slot->at[0] = slot->seed;
        slot->at[slot->last] = slot->seed;
    }
    for (unsigned i = 0; i < 64; i++) {
        if (slots[i].at != NULL) {
            churn_free(&slots[i]);
        }
    }
}
