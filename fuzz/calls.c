/* SPDX-License-Identifier: MIT */
/* calls.c - any bytes as a sequence of calls on a table of blocks: contents stay, blocks don't overlap (each is filled
 * with its own byte to the last one usable), alignments hold, and allot_query agrees. Everything is freed at the end.
 *
 * Two bytes a call: what to do with which slot; then what the call needs.
 */
#include "allot/allot.h"
#include "fuzz.h"

#include <string.h>

enum { N_SLOTS = 64 };

struct slot {
    unsigned char *block;
    size_t size;
    unsigned char mark;
};

struct input {
    const uint8_t *at;
    const uint8_t *end;
};

static unsigned take(struct input *in)
{
    return in->at < in->end ? *in->at++ : 0;
}

/* Mostly small, sometimes up to 1 MiB. */
static size_t take_size(struct input *in)
{
    unsigned kind = take(in);
    size_t n = take(in) | (size_t)take(in) << 8;
    if (kind < 160)
        return n % 1100;
    if (kind < 245)
        return n;
    return n << 4;
}

static void check(const struct slot *slot)
{
    for (size_t i = 0; i < slot->size; i++)
        PROMISE(slot->block[i] == slot->mark);
    allot_info info = ALLOT_INFO_INIT;
    const unsigned char *asked = slot->block + slot->size / 2;
    PROMISE(allot_query(asked, &info) == 0);
    PROMISE(info.room == ALLOT_ROOM_HEAP && info.base == slot->block && info.state == ALLOT_STATE_LIVE);
    PROMISE(info.offset == slot->size / 2 && info.size_bytes >= slot->size);
}

/* The slot's block is new, with n bytes of the old one kept. */
static void fill(struct slot *slot, void *block, size_t size, size_t kept)
{
    static unsigned char mark;
    slot->block = block;
    for (size_t i = 0; i < kept; i++)
        PROMISE(slot->block[i] == slot->mark);
    PROMISE(allot_malloc_usable_size(block) >= size);
    slot->size = allot_malloc_usable_size(block);
    slot->mark = ++mark;
    memset(block, slot->mark, slot->size);
}

static void drop(struct slot *slot, unsigned how)
{
    check(slot);
    if (how % 2)
        allot_free_sized(slot->block, slot->size);
    else
        allot_free(slot->block);
    slot->block = NULL;
}

static void make(struct slot *slot, unsigned how, struct input *in)
{
    size_t size = take_size(in);
    size_t align = 16;
    void *block;
    switch (how % 4) {
    case 0:
        block = allot_malloc(size);
        break;
    case 1:
        block = allot_calloc(1, size);
        for (size_t i = 0; block && i < size; i++)
            PROMISE(((unsigned char *)block)[i] == 0);
        break;
    case 2:
        align = (size_t)16 << take(in) % 13;
        block = allot_aligned_alloc(align, size);
        break;
    default:
        block = allot_realloc(NULL, size);
    }
    if (!block)
        return;
    PROMISE((uintptr_t)block % align == 0);
    fill(slot, block, size, 0);
}

static void change(struct slot *slot, struct input *in)
{
    size_t size = take_size(in) + 1;
    check(slot);
    void *block = allot_realloc(slot->block, size);
    if (block)
        fill(slot, block, size, size < slot->size ? size : slot->size);
}

static void expand(struct slot *slot, struct input *in)
{
    size_t size = slot->size + take_size(in);
    if (allot_try_expand(slot->block, size))
        fill(slot, slot->block, size, slot->size);
    else
        check(slot);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct slot slots[N_SLOTS] = {{0}};
    struct input in = {bytes, bytes + length};
    while (in.at < in.end) {
        unsigned what = take(&in);
        struct slot *slot = &slots[take(&in) % N_SLOTS];
        if (what >= 252)
            allot_trim(0);
        else if (what >= 248)
            allot_thread_flush();
        else if (!slot->block)
            make(slot, what, &in);
        else if (what % 4 == 0)
            change(slot, &in);
        else if (what % 8 == 1)
            expand(slot, &in);
        else
            drop(slot, what / 8);
    }
    for (size_t i = 0; i < N_SLOTS; i++)
        if (slots[i].block)
            drop(&slots[i], (unsigned)i);
    return 0;
}
