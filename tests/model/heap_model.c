/* SPDX-License-Identifier: MIT */
/* heap_model.c - a stream of random calls goes into the heap and into a model that can't be wrong: a table of blocks,
 * each filled with a pattern of its own, and a set of address intervals.
 *
 *     heap_model [seed [calls [threads]]]
 *
 * Idea.        Threads take and give blocks by a table of slots that all share; a slot's lock keeps one thread at a
 * time at its block, so most blocks are resized and freed by another thread than the one that took them. Each block
 * that comes is entered into the set of intervals, and must overlap none; each that goes is checked to its last byte.
 * In between the threads meet and the walk must agree with the table.
 *
 * Replay.      The seed is printed; with one thread the same seed makes the same calls.
 */
#include "../names.h"

#include <pthread.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <time.h>

enum { n_slots = 4096, most_threads = 16, n_buckets = 65536, n_meetings = 8 };

struct slot {
    pthread_mutex_t lock;
    unsigned char *block;
    size_t asked;  /* bytes that hold the pattern */
    size_t usable; /* as entered into the set */
    size_t alignment;
    unsigned seed;
    bool seen;
};

static struct {
    uint64_t seed;
    size_t n_calls;
    size_t n_threads;
    struct slot slots[n_slots];
    pthread_barrier_t meeting;
} model;

static void wrong(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

static void wrong(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "heap_model: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "; seed %ju, %zu calls, %zu threads\n", (uintmax_t)model.seed, model.n_calls, model.n_threads);
    va_end(arguments);
    abort();
}

/* ---- the set of intervals: a bucket of them for each 64 KiB, kept apart from any heap ------------------------------
 */

/* A block stands in the bucket of each granule that it touches, up to a few; the rest of a huge block is not entered.
 */
enum { GRANULE = 65536, MOST_GRANULES = 64 };

struct interval {
    uintptr_t begin, end;
    struct interval *next;
};

struct bucket {
    pthread_mutex_t lock;
    struct interval *first;
};

static struct bucket buckets[n_buckets];
static struct interval *spare_intervals;
static pthread_mutex_t spare_lock = PTHREAD_MUTEX_INITIALIZER;

static struct interval *interval_take(void)
{
    pthread_mutex_lock(&spare_lock);
    if (spare_intervals == NULL) {
        size_t bytes = 65536 * sizeof(struct interval);
        struct interval *fresh = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (fresh == MAP_FAILED) {
            wrong("no memory for the model");
        }
        for (size_t i = 0; i < 65536; i++) {
            fresh[i].next = spare_intervals;
            spare_intervals = &fresh[i];
        }
    }
    struct interval *taken = spare_intervals;
    spare_intervals = taken->next;
    pthread_mutex_unlock(&spare_lock);
    return taken;
}

static void interval_give(struct interval *interval)
{
    pthread_mutex_lock(&spare_lock);
    interval->next = spare_intervals;
    spare_intervals = interval;
    pthread_mutex_unlock(&spare_lock);
}

static struct bucket *bucket_of(uintptr_t granule)
{
    return &buckets[granule * UINT64_C(11400714819323198485) >> 48];
}

static void enter_into(struct bucket *bucket, uintptr_t begin, uintptr_t end)
{
    struct interval *fresh = interval_take();
    pthread_mutex_lock(&bucket->lock);
    for (struct interval *other = bucket->first; other != NULL; other = other->next) {
        if (begin < other->end && other->begin < end) {
            wrong("a block at %#jx to %#jx overlaps the one at %#jx to %#jx", (uintmax_t)begin, (uintmax_t)end,
                  (uintmax_t)other->begin, (uintmax_t)other->end);
        }
    }
    *fresh = (struct interval){begin, end, bucket->first};
    bucket->first = fresh;
    pthread_mutex_unlock(&bucket->lock);
}

static void remove_from(struct bucket *bucket, uintptr_t begin)
{
    pthread_mutex_lock(&bucket->lock);
    struct interval **link = &bucket->first;
    while (*link != NULL && (*link)->begin != begin) {
        link = &(*link)->next;
    }
    struct interval *found = *link;
    if (found == NULL) {
        wrong("the model lost the block at %#jx", (uintmax_t)begin);
    }
    *link = found->next;
    pthread_mutex_unlock(&bucket->lock);
    interval_give(found);
}

/* The parts of a block by granule. Returns false behind the last. */
static bool part_of(const unsigned char *block, size_t bytes, size_t i, uintptr_t *begin, uintptr_t *end)
{
    uintptr_t first = (uintptr_t)block / GRANULE;
    uintptr_t low = i == 0 ? (uintptr_t)block : (first + i) * GRANULE;
    uintptr_t block_end = (uintptr_t)block + bytes;
    if (i >= MOST_GRANULES || low >= block_end) {
        return false;
    }
    uintptr_t high = (first + i + 1) * GRANULE;
    *begin = low;
    *end = high < block_end ? high : block_end;
    return true;
}

static void set_enter(const unsigned char *block, size_t bytes)
{
    uintptr_t begin;
    uintptr_t end;
    for (size_t i = 0; part_of(block, bytes, i, &begin, &end); i++) {
        enter_into(bucket_of(begin / GRANULE), begin, end);
    }
}

static void set_remove(const unsigned char *block, size_t bytes)
{
    uintptr_t begin;
    uintptr_t end;
    for (size_t i = 0; part_of(block, bytes, i, &begin, &end); i++) {
        remove_from(bucket_of(begin / GRANULE), begin);
    }
}

/* ---- one block -----------------------------------------------------------------------------------------------------
 */

/* Of very large blocks only the ends are filled. */
enum { FILLED = 300000 };

static void fill_block(struct slot *slot)
{
    if (slot->asked <= FILLED) {
        pattern_fill(slot->block, slot->asked, slot->seed);
    } else {
        pattern_fill(slot->block, FILLED / 2, slot->seed);
        pattern_fill(slot->block + slot->asked - FILLED / 2, FILLED / 2, slot->seed);
    }
}

static void check_contents(const struct slot *slot, const unsigned char *block, size_t bytes)
{
    size_t front = bytes < slot->asked ? bytes : slot->asked;
    front = slot->asked <= FILLED ? front : front < FILLED / 2 ? front : FILLED / 2;
    size_t at = pattern_first_wrong(block, front, slot->seed);
    if (at != front) {
        wrong("the block of %zu bytes at %p lost its contents at offset %zu", slot->asked, (const void *)block, at);
    }
    bool whole = bytes >= slot->asked && slot->asked > FILLED;
    if (whole && !pattern_holds(block + slot->asked - FILLED / 2, FILLED / 2, slot->seed)) {
        wrong("the block of %zu bytes at %p lost its end", slot->asked, (const void *)block);
    }
}

static void block_came(struct slot *slot, void *block, size_t asked, size_t alignment, uint64_t *random)
{
    if (block == NULL) {
        wrong("no memory for %zu bytes", asked);
    }
    slot->block = block;
    slot->asked = asked;
    slot->alignment = alignment;
    slot->usable = malloc_usable_size(block);
    slot->seed = (unsigned)random_below(random, 256);
    if (!is_aligned(block, alignment) || slot->usable < asked) {
        wrong("%zu bytes at alignment %zu: got %p, %zu usable", asked, alignment, block, slot->usable);
    }
    set_enter(block, slot->usable);
    fill_block(slot);
}

static void block_goes(struct slot *slot)
{
    if (malloc_usable_size(slot->block) != slot->usable) {
        wrong("the block at %p changed its size", (void *)slot->block);
    }
    check_contents(slot, slot->block, slot->asked);
    set_remove(slot->block, slot->usable);
}

/* ---- the calls -----------------------------------------------------------------------------------------------------
 */

static size_t some_size(uint64_t *random)
{
    size_t kind = random_below(random, 1000);
    if (kind < 600) {
        return random_below(random, 300);
    }
    if (kind < 850) {
        return random_below(random, 9000);
    }
    if (kind < 960) {
        return random_below(random, 100000);
    }
    if (kind < 998) {
        return random_below(random, 2 * MIB);
    }
    return random_below(random, 48 * MIB);
}

static void take_block(struct slot *slot, uint64_t *random)
{
    size_t size = some_size(random);
    size_t kind = random_below(random, 10);
    if (kind < 6) {
        block_came(slot, malloc(size), size, 16, random);
    } else if (kind < 8) {
        void *block = calloc(1, size);
        if (block != NULL && !all_zero(block, size < FILLED ? size : FILLED)) {
            wrong("calloc of %zu bytes is not zero", size);
        }
        block_came(slot, block, size, 16, random);
    } else {
        size_t alignment = (size_t)16 << random_below(random, random_below(random, 10) == 0 ? 16 : 9);
        block_came(slot, memalign(alignment, size), size, alignment, random);
    }
}

static void give_block(struct slot *slot, uint64_t *random)
{
    block_goes(slot);
    if (slot->alignment == 16 && random_below(random, 3) == 0) {
        free_sized(slot->block, slot->asked);
    } else {
        free(slot->block);
    }
    slot->block = NULL;
}

static void resize_block(struct slot *slot, uint64_t *random)
{
    size_t size = random_below(random, 2) == 0 ? some_size(random) : slot->asked + random_below(random, 5000);
    size += size == 0;
    block_goes(slot);
    unsigned char *moved = realloc(slot->block, size);
    if (moved == NULL) {
        wrong("no memory for realloc to %zu bytes", size);
    }
    check_contents(slot, moved, size);
    block_came(slot, moved, size, 16, random);
}

static void expand_block(struct slot *slot, uint64_t *random)
{
    size_t size = slot->asked + random_below(random, 3 * slot->asked + 1);
    block_goes(slot);
    int done = allot_try_expand(slot->block, size);
    check_contents(slot, slot->block, slot->asked);
    block_came(slot, slot->block, done ? size : slot->asked, slot->alignment, random);
}

static void take_and_give_a_batch(uint64_t *random)
{
    void *blocks[64];
    size_t n = 1 + random_below(random, 64);
    size_t size = random_below(random, 2000);
    if (allot_malloc_batch(size, blocks, n) != n) {
        wrong("no batch of %zu times %zu bytes", n, size);
    }
    for (size_t i = 0; i < n; i++) {
        set_enter(blocks[i], malloc_usable_size(blocks[i]));
        pattern_fill(blocks[i], size, (unsigned)i);
    }
    for (size_t i = 0; i < n; i++) {
        if (!pattern_holds(blocks[i], size, (unsigned)i)) {
            wrong("block %zu of a batch lost its contents", i);
        }
        set_remove(blocks[i], malloc_usable_size(blocks[i]));
    }
    allot_free_batch(blocks, n);
}

static void one_call(uint64_t *random)
{
    struct slot *slot = &model.slots[random_below(random, n_slots)];
    if (random_below(random, 500) == 0) {
        take_and_give_a_batch(random);
        return;
    }
    if (random_below(random, 20000) == 0) {
        allot_thread_flush();
        return;
    }
    if (random_below(random, 50000) == 0) {
        allot_trim(0);
        return;
    }
    pthread_mutex_lock(&slot->lock);
    size_t kind = random_below(random, 10);
    if (slot->block == NULL) {
        take_block(slot, random);
    } else if (kind < 6) {
        give_block(slot, random);
    } else if (kind < 9) {
        resize_block(slot, random);
    } else {
        expand_block(slot, random);
    }
    pthread_mutex_unlock(&slot->lock);
}

/* ---- the walk must agree
 * --------------------------------------------------------------------------------------------- */

static size_t slot_order[n_slots];

static int by_address(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t)model.slots[*(const size_t *)a].block;
    uintptr_t y = (uintptr_t)model.slots[*(const size_t *)b].block;
    return (x > y) - (x < y);
}

static struct slot *slot_of(const void *base)
{
    size_t low = 0;
    size_t high = n_slots;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if ((uintptr_t)model.slots[slot_order[middle]].block < (uintptr_t)base) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < n_slots && model.slots[slot_order[low]].block == base ? &model.slots[slot_order[low]] : NULL;
}

static int compare_with_model(const allot_info *info, void *context)
{
    (void)context;
    struct slot *slot = slot_of(info->base);
    if (slot == NULL) {
        return 0; /* a block of libc, of a thread, or a free one */
    }
    if (info->state != ALLOT_STATE_LIVE || info->size_bytes != slot->usable || slot->seen) {
        wrong("the walk tells the block at %p wrong: state %d, %zu bytes, seen before: %d", (void *)slot->block,
              (int)info->state, info->size_bytes, slot->seen);
    }
    slot->seen = true;
    return 0;
}

static void check_walk(void)
{
    for (size_t i = 0; i < n_slots; i++) {
        slot_order[i] = i;
        model.slots[i].seen = false;
    }
    qsort(slot_order, n_slots, sizeof slot_order[0], by_address);
    allot_walk(compare_with_model, NULL);
    for (size_t i = 0; i < n_slots; i++) {
        if (model.slots[i].block != NULL && !model.slots[i].seen) {
            wrong("the walk misses the block of %zu bytes at %p", model.slots[i].usable, (void *)model.slots[i].block);
        }
    }
}

/* ---- threads -------------------------------------------------------------------------------------------------------
 */

static void *work(void *argument)
{
    uint64_t random = model.seed * 1000003 + (uintptr_t)argument + 1;
    for (size_t meeting = 0; meeting < n_meetings; meeting++) {
        for (size_t i = 0; i < model.n_calls / model.n_threads / n_meetings; i++) {
            one_call(&random);
        }
        pthread_barrier_wait(&model.meeting);
        if (argument == NULL) {
            check_walk();
        }
        pthread_barrier_wait(&model.meeting);
    }
    return NULL;
}

static void give_all(void)
{
    uint64_t random = model.seed | 1;
    for (size_t i = 0; i < n_slots; i++) {
        if (model.slots[i].block != NULL) {
            give_block(&model.slots[i], &random);
        }
    }
    check_walk();
}

int main(int argc, char **argv)
{
    model.seed = argc > 1 ? strtoull(argv[1], NULL, 0) : (uint64_t)time(NULL) * 1000 + (uint64_t)getpid() % 1000;
    model.n_calls = argc > 2 ? strtoull(argv[2], NULL, 0) : 300000;
    model.n_threads = argc > 3 ? strtoull(argv[3], NULL, 0) : 4;
    if (model.n_threads < 1 || model.n_threads > most_threads) {
        wrong("1 to %d threads", most_threads);
    }
    printf("seed %ju, %zu calls, %zu threads\n", (uintmax_t)model.seed, model.n_calls, model.n_threads);
    fflush(stdout);
    for (size_t i = 0; i < n_slots; i++) {
        pthread_mutex_init(&model.slots[i].lock, NULL);
    }
    for (size_t i = 0; i < n_buckets; i++) {
        pthread_mutex_init(&buckets[i].lock, NULL);
    }
    pthread_barrier_init(&model.meeting, NULL, (unsigned)model.n_threads);
    pthread_t threads[most_threads];
    for (size_t i = 0; i < model.n_threads; i++) {
        if (pthread_create(&threads[i], NULL, work, (void *)i) != 0) {
            wrong("no thread");
        }
    }
    for (size_t i = 0; i < model.n_threads; i++) {
        pthread_join(threads[i], NULL);
    }
    give_all();
    return 0;
}
