/* SPDX-License-Identifier: MIT */
/* root.c - the root table: see <allot/root.h>. Each room describes its own books. */
#include "arena/arena.h"
#include "config/config.h"
#include "heap/heap.h"
#include "map/map.h"
#include "pool/pool.h"
#include "span/span.h"

#include <allot/root.h>

#define TEXT(x) #x
#define VERSION(major, minor, patch) TEXT(major) "." TEXT(minor) "." TEXT(patch)

/* By a name that no other library's table can stand for. */
static const struct allot_root root_here = {
    .magic = ALLOT_ROOT_MAGIC,
    .version = ALLOT_ROOT_VERSION,
    .bytes = sizeof root_here,
    .library_version = VERSION(ALLOT_VERSION_MAJOR, ALLOT_VERSION_MINOR, ALLOT_VERSION_PATCH),
    .map = &map_root,
    .areas = &span_root_areas,
    .store = &span_root_store,
    .heap = &heap_root,
    .pool = &pool_root,
    .config = &config_root,
    .arena = &arena_root,
};

extern __typeof__(allot_root) allot_root __attribute__((alias("root_here")));

#if defined(__ELF__)
/* The note: it is found in memory by the program headers, without names and without the file. */
__asm__(".pushsection .note.allot, \"a\", %note\n"
        ".balign 4\n"
        ".long 6\n" /* the name's bytes */
        ".long 8\n"
        ".long 1\n" /* ALLOT_ROOT_NOTE */
        ".asciz \"allot\"\n"
        ".balign 4\n"
        "1: .quad root_here - 1b\n"
        ".popsection\n");
#endif
