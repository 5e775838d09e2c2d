/* SPDX-License-Identifier: MIT */
/* fault.c - the line that every misuse is reported in.
 *
 *     allot: double free of 0x7f12a0: offset 0 in the 48-byte block at 0x7f12a0 (free), thread 4121
 *     allot: invalid free of 0x7ffd10: no block, on the stack, thread 4121
 */
#include "base/format.h"
#include "base/hooks.h"
#include "map/map.h"
#include "os/os.h"

#include <errno.h>
#include <stdint.h>

static _Atomic(fault_handler) installed;
static _Atomic(map_range_describer) describer; /* relaxed: a function, once set the same for good */

void map_range_set_describer(map_range_describer describe)
{
    store_relaxed(&describer, describe);
}

/* An address in a range is the range's business, whoever found the fault. */
static struct fault describe_range(const struct fault *fault)
{
    struct fault told = *fault;
    struct map_range_found found;
    map_range_describer describe = load_relaxed(&describer);
    if (describe != NULL && fault->arena == NULL && map_range_find(fault->address, &found)) {
        describe(found.owner, fault->address, &told);
    }
    return told;
}

void fault_set_handler(fault_handler handler)
{
    store_release(&installed, handler); /* O6: what the handler reads was written before it was set */
}

static void describe_place(struct text *text, const struct fault *fault)
{
    if (fault->block == NULL) {
        text_add(text, "no block, ");
        text_add(text, fault->state);
        return;
    }
    text_add(text, "offset ");
    text_add_signed(text, (int64_t)((uintptr_t)fault->address - (uintptr_t)fault->block));
    text_add(text, " in the ");
    text_add_unsigned(text, fault->block_bytes);
    text_add(text, fault->is_mapping ? "-byte mapping at " : "-byte block at ");
    text_add_hex(text, (uintptr_t)fault->block);
    text_add(text, " (");
    text_add(text, fault->state);
    text_add(text, ")");
}

size_t fault_line(const struct fault *fault, char *line, size_t capacity)
{
    struct text text = text_in(line, capacity);
    text_add(&text, "allot: ");
    text_add(&text, fault->name);
    text_add(&text, " of ");
    text_add_hex(&text, (uintptr_t)fault->address);
    text_add(&text, ": ");
    describe_place(&text, fault);
    if (fault->arena != NULL) {
        text_add(&text, ", arena ");
        text_add(&text, fault->arena);
    }
    text_add(&text, ", thread ");
    text_add_unsigned(&text, os_thread_id());
    return text.length;
}

void fault_report(const struct fault *found)
{
    char line[512];
    struct fault told = describe_range(found);
    const struct fault *fault = &told;
    const struct hooks *hooks = hooks_now();
    if (hooks != NULL && !fault->fatal && !hooks->is_wanted(fault)) {
        return;
    }
    size_t length = fault_line(fault, line, sizeof line - 1);
    line[length] = '\n';
    os_write_error(line, length + 1);
    line[length] = '\0';
    int saved = errno; /* the handler's is its own */
    if (hooks != NULL) {
        hooks->tell(fault, line);
    }
    fault_handler handler = load_acquire(&installed); /* O6 */
    bool go_on = handler != NULL && handler(fault, line) && !fault->fatal;
    go_on = go_on || (hooks != NULL && hooks->goes_on(fault));
    errno = saved;
    if (!go_on) {
        os_abort();
    }
}
