/* SPDX-License-Identifier: MIT */
/* books.c - memory of the room's own. A search leaves it out: it is full of the addresses that are searched for. */
#include "gc/gc_internal.h"

#include <string.h>

_Atomic(struct gc *) gc_state;

static void *map_pages(size_t bytes)
{
    size_t page = os_page_bytes();
    return os_map(round_up(bytes, page), page);
}

struct gc *gc_start(void)
{
    struct gc *gc = gc_now();
    if (gc != NULL) {
        return gc;
    }
    gc = map_pages(sizeof *gc);
    if (gc == NULL) {
        return NULL;
    }
    gc->books.ranges[0].begin = (uintptr_t)gc;
    gc->books.ranges[0].end = (uintptr_t)gc + round_up(sizeof *gc, os_page_bytes());
    gc->books.n_ranges = 1;
    gc->mappings.item_bytes = sizeof(struct mapping);
    gc->pieces.item_bytes = sizeof(struct piece);
    gc->weaks.item_bytes = 64;
    gc->suppression_store.item_bytes = suppress_item_bytes();
    gc->mappings_most = os_mappings_most();
    gc->collected_ns = os_now_ns();
    struct gc *expected = NULL;
    if (!cas_acq_rel(&gc_state, &expected, gc)) { /* OG4: who sees the pointer sees what is behind it */
        os_release(gc, round_up(sizeof *gc, os_page_bytes()));
        return expected;
    }
    return gc;
}

void *books_map(size_t bytes)
{
    struct books *books = &gc_now()->books;
    bytes = round_up(bytes, os_page_bytes());
    if (books->n_ranges == sizeof books->ranges / sizeof *books->ranges) {
        return NULL;
    }
    char *p = map_pages(bytes);
    if (p != NULL) {
        books->ranges[books->n_ranges].begin = (uintptr_t)p;
        books->ranges[books->n_ranges++].end = (uintptr_t)p + bytes;
    }
    return p;
}

void books_release(void *begin, size_t bytes)
{
    struct books *books = &gc_now()->books;
    for (size_t i = 0; i < books->n_ranges; i++) {
        if (books->ranges[i].begin == (uintptr_t)begin) {
            books->ranges[i] = books->ranges[--books->n_ranges];
            os_release(begin, round_up(bytes, os_page_bytes()));
            return;
        }
    }
}

size_t store_chunk_bytes(size_t i)
{
    return i < 8 ? 64 * KIB : MIB;
}

static bool store_grow(struct store *store)
{
    size_t bytes = store_chunk_bytes(store->n_chunks);
    char *chunk = store->n_chunks == STORE_CHUNKS ? NULL : books_map(bytes);
    if (chunk == NULL) {
        return false;
    }
    for (size_t at = 0; at + store->item_bytes <= bytes; at += store->item_bytes) {
        *(void **)(void *)(chunk + at) = store->free;
        store->free = chunk + at;
    }
    store_release(&store->chunks[store->n_chunks++], chunk); /* OG4: its items read as free */
    return true;
}

void *store_take(struct store *store)
{
    if (store->free == NULL && !store_grow(store)) {
        return NULL;
    }
    void *item = store->free;
    store->free = *(void **)item;
    memset(item, 0, store->item_bytes);
    return item;
}

void store_give(struct store *store, void *item)
{
    *(void **)item = store->free;
    store->free = item;
}
