/* SPDX-License-Identifier: MIT */
/* checks.c - see allot/check.h. */
#include "check/check.h"
#include "malloc/malloc_internal.h"
#include "map/map.h"
#include "stack/stack.h"

#include <allot/check.h>

size_t allot_check(void)
{
    return check_all();
}

/* ---- the listener ------------------------------------------------------------------------------------------- */

static struct {
    _Atomic(allot_report_listener) listener;
    _Atomic(void *) context; /* stored before listener, loaded after it: O46 */
} user;

static void tell_user(const struct fault *fault, const char *line, const char *text, void *unused)
{
    (void)unused;
    allot_report_listener listener = load_acquire(&user.listener); /* O46 */
    if (listener != NULL) {
        allot_error error = error_of(fault, line);
        listener(&error, text, load_relaxed(&user.context));
    }
}

void allot_set_report_listener(allot_report_listener listener, void *context)
{
    store_relaxed(&user.context, context);
    store_release(&user.listener, listener); /* O46 pairs with the acquire in tell_user: context is there */
    check_set_listener(listener == NULL ? NULL : tell_user, NULL);
}

/* ---- history ------------------------------------------------------------------------------------------------ */

static size_t recall(uint32_t number, const void **out)
{
    uintptr_t pcs[STACK_FRAMES_MOST];
    size_t n = stack_recall(number, pcs);
    for (size_t i = 0; i < n; i++) {
        out[i] = (const void *)pcs[i];
    }
    return n;
}

int allot_block_history(const void *address, allot_history *history)
{
    if (history == NULL || history->abi_size != sizeof *history) {
        return EINVAL;
    }
    struct check_answer answer;
    check_ask(address, &answer);
    *history = (allot_history){
        .abi_size = sizeof *history,
        .block = answer.block,
        .requested_bytes = answer.bytes,
        .live = answer.live,
        .taken_by = answer.take_thread,
        .given_by = answer.give_thread,
    };
    history->n_taken_at = recall(answer.take_stack, history->taken_at);
    history->n_given_at = recall(answer.give_stack, history->given_at);
    return 0;
}
