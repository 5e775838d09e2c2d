/* SPDX-License-Identifier: MIT */
/* slab.c - small blocks: bins, the slabs they are filled from, and the way back.
 *
 *     bin.head -> newest ... oldest            a thread's free blocks of one class, of any of its slabs
 *     bin.partial -> slab -> slab              slabs with blocks in their own list
 *     bin.fresh_begin, fresh_bytes             the uncut space of the one slab that is being carved
 *
 * 1 Refill     the bin is empty: it takes the list of a partial slab, whole; else what others sorted; else it carves.
 * 2 Sort       the bin has passed its limit: its newest blocks, still in the cache, go back to their slabs' lists.
 * 3 Release    all blocks of a slab are back: its granule leaves the heap.
 * 4 Learn      a refill found blocks that were sorted a moment ago: the limit was too low, and doubles. When that stops
 *              it shrinks again. All limits of a heap together stay within option bin_bytes.
 * 5 Purge      pages of a partial slab on which no live block lies go to the OS; their blocks leave the list (bare),
 *              and the slab's tag sends frees the slow way until the pages are carved again.
 */
#include "config/config.h"
#include "heap/heap_internal.h"
#include "os/os.h"

#define BIN_BYTES_FIRST (32 * KIB)
/* A longer list no longer fits the cache: its blocks are better taken slab by slab. */
#define BIN_BYTES_MOST MIB
#define BIN_BLOCKS_LEAST 8
#define CARVE_BYTES_LEAST 4096u
#define SORT_BATCH 256
#define LIVE_SHARE 8
#define LEARN_MS 50
#define UNLEARN_MS 250

static uint32_t slab_tag(const struct slab *slab)
{
    uint32_t code = load_relaxed(&slab->class) | (load_relaxed(&slab->bare_pages) != 0 ? CLASS_SPARSE : 0);
    return map_make_tag(load_relaxed(&slab->owner)->number, code);
}

/* ---- lists -------------------------------------------------------------------------------------------------- */

INLINE void block_link(const struct heap *h, struct block *b, struct block *next)
{
    store_relaxed(&b->link, (uintptr_t)next);
    store_relaxed(&b->sum, (uintptr_t)next ^ (uintptr_t)b ^ h->secret ^ FORM_OWN);
}

/* Where b leads; a damaged link is never followed. */
INLINE struct block *block_next(const struct heap *h, struct block *b)
{
    if (UNLIKELY(!block_reads(b, (uintptr_t)b ^ h->secret, FORM_OWN))) {
        fault_of_free_block(b);
    }
    return (struct block *)load_relaxed(&b->link);
}

void bin_push(struct heap *h, struct bin *bin, struct block *b)
{
    block_link(h, b, bin->head);
    bin->head = b;
    bin->room--;
}

static void partial_link(struct bin *bin, struct slab *slab)
{
    slab->span.prev = NULL;
    slab->span.next = (struct span *)bin->partial;
    if (bin->partial != NULL) {
        bin->partial->span.prev = &slab->span;
    }
    bin->partial = slab;
    slab->in_partial = 1;
}

static void partial_unlink(struct bin *bin, struct slab *slab)
{
    if (slab->span.next != NULL) {
        slab->span.next->prev = slab->span.prev;
    }
    if (slab->span.prev != NULL) {
        slab->span.prev->next = slab->span.next;
    } else {
        bin->partial = (struct slab *)slab->span.next;
    }
    slab->in_partial = 0;
}

/* The slab that the bin cuts blocks from; NULL when there is none. */
static struct slab *carved_slab(const struct bin *bin)
{
    return bin->fresh_bytes == 0 ? NULL : slab_of((const void *)bin->fresh_begin);
}

/* ---- bins --------------------------------------------------------------------------------------------------- */

static int32_t first_limit(size_t size)
{
    int64_t most = option(OPT_bin_limit);
    int64_t blocks = (int64_t)size_max(BIN_BYTES_FIRST / size, BIN_BLOCKS_LEAST);
    return (int32_t)(blocks < most ? blocks : most);
}

static void set_limit(struct bin *bin, int32_t limit)
{
    bin->room += limit - bin->limit;
    bin->limit = limit;
}

static void set_learned(struct heap *h, struct bin *bin, int32_t learned)
{
    h->learned_bytes += (size_t)(learned - bin->learned) * bin->size;
    bin->learned = learned;
}

void bin_init(struct heap *h, unsigned c)
{
    struct bin *bin = &h->bins[c];
    size_t size = heap_class_size(c);
    bin->size = (uint32_t)size;
    bin->magic = UINT32_MAX / bin->size + 1;
    bin->bias = (uint32_t)(GRANULE_BYTES % size) * bin->magic;
    set_learned(h, bin, first_limit(size));
    set_limit(bin, bin->learned);
}

/* A refill takes n blocks, some of which were sorted a moment ago. */
static void learn(struct heap *h, struct bin *bin, int32_t n, uint32_t now_ms)
{
    int32_t limit = bin->learned * 2 > n ? bin->learned * 2 : n;
    size_t more = (size_t)(limit - bin->learned) * bin->size;
    if ((size_t)limit * bin->size <= BIN_BYTES_MOST && h->learned_bytes + more <= (size_t)option(OPT_bin_bytes)) {
        set_learned(h, bin, limit);
        bin->learned_ms = now_ms;
    }
}

void bin_unlearn(struct heap *h, uint32_t now_ms)
{
    for (unsigned c = 0; c < SMALL_CLASSES; c++) {
        struct bin *bin = &h->bins[c];
        int32_t first = first_limit(bin->size);
        if (bin->learned > first && now_ms - bin->learned_ms > UNLEARN_MS) {
            set_learned(h, bin, bin->learned / 2 > first ? bin->learned / 2 : first);
            if (bin->limit > bin->learned) {
                set_limit(bin, bin->learned);
                bin_sort(h, bin, -bin->room);
            }
        }
    }
}

/* ---- slabs -------------------------------------------------------------------------------------------------- */

void slab_release(struct heap *h, struct slab *slab)
{
    struct bin *bin = &h->bins[load_relaxed(&slab->class)];
    if (slab->in_partial) {
        partial_unlink(bin, slab);
    }
    if (carved_slab(bin) == slab) {
        bin->fresh_bytes = 0;
    }
    bin->n_carved -= load_relaxed(&slab->n_carved);
    bin->n_listed -= load_relaxed(&slab->n_carved);
    map_set(slab->span.begin, 1, map_make_tag(MAP_HEAP_GONE, load_relaxed(&slab->class)));
    span_give(&slab->span, /* touched */ true);
}

static bool all_back(const struct slab *slab)
{
    return slab->n_free + slab->n_bare == load_relaxed(&slab->n_carved);
}

void slab_put(struct heap *h, struct block *b, uint32_t now_ms)
{
    struct slab *slab = slab_of(b);
    struct bin *bin = &h->bins[load_relaxed(&slab->class)];
    block_link(h, b, slab->list);
    slab->list = b;
    slab->n_free++;
    bin->n_listed++;
    slab->stamp_ms = now_ms;
    if (all_back(slab) && slab != carved_slab(bin)) {
        slab_release(h, slab);
    } else if (!slab->in_partial) {
        partial_link(bin, slab);
    }
}

static struct slab *slab_new(struct heap *h, unsigned c)
{
    struct slab *slab = (struct slab *)span_take(1, 1);
    if (slab == NULL) {
        return NULL;
    }
    size_t size = h->bins[c].size;
    store_relaxed(&slab->owner, h);
    store_relaxed(&slab->class, (uint8_t)c);
    slab->in_partial = 0;
    slab->n_free = 0;
    slab->n_bare = 0;
    store_relaxed(&slab->capacity, (uint16_t)(GRANULE_BYTES / size));
    slab->list = NULL;
    slab->in_sorted = 0;
    slab->n_sorted = 0;
    slab->sorted = NULL;
    store_relaxed(&slab->n_carved, 0);
    store_relaxed(&slab->bare_pages, 0);
    map_set(slab->span.begin, 1, slab_tag(slab));
    return slab;
}

/* Chains the n blocks from first on, by ascending address, in front of what the bin holds. */
static void chain_blocks(struct heap *h, struct bin *bin, char *first, size_t n)
{
    struct block *next = bin->head;
    for (size_t i = n; i-- > 0;) {
        struct block *b = (struct block *)(void *)(first + i * bin->size);
        block_link(h, b, next);
        next = b;
    }
    bin->head = next;
    bin->room -= (int32_t)n;
}

/* 1 Refill: cuts new blocks, at first a page of them, later as many as have been cut already. */
static bool carve(struct heap *h, unsigned c)
{
    struct bin *bin = &h->bins[c];
    struct slab *slab = carved_slab(bin);
    if (slab == NULL) {
        slab = slab_new(h, c);
        if (slab == NULL) {
            return false;
        }
    }
    size_t carved = load_relaxed(&slab->n_carved);
    size_t n = size_max(size_max(CARVE_BYTES_LEAST / bin->size, 1), carved / 2);
    n = size_min(n, load_relaxed(&slab->capacity) - carved);
    char *first = slab_first_block(slab, bin->size) + carved * bin->size;
    chain_blocks(h, bin, first, n);
    store_relaxed(&slab->n_carved, (uint16_t)(carved + n));
    bin->n_carved += (uint32_t)n;
    bin->fresh_begin = (uintptr_t)first + n * bin->size;
    bin->fresh_bytes = (uint32_t)((load_relaxed(&slab->capacity) - carved - n) * bin->size);
    return true;
}

/* ---- 5 purge ------------------------------------------------------------------------------------------------ */

static unsigned page_of(const struct slab *slab, const void *p)
{
    return (unsigned)(ptr_diff(p, slab->span.begin) / os_page_bytes());
}

static unsigned pages_a_slab(void)
{
    return (unsigned)(GRANULE_BYTES / os_page_bytes());
}

/* A bare page's blocks come back to the slab's list. */
static void page_carve(struct heap *h, struct slab *slab)
{
    unsigned bare = load_relaxed(&slab->bare_pages);
    unsigned page = bit_lowest(bare);
    size_t size = h->bins[load_relaxed(&slab->class)].size;
    char *first = slab_first_block(slab, size);
    size_t n = load_relaxed(&slab->n_carved);
    for (size_t i = n; i-- > 0;) {
        struct block *b = (struct block *)(void *)(first + i * size);
        if (page_of(slab, b) == page) {
            block_link(h, b, slab->list);
            slab->list = b;
            slab->n_free++;
            slab->n_bare--;
        }
    }
    bare &= bare - 1;
    store_relaxed(&slab->bare_pages, (uint16_t)bare);
    if (bare == 0) {
        map_set(slab->span.begin, 1, slab_tag(slab));
    }
}

/* A bit for each page that a block lies on which isn't in the slab's list. */
static unsigned pages_in_use(const struct heap *h, struct slab *slab)
{
    uint64_t listed[GRANULE_BYTES / BLOCK_ALIGN / 64] = {0};
    size_t size = h->bins[load_relaxed(&slab->class)].size;
    char *first = slab_first_block(slab, size);
    for (struct block *b = slab->list; b != NULL; b = block_next(h, b)) {
        size_t i = ptr_diff(b, first) / size;
        listed[i / 64] |= (uint64_t)1 << i % 64;
    }
    unsigned bare = load_relaxed(&slab->bare_pages);
    unsigned used = 0;
    for (size_t i = 0; i < load_relaxed(&slab->n_carved); i++) {
        char *b = first + i * size;
        bool is_free = (listed[i / 64] >> i % 64 & 1) != 0 || (bare >> page_of(slab, b) & 1) != 0;
        if (!is_free) {
            used |= (2u << page_of(slab, b + size - 1)) - (1u << page_of(slab, b));
        }
    }
    return used;
}

/* Takes the blocks that begin on these pages out of the list. The pages where that was so are bare now; one that lies
 * within a block has nothing to tell. */
static unsigned drop_pages(struct heap *h, struct slab *slab, unsigned pages)
{
    unsigned bare = 0;
    struct block *kept = NULL;
    struct block *b = slab->list;
    slab->list = NULL;
    while (b != NULL) {
        struct block *next = block_next(h, b);
        if ((pages >> page_of(slab, b) & 1) != 0) {
            slab->n_free--;
            slab->n_bare++;
            bare |= 1u << page_of(slab, b);
        } else {
            block_link(h, b, kept);
            kept = b;
        }
        b = next;
    }
    slab->list = kept;
    return bare;
}

static size_t slab_purge(struct heap *h, struct slab *slab)
{
    unsigned all = (unsigned)((1ull << pages_a_slab()) - 1);
    unsigned bare = load_relaxed(&slab->bare_pages);
    unsigned pages = all & ~pages_in_use(h, slab) & ~bare;
    /* What is being carved stays: the border between cut and uncut blocks runs through it. */
    if (pages == 0 || slab == carved_slab(&h->bins[load_relaxed(&slab->class)])) {
        return 0;
    }
    unsigned dropped = drop_pages(h, slab, pages);
    store_relaxed(&slab->bare_pages, (uint16_t)(bare | dropped));
    map_set(slab->span.begin, 1, slab_tag(slab));
    size_t page = os_page_bytes();
    for (unsigned i = 0; i < pages_a_slab(); i++) {
        if ((pages >> i & 1) != 0) {
            unsigned run = bit_lowest(~((uint64_t)pages >> i));
            os_purge(slab->span.begin + i * page, run * page, /* lazy */ false);
            i += run;
        }
    }
    /* Pages within free blocks are given back each time, for nothing tells whether they were used since. */
    return dropped == 0 ? 0 : bit_count(pages) * page;
}

size_t slabs_purge(struct heap *h)
{
    size_t bytes = 0;
    for (unsigned c = 0; c < SMALL_CLASSES; c++) {
        for (struct slab *slab = h->bins[c].partial; slab != NULL; slab = (struct slab *)slab->span.next) {
            bytes += slab_purge(h, slab);
        }
    }
    return bytes;
}

/* ---- 1 refill ----------------------------------------------------------------------------------------------- */

static void take_list(struct heap *h, struct bin *bin, struct slab *slab)
{
    if (slab->list == NULL) {
        page_carve(h, slab);
    }
    ASSERT(bin->head == NULL);
    bin->head = slab->list;
    bin->room = bin->limit - slab->n_free;
    bin->n_listed -= slab->n_free;
    slab->list = NULL;
    slab->n_free = 0;
    if (slab->n_bare == 0) {
        partial_unlink(bin, slab);
    }
}

bool bin_refill(struct heap *h, unsigned c)
{
    struct bin *bin = &h->bins[c];
    uint64_t now = os_now_ms();
    heap_tick(h, now);
    store_relaxed(&h->looked_ms, (uint32_t)now);
    if (inbox_collect(h, /* into_bins */ true) && bin->head != NULL) {
        return true;
    }
    if (bin->partial == NULL && load_relaxed(&h->n_sorted) != 0) {
        sorted_collect(h, c);
    }
    struct slab *slab = bin->partial;
    if (slab != NULL && (uint32_t)now - slab->stamp_ms < LEARN_MS) {
        learn(h, bin, slab->n_free, (uint32_t)now);
    }
    set_limit(bin, bin->learned);
    if (slab == NULL) {
        return carve(h, c);
    }
    take_list(h, bin, slab);
    return true;
}

/* ---- 2 sort ------------------------------------------------------------------------------------------------- */

void bin_sort(struct heap *h, struct bin *bin, int32_t n)
{
    uint32_t now = (uint32_t)os_now_ms();
    for (; n > 0 && bin->head != NULL; n--) {
        struct block *b = bin->head;
        bin->head = block_next(h, b);
        bin->room++;
        slab_put(h, b, now);
    }
}

/* What a bin holds back keeps slabs from leaving: it may be no more than a share of what is live. So when everything is
 * freed, nothing stays. A bin that fills and empties in turns doesn't come here: its limit is above its swing. */
static void follow_live(struct heap *h, struct bin *bin)
{
    _Atomic uint32_t *left = &h->n_left[bin - h->bins];
    if (load_relaxed(left) != 0) {
        bin->n_carved -= xchg_relaxed(left, 0); /* relaxed: a number alone */
    }
    int32_t live = (int32_t)(bin->n_carved - bin->n_listed) - bin_count(bin);
    int32_t limit = live / LIVE_SHARE;
    if (limit >= bin->limit) {
        return;
    }
    set_limit(bin, limit);
    bin_sort(h, bin, -bin->room);
    struct slab *carved = carved_slab(bin);
    if (live == 0 && carved != NULL && all_back(carved)) {
        slab_release(h, carved);
    }
}

void heap_sort_bin(struct heap *h, struct bin *bin)
{
    h->in_slow = true;
    bin_sort(h, bin, SORT_BATCH);
    follow_live(h, bin);
    heap_tick(h, os_now_ms());
    heap_leave(h);
}

void slabs_flush(struct heap *h)
{
    for (unsigned c = 0; c < SMALL_CLASSES; c++) {
        struct bin *bin = &h->bins[c];
        bin_sort(h, bin, bin_count(bin));
        struct slab *carved = carved_slab(bin);
        if (carved != NULL && all_back(carved)) {
            slab_release(h, carved);
        }
    }
}

/* ---- after an interrupted slow path ------------------------------------------------------------------------- */

static void slab_rebuild(struct heap *h, struct slab *slab)
{
    struct bin *bin = &h->bins[load_relaxed(&slab->class)];
    char *first = slab_first_block(slab, bin->size);
    slab->list = NULL;
    slab->n_free = 0;
    slab->n_bare = 0;
    slab->in_partial = 0;
    for (size_t i = load_relaxed(&slab->n_carved); i-- > 0;) {
        struct block *b = (struct block *)(void *)(first + i * bin->size);
        if ((load_relaxed(&slab->bare_pages) >> page_of(slab, b) & 1) != 0) {
            slab->n_bare++;
        } else if (block_has_form(b, FORM_OWN)) {
            block_link(h, b, slab->list);
            slab->list = b;
            slab->n_free++;
        }
    }
    bin->n_carved += load_relaxed(&slab->n_carved);
    bin->n_listed += (uint32_t)(slab->n_free + slab->n_bare);
    uint32_t n_uncut = (uint32_t)(load_relaxed(&slab->capacity) - load_relaxed(&slab->n_carved));
    if (n_uncut != 0 && load_relaxed(&slab->n_carved) != 0) { /* the one that was being carved */
        bin->fresh_begin = (uintptr_t)first + load_relaxed(&slab->n_carved) * bin->size;
        bin->fresh_bytes = n_uncut * bin->size;
    }
    if (all_back(slab)) {
        slab_release(h, slab);
    } else if (slab->n_free + slab->n_bare > 0) {
        partial_link(bin, slab);
    }
}

static int rebuild_granules(void *begin, size_t n, void *context)
{
    struct heap *h = context;
    for (size_t i = 0; i < n; i++) {
        char *granule = (char *)begin + (i << GRANULE_SHIFT);
        uint32_t tag = map_tag(granule);
        if (map_tag_heap(tag) == h->number && (map_tag_code(tag) & ~CLASS_SPARSE) < SMALL_CLASSES) {
            slab_rebuild(h, slab_of(granule));
        }
    }
    return 0;
}

void slabs_rebuild(struct heap *h)
{
    for (unsigned c = 0; c < SMALL_CLASSES; c++) {
        struct bin *bin = &h->bins[c];
        bin->head = NULL;
        bin->room = bin->limit;
        bin->partial = NULL;
        bin->fresh_bytes = 0;
        bin->n_carved = 0;
        bin->n_listed = 0;
        store_relaxed(&h->n_left[c], 0); /* who would add to it needs the lock, which the caller has */
    }
    span_each_area(rebuild_granules, h);
}
