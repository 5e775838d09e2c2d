/* SPDX-License-Identifier: MIT */
/* guard.c - blocks between pages that can't be touched: an access beyond either end, or after the block was freed,
 * stops at the instruction.
 *
 *     a span of whole granules
 *     | no access .......... | canary | block | canary | no access |
 *     begin                  data     block            data_end
 *
 * The block lies against the end, as close as its alignment allows, for most overruns go upward. What was freed gives
 * its pages to the system, keeps its addresses for as long as there is room for that, oldest first, and is then used
 * again.
 *
 * Budget.   Each block takes two kernel mappings and up to a page more than it needs. Live ones are bounded by option
 *           guards, by less where blocks are only sampled, and by the system: once it refuses, by what there was then.
 * Threads.  The queue of freed spans has a lock that is tried. Who can't have it takes fresh memory, and leaves what it
 *           gives where the next holder finds it.
 */
#include "check/check_internal.h"
#include "config/config.h"
#include "span/span.h"

#define SAMPLED_MOST 512
#define WAITING_BYTES_MOST ((size_t)1 << 30)
#define LIMIT_SHARE 16

struct guard {
    struct span span; /* next: in the queue, or on the pending stack */
    struct note note;
    char *block;
    char *data;
    char *data_end;
    uint32_t opened; /* the program goes on: nothing of it is closed any more */
};

_Static_assert(sizeof(struct guard) <= DESCRIPTOR_BYTES, "descriptor");

static struct {
    _Atomic bool lock; /* O38: oldest, newest, n_waiting, waiting_bytes */
    struct guard *oldest;
    struct guard *newest;
    size_t n_waiting;
    size_t waiting_bytes;
    _Atomic(struct guard *) pending; /* O39: freed while the lock was busy */
    _Atomic size_t n_live;           /* relaxed: a budget */
    _Atomic size_t refused_at;       /* relaxed; 0: never */
} guards;

/* ---- the queue of freed spans ------------------------------------------------------------------------------- */

static struct guard *next_of(const struct guard *guard)
{
    return (struct guard *)guard->span.next;
}

static void queue_put(struct guard *guard)
{
    guard->span.next = NULL;
    if (guards.newest != NULL) {
        guards.newest->span.next = &guard->span;
    } else {
        guards.oldest = guard;
    }
    guards.newest = guard;
    guards.n_waiting++;
    guards.waiting_bytes += span_bytes(&guard->span);
}

static struct guard *queue_take(void)
{
    struct guard *guard = guards.oldest;
    if (guard != NULL) {
        guards.oldest = next_of(guard);
        guards.newest = guards.oldest == NULL ? NULL : guards.newest;
        guards.n_waiting--;
        guards.waiting_bytes -= span_bytes(&guard->span);
    }
    return guard;
}

static void drain_pending(void)
{
    struct guard *guard = xchg_acquire(&guards.pending, NULL); /* O39: its fields */
    while (guard != NULL) {
        struct guard *next = next_of(guard);
        queue_put(guard);
        guard = next;
    }
}

static void push_pending(struct guard *guard)
{
    struct guard *first = load_relaxed(&guards.pending);
    do {
        guard->span.next = first == NULL ? NULL : &first->span;
    } while (!cas_weak_release(&guards.pending, &first, guard)); /* O39 */
}

static size_t live_most(void)
{
    const struct hooks *hooks = hooks_now();
    size_t most = (size_t)option(OPT_guards);
    most = hooks != NULL && hooks->all ? most : size_min(most, SAMPLED_MOST);
    size_t refused_at = load_relaxed(&guards.refused_at);
    return refused_at == 0 ? most : size_min(most, refused_at);
}

/* Asked once: who sets himself a limit does so before he starts. */
static size_t waiting_bytes_most(void)
{
    static _Atomic size_t most; /* relaxed: all store the same */
    size_t bytes = load_relaxed(&most);
    if (bytes == 0) {
        size_t limit = os_address_space_limit();
        bytes = limit == SIZE_MAX ? WAITING_BYTES_MOST : size_min(limit / LIMIT_SHARE, WAITING_BYTES_MOST);
        store_relaxed(&most, bytes);
    }
    return bytes;
}

static bool waits_too_much(void)
{
    return guards.n_waiting > live_most() || guards.waiting_bytes > waiting_bytes_most();
}

/* ---- spans -------------------------------------------------------------------------------------------------- */

static struct guard *guard_of(const void *address)
{
    struct span *inner = map_descriptor(address);
    uintptr_t granule = round_down((uintptr_t)address, GRANULE_BYTES);
    return map_descriptor((const void *)(granule - ((size_t)inner->back << GRANULE_SHIFT)));
}

static void tag_guard(struct guard *guard, uint32_t tag)
{
    for (uint32_t i = 1; i < guard->span.n_granules; i++) {
        struct span *inner = map_descriptor(guard->span.begin + ((size_t)i << GRANULE_SHIFT));
        inner->back = i;
    }
    map_set(guard->span.begin, guard->span.n_granules, tag);
}

/* Back to the store, as the heap would give it. */
static void span_back(struct guard *guard)
{
    if (os_commit(guard->span.begin, span_bytes(&guard->span)) != 0) {
        return; /* its pages can't be had again: they stay as they are, and take no memory */
    }
    tag_guard(guard, map_make_tag(0, MAP_CODE_FREE));
    span_give(&guard->span, /* touched */ true);
}

static bool close_around(struct guard *guard)
{
    char *begin = guard->span.begin;
    char *end = begin + span_bytes(&guard->span);
    return os_protect(begin, ptr_diff(guard->data, begin)) == 0 &&
           os_protect(guard->data_end, ptr_diff(end, guard->data_end)) == 0;
}

/* Where the block lies in a span; false when the span is too short. */
static bool lay_out(struct guard *guard, const struct hook_take *wanted)
{
    size_t page = os_page_bytes();
    char *end = guard->span.begin + span_bytes(&guard->span) - page;
    size_t bytes = size_max(wanted->bytes, 1);
    if (bytes > ptr_diff(end, guard->span.begin)) {
        return false;
    }
    guard->block = (char *)round_down((uintptr_t)end - bytes, wanted->align);
    guard->data = (char *)round_down((uintptr_t)guard->block, page);
    guard->data_end = end;
    return guard->data >= guard->span.begin + page && guard->block <= end;
}

static size_t granules_wanted(const struct hook_take *wanted)
{
    size_t page = os_page_bytes();
    size_t align = wanted->align > page ? wanted->align : page;
    return round_up(wanted->bytes + align + 2 * page, GRANULE_BYTES) >> GRANULE_SHIFT;
}

static struct guard *refuse(struct guard *guard)
{
    store_relaxed(&guards.refused_at, size_max(load_relaxed(&guards.n_live), 1));
    guard->data = guard->span.begin;
    span_back(guard);
    return NULL;
}

static struct guard *take_fresh(const struct hook_take *wanted, bool *zero)
{
    struct guard *guard = (struct guard *)span_take(granules_wanted(wanted), 1);
    if (guard == NULL) {
        return NULL;
    }
    *zero = guard->span.zero || os_purge(guard->span.begin, span_bytes(&guard->span), /* lazy */ false) == 0;
    if (!lay_out(guard, wanted)) {
        span_give(&guard->span, /* touched */ false);
        return NULL;
    }
    /* What was used before gives all its pages back: most of them won't be touched for long. */
    return close_around(guard) ? guard : refuse(guard);
}

/* The oldest that waits, when enough do: its addresses have not been used for longest. */
static struct guard *take_again(const struct hook_take *wanted)
{
    if (!check_try_lock(&guards.lock)) {
        return NULL;
    }
    drain_pending();
    struct guard *guard = guards.oldest;
    bool fits = guard != NULL && waits_too_much() && guard->span.n_granules == granules_wanted(wanted) &&
                lay_out(guard, wanted);
    guard = fits ? queue_take() : NULL;
    struct guard *left = guard == NULL && waits_too_much() ? queue_take() : NULL;
    check_unlock(&guards.lock);
    if (left != NULL) {
        span_back(left);
    }
    if (guard != NULL && os_commit(guard->data, ptr_diff(guard->data_end, guard->data)) != 0) {
        return refuse(guard);
    }
    return guard;
}

/* ---- taking and giving -------------------------------------------------------------------------------------- */

static struct noted noted_of(struct guard *guard)
{
    return (struct noted){.note = &guard->note,
                          .block = guard->block,
                          .room_bytes = ptr_diff(guard->data_end, guard->block),
                          .guarded = true};
}

void *guard_take(const struct hook_take *wanted)
{
    if (wanted->bytes > PTRDIFF_MAX / 4 || wanted->align > PTRDIFF_MAX / 4 ||
        add_relaxed(&guards.n_live, 1) >= live_most()) {
        sub_relaxed(&guards.n_live, wanted->bytes > PTRDIFF_MAX / 4 || wanted->align > PTRDIFF_MAX / 4 ? 0 : 1);
        return NULL;
    }
    bool zero = true; /* what waited had given its pages to the system */
    struct guard *guard = take_again(wanted);
    if (guard == NULL) {
        guard = take_fresh(wanted, &zero);
    }
    if (guard == NULL) {
        sub_relaxed(&guards.n_live, 1);
        return NULL;
    }
    guard->opened = 0;
    note_take(&guard->note, wanted);
    struct noted noted = noted_of(guard);
    fill_tail(&noted);
    if (!wanted->zero) {
        fill_new(&noted);
    } else if (!zero) {
        __builtin_memset(guard->block, 0, wanted->bytes);
    }
    tag_guard(guard, map_make_tag(0, MAP_CODE_GUARD));
    return guard->block;
}

void guard_give(struct noted *noted)
{
    struct guard *guard = guard_of(noted->block);
    size_t bytes = ptr_diff(guard->data_end, guard->data);
    sub_relaxed(&guards.n_live, 1);
    os_purge(guard->data, bytes, /* lazy */ false);
    if (os_protect(guard->data, bytes) != 0) {
        /* Mappings ran out: its neighbours stay closed, and it waits open. */
        store_relaxed(&guards.refused_at, size_max(load_relaxed(&guards.n_live), 1));
    }
    if (!check_try_lock(&guards.lock)) {
        push_pending(guard);
        return;
    }
    drain_pending();
    queue_put(guard);
    struct guard *left = guards.waiting_bytes > waiting_bytes_most() ? queue_take() : NULL;
    check_unlock(&guards.lock);
    if (left != NULL) {
        span_back(left);
    }
}

/* ---- questions ---------------------------------------------------------------------------------------------- */

static bool is_guard(const void *address)
{
    return map_tag_code(map_tag_acquire(address)) == MAP_CODE_GUARD;
}

struct noted guard_find(const void *address)
{
    return is_guard(address) ? noted_of(guard_of(address)) : (struct noted){.note = NULL};
}

static size_t distance(const struct noted *noted, const char *address)
{
    const char *end = noted->block + noted->note->requested;
    return address < noted->block ? ptr_diff(noted->block, address) : address < end ? 0 : ptr_diff(address, end);
}

/* Beyond the last page of one block begin the pages before the next one's. */
struct noted guard_nearest(const void *address)
{
    struct noted here = guard_find(address);
    if (here.note == NULL) {
        return here;
    }
    struct noted before = guard_find(guard_of(address)->span.begin - 1);
    bool is_before = before.note != NULL && load_relaxed(&before.note->state) == NOTE_LIVE &&
                     distance(&before, address) < distance(&here, address);
    return is_before ? before : here;
}

bool guard_is_open(const void *address)
{
    if (!is_guard(address)) {
        return true;
    }
    const struct guard *guard = guard_of(address);
    bool is_data = (const char *)address >= guard->data && (const char *)address < guard->data_end;
    return guard->opened || (is_data && load_relaxed(&guard->note.state) == NOTE_LIVE);
}

void guard_open(const void *address)
{
    struct guard *guard = guard_of(address);
    guard->opened = 1;
    os_commit(guard->span.begin, span_bytes(&guard->span));
}

void guard_fork_child(void)
{
    if (load_relaxed(&guards.lock)) { /* a lost thread had it: what waits may be half in the queue, and is given up */
        guards.oldest = NULL;
        guards.newest = NULL;
        guards.n_waiting = 0;
        guards.waiting_bytes = 0;
        check_unlock(&guards.lock);
    }
}
