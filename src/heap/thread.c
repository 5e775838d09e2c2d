/* SPDX-License-Identifier: MIT */
/* thread.c - which heap a thread may use: making, lending, closing, taking over, and what a fork leaves.
 *
 *     current   the heap that the thread may use at this instant; heap_lent while it is inside, and before the first
 *               call
 *     home      the heap that is its own; others of its own follow by next_own
 *
 *     current    home     means
 *     lent       NULL     first call: make or take over a heap
 *     heap       same     the usual
 *     lent       heap     inside: whoever asks is a signal handler, or comes after one that left by siglongjmp
 *     heap       other    an interrupted call has returned after others were given a second heap: join
 *     closed     NULL     after the thread-exit key ran
 *
 * A call that was left for good can't be told from one that is interrupted, and is not guessed. After STRAYS_MOST calls
 * have gone to the pool, the thread gets another heap. If the interrupted call returns, the heap that it used is
 * current again, and the next slow call retires the other. Otherwise the first one is recovered when the thread ends;
 * if it was inside a slow path, its lists are made anew from what its blocks say.
 *
 * Orders.  O15  heap.state: the release of who makes it idle pairs with the acquire of who takes it.
 *          O16  a heap in the table is published whole.
 *          O22  Who makes a heap idle writes state and then reads inbox, medium_inbox and sort_lock; who sends or
 *               unlocks writes one of these and then reads state. Sequentially consistent: at least one sees the other.
 */
#include "heap/heap_internal.h"

#include "config/config.h"
#include "os/os.h"

#include <string.h>

#define STRAYS_MOST 64
#define OWN_HEAPS_MOST 16
#define REBUILD_TRIES 100000

const struct heap heap_lent = {.tag = (uint32_t)MAP_HEAP_LENT << 8};
const struct heap heap_closed = {.tag = (uint32_t)MAP_HEAP_CLOSED << 8};

__thread _Atomic(struct heap *) heap_current = (struct heap *)(uintptr_t)&heap_lent;
static __thread _Atomic(struct heap *) heap_home;
static __thread uint32_t strays;

_Atomic uintptr_t heap_secret_word;

static _Atomic(void (*)(void)) also_at_exit; /* relaxed: a function, set in the first constructor */

struct heap_table heaps;

/* ---- the table ---------------------------------------------------------------------------------------------- */

uintptr_t heap_make_secret(void)
{
    /* The upper 16 bits must not be those of user data that is common: 0 and -1. */
    uintptr_t fresh = (uintptr_t)os_random();
    uintptr_t upper = fresh >> 48;
    if (upper == 0 || upper == 0xffff) {
        fresh ^= (uintptr_t)0x5a5a << 48;
    }
    uintptr_t secret = 0;
    return cas_relaxed(&heap_secret_word, &secret, fresh) ? fresh : secret;
}

static struct heap_page *table_page(uint32_t i)
{
    _Atomic(struct heap_page *) *slot = &heaps.pages[i / PAGE_HEAPS];
    struct heap_page *page = load_acquire(slot); /* O16 */
    if (page == NULL) {
        struct heap_page *fresh = map_books(sizeof *fresh);
        if (fresh == NULL || cas_acq_rel(slot, &page, fresh)) { /* O16 */
            page = fresh;
        }
    }
    return page;
}

struct heap *heap_by_index(size_t i)
{
    if (i >= load_relaxed(&heaps.n_heaps) || i >= (size_t)TABLE_PAGES * PAGE_HEAPS) {
        return NULL;
    }
    struct heap_page *page = load_acquire(&heaps.pages[i / PAGE_HEAPS]); /* O16 */
    return page == NULL ? NULL : load_acquire(&page->heaps[i % PAGE_HEAPS]);
}

size_t heap_count(void)
{
    return load_relaxed(&heaps.n_heaps);
}

size_t heap_idle_count(void)
{
    return load_relaxed(&heaps.n_idle);
}

/* ---- making and taking over --------------------------------------------------------------------------------- */

static void fast_path_on(struct heap *h)
{
    h->tag = map_make_tag(h->number, 0);
    h->window_granules = load_acquire(&map_window.n_granules); /* O2 */
    h->window_begin = load_relaxed(&map_window.begin);
    h->window_tags = load_relaxed(&map_window.tags);
    for (size_t n = 0; n < sizeof h->class_of; n++) {
        h->class_of[n] = (uint8_t)class_of(n * BLOCK_ALIGN);
    }
    for (size_t n = 0; n < sizeof h->upper_class_of; n++) {
        h->upper_class_of[n] = (uint8_t)class_of(n * TABLE_UPPER_STEP);
    }
}

static void fast_path_off(struct heap *h)
{
    h->tag = heap_lent.tag;
    memset(h->class_of, SMALL_CLASSES, sizeof h->class_of);
    memset(h->upper_class_of, SMALL_CLASSES, sizeof h->upper_class_of);
}

void heap_follow_fill(struct heap *h)
{
    const struct hooks *hooks = hooks_now();
    bool filling = option(OPT_fill) >= 0 || (hooks != NULL && hooks->all);
    if (filling != h->filling) {
        h->filling = filling;
        (filling ? fast_path_off : fast_path_on)(h);
    }
}

bool heap_set_fill(int fill)
{
    if (!option_set(OPT_fill, fill)) {
        return false;
    }
    struct heap *h = heap_enter();
    if (h != NULL) {
        heap_follow_fill(h);
        heap_leave(h);
    }
    return true;
}

static void heap_init(struct heap *h, uint32_t i)
{
    h->number = MAP_HEAP_FIRST + i;
    h->secret = heap_secret();
    fast_path_on(h);
    for (unsigned c = 0; c < SMALL_CLASSES; c++) {
        bin_init(h, c);
    }
    h->medium_cap = MEDIUM_CAP_FIRST;
    const struct hooks *hooks = hooks_now();
    h->until_sample = hooks == NULL ? INT32_MAX : hooks->until_sample();
    heap_follow_fill(h);
    store_relaxed(&h->state, HEAP_OWNED);
}

static struct heap *heap_make(void)
{
    config_init();
    if (hooks_start != NULL && hooks_now() == NULL) {
        hooks_start();
    }
    if (!span_prepare()) {
        return NULL;
    }
    struct heap_page *page;
    void *books = NULL;
    uint32_t i = load_relaxed(&heaps.n_heaps);
    do { /* the number last: whoever is refused memory, however often, uses none up */
        page = i >= TABLE_PAGES * PAGE_HEAPS ? NULL : table_page(i);
        if (page != NULL && books == NULL) {
            /* To a page of its own: what a thread with few blocks touches is the first one. */
            books = map_books(sizeof(struct heap) + os_page_bytes());
        }
        if (page == NULL || books == NULL) {
            return NULL;
        }
    } while (!cas_weak_relaxed(&heaps.n_heaps, &i, i + 1));
    struct heap *h = (struct heap *)round_up((uintptr_t)books, os_page_bytes());
    heap_init(h, i);
    store_release(&page->heaps[i % PAGE_HEAPS], h); /* O16 */
    return h;
}

static bool take_if_idle(struct heap *h, uint32_t state)
{
    uint32_t idle = HEAP_IDLE;
    if (load_relaxed(&h->state) != HEAP_IDLE || !cas_acquire(&h->state, &idle, state)) { /* O15 */
        return false;
    }
    sub_relaxed(&heaps.n_idle, 1);
    return true;
}

static void make_idle(struct heap *h)
{
    add_relaxed(&heaps.n_idle, 1);
    store_relaxed(&heaps.hint, h->number - MAP_HEAP_FIRST);
    store_seq_cst(&h->state, HEAP_IDLE); /* O15, O22 */
}

static struct heap *heap_take_over(void)
{
    size_t n = load_relaxed(&heaps.n_idle) == 0 ? 0 : load_relaxed(&heaps.n_heaps);
    size_t hint = load_relaxed(&heaps.hint);
    for (size_t k = 0; k < n; k++) {
        struct heap *h = heap_by_index((hint + k) % n);
        if (h != NULL && take_if_idle(h, HEAP_OWNED)) {
            return h;
        }
    }
    return NULL;
}

/* Medium slabs need the lock: while somebody has it, they wait for nobody but him. */
static bool inbox_waits(struct heap *h)
{
    return load_seq_cst(&h->inbox) != NULL ||                                            /* O22 */
           (load_seq_cst(&h->medium_inbox) != NULL && load_seq_cst(&h->sort_lock) == 0); /* O22 */
}

void heap_serve_idle(struct heap *h)
{
    /* Who sends or unlocks after the look at the inbox finds the heap idle, and comes here itself. */
    while (inbox_waits(h) && take_if_idle(h, HEAP_BUSY)) {
        inbox_collect(h, /* into_bins */ false);
        medium_collect(h);
        medium_flush(h);
        make_idle(h);
    }
}

/* ---- leaving ------------------------------------------------------------------------------------------------ */

/* After a call that was left half done. Under the lock, so that no sender sends off a slab that is being looked at.
 * False when somebody keeps that for long: then the heap is given up, but for its blocks, which may still be freed. */
static bool heap_rebuild(struct heap *h)
{
    if (sort_lock_is_own(h)) {
        sorted_rebuild(h);
    }
    for (int tries = 0; !sort_lock_try(h); tries++) {
        if (tries == REBUILD_TRIES) {
            store_relaxed(&h->current_of, NULL); /* the thread goes, and that with it */
            return false;
        }
        os_relax();
    }
    slabs_rebuild(h);
    collecting_rebuild(h);
    const char *freed_twice = medium_rebuild(h);
    outbox_rebuild(h);
    sort_unlock(h);
    medium_report_twice(freed_twice);
    return true;
}

/* Everything that the heap holds goes where others find it; the next thread takes the heap over. */
static void heap_retire(struct heap *h)
{
    if (h->in_slow && !heap_rebuild(h)) {
        return;
    }
    h->in_slow = true;
    outbox_flush(h);
    inbox_collect(h, /* into_bins */ false);
    for (unsigned c = 0; c < SMALL_CLASSES; c++) {
        sorted_collect(h, c);
    }
    slabs_flush(h);
    medium_collect(h);
    medium_flush(h);
    h->next_own = NULL;
    h->in_slow = false;
    make_idle(h);
    heap_serve_idle(h);
}

static void retire_chain(struct heap *h, const struct heap *end)
{
    while (h != end && h != NULL) {
        struct heap *next = h->next_own;
        heap_retire(h);
        h = next;
    }
}

/* What calls that were left for good have locked of other threads' heaps. */
static void give_up_locks(void)
{
    struct heap *h;
    for (size_t i = 0; i < heap_count(); i++) {
        h = heap_by_index(i);
        if (h != NULL && sort_lock_is_own(h)) {
            sorted_rebuild(h);
            heap_serve_idle(h);
        }
    }
}

static bool has_left_calls(const struct heap *home)
{
    return home != NULL && (home->in_slow || home->next_own != NULL || load_relaxed(&heap_current) == HEAP_LENT);
}

void heap_set_thread_exit(void (*also)(void))
{
    store_relaxed(&also_at_exit, also);
}

static void thread_exit(void *unused)
{
    (void)unused;
    void (*also)(void) = load_relaxed(&also_at_exit);
    if (also != NULL) {
        also();
    }
    struct heap *home = load_relaxed(&heap_home);
    if (has_left_calls(home)) {
        give_up_locks();
    }
    store_relaxed(&heap_current, HEAP_CLOSED);
    signal_fence();
    store_relaxed(&heap_home, NULL);
    span_thread_exit();
    retire_chain(home, NULL);
}

/* ---- entering ----------------------------------------------------------------------------------------------- */

static void fork_child(bool is_survivor);

static void check_fork(void)
{
    uint32_t *word = os_fork_word();
    store_relaxed(&heaps.fork_word, word);
    if (word != NULL && UNLIKELY(*(volatile uint32_t *)word == 0)) {
        /* A thread without a heap may be one that the child has made since. */
        fork_child(load_relaxed(&heap_home) != NULL);
    }
}

static void adopt(struct heap *h)
{
    store_relaxed(&h->current_of, &heap_current);
    h->in_slow = true;
}

static size_t chain_length(const struct heap *h)
{
    size_t n = 0;
    for (; h != NULL; h = h->next_own) {
        n++;
    }
    return n;
}

static struct heap *heap_obtain(void)
{
    struct heap *h = heap_take_over();
    return h != NULL ? h : heap_make();
}

/* First call: a handler that interrupts it may be quicker; then its heap is the thread's. */
static struct heap *enter_first(void)
{
    struct heap *h = heap_obtain();
    if (h == NULL) {
        return NULL;
    }
    store_relaxed(&h->current_of, &heap_current);
    h->next_own = NULL;
    struct heap *none = NULL;
    if (!cas_relaxed(&heap_home, &none, h)) {
        make_idle(h);
        return NULL;
    }
    if (load_relaxed(&heaps.exit_ready) != 0) {
        /* Arming may allocate: the thread has a heap for that now. */
        store_relaxed(&heap_current, h);
        signal_fence();
        os_thread_exit_arm(h);
        signal_fence();
        store_relaxed(&heap_current, HEAP_LENT);
        signal_fence();
    }
    h->in_slow = true;
    return h;
}

static struct heap *enter_stray(struct heap *home)
{
    if (++strays <= STRAYS_MOST || chain_length(home) >= OWN_HEAPS_MOST) {
        return NULL;
    }
    struct heap *h = heap_obtain();
    if (h == NULL) {
        return NULL;
    }
    strays = 0;
    h->next_own = home;
    adopt(h);
    /* A handler that interrupted here may have been quicker. */
    if (!cas_relaxed(&heap_home, &home, h)) {
        h->in_slow = false;
        h->next_own = NULL;
        make_idle(h);
        return NULL;
    }
    return h;
}

/* The thread goes back to h; the heaps before it in the chain retire. A handler that was given one of them has left it
 * current: from the moment that home is h again, current must be lent, or the next handler would use a heap that others
 * may take over. If a handler makes home another while we are here, both are set anew. */
static void join(struct heap *home, struct heap *h)
{
    do {
        store_relaxed(&heap_current, HEAP_LENT);
        signal_fence();
    } while (!cas_relaxed(&heap_home, &home, h));
    retire_chain(home, h);
}

static bool may_have_forked(void)
{
    const volatile uint32_t *word = load_relaxed(&heaps.fork_word);
    return word == NULL || *word == 0;
}

/* current is lent; h is what it was. */
NOINLINE static struct heap *enter_otherwise(struct heap *h)
{
    check_fork();
    struct heap *home = load_relaxed(&heap_home);
    if (h == HEAP_LENT) {
        return home == NULL ? enter_first() : enter_stray(home);
    }
    h->in_slow = true;
    strays = 0;
    if (home != h) {
        join(home, h);
    }
    return h;
}

struct heap *heap_enter(void)
{
    struct heap *h = load_relaxed(&heap_current);
    if (h == HEAP_CLOSED) {
        return NULL;
    }
    store_relaxed(&heap_current, HEAP_LENT);
    signal_fence();
    if (UNLIKELY(load_relaxed(&heap_home) != h) || UNLIKELY(may_have_forked())) {
        return enter_otherwise(h);
    }
    h->in_slow = true;
    strays = 0;
    return h;
}

void heap_leave(struct heap *h)
{
    h->in_slow = false;
    signal_fence();
    store_relaxed(&heap_current, h);
}

/* ---- start and fork ----------------------------------------------------------------------------------------- */

void heap_start(void)
{
    if (load_relaxed(&heaps.exit_ready) != 0 || os_thread_exit_init(thread_exit) != 0) {
        return;
    }
    store_relaxed(&heaps.exit_ready, 1);
    os_fork_init(heap_fork_child);
    struct heap *home = load_relaxed(&heap_home);
    if (home != NULL) {
        os_thread_exit_arm(home); /* allocated before this constructor ran */
    }
}

static bool is_own(const struct heap *wanted)
{
    for (struct heap *h = load_relaxed(&heap_home); h != NULL; h = h->next_own) {
        if (h == wanted) {
            return true;
        }
    }
    return false;
}

/* The other threads are gone, unless the caller itself is new. A heap whose thread was inside at that moment may be
 * half changed: it is only freed to. The others can be taken over: the thread-local storage that was copied with the
 * process tells which. */
static void fork_child(bool is_survivor)
{
    uint32_t *word = os_fork_word();
    if (word != NULL) {
        if (*(volatile uint32_t *)word != 0) {
            return; /* done already */
        }
        *(volatile uint32_t *)word = 1;
    }
    if (!is_survivor) {
        return; /* whose the heaps and the store's lock are can't be told: they stay as they are */
    }
    span_fork_child();
    struct heap *h;
    for (size_t i = 0; i < heap_count(); i++) {
        h = heap_by_index(i);
        if (h != NULL && load_relaxed(&h->sort_lock) != 0 && !sort_lock_is_own(h)) {
            sorted_rebuild(h); /* a lost thread had it */
        }
        if (h == NULL || load_relaxed(&h->state) != HEAP_OWNED || is_own(h)) {
            continue;
        }
        /* Who frees for the first time after its thread-exit functions have run takes a heap that nobody closes: the
         * storage may be gone. */
        _Atomic(struct heap *) *current = load_relaxed(&h->current_of);
        if (current != NULL && os_readable(current) && load_relaxed(current) == h) {
            make_idle(h);
        }
    }
    const struct hooks *hooks = hooks_now();
    if (hooks != NULL) {
        hooks->fork_child();
    }
}

void heap_fork_child(void)
{
    fork_child(/* is_survivor */ true);
}
