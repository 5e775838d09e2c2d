/* SPDX-License-Identifier: MIT */
/* range.c - the address space that mappings lie in.
 *
 * Regions are reserved in steps, one behind the other as long as the system allows that. Their pieces are free, live,
 * or ghosts: what was closed or collected stays out of use as long as there is room, oldest first, so that who still
 * uses it is found out. Ghosts are as many as the system's number of mappings allows, and go before a limited address
 * space is asked for more.
 */
#include "gc/gc_internal.h"

#include <string.h>

#define STEP_BYTES (64 * GIB) /* where address space costs nothing */
#define STEP_LEAST (2 * MIB)
#define STEP_SHARE 64u /* of a limited address space */
#define RESERVED_MOST ((size_t)4 << 40)
#define GHOSTS_MOST 16384u
#define GHOSTS_SHARE 8u /* of the mappings that a process may have */
#define LOOKS 16u       /* at pieces of a bin whose pieces need not fit */

#if defined(__SANITIZE_THREAD__)
#define OWN_PLACE 0
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define OWN_PLACE 0
#endif
#endif
#ifndef OWN_PLACE
#define OWN_PLACE (UINTPTR_MAX > 0xffffffffu) /* the thread sanitizer has plans for every address */
#endif

static uintptr_t begin_of(const struct piece *piece)
{
    return load_relaxed(&piece->begin);
}

static size_t bytes_of(const struct piece *piece)
{
    return load_relaxed(&piece->bytes);
}

static uint32_t state_of(const struct piece *piece)
{
    return load_relaxed(&piece->state);
}

/* ---- by address --------------------------------------------------------------------------------------------- */

/* The number of the first piece that ends behind address. */
static size_t order_search(const struct gc *gc, uintptr_t address)
{
    size_t low = 0;
    size_t high = gc->n_order;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct piece *piece = gc->order[middle];
        if (begin_of(piece) + bytes_of(piece) <= address) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct piece *range_find(struct gc *gc, uintptr_t address)
{
    size_t i = order_search(gc, address);
    return i < gc->n_order && begin_of(gc->order[i]) <= address ? gc->order[i] : NULL;
}

/* Its chunks are never unmapped; what is just being changed may be missed. */
__attribute__((no_sanitize("thread"))) struct piece *range_find_signal(struct gc *gc, uintptr_t address)
{
    for (size_t i = 0; i < STORE_CHUNKS; i++) {
        char *chunk = load_acquire(&gc->pieces.chunks[i]); /* OG4 */
        if (chunk == NULL) {
            return NULL;
        }
        for (size_t at = 0; at + sizeof(struct piece) <= store_chunk_bytes(i); at += sizeof(struct piece)) {
            struct piece *piece = (void *)(chunk + at);
            if (state_of(piece) != PIECE_NONE && address - begin_of(piece) < bytes_of(piece)) {
                return piece;
            }
        }
    }
    return NULL;
}

static bool order_make_room(struct gc *gc)
{
    if (gc->n_order < gc->order_room) {
        return true;
    }
    size_t room = size_max(gc->order_room * 2, 2048);
    struct piece **order = books_map(room * sizeof *order);
    if (order == NULL) {
        return false;
    }
    if (gc->order != NULL) {
        memcpy(order, gc->order, gc->n_order * sizeof *order);
        books_release(gc->order, gc->order_room * sizeof *order);
    }
    gc->order = order;
    gc->order_room = room;
    return true;
}

/* A piece at number i of the order; room was made. */
static void order_insert(struct gc *gc, size_t i, struct piece *piece)
{
    memmove(gc->order + i + 1, gc->order + i, (gc->n_order - i) * sizeof *gc->order);
    gc->order[i] = piece;
    gc->n_order++;
}

static void order_remove(struct gc *gc, size_t i)
{
    gc->n_order--;
    memmove(gc->order + i, gc->order + i + 1, (gc->n_order - i) * sizeof *gc->order);
}

static void piece_drop(struct gc *gc, struct piece *piece)
{
    store_relaxed(&piece->state, PIECE_NONE);
    store_give(&gc->pieces, piece);
}

struct piece *range_split(struct gc *gc, struct piece *piece, uintptr_t at)
{
    struct piece *second = order_make_room(gc) ? store_take(&gc->pieces) : NULL;
    if (second == NULL) {
        return NULL;
    }
    size_t first_bytes = at - begin_of(piece);
    store_relaxed(&second->begin, at);
    store_relaxed(&second->bytes, bytes_of(piece) - first_bytes);
    struct mapping *mapping = load_relaxed(&piece->mapping);
    store_relaxed(&second->mapping, mapping);
    store_relaxed(&second->state, state_of(piece));
    store_relaxed(&piece->bytes, first_bytes);
    if (mapping != NULL) {
        mapping->n_pieces++;
        second->next_of_mapping = piece->next_of_mapping;
        piece->next_of_mapping = second;
    }
    order_insert(gc, order_search(gc, begin_of(piece)) + 1, second);
    return second;
}

/* ---- free pieces -------------------------------------------------------------------------------------------- */

static unsigned bin_of(size_t bytes)
{
    return (unsigned)size_min(bit_highest(bytes), BINS - 1);
}

static void list_remove(struct piece **head, struct piece *piece)
{
    if (piece->prev != NULL) {
        piece->prev->next = piece->next;
    } else {
        *head = piece->next;
    }
    if (piece->next != NULL) {
        piece->next->prev = piece->prev;
    }
    piece->next = NULL;
    piece->prev = NULL;
}

static void bin_put(struct gc *gc, struct piece *piece)
{
    struct piece **head = &gc->bins[bin_of(bytes_of(piece))];
    store_relaxed(&piece->state, PIECE_FREE);
    piece->prev = NULL;
    piece->next = *head;
    if (*head != NULL) {
        (*head)->prev = piece;
    }
    *head = piece;
}

static void bin_take(struct gc *gc, struct piece *piece)
{
    list_remove(&gc->bins[bin_of(bytes_of(piece))], piece);
}

static bool same_region(const struct gc *gc, uintptr_t a, uintptr_t b)
{
    for (size_t i = 0; i < gc->n_regions; i++) {
        if (a >= gc->regions[i].begin && a < gc->regions[i].end) {
            return b >= gc->regions[i].begin && b < gc->regions[i].end;
        }
    }
    return false;
}

/* A free piece out of its bin joins its free neighbours; into the bin. */
static void join(struct gc *gc, struct piece *piece)
{
    size_t i = order_search(gc, begin_of(piece));
    struct piece *after = i + 1 < gc->n_order ? gc->order[i + 1] : NULL;
    if (after != NULL && state_of(after) == PIECE_FREE && same_region(gc, begin_of(piece), begin_of(after))) {
        bin_take(gc, after);
        order_remove(gc, i + 1);
        store_relaxed(&piece->bytes, bytes_of(piece) + bytes_of(after));
        piece_drop(gc, after);
    }
    struct piece *before = i > 0 ? gc->order[i - 1] : NULL;
    if (before != NULL && state_of(before) == PIECE_FREE && same_region(gc, begin_of(piece), begin_of(before))) {
        bin_take(gc, before);
        order_remove(gc, i);
        store_relaxed(&before->bytes, bytes_of(before) + bytes_of(piece));
        piece_drop(gc, piece);
        piece = before;
    }
    bin_put(gc, piece);
}

void range_give(struct gc *gc, struct piece *piece)
{
    store_relaxed(&piece->state, PIECE_FREE);
    join(gc, piece);
}

/* ---- ghosts ------------------------------------------------------------------------------------------------- */

static void mapping_lose(struct gc *gc, struct piece *piece)
{
    struct mapping *mapping = load_relaxed(&piece->mapping);
    struct piece **link = &mapping->first;
    while (*link != piece) {
        link = &(*link)->next_of_mapping;
    }
    *link = piece->next_of_mapping;
    piece->next_of_mapping = NULL;
    store_relaxed(&piece->mapping, NULL);
    if (--mapping->n_pieces == 0) {
        store_give(&gc->mappings, mapping);
    }
}

bool range_exorcise(struct gc *gc)
{
    struct piece *piece = gc->oldest;
    if (piece == NULL) {
        return false;
    }
    gc->oldest = piece->next;
    if (gc->oldest == NULL) {
        gc->youngest = NULL;
    } else {
        gc->oldest->prev = NULL;
    }
    piece->next = NULL;
    gc->n_ghosts--;
    mapping_lose(gc, piece);
    range_give(gc, piece);
    return true;
}

void range_bury(struct gc *gc, struct piece *piece)
{
    store_relaxed(&piece->state, PIECE_GHOST);
    piece->next = NULL;
    piece->prev = gc->youngest;
    if (gc->youngest != NULL) {
        gc->youngest->next = piece;
    } else {
        gc->oldest = piece;
    }
    gc->youngest = piece;
    gc->n_ghosts++;
    size_t most = size_min(GHOSTS_MOST, gc->mappings_most / GHOSTS_SHARE);
    while (gc->n_ghosts > most) {
        range_exorcise(gc);
    }
}

/* ---- regions ------------------------------------------------------------------------------------------------ */

/* Where few others map anything, and in the upper half of a word a number that programs don't count to. */
static void *quiet_place(void)
{
    uintptr_t at = (uintptr_t)0x200000000000 + (uintptr_t)(os_random() % 0x300000000000);
    return OWN_PLACE ? (void *)round_down(at, GIB) : NULL;
}

static bool region_add(struct gc *gc, uintptr_t begin, uintptr_t end)
{
    struct piece *piece = order_make_room(gc) ? store_take(&gc->pieces) : NULL;
    struct region *last = gc->n_regions == 0 ? NULL : &gc->regions[gc->n_regions - 1];
    bool extends = last != NULL && last->end == begin;
    if (piece == NULL || (!extends && gc->n_regions == REGIONS)) {
        if (piece != NULL) {
            store_give(&gc->pieces, piece);
        }
        return false;
    }
    if (extends) {
        last->end = end;
    } else {
        gc->regions[gc->n_regions++] = (struct region){begin, end};
    }
    store_relaxed(&piece->begin, begin);
    store_relaxed(&piece->bytes, end - begin);
    order_insert(gc, order_search(gc, begin), piece);
    uintptr_t hull_begin = load_relaxed(&gc->hull_begin);
    if (hull_begin == 0 || begin < hull_begin) {
        store_relaxed(&gc->hull_begin, begin);
    }
    store_relaxed(&gc->hull_end, size_max(load_relaxed(&gc->hull_end), end));
    gc->reserved_bytes += end - begin;
    range_give(gc, piece);
    return true;
}

static bool grow_by(struct gc *gc, size_t bytes)
{
    void *wanted = gc->n_regions == 0 ? quiet_place() : (void *)gc->regions[gc->n_regions - 1].end;
    char *begin = os_reserve_near(wanted, bytes);
    if (begin == NULL) {
        return false;
    }
    if (!region_add(gc, (uintptr_t)begin, (uintptr_t)begin + bytes)) {
        os_release(begin, bytes);
        return false;
    }
    return true;
}

static bool grow(struct gc *gc, size_t need)
{
    size_t limit = os_address_space_limit();
    size_t step = limit == SIZE_MAX ? STEP_BYTES : size_max(round_down(limit / STEP_SHARE, STEP_LEAST), STEP_LEAST);
    need = round_up(need, STEP_LEAST);
    return grow_by(gc, size_max(need, step)) || (need < step && grow_by(gc, need));
}

/* ---- taking ------------------------------------------------------------------------------------------------- */

static bool fits(const struct piece *piece, size_t bytes, size_t unit)
{
    size_t skip = round_up(begin_of(piece), unit) - begin_of(piece);
    return bytes_of(piece) >= skip && bytes_of(piece) - skip >= bytes;
}

/* The first that fits of its own size, or of the next size that has any: addresses stay dense. */
static struct piece *find_free(struct gc *gc, size_t bytes, size_t unit)
{
    for (unsigned bin = bin_of(bytes); bin < BINS; bin++) {
        struct piece *piece = gc->bins[bin];
        for (unsigned looks = 0; piece != NULL && looks < LOOKS; looks++, piece = piece->next) {
            if (fits(piece, bytes, unit)) {
                return piece;
            }
        }
    }
    return NULL;
}

/* The part at begin of a free piece, out of the bin; the rest stays free. */
static struct piece *carve(struct gc *gc, struct piece *piece, uintptr_t begin, size_t bytes)
{
    bin_take(gc, piece);
    struct piece *front = NULL;
    if (begin > begin_of(piece)) {
        struct piece *second = range_split(gc, piece, begin);
        if (second == NULL) {
            bin_put(gc, piece);
            return NULL;
        }
        front = piece;
        bin_put(gc, front);
        piece = second;
    }
    if (bytes < bytes_of(piece)) {
        struct piece *rest = range_split(gc, piece, begin + bytes);
        if (rest == NULL) {
            range_give(gc, piece);
            return NULL;
        }
        bin_put(gc, rest);
    }
    return piece;
}

static struct piece *take_wanted(struct gc *gc, size_t bytes, size_t unit, uintptr_t want)
{
    struct piece *piece = want == 0 || want % unit != 0 ? NULL : range_find(gc, want);
    bool free = piece != NULL && state_of(piece) == PIECE_FREE && begin_of(piece) + bytes_of(piece) - want >= bytes;
    return free ? carve(gc, piece, want, bytes) : NULL;
}

struct piece *range_take(struct gc *gc, size_t bytes, size_t unit, uintptr_t want)
{
    struct piece *piece = take_wanted(gc, bytes, unit, want);
    bool is_limited = os_address_space_limit() != SIZE_MAX || gc->reserved_bytes >= RESERVED_MOST;
    bool may_grow = true;
    while (piece == NULL) {
        struct piece *free = find_free(gc, bytes, unit);
        if (free != NULL) {
            return carve(gc, free, round_up(begin_of(free), unit), bytes);
        }
        if (is_limited && range_exorcise(gc)) {
            continue;
        }
        if (may_grow && grow(gc, bytes + unit - os_page_bytes())) {
            may_grow = false; /* it fits now */
            continue;
        }
        may_grow = false;
        if (!range_exorcise(gc)) {
            return NULL;
        }
    }
    return piece;
}
