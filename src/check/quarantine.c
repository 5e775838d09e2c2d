/* SPDX-License-Identifier: MIT */
/* quarantine.c - freed blocks of the heap, filled and held back, oldest first out.
 *
 * A ring, bounded by bytes, by age and by its slots. What leaves is looked at once more, then goes back to the heap.
 * Its lock is tried: who can't have it leaves the block in a slot for the next holder, or, when those are taken, gives
 * it back at once.
 */
#include "check/check_internal.h"
#include "config/config.h"
#include "heap/heap.h"

#define RING_SLOTS ((size_t)1 << 16)
#define WAITING_SLOTS 64
#define LEAVE_AT_ONCE 16

static struct {
    _Atomic bool lock; /* O38: all but waiting */
    size_t begin;      /* of what is in the ring; counted on, not wrapped */
    size_t end;
    size_t bytes;
    struct {
        void *block;
        uint32_t bytes;
        uint32_t ms; /* when it came in */
    } * ring;
    _Atomic(void *) waiting[WAITING_SLOTS]; /* O39 */
} quarantine;

/* ---- the way out -------------------------------------------------------------------------------------------- */

static void release(void *block)
{
    struct noted noted = noted_find(block);
    if (noted.note != NULL) {
        check_freed(&noted);
        store_relaxed(&noted.note->state, NOTE_GONE);
    }
    heap_raw_free(block);
}

static bool oldest_must_leave(size_t more_bytes, uint32_t now_ms)
{
    if (quarantine.begin == quarantine.end) {
        return false;
    }
    if (quarantine.bytes + more_bytes > (size_t)option(OPT_quarantine) ||
        quarantine.end - quarantine.begin == RING_SLOTS) {
        return true;
    }
    uint32_t since_ms = quarantine.ring[quarantine.begin % RING_SLOTS].ms;
    return now_ms - since_ms > (uint32_t)option(OPT_quarantine_age);
}

/* At most n that must leave, for the caller to release without the lock. */
static size_t take_leaving(void **leaving, size_t n, size_t more_bytes)
{
    size_t taken = 0;
    uint32_t now = (uint32_t)os_now_ms();
    while (taken < n && oldest_must_leave(more_bytes, now)) {
        size_t i = quarantine.begin++ % RING_SLOTS;
        quarantine.bytes -= quarantine.ring[i].bytes;
        leaving[taken++] = quarantine.ring[i].block;
    }
    return taken;
}

/* ---- the way in --------------------------------------------------------------------------------------------- */

static bool has_ring(void)
{
    if (quarantine.ring == NULL) {
        quarantine.ring = map_books(RING_SLOTS * sizeof *quarantine.ring);
    }
    return quarantine.ring != NULL;
}

static bool enter(void *block, size_t bytes)
{
    if (quarantine.end - quarantine.begin == RING_SLOTS) {
        return false;
    }
    size_t i = quarantine.end++ % RING_SLOTS;
    quarantine.ring[i].block = block;
    quarantine.ring[i].bytes = (uint32_t)bytes;
    quarantine.ring[i].ms = (uint32_t)os_now_ms();
    quarantine.bytes += bytes;
    return true;
}

static bool leave_waiting(void *block)
{
    for (size_t i = 0; i < WAITING_SLOTS; i++) {
        void *none = NULL;
        if (load_relaxed(&quarantine.waiting[i]) == NULL &&
            cas_acq_rel(&quarantine.waiting[i], &none, block)) { /* O39 */
            return true;
        }
    }
    return false;
}

static void enter_waiting(void)
{
    for (size_t i = 0; i < WAITING_SLOTS; i++) {
        void *block =
            load_relaxed(&quarantine.waiting[i]) == NULL ? NULL : xchg_acquire(&quarantine.waiting[i], NULL); /* O39 */
        struct noted noted = block == NULL ? (struct noted){.note = NULL} : noted_find(block);
        if (noted.note != NULL && !enter(block, noted.room_bytes)) {
            leave_waiting(block);
            return;
        }
    }
}

void quarantine_put(void *block, size_t bytes)
{
    void *leaving[LEAVE_AT_ONCE];
    size_t n = 0;
    if (bytes > (size_t)option(OPT_quarantine)) {
        release(block);
        return;
    }
    if (!check_try_lock(&quarantine.lock)) {
        if (!leave_waiting(block)) {
            release(block);
        }
        return;
    }
    bool entered = has_ring();
    if (entered) {
        n = take_leaving(leaving, LEAVE_AT_ONCE, bytes);
        enter_waiting();
        entered = enter(block, bytes);
    }
    check_unlock(&quarantine.lock);
    for (size_t i = 0; i < n; i++) {
        release(leaving[i]);
    }
    if (!entered) {
        release(block);
    }
}

void quarantine_fork_child(void)
{
    if (load_relaxed(&quarantine.lock)) { /* a lost thread had it: what is in the ring stays freed for good */
        quarantine.begin = quarantine.end;
        quarantine.bytes = 0;
        check_unlock(&quarantine.lock);
    }
}
