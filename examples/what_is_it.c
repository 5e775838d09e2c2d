/* SPDX-License-Identifier: MIT */
/* what_is_it.c - asks of several addresses what they are, and shows what becomes of a second free.
 *
 *     cc what_is_it.c $(pkg-config --cflags --libs allot)
 */
#include <allot/allot.h>

#include <stdio.h>
#include <stdlib.h>

static allot_info show(const char *name, const void *address)
{
    static const char *const states[] = {"no block", "live", "free"};
    allot_info info = ALLOT_INFO_INIT;
    if (allot_query(address, &info) == 0)
        printf("%-22s %14p  %s, %zu bytes at %p, offset %zu\n", name, address, states[info.state], info.size_bytes,
               info.base, info.offset);
    return info;
}

/* Asked when misuse is found, after the line about it is written. */
static allot_action go_on(const allot_error *error, void *context)
{
    *(const char **)context = error->name;
    return ALLOT_ACTION_CONTINUE;
}

int main(void)
{
    int on_stack = 0;
    char *volatile block = malloc(40);
    allot_info live = show("a block", block);
    allot_info middle = show("16 bytes into it", block + 16);
    allot_info foreign = show("a local variable", &on_stack);
    show("anything", (const void *)(uintptr_t)0xdeadbeefdeadbeef);
    free(block);
    allot_info freed = show("the block, freed", block);

    const char *found = "nothing";
    allot_set_error_handler(go_on, &found);
    free(block);
    allot_set_error_handler(NULL, NULL);
    printf("the second free: %s\n", found);

    return live.state == ALLOT_STATE_LIVE && middle.offset == 16 && foreign.state == ALLOT_STATE_NONE &&
                   freed.state == ALLOT_STATE_FREE
               ? 0
               : 1;
}
