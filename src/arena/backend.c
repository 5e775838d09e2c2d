/* SPDX-License-Identifier: MIT */
/* backend.c - the backends without mappings: the heap, one piece of it, and one that fails on command; and which arena
 * has which backend.
 *
 * Orders.  O43 backend.reserved[0], the arena that has it: taken and given back by compare-and-swap, so that of two
 *              arenas one is refused, and what the last one did to the backend is seen by the next.
 */
#include "arena/arena_internal.h"
#include "heap/heap.h"
#include "os/os.h"

#include <errno.h>

/* ---- which arena has it ---------------------------------------------------------------------------------------- */

/* Of one that passes its calls on, the one behind it: that is what can't serve two. */
static _Atomic(allot_arena *) *owner_of(allot_backend *backend)
{
    return (_Atomic(allot_arena *) *)(void *)&backend_inner(backend)->reserved[0];
}

/* How many arenas were made with it. Relaxed: a counter. */
static _Atomic size_t *users_of(allot_backend *backend)
{
    return (_Atomic size_t *)(void *)&backend->reserved[1];
}

int backend_claim(allot_backend *backend, allot_arena *arena, allot_arena **out_owner)
{
    const struct maps *maps = maps_of(backend_inner(backend));
    if (maps != NULL && maps_are_released(maps)) {
        return ENXIO;
    }
    allot_arena *owner = NULL;
    if (backend->ops->shared == 0 && !cas_acq_rel(owner_of(backend), &owner, arena)) { /* O43 */
        *out_owner = owner;
        return EBUSY;
    }
    add_relaxed(users_of(backend), 1);
    if (maps != NULL) {
        maps_begin(backend_inner(backend));
    }
    return 0;
}

void backend_unclaim(allot_backend *backend, allot_arena *arena)
{
    sub_relaxed(users_of(backend), 1);
    if (backend->ops->shared == 0) {
        cas_acq_rel(owner_of(backend), &arena, NULL); /* O43 */
    }
}

allot_arena *backend_owner(allot_backend *backend)
{
    return load_acquire(owner_of(backend)); /* O43 */
}

int allot_backend_destroy(allot_backend *backend)
{
    if (backend == NULL || backend->ops->destroy == NULL) {
        return 0;
    }
    bool is_used_behind = backend_inner(backend) == backend && backend_owner(backend) != NULL;
    if (is_used_behind || load_relaxed(users_of(backend)) != 0) {
        return EBUSY;
    }
    backend->ops->destroy(backend);
    return 0;
}

/* ---- the heap ------------------------------------------------------------------------------------------------ */

/* No block of an arena begins where a block of the heap does: so free() knows it for what it is. */
#define HEAP_SKIP WORD_BYTES

static int heap_piece(size_t bytes, void **out_begin, size_t *out_bytes)
{
    int saved = errno;
    char *p = bytes > BYTES_MOST ? NULL : heap_malloc(bytes + HEAP_SKIP);
    errno = saved;
    if (p == NULL) {
        return ENOMEM;
    }
    *out_begin = p + HEAP_SKIP;
    *out_bytes = bytes;
    return 0;
}

static int heap_grow(allot_backend *backend, void *begin, size_t size_bytes, size_t need_bytes, size_t want_bytes,
                     void **out_begin, size_t *out_bytes)
{
    (void)backend, (void)begin, (void)size_bytes;
    int error = heap_piece(want_bytes, out_begin, out_bytes);
    return error != 0 && need_bytes < want_bytes ? heap_piece(need_bytes, out_begin, out_bytes) : error;
}

static int heap_release(allot_backend *backend, void *begin, size_t size_bytes)
{
    (void)backend, (void)size_bytes;
    heap_free((char *)begin - HEAP_SKIP);
    return 0;
}

static int fixed_grow(allot_backend *backend, void *begin, size_t size_bytes, size_t need_bytes, size_t want_bytes,
                      void **out_begin, size_t *out_bytes)
{
    return begin != NULL ? ENOMEM : heap_grow(backend, begin, size_bytes, need_bytes, want_bytes, out_begin, out_bytes);
}

static const allot_backend_ops heap_ops = {
    .abi_size = sizeof(allot_backend_ops), .shared = 1, .grow = heap_grow, .release = heap_release};
static const allot_backend_ops fixed_ops = {
    .abi_size = sizeof(allot_backend_ops), .shared = 1, .grow = fixed_grow, .release = heap_release};

static allot_backend the_heap = {.ops = &heap_ops};
static allot_backend the_fixed = {.ops = &fixed_ops};

allot_backend *allot_backend_heap(void)
{
    return &the_heap;
}

allot_backend *allot_backend_fixed(void)
{
    return &the_fixed;
}

/* ---- one that fails on command ---------------------------------------------------------------------------------- */

struct failing {
    allot_backend backend;
    allot_backend_ops ops;
    allot_backend *inner;
    allot_backend_call call;
    int error;
    size_t first;
    size_t n;
    _Atomic size_t calls; /* relaxed: counters */
    _Atomic size_t failures;
};

/* 0, or what the call fails with. */
static int failure(struct failing *failing, allot_backend_call call)
{
    if (failing->call != ALLOT_BACKEND_ANY && failing->call != call) {
        return 0;
    }
    size_t number = add_relaxed(&failing->calls, 1) + 1;
    if (number < failing->first || number - failing->first >= failing->n) {
        return 0;
    }
    add_relaxed(&failing->failures, 1);
    return failing->error;
}

static int failing_grow(allot_backend *backend, void *begin, size_t size_bytes, size_t need_bytes, size_t want_bytes,
                        void **out_begin, size_t *out_bytes)
{
    struct failing *failing = (struct failing *)backend;
    allot_backend *inner = failing->inner;
    int error = failure(failing, ALLOT_BACKEND_GROW);
    return error != 0 ? error
                      : inner->ops->grow(inner, begin, size_bytes, need_bytes, want_bytes, out_begin, out_bytes);
}

static int failing_release(allot_backend *backend, void *begin, size_t size_bytes)
{
    struct failing *failing = (struct failing *)backend;
    int error = failure(failing, ALLOT_BACKEND_RELEASE);
    return error != 0 ? error : failing->inner->ops->release(failing->inner, begin, size_bytes);
}

static int failing_protect(allot_backend *backend, void *begin, size_t size_bytes, int prot)
{
    struct failing *failing = (struct failing *)backend;
    int error = failure(failing, ALLOT_BACKEND_PROTECT);
    return error != 0 ? error : failing->inner->ops->protect(failing->inner, begin, size_bytes, prot);
}

static int failing_decommit(allot_backend *backend, void *begin, size_t size_bytes)
{
    struct failing *failing = (struct failing *)backend;
    int error = failure(failing, ALLOT_BACKEND_DECOMMIT);
    return error != 0 ? error : failing->inner->ops->decommit(failing->inner, begin, size_bytes);
}

static void failing_destroy(allot_backend *backend)
{
    heap_free(backend);
}

static const struct failing *failing_of(const allot_backend *backend)
{
    return backend->ops->grow == failing_grow ? (const struct failing *)backend : NULL;
}

int allot_backend_failing(allot_backend *inner, allot_backend **out)
{
    int saved = errno;
    struct failing *failing = heap_calloc(1, sizeof *failing);
    errno = saved;
    if (failing == NULL) {
        return ENOMEM;
    }
    failing->inner = inner == NULL ? &the_heap : inner;
    failing->ops = (allot_backend_ops){
        .abi_size = sizeof(allot_backend_ops),
        .shared = failing->inner->ops->shared,
        .grow = failing_grow,
        .release = failing->inner->ops->release == NULL ? NULL : failing_release,
        .protect = failing->inner->ops->protect == NULL ? NULL : failing_protect,
        .decommit = failing->inner->ops->decommit == NULL ? NULL : failing_decommit,
        .destroy = failing_destroy,
    };
    failing->backend.ops = &failing->ops;
    *out = &failing->backend;
    return 0;
}

void allot_backend_fail(allot_backend *backend, allot_backend_call call, size_t first, size_t n, int error)
{
    struct failing *failing = (struct failing *)(uintptr_t)failing_of(backend);
    if (failing == NULL) {
        return;
    }
    failing->call = call;
    failing->first = first;
    failing->n = n;
    failing->error = error;
    store_relaxed(&failing->calls, 0);
    store_relaxed(&failing->failures, 0);
}

size_t allot_backend_failures(const allot_backend *backend)
{
    const struct failing *failing = failing_of(backend);
    return failing == NULL ? 0 : load_relaxed(&failing->failures);
}

/* ---- what the library knows of its own ----------------------------------------------------------------------------
 */

allot_backend *backend_inner(const allot_backend *backend)
{
    for (const struct failing *failing; (failing = failing_of(backend)) != NULL;) {
        backend = failing->inner;
    }
    return (allot_backend *)(uintptr_t)backend;
}

bool backend_is_fixed(const allot_backend *backend)
{
    return backend_inner(backend)->ops == &fixed_ops;
}

size_t backend_reserved_bytes(const allot_backend *backend)
{
    const struct maps *maps = maps_of(backend_inner(backend));
    return maps == NULL ? 0 : maps_reserved_bytes(maps);
}

bool backend_gives_zeros(const allot_backend *backend)
{
    const struct maps *maps = maps_of(backend_inner(backend));
    return maps != NULL && maps_give_zeros(maps);
}

size_t backend_begins_at(const allot_backend *backend)
{
    const allot_backend *inner = backend_inner(backend);
    if (maps_of(inner) != NULL) {
        return os_page_bytes();
    }
    return inner->ops == &heap_ops || inner->ops == &fixed_ops ? WORD_BYTES : 1;
}

int backend_protection(const allot_backend *backend)
{
    const struct maps *maps = backend == NULL ? NULL : maps_of(backend_inner(backend));
    return maps == NULL ? os_protection_usual() : maps_protection(maps);
}
