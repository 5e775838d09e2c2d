/* SPDX-License-Identifier: MIT */
/* gc.h - for tests of collected mappings: mappings that are only remembered weakly. */
#ifndef TESTS_UNIT_GC_H
#define TESTS_UNIT_GC_H

#include <allot/gcmap.h>
#include <allot/pool.h>
#include <sys/mman.h>

#include "child.h"
#include "unit.h"

enum { page = 4096 };

/* An anonymous mapping, its address in *place (NULL: nowhere), and a weak reference to it. Nothing else of the test
 * holds the address. */
__attribute__((noinline, unused)) static allot_weak *make_mapping(void *volatile *place, size_t offset, unsigned flags)
{
    allot_gcmap_opts opts = ALLOT_GCMAP_OPTS_INIT;
    opts.flags = flags;
    char *mapping = allot_gcmap_with(-1, 0, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, &opts);
    assert_ptr_not_equal(mapping, MAP_FAILED);
    mapping[0] = 1;
    if (place != NULL) {
        *place = mapping + offset;
    }
    allot_weak *weak = allot_weak_create(mapping);
    assert_non_null(weak);
    return weak;
}

__attribute__((noinline, unused)) static bool is_there(const allot_weak *weak)
{
    return allot_weak_get(weak) != NULL;
}

/* 0, or why nothing was freed. */
__attribute__((noinline, unused)) static int collect(size_t *n)
{
    allot_gcmap_collected told = ALLOT_GCMAP_COLLECTED_INIT;
    int error = allot_gcmap_collect(&told);
    if (error != 0) {
        print_message("not collected: %s (thread %lu)\n", told.why, told.thread);
    }
    if (n != NULL) {
        *n = told.n_mappings;
    }
    return error;
}

__attribute__((noinline, unused)) static bool is_kept(const allot_weak *weak)
{
    assert_int_equal(collect(NULL), 0);
    return is_there(weak);
}

/* A sanitizer's runtime, and the frames that its compiler makes, hold what the program has long forgotten. */
#define EXACT (!SANITIZED)
#define assert_gone(weak) assert_true(!is_kept(weak) || !EXACT)
#define assert_is_gone(weak) assert_true(!is_there(weak) || !EXACT)

#endif
