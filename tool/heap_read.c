/* SPDX-License-Identifier: MIT */
/* heap_read.c - reads a heap through the root table.
 *
 *     modules -> note "allot" -> allot_root -> address map -> chunk by chunk: tags and descriptors -> spans
 *
 * Each number that was read is held against what it can be at most; what can't be is counted as torn and passed over.
 */
#include "heap_read.h"

#include "tool.h"

#include <allot/root.h>
#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BOOKS_MOST 100000
#define AREAS_MOST 100000
#define HEAPS_MOST 131072u
#define OPTIONS_MOST 256u
#define ROOTS_MOST 4
#define SPAN_BYTES_MOST (UINT64_C(1) << 47)

/* A root table and what it leads to, copied. */
struct root {
    struct allot_root table;
    allot_root_map map;
    allot_root_areas areas;
    allot_root_store store;
    allot_root_heap heap;
    allot_root_pool pool;
    allot_root_config config;
    allot_root_arena arena;
    uint64_t secret;
};

struct reader {
    struct target *target;
    struct heap_view *view;
    struct root *root;
    uint32_t now_ms;
    bool has_clock;      /* ages can be told */
    uint64_t skip_until; /* what lies below belongs to a span that is read already */
    char *granule;       /* room for a slab's contents */
};

/* ---- fields ------------------------------------------------------------------------------------------------- */

/* 0 when the field doesn't lie in what was read. */
static uint64_t field_of(const void *base, size_t base_bytes, allot_field field)
{
    if (field.at > base_bytes || field.bytes > base_bytes - field.at) {
        return 0;
    }
    const char *at = (const char *)base + field.at;
    switch (field.bytes) {
    case 1:
        return *(const unsigned char *)at;
    case 2: {
        uint16_t n;
        memcpy(&n, at, sizeof n);
        return n;
    }
    case 4: {
        uint32_t n;
        memcpy(&n, at, sizeof n);
        return n;
    }
    case 8: {
        uint64_t n;
        memcpy(&n, at, sizeof n);
        return n;
    }
    default:
        return 0;
    }
}

static uint64_t read_word(struct target *target, const void *address)
{
    uint64_t word = 0;
    return target_read(target, (uintptr_t)address, &word, sizeof word) ? word : 0;
}

/* ---- the root table ----------------------------------------------------------------------------------------- */

/* The tables of this version may have grown since at their ends, but not shrunk. */
static bool read_table(struct target *target, const void *address, void *out, size_t bytes)
{
    uint32_t has = 0;
    return target_read(target, (uintptr_t)address, &has, sizeof has) && has >= bytes &&
           target_read(target, (uintptr_t)address, out, bytes);
}

enum found { FOUND_NONE, FOUND_OTHER_VERSION, FOUND };

static enum found read_root(struct target *target, uint64_t address, struct root *root)
{
    struct allot_root *table = &root->table;
    if (!target_read(target, address, table, offsetof(struct allot_root, library_version)) ||
        table->magic != ALLOT_ROOT_MAGIC) {
        return FOUND_NONE;
    }
    if (table->version != ALLOT_ROOT_VERSION || table->bytes < sizeof *table) {
        return FOUND_OTHER_VERSION;
    }
    bool whole = target_read(target, address, table, sizeof *table) &&
                 read_table(target, table->map, &root->map, sizeof root->map) &&
                 read_table(target, table->areas, &root->areas, sizeof root->areas) &&
                 read_table(target, table->store, &root->store, sizeof root->store) &&
                 read_table(target, table->heap, &root->heap, sizeof root->heap) &&
                 read_table(target, table->pool, &root->pool, sizeof root->pool) &&
                 read_table(target, table->config, &root->config, sizeof root->config) &&
                 read_table(target, table->arena, &root->arena, sizeof root->arena);
    if (!whole) {
        return table->map == NULL ? FOUND_NONE : FOUND_OTHER_VERSION; /* NULL: ld.so hasn't relocated it yet */
    }
    const allot_root_map *map = &root->map;
    if (map->granule_shift != 16 || map->chunk_shift != 22 || map->leaf_shift < 22 || map->leaf_shift > 40 ||
        map->descriptor_bytes < 32 || map->descriptor_bytes > 4096 || map->n_roots > 1u << 24 ||
        root->heap.n_classes > 256 || root->heap.n_small > root->heap.n_classes) {
        return FOUND_OTHER_VERSION;
    }
    root->secret = read_word(target, root->heap.secret);
    return FOUND;
}

/* In the notes of a module whose ELF header lies at base. 0: no such note. */
static uint64_t note_of_segment(struct target *target, uint64_t at, uint64_t end)
{
    while (at + sizeof(Elf64_Nhdr) <= end) {
        struct {
            Elf64_Nhdr head;
            char name[8];
            int64_t distance;
        } note;
        if (!target_read(target, at, &note.head, sizeof note.head) || note.head.n_namesz > 4096 ||
            note.head.n_descsz > 65536) {
            return 0;
        }
        uint64_t description = at + sizeof note.head + (note.head.n_namesz + 3) / 4 * 4;
        if (note.head.n_type == ALLOT_ROOT_NOTE && note.head.n_namesz == sizeof "allot" && note.head.n_descsz == 8 &&
            target_read(target, at + sizeof note.head, note.name, sizeof note.name) &&
            strcmp(note.name, "allot") == 0 && target_read(target, description, &note.distance, sizeof note.distance)) {
            return description + (uint64_t)note.distance;
        }
        at = description + (note.head.n_descsz + 3) / 4 * 4;
    }
    return 0;
}

static uint64_t root_of_module(struct target *target, uint64_t base)
{
    Elf64_Ehdr head;
    Elf64_Phdr segments[64];
    if (!target_read(target, base, &head, sizeof head) || memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 ||
        head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_phentsize != sizeof segments[0] || head.e_phnum > 64 ||
        !target_read(target, base + head.e_phoff, segments, head.e_phnum * sizeof segments[0])) {
        return 0;
    }
    uint64_t bias = base; /* of a program that isn't relocated, its addresses are right already */
    for (unsigned i = 0; i < head.e_phnum; i++) {
        if (segments[i].p_type == PT_LOAD && segments[i].p_offset == 0) {
            bias = base - segments[i].p_vaddr;
            break;
        }
    }
    for (unsigned i = 0; i < head.e_phnum; i++) {
        uint64_t at = bias + segments[i].p_vaddr;
        uint64_t found = segments[i].p_type == PT_NOTE ? note_of_segment(target, at, at + segments[i].p_memsz) : 0;
        if (found != 0) {
            return found;
        }
    }
    return 0;
}

static enum found find_roots(struct target *target, struct root *roots, size_t *n_roots)
{
    enum found best = FOUND_NONE;
    *n_roots = 0;
    for (size_t i = 0; i < target->n_mappings && *n_roots < ROOTS_MOST; i++) {
        const struct mapping *mapping = &target->mappings[i];
        bool may_be_module = mapping->readable && mapping->offset == 0 && (mapping->name[0] == '/' || target->pid == 0);
        uint64_t address = may_be_module ? root_of_module(target, mapping->begin) : 0;
        if (address == 0) {
            continue;
        }
        enum found found = read_root(target, address, &roots[*n_roots]);
        *n_roots += found == FOUND;
        best = found > best ? found : best;
    }
    return best;
}

/* ---- blocks ------------------------------------------------------------------------------------------------- */

static void set_live(struct span_view *span, uint32_t i)
{
    span->live_bits[i / 8] |= (unsigned char)(1u << i % 8);
}

static bool is_free_form(const struct reader *reader, uint64_t address, const uint64_t words[2])
{
    uint64_t key = address ^ reader->root->secret;
    const allot_root_heap *heap = &reader->root->heap;
    uint64_t form = words[0] ^ words[1] ^ key;
    uint64_t outbox = words[1] ^ key ^ heap->form_outbox;
    return form == heap->form_own || form == heap->form_sent || form == heap->form_sorted ||
           outbox >> heap->form_outbox_number % 64 == 0;
}

/* Reads the pages that are there, lest reading makes others resident; these stay zeros, which is no free block's form.
 */
static void read_slab(struct reader *reader, const struct span_view *span)
{
    uint8_t states[GRANULE_BYTES / 4096];
    uint64_t page = reader->target->page_bytes;
    size_t n_pages = (size_t)(span->bytes / page);
    memset(reader->granule, 0, GRANULE_BYTES);
    target_pages(reader->target, span->begin, n_pages, states);
    for (size_t i = 0; i < n_pages;) {
        size_t n = 0;
        while (i + n < n_pages && states[i + n] == PAGE_RESIDENT) {
            n++;
        }
        if (n > 0) {
            target_read(reader->target, span->begin + i * page, reader->granule + i * page, n * page);
        }
        i += n + 1;
    }
}

static void look_at_small_blocks(struct reader *reader, struct span_view *span, uint64_t bare_pages)
{
    read_slab(reader, span);
    uint64_t page = reader->target->page_bytes;
    for (uint32_t i = 0; i < span->n_blocks; i++) {
        uint64_t offset = span->first_block - span->begin + i * span->block_bytes;
        uint64_t words[2];
        memcpy(words, reader->granule + offset, sizeof words);
        bool is_bare = offset / page < 64 && (bare_pages >> (offset / page) & 1) != 0;
        if (!is_bare && !is_free_form(reader, span->begin + offset, words)) {
            set_live(span, i);
        }
    }
}

/* ---- spans -------------------------------------------------------------------------------------------------- */

static int64_t age_since(const struct reader *reader, uint64_t stamp_ms)
{
    uint32_t age = reader->now_ms - (uint32_t)stamp_ms;
    return reader->has_clock && stamp_ms != 0 && age < 1u << 31 ? (int64_t)age : -1;
}

static bool small_slab(struct reader *reader, uint64_t at, const void *descriptor, uint32_t tag)
{
    const allot_root_heap *heap = &reader->root->heap;
    size_t bytes = reader->root->map.descriptor_bytes;
    unsigned class_index = tag & 0xff & ~heap->class_sparse;
    uint64_t block_bytes = reader->view->class_bytes[class_index];
    uint64_t capacity = field_of(descriptor, bytes, heap->slab_capacity);
    uint64_t carved = field_of(descriptor, bytes, heap->slab_carved);
    if (block_bytes == 0 || capacity == 0 || capacity * block_bytes > GRANULE_BYTES || carved > capacity) {
        return false;
    }
    struct span_view *span = heap_view_add(reader->view);
    span->begin = at;
    span->bytes = GRANULE_BYTES;
    span->use = USE_SMALL;
    span->class_index = class_index;
    span->heap = tag >> 8;
    span->block_bytes = block_bytes;
    span->first_block = at + GRANULE_BYTES - capacity * block_bytes;
    span->n_blocks = (uint32_t)carved;
    span->age_ms = age_since(reader, field_of(descriptor, bytes, heap->slab_stamp_ms));
    span->live_bits = take_memory((size_t)carved / 8 + 1);
    look_at_small_blocks(reader, span, field_of(descriptor, bytes, heap->slab_bare_pages));
    span_measure(reader->target, span);
    return true;
}

static bool medium_slab(struct reader *reader, uint64_t at, const void *descriptor, uint32_t tag, uint64_t granules)
{
    const allot_root_heap *heap = &reader->root->heap;
    size_t bytes = reader->root->map.descriptor_bytes;
    uint64_t block_bytes = field_of(descriptor, bytes, heap->medium_block_bytes);
    uint64_t capacity = field_of(descriptor, bytes, heap->medium_capacity);
    if (granules == 0 || granules > 4096 || capacity == 0 || capacity > 64 || block_bytes == 0 ||
        block_bytes * capacity > granules * GRANULE_BYTES) {
        return false;
    }
    struct span_view *span = heap_view_add(reader->view);
    span->begin = at;
    span->bytes = granules * GRANULE_BYTES;
    span->use = USE_MEDIUM;
    span->class_index = tag & 0xff;
    span->heap = tag >> 8;
    span->block_bytes = block_bytes;
    span->first_block = at;
    span->n_blocks = (uint32_t)capacity;
    span->age_ms = age_since(reader, field_of(descriptor, bytes, heap->medium_stamp_ms));
    uint64_t free_bits =
        field_of(descriptor, bytes, heap->medium_free) | field_of(descriptor, bytes, heap->medium_remote);
    span->live_bits = take_memory((size_t)capacity / 8 + 1);
    for (uint32_t i = 0; i < capacity; i++) {
        if ((free_bits >> i & 1) == 0) {
            set_live(span, i);
        }
    }
    span_measure(reader->target, span);
    return true;
}

static bool large_block(struct reader *reader, uint64_t at, const void *descriptor, uint64_t granules, bool own)
{
    const allot_root_heap *heap = &reader->root->heap;
    size_t bytes = reader->root->map.descriptor_bytes;
    uint64_t usable = field_of(descriptor, bytes, heap->large_bytes);
    uint64_t requested = field_of(descriptor, bytes, heap->large_requested);
    if (granules == 0 || granules > SPAN_BYTES_MOST / GRANULE_BYTES || usable > granules * GRANULE_BYTES ||
        requested > usable) {
        return false;
    }
    struct span_view *span = heap_view_add(reader->view);
    span->begin = at;
    span->bytes = granules * GRANULE_BYTES;
    span->use = USE_LARGE;
    span->own = own;
    span->block_bytes = usable;
    span->first_block = at;
    span->n_blocks = 1;
    span->requested_bytes = requested;
    span_measure(reader->target, span);
    return true;
}

/* Also what was never handed out, a granule at a time: it is shown only where it is resident. */
static void free_span(struct reader *reader, uint64_t at, uint64_t granules, int64_t age_ms)
{
    struct span_view *span = heap_view_add(reader->view);
    span->begin = at;
    span->bytes = granules * GRANULE_BYTES;
    span->use = USE_FREE;
    span->age_ms = age_ms;
    span_measure(reader->target, span);
}

/* A pool's large block; its segments are read from the pool's own books. */
static void pool_granule(struct reader *reader, uint64_t at, const void *descriptor, uint32_t tag)
{
    const allot_root_pool *pool = &reader->root->pool;
    uint32_t upper = tag >> 8;
    uint64_t low = upper & ((UINT32_C(1) << pool->tag_number_shift) - 1);
    if ((upper & pool->tag_own) == 0 || low != 0) {
        return;
    }
    uint64_t bytes = field_of(descriptor, reader->root->map.descriptor_bytes, pool->mapping_bytes);
    if (bytes == 0 || bytes > SPAN_BYTES_MOST) {
        return;
    }
    struct span_view *span = heap_view_add(reader->view);
    span->begin = at;
    span->bytes = (bytes + GRANULE_BYTES - 1) / GRANULE_BYTES * GRANULE_BYTES;
    span->use = USE_POOL;
    span->own = true;
    span->block_bytes = bytes;
    span->first_block = at;
    span->n_blocks = 1;
    span->n_live = 1;
    span->live_bytes = bytes;
    span_measure(reader->target, span);
    reader->skip_until = at + span->bytes;
}

static void other_granule(struct reader *reader, uint64_t at)
{
    struct span_view *span = heap_view_add(reader->view);
    span->begin = at;
    span->bytes = GRANULE_BYTES;
    span->use = USE_OTHER;
    span_measure(reader->target, span);
}

/* Nothing is in it: the first descriptor of a free span tells how long that is. */
static void free_granule(struct reader *reader, uint64_t at, const void *descriptor, bool is_ours)
{
    const allot_root_store *store = &reader->root->store;
    size_t bytes = reader->root->map.descriptor_bytes;
    uint64_t granules = field_of(descriptor, bytes, store->span_granules);
    bool begins = field_of(descriptor, bytes, store->span_state) == store->state_free &&
                  field_of(descriptor, bytes, store->span_begin) == at && granules > 0 && granules <= UINT32_MAX;
    if (begins) {
        free_span(reader, at, granules, age_since(reader, field_of(descriptor, bytes, store->span_stamp_ms)));
        reader->skip_until = at + granules * GRANULE_BYTES;
    } else if (is_ours) {
        free_span(reader, at, 1, -1);
    }
}

static void granule(struct reader *reader, uint64_t at, uint32_t tag, const char *descriptor)
{
    const struct root *root = reader->root;
    size_t bytes = root->map.descriptor_bytes;
    uint32_t code = tag & 0xff;
    uint32_t heap = tag >> 8;
    uint64_t granules = field_of(descriptor, bytes, root->store.span_granules);
    bool first = field_of(descriptor, bytes, root->store.span_begin) == at;
    bool good = true;
    if (tag == 0 || code == root->map.code_free || (code < root->map.code_other && heap < root->map.heap_first)) {
        free_granule(reader, at, descriptor, tag != 0);
    } else if (code < root->map.code_other) {
        bool is_small = (code & ~root->heap.class_sparse) < root->heap.n_small;
        good = is_small ? small_slab(reader, at, descriptor, tag)
                        : first && medium_slab(reader, at, descriptor, tag, granules);
    } else if (code == root->map.code_large) {
        bool own = field_of(descriptor, bytes, root->store.span_own) != 0;
        good = first && large_block(reader, at, descriptor, granules, own);
    } else if (code == root->map.code_pool) {
        pool_granule(reader, at, descriptor, tag);
    } else {
        other_granule(reader, at);
    }
    reader->view->n_torn += !good;
    if (good && reader->view->n_spans > 0) {
        const struct span_view *last = &reader->view->spans[reader->view->n_spans - 1];
        if (last->begin == at) {
            reader->skip_until = at + last->bytes;
        }
    }
}

/* ---- the address map ---------------------------------------------------------------------------------------- */

#define CHUNK_BYTES (UINT64_C(1) << 22)
#define CHUNK_GRANULES 64u

static void chunk(struct reader *reader, uint64_t begin, uint64_t tags_at, uint64_t descriptors_at)
{
    uint32_t tags[CHUNK_GRANULES];
    size_t bytes = reader->root->map.descriptor_bytes;
    char *descriptors = take_memory(CHUNK_GRANULES * bytes);
    if (target_read(reader->target, tags_at, tags, sizeof tags) &&
        target_read(reader->target, descriptors_at, descriptors, CHUNK_GRANULES * bytes)) {
        for (unsigned i = 0; i < CHUNK_GRANULES; i++) {
            uint64_t at = begin + i * GRANULE_BYTES;
            if (at >= reader->skip_until) {
                granule(reader, at, tags[i], descriptors + i * bytes);
            }
        }
    } else {
        reader->view->n_torn++;
    }
    free(descriptors);
}

/* n chunks from begin on, whose descriptors' addresses stand in an array and whose tags in another. */
static void chunks(struct reader *reader, uint64_t begin, uint64_t n, uint64_t tags_at, uint64_t chunks_at)
{
    uint64_t addresses[2048];
    for (uint64_t i = 0; i < n;) {
        uint64_t step = n - i < 2048 ? n - i : 2048;
        if (!target_read(reader->target, chunks_at + i * 8, addresses, step * 8)) {
            reader->view->n_torn++;
            return;
        }
        for (uint64_t k = 0; k < step; k++) {
            if (addresses[k] != 0) {
                chunk(reader, begin + (i + k) * CHUNK_BYTES, tags_at + (i + k) * CHUNK_GRANULES * 4, addresses[k]);
            }
        }
        i += step;
    }
}

static void leaves(struct reader *reader)
{
    const allot_root_map *map = &reader->root->map;
    uint64_t addresses[2048];
    uint64_t per_leaf = (UINT64_C(1) << map->leaf_shift) / CHUNK_BYTES;
    for (uint64_t i = 0; i < map->n_roots; i += 2048) {
        uint64_t step = map->n_roots - i < 2048 ? map->n_roots - i : 2048;
        if (!target_read(reader->target, (uintptr_t)map->roots + i * 8, addresses, step * 8)) {
            continue; /* a core has no page of zeros */
        }
        for (uint64_t k = 0; k < step; k++) {
            if (addresses[k] != 0) {
                chunks(reader, (i + k) << map->leaf_shift, per_leaf, addresses[k] + map->leaf_tags.at,
                       addresses[k] + map->leaf_chunks.at);
                range_add(&reader->view->books, &reader->view->n_books, addresses[k], map->leaf_bytes);
            }
        }
    }
}

static void window(struct reader *reader)
{
    const allot_root_map *map = &reader->root->map;
    char bytes[256];
    if (!target_read(reader->target, (uintptr_t)map->window, bytes, sizeof bytes)) {
        return;
    }
    uint64_t begin = field_of(bytes, sizeof bytes, map->window_begin);
    uint64_t granules = field_of(bytes, sizeof bytes, map->window_granules);
    uint64_t tags = field_of(bytes, sizeof bytes, map->window_tags);
    uint64_t chunks_at = field_of(bytes, sizeof bytes, map->window_chunks);
    if (granules == 0 || granules > UINT64_C(1) << 31) {
        return;
    }
    chunks(reader, begin, granules / CHUNK_GRANULES, tags, chunks_at);
    uint64_t array_bytes = chunks_at + granules / CHUNK_GRANULES * 8 - tags;
    range_add(&reader->view->books, &reader->view->n_books, tags, (array_bytes + 16383) / 16384 * 16384);
}

/* ---- books, areas, pools, heaps, options -------------------------------------------------------------------- */

static void books(struct reader *reader)
{
    const allot_root_map *map = &reader->root->map;
    uint64_t at = read_word(reader->target, map->books);
    for (unsigned i = 0; at != 0 && i < BOOKS_MOST; i++) {
        char head[64];
        if (!target_read(reader->target, at, head, sizeof head)) {
            return;
        }
        uint64_t bytes = field_of(head, sizeof head, map->books_bytes);
        if (bytes < SPAN_BYTES_MOST) {
            range_add(&reader->view->books, &reader->view->n_books, at, bytes);
        }
        at = field_of(head, sizeof head, map->books_older);
    }
}

static void areas(struct reader *reader)
{
    const allot_root_areas *root = &reader->root->areas;
    char area[256];
    size_t bytes = root->area_bytes < sizeof area ? root->area_bytes : sizeof area;
    uint64_t at = read_word(reader->target, root->newest);
    for (unsigned i = 0; at != 0 && i < AREAS_MOST && target_read(reader->target, at, area, bytes); i++) {
        uint64_t begin = field_of(area, bytes, root->begin);
        uint64_t end = field_of(area, bytes, root->end);
        uint64_t committed = field_of(area, bytes, root->committed);
        if (begin <= committed && committed <= end) {
            range_add(&reader->view->areas, &reader->view->n_areas, begin, committed - begin);
            reader->view->area_bytes += end - begin;
        }
        at = field_of(area, bytes, root->next);
    }
}

/* Live bytes of the superblocks and runs that begin in a granule of a segment. */
static void count_pool_blocks(struct reader *reader, struct span_view *span, const char *units, unsigned n)
{
    const allot_root_pool *pool = &reader->root->pool;
    for (unsigned u = 0; u < n; u++) {
        const char *unit = units + (size_t)u * pool->unit_bytes;
        uint64_t anchor = field_of(unit, pool->unit_bytes, pool->unit_anchor);
        uint64_t kind = field_of(unit, pool->unit_bytes, pool->unit_kind);
        if (kind >= 1 && kind <= pool->class_last && (anchor & pool->anchor_open) != 0) {
            char shape[16], class[32];
            size_t shape_bytes = pool->shape_slot_bytes < sizeof shape ? pool->shape_slot_bytes : sizeof shape;
            size_t class_bytes = pool->class_slot_bytes < sizeof class ? pool->class_slot_bytes : sizeof class;
            if (target_read(reader->target, (uintptr_t)pool->shapes + kind * shape_bytes, shape, shape_bytes) &&
                target_read(reader->target, (uintptr_t)pool->classes + kind * class_bytes, class, class_bytes)) {
                uint64_t blocks = field_of(shape, shape_bytes, pool->shape_blocks);
                uint64_t free_blocks = (uint64_t)__builtin_popcountll(anchor & ~pool->anchor_open);
                uint64_t live = free_blocks < blocks ? blocks - free_blocks : 0;
                span->live_bytes += live * field_of(class, class_bytes, pool->class_bytes);
                span->n_live += (uint32_t)live;
            }
        } else if (kind == pool->kind_run && anchor != 0) {
            span->live_bytes += field_of(unit, pool->unit_bytes, pool->unit_info) << pool->unit_shift;
            span->n_live++;
        }
    }
}

static void pool_segment(struct reader *reader, uint64_t segment)
{
    const allot_root_pool *pool = &reader->root->pool;
    uint32_t head_bytes = pool->segment_first_unit;
    if (head_bytes > 65536 || pool->unit_bytes > 256 || pool->granule_units > 64 || pool->granule_units == 0) {
        return;
    }
    char *head = take_memory(head_bytes);
    bool good = target_read(reader->target, segment, head, head_bytes);
    uint64_t memory = segment + field_of(head, head_bytes, pool->segment_data);
    uint64_t granules = field_of(head, head_bytes, pool->segment_granules);
    good = good && granules <= pool->segment_units / pool->granule_units && granules * 8 <= pool->segment_used.bytes &&
           pool->segment_used.at + granules * 8 <= head_bytes;
    size_t units_bytes = (size_t)pool->granule_units * pool->unit_bytes;
    char *units = take_memory(units_bytes);
    for (uint64_t g = 0; good && g < granules; g++) {
        uint64_t used;
        memcpy(&used, head + pool->segment_used.at + g * 8, sizeof used);
        if (used == 0 && resident_in(reader->target, memory + g * GRANULE_BYTES, GRANULE_BYTES) == 0) {
            continue;
        }
        struct span_view *span = heap_view_add(reader->view);
        span->begin = memory + g * GRANULE_BYTES;
        span->bytes = GRANULE_BYTES;
        span->use = USE_POOL;
        span->block_bytes = UINT64_C(1) << pool->unit_shift;
        span->first_block = span->begin;
        span->n_blocks = pool->granule_units;
        if (target_read(reader->target, segment + head_bytes + g * units_bytes, units, units_bytes)) {
            count_pool_blocks(reader, span, units, pool->granule_units);
        }
        span->live_bits = take_memory(sizeof used);
        memcpy(span->live_bits, &used, sizeof used);
        span_measure(reader->target, span);
    }
    free(units);
    free(head);
}

static void pool(struct reader *reader, const void *address)
{
    const allot_root_pool *root = &reader->root->pool;
    char head[128];
    if (!target_read(reader->target, (uintptr_t)address, head, sizeof head)) {
        return;
    }
    uint64_t segs = field_of(head, sizeof head, root->segs);
    uint64_t n = field_of(head, sizeof head, root->n_segments);
    for (uint64_t i = 0; segs != 0 && i < n && i < 1u << 20; i++) {
        uint64_t distance = read_word(reader->target, (const void *)((uintptr_t)address + segs + i * 8));
        if (distance != 0) {
            pool_segment(reader, (uintptr_t)address + distance);
        }
    }
}

static void heap(struct reader *reader, uint64_t at, uint64_t *requested, uint64_t *sampled)
{
    const allot_root_heap *root = &reader->root->heap;
    struct heap_view *view = reader->view;
    size_t bytes = root->heap_bytes;
    char *copy = take_memory(bytes);
    if (target_read(reader->target, at, copy, bytes)) {
        view->heaps = grown(view->heaps, view->n_heaps, sizeof *view->heaps);
        struct heap_of_thread *heap = &view->heaps[view->n_heaps++];
        *heap = (struct heap_of_thread){
            .number = (uint32_t)field_of(copy, bytes, root->heap_number),
            .idle = field_of(copy, bytes, root->heap_state) == root->state_idle,
            .tid = target_thread_by_storage(reader->target, field_of(copy, bytes, root->heap_current_of)),
        };
        for (uint32_t c = 0; c < root->n_small && root->heap_bins.at + (c + 1) * root->bin_bytes <= bytes; c++) {
            const char *bin = copy + root->heap_bins.at + c * root->bin_bytes;
            int32_t n = (int32_t)field_of(bin, root->bin_bytes, root->bin_limit) -
                        (int32_t)field_of(bin, root->bin_bytes, root->bin_room);
            heap->binned_blocks += n > 0 ? (uint64_t)n : 0;
        }
        *requested += field_of(copy, bytes, root->heap_requested);
        *sampled += field_of(copy, bytes, root->heap_sampled);
    }
    free(copy);
}

static void heaps(struct reader *reader)
{
    const allot_root_heap *root = &reader->root->heap;
    uint64_t requested = 0;
    uint64_t sampled = 0;
    uint32_t n = 0;
    if (root->heap_bytes > 1 << 20 || root->page_heaps == 0 ||
        !target_read(reader->target, (uintptr_t)root->n_heaps, &n, sizeof n)) {
        return;
    }
    for (uint32_t i = 0; i < n && i < HEAPS_MOST && i / root->page_heaps < root->n_pages; i++) {
        uint64_t page = read_word(reader->target, (const char *)root->pages + (uint64_t)(i / root->page_heaps) * 8);
        uint64_t at = page == 0 ? 0 : read_word(reader->target, (const void *)(page + i % root->page_heaps * 8));
        if (at != 0) {
            heap(reader, at, &requested, &sampled);
        }
    }
    reader->view->sampled_bytes += sampled;
    if (requested > 0 && sampled > requested && sampled / 4 < requested) {
        reader->view->rounding = (double)sampled / (double)requested;
    }
}

static void options(struct reader *reader)
{
    const allot_root_config *root = &reader->root->config;
    char row[256];
    size_t bytes = root->row_bytes < sizeof row ? root->row_bytes : sizeof row;
    for (uint32_t i = 0; i < root->n && i < OPTIONS_MOST; i++) {
        struct option_view option = {.value = (int64_t)read_word(reader->target, (const char *)root->values + i * 8)};
        if (target_read(reader->target, (uintptr_t)root->rows + i * root->row_bytes, row, bytes) &&
            target_read_string(reader->target, field_of(row, bytes, root->row_name), option.name, sizeof option.name)) {
            reader->view->options =
                grown(reader->view->options, reader->view->n_options, sizeof *reader->view->options);
            reader->view->options[reader->view->n_options++] = option;
        }
    }
}

static bool class_sizes(struct reader *reader)
{
    const allot_root_heap *root = &reader->root->heap;
    uint32_t bytes[256];
    if (!target_read(reader->target, (uintptr_t)root->class_bytes, bytes, root->n_classes * sizeof bytes[0])) {
        return false;
    }
    for (size_t i = 0; i < root->n_classes; i++) {
        reader->view->class_bytes[i] = bytes[i];
    }
    reader->view->n_classes = root->n_classes;
    reader->view->n_small = root->n_small;
    return true;
}

/* ---- arenas ------------------------------------------------------------------------------------------------- */

#define ARENAS_MOST 100000u
#define ARENA_DEPTH_MOST 64u
#define SEGMENTS_MOST 4096u

/* The words of a list of segments; how many there are in *n. */
static uint64_t segment_words(struct reader *reader, uint64_t at, size_t *n)
{
    const allot_root_arena *root = &reader->root->arena;
    char segment[512];
    size_t bytes = root->segment_bytes < sizeof segment ? root->segment_bytes : sizeof segment;
    uint64_t words = 0;
    for (*n = 0; at != 0 && *n < SEGMENTS_MOST && target_read(reader->target, at, segment, bytes); ++*n) {
        words += field_of(segment, bytes, root->segment_words);
        at = field_of(segment, bytes, root->segment_next);
    }
    return words;
}

/* The two addresses of a head: what lies between them is free. */
static uint64_t head_bytes(const char *arena, size_t bytes, allot_field head)
{
    allot_field next = {.at = head.at, .bytes = 8};
    allot_field end = {.at = head.at + 8, .bytes = 8};
    uint64_t from = field_of(arena, bytes, next);
    uint64_t to = field_of(arena, bytes, end);
    return from <= to && to - from < SPAN_BYTES_MOST ? to - from : 0;
}

static uint64_t bump_free_bytes(struct reader *reader, const char *arena, size_t bytes)
{
    const allot_root_arena *root = &reader->root->arena;
    uint64_t current = field_of(arena, bytes, root->arena_current);
    size_t n;
    if (current == 0) {
        return segment_words(reader, field_of(arena, bytes, root->arena_segments), &n) << root->word_shift;
    }
    char segment[512];
    size_t segment_bytes = root->segment_bytes < sizeof segment ? root->segment_bytes : sizeof segment;
    uint64_t behind = 0;
    if (target_read(reader->target, current, segment, segment_bytes)) {
        behind = segment_words(reader, field_of(segment, segment_bytes, root->segment_next), &n) << root->word_shift;
    }
    /* One of the two is in use; the other one is empty. */
    return behind + head_bytes(arena, bytes, root->arena_head) + head_bytes(arena, bytes, root->arena_hidden);
}

static void arena_fill(struct reader *reader, struct arena_view *view, const char *arena, size_t bytes)
{
    const allot_root_arena *root = &reader->root->arena;
    uint64_t capacity = field_of(arena, bytes, root->arena_capacity) << root->word_shift;
    bool is_general = field_of(arena, bytes, root->arena_kind) == root->kind_general;
    uint64_t unused = is_general ? field_of(arena, bytes, root->arena_free) << root->word_shift
                                 : bump_free_bytes(reader, arena, bytes);
    view->serial = field_of(arena, bytes, root->arena_serial);
    view->kind = (unsigned)field_of(arena, bytes, root->arena_kind);
    view->size_bytes = field_of(arena, bytes, root->arena_size);
    view->live_bytes = unused < capacity ? capacity - unused : 0;
    view->total_bytes = field_of(arena, bytes, root->arena_total);
    view->soft_limit = field_of(arena, bytes, root->arena_soft_limit);
    view->hard_limit = field_of(arena, bytes, root->arena_hard_limit);
    view->sealed = field_of(arena, bytes, root->arena_sealed) != 0;
    view->line = (int)field_of(arena, bytes, root->arena_line);
    segment_words(reader, field_of(arena, bytes, root->arena_segments), &view->n_segments);
    if (root->arena_name.at <= bytes && root->arena_name.bytes <= bytes - root->arena_name.at) {
        snprintf(view->name, sizeof view->name, "%.*s", (int)root->arena_name.bytes, arena + root->arena_name.at);
    }
    target_read_string(reader->target, field_of(arena, bytes, root->arena_file), view->file, sizeof view->file);
}

/* A list of siblings, each followed by its children. */
static void arenas_from(struct reader *reader, uint64_t at, unsigned depth)
{
    const allot_root_arena *root = &reader->root->arena;
    size_t bytes = root->arena_bytes;
    char *arena = take_memory(bytes);
    while (at != 0 && depth < ARENA_DEPTH_MOST && reader->view->n_arenas < ARENAS_MOST &&
           target_read(reader->target, at, arena, bytes)) {
        if (field_of(arena, bytes, root->arena_life) != root->life) {
            reader->view->n_torn++;
            break;
        }
        reader->view->arenas = grown(reader->view->arenas, reader->view->n_arenas, sizeof *reader->view->arenas);
        struct arena_view *view = &reader->view->arenas[reader->view->n_arenas++];
        *view = (struct arena_view){.depth = depth};
        arena_fill(reader, view, arena, bytes);
        arenas_from(reader, field_of(arena, bytes, root->arena_children), depth + 1);
        at = field_of(arena, bytes, root->arena_sibling);
    }
    free(arena);
}

static void arenas(struct reader *reader)
{
    if (reader->root->arena.arena_bytes <= 65536) {
        arenas_from(reader, read_word(reader->target, reader->root->arena.roots), 0);
    }
}

/* ---- all of it ---------------------------------------------------------------------------------------------- */

static void read_heap(struct reader *reader)
{
    struct target *target = reader->target;
    struct heap_view *view = reader->view;
    const allot_root_store *store = &reader->root->store;
    window(reader);
    reader->skip_until = 0;
    leaves(reader);
    books(reader);
    areas(reader);
    pool(reader, reader->root->pool.of_heap);
    pool(reader, reader->root->pool.of_public);
    heaps(reader);
    arenas(reader);
    if (view->n_options == 0) {
        options(reader);
    }
    view->purged_bytes += read_word(target, store->purged_bytes);
    view->n_purges += read_word(target, store->n_purges);
    view->n_refusals += read_word(target, store->n_refusals);
    if (view->version[0] == '\0' && !target_read_string(target, (uintptr_t)reader->root->table.library_version,
                                                        view->version, sizeof view->version)) {
        snprintf(view->version, sizeof view->version, "?");
    }
}

static bool complain_of(const struct target *target, enum found found)
{
    if (found == FOUND_OTHER_VERSION) {
        complain("%s has an allot of another version inside, whose books this command (tables of version %u) can't "
                 "read: use the command that came with it",
                 target->pid != 0 ? "the process" : target->path, ALLOT_ROOT_VERSION);
    } else if (target->pid != 0) {
        complain("process %d (%s) runs without allot: allot doctor %d tells why, allot run -- %s starts it with allot",
                 (int)target->pid, target->name, (int)target->pid, target->name);
    } else {
        complain("%s is of a program without allot, or the library that it ran on isn't where it was", target->path);
    }
    return false;
}

bool heap_read(struct target *target, struct heap_view *view)
{
    struct root *roots = take_memory(ROOTS_MOST * sizeof *roots);
    size_t n_roots;
    enum found found = find_roots(target, roots, &n_roots);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    struct reader reader = {
        .target = target,
        .view = view,
        .now_ms = (uint32_t)((uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000),
        .has_clock = target->pid != 0,
        .granule = take_memory(GRANULE_BYTES),
    };
    size_t n_read = 0;
    for (size_t i = 0; i < n_roots; i++) {
        reader.root = &roots[i];
        reader.skip_until = 0;
        if (class_sizes(&reader)) { /* of a core they are in the library's file */
            read_heap(&reader);
            n_read++;
        }
    }
    free(reader.granule);
    free(roots);
    return n_read > 0 || complain_of(target, found);
}
