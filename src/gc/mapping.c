/* SPDX-License-Identifier: MIT */
/* mapping.c - making mappings and ending them: see allot/gcmap.h. */
#include "config/config.h"
#include "gc/gc_internal.h"

#include <errno.h>
#include <string.h>

#define ALL_FLAGS (ALLOT_GCMAP_SCAN | ALLOT_GCMAP_SYNC | ALLOT_GCMAP_PINNED)

/* ---- start and fork ----------------------------------------------------------------------------------------- */

static void fork_before(void)
{
    os_lock(&gc_now()->lock);
}

static void fork_parent(void)
{
    os_unlock(&gc_now()->lock);
}

static void fork_child(void)
{
    gc_now()->has_thread = false;
    os_unlock(&gc_now()->lock);
}

/* With the first mapping. */
static void start_once(struct gc *gc)
{
    if (gc->has_started) {
        return;
    }
    gc->has_started = true;
    (void)collect_prepare(gc); /* while there is address space: who runs out of it collects */
    os_fork_around(fork_before, fork_parent, fork_child);
    if (option(OPT_gc_faults)) {
        os_catch_faults(report_fault);
    }
}

/* ---- making ------------------------------------------------------------------------------------------------- */

struct request {
    int fd;
    int64_t offset;
    size_t length;
    int prot;
    int flags;
    const allot_gcmap_opts *opts;
    uintptr_t made_by;
    size_t unit;
    size_t bytes;
};

/* 0, or what mmap would say too. */
static int check(struct request *request)
{
    const allot_gcmap_opts *opts = request->opts;
    if (opts->abi_size != sizeof *opts || (opts->flags & ~(unsigned)ALL_FLAGS) != 0) {
        return EINVAL;
    }
    request->unit = os_map_unit(request->fd, request->flags);
    if (os_map_flags_place(request->flags) || request->length == 0 || request->unit == 0) {
        return EINVAL;
    }
    if (request->length > PTRDIFF_MAX - request->unit) {
        return ENOMEM;
    }
    request->bytes = round_up(request->length, request->unit);
    return 0;
}

static bool is_reserved(const struct os_mapping *mapping, void *context)
{
    struct region *range = context; /* what is still to be looked at */
    if (mapping->end <= range->begin) {
        return true;
    }
    bool shut = !mapping->readable && !mapping->writable && !mapping->executable && mapping->name[0] == '\0';
    if (mapping->begin > range->begin || !shut) {
        return false;
    }
    range->begin = mapping->end;
    return range->begin < range->end;
}

/* The kernel refused to map over the piece's range; what was reserved there is still there, or has become a hole, which
 * somebody else may have taken. */
static void restore(struct gc *gc, struct piece *piece)
{
    uintptr_t begin = load_relaxed(&piece->begin);
    size_t bytes = load_relaxed(&piece->bytes);
    struct region range = {begin, begin + bytes};
    if (os_reserve_hole((void *)begin, bytes) != 0 && os_mappings(is_reserved, &range) == 0 &&
        range.begin < range.end) {
        store_relaxed(&piece->state, PIECE_LOST); /* G2 */
        return;
    }
    range_give(gc, piece);
}

static void describe(struct mapping *mapping, const struct request *request)
{
    struct text name = text_in(mapping->name, sizeof mapping->name);
    text_add(&name, request->opts->name == NULL ? "" : request->opts->name);
    os_file_path(request->fd, mapping->file, sizeof mapping->file);
    mapping->length = request->length;
    mapping->unit = request->unit;
    mapping->is_private = os_map_flags_private(request->flags);
    mapping->flags = (uint8_t)request->opts->flags;
    mapping->pins = (request->opts->flags & ALLOT_GCMAP_PINNED) != 0;
    mapping->finalizer = request->opts->finalizer;
    mapping->context = request->opts->context;
    mapping->made_by = request->made_by;
}

static void *publish(struct gc *gc, struct mapping *mapping, struct piece *piece)
{
    void *begin = (void *)load_relaxed(&piece->begin);
    mapping->n_pieces = 1;
    mapping->first = piece;
    mapping->begin = (uintptr_t)begin;
    mapping->weak_serial = ++gc->serial;
    store_release(&mapping->serial, gc->serial); /* OG5 */
    store_relaxed(&piece->mapping, mapping);
    store_relaxed(&piece->state, PIECE_LIVE);
    size_t bytes = load_relaxed(&piece->bytes);
    gc->number_since++;
    gc->bytes_since += bytes;
    add_relaxed(&gc->n_active, 1);
    add_relaxed(&gc->bytes_active, bytes);
    return begin;
}

static int try_map(struct gc *gc, const struct request *request, void **out)
{
    struct mapping *mapping = store_take(&gc->mappings);
    struct piece *piece =
        mapping == NULL ? NULL : range_take(gc, request->bytes, request->unit, (uintptr_t)request->opts->hint);
    if (piece == NULL) {
        if (mapping != NULL) {
            store_give(&gc->mappings, mapping);
        }
        return -ENOMEM;
    }
    void *begin = (void *)load_relaxed(&piece->begin);
    int result = os_map_user(begin, request->length, request->fd, request->offset, request->prot, request->flags);
    if (result != 0) {
        restore(gc, piece);
        store_give(&gc->mappings, mapping);
        return result;
    }
    describe(mapping, request);
    *out = publish(gc, mapping, piece);
    return 0;
}

/* An error that address space or a place in the kernel's list would have helped against. */
static bool is_shortage(struct gc *gc, int result)
{
    return result == -ENOMEM && load_relaxed(&gc->n_active) != 0; /* relaxed: a hint */
}

static int map(struct request *request, void **out)
{
    int error = check(request);
    if (error != 0) {
        return error;
    }
    struct gc *gc = gc_start();
    if (gc == NULL) {
        return ENOMEM;
    }
    config_init();
    os_lock(&gc->lock);
    start_once(gc);
    bool due = gc_is_due(gc, request->bytes);
    os_unlock(&gc->lock);
    if (due) {
        gc_collect_automatically(gc, /* at_once */ false);
    }
    int result = -ENOMEM;
    for (int tries = 0; tries == 0 || (tries == 1 && is_shortage(gc, result)); tries++) {
        if (tries == 1) {
            gc_collect_automatically(gc, /* at_once */ true);
        }
        os_lock(&gc->lock);
        result = try_map(gc, request, out);
        /* Ghosts between mappings take a place each in the kernel's list. */
        while (result == -ENOMEM && range_exorcise(gc)) {
            result = gc->n_ghosts % 256 == 0 ? try_map(gc, request, out) : result;
        }
        os_unlock(&gc->lock);
    }
    return -result;
}

static void *map_by(struct request *request)
{
    void *begin;
    int saved = errno;
    int error = map(request, &begin);
    errno = error == 0 ? saved : error;
    return error == 0 ? begin : (void *)-1;
}

void *allot_gcmap(int fd, off_t offset, size_t length_bytes, int prot, int flags)
{
    static const allot_gcmap_opts none = ALLOT_GCMAP_OPTS_INIT;
    struct request request = {fd, offset, length_bytes, prot, flags, &none, (uintptr_t)__builtin_return_address(0),
                              0,  0};
    return map_by(&request);
}

void *allot_gcmap_with(int fd, off_t offset, size_t length_bytes, int prot, int flags, const allot_gcmap_opts *opts)
{
    static const allot_gcmap_opts none = ALLOT_GCMAP_OPTS_INIT;
    struct request request = {
        fd, offset, length_bytes, prot, flags, opts == NULL ? &none : opts, (uintptr_t)__builtin_return_address(0),
        0,  0};
    return map_by(&request);
}

/* ---- ending ------------------------------------------------------------------------------------------------- */

static bool is_live(const struct piece *piece)
{
    return load_relaxed(&piece->state) == PIECE_LIVE;
}

static struct piece *first_live(const struct mapping *mapping)
{
    struct piece *piece = mapping->first;
    while (piece != NULL && !is_live(piece)) {
        piece = piece->next_of_mapping;
    }
    return piece;
}

size_t mapping_bytes(const struct mapping *mapping)
{
    size_t bytes = 0;
    for (struct piece *piece = mapping->first; piece != NULL; piece = piece->next_of_mapping) {
        bytes += is_live(piece) ? load_relaxed(&piece->bytes) : 0;
    }
    return bytes;
}

struct mapping *mapping_find(struct gc *gc, uintptr_t address)
{
    struct piece *piece = range_has(gc, address) ? range_find(gc, address) : NULL;
    struct mapping *mapping = piece != NULL && is_live(piece) ? load_relaxed(&piece->mapping) : NULL;
    return mapping == NULL || mapping->ending ? NULL : mapping;
}

void mapping_condemn(struct mapping *mapping)
{
    mapping->ending = true;
    store_release(&mapping->serial, (uint64_t)0); /* OG5: a weak reference that sees it gives nothing */
}

static void pardon(struct mapping *mapping)
{
    mapping->ending = false;
    store_relaxed(&mapping->ended, END_NONE);
    store_release(&mapping->serial, mapping->weak_serial); /* OG5 */
}

static int reserve_again(struct gc *gc, struct piece *piece)
{
    size_t bytes = load_relaxed(&piece->bytes);
    int result = os_reserve_over((void *)load_relaxed(&piece->begin), bytes);
    if (result == 0) {
        sub_relaxed(&gc->bytes_active, bytes);
        range_bury(gc, piece);
    }
    return result;
}

/* Lock held. The mapping's structure may be gone afterwards. */
static int bury_all(struct gc *gc, struct mapping *mapping, enum end how)
{
    size_t n_live = 0;
    for (struct piece *piece = mapping->first; piece != NULL; piece = piece->next_of_mapping) {
        n_live += is_live(piece);
    }
    store_relaxed(&mapping->ended, (uint8_t)how);
    for (; n_live > 0; n_live--) {
        int result = reserve_again(gc, first_live(mapping));
        if (result != 0) {
            pardon(mapping);
            return -result;
        }
    }
    sub_relaxed(&gc->n_active, 1);
    return 0;
}

int mapping_end(struct gc *gc, struct mapping *mapping, enum end how, int *synced)
{
    *synced = 0;
    if (mapping->finalizer != NULL) {
        allot_gcmap_finalizer finalizer = mapping->finalizer;
        mapping->finalizer = NULL;
        finalizer((void *)mapping->begin, mapping->length, mapping->context); /* G4 */
    }
    if ((mapping->flags & ALLOT_GCMAP_SYNC) != 0) {
        *synced = -os_sync((void *)mapping->begin, round_up(mapping->length, mapping->unit));
    }
    os_lock(&gc->lock);
    int error = bury_all(gc, mapping, how);
    os_unlock(&gc->lock);
    return error;
}

static int end_now(struct gc *gc, struct mapping *mapping, enum end how)
{
    int synced;
    int error = mapping_end(gc, mapping, how, &synced);
    return error != 0 ? error : synced;
}

/* The mapping that begins at address, condemned; NULL: none does. */
static struct mapping *claim(struct gc *gc, uintptr_t address)
{
    struct mapping *mapping = NULL;
    os_lock(&gc->lock);
    struct piece *piece = range_has(gc, address) ? range_find(gc, address) : NULL;
    if (piece != NULL && load_relaxed(&piece->mapping) != NULL) {
        struct mapping *there = load_relaxed(&piece->mapping);
        struct piece *first = first_live(there);
        bool begins = address == there->begin || (first != NULL && address == load_relaxed(&first->begin));
        if (begins && first != NULL && !there->ending) {
            mapping = there;
            mapping_condemn(mapping);
        }
    }
    os_unlock(&gc->lock);
    return mapping;
}

int allot_gcmap_close(void *begin)
{
    struct gc *gc = gc_now();
    if (begin == NULL) {
        return 0;
    }
    struct mapping *mapping = gc == NULL ? NULL : claim(gc, (uintptr_t)begin);
    if (mapping == NULL) {
        report_misuse(gc, "close", begin);
        return EINVAL;
    }
    return end_now(gc, mapping, END_CLOSED);
}

/* The part becomes a piece of its own and goes. The first piece keeps its place in the mapping's list. */
static int unmap_part(struct gc *gc, struct piece *piece, uintptr_t begin, uintptr_t end)
{
    if (begin > load_relaxed(&piece->begin)) {
        piece = range_split(gc, piece, begin);
    }
    if (piece == NULL || (end - begin < load_relaxed(&piece->bytes) && range_split(gc, piece, end) == NULL)) {
        return ENOMEM; /* two pieces where one was are as good */
    }
    return -reserve_again(gc, piece);
}

int allot_gcmap_unmap(void *begin, size_t length_bytes)
{
    struct gc *gc = gc_now();
    uintptr_t at = (uintptr_t)begin;
    if (gc == NULL || length_bytes == 0) {
        return EINVAL;
    }
    os_lock(&gc->lock);
    struct mapping *mapping = mapping_find(gc, at);
    struct piece *piece = mapping == NULL ? NULL : range_find(gc, at);
    size_t left = mapping == NULL ? 0 : load_relaxed(&piece->begin) + load_relaxed(&piece->bytes) - at;
    if (mapping == NULL || at % mapping->unit != 0 || length_bytes > left) {
        os_unlock(&gc->lock);
        return EINVAL;
    }
    uintptr_t end = at + round_up(length_bytes, mapping->unit);
    bool is_all = mapping_bytes(mapping) == end - at;
    int error = 0;
    if (is_all) {
        mapping_condemn(mapping);
    } else {
        error = unmap_part(gc, piece, at, end);
    }
    os_unlock(&gc->lock);
    return is_all ? end_now(gc, mapping, END_UNMAPPED) : error;
}

/* ---- pins and figures --------------------------------------------------------------------------------------- */

static int change_pins(const void *address, bool up)
{
    struct gc *gc = gc_now();
    int error = EINVAL;
    if (gc == NULL) {
        return error;
    }
    os_lock(&gc->lock);
    struct mapping *mapping = mapping_find(gc, (uintptr_t)address);
    if (mapping != NULL && (up ? mapping->pins < UINT32_MAX : mapping->pins > 0)) {
        mapping->pins += up ? 1 : UINT32_MAX;
        error = 0;
    }
    os_unlock(&gc->lock);
    return error;
}

int allot_gcmap_pin(const void *address)
{
    return change_pins(address, true);
}

int allot_gcmap_unpin(const void *address)
{
    return change_pins(address, false);
}

size_t allot_gcmap_num_active(void)
{
    struct gc *gc = gc_now();
    return gc == NULL ? 0 : load_relaxed(&gc->n_active); /* relaxed: a figure */
}

size_t allot_gcmap_bytes_active(void)
{
    struct gc *gc = gc_now();
    return gc == NULL ? 0 : load_relaxed(&gc->bytes_active); /* relaxed: a figure */
}

size_t allot_gcmap_resident_bytes(void)
{
    struct gc *gc = gc_now();
    size_t bytes = 0;
    if (gc == NULL) {
        return 0;
    }
    os_lock(&gc->lock);
    for (size_t i = 0; i < gc->n_order; i++) {
        struct piece *piece = gc->order[i];
        if (is_live(piece)) {
            bytes += os_resident_bytes((void *)load_relaxed(&piece->begin), load_relaxed(&piece->bytes));
        }
    }
    os_unlock(&gc->lock);
    return bytes;
}

/* ---- what is this address? ---------------------------------------------------------------------------------- */

void gc_query(const void *address, struct gc_answer *answer)
{
    struct gc *gc = gc_now();
    *answer = (struct gc_answer){0};
    if (gc == NULL || !range_has(gc, (uintptr_t)address)) {
        return;
    }
    struct piece *piece = range_find_signal(gc, (uintptr_t)address);
    struct mapping *mapping = piece == NULL ? NULL : load_relaxed(&piece->mapping);
    if (mapping != NULL) {
        *answer = (struct gc_answer){.begin = (void *)mapping->begin, .bytes = mapping->length, .live = is_live(piece)};
    }
}
