/* SPDX-License-Identifier: MIT */
/* area.c - see area_internal.h. */
#include "span/area_internal.h"

#include "config/config.h"
#include "map/map.h"
#include "os/os.h"
#include "span/span.h"

#include <allot/root.h>

#define AREA_BYTES_FIRST (64 * MIB)
#define BREAK_AREA_BYTES (4 * MIB)
#define COMMIT_STEP_LEAST (512 * KIB)
#define COMMIT_STEP_MOST (64 * MIB)
/* With a limited address space, areas take no more than this share of it at a time. */
#define LIMIT_SHARE 16

static struct {
    _Atomic(struct area *) newest; /* O9: published whole, never removed */
    _Atomic size_t reserved_bytes;
} areas;

struct area *area_list(void)
{
    return load_acquire(&areas.newest); /* O9 pairs with area_publish */
}

void area_publish(struct area *area)
{
    struct area *newest = load_relaxed(&areas.newest);
    do {
        area->next = newest;
        /* O9 release: who finds the area finds its fields. */
    } while (!cas_weak_release(&areas.newest, &newest, area));
}

static size_t reserve_wanted(size_t bytes)
{
    size_t reserved = load_relaxed(&areas.reserved_bytes);
    size_t wanted = size_max(AREA_BYTES_FIRST, reserved / 4);
    size_t limit = os_address_space_limit();
    if (limit != SIZE_MAX) {
        wanted = size_min(wanted, limit / LIMIT_SHARE);
    }
    return round_up(size_max(wanted, bytes), CHUNK_BYTES);
}

static void advise_pages(struct area *area, bool is_first)
{
    size_t bytes = ptr_diff(area->end, area->begin);
    switch (option(OPT_huge_pages)) {
    case HUGE_ALWAYS:
        os_huge_wanted(area->begin, bytes);
        break;
    case HUGE_NEVER:
        os_huge_never(area->begin, bytes);
        break;
    default:
        /* A small heap would pay 2 MiB for each page it touches here and there; a large one fills its huge pages. */
        if (is_first) {
            os_huge_never(area->begin, bytes);
        }
        break;
    }
}

static struct area *area_over(char *begin, size_t bytes, size_t committed_bytes)
{
    struct area *area = map_init(begin) ? map_books(sizeof *area) : NULL;
    if (area == NULL) {
        return NULL;
    }
    area->begin = begin;
    area->end = begin + bytes;
    store_relaxed(&area->cut, begin);
    store_relaxed(&area->committed, begin + committed_bytes);
    bool is_first = add_relaxed(&areas.reserved_bytes, bytes) == 0;
    advise_pages(area, is_first);
    return area;
}

static struct area *area_by_mapping(size_t bytes, size_t align)
{
    size_t least = round_up(bytes, GRANULE_BYTES);
    for (size_t wanted = reserve_wanted(bytes); wanted >= least; wanted /= 2) {
        size_t size = round_up(size_max(wanted, least), GRANULE_BYTES);
        char *begin = os_reserve(size, size_max(size >= CHUNK_BYTES ? CHUNK_BYTES : GRANULE_BYTES, align));
        if (begin != NULL) {
            struct area *area = area_over(begin, size, 0);
            if (area == NULL) {
                os_release(begin, size);
            }
            return area;
        }
        if (wanted > least && wanted / 2 < least) {
            wanted = least * 2;
        }
    }
    return NULL;
}

/* The break only guarantees pages, so up to a granule is lost in front. */
static struct area *area_by_break(size_t bytes)
{
    size_t wanted = round_up(size_max(bytes, BREAK_AREA_BYTES), GRANULE_BYTES);
    char *p = os_break_grow(wanted + GRANULE_BYTES);
    if (p == NULL) {
        return NULL;
    }
    char *begin = (char *)round_up((uintptr_t)p, GRANULE_BYTES);
    struct area *area = area_over(begin, wanted, wanted);
    return area != NULL && map_add(begin, wanted) == 0 ? area : NULL;
}

/* The area begins at the multiple of align: what lay before it would have to be committed, with books for all of it. */
struct area *area_new(size_t bytes, size_t align)
{
    bool by_break = option(OPT_source) == SOURCE_BRK && align <= GRANULE_BYTES;
    struct area *area = by_break ? area_by_break(bytes) : NULL;
    return area != NULL ? area : area_by_mapping(bytes, align);
}

static bool commit_range(char *begin, size_t bytes)
{
    return map_add(begin, bytes) == 0 && os_commit(begin, bytes) == 0;
}

/* Commits up to end at least, and a step more where the OS allows that. Whoever comes first commits from where the area
 * was committed so far, so what others claimed in between is included; a second commit of the same pages is harmless. */
static bool commit_to(struct area *area, char *end)
{
    char *committed = load_acquire(&area->committed); /* O11 */
    if (end <= committed) {
        return true;
    }
    size_t need = ptr_diff(end, committed);
    size_t left = ptr_diff(area->end, committed);
    size_t step = size_min(size_max(load_relaxed(&areas.reserved_bytes) / 32, COMMIT_STEP_LEAST), COMMIT_STEP_MOST);
    /* Whole granules: areas may have any number of them, and a page is more than their 32nd part. */
    size_t bytes = size_min(round_up(size_max(need, step), GRANULE_BYTES), left);
    if (!commit_range(committed, bytes)) {
        bytes = need;
        if (!commit_range(committed, bytes)) {
            return false;
        }
    }
    char *reached = committed + bytes;
    /* O11 release: who sees the new border may use what lies below. It only moves up. */
    while (committed < reached && !cas_weak_release(&area->committed, &committed, reached)) {
    }
    return true;
}

/* Moves cut from begin to end, committed; false, and nothing moved, when another thread was quicker or the OS refuses. */
static bool claim(struct area *area, char *begin, char *end)
{
    char *cut = begin;
    /* Relaxed: the pointer alone decides who owns which bytes. */
    if (!cas_relaxed(&area->cut, &cut, end)) {
        return false;
    }
    if (commit_to(area, end)) {
        return true;
    }
    cut = end;
    (void)cas_relaxed(&area->cut, &cut, begin); /* unless more was cut behind: then the range stays unused */
    return false;
}

void *area_cut(struct area *area, size_t bytes, size_t align, char **skipped)
{
    for (;;) {
        char *cut = load_relaxed(&area->cut);
        char *begin = (char *)round_up((uintptr_t)cut, align);
        if (begin > area->end || bytes > ptr_diff(area->end, begin)) {
            return NULL;
        }
        if (claim(area, cut, begin + bytes)) {
            *skipped = cut;
            return begin;
        }
        if (load_relaxed(&area->cut) == cut) {
            return NULL; /* nobody was quicker: the OS refused */
        }
    }
}

bool area_extend(struct area *area, char *begin, size_t bytes)
{
    return begin > area->begin && begin <= area->end && bytes <= ptr_diff(area->end, begin) &&
           claim(area, begin, begin + bytes);
}

const struct allot_root_areas span_root_areas = {
    .bytes = sizeof span_root_areas,
    .area_bytes = sizeof(struct area),
    .newest = &areas.newest,
    .begin = ROOT_FIELD(struct area, begin),
    .end = ROOT_FIELD(struct area, end),
    .cut = ROOT_FIELD(struct area, cut),
    .committed = ROOT_FIELD(struct area, committed),
    .next = ROOT_FIELD(struct area, next),
};
