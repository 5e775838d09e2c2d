/* SPDX-License-Identifier: MIT */
/* map.c - see map.h.
 *
 *     roots[address >> 30] -> leaf { tags[16384], chunks[256] }      outside the window
 *     window { begin, n_granules, tags[], chunks[] }                 one flat leaf of up to 1 TiB
 *
 * The window's arrays are reserved readable, and become writable in steps as areas are added: an address that was never
 * added reads the kernel's zero page, and the OS charges for what is used alone.
 */
#include "map/map.h"

#include "os/os.h"

#include <allot/root.h>

#include <errno.h>

#define ADDRESS_BITS 48
#define LEAF_SHIFT 30
#define LEAF_GRANULES ((size_t)1 << (LEAF_SHIFT - GRANULE_SHIFT))
#define LEAF_CHUNKS ((size_t)1 << (LEAF_SHIFT - CHUNK_SHIFT))
#define WINDOW_BYTES ((size_t)1 << 40)
#define WINDOW_BYTES_LEAST GIB
/* Above the first area, where the kernel has put the libraries already, little will come. */
#define WINDOW_ABOVE_SHARE 16
#define BOOKS_STEP (256 * KIB)

struct leaf {
    _Atomic uint32_t tags[LEAF_GRANULES];
    _Atomic(char *) chunks[LEAF_CHUNKS];
};

struct map_window map_window;

static struct {
    _Atomic(struct leaf *) roots[(size_t)1 << (ADDRESS_BITS - LEAF_SHIFT)];
    _Atomic uintptr_t window_arrays; /* see window_reserve; O19 */
    _Atomic(struct books *) books;   /* O3: the newest piece, published when it can be used */
} map;

/* ---- books -------------------------------------------------------------------------------------------------- */

struct books {
    struct books *older;
    size_t bytes;
    _Atomic size_t used;
};

static void *books_cut(struct books *books, size_t bytes)
{
    size_t used = load_relaxed(&books->used);
    do {
        if (bytes > books->bytes - used) {
            return NULL;
        }
        /* Relaxed: the counter alone decides who owns which bytes; they are zero since the mapping was made. */
    } while (!cas_weak_relaxed(&books->used, &used, used + bytes));
    return (char *)books + used;
}

static struct books *books_new(size_t bytes)
{
    struct books *books = os_map(bytes, os_page_bytes());
    if (books == NULL) {
        return NULL;
    }
    os_huge_never(books, bytes);
    books->bytes = bytes;
    store_relaxed(&books->used, round_up(sizeof *books, CACHE_LINE));
    return books;
}

void *map_books(size_t bytes)
{
    if (bytes > PTRDIFF_MAX) {
        return NULL; /* what follows would wrap */
    }
    bytes = round_up(bytes, CACHE_LINE);
    struct books *newest = load_acquire(&map.books); /* O3 pairs with the release below */
    void *p = newest == NULL ? NULL : books_cut(newest, bytes);
    if (p != NULL) {
        return p;
    }
    size_t page = os_page_bytes();
    struct books *fresh = books_new(size_max(BOOKS_STEP, round_up(bytes + CACHE_LINE, page)));
    if (fresh == NULL) {
        fresh = books_new(round_up(bytes + CACHE_LINE, page));
    }
    if (fresh == NULL) {
        return NULL;
    }
    p = books_cut(fresh, bytes);
    fresh->older = newest;
    /* O3 release: publishes the fields of fresh. Without it another thread could cut from an unset size. Two threads
     * here at the same time both succeed: either piece stays on the list. */
    while (!cas_weak_release(&map.books, &newest, fresh)) {
        fresh->older = newest;
    }
    return p;
}

static size_t books_sum(size_t (*measure)(struct books *))
{
    size_t sum = 0;
    for (struct books *books = load_acquire(&map.books); books != NULL; books = books->older) { /* O3 */
        sum += measure(books);
    }
    return sum;
}

static size_t books_space(struct books *books)
{
    return books->bytes;
}

static size_t books_resident(struct books *books)
{
    return os_resident_bytes(books, books->bytes);
}

/* ---- the window --------------------------------------------------------------------------------------------- */

static size_t commit_step(void)
{
    return size_max(16 * KIB, os_page_bytes());
}

static size_t window_tag_bytes(size_t window_bytes)
{
    return window_bytes / GRANULE_BYTES * sizeof(uint32_t);
}

static size_t window_array_bytes(size_t window_bytes)
{
    return round_up(window_tag_bytes(window_bytes) + window_bytes / CHUNK_BYTES * sizeof(char *), commit_step());
}

/* A limited address space gets a window whose arrays take no more than a 64th of it. */
static size_t window_wanted(void)
{
    size_t limit = os_address_space_limit();
    size_t wanted = WINDOW_BYTES;
    while (wanted > WINDOW_BYTES_LEAST && window_array_bytes(wanted) > limit / 64) {
        wanted /= 2;
    }
    return wanted;
}

/* The arrays' address, page-aligned, with the window's size as a power of two in the low bits; 0 when refused. */
static uintptr_t window_reserve(void)
{
    for (size_t bytes = window_wanted(); bytes >= WINDOW_BYTES_LEAST; bytes /= 2) {
        void *arrays = os_reserve_readable(window_array_bytes(bytes));
        if (arrays != NULL) {
            os_huge_never(arrays, window_array_bytes(bytes));
            return (uintptr_t)arrays | bit_highest(bytes);
        }
    }
    return 0;
}

static size_t window_bytes_of(uintptr_t arrays)
{
    return (size_t)1 << arrays % 64;
}

/* Whoever comes while the first is still here does the same work and stores the same values: nobody waits. */
bool map_init(const void *near)
{
    uintptr_t arrays = load_acquire(&map.window_arrays); /* O19 pairs with the exchange below */
    if (arrays == 0) {
        uintptr_t fresh = window_reserve();
        if (fresh == 0) {
            return false;
        }
        arrays = 0;
        if (cas_acq_rel(&map.window_arrays, &arrays, fresh)) { /* O19 */
            arrays = fresh;
        } else {
            os_release((void *)round_down(fresh, 64), window_array_bytes(window_bytes_of(fresh)));
        }
    }
    size_t bytes = window_bytes_of(arrays);
    char *tags = (char *)round_down(arrays, 64);
    /* The kernel places mappings downwards from the first ones, so most of the window lies below. */
    uintptr_t end = round_up((uintptr_t)near, GIB) + bytes / WINDOW_ABOVE_SHARE;
    uintptr_t begin = 0;
    cas_relaxed(&map_window.begin, &begin, end > bytes ? end - bytes : CHUNK_BYTES);
    store_relaxed(&map_window.tags, (_Atomic uint32_t *)(void *)tags);
    store_relaxed(&map_window.chunks, (_Atomic(char *) *)(void *)(tags + window_tag_bytes(bytes)));
    /* O2 release: pairs with the acquire in map_tag. */
    store_release(&map_window.n_granules, bytes / GRANULE_BYTES);
    return true;
}

/* ---- leaves ------------------------------------------------------------------------------------------------- */

static struct leaf *leaf_find(uintptr_t address)
{
    if (address >> ADDRESS_BITS != 0) {
        return NULL;
    }
    /* O4 acquire: pairs with the release in leaf_make, so that the leaf reads as zeros. */
    return load_acquire(&map.roots[address >> LEAF_SHIFT]);
}

static struct leaf *leaf_make(uintptr_t address)
{
    struct leaf *leaf = leaf_find(address);
    if (leaf != NULL || address >> ADDRESS_BITS != 0) {
        return leaf;
    }
    leaf = os_map(round_up(sizeof *leaf, os_page_bytes()), os_page_bytes());
    if (leaf == NULL) {
        return NULL;
    }
    struct leaf *expected = NULL;
    /* O4 release. */
    if (!cas_acq_rel(&map.roots[address >> LEAF_SHIFT], &expected, leaf)) {
        os_release(leaf, round_up(sizeof *leaf, os_page_bytes()));
        return expected;
    }
    return leaf;
}

uint32_t map_tag_outside(uintptr_t address)
{
    struct leaf *leaf = leaf_find(address);
    return leaf == NULL ? 0 : load_relaxed(&leaf->tags[(address >> GRANULE_SHIFT) % LEAF_GRANULES]);
}

/* ---- slots: where an address's tag and chunk stand ---------------------------------------------------------- */

static bool in_window(uintptr_t address)
{
    /* O2: begin is there when n_granules is. */
    return (address - load_relaxed(&map_window.begin)) >> GRANULE_SHIFT < load_acquire(&map_window.n_granules);
}

static _Atomic uint32_t *tag_slot(uintptr_t address)
{
    if (in_window(address)) {
        return &load_relaxed(&map_window.tags)[(address - load_relaxed(&map_window.begin)) >> GRANULE_SHIFT];
    }
    struct leaf *leaf = leaf_find(address);
    return leaf == NULL ? NULL : &leaf->tags[(address >> GRANULE_SHIFT) % LEAF_GRANULES];
}

uint32_t map_tag_acquire(const void *p)
{
    _Atomic uint32_t *slot = tag_slot((uintptr_t)p);
    return slot == NULL ? 0 : load_acquire(slot); /* O1 */
}

static _Atomic(char *) *chunk_slot(uintptr_t address)
{
    if (in_window(address)) {
        return &load_relaxed(&map_window.chunks)[(address - load_relaxed(&map_window.begin)) >> CHUNK_SHIFT];
    }
    struct leaf *leaf = leaf_find(address);
    return leaf == NULL ? NULL : &leaf->chunks[(address >> CHUNK_SHIFT) % LEAF_CHUNKS];
}

void *map_descriptor_outside(uintptr_t at)
{
    _Atomic(char *) *slot = chunk_slot(at);
    /* O5 acquire: pairs with the release in chunk_make, so that the descriptors read as zeros. */
    char *descriptors = slot == NULL ? NULL : load_acquire(slot);
    return descriptors == NULL ? NULL : descriptors + (at >> GRANULE_SHIFT) % CHUNK_GRANULES * DESCRIPTOR_BYTES;
}

/* Steps are counted from the arrays' begin: that is aligned to a page, which may be less than a step, and what lies
 * before it or behind its end is somebody else's. */
static int commit_around(const void *slot)
{
    char *arrays = (char *)(void *)load_relaxed(&map_window.tags);
    return os_commit(arrays + round_down(ptr_diff(slot, arrays), commit_step()), commit_step());
}

static int chunk_make(uintptr_t address)
{
    if (in_window(address)) {
        /* A chunk's 64 tags lie within one step, for both are powers of two. */
        int error = commit_around((void *)tag_slot(address));
        if (error == 0) {
            error = commit_around((void *)chunk_slot(address));
        }
        if (error != 0) {
            return error;
        }
    } else if (leaf_make(address) == NULL) {
        return -ENOMEM;
    }
    char *descriptors = map_books(CHUNK_GRANULES * DESCRIPTOR_BYTES);
    if (descriptors == NULL) {
        return -ENOMEM;
    }
    char *expected = NULL;
    /* O5 release. A thread that was quicker made the same; these books are then lost, a few KiB once. */
    cas_acq_rel(chunk_slot(address), &expected, descriptors);
    return 0;
}

int map_add(void *begin, size_t bytes)
{
    uintptr_t end = (uintptr_t)begin + bytes;
    for (uintptr_t at = round_down((uintptr_t)begin, CHUNK_BYTES); at < end; at += CHUNK_BYTES) {
        if (map_descriptor((void *)at) == NULL) {
            int error = chunk_make(at);
            if (error != 0) {
                return error;
            }
        }
    }
    return 0;
}

void map_set(void *begin, size_t n_granules, uint32_t tag)
{
    for (size_t i = 0; i < n_granules; i++) {
        /* O1 release: what was written to the descriptor is seen by who acquires the tag. */
        store_release(tag_slot((uintptr_t)begin + (i << GRANULE_SHIFT)), tag);
    }
}

bool map_claim(void *begin, uint32_t from, uint32_t to)
{
    return cas_acq_rel(tag_slot((uintptr_t)begin), &from, to); /* O1 */
}

void map_set_large(void *begin, size_t n_granules)
{
    for (size_t i = 0; i < n_granules; i++) {
        uint32_t back = (uint32_t)size_min(i, 0xffffff);
        /* O1 release. */
        store_release(tag_slot((uintptr_t)begin + (i << GRANULE_SHIFT)), map_make_tag(back, MAP_CODE_LARGE));
    }
}

/* ---- all of it ---------------------------------------------------------------------------------------------- */

struct chunk_visit {
    int (*visit)(char *begin, void *context);
    void *context;
};

static int each_chunk(_Atomic(char *) *chunks, size_t n, uintptr_t begin, const struct chunk_visit *to)
{
    int result = 0;
    for (size_t i = 0; i < n && result == 0; i++) {
        if (load_acquire(&chunks[i]) != NULL) { /* O5 */
            result = to->visit((char *)(begin + (i << CHUNK_SHIFT)), to->context);
        }
    }
    return result;
}

int map_each_chunk(int (*visit)(char *begin, void *context), void *context)
{
    struct chunk_visit to = {.visit = visit, .context = context};
    size_t n = load_acquire(&map_window.n_granules) / CHUNK_GRANULES; /* O2 */
    int result = each_chunk(load_relaxed(&map_window.chunks), n, load_relaxed(&map_window.begin), &to);
    for (size_t i = 0; i < sizeof map.roots / sizeof map.roots[0] && result == 0; i++) {
        struct leaf *leaf = load_acquire(&map.roots[i]); /* O4 */
        if (leaf != NULL) {
            result = each_chunk(leaf->chunks, LEAF_CHUNKS, (uintptr_t)i << LEAF_SHIFT, &to);
        }
    }
    return result;
}

/* ---- figures ------------------------------------------------------------------------------------------------ */

int map_each_books(int (*visit)(void *begin, size_t bytes, void *context), void *context)
{
    uintptr_t arrays = load_acquire(&map.window_arrays); /* O19 */
    int result =
        arrays == 0 ? 0 : visit((void *)round_down(arrays, 64), window_array_bytes(window_bytes_of(arrays)), context);
    for (struct books *books = load_acquire(&map.books); books != NULL && result == 0; books = books->older) { /* O3 */
        result = visit(books, books->bytes, context);
    }
    return result;
}

size_t map_books_bytes(void)
{
    uintptr_t arrays = load_acquire(&map.window_arrays); /* O19 */
    return books_sum(books_space) + (arrays == 0 ? 0 : window_array_bytes(window_bytes_of(arrays)));
}

size_t map_books_resident_bytes(void)
{
    uintptr_t arrays = load_acquire(&map.window_arrays); /* O19 */
    size_t sum = books_sum(books_resident);
    if (arrays != 0) {
        sum += os_resident_bytes((void *)round_down(arrays, 64), window_array_bytes(window_bytes_of(arrays)));
    }
    return sum;
}

int map_each_book(int (*visit)(void *begin, size_t bytes, void *context), void *context)
{
    uintptr_t arrays = load_acquire(&map.window_arrays); /* O19 */
    int result = 0;
    if (arrays != 0) {
        result = visit((void *)round_down(arrays, 64), window_array_bytes(window_bytes_of(arrays)), context);
    }
    for (struct books *books = load_acquire(&map.books); books != NULL && result == 0; books = books->older) { /* O3 */
        result = visit(books, books->bytes, context);
    }
    for (size_t i = 0; i < sizeof map.roots / sizeof map.roots[0] && result == 0; i++) {
        struct leaf *leaf = load_acquire(&map.roots[i]); /* O4 */
        result = leaf == NULL ? 0 : visit(leaf, round_up(sizeof *leaf, os_page_bytes()), context);
    }
    return result;
}

/* ---- for who looks from outside ----------------------------------------------------------------------------- */

const struct allot_root_map map_root = {
    .bytes = sizeof map_root,
    .granule_shift = GRANULE_SHIFT,
    .chunk_shift = CHUNK_SHIFT,
    .leaf_shift = LEAF_SHIFT,
    .n_roots = sizeof map.roots / sizeof map.roots[0],
    .descriptor_bytes = DESCRIPTOR_BYTES,
    .code_other = MAP_CODE_OTHER,
    .code_large = MAP_CODE_LARGE,
    .code_pool = MAP_CODE_POOL,
    .code_free = MAP_CODE_FREE,
    .heap_first = MAP_HEAP_FIRST,
    .leaf_bytes = sizeof(struct leaf),
    .window = &map_window,
    .window_begin = ROOT_FIELD(struct map_window, begin),
    .window_granules = ROOT_FIELD(struct map_window, n_granules),
    .window_tags = ROOT_FIELD(struct map_window, tags),
    .window_chunks = ROOT_FIELD(struct map_window, chunks),
    .roots = map.roots,
    .leaf_tags = ROOT_FIELD(struct leaf, tags),
    .leaf_chunks = ROOT_FIELD(struct leaf, chunks),
    .books = &map.books,
    .books_older = ROOT_FIELD(struct books, older),
    .books_bytes = ROOT_FIELD(struct books, bytes),
};
