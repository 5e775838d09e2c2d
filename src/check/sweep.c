/* SPDX-License-Identifier: MIT */
/* sweep.c - a look at every block: on demand, and at the process's end.
 *
 * While other threads run, what they take or give at this moment may be told either way by the heap; a block's own note
 * is looked at again before anything is said of it.
 */
#include "check/check_internal.h"
#include "heap/heap.h"

struct sweep {
    size_t n_faults;
};

static int look_at(const struct heap_answer *answer, void *context)
{
    struct sweep *sweep = context;
    struct noted noted = answer->pool ? (struct noted){.note = NULL} : noted_find(answer->base);
    if (noted.note == NULL || noted.block != answer->base) {
        return 0;
    }
    switch (load_relaxed(&noted.note->state)) {
    case NOTE_LIVE:
        sweep->n_faults += check_live(&noted, "look at all blocks");
        break;
    case NOTE_FREED:
        sweep->n_faults += noted.guarded ? 0 : check_freed(&noted);
        break;
    default:
        break;
    }
    return 0;
}

size_t check_all(void)
{
    struct sweep sweep = {.n_faults = 0};
    heap_walk(look_at, &sweep);
    return sweep.n_faults;
}
