/* SPDX-License-Identifier: MIT */
/* arena_test.h - arenas on every backend and in every shape, and misuse caught by name.
 *
 * A ground is where an arena's memory comes from; a shape is the kind of arena. run_on_every runs a table of tests once
 * for each pair of them: the tests make their arenas by make_arena, on `ground` and in `shape`.
 */
#ifndef TESTS_UNIT_ARENA_TEST_H
#define TESTS_UNIT_ARENA_TEST_H

#include "unit.h"

#include "allot/arena.h"

#include <sys/mman.h>
#include <unistd.h>

#define WORD ((size_t)16)

/* ---- misuse ------------------------------------------------------------------------------------------------- */

static struct {
    unsigned n;
    char name[32];
    const void *address;
    const void *block;
    size_t block_bytes;
    char line[400];
} misuse;

static inline allot_action catch_misuse(const allot_error *error, void *context)
{
    (void)context;
    misuse.n++;
    misuse.address = error->address;
    misuse.block = error->block;
    misuse.block_bytes = error->block_bytes;
    snprintf(misuse.name, sizeof misuse.name, "%s", error->name);
    snprintf(misuse.line, sizeof misuse.line, "%s", error->line);
    return ALLOT_ACTION_CONTINUE;
}

/* The call inside must be found out, under that name, with that result. */
#define expect_misuse(expected, result, call)                                                                          \
    do {                                                                                                               \
        misuse.n = 0;                                                                                                  \
        assert_int_equal(result, call);                                                                                \
        assert_int_equal(misuse.n, 1);                                                                                 \
        assert_string_equal(misuse.name, expected);                                                                    \
    } while (0)

/* ---- backends that a user writes ------------------------------------------------------------------------------ */

/* Pieces of malloc's, at odd addresses and with odd sizes; nothing grows in place. */
struct own_pieces {
    allot_backend backend;
    size_t n_pieces;
};

static inline int own_pieces_grow(allot_backend *backend, void *begin, size_t size_bytes, size_t need_bytes,
                                  size_t want_bytes, void **out_begin, size_t *out_bytes)
{
    struct own_pieces *own = (struct own_pieces *)backend;
    (void)begin, (void)size_bytes;
    (void)need_bytes;
    size_t bytes = want_bytes + (own->n_pieces % 3) * 5 + 16;
    char *piece = want_bytes > GIB ? NULL : malloc(bytes + 7);
    if (piece == NULL) {
        return ENOMEM;
    }
    own->n_pieces++;
    *out_begin = piece + 7;
    *out_bytes = bytes;
    return 0;
}

static inline int own_pieces_release(allot_backend *backend, void *begin, size_t size_bytes)
{
    (void)size_bytes;
    ((struct own_pieces *)backend)->n_pieces--;
    free((char *)begin - 7);
    return 0;
}

static inline void own_pieces_destroy(allot_backend *backend)
{
    free(backend);
}

static const allot_backend_ops own_pieces_ops = {
    .abi_size = sizeof(allot_backend_ops),
    .grow = own_pieces_grow,
    .release = own_pieces_release,
    .destroy = own_pieces_destroy,
};

/* One region, of which ever more is handed out: grows in place, and nothing goes back. */
struct own_region {
    allot_backend backend;
    char *memory;
    size_t used, bytes;
};

static inline int own_region_grow(allot_backend *backend, void *begin, size_t size_bytes, size_t need_bytes,
                                  size_t want_bytes, void **out_begin, size_t *out_bytes)
{
    struct own_region *own = (struct own_region *)backend;
    (void)begin, (void)size_bytes;
    size_t room = own->bytes - own->used;
    if (need_bytes > room) {
        return ENOMEM;
    }
    own->used += want_bytes < room ? want_bytes : room;
    *out_begin = own->memory;
    *out_bytes = own->used;
    return 0;
}

static inline void own_region_destroy(allot_backend *backend)
{
    struct own_region *own = (struct own_region *)backend;
    munmap(own->memory, own->bytes);
    free(own);
}

static const allot_backend_ops own_region_ops = {
    .abi_size = sizeof(allot_backend_ops),
    .grow = own_region_grow,
    .destroy = own_region_destroy,
};

/* ---- grounds ------------------------------------------------------------------------------------------------- */

enum {
    CAN_GROW = 1,
    CAN_RELEASE = 2,  /* empty pieces go back */
    CAN_PROTECT = 4,  /* allot_arena_protect works */
    CAN_SHARE = 8,    /* one backend for several arenas */
    IS_BUFFER = 16,   /* the memory is there from the start */
    CAN_EXECUTE = 32, /* made for code: the arena's view is not writable */
};

#define RESERVED (256 * MIB)

static allot_backend *new_virt(void)
{
    allot_backend *backend = NULL;
    assert_int_equal(allot_backend_virt(RESERVED, NULL, &backend), 0);
    return backend;
}

static allot_backend *new_mmap(void)
{
    allot_backend *backend = NULL;
    assert_int_equal(allot_backend_mmap(NULL, &backend), 0);
    return backend;
}

static allot_backend *new_shared_mmap(void)
{
    allot_map_options options = ALLOT_MAP_OPTIONS_INIT;
    allot_backend *backend = NULL;
    options.flags = MAP_SHARED;
    options.align = 64 * KIB;
    assert_int_equal(allot_backend_mmap(&options, &backend), 0);
    return backend;
}

static allot_backend *new_failing(void)
{
    allot_backend *backend = NULL;
    assert_int_equal(allot_backend_failing(NULL, &backend), 0);
    return backend;
}

static allot_backend *new_own_pieces(void)
{
    struct own_pieces *own = calloc(1, sizeof *own);
    assert_non_null(own);
    own->backend.ops = &own_pieces_ops;
    return &own->backend;
}

static allot_backend *new_own_region(void)
{
    struct own_region *own = calloc(1, sizeof *own);
    assert_non_null(own);
    own->backend.ops = &own_region_ops;
    own->bytes = RESERVED;
    own->memory = mmap(NULL, own->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(own->memory != MAP_FAILED);
    return &own->backend;
}

struct ground {
    const char *name;
    unsigned can;
    allot_backend *(*backend)(void); /* NULL: a buffer */
    size_t skew;                     /* of the buffer's address */
    bool has_books;                  /* of the caller's */
};

static const struct ground grounds[] = {
    {"buffer", IS_BUFFER, NULL, 0, false},
    {"buffer with books", IS_BUFFER, NULL, 0, true},
    {"misaligned buffer with books", IS_BUFFER, NULL, 5, true},
    {"fixed", CAN_SHARE, allot_backend_fixed, 0, false},
    {"heap", CAN_GROW | CAN_RELEASE | CAN_SHARE, allot_backend_heap, 0, false},
    {"mmap", CAN_GROW | CAN_RELEASE | CAN_PROTECT, new_mmap, 0, false},
    {"shared mmap", CAN_GROW | CAN_RELEASE | CAN_PROTECT, new_shared_mmap, 0, false},
    {"virt", CAN_GROW | CAN_PROTECT, new_virt, 0, false},
    {"own pieces", CAN_GROW | CAN_RELEASE, new_own_pieces, 0, false},
    {"own region", CAN_GROW, new_own_region, 0, false},
    {"failing", CAN_GROW | CAN_RELEASE | CAN_SHARE, new_failing, 0, false},
};

struct shape {
    const char *name;
    allot_arena_kind kind;
    allot_arena_fit fit;
    unsigned flags;
};

static const struct shape shapes[] = {
    {"general", ALLOT_ARENA_GENERAL, ALLOT_FIT_GOOD, 0},
    {"general, first fit", ALLOT_ARENA_GENERAL, ALLOT_FIT_FIRST, 0},
    {"general, best fit", ALLOT_ARENA_GENERAL, ALLOT_FIT_BEST, 0},
    {"general, one owner", ALLOT_ARENA_GENERAL, ALLOT_FIT_GOOD, ALLOT_ARENA_UNSYNCHRONIZED},
    {"bump", ALLOT_ARENA_BUMP, ALLOT_FIT_GOOD, 0},
    {"bump, one owner", ALLOT_ARENA_BUMP, ALLOT_FIT_GOOD, ALLOT_ARENA_UNSYNCHRONIZED},
    {"scratch, one owner", ALLOT_ARENA_SCRATCH, ALLOT_FIT_GOOD, ALLOT_ARENA_UNSYNCHRONIZED},
};

static const struct ground *ground = &grounds[4];
static const struct shape *shape = &shapes[0];

/* ---- making -------------------------------------------------------------------------------------------------- */

struct made {
    allot_arena *arena;
    allot_backend *backend;
    void *buffer;
    void *books;
};

/* The standard options of the current shape. */
static inline allot_arena_options shape_options(void)
{
    allot_arena_options options = ALLOT_ARENA_OPTIONS_INIT;
    options.name = shape->name;
    options.kind = shape->kind;
    options.fit = shape->fit;
    options.flags = shape->flags;
    options.on_error = catch_misuse;
    return options;
}

/* An arena of so many bytes (rounded as its ground needs) on the current ground, with these options but for books and
 * backend. */
static inline void make_arena_with(struct made *made, size_t bytes, allot_arena_options options)
{
    *made = (struct made){NULL, NULL, NULL, NULL};
    if (ground->backend != NULL) {
        made->backend = ground->backend();
        options.backend = made->backend;
        assert_int_equal(allot_arena_create(bytes, &options, &made->arena), 0);
        return;
    }
    made->buffer = malloc(bytes + ground->skew + 16);
    assert_non_null(made->buffer);
    if (ground->has_books) {
        options.n_cleanups = 8;
        options.books_bytes = allot_arena_books_size(bytes + 16, &options);
        assert_true(options.books_bytes != 0);
        made->books = malloc(options.books_bytes);
        options.books = made->books;
    }
    char *buffer = (char *)(((uintptr_t)made->buffer + 15) & ~(uintptr_t)15) + ground->skew;
    assert_int_equal(allot_arena_create_at(buffer, bytes, &options, &made->arena), 0);
}

static inline struct made make_arena(size_t bytes)
{
    struct made made;
    make_arena_with(&made, bytes, shape_options());
    return made;
}

/* What it has now is all that it gets. A buffer doesn't count. */
static inline void stop_growth(const struct made *made)
{
    size_t limit = made->buffer == NULL ? allot_arena_size(made->arena) : 1;
    assert_int_equal(allot_arena_set_limits(made->arena, 0, limit), 0);
}

static inline void unmake(struct made *made)
{
    assert_int_equal(allot_arena_check(made->arena), 0);
    allot_arena_destroy(made->arena);
    if (made->backend != NULL && made->backend->ops == &own_pieces_ops) {
        assert_int_equal(((struct own_pieces *)made->backend)->n_pieces, 0);
    }
    if (made->backend != NULL && ground->backend != allot_backend_heap && ground->backend != allot_backend_fixed) {
        assert_int_equal(allot_backend_destroy(made->backend), 0);
    }
    free(made->buffer);
    free(made->books);
}

/* All of it is one free block again. */
static inline void assert_arena_is_whole(const struct made *made)
{
    assert_int_equal(allot_arena_check(made->arena), 0);
    assert_int_equal(allot_arena_free_bytes(made->arena), allot_arena_capacity(made->arena));
}

/* ---- running ------------------------------------------------------------------------------------------------- */

enum { GENERAL_SHAPES = 4, BUMP_SHAPES = 3, ALL_SHAPES = 7 };

static inline bool pair_makes_sense(void)
{
    return shape->kind != ALLOT_ARENA_SCRATCH || ground->backend == NULL || ground->backend == allot_backend_heap;
}

/* A table of tests on every ground that has what is wanted and has not what isn't, in the shapes from first on. */
#define run_on_every(tests, wanted, unwanted, first, n_shapes)                                                         \
    do {                                                                                                               \
        for (ground = grounds; ground < grounds + COUNT(grounds); ground++) {                                          \
            if ((ground->can & (wanted)) != (wanted) || (ground->can & (unwanted)) != 0)                               \
                continue;                                                                                              \
            for (shape = &shapes[first]; shape < shapes + (first) + (n_shapes); shape++) {                             \
                if (!pair_makes_sense())                                                                               \
                    continue;                                                                                          \
                printf("on %s, %s\n", ground->name, shape->name);                                                      \
                failed += cmocka_run_group_tests_name(ground->name, tests, NULL, NULL);                                \
            }                                                                                                          \
        }                                                                                                              \
        ground = &grounds[4];                                                                                          \
        shape = &shapes[0];                                                                                            \
    } while (0)

#endif
