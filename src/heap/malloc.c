/* SPDX-License-Identifier: MIT */
/* malloc.c - the slow ways in and out, and the rest of the family over them.
 *
 *     who comes here                               is served by
 *     the bin is empty                             bin_refill
 *     a medium or a large size                     medium.c, large.c
 *     a handler inside, a closed thread, no heap   the pool
 *     a block that is not the thread's own         the outbox, its slab's remote bits, the pool, the store
 *     a pointer that is no live block              fault_report
 */
#include "config/config.h"
#include "heap/heap_internal.h"
#include "os/os.h"
#include "pool/pool.h"

#include <errno.h>
#include <string.h>

#define OUT_OF_MEMORY (errno = ENOMEM, (void *)NULL)

/* ---- taking ------------------------------------------------------------------------------------------------- */

/* Slow calls are a sample of all: what their sizes are rounded up by, the others' are. */
static void sample_request(struct heap *h, unsigned c, size_t bytes)
{
    store_relaxed(&h->sampled_bytes, load_relaxed(&h->sampled_bytes) + heap_class_size(c));
    store_relaxed(&h->requested_bytes, load_relaxed(&h->requested_bytes) + bytes);
}

static struct block *bin_pop(struct bin *bin)
{
    struct block *b = bin->head;
    if (UNLIKELY(!block_has_form(b, FORM_OWN))) {
        fault_of_free_block(b);
    }
    bin->head = (struct block *)load_relaxed(&b->link);
    bin->room++;
    store_relaxed(&b->sum, 0);
    return b;
}

static void *small_malloc(struct heap *h, unsigned c, size_t bytes)
{
    struct bin *bin = &h->bins[c];
    if (bin->head == NULL) {
        if (!bin_refill(h, c)) {
            return NULL;
        }
        sample_request(h, c, bytes);
    }
    return bin_pop(bin);
}

struct request {
    size_t bytes;
    size_t room_bytes; /* at least bytes: a large block gets address space to grow into */
    size_t align;
};

/* *zero: known to hold zeros. */
static void *take(struct heap *h, const struct request *request, bool *zero)
{
    *zero = false;
    size_t align = size_max(request->align, BLOCK_ALIGN);
    if (h == NULL) {
        return pool_malloc(&pool_of_heap, request->bytes, align);
    }
    if (request->bytes <= MEDIUM_LARGEST && align <= MEDIUM_LARGEST) {
        unsigned c = align == BLOCK_ALIGN ? class_of(request->bytes) : class_aligned(request->bytes, align);
        if (c < SMALL_CLASSES) {
            return small_malloc(h, c, request->bytes);
        }
        if (c < CLASS_COUNT && align <= GRANULE_BYTES) {
            sample_request(h, c, request->bytes);
            return medium_malloc(h, c, zero);
        }
    }
    size_t bytes = size_max(request->bytes, 1);
    return large_malloc(bytes, size_max(request->room_bytes, bytes), align, zero);
}

static void *allocate(const struct request *request, bool *zero)
{
    if (request->bytes > PTRDIFF_MAX) {
        return OUT_OF_MEMORY;
    }
    struct heap *h = heap_enter();
    void *p = take(h, request, zero);
    if (h != NULL) {
        heap_leave(h);
    }
    return p != NULL ? p : OUT_OF_MEMORY;
}

static void *fill_new(void *p, size_t bytes)
{
    int64_t fill = option(OPT_fill);
    return UNLIKELY(fill >= 0) && p != NULL ? memset(p, (int)fill, bytes) : p;
}

/* The words of a small block that its list needs are written later. */
static void fill_freed(const struct place *place)
{
    int64_t fill = option(OPT_fill);
    if (UNLIKELY(fill >= 0)) {
        memset(place->block, (int)(~fill & 0xff), place->bytes);
    }
}

NOINLINE static void *malloc_any(size_t bytes)
{
    bool zero;
    return fill_new(allocate(&(struct request){.bytes = bytes, .room_bytes = bytes}, &zero), bytes);
}

/* The sizes that come here often. */
static void *medium_malloc_often(size_t bytes)
{
    struct heap *h = heap_enter();
    if (h == NULL) {
        return malloc_any(bytes);
    }
    unsigned c = class_of(bytes);
    bool zero;
    sample_request(h, c, bytes);
    void *p = medium_malloc(h, c, &zero);
    heap_leave(h);
    return p != NULL ? p : malloc_any(bytes);
}

/* ---- hooks -------------------------------------------------------------------------------------------------- */

/* One call of the slow path for a small block stands for about so many blocks. */
#define REFILL_BLOCKS 32

/* Whether the hooks are to be asked for a block: for every one, or for one that is due. A call from inside another, and
 * one without a heap, is not. */
static const struct hooks *hooks_for(size_t bytes)
{
    const struct hooks *hooks = hooks_now();
    if (LIKELY(hooks == NULL) || hooks->all) {
        return hooks;
    }
    struct heap *h = load_relaxed(&heap_current);
    if (h == HEAP_LENT || h == HEAP_CLOSED) {
        return NULL;
    }
    h->until_sample -= bytes <= SMALL_LARGEST ? REFILL_BLOCKS : 1;
    if (LIKELY(h->until_sample > 0)) {
        return NULL;
    }
    h->until_sample = hooks->until_sample();
    return hooks;
}

/* *served: the answer stands, NULL included. */
static void *hook_take(const struct hook_take *wanted, bool *served)
{
    *served = false;
    const struct hooks *hooks = hooks_for(wanted->bytes);
    if (LIKELY(hooks == NULL)) {
        return NULL;
    }
    void *p = hooks->take(wanted);
    *served = hooks->all || p != NULL;
    return p;
}

void *heap_raw_malloc(size_t bytes, size_t align)
{
    bool zero;
    struct heap *h = heap_enter();
    void *p = take(h, &(struct request){.bytes = bytes, .room_bytes = bytes, .align = align}, &zero);
    if (h != NULL) {
        heap_leave(h);
    }
    return p;
}

void *heap_malloc_slow(size_t bytes, enum block_kind kind)
{
    bool served;
    void *hooked = hook_take(&(struct hook_take){.bytes = bytes, .align = BLOCK_ALIGN, .kind = kind}, &served);
    if (UNLIKELY(served)) {
        return hooked;
    }
    bool often = bytes > SMALL_LARGEST && bytes <= MEDIUM_LARGEST && option(OPT_fill) < 0;
    return often ? medium_malloc_often(bytes) : malloc_any(bytes);
}

void *heap_refill_malloc(struct heap *h, size_t bytes, enum block_kind kind, struct block *damaged)
{
    if (damaged != NULL) {
        fault_of_free_block(damaged);
    }
    store_relaxed(&heap_current, h); /* as it was before: heap_enter does the rest */
    return heap_malloc_slow(bytes, kind);
}

void *heap_calloc(size_t n, size_t item_bytes)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, item_bytes, &bytes)) {
        return OUT_OF_MEMORY;
    }
    bool zero = false;
    if (bytes > SMALL_LARGEST) {
        void *p = hook_take(&(struct hook_take){.bytes = bytes, .align = BLOCK_ALIGN, .zero = true}, &zero);
        if (zero) {
            return p;
        }
    }
    void *p = bytes <= SMALL_LARGEST ? heap_malloc(bytes)
                                     : allocate(&(struct request){.bytes = bytes, .room_bytes = bytes}, &zero);
    if (p != NULL && !zero) {
        memset(p, 0, bytes);
    }
    return p;
}

void *heap_aligned_as(enum block_kind kind, size_t align, size_t bytes)
{
    bool zero;
    void *hooked =
        hook_take(&(struct hook_take){.bytes = bytes, .align = size_max(align, BLOCK_ALIGN), .kind = kind}, &zero);
    if (UNLIKELY(zero)) {
        return hooked;
    }
    return fill_new(allocate(&(struct request){.bytes = bytes, .room_bytes = bytes, .align = align}, &zero), bytes);
}

size_t heap_malloc_batch(size_t bytes, void **out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        void *p = heap_malloc(bytes);
        if (p == NULL) {
            return i;
        }
        out[i] = p;
    }
    return n;
}

/* ---- giving back -------------------------------------------------------------------------------------------- */

static void give_small(struct heap *h, const struct place *place)
{
    struct slab *slab = (struct slab *)place->span;
    struct block *b = (struct block *)(void *)place->block;
    if (h == NULL || load_relaxed(&slab->owner) != h) {
        remote_free(h, slab, b);
        return;
    }
    struct bin *bin = &h->bins[load_relaxed(&slab->class)];
    bin_push(h, bin, b);
    if (bin->room < 0) {
        bin_sort(h, bin, -bin->room);
    }
}

static void give_medium(struct heap *h, const struct place *place)
{
    struct medium *m = (struct medium *)place->span;
    if (h == NULL || load_relaxed(&m->owner) != h) {
        remote_free_medium(m, place->index);
    } else {
        medium_free(h, m, place->index);
    }
}

/* A live block, already checked. */
static void give(const struct place *place)
{
    fill_freed(place);
    if (place->kind == PLACE_LARGE) {
        large_free((struct large *)place->span);
        return;
    }
    struct heap *h = heap_enter();
    if (place->kind == PLACE_SMALL) {
        give_small(h, place);
    } else {
        give_medium(h, place);
    }
    if (h != NULL) {
        heap_leave(h);
    }
}

/* The two kinds of block that come here often, without the general look at what the pointer is: a small block of
 * another heap, and a medium one of the thread's own. False: not one of these, or something is wrong with it. */
static bool free_often(void *p)
{
    struct heap *h = load_relaxed(&heap_current);
    uint32_t tag = map_tag(p);
    uint32_t c = map_tag_code(tag);
    bool is_block = map_tag_heap(tag) >= MAP_HEAP_FIRST && c < CLASS_COUNT;
    if (!is_block || h == HEAP_LENT || h == HEAP_CLOSED || h->filling) {
        return false;
    }
    if (c < SMALL_CLASSES) {
        struct slab *slab = slab_of(p);
        if (load_relaxed(&slab->owner) == h || !slab_has_block_at(slab, &h->bins[c], p)) {
            return false;
        }
        h = heap_enter();
        remote_free(h, slab, p);
    } else {
        struct medium *m = medium_of(p);
        unsigned index = medium_index(m, p);
        if (load_relaxed(&m->owner) != h || !medium_lives(m, p, index)) {
            return false;
        }
        h = heap_enter();
        medium_free(h, m, index);
    }
    heap_leave(h);
    return true;
}

/* A pointer that no fast way knew. */
static void free_found(void *p)
{
    struct place place = place_find(p);
    if (place.kind == PLACE_POOL) {
        pool_free(p);
    } else if (place_live(&place) && place.kind != PLACE_GUARD) {
        give(&place);
    } else {
        fault_of_pointer("invalid free", "double free", p);
    }
}

void heap_free_slow(void *p, enum block_kind kind, size_t said_bytes, size_t said_align)
{
    if (p == NULL || free_often(p)) {
        return;
    }
    const struct hooks *hooks = hooks_now();
    struct hook_give said = {.kind = kind, .bytes = said_bytes, .align = said_align};
    if (hooks == NULL || !hooks->give(p, &said)) {
        free_found(p);
    }
}

void heap_raw_free(void *block)
{
    if (!free_often(block)) {
        free_found(block);
    }
}

/* Could the block have been asked for with that size? A block that shrank to its half stays in its class. */
static bool size_fits(const struct place *place, size_t align, size_t bytes)
{
    if (bytes > place->bytes || (uintptr_t)place->block % align != 0) {
        return false;
    }
    if (place->kind == PLACE_LARGE) {
        return round_up(size_max(bytes, 1), os_page_bytes()) == place->bytes;
    }
    unsigned c = bytes > MEDIUM_LARGEST || align > MEDIUM_LARGEST ? CLASS_COUNT : class_aligned(bytes, align);
    return bytes >= place->bytes / 2 || (c < CLASS_COUNT && heap_class_size(c) == place->bytes);
}

void heap_free_aligned_sized(void *p, size_t align, size_t bytes)
{
    if (p == NULL) {
        return;
    }
    const struct hooks *hooks = hooks_now();
    struct place place = place_find(p);
    if (hooks != NULL && (hooks->all || place.kind == PLACE_GUARD)) {
        heap_free_slow(p, KIND_MALLOC, bytes, align);
        return;
    }
    if (place_live(&place) && !(is_power_of_two(align) && size_fits(&place, size_max(align, BLOCK_ALIGN), bytes))) {
        fault_of_pointer("wrong size", "wrong size", p);
        return;
    }
    heap_free(p);
}

void heap_free_sized(void *p, size_t bytes)
{
    heap_free_aligned_sized(p, BLOCK_ALIGN, bytes);
}

/* ---- live blocks -------------------------------------------------------------------------------------------- */

/* What is asked most, without the general look at what the pointer is: of a small live block. 0: none, or not sure. */
static size_t small_usable(const void *p)
{
    struct heap *h = load_relaxed(&heap_current);
    uint32_t tag = map_tag(p);
    uint32_t c = map_tag_code(tag);
    if (c >= SMALL_CLASSES || map_tag_heap(tag) < MAP_HEAP_FIRST || h == HEAP_LENT || h == HEAP_CLOSED) {
        return 0;
    }
    const struct bin *bin = &h->bins[c];
    uintptr_t key = h->secret ^ (uintptr_t)p;
    bool lives =
        slab_has_block_at(slab_of(p), bin, p) && (load_relaxed(&((const struct block *)p)->sum) ^ key) >> 48 != 0;
    return lives ? bin->size : 0;
}

/* False: not a live block. A pool's block is for the pool to look at. */
static bool find_live(const void *p, struct place *place)
{
    size_t bytes = small_usable(p);
    if (bytes != 0) {
        *place = (struct place){.kind = PLACE_SMALL, .block = ptr_add(p, 0), .bytes = bytes};
        return true;
    }
    *place = place_find(p);
    return place->kind == PLACE_POOL || place_live(place);
}

size_t heap_usable(const void *p)
{
    if (p == NULL) {
        return 0;
    }
    const struct hooks *hooks = hooks_now();
    size_t answer = hooks != NULL && hooks->all ? 0 : small_usable(p); /* a block that is due lies in no slab */
    if (answer != 0 || (hooks != NULL && hooks->usable(p, &answer))) {
        return answer;
    }
    struct place place;
    if (!find_live(p, &place)) {
        fault_of_pointer("invalid usable size", "invalid usable size", p);
        return 0;
    }
    return place.kind == PLACE_POOL ? pool_usable(p, "invalid usable size") : place.bytes;
}

static bool expand(const struct place *place, size_t bytes)
{
    if (bytes <= place->bytes) {
        return true;
    }
    return place->kind == PLACE_LARGE && large_resize((struct large *)place->span, bytes);
}

bool heap_try_expand(void *p, size_t bytes)
{
    size_t usable;
    const struct hooks *hooks = hooks_now();
    if (hooks != NULL && hooks->usable(p, &usable)) {
        return bytes <= usable;
    }
    struct place place;
    if (!find_live(p, &place)) {
        fault_of_pointer("invalid expand", "invalid expand", p);
        return false;
    }
    return place.kind == PLACE_POOL ? bytes <= pool_usable(p, "invalid expand") : expand(&place, bytes);
}

/* A block that keeps at least half of its use stays where it is. */
static bool stays(const struct place *place, size_t bytes)
{
    if (place->kind == PLACE_LARGE) {
        return bytes > MEDIUM_LARGEST && large_resize((struct large *)place->span, bytes);
    }
    return bytes <= place->bytes && bytes >= place->bytes / 2;
}

/* A large block that grows will grow again: an eighth of address space more costs no memory until it is touched. */
static size_t room_for(const struct place *place, size_t bytes)
{
    bool grows = place->bytes > MEDIUM_LARGEST && bytes > place->bytes;
    return grows && bytes <= PTRDIFF_MAX / 2 ? bytes + size_max(bytes / 8, place->bytes / 4) : bytes;
}

static void *move(const struct place *place, size_t bytes)
{
    if (place->kind == PLACE_LARGE && bytes > MEDIUM_LARGEST) {
        void *moved = large_remap((struct large *)place->span, bytes);
        if (moved != NULL) {
            return moved;
        }
    }
    bool zero;
    void *p = allocate(&(struct request){.bytes = bytes, .room_bytes = room_for(place, bytes)}, &zero);
    if (fill_new(p, bytes) != NULL) {
        memcpy(p, place->block, size_min(bytes, place->bytes));
        heap_free(place->block);
    }
    return p;
}

void *heap_realloc(void *p, size_t bytes)
{
    if (p == NULL) {
        return heap_malloc(bytes);
    }
    void *answer;
    const struct hooks *hooks = hooks_now();
    if (hooks != NULL && hooks->resize(p, bytes, &answer)) {
        return answer;
    }
    if (bytes > PTRDIFF_MAX) {
        return OUT_OF_MEMORY;
    }
    struct place place;
    if (!find_live(p, &place)) {
        fault_of_pointer("invalid realloc", "double free", p);
        errno = EINVAL;
        return NULL;
    }
    if (bytes == 0 && option(OPT_realloc_zero) == REALLOC_ZERO_FREE) {
        heap_free(p);
        return NULL;
    }
    if (place.kind == PLACE_POOL) {
        place.bytes = pool_usable(p, "invalid realloc");
        place.block = p;
        if (place.bytes == 0) {
            errno = EINVAL;
            return NULL;
        }
    }
    return stays(&place, bytes) ? p : move(&place, bytes);
}

/* ---- giving back -------------------------------------------------------------------------------------------- */

#define TICK_MS 64

void heap_tick(struct heap *h, uint64_t now_ms)
{
    uint32_t now = (uint32_t)now_ms;
    if (now - h->tick_ms < TICK_MS) {
        return;
    }
    uint32_t last = h->tick_ms;
    h->tick_ms = now;
    heap_follow_fill(h);
    bin_unlearn(h, now);
    medium_date(h, last);
    medium_unlearn(h);
    medium_purge(h, now - (uint32_t)option(OPT_purge_age));
    outbox_flush(h);
    span_tick(now_ms);
}

static void flush(struct heap *h)
{
    outbox_flush(h);
    inbox_collect(h, /* into_bins */ false);
    for (unsigned c = 0; c < SMALL_CLASSES; c++) {
        sorted_collect(h, c);
    }
    slabs_flush(h);
    medium_collect(h);
    medium_flush(h);
}

void heap_thread_flush(void)
{
    struct heap *h = heap_enter();
    if (h != NULL) {
        flush(h);
        heap_leave(h);
    }
}

/* How many bytes went back. */
static size_t empty_thread(void)
{
    struct heap *h = heap_enter();
    if (h == NULL) {
        return 0;
    }
    flush(h);
    size_t bytes = slabs_purge(h) + medium_purge(h, (uint32_t)os_now_ms());
    heap_leave(h);
    return bytes;
}

void heap_thread_idle(void)
{
    empty_thread();
    span_trim((size_t)option(OPT_purge_cap));
}

size_t heap_trim(size_t keep_bytes)
{
    size_t bytes = empty_thread();
    return bytes + pool_trim(&pool_of_heap) + span_trim(keep_bytes);
}
