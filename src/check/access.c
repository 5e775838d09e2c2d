/* SPDX-License-Identifier: MIT */
/* access.c - what the machine refused, named: guard pages, and addresses that are made of a fill. */
#include "check/check_internal.h"
#include "config/config.h"

static const char *name_of(const struct noted *noted, const char *address)
{
    if (load_relaxed(&noted->note->state) != NOTE_LIVE) {
        return "use after free";
    }
    return address < noted->block ? "buffer underflow" : "buffer overflow";
}

static const char *action_of(const struct os_access *access)
{
    return access->is_write < 0 ? "access" : access->is_write != 0 ? "write" : "read";
}

/* Where the first page that can't be touched begins, whoever ran or reached over the end was stopped; the padding
 * between the block and that page didn't stop him. What he was not to touch begins at the block's end. */
static const void *first_wrong_byte(const struct noted *noted, const char *address)
{
    bool live = load_relaxed(&noted->note->state) == NOTE_LIVE;
    return live && address == noted->block + noted->room_bytes ? noted->block + noted->note->requested : address;
}

static bool hit_guard(const struct noted *noted, const struct os_access *access)
{
    bool live = load_relaxed(&noted->note->state) == NOTE_LIVE;
    struct fault fault = {
        .name = name_of(noted, access->address),
        .address = first_wrong_byte(noted, access->address),
        .block = noted->block,
        .block_bytes = noted->note->requested,
        .state = live ? "live" : "free",
        .action = action_of(access),
        .registers = access->has_registers ? &access->registers : NULL,
    };
    fault_report(&fault);
    guard_open(access->address);
    return true;
}

/* The fill itself, or the fill used as an index into what is there. */
static bool is_fill(uintptr_t word, bool (*is_of)(uintptr_t), uintptr_t fill)
{
    return is_of(word) || (word - fill < (uintptr_t)1 << 47 && os_readable((const void *)(word - fill)));
}

/* An address that is no address: which of the registers made it? */
static bool hit_fill(const struct os_access *access)
{
    for (size_t i = 0; access->has_registers && i < OS_REGISTERS; i++) {
        uintptr_t word = access->registers.of[i];
        bool is_new = is_fill(word, fill_is_new, FILL_WORD(FILL_NEW));
        if (!is_new && !is_fill(word, fill_is_freed, FILL_WORD(FILL_FREED))) {
            continue;
        }
        struct fault fault = {
            .name = is_new ? "uninitialised read" : "use after free",
            .address = (const void *)word,
            .state = is_new ? "but what new memory is filled with" : "but what freed memory is filled with",
            .action = action_of(access),
            .registers = &access->registers,
            .fatal = true, /* the access would be tried again, and fail again */
        };
        fault_report(&fault);
    }
    return false;
}

static bool handle(const struct os_access *access)
{
    if (access->address_known) {
        struct noted noted = guard_nearest(access->address);
        if (noted.note != NULL && load_relaxed(&noted.note->state) != NOTE_NONE) {
            return hit_guard(&noted, access);
        }
    }
    const struct hooks *hooks = hooks_now();
    return hooks != NULL && hooks->all && hit_fill(access);
}

void access_catch(void)
{
    os_catch_faults(handle);
}
