/* SPDX-License-Identifier: MIT */
/* check.c - the hooks: what is done when a block is taken, resized or given back. */
#include "check/check_internal.h"
#include "config/config.h"
#include "gc/gc.h"
#include "heap/heap.h"

#include <errno.h>
#include <string.h>

/* Check mode guards all of the first blocks, then one at a time: each may cost a microsecond or two. */
#define EARLY_BLOCKS 512
#define CHECK_GUARD_MS 4
#define SAMPLE_GUARD_MS 8
/* From this rate on, counting by refills is too coarse, and every block comes here. */
#define EVERY_RATE 32

static struct {
    _Atomic uint32_t n_early;
    _Atomic uint64_t guarded_ms; /* when a block was last guarded because it was due */
    _Atomic uint32_t seed;
} check;

/* ---- which block is guarded --------------------------------------------------------------------------------- */

/* At most one in least_ms: what it costs is bounded by time. Relaxed: two threads at once may both win. */
static bool is_time(uint64_t least_ms)
{
    uint64_t now = os_now_ms();
    if (now - load_relaxed(&check.guarded_ms) < least_ms) {
        return false;
    }
    store_relaxed(&check.guarded_ms, now);
    return true;
}

static bool wants_guard(const struct hook_take *wanted)
{
    if (option(OPT_check) == CHECK_OFF) {
        int64_t rate = option(OPT_sample_rate);
        return rate == 1 || is_time(SAMPLE_GUARD_MS);
    }
    return option(OPT_check) == CHECK_FULL || wanted->bytes > MEDIUM_LARGEST ||
           (load_relaxed(&check.n_early) < EARLY_BLOCKS && add_relaxed(&check.n_early, 1) < EARLY_BLOCKS) ||
           is_time(CHECK_GUARD_MS);
}

/* Between 1 and twice the rate: a program that does everything in the same rhythm is sampled all the same. */
static int32_t until_sample(void)
{
    int64_t rate = option(OPT_sample_rate);
    if (rate == 0) {
        return INT32_MAX;
    }
    uint32_t seed = load_relaxed(&check.seed); /* relaxed: any number will do */
    seed = seed == 0 ? (uint32_t)os_random() | 1 : seed;
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    store_relaxed(&check.seed, seed);
    return (int32_t)(1 + seed % (uint64_t)(2 * rate));
}

/* ---- taking ------------------------------------------------------------------------------------------------- */

static void *take_noted(const struct hook_take *wanted)
{
    char *block = heap_raw_malloc(wanted->bytes + TAIL_BYTES, wanted->align);
    size_t room_bytes = block == NULL ? 0 : heap_slab_block_bytes(block);
    if (room_bytes == 0) {
        return block; /* the pool's, or a large one when guards are used up: nothing is known of it */
    }
    struct note *note = note_make(block, room_bytes);
    if (note == NULL) {
        return block;
    }
    struct noted noted = {.note = note, .block = block, .room_bytes = room_bytes};
    note_take(note, wanted);
    fill_tail(&noted);
    if (!wanted->zero) {
        fill_new(&noted);
    }
    return block;
}

static void *take(const struct hook_take *wanted)
{
    bool all = hooks_now()->all;
    if (all) {
        check_uninitialised(wanted->bytes, "malloc");
    }
    if (wants_guard(wanted)) {
        void *block = guard_take(wanted);
        if (block != NULL || !all) {
            return block;
        }
    }
    if (!all) {
        return NULL;
    }
    if (wanted->bytes > PTRDIFF_MAX - TAIL_BYTES) {
        errno = ENOMEM;
        return NULL;
    }
    void *block = take_noted(wanted);
    if (block == NULL) {
        errno = ENOMEM;
    } else if (wanted->zero) {
        memset(block, 0, wanted->bytes);
    }
    return block;
}

/* ---- faults ------------------------------------------------------------------------------------------------- */

void check_fault(const struct noted *noted, const char *name, const void *address, const char *action)
{
    bool live = load_relaxed(&noted->note->state) == NOTE_LIVE;
    struct fault fault = {
        .name = name,
        .address = address,
        .block = noted->block,
        .block_bytes = noted->note->requested,
        .state = live ? "live" : "free",
        .action = action,
    };
    fault_report(&fault);
}

/* Damage at the end of a tail that leaves its begin alone came from the block behind it. */
static bool is_from_behind(const struct noted *noted, const char *damage, struct noted *behind)
{
    const char *end = noted->block + noted->room_bytes;
    if (noted->guarded || damage == noted->block + noted->note->requested || (unsigned char)end[-1] == FILL_CANARY) {
        return false;
    }
    *behind = noted_find(end);
    return behind->note != NULL && !behind->guarded && behind->block == end &&
           load_relaxed(&behind->note->state) == NOTE_LIVE;
}

size_t check_live(const struct noted *noted, const char *action)
{
    struct noted behind;
    const char *damage = fill_find_damage(noted);
    if (damage != NULL) {
        if (damage < noted->block) {
            check_fault(noted, "buffer underflow", damage, action);
        } else if (is_from_behind(noted, damage, &behind)) {
            check_fault(&behind, "buffer underflow", damage, action);
        } else {
            check_fault(noted, "buffer overflow", damage, action);
        }
        fill_tail(noted); /* told once */
        return 1;
    }
    damage = fill_find_underflow(noted);
    if (damage != NULL) {
        check_fault(noted, "buffer underflow", damage, action);
        struct noted before = noted_find(noted->block - 1);
        if (load_relaxed(&before.note->state) == NOTE_LIVE) {
            fill_tail(&before);
        } else {
            fill_freed(&before);
        }
        return 1;
    }
    return 0;
}

size_t check_freed(const struct noted *noted)
{
    const char *written = fill_find_write(noted);
    if (written == NULL) {
        return 0;
    }
    check_fault(noted, "use after free", written, "look at what was freed");
    fill_freed(noted);
    return 1;
}

bool check_uninitialised(uintptr_t word, const char *action)
{
    if (!fill_is_new(word)) {
        return false;
    }
    struct fault fault = {
        .name = "uninitialised read",
        .address = (const void *)word,
        .state = "but what new memory is filled with",
        .action = action,
    };
    fault_report(&fault);
    return true;
}

/* ---- giving ------------------------------------------------------------------------------------------------- */

static const char *const action_of_kind[] = {"free", "delete", "delete[]", "aligned delete", "aligned delete[]"};

static bool size_is_right(const struct note *note, const struct hook_give *said)
{
    return (said->bytes == HOOK_SIZE_UNKNOWN || said->bytes == note->requested) &&
           (said->align <= BLOCK_ALIGN || said->align == (size_t)1 << note->align_shift);
}

/* Everything that a block which is given back can tell. False: the call is wrong, and does nothing if the program goes
 * on. */
static bool look_before_giving(const struct noted *noted, const struct hook_give *said)
{
    const char *action = action_of_kind[said->kind];
    if (noted->note->kind != said->kind) {
        check_fault(noted, "mismatched deallocation", noted->block, action);
        return false;
    }
    if (!size_is_right(noted->note, said)) {
        check_fault(noted, "wrong size", noted->block, action);
        return false;
    }
    check_live(noted, action);
    return true;
}

/* False: another thread was quicker. */
static bool becomes_freed(struct note *note)
{
    uint8_t live = NOTE_LIVE;
    note_give(note);
    return cas_relaxed(&note->state, &live, NOTE_FREED);
}

static bool is_asked(const void *p)
{
    const struct hooks *hooks = hooks_now();
    return hooks->all || map_tag_code(map_tag(p)) == MAP_CODE_GUARD;
}

static void retire(struct noted *noted)
{
    if (noted->guarded) {
        guard_give(noted);
    } else {
        fill_freed(noted);
        quarantine_put(noted->block, noted->room_bytes);
    }
}

static bool give(void *p, const struct hook_give *said)
{
    if (!is_asked(p)) {
        return false;
    }
    struct noted noted = noted_find(p);
    if (noted.note == NULL || noted.block != p) {
        return hooks_now()->all && check_uninitialised((uintptr_t)p, action_of_kind[said->kind]);
    }
    if (load_relaxed(&noted.note->state) == NOTE_GONE) {
        return false; /* the heap knows what it is now */
    }
    if (load_relaxed(&noted.note->state) == NOTE_LIVE && !look_before_giving(&noted, said)) {
        return true;
    }
    if (load_relaxed(&noted.note->state) != NOTE_LIVE || !becomes_freed(noted.note)) {
        check_fault(&noted, "double free", p, action_of_kind[said->kind]);
        return true;
    }
    retire(&noted);
    return true;
}

/* ---- resizing ----------------------------------------------------------------------------------------------- */

static bool refuse(void **result, int error)
{
    errno = error;
    *result = NULL;
    return true;
}

/* A block that moves leaves what may still point to it behind, where that is found. */
static void *move(const struct noted *noted, size_t bytes)
{
    const struct note *note = noted->note;
    struct hook_take wanted = {.bytes = bytes, .align = BLOCK_ALIGN, .kind = KIND_MALLOC};
    void *moved = take(&wanted);
    if (moved == NULL && !hooks_now()->all) {
        moved = heap_raw_malloc(bytes, BLOCK_ALIGN);
    }
    if (moved != NULL) {
        memcpy(moved, noted->block, size_min(bytes, note->requested));
        struct hook_give said = {.kind = KIND_MALLOC, .bytes = HOOK_SIZE_UNKNOWN};
        give(noted->block, &said);
    }
    return moved;
}

static bool resize_live(const struct noted *noted, size_t bytes, void **result)
{
    if (noted->note->kind != KIND_MALLOC) {
        check_fault(noted, "mismatched deallocation", noted->block, "realloc");
        return refuse(result, EINVAL);
    }
    if (bytes > PTRDIFF_MAX) {
        return refuse(result, ENOMEM);
    }
    if (bytes == 0 && option(OPT_realloc_zero) == REALLOC_ZERO_FREE) {
        struct hook_give said = {.kind = KIND_MALLOC, .bytes = HOOK_SIZE_UNKNOWN};
        give(noted->block, &said);
        *result = NULL;
        return true;
    }
    check_live(noted, "realloc");
    *result = move(noted, bytes);
    return *result != NULL || refuse(result, ENOMEM);
}

static bool resize(void *p, size_t bytes, void **result)
{
    if (!is_asked(p)) {
        return false;
    }
    if (hooks_now()->all && check_uninitialised(bytes, "realloc")) {
        return refuse(result, ENOMEM);
    }
    struct noted noted = noted_find(p);
    if (noted.note == NULL || noted.block != p) {
        return hooks_now()->all && check_uninitialised((uintptr_t)p, "realloc") && refuse(result, EINVAL);
    }
    switch (load_relaxed(&noted.note->state)) {
    case NOTE_LIVE:
        return resize_live(&noted, bytes, result);
    case NOTE_FREED:
        check_fault(&noted, "double free", p, "realloc");
        return refuse(result, EINVAL);
    default:
        return false;
    }
}

/* ---- questions ---------------------------------------------------------------------------------------------- */

static bool usable(const void *p, size_t *result)
{
    if (!is_asked(p)) {
        return false;
    }
    struct noted noted = noted_find(p);
    if (noted.note == NULL || noted.block != p || load_relaxed(&noted.note->state) == NOTE_GONE) {
        return false;
    }
    if (load_relaxed(&noted.note->state) == NOTE_FREED) {
        check_fault(&noted, "use after free", p, "malloc_usable_size");
        *result = 0;
        return true;
    }
    *result = noted.note->requested;
    return true;
}

static bool locate(const void *p, struct hook_block *block)
{
    struct noted noted = guard_find(p);
    if (noted.note == NULL) {
        return false;
    }
    *block = (struct hook_block){
        .begin = noted.block, .bytes = noted.note->requested, .live = load_relaxed(&noted.note->state) == NOTE_LIVE};
    return true;
}

static bool is_freed(const void *block)
{
    struct noted noted = noted_find(block);
    return noted.note != NULL && load_relaxed(&noted.note->state) == NOTE_FREED;
}

void check_ask(const void *address, struct check_answer *answer)
{
    struct noted noted = noted_find(address);
    *answer = (struct check_answer){.block = NULL};
    if (noted.note != NULL) {
        *answer = (struct check_answer){
            .block = noted.block,
            .bytes = noted.note->requested,
            .live = load_relaxed(&noted.note->state) == NOTE_LIVE,
            .take_stack = noted.note->take_stack,
            .give_stack = noted.note->give_stack,
            .take_thread = noted.note->take_thread,
            .give_thread = noted.note->give_thread,
        };
    }
}

/* ---- start -------------------------------------------------------------------------------------------------- */

static void fork_child(void)
{
    check_forget_thread();
    guard_fork_child();
    quarantine_fork_child();
}

#define HOOKS(everything)                                                                                              \
    {                                                                                                                  \
        .all = (everything), .take = take, .give = give, .resize = resize, .usable = usable, .locate = locate,         \
        .is_freed = is_freed, .until_sample = until_sample, .fork_child = fork_child, .is_wanted = judge_wants,        \
        .tell = report_tell, .goes_on = report_goes_on                                                                 \
    }

static const struct hooks hooks_of_all = HOOKS(true);
static const struct hooks hooks_of_some = HOOKS(false);

void hooks_start(void)
{
    int64_t rate = option(OPT_sample_rate);
    bool all = option(OPT_check) != CHECK_OFF || (rate != 0 && rate < EVERY_RATE);
    /* O34: all that they need is static, or made when it is first needed. */
    store_release(&hooks_set, all ? &hooks_of_all : &hooks_of_some);
}

static uint32_t stack_of(const void *block)
{
    struct check_answer answer;
    check_ask(block, &answer);
    return answer.block == block ? answer.take_stack : 0;
}

void check_start(void)
{
    gc_set_stacks(stack_of);
    hooks_start(); /* a process's first block would be taken before its first heap asks for them */
    if (option(OPT_check) != CHECK_OFF || option(OPT_sample_rate) != 0) {
        access_catch();
    }
}

bool check_exit(void)
{
    const struct hooks *hooks = hooks_now();
    if (hooks == NULL || !hooks->all) {
        return false;
    }
    check_all();
    return option(OPT_leaks) != 0 && leaks_tell() != 0;
}

bool check_tells_leaks(void)
{
    const struct hooks *hooks = hooks_now();
    return hooks != NULL && hooks->all;
}
