/* SPDX-License-Identifier: MIT */
/* depot.c - call stacks, each kept once for good, by a number of 32 bits.
 *
 *     buckets[hash] -> record -> record         a record: next, hash, length, addresses
 *
 * Records are cut from chunks one after the other; a number is the place of a record in units of 8 bytes. Two threads
 * that keep the same new stack at the same moment may make two records of it: that costs memory alone.
 */
#include "base/atomic.h"
#include "os/os.h"
#include "stack/stack_internal.h"

#include <string.h>

#define BUCKETS (1u << 15)
#define UNIT sizeof(uint64_t)
#define CHUNK_SHIFT 15 /* units: 256 KiB */
#define CHUNK_UNITS ((size_t)1 << CHUNK_SHIFT)
#define CHUNKS 4096u

struct record {
    uint32_t next;
    uint32_t hash;
    uint64_t n;
    uintptr_t pcs[];
};

static struct {
    _Atomic uint32_t buckets[BUCKETS];  /* O31 */
    _Atomic(uint64_t *) chunks[CHUNKS]; /* O31 */
    _Atomic uint32_t top; /* the first unit that isn't cut yet; relaxed: who adds to it owns what lies between */
    _Atomic size_t bytes;
} depot;

static uint32_t hash_of(const uintptr_t *pcs, size_t n)
{
    uint64_t hash = n;
    for (size_t i = 0; i < n; i++) {
        hash = (hash ^ pcs[i]) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 32;
    }
    return (uint32_t)hash;
}

static uint64_t *chunk_of(size_t i)
{
    uint64_t *chunk = load_acquire(&depot.chunks[i]); /* O31: it reads as it was written */
    if (chunk != NULL) {
        return chunk;
    }
    uint64_t *fresh = os_map(CHUNK_UNITS * UNIT, os_page_bytes());
    if (fresh == NULL) {
        return NULL;
    }
    if (cas_acq_rel(&depot.chunks[i], &chunk, fresh)) { /* O31 */
        add_relaxed(&depot.bytes, CHUNK_UNITS * UNIT);
        return fresh;
    }
    os_release(fresh, CHUNK_UNITS * UNIT);
    return chunk;
}

static struct record *record_at(uint32_t number)
{
    uint64_t *chunk = load_acquire(&depot.chunks[number >> CHUNK_SHIFT]); /* O31 */
    return (struct record *)(void *)(chunk + number % CHUNK_UNITS);
}

/* 0: there is no more. Unit 0 is never given out. */
static uint32_t cut(size_t units)
{
    uint32_t top = load_relaxed(&depot.top);
    uint32_t begin;
    do {
        begin = top == 0 ? 1 : top;
        if (begin % CHUNK_UNITS + units > CHUNK_UNITS) {
            begin = (uint32_t)round_up(begin, CHUNK_UNITS);
        }
        if (begin >> CHUNK_SHIFT >= CHUNKS) {
            return 0;
        }
    } while (!cas_weak_relaxed(&depot.top, &top, begin + (uint32_t)units));
    return chunk_of(begin >> CHUNK_SHIFT) == NULL ? 0 : begin;
}

static uint32_t find(uint32_t number, uint32_t hash, const uintptr_t *pcs, size_t n)
{
    while (number != 0) {
        const struct record *record = record_at(number);
        if (record->hash == hash && record->n == n && memcmp(record->pcs, pcs, n * sizeof *pcs) == 0) {
            return number;
        }
        number = record->next;
    }
    return 0;
}

uint32_t stack_keep(const uintptr_t *pcs, size_t n)
{
    if (n == 0 || n > STACK_FRAMES_MOST) {
        return 0;
    }
    uint32_t hash = hash_of(pcs, n);
    _Atomic uint32_t *bucket = &depot.buckets[hash % BUCKETS];
    uint32_t first = load_acquire(bucket); /* O31: the records that it leads to are whole */
    uint32_t number = find(first, hash, pcs, n);
    if (number != 0) {
        return number;
    }
    number = cut(sizeof(struct record) / UNIT + n * sizeof *pcs / UNIT);
    if (number == 0) {
        return 0;
    }
    struct record *record = record_at(number);
    record->hash = hash;
    record->n = n;
    memcpy(record->pcs, pcs, n * sizeof *pcs);
    do {
        record->next = first;
    } while (!cas_weak_release(bucket, &first, number)); /* O31 */
    return number;
}

size_t stack_recall(uint32_t number, uintptr_t *pcs)
{
    if (number == 0) {
        return 0;
    }
    const struct record *record = record_at(number);
    memcpy(pcs, record->pcs, record->n * sizeof *pcs);
    return record->n;
}

size_t stack_depot_bytes(void)
{
    return load_relaxed(&depot.bytes);
}

void stack_each_books(int (*visit)(void *begin, size_t bytes, void *context), void *context)
{
    size_t bytes;
    void *statics = frame_statics(&bytes);
    visit(statics, bytes, context);
    statics = module_statics(&bytes);
    visit(statics, bytes, context);
    visit(&depot, sizeof depot, context);
    for (size_t i = 0; i < CHUNKS; i++) {
        uint64_t *chunk = load_acquire(&depot.chunks[i]); /* O31 */
        if (chunk != NULL) {
            visit(chunk, CHUNK_UNITS * UNIT, context);
        }
    }
}
