/* SPDX-License-Identifier: MIT */
/* questions.c - allot_query, allot_walk, the error handler, the version: see allot/allot.h. */
#include "gc/gc.h"
#include "malloc/malloc_internal.h"

#include "arena/arena.h"

#define STRING_OF(x) #x
#define STRING(x) STRING_OF(x)

const char *allot_version(void)
{
    return STRING(ALLOT_VERSION_MAJOR) "." STRING(ALLOT_VERSION_MINOR) "." STRING(ALLOT_VERSION_PATCH);
}

extern __typeof__(allot_version) version_here __attribute__((alias("allot_version")));

/* ---- what is this address? ---------------------------------------------------------------------------------- */

static void tell(allot_info *info, const struct heap_answer *answer, size_t offset)
{
    info->base = answer->base;
    info->size_bytes = answer->bytes;
    info->offset = offset;
    info->room = answer->pool ? ALLOT_ROOM_POOL : ALLOT_ROOM_HEAP;
    info->state = answer->live ? ALLOT_STATE_LIVE : ALLOT_STATE_FREE;
    info->exact = answer->exact;
}

static void tell_mapping(allot_info *info, const void *address)
{
    struct gc_answer answer;
    gc_query(address, &answer);
    if (answer.begin != NULL) {
        info->base = answer.begin;
        info->size_bytes = answer.bytes;
        info->offset = ptr_diff(address, answer.begin);
        info->room = ALLOT_ROOM_GCMAP;
        info->state = answer.live ? ALLOT_STATE_LIVE : ALLOT_STATE_FREE;
    }
}

int allot_query(const void *address, allot_info *info)
{
    if (info == NULL || info->abi_size != sizeof *info) {
        return EINVAL;
    }
    *info = (allot_info)ALLOT_INFO_INIT;
    info->exact = 1;
    if (arena_query(address, info)) {
        return 0; /* its memory may be the heap's */
    }
    struct heap_answer answer;
    heap_query(address, &answer);
    if (answer.base != NULL) {
        tell(info, &answer, ptr_diff(address, answer.base));
    } else {
        tell_mapping(info, address);
    }
    return 0;
}

struct walk {
    int (*visit)(const allot_info *info, void *context);
    void *context;
};

static int pass_on(const struct heap_answer *answer, void *context)
{
    struct walk *walk = context;
    allot_info info = ALLOT_INFO_INIT;
    tell(&info, answer, 0);
    return walk->visit(&info, walk->context);
}

int allot_walk(int (*visit)(const allot_info *info, void *context), void *context)
{
    struct walk walk = {.visit = visit, .context = context};
    return heap_walk(pass_on, &walk);
}

/* ---- misuse ------------------------------------------------------------------------------------------------- */

static struct {
    _Atomic(allot_error_handler) handler;
    _Atomic(void *) context; /* stored before handler, loaded after it: O21 */
} user;

static bool ask_user(const struct fault *fault, const char *line)
{
    allot_error_handler handler = load_acquire(&user.handler); /* O21 */
    if (handler == NULL) {
        return false;
    }
    allot_error error = error_of(fault, line);
    return handler(&error, load_relaxed(&user.context)) == ALLOT_ACTION_CONTINUE;
}

void allot_set_error_handler(allot_error_handler handler, void *context)
{
    store_relaxed(&user.context, context);
    store_release(&user.handler, handler); /* O21 pairs with the acquire in ask_user: context is there */
    fault_set_handler(handler == NULL ? NULL : ask_user);
}
