/* SPDX-License-Identifier: MIT */
/* arena.c - any bytes as a sequence of calls on an arena: blocks don't overlap (each is filled with its own byte),
 * contents stay, what is wrong is found and changes nothing, and the books stay whole.
 *
 * The first bytes choose the arena: its backend, its kind, its fit, how much it has at first. Then two bytes a call:
 * what to do with which slot; then what the call needs.
 */
#include "allot/arena.h"
#include "fuzz.h"

#include <errno.h>
#include <string.h>

enum { N_SLOTS = 48, BUFFER_BYTES = 6000, SPARE = 64 };

struct slot {
    unsigned char *block;
    size_t size;
    unsigned char mark;
};

struct input {
    const uint8_t *at;
    const uint8_t *end;
};

static struct {
    allot_arena *arena;
    allot_backend *backend;
    allot_arena_kind kind;
    struct slot slots[N_SLOTS];
    unsigned n_misuse;
} run;

static char buffer[BUFFER_BYTES + SPARE];
static char books[65536];

static unsigned take(struct input *in)
{
    return in->at < in->end ? *in->at++ : 0;
}

static size_t take_size(struct input *in)
{
    unsigned kind = take(in);
    size_t n = take(in) | (size_t)take(in) << 8;
    return kind < 200 ? n % 700 : kind < 250 ? n : n << (kind - 240);
}

static allot_action note_misuse(const allot_error *error, void *context)
{
    (void)error, (void)context;
    run.n_misuse++;
    return ALLOT_ACTION_CONTINUE;
}

static int is_general(void)
{
    return run.kind == ALLOT_ARENA_GENERAL;
}

/* ---- the arena -------------------------------------------------------------------------------------------------- */

static int make_in_buffer(struct input *in, allot_arena_options *options)
{
    size_t bytes = take(in) * 20u;
    size_t skew = take(in) % SPARE;
    options->books_bytes = allot_arena_books_size(bytes, options);
    options->books = options->books_bytes == 0 ? NULL : books;
    PROMISE(options->books_bytes <= sizeof books);
    int error = allot_arena_create_at(buffer + skew, bytes, options, &run.arena);
    PROMISE((error == 0) == (bytes >= 32));
    return error;
}

static int make(struct input *in)
{
    allot_arena_options options = ALLOT_ARENA_OPTIONS_INIT;
    unsigned where = take(in) % 6;
    run.kind = (allot_arena_kind)(take(in) % 3);
    options.kind = run.kind;
    options.fit = (allot_arena_fit)(take(in) % 3);
    options.flags = take(in) % 2;
    options.keep_bytes = take(in) % 2 * 100000u;
    options.hard_limit = 8 << 20;
    options.on_error = note_misuse;
    run.backend = NULL;
    if (where == 0)
        return make_in_buffer(in, &options);
    if (where == 1)
        PROMISE(allot_backend_virt(1 << 20, NULL, &run.backend) == 0);
    if (where == 2)
        PROMISE(allot_backend_mmap(NULL, &run.backend) == 0);
    if (where == 3) {
        PROMISE(allot_backend_failing(NULL, &run.backend) == 0);
        allot_backend_fail(run.backend, ALLOT_BACKEND_ANY, take(in), take(in), ENOMEM);
    }
    options.backend = where == 4 ? allot_backend_fixed() : run.backend;
    int error = allot_arena_create(take_size(in), &options, &run.arena);
    PROMISE(error == 0 || error == ENOMEM);
    return error;
}

/* ---- blocks ----------------------------------------------------------------------------------------------------- */

static void check(const struct slot *slot)
{
    for (size_t i = 0; i < slot->size; i++)
        PROMISE(slot->block[i] == slot->mark);
    PROMISE(allot_arena_contains(run.arena, slot->block + slot->size - 1) == 1);
    PROMISE(!is_general() || allot_arena_usable_size(run.arena, slot->block) == (slot->size + 15) / 16 * 16);
}

static void fill(struct slot *slot, void *block, size_t size, size_t kept)
{
    static unsigned char mark;
    slot->block = block;
    for (size_t i = 0; i < kept; i++)
        PROMISE(slot->block[i] == slot->mark);
    slot->size = size;
    slot->mark = ++mark;
    memset(block, slot->mark, size);
    check(slot);
}

static void take_block(struct slot *slot, unsigned how, struct input *in)
{
    size_t size = take_size(in);
    size_t align = 16;
    unsigned char *block;
    if (how % 4 == 0) {
        block = allot_arena_calloc(run.arena, 1, size);
        for (size_t i = 0; block && i < size; i++)
            PROMISE(block[i] == 0);
    } else if (how % 4 == 1) {
        align <<= take(in) % 10;
        block = allot_arena_memalign(run.arena, align, size);
    } else {
        block = how % 4 == 2 ? allot_bump_malloc(run.arena, size) : allot_arena_malloc(run.arena, size);
    }
    PROMISE(size != 0 || block == NULL);
    if (block) {
        PROMISE((uintptr_t)block % align == 0);
        fill(slot, block, size, 0);
    }
}

static void give_block(struct slot *slot, unsigned how)
{
    check(slot);
    unsigned char *block = slot->block;
    int error = how % 2 ? allot_arena_free(run.arena, block) : allot_arena_free_sized(run.arena, block, slot->size);
    PROMISE(error == 0);
    slot->block = NULL;
    if (is_general()) {
        unsigned before = run.n_misuse;
        PROMISE(allot_arena_free(run.arena, block) == EINVAL && run.n_misuse == before + 1);
    }
}

static void change_block(struct slot *slot, struct input *in)
{
    size_t size = take_size(in) + 1;
    check(slot);
    void *block = allot_arena_realloc(run.arena, slot->block, size);
    if (block)
        fill(slot, block, size, size < slot->size ? size : slot->size);
    else
        check(slot);
}

static void shrink_block(struct slot *slot, struct input *in)
{
    size_t size = 1 + take_size(in) % slot->size;
    check(slot);
    PROMISE(allot_arena_shrink(run.arena, slot->block, size) == 0);
    slot->size = size;
    check(slot);
}

static void free_wrongly(struct slot *slot, struct input *in)
{
    unsigned before = run.n_misuse;
    size_t at = take_size(in);
    if (!slot->block || !is_general())
        return;
    if (at % 3 == 0)
        PROMISE(allot_arena_free(run.arena, slot->block + 1 + at % 15) == EINVAL);
    else if (at % 3 == 1)
        PROMISE(allot_arena_free_sized(run.arena, slot->block, (slot->size + 15) / 16 * 16 + 1 + at) == EINVAL);
    else
        PROMISE(allot_arena_free_sized(run.arena, slot->block, 0) == EINVAL);
    PROMISE(run.n_misuse == before + 1);
    check(slot);
}

static void start_anew(void)
{
    PROMISE(allot_arena_reset(run.arena) == 0);
    memset(run.slots, 0, sizeof run.slots);
    PROMISE(allot_arena_free_bytes(run.arena) == allot_arena_capacity(run.arena));
}

static void one_call(struct input *in)
{
    unsigned what = take(in);
    struct slot *slot = &run.slots[take(in) % N_SLOTS];
    if (what >= 254)
        start_anew();
    else if (what >= 250)
        allot_arena_trim(run.arena, take(in) % 2 * 5000u);
    else if (what >= 240)
        free_wrongly(slot, in);
    else if (!slot->block)
        take_block(slot, what, in);
    else if (what % 4 == 0)
        change_block(slot, in);
    else if (what % 8 == 1)
        shrink_block(slot, in);
    else
        give_block(slot, what / 8);
    PROMISE(allot_arena_check(run.arena) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct input in = {bytes, bytes + length};
    memset(&run, 0, sizeof run);
    if (make(&in) == 0) {
        while (in.at < in.end)
            one_call(&in);
        for (size_t i = 0; i < N_SLOTS; i++)
            if (run.slots[i].block)
                give_block(&run.slots[i], (unsigned)i);
        PROMISE(!is_general() || allot_arena_free_bytes(run.arena) == allot_arena_capacity(run.arena));
        allot_arena_destroy(run.arena);
    }
    PROMISE(allot_backend_destroy(run.backend) == 0);
    return 0;
}
