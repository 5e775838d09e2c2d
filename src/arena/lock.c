/* SPDX-License-Identifier: MIT */
/* lock.c - a short lock that knows its holder.
 *
 * It is held for the time that the books of one arena need to change, and never while somebody else's code runs. Who
 * can't have it soon lets other threads run; a handler that interrupted the holder learns that, and doesn't wait.
 *
 * Orders.  O41 The lock: the release of its last holder pairs with the acquire of the next.
 */
#include "arena/arena_internal.h"
#include "heap/heap.h"
#include "os/os.h"

#include <errno.h>

#define SPINS 100

uintptr_t lock_self(void)
{
    return (uintptr_t)&heap_current;
}

static bool lock_try(_Atomic uintptr_t *lock, uintptr_t *holder)
{
    *holder = 0;
    return cas_acquire(lock, holder, lock_self()); /* O41 */
}

int lock_take(_Atomic uintptr_t *lock)
{
    uintptr_t holder;
    for (unsigned i = 0; !lock_try(lock, &holder); i++) {
        if (holder == lock_self()) {
            return EDEADLK;
        }
        if (i < SPINS) {
            os_relax();
        } else {
            os_yield();
        }
    }
    return 0;
}

void lock_give(_Atomic uintptr_t *lock)
{
    store_release(lock, 0); /* O41 */
}

int arena_enter_question(allot_arena *arena)
{
    if ((arena->flags & ALLOT_ARENA_UNSYNCHRONIZED) == 0) {
        return lock_take(&arena->lock);
    }
    /* Relaxed: for handlers on the same thread. */
    if (load_relaxed(&arena->lock) != 0) {
        return EDEADLK;
    }
    store_relaxed(&arena->lock, 1);
    signal_fence();
    return 0;
}

static int refuse(allot_arena *arena, int error)
{
    arena_leave(arena);
    if (error == ENXIO) {
        misuse_report(arena, &(struct misuse){.name = "use after release",
                                              .address = arena,
                                              .state = "an arena whose reservation was released"});
    }
    return error;
}

int arena_enter(allot_arena *arena, bool may_be_sealed)
{
    if (UNLIKELY(arena->life != ARENA_LIVES)) {
        misuse_report(NULL,
                      &(struct misuse){.name = "use after destroy", .address = arena, .state = "no arena lives there"});
        return EINVAL;
    }
    int error = arena_enter_question(arena);
    if (UNLIKELY(error != 0)) {
        return error;
    }
    if (UNLIKELY(load_relaxed(&arena->gone) != 0)) {
        return refuse(arena, ENXIO);
    }
    return UNLIKELY(arena->sealed && !may_be_sealed) ? refuse(arena, EPERM) : 0;
}

void arena_leave(allot_arena *arena)
{
    if ((arena->flags & ALLOT_ARENA_UNSYNCHRONIZED) == 0) {
        lock_give(&arena->lock);
        return;
    }
    signal_fence();
    store_relaxed(&arena->lock, 0);
}
