/* SPDX-License-Identifier: MIT */
/* collect.c - the search for words that point into mappings, and what becomes of the mappings that have none.
 *
 * The words are compared with the hull of all live mappings, eight at a time; one that passes is looked up in buckets
 * of equal length over the hull, each of which names the first piece that reaches into it.
 */
#include "config/config.h"
#include "gc/gc_internal.h"

#include <errno.h>

#define BUCKETS 65536u
#define PATIENCE_LEAST_NS 100000000u
#define PATIENCE_MOST_NS 60000000000u
/* A cache line at a time. */
#define STEP_WORDS 8
#define AHEAD_WORDS 256
/* Shares of a limit are looked at when something has changed since: a fraction of it was made. */
#define PROGRESS_SHARE 32u

/* ---- the search --------------------------------------------------------------------------------------------- */

struct search {
    struct gc *gc;
    uintptr_t begin; /* of the first live piece */
    uintptr_t span;  /* to the end of the last one */
    unsigned shift;
    struct mapping *to_scan; /* marked, and their own pointers count */
};

static bool is_live(const struct piece *piece)
{
    return load_relaxed(&piece->state) == PIECE_LIVE;
}

static uintptr_t end_of(const struct piece *piece)
{
    return load_relaxed(&piece->begin) + load_relaxed(&piece->bytes);
}

static void mark_mapping(struct search *search, struct mapping *mapping)
{
    mapping->marked = true;
    if ((mapping->flags & ALLOT_GCMAP_SCAN) != 0) {
        mapping->next = search->to_scan;
        search->to_scan = mapping;
    }
}

/* The hull of what is live, and its buckets; marks fall, and what is pinned gets one. */
static void prepare(struct search *search)
{
    struct gc *gc = search->gc;
    uintptr_t end = 0;
    for (size_t i = 0; i < gc->n_order; i++) {
        struct piece *piece = gc->order[i];
        if (is_live(piece)) {
            load_relaxed(&piece->mapping)->marked = false;
            search->begin = end == 0 ? load_relaxed(&piece->begin) : search->begin;
            end = end_of(piece);
        }
    }
    search->span = end == 0 ? 0 : end - search->begin;
    while (search->span >> search->shift >= BUCKETS) {
        search->shift++;
    }
    size_t bucket = 0;
    for (size_t i = 0; i < gc->n_order && search->span != 0; i++) {
        struct piece *piece = gc->order[i];
        struct mapping *mapping = is_live(piece) ? load_relaxed(&piece->mapping) : NULL;
        if (mapping != NULL && !mapping->marked && (mapping->pins > 0 || mapping->ending)) {
            mark_mapping(search, mapping);
        }
        while (bucket <= BUCKETS && search->begin + (bucket << search->shift) < end_of(piece)) {
            gc->buckets[bucket++] = (uint32_t)i;
        }
    }
    for (; bucket <= BUCKETS; bucket++) {
        gc->buckets[bucket] = (uint32_t)gc->n_order;
    }
}

/* The piece that the address lies in. */
static struct piece *look_up(const struct search *search, uintptr_t address)
{
    struct gc *gc = search->gc;
    size_t bucket = (address - search->begin) >> search->shift;
    size_t low = gc->buckets[bucket];
    size_t high = size_min(gc->buckets[bucket + 1], gc->n_order - 1);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (end_of(gc->order[middle]) <= address) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return gc->order[low];
}

static NOINLINE void found(struct search *search, const uintptr_t *word, uintptr_t address)
{
    struct piece *piece = look_up(search, address);
    struct mapping *mapping = is_live(piece) ? load_relaxed(&piece->mapping) : NULL;
    if (mapping != NULL && !mapping->marked && roots_counts(word)) {
        mark_mapping(search, mapping);
    }
}

/* Other threads' memory, freed memory, red zones: no business of a sanitizer's. */
__attribute__((no_sanitize("address", "thread"))) static bool scan_words(struct roots *roots, const uintptr_t *word,
                                                                         const uintptr_t *end)
{
    struct search *search = roots->context;
    uintptr_t begin = search->begin;
    uintptr_t span = search->span;
    for (; end - word >= STEP_WORDS; word += STEP_WORDS) {
        /* Two chains of comparisons, and the memory that comes is asked for: the processor's own look ahead ends at a
         * page's end. */
        __builtin_prefetch(word + AHEAD_WORDS);
        uintptr_t even = word[0] - begin;
        uintptr_t odd = word[1] - begin;
        for (int i = 2; i < STEP_WORDS; i += 2) {
            uintptr_t a = word[i] - begin;
            uintptr_t b = word[i + 1] - begin;
            even = a < even ? a : even;
            odd = b < odd ? b : odd;
        }
        if (UNLIKELY(even < span) || UNLIKELY(odd < span)) {
            for (int i = 0; i < STEP_WORDS; i++) {
                if (word[i] - begin < span) {
                    found(search, word + i, word[i]);
                }
            }
        }
    }
    for (; word < end; word++) {
        if (*word - begin < span) {
            found(search, word, *word);
        }
    }
    return true;
}

/* What a marked mapping points to is marked too, until nothing comes to it any more. */
static void scan_marked(struct search *search, struct roots *roots)
{
    roots->pages = os_pages_open();
    while (search->to_scan != NULL && !roots->enough) {
        struct mapping *mapping = search->to_scan;
        search->to_scan = mapping->next;
        for (struct piece *piece = mapping->first; piece != NULL; piece = piece->next_of_mapping) {
            if (is_live(piece)) {
                uintptr_t begin = load_relaxed(&piece->begin);
                (mapping->is_private ? roots_scan_written : roots_scan_readable)(roots, begin, end_of(piece));
            }
        }
    }
    os_pages_close(roots->pages);
    roots->pages = -1;
}

/* ---- a collection ------------------------------------------------------------------------------------------- */

int stop_fault_error(const struct os_stop *stop, const char **why)
{
    static const struct {
        int error;
        const char *why;
    } faults[] = {
        [OS_STOP_NONE] = {0, ""},
        [OS_STOP_UNKNOWN] = {ENOSYS, "the threads of the process can't be listed here"},
        [OS_STOP_TAKEN] = {EPERM, "the program has a handler of its own for the signal that stops threads"},
        [OS_STOP_REFUSED] = {EPERM, "the signal that stops threads can't be sent"},
        [OS_STOP_BLOCKED] = {EBUSY, "a thread blocks the signal that stops threads"},
        [OS_STOP_TRACED] = {EBUSY, "a thread is held by a debugger"},
        [OS_STOP_SILENT] = {EBUSY, "a thread did not answer within the limit on the pause"},
    };
    *why = faults[stop->fault].why;
    return faults[stop->fault].error;
}

/* Marks what is referred to. The other threads stand still. */
static int search_all(struct gc *gc, struct roots *roots, const char **why)
{
    struct search search = {.gc = gc};
    roots->context = &search;
    roots->scan = scan_words;
    prepare(&search);
    int error = -roots_scan(roots);
    scan_marked(&search, roots);
    if (error != 0) {
        *why = "the memory of the process can't be listed here";
    } else if (roots->late) {
        *why = "the limit on the pause was passed";
        error = ETIMEDOUT;
    }
    return error;
}

/* What has no mark, condemned, as a list. What has one counts as left. */
static struct mapping *condemn_unmarked(struct gc *gc)
{
    struct mapping *dead = NULL;
    gc->number_left = 0;
    gc->bytes_left = 0;
    for (size_t i = 0; i < gc->n_order; i++) {
        struct piece *piece = gc->order[i];
        struct mapping *mapping = is_live(piece) ? load_relaxed(&piece->mapping) : NULL;
        if (mapping == NULL || mapping->ending) {
            continue;
        }
        if (mapping->marked) {
            gc->number_left += piece == mapping->first;
            gc->bytes_left += load_relaxed(&piece->bytes);
        } else {
            mapping_condemn(mapping);
            mapping->next = dead;
            dead = mapping;
        }
    }
    return dead;
}

/* What the search needs is there before threads are stopped. */
bool collect_prepare(struct gc *gc)
{
    if (gc->left_out == NULL) {
        gc->left_out = books_map(sizeof *gc->left_out);
    }
    if (gc->buckets == NULL) {
        gc->buckets = books_map((BUCKETS + 1) * sizeof *gc->buckets);
    }
    return os_threads_prepare() && gc->left_out != NULL && gc->buckets != NULL;
}

static void note_failure(struct gc *gc)
{
    gc->patience_ns = size_min(size_max(gc->patience_ns * 2, PATIENCE_LEAST_NS), PATIENCE_MOST_NS);
    gc->not_before_ns = os_now_ns() + gc->patience_ns;
}

static void note_success(struct gc *gc)
{
    gc->patience_ns = 0;
    gc->not_before_ns = 0;
    gc->collected_ns = os_now_ns();
    gc->number_since = 0;
    gc->bytes_since = 0;
}

/* Lock held. */
static int find_dead(struct gc *gc, uintptr_t stack, struct allot_gcmap_collected *told, struct mapping **dead)
{
    unsigned pause_ms = (unsigned)option(OPT_gc_pause);
    uint64_t begin = os_now_ns();
    struct os_stop stop;
    struct roots roots = {.gc = gc, .pages = -1, .stack = stack, .deadline_ns = begin + (uint64_t)pause_ms * 1000000};
    if (!collect_prepare(gc)) {
        told->why = "the system refuses memory for the search";
        return ENOMEM;
    }
    if (!os_threads_stop((int)option(OPT_gc_signal), pause_ms, /* pass_over */ false, &stop)) {
        told->thread = stop.thread;
        return stop_fault_error(&stop, &told->why);
    }
    roots.n_threads = stop.n;
    int error = search_all(gc, &roots, &told->why);
    *dead = error == 0 ? condemn_unmarked(gc) : NULL;
    os_threads_go();
    told->pause_ns = os_now_ns() - begin;
    told->n_threads = stop.n;
    told->scanned_bytes = roots.bytes;
    return error;
}

static void end_dead(struct gc *gc, struct mapping *dead, struct allot_gcmap_collected *told)
{
    while (dead != NULL) {
        struct mapping *mapping = dead;
        dead = mapping->next;
        size_t bytes = mapping_bytes(mapping);
        int synced;
        if (mapping_end(gc, mapping, END_COLLECTED, &synced) == 0) {
            told->n_mappings++;
            told->bytes += bytes;
        }
    }
}

int gc_collect(uintptr_t stack, struct allot_gcmap_collected *told)
{
    struct gc *gc = gc_now();
    struct mapping *dead = NULL;
    *told = (struct allot_gcmap_collected)ALLOT_GCMAP_COLLECTED_INIT;
    if (gc == NULL) {
        return 0;
    }
    os_lock(&gc->lock);
    int error = find_dead(gc, stack, told, &dead);
    (error == 0 ? note_success : note_failure)(gc);
    os_unlock(&gc->lock);
    end_dead(gc, dead, told);
    return error;
}

int allot_gcmap_collect(allot_gcmap_collected *told)
{
    allot_gcmap_collected unwanted = ALLOT_GCMAP_COLLECTED_INIT;
    told = told == NULL ? &unwanted : told;
    if (told->abi_size != sizeof *told) {
        return EINVAL;
    }
    uintptr_t stack = STACK_HERE();
    config_init();
    return gc_collect(stack, told);
}

/* ---- by the trigger ----------------------------------------------------------------------------------------- */

static bool passes(size_t since, size_t left, int64_t threshold)
{
    return threshold != 0 && since >= size_max((size_t)threshold, left);
}

static bool passes_share(size_t used, size_t since, size_t limit, int64_t percent)
{
    return percent != 0 && limit != SIZE_MAX && used >= limit / 100 * (size_t)percent &&
           since >= limit / PROGRESS_SHARE;
}

bool gc_is_due(struct gc *gc, size_t bytes)
{
    if (load_relaxed(&gc->n_active) == 0 || gc->number_since == 0) { /* relaxed: a figure */
        return false;
    }
    uint64_t now = os_now_ns();
    uint64_t age = (uint64_t)option(OPT_gc_age) * 1000000;
    bool due = passes(gc->number_since, gc->number_left, option(OPT_gc_number)) ||
               passes(gc->bytes_since + bytes, gc->bytes_left, option(OPT_gc_bytes)) ||
               passes_share(gc->n_order, gc->number_since, gc->mappings_most, option(OPT_gc_maps)) ||
               passes_share(gc->reserved_bytes, gc->bytes_since, os_address_space_limit(), option(OPT_gc_room)) ||
               (age != 0 && now - gc->collected_ns >= age);
    return due && now >= gc->not_before_ns;
}

/* How often the collector looks whether something is due that no new mapping told. */
#define THREAD_LOOKS_MS 1000

static void *collector(void *context)
{
    struct gc *gc = context;
    for (;;) {
        os_wait(&gc->thread_word, 0, THREAD_LOOKS_MS);
        bool asked = xchg_acq_rel(&gc->thread_word, 0) != 0; /* OG6 */
        os_lock(&gc->lock);
        bool due = gc_is_due(gc, 0);
        os_unlock(&gc->lock);
        if (asked || due) {
            allot_gcmap_collected told;
            gc_collect(STACK_HERE(), &told);
        }
    }
    return NULL;
}

/* False: there is none, and none can be made. */
static bool wake_collector(struct gc *gc)
{
    os_lock(&gc->lock);
    if (!gc->has_thread) {
        gc->has_thread = os_thread_start(collector, gc, (int)option(OPT_gc_signal)) == 0;
    }
    bool has_thread = gc->has_thread;
    os_unlock(&gc->lock);
    store_release(&gc->thread_word, (uint32_t)1); /* OG6: what was made is seen by the collector */
    os_wake(&gc->thread_word);
    return has_thread;
}

void gc_collect_automatically(struct gc *gc, bool at_once)
{
    if (!at_once && option(OPT_gc_thread) && wake_collector(gc)) {
        return;
    }
    os_lock(&gc->lock);
    bool too_soon = os_now_ns() < gc->not_before_ns;
    os_unlock(&gc->lock);
    if (!too_soon) {
        allot_gcmap_collected told;
        gc_collect(STACK_HERE(), &told);
    }
}

int allot_gcmap_set_trigger(const allot_gcmap_trigger *trigger)
{
    if (trigger == NULL || trigger->abi_size != sizeof *trigger) {
        return EINVAL;
    }
    const struct {
        enum option_id id;
        size_t value;
    } rows[] = {
        {OPT_gc_bytes, trigger->bytes},     {OPT_gc_number, trigger->number}, {OPT_gc_maps, trigger->maps_share},
        {OPT_gc_room, trigger->room_share}, {OPT_gc_age, trigger->age_ms},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].value > (size_t)option_row(rows[i].id)->most) {
            return EINVAL;
        }
    }
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        (void)option_set(rows[i].id, (int64_t)rows[i].value);
    }
    return 0;
}
