/* SPDX-License-Identifier: MIT */
/* remote.c - blocks freed by a thread that does not own their slab.
 *
 *     free(p) by B                      B's outbox is full                    malloc by A, the owner
 *     mark p (outbox)             -->   chain, one compare-and-swap    -->    one compare-and-swap takes the inbox
 *     outbox[A] = p, ...                A.inbox -> p3 -> p2 -> p1 (sent)    bins, or slabs' lists (own)
 *
 * 1 Mark       word 1, so that a second free is found from now on.
 * 2 Send       a batch at a time. From a handler or a closed thread: alone, without the outbox.
 * 3 Collect    by the owner where its bin is empty; by the sender when the heap is idle.
 * 4 Sort       when the owner doesn't come and the inbox grows, a sender sorts it to the slabs' sorted lists. A slab
 *              all of whose capacity is there has no block in any list of its owner, nor is it in one: it leaves at
 *              once.
 *
 * Two frees of one block at the same instant: the block has one form at a time, each list one of its own, and who takes
 * a block out of a list asks for that first and gives it another. So a block that is in two lists, or twice in one, is
 * found when it comes up the second time, and no list is followed in a circle.
 *
 * A call may be left for good at any instruction. What it has taken and put nowhere yet stands in the heap (collecting,
 * sorting), for whoever puts things right.
 *
 * Orders.  O12  inbox: the sender's release pairs with the exchange/acquire in collect and sort: links are read as
 *               written. All is taken at once, so there is no ABA.
 *          O13  medium.remote: or/acq_rel pairs with the owner's load/acquire: what the freeing thread wrote to the
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

static void block_set(struct block *b, uintptr_t next, uintptr_t form)
{
    store_relaxed(&b->link, next);
    store_relaxed(&b->sum, next ^ key_of(b) ^ form);
}

static struct block *next_of(const struct block *b)
{
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

/* A block that was counted twice, while another one is live: such a list has a circle, or a block of another form,
 * which is the answer. NULL: every block of the slab is in its list. */
static struct block *sorted_fault(const struct slab *slab)
{
    struct block *b = slab->sorted;
    for (unsigned n = load_relaxed(&slab->capacity); n > 0 && b != NULL; n--) {
        if (!block_has_form(b, FORM_SORTED)) {
            return b;
        }
        b = next_of(b);
    }
    return b;
}

static void slab_detach(struct heap *owner, struct slab *slab)
{
    if (slab->in_sorted) {
        sorted_unlink(owner, slab);
    }
    add_relaxed(&owner->n_left[load_relaxed(&slab->class)],
                load_relaxed(&slab->capacity)); /* the owner counts it off */
    map_set(slab->span.begin, 1, map_make_tag(MAP_HEAP_GONE, load_relaxed(&slab->class)));
    span_give(&slab->span, /* touched */ true);
}

/* The block that something is wrong with, or NULL. */
static struct block *sort_block(struct heap *owner, struct block *b)
{
    struct slab *slab = slab_of(b);
    block_set(b, (uintptr_t)slab->sorted, FORM_SORTED);
    signal_fence(); /* in this order: sorted_rebuild walks the list */
    slab->sorted = b;
    slab->n_sorted++;
    if (slab->n_sorted >= load_relaxed(&slab->capacity)) {
        struct block *fault = sorted_fault(slab);
        if (fault == NULL) {
            slab_detach(owner, slab);
        }
        return fault;
    }
    if (!slab->in_sorted) {
        sorted_link(owner, slab);
    }
    return NULL;
}

/* What stands in owner.sorting. The block that something is wrong with, or NULL. */
static struct block *sort_all(struct heap *owner)
{
    struct block *b;
    struct block *fault = NULL;
    while (fault == NULL && (b = owner->sorting) != NULL) {
        if (!block_has_form(b, FORM_SENT)) {
            return b;
        }
        owner->sorting = next_of(b);
        signal_fence(); /* in this order: a block that is left half done is not sorted twice */
        fault = sort_block(owner, b);
    }
    return fault;
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
        for (struct block *b = slab->sorted; b != NULL && slab->n_sorted < load_relaxed(&slab->capacity);
             b = next_of(b)) {
            if (!block_has_form(b, FORM_SORTED)) {
                fault_of_free_block(b);
            }
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
    struct block *fault = sort_all(h);
    sort_unlock(h);
    if (UNLIKELY(fault != NULL)) {
        fault_of_free_block(fault);
    }
}

static void sort_inbox(struct heap *owner)
{
    if (!sort_lock_try(owner)) {
        return;
    }
    store_relaxed(&owner->inbox_bytes, 0);
    owner->sorting = xchg_acquire(&owner->inbox, NULL); /* O12 */
    struct block *fault = sort_all(owner);
    unlock_for_others(owner);
    if (UNLIKELY(fault != NULL)) {
        fault_of_free_block(fault); /* no lock is held while the program's handler is asked */
    }
}

/* ---- 3 collect ---------------------------------------------------------------------------------------------- */

/* The next block of collecting, which is in that form; NULL at the end. */
static struct block *collect_next(struct heap *h, uintptr_t form)
{
    struct block *b = h->collecting;
    if (b == NULL) {
        return NULL;
    }
    if (UNLIKELY(!block_has_form(b, form))) {
        fault_of_free_block(b);
    }
    h->collecting = next_of(b);
    signal_fence(); /* in this order: collecting_rebuild must not find the block in a list that it was put into */
    return b;
}

static void collect_to_slabs(struct heap *h, uintptr_t form)
{
    uint32_t now = (uint32_t)os_now_ms();
    for (struct block *b = collect_next(h, form); b != NULL; b = collect_next(h, form)) {
        slab_put(h, b, now);
    }
}

/* A slab's sorted blocks to collecting; false when there are none, or the lock is busy. */
static bool sorted_take(struct heap *h, unsigned c)
{
    if (!sort_lock_try(h)) {
        return false;
    }
    struct slab *slab = h->sorted[c];
    if (slab != NULL) {
        sorted_unlink(h, slab);
        h->collecting = slab->sorted;
        signal_fence(); /* in this order: collecting_rebuild sees that they are still there */
        slab->sorted = NULL;
        slab->n_sorted = 0;
    }
    sort_unlock(h);
    return slab != NULL;
}

void sorted_collect(struct heap *h, unsigned c)
{
    while (sorted_take(h, c)) {
        collect_to_slabs(h, FORM_SORTED);
    }
}

/* All of the inbox to collecting. */
static void inbox_take(struct heap *h)
{
    struct block *head = load_relaxed(&h->inbox);
    do {
        h->collecting = head;
        signal_fence(); /* in this order: collecting_rebuild sees that they are still there */
    } while (head != NULL && !cas_weak_acquire(&h->inbox, &head, NULL)); /* O12 */
}

bool inbox_collect(struct heap *h, bool into_bins)
{
    if (load_relaxed(&h->inbox) == NULL) {
        return false;
    }
    store_relaxed(&h->inbox_bytes, 0);
    inbox_take(h);
    store_relaxed(&h->away, false);
    if (!into_bins) {
        collect_to_slabs(h, FORM_SENT);
        return true;
    }
    uint32_t now = (uint32_t)os_now_ms();
    for (struct block *b = collect_next(h, FORM_SENT); b != NULL; b = collect_next(h, FORM_SENT)) {
        struct bin *bin = &h->bins[map_tag_code(map_tag(b)) & ~CLASS_SPARSE];
        if (bin->room > 0) {
            bin_push(h, bin, b);
        } else {
            slab_put(h, b, now);
        }
    }
    return true;
}

static bool list_has(const struct block *b, const struct block *wanted, uintptr_t form)
{
    while (b != NULL && b != wanted && block_has_form(b, form)) {
        b = next_of(b);
    }
    return b == wanted;
}

/* Was b, which collecting leads to, taken out of where it was? With the lock held nobody else takes there, and nobody
 * sends b: only its owner could hand it out before, which is who was left. */
static bool was_taken(struct heap *h, const struct block *b)
{
    uint32_t tag = map_tag(b);
    if (map_tag_heap(tag) != h->number || (map_tag_code(tag) & ~CLASS_SPARSE) >= SMALL_CLASSES) {
        return false; /* still there when others sorted it, and its slab left */
    }
    if (block_has_form(b, FORM_SORTED)) {
        return !list_has(slab_of(b)->sorted, b, FORM_SORTED);
    }
    return block_has_form(b, FORM_SENT) && !list_has(load_acquire(&h->inbox), b, FORM_SENT); /* O12 */
}

void collecting_rebuild(struct heap *h)
{
    struct block *b = h->collecting;
    if (b != NULL && was_taken(h, b)) {
        collect_to_slabs(h, block_has_form(b, FORM_SENT) ? FORM_SENT : FORM_SORTED);
    }
    h->collecting = NULL;
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
        block_set(last, (uintptr_t)head, FORM_SENT);
    } while (!cas_weak_seq_cst(&owner->inbox, &head, first)); /* O12, O22 */
    size_t waiting = add_relaxed(&owner->inbox_bytes, bytes) + bytes;
    if (load_seq_cst(&owner->state) == HEAP_IDLE) { /* O22 */
        heap_serve_idle(owner);
    } else if (waiting > INBOX_AWAY_BYTES && owner_is_away(owner, waiting)) {
        sort_inbox(owner);
    }
}

/* The form of a block in the outbox of h; NULL: of one that is sent at once. */
static uintptr_t outbox_form(const struct heap *h)
{
    return FORM_OUTBOX ^ (h == NULL ? 0 : h->number);
}

/* Another heap's number in the mark: it has freed the block too. */
static void slot_flush(struct heap *h, struct outbox_slot *slot)
{
    uint32_t n = slot->n;
    if (n == 0) {
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        struct block *b = slot->blocks[i];
        if (UNLIKELY(load_relaxed(&b->sum) != (key_of(b) ^ outbox_form(h)))) {
            fault_of_free_block(b);
        }
        if (i + 1 < n) {
            block_set(b, (uintptr_t)slot->blocks[i + 1], FORM_SENT);
        }
    }
    slot->n = 0;
    send(slot->owner, slot->blocks[0], slot->blocks[n - 1], slot->bytes);
    slot->bytes = 0;
}

void outbox_flush(struct heap *h)
{
    for (unsigned i = 0; i < OUTBOX_SLOTS; i++) {
        slot_flush(h, &h->outbox[i]);
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
                store_relaxed(&b->sum, key_of(b) ^ outbox_form(h));
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
        slot_flush(h, slot);
        slot->owner = owner;
    }
    slot->blocks[slot->n] = b;
    signal_fence(); /* in this order: outbox_rebuild takes the first n for blocks that wait */
    slot->n++;
    slot->bytes += (uint32_t)bytes;
    if (slot->n >= (uint32_t)option(OPT_remote_batch) || slot->bytes >= OUTBOX_BYTES) {
        slot_flush(h, slot);
    }
}

/* ---- 1 mark ------------------------------------------------------------------------------------------------- */

/* The block has the form of a free one. old: its word 1 ^ key. */
static bool is_marked(const struct block *b, uintptr_t old)
{
    if (LIKELY(old >> 48 != 0)) {
        return false;
    }
    uintptr_t form = old ^ load_relaxed(&b->link);
    return (old ^ FORM_OUTBOX) >> FORM_OUTBOX_NUMBER == 0 || form == FORM_OWN || form == FORM_SENT ||
           form == FORM_SORTED;
}

/* False when the block was free already: then it is as it was.
 *
 * A load and a store, not an exchange: that would wait until what the caller wrote to the block has reached the cache,
 * at twice the cost of all the rest (decision 0004). Of two threads that free a block in the same few nanoseconds, both
 * may come through; the block then is in two outboxes, and one of them finds the other's mark. */
static bool mark(const struct heap *h, struct block *b)
{
    uintptr_t key = key_of(b);
    if (UNLIKELY(is_marked(b, load_relaxed(&b->sum) ^ key))) {
        return false;
    }
    store_relaxed(&b->sum, key ^ outbox_form(h));
    return true;
}

/* What is sent at once isn't looked at again before that: of two that do this at the same time, one is told. */
static bool mark_alone(struct block *b)
{
    uintptr_t key = key_of(b);
    uintptr_t old = load_relaxed(&b->sum);
    do {
        if (is_marked(b, old ^ key)) {
            return false;
        }
    } while (!cas_weak_relaxed(&b->sum, &old, key ^ outbox_form(NULL))); /* relaxed: who wins is all that is asked */
    return true;
}

void remote_free(struct heap *h, struct slab *slab, struct block *b)
{
    struct heap *owner = load_relaxed(&slab->owner);
    if (UNLIKELY(!(h != NULL ? mark(h, b) : mark_alone(b)))) {
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

/* Nobody uses any block, and the owner is away: the pages need not wait for it. By now the slab may have left, and be
 * another heap's, or its descriptor another kind's, of which none has such a number there. If it is the owner's with
 * all bits set, it stays so while its lock is held: the bits are taken under the same. */
static void purge_unused(struct heap *owner, struct medium *m, const char *begin, uint64_t all)
{
    if (!sort_lock_try(owner)) {
        return;
    }
    /* O13 acquire: what was written to the blocks lies before the purge. */
    if (map_tag_heap(map_tag_acquire(begin)) == owner->number && load_acquire(&m->remote) == all && !m->remote_purged) {
        m->remote_purged = os_purge(m->span.begin, span_bytes(&m->span), /* lazy */ false) == 0;
    }
    unlock_for_others(owner);
}

void remote_free_medium(struct medium *m, unsigned index)
{
    struct heap *owner = load_relaxed(&m->owner);
    uint64_t bit = (uint64_t)1 << index;
    /* Read first: with our bit set, the slab may leave. */
    unsigned capacity = load_relaxed(&m->capacity);
    const char *begin = m->span.begin;
    uint64_t old = remote_set(owner, m, bit);
    if (UNLIKELY((old & bit) != 0)) {
        fault_of_pointer("double free", "double free", m->span.begin + (size_t)index * load_relaxed(&m->block_bytes));
        return;
    }
    if (load_seq_cst(&owner->state) == HEAP_IDLE) { /* O22 */
        heap_serve_idle(owner);
    } else if (bit_count(old | bit) == capacity) {
        purge_unused(owner, m, begin, old | bit);
    }
}
