/* SPDX-License-Identifier: MIT */
/* guard.c - the protection of an arena's memory.
 *
 * It belongs to the arena: memory that comes later gets it too (grow.c). The backend is called with no lock held;
 * growth waits meanwhile, so that no piece is missed.
 */
#include "arena/arena_internal.h"
#include "os/os.h"

#include <errno.h>

/* A caller's buffer: only whole pages, so that nothing beside it is touched. */
static int protect_buffer(const struct segment *segment, int prot)
{
    size_t page = os_page_bytes();
    if ((uintptr_t)segment->memory % page != 0 || segment->memory_bytes % page != 0) {
        return EINVAL;
    }
    return -os_view_protect(segment->memory, segment->memory_bytes, prot);
}

static int protect_segment(allot_arena *arena, const struct segment *segment, int prot)
{
    if (segment->is_buffer) {
        return protect_buffer(segment, prot);
    }
    const allot_backend_ops *ops = arena->backend->ops;
    return ops->protect == NULL ? ENOTSUP : ops->protect(arena->backend, segment->memory, segment->memory_bytes, prot);
}

/* Between arena_enter and arena_leave; unlocks meanwhile. */
static int protect_all(allot_arena *arena, int prot)
{
    while (arena->grower != 0) {
        if (arena->grower == lock_self()) {
            return EDEADLK;
        }
        arena_leave(arena);
        os_yield();
        int error = arena_enter_question(arena);
        if (error != 0) {
            return error;
        }
    }
    if (arena->segments == NULL && arena->backend != NULL && arena->backend->ops->protect == NULL) {
        return ENOTSUP;
    }
    arena->grower = lock_self();
    arena_leave(arena);
    int error = 0;
    for (struct segment *segment = arena->segments; segment != NULL && error == 0; segment = segment->next) {
        error = protect_segment(arena, segment, prot);
    }
    arena_enter_question(arena);
    arena->grower = 0;
    return error;
}

int allot_arena_protect(allot_arena *arena, int prot)
{
    int error = arena_enter(arena, false);
    if (error != 0) {
        return error;
    }
    error = protect_all(arena, prot);
    if (error == 0) {
        arena->protection = prot;
    }
    arena_leave(arena);
    return error;
}

static int usual_protection(const allot_arena *arena)
{
    return arena->protection >= 0 ? arena->protection : backend_protection(arena->backend);
}

int allot_arena_seal(allot_arena *arena)
{
    int error = arena_enter(arena, /* may be sealed */ true);
    if (error != 0) {
        return error;
    }
    if (!arena->sealed) {
        error = protect_all(arena, os_protection_read());
        if (error == 0) {
            arena->sealed = true;
            cache_close(arena);
            arena->head.end = arena->head.next; /* no way around the check */
        } else {
            protect_all(arena, usual_protection(arena));
        }
    }
    arena_leave(arena);
    return error;
}

int allot_arena_unseal(allot_arena *arena)
{
    int error = arena_enter(arena, /* may be sealed */ true);
    if (error != 0) {
        return error;
    }
    if (arena->sealed) {
        error = protect_all(arena, usual_protection(arena));
        if (error == 0) {
            arena->sealed = false;
            bump_extended(arena, arena->bump.segment);
        }
    }
    arena_leave(arena);
    return error;
}

/* Memory of the caller's is left as it was given. */
void arena_unseal_for_good(allot_arena *arena)
{
    if (arena->protection < 0 && !arena->sealed) {
        return;
    }
    for (struct segment *segment = arena->segments; segment != NULL; segment = segment->next) {
        if (segment->is_buffer) {
            protect_segment(arena, segment, os_protection_usual());
        }
    }
}
