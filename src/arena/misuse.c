/* SPDX-License-Identifier: MIT */
/* misuse.c - what is wrong with an address, in the line that all misuse is reported in.
 *
 *     allot: double free of 0x7f12a0: offset 0 in the 48-byte block at 0x7f12a0 (free), arena requests, thread 4121
 *
 * Nothing is reported while a lock is held.
 */
#include "arena/arena_internal.h"
#include "os/os.h"

#include <errno.h>

static struct misuse describe(const struct segment *segment, const void *p, const char *name)
{
    struct misuse misuse = {.name = name, .address = p, .state = "in memory of an arena"};
    if (arena_is_bump(segment->arena)) {
        return misuse;
    }
    struct block_at block = segment_block_at(segment, segment_word(segment, p));
    if (block.state != BLOCK_NONE) {
        misuse.block = segment_address(segment, block.word);
        misuse.block_bytes = block.words << WORD_SHIFT;
        misuse.state = block.state == BLOCK_LIVE ? "live" : "free";
    }
    return misuse;
}

struct misuse misuse_of(allot_arena *arena, const void *p, const char *name)
{
    struct segment *segment = arena_segment_of(arena, p);
    struct map_range_found found;
    if (segment != NULL) {
        return describe(segment, p, name);
    }
    struct misuse misuse = {.name = name, .address = p, .state = "not this arena's"};
    if (map_range_find(p, &found)) {
        misuse = describe(found.owner, p, name);
        if (misuse.block == NULL) {
            misuse.state = "in memory of another arena";
        }
    }
    return misuse;
}

static allot_error error_of(const struct misuse *misuse, const char *line)
{
    return (allot_error){
        .abi_size = sizeof(allot_error),
        .name = misuse->name,
        .address = misuse->address,
        .block = misuse->block,
        .block_bytes = misuse->block_bytes,
        .offset = misuse->block == NULL ? 0 : ptr_diff(misuse->address, misuse->block),
        .state = misuse->block == NULL ? "" : misuse->state,
        .thread = os_thread_id(),
        .line = line,
    };
}

static void report(const char *name, allot_error_handler handler, void *context, const struct misuse *misuse)
{
    struct fault fault = {
        .name = misuse->name,
        .address = misuse->address,
        .block = misuse->block,
        .block_bytes = misuse->block_bytes,
        .state = misuse->state,
        .arena = name,
    };
    if (handler == NULL) {
        fault_report(&fault);
        return;
    }
    char line[320];
    size_t length = fault_line(&fault, line, sizeof line - 1);
    line[length] = '\n';
    os_write_error(line, length + 1);
    line[length] = '\0';
    allot_error error = error_of(misuse, line);
    int saved = errno; /* the handler's is its own */
    bool go_on = handler(&error, context) == ALLOT_ACTION_CONTINUE;
    errno = saved;
    if (!go_on) {
        os_abort();
    }
}

void misuse_report(allot_arena *arena, const struct misuse *misuse)
{
    if (arena == NULL) {
        report(NULL, NULL, NULL, misuse);
    } else {
        report(arena->name, arena->on_error, arena->error_context, misuse);
    }
}

void misuse_report_options(const allot_arena_options *options, const struct misuse *misuse)
{
    report(options->name, options->on_error, options->context, misuse);
}

/* ---- questions of other rooms -------------------------------------------------------------------------------- */

void misuse_describe(void *owner, const void *p, struct fault *fault)
{
    const struct segment *segment = owner;
    struct misuse misuse = describe(segment, p, fault->name);
    fault->block = misuse.block;
    fault->block_bytes = misuse.block_bytes;
    fault->state = misuse.state;
    fault->arena = segment->arena->name;
}

static void query_bump(const struct segment *segment, const void *p, allot_info *info)
{
    char *top = bump_top(segment->arena, segment);
    bool is_live = (const char *)p < top;
    char *begin = is_live ? segment->begin : top;
    info->base = begin;
    info->size_bytes = ptr_diff(is_live ? top : segment->begin + (segment->words << WORD_SHIFT), begin);
    info->state = is_live ? ALLOT_STATE_LIVE : ALLOT_STATE_FREE;
}

bool arena_query(const void *p, allot_info *info)
{
    struct map_range_found found;
    if (!map_range_find(p, &found)) {
        return false;
    }
    const struct segment *segment = found.owner;
    uintptr_t holder = load_relaxed(&segment->arena->lock);
    info->room = ALLOT_ROOM_ARENA;
    info->exact = holder == 0;
    if (!segment_has(segment, p)) {
        return true;
    }
    if (arena_is_bump(segment->arena)) {
        query_bump(segment, p, info);
    } else {
        struct block_at block = segment_block_at(segment, segment_word(segment, p));
        if (block.state != BLOCK_NONE) {
            info->base = segment_address(segment, block.word);
            info->size_bytes = block.words << WORD_SHIFT;
            info->state = block.state == BLOCK_LIVE ? ALLOT_STATE_LIVE : ALLOT_STATE_FREE;
        }
    }
    info->offset = info->base == NULL ? 0 : ptr_diff(p, info->base);
    return true;
}

allot_arena *allot_arena_find(const void *address)
{
    struct map_range_found found;
    return map_range_find(address, &found) ? ((struct segment *)found.owner)->arena : NULL;
}
