/* SPDX-License-Identifier: MIT */
/* remote.c - blocks freed by a thread that does not own their slab.
 *
 *     free(p) by B                      B's outbox is full                    malloc by A, the owner
 *     mark p (outbox)             -->   chain, one compare-and-swap    -->    one exchange takes the inbox
 *     outbox[A] = p, ...                A.inbox -> p3 -> p2 -> p1 (sent)    bins, or slabs' lists (own)
 *
 * 1 Mark       word 1, so that a second free is found from now on.
 * 2 Send       a batch at a time. From a handler or a closed thread: alone, without the outbox.
 * 3 Collect    by the owner where its bin is empty; by the sender when the heap is idle.
 * 4 Sort       when the owner doesn't come and the inbox grows, a sender sorts it to the slabs' sorted lists. A slab
 *              all of whose capacity is there has no block in any list of its owner, nor is it in one: it leaves at
 *              once.
 *
 * Orders.  O12  inbox: the sender's release pairs with the exchange/acquire in collect and sort: links are read as
 *               written. All is taken at once, so there is no ABA.
 *          O13  medium.remote: or/acq_rel pairs with the owner's exchange/acquire: what the freeing thread wrote to the
 *               block happened before it is handed out again. medium_inbox as O12.
 *          O14  sort_lock: release pairs with acquire.
 */
#include "config/config.h"
#include "heap/heap_internal.h"
#include "os/os.h"

#define OUTBOX_BYTES (32 * KIB)
/* An owner is away when it hasn't looked for so long while so much gathered, or when far more did. */
#define INBOX_AWAY_BYTES (64 * KIB)
#define INBOX_AWAY_MS 100
#define INBOX_MOST_BYTES (4 * MIB)

static uintptr_t key_of(const struct block *b)
{
    return (uintptr_t)b ^ heap_secret();
}

/* ---- 4 sort ------------------------------------------------------------------------------------------------- */

bool sort_lock_try(struct heap *h)
{
    uintptr_t open = 0;
    uintptr_t mark = (uintptr_t)&heap_current;
    return load_relaxed(&h->sort_lock) == 0 && cas_acquire(&h->sort_lock, &open, mark); /* O14 */
}

bool sort_lock_is_own(struct heap *h)
{
    return load_relaxed(&h->sort_lock) == (uintptr_t)&heap_current;
}

void sort_unlock(struct heap *h)
{
    store_seq_cst(&h->sort_lock, 0); /* O14, O22 */
}

/* By one who isn't the owner: a heap that became idle meanwhile could not be served without the lock. */
static void unlock_for_others(struct heap *owner)
{
    sort_unlock(owner);
    if (load_seq_cst(&owner->state) == HEAP_IDLE) { /* O22 */
        heap_serve_idle(owner);
    }
}

static void block_send(struct block *b, uintptr_t next)
{
    store_relaxed(&b->link, next);
    store_relaxed(&b->sum, next ^ key_of(b) ^ FORM_SENT);
}

static struct block *sent_next(struct block *b)
{
    if (UNLIKELY(!block_has_form(b, FORM_SENT))) {
        fault_of_free_block(b);
    }
    return (struct block *)load_relaxed(&b->link);
}

static void sorted_link(struct heap *owner, struct slab *slab)
{
    struct slab **head = &owner->sorted[load_relaxed(&slab->class)];
    slab->sorted_prev = NULL;
    slab->sorted_next = *head;
    if (*head != NULL) {
        (*head)->sorted_prev = slab;
    }
    *head = slab;
    slab->in_sorted = 1;
    add_relaxed(&owner->n_sorted, 1);
}

static void sorted_unlink(struct heap *owner, struct slab *slab)
{
    if (slab->sorted_next != NULL) {
        slab->sorted_next->sorted_prev = slab->sorted_prev;
    }
    *(slab->sorted_prev != NULL ? &slab->sorted_prev->sorted_next : &owner->sorted[load_relaxed(&slab->class)]) =
        slab->sorted_next;
    slab->in_sorted = 0;
    sub_relaxed(&owner->n_sorted, 1);
}

static void sort_block(struct heap *owner, struct block *b)
{
    struct slab *slab = slab_of(b);
    block_send(b, (uintptr_t)slab->sorted);
    signal_fence(); /* in this order: sorted_rebuild walks the list */
    slab->sorted = b;
    slab->n_sorted++;
    if (slab->n_sorted < load_relaxed(&slab->capacity)) {
        if (!slab->in_sorted) {
            sorted_link(owner, slab);
        }
        return;
    }
    if (slab->in_sorted) {
        sorted_unlink(owner, slab);
    }
    add_relaxed(&owner->n_left[load_relaxed(&slab->class)], load_relaxed(&slab->capacity)); /* the owner counts it off */
    map_set(slab->span.begin, 1, map_make_tag(MAP_HEAP_GONE, load_relaxed(&slab->class)));
    span_give(&slab->span, /* touched */ true);
}

static int sorted_rebuild_granules(void *begin, size_t n, void *context)
{
    struct heap *h = context;
    for (size_t i = 0; i < n; i++) {
        char *granule = (char *)begin + (i << GRANULE_SHIFT);
        uint32_t tag = map_tag(granule);
        if (map_tag_heap(tag) != h->number || (map_tag_code(tag) & ~CLASS_SPARSE) >= SMALL_CLASSES) {
            continue;
        }
        struct slab *slab = slab_of(granule);
        slab->in_sorted = 0;
        slab->n_sorted = 0;
        for (struct block *b = slab->sorted; b != NULL; b = sent_next(b)) {
            slab->n_sorted++;
        }
        if (slab->n_sorted != 0) {
            sorted_link(h, slab);
        }
    }
    return 0;
}

void sorted_rebuild(struct heap *h)
{
    store_relaxed(&h->n_sorted, 0);
    for (unsigned c = 0; c < SMALL_CLASSES; c++) {
        h->sorted[c] = NULL;
    }
    span_each_area(sorted_rebuild_granules, h);
    sort_unlock(h);
}

static void sort_inbox(struct heap *owner)
{
    if (!sort_lock_try(owner)) {
        return;
    }
    store_relaxed(&owner->inbox_bytes, 0);
    struct block *b = xchg_acquire(&owner->inbox, NULL); /* O12 */
    while (b != NULL && block_has_form(b, FORM_SENT)) {
        struct block *next = sent_next(b);
        sort_block(owner, b);
        b = next;
    }
    unlock_for_others(owner);
    if (UNLIKELY(b != NULL)) {
        fault_of_free_block(b); /* no lock is held while the program's handler is asked */
    }
}

/* A slab's sorted blocks, in the form that is sent; NULL when there are none, or the lock is busy. */
static struct block *sorted_take(struct heap *h, unsigned c)
{
    if (!sort_lock_try(h)) {
        return NULL;
    }
    struct slab *slab = h->sorted[c];
    struct block *list = NULL;
    if (slab != NULL) {
        sorted_unlink(h, slab);
        list = slab->sorted;
        slab->sorted = NULL;
        slab->n_sorted = 0;
    }
    sort_unlock(h);
    return list;
}

void sorted_collect(struct heap *h, unsigned c)
{
    uint32_t now = (uint32_t)os_now_ms();
    struct block *b;
    while ((b = sorted_take(h, c)) != NULL) {
        while (b != NULL) {
            struct block *next = sent_next(b);
            slab_put(h, b, now);
            b = next;
        }
    }
}

/* ---- 3 collect ---------------------------------------------------------------------------------------------- */

bool inbox_collect(struct heap *h, bool into_bins)
{
    if (load_relaxed(&h->inbox) == NULL) {
        return false;
    }
    store_relaxed(&h->inbox_bytes, 0);
    struct block *b = xchg_acquire(&h->inbox, NULL); /* O12 */
    uint32_t now = (uint32_t)os_now_ms();
    store_relaxed(&h->away, false);
    while (b != NULL) {
        struct block *next = sent_next(b);
        struct bin *bin = &h->bins[map_tag_code(map_tag(b)) & ~CLASS_SPARSE];
        if (into_bins && bin->room > 0) {
            bin_push(h, bin, b);
        } else {
            slab_put(h, b, now);
        }
        b = next;
    }
    return true;
}

/* ---- 2 send ------------------------------------------------------------------------------------------------- */

static bool owner_is_away(struct heap *owner, size_t waiting)
{
    if (load_relaxed(&owner->away)) {
        return true;
    }
    if (waiting < INBOX_MOST_BYTES && (uint32_t)os_now_ms() - load_relaxed(&owner->looked_ms) < INBOX_AWAY_MS) {
        return false;
    }
    store_relaxed(&owner->away, true);
    return true;
}

/* The chain's links but the last are set. */
static void send(struct heap *owner, struct block *first, struct block *last, size_t bytes)
{
    struct block *head = load_relaxed(&owner->inbox);
    do {
        block_send(last, (uintptr_t)head);
    } while (!cas_weak_seq_cst(&owner->inbox, &head, first)); /* O12, O22 */
    size_t waiting = add_relaxed(&owner->inbox_bytes, bytes) + bytes;
    if (load_seq_cst(&owner->state) == HEAP_IDLE) { /* O22 */
        heap_serve_idle(owner);
    } else if (waiting > INBOX_AWAY_BYTES && owner_is_away(owner, waiting)) {
        sort_inbox(owner);
    }
}

static void slot_flush(struct outbox_slot *slot)
{
    uint32_t n = slot->n;
    if (n == 0) {
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        struct block *b = slot->blocks[i];
        if (UNLIKELY(!block_has_form(b, FORM_OUTBOX))) {
            fault_of_free_block(b);
        }
        if (i + 1 < n) {
            block_send(b, (uintptr_t)slot->blocks[i + 1]);
        }
    }
    slot->n = 0;
    send(slot->owner, slot->blocks[0], slot->blocks[n - 1], slot->bytes);
    slot->bytes = 0;
}

void outbox_flush(struct heap *h)
{
    for (unsigned i = 0; i < OUTBOX_SLOTS; i++) {
        slot_flush(&h->outbox[i]);
    }
}

/* A flush that was left half done has given some blocks their next form, and sent none of them. */
void outbox_rebuild(struct heap *h)
{
    for (unsigned i = 0; i < OUTBOX_SLOTS; i++) {
        struct outbox_slot *slot = &h->outbox[i];
        uint32_t n = 0;
        for (uint32_t k = 0; k < slot->n; k++) {
            struct block *b = slot->blocks[k];
            if (b != NULL && (block_has_form(b, FORM_OUTBOX) || block_has_form(b, FORM_SENT))) {
                store_relaxed(&b->sum, key_of(b) ^ FORM_OUTBOX);
                slot->blocks[n++] = b;
            }
        }
        slot->n = n;
    }
}

static void outbox_add(struct heap *h, struct heap *owner, struct block *b, size_t bytes)
{
    struct outbox_slot *slot = &h->outbox[owner->number % OUTBOX_SLOTS];
    if (slot->owner != owner) {
        slot_flush(slot);
        slot->owner = owner;
    }
    slot->blocks[slot->n] = b;
    signal_fence(); /* in this order: outbox_rebuild takes the first n for blocks that wait */
    slot->n++;
    slot->bytes += (uint32_t)bytes;
    if (slot->n >= (uint32_t)option(OPT_remote_batch) || slot->bytes >= OUTBOX_BYTES) {
        slot_flush(slot);
    }
}

/* ---- 1 mark ------------------------------------------------------------------------------------------------- */

/* False when the block was free already: then it is as it was.
 *
 * A load and a store, not an exchange: that would wait until what the caller wrote to the block has reached the cache,
 * at twice the cost of all the rest (decision 0004). Of two threads that free a block in the same few nanoseconds, both
 * may come through; the block then is in two chains, and the owner finds the second one in the wrong form before it
 * follows it. */
static bool mark(struct block *b)
{
    uintptr_t key = key_of(b);
    uintptr_t old = load_relaxed(&b->sum) ^ key;
    if (UNLIKELY(old >> 48 == 0)) {
        uintptr_t form = old ^ load_relaxed(&b->link);
        if (old == FORM_OUTBOX || form == FORM_OWN || form == FORM_SENT) {
            return false;
        }
    }
    store_relaxed(&b->sum, key ^ FORM_OUTBOX);
    return true;
}

void remote_free(struct heap *h, struct slab *slab, struct block *b)
{
    struct heap *owner = load_relaxed(&slab->owner);
    if (UNLIKELY(!mark(b))) {
        fault_of_pointer("double free", "double free", b);
        return;
    }
    if (LIKELY(h != NULL)) {
        outbox_add(h, owner, b, h->bins[load_relaxed(&slab->class)].size);
    } else {
        send(owner, b, b, heap_class_size(load_relaxed(&slab->class)));
    }
}

/* ---- medium slabs ------------------------------------------------------------------------------------------- */

/* Sets a bit of remote, and sends the slab if it is the first; what was set before. With it set, the slab may leave. */
static uint64_t remote_set(struct heap *owner, struct medium *m, uint64_t bit)
{
    uint64_t old = or_acq_rel(&m->remote, bit); /* O13 */
    if (old == 0) {
        struct medium *head = load_relaxed(&owner->medium_inbox);
        do {
            m->remote_next = head;
        } while (!cas_weak_seq_cst(&owner->medium_inbox, &head, m)); /* O13, O22 */
    }
    return old;
}

/* Nobody uses any block, and the owner is away: the pages need not wait for it. By now the slab may have left and be
 * another heap's, or its descriptor another kind's, of which none has such a number there. One block taken back, as if
 * it had not been freed yet, keeps it where it is. */
static void purge_unused(struct medium *m, uint64_t bit, uint64_t all)
{
    uint64_t expected = all;
    if (!cas_acq_rel(&m->remote, &expected, all & ~bit)) { /* O13 */
        return;
    }
    struct heap *owner = load_relaxed(&m->owner);
    if (sort_lock_try(owner)) {
        /* The owner takes the bits under the same lock, so the other blocks stay free while it is held.
         * O13 acquire: what was written to them lies before the purge. */
        if (load_acquire(&m->remote) == (all & ~bit) && !m->remote_purged) {
            m->remote_purged = os_purge(m->span.begin, span_bytes(&m->span), /* lazy */ false) == 0;
        }
        unlock_for_others(owner);
    }
    remote_set(owner, m, bit);
    if (load_seq_cst(&owner->state) == HEAP_IDLE) { /* O22 */
        heap_serve_idle(owner);
    }
}

void remote_free_medium(struct medium *m, unsigned index)
{
    struct heap *owner = load_relaxed(&m->owner);
    uint64_t bit = (uint64_t)1 << index;
    unsigned capacity = load_relaxed(&m->capacity); /* read first: with our bit set, the slab may leave */
    uint64_t old = remote_set(owner, m, bit);
    if (UNLIKELY((old & bit) != 0)) {
        fault_of_pointer("double free", "double free", m->span.begin + (size_t)index * load_relaxed(&m->block_bytes));
        return;
    }
    if (load_seq_cst(&owner->state) == HEAP_IDLE) { /* O22 */
        heap_serve_idle(owner);
    } else if (bit_count(old | bit) == capacity) {
        purge_unused(m, bit, old | bit);
    }
}
