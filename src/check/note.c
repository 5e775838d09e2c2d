/* SPDX-License-Identifier: MIT */
/* note.c - what is known of the heap's blocks, out of line.
 *
 *     leaves[upper bits of the granule] -> slots[lower bits] -> notes of that granule, one a block
 *
 * A granule has blocks of one size. When it gets another, its notes begin anew: whatever was there is all free by then.
 * Guarded blocks have theirs in the descriptor of their granules.
 */
#include "check/check_internal.h"
#include "config/config.h"
#include "heap/heap.h"
#include "stack/stack.h"

#include <string.h>

#define LEAF_SHIFT 16
#define LEAF_SLOTS ((size_t)1 << LEAF_SHIFT)
#define LEAVES ((size_t)1 << (48 - GRANULE_SHIFT - LEAF_SHIFT))
#define OWN_FRAMES_MOST 12

struct notes {
    uint32_t block_bytes;
    uint32_t capacity;
    struct note of[];
};

struct leaf {
    _Atomic(struct notes *) slots[LEAF_SLOTS]; /* O37 */
};

static _Atomic(struct leaf *) leaves[LEAVES]; /* O37 */

static _Atomic(struct notes *) *slot_of(const void *block, bool make)
{
    uintptr_t granule = (uintptr_t)block >> GRANULE_SHIFT;
    _Atomic(struct leaf *) *place = &leaves[(granule >> LEAF_SHIFT) % LEAVES];
    struct leaf *leaf = load_acquire(place); /* O37: it reads as zeros */
    if (leaf == NULL && make) {
        struct leaf *fresh = map_books(sizeof *fresh);
        if (fresh == NULL || cas_acq_rel(place, &leaf, fresh)) { /* O37 */
            leaf = fresh;
        }
    }
    return leaf == NULL ? NULL : &leaf->slots[granule % LEAF_SLOTS];
}

static size_t index_of(const void *block, size_t block_bytes)
{
    return (uint32_t)((uintptr_t)block % GRANULE_BYTES) / (uint32_t)block_bytes;
}

struct note *note_find(const void *block, size_t block_bytes)
{
    _Atomic(struct notes *) *slot = slot_of(block, /* make */ false);
    struct notes *notes = slot == NULL ? NULL : load_acquire(slot); /* O37: it is whole */
    if (notes == NULL || notes->block_bytes != block_bytes) {
        return NULL;
    }
    return &notes->of[index_of(block, block_bytes)];
}

/* Those that were there stay readable for whoever looks at them this instant, and are lost. */
static struct notes *notes_new(size_t block_bytes)
{
    size_t n = GRANULE_BYTES / block_bytes + 1;
    struct notes *notes = map_books(sizeof *notes + n * sizeof notes->of[0]);
    if (notes != NULL) {
        notes->capacity = (uint32_t)n;
        notes->block_bytes = (uint32_t)block_bytes;
    }
    return notes;
}

/* The granule's blocks are of another size now. Nobody but its owner hands out blocks of it. */
static struct notes *notes_again(struct notes *notes, size_t block_bytes)
{
    size_t n = GRANULE_BYTES / block_bytes + 1;
    if (notes == NULL || notes->capacity < n) {
        return notes_new(block_bytes);
    }
    memset(notes->of, 0, notes->capacity * sizeof notes->of[0]);
    notes->block_bytes = (uint32_t)block_bytes;
    return notes;
}

struct note *note_make(const void *block, size_t block_bytes)
{
    _Atomic(struct notes *) *slot = slot_of(block, /* make */ true);
    if (slot == NULL) {
        return NULL;
    }
    struct notes *notes = load_acquire(slot); /* O37 */
    if (notes == NULL || notes->block_bytes != block_bytes) {
        struct notes *fresh = notes_again(notes, block_bytes);
        if (fresh == NULL) {
            return NULL;
        }
        /* O37. A handler on the same thread may have been quicker: then its notes stand. */
        notes = cas_acq_rel(slot, &notes, fresh) ? fresh : notes;
    }
    return notes->block_bytes == block_bytes ? &notes->of[index_of(block, block_bytes)] : NULL;
}

/* By arithmetic alone: the note says what became of the block. */
static struct noted find_small(const void *address, size_t block_bytes)
{
    uint32_t at = (uint32_t)((uintptr_t)address % GRANULE_BYTES);
    uint32_t first = (uint32_t)(GRANULE_BYTES % block_bytes);
    if (at < first) {
        return (struct noted){.note = NULL};
    }
    uint32_t offset = (at - first) % (uint32_t)block_bytes;
    char *begin = (char *)(uintptr_t)address - offset;
    struct note *note = note_find(begin, block_bytes);
    bool is_noted = note != NULL && load_relaxed(&note->state) != NOTE_NONE;
    return (struct noted){.note = is_noted ? note : NULL, .block = begin, .room_bytes = block_bytes};
}

struct noted noted_find(const void *address)
{
    struct heap_slab_block block;
    if (map_tag_code(map_tag(address)) == MAP_CODE_GUARD) {
        return guard_find(address);
    }
    size_t small_bytes = heap_small_block_bytes(address);
    if (small_bytes != 0) {
        return find_small(address, small_bytes);
    }
    if (!heap_slab_block(address, &block)) {
        return (struct noted){.note = NULL};
    }
    struct note *note = note_find(block.begin, block.bytes);
    if (note == NULL || load_relaxed(&note->state) == NOTE_NONE) {
        return (struct noted){.note = NULL};
    }
    return (struct noted){.note = note, .block = block.begin, .room_bytes = block.bytes};
}

/* Asking the system costs as much as the rest. */
static __thread uint32_t thread_known;

static uint32_t thread_id(void)
{
    if (thread_known == 0) {
        thread_known = (uint32_t)os_thread_id();
    }
    return thread_known;
}

void check_forget_thread(void)
{
    thread_known = 0;
}

void note_take(struct note *note, const struct hook_take *wanted)
{
    note->kind = (uint8_t)wanted->kind;
    note->align_shift = (uint8_t)bit_highest(wanted->align);
    note->reported = 0;
    note->requested = wanted->bytes;
    note->take_thread = thread_id();
    note->take_stack = check_stack();
    note->give_thread = 0;
    note->give_stack = 0;
    store_relaxed(&note->state, NOTE_LIVE);
}

void note_give(struct note *note)
{
    note->give_thread = thread_id();
    note->give_stack = check_stack();
}

/* ---- stacks ------------------------------------------------------------------------------------------------- */

/* Where this library lies, when it is a module of its own. */
static struct {
    _Atomic uintptr_t begin; /* relaxed: all store the same */
    _Atomic uintptr_t end;
} own;

static void find_own(void)
{
    struct os_code code;
    bool found = os_code_at((uintptr_t)check_stack, &code) == 0 && !os_code_is_program(&code);
    store_relaxed(&own.begin, found ? code.begin : 1);
    store_relaxed(&own.end, found ? code.end : 1);
}

static bool is_own(uintptr_t pc)
{
    if (load_relaxed(&own.end) == 0) {
        find_own();
    }
    return pc - load_relaxed(&own.begin) < load_relaxed(&own.end) - load_relaxed(&own.begin);
}

size_t check_leave_own(uintptr_t *pcs, size_t n)
{
    size_t skip = 0;
    while (skip < n && is_own(pcs[skip])) {
        skip++;
    }
    if (skip == n) {
        return n;
    }
    memmove(pcs, pcs + skip, (n - skip) * sizeof *pcs);
    return n - skip;
}

uint32_t check_stack(void)
{
    uintptr_t pcs[STACK_FRAMES_MOST];
    size_t depth = (size_t)option(OPT_stack_depth);
    if (depth == 0) {
        return 0;
    }
    size_t n = stack_capture(pcs, size_min(depth + OWN_FRAMES_MOST, STACK_FRAMES_MOST));
    return stack_keep(pcs, size_min(check_leave_own(pcs, n), depth));
}
