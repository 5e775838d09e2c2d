/* SPDX-License-Identifier: MIT */
/* A program linked to allot: the standard names and their twins are one heap. */
#include "ask.h"

#include <string.h>
#include <threads.h>

static int run(void *argument)
{
    (void)argument;
    char *text = strdup("from a thread");
    EXPECT(is_block_by(allot_query, text));
    allot_free(text);
    return 0;
}

int main(void)
{
    printf("allot %s\n", allot_version());
    char *text = strdup("text");
    EXPECT(is_block_by(allot_query, text));
    EXPECT(strcmp(text, "text") == 0);
    allot_free(text);

    void *block = allot_malloc(100);
    EXPECT(is_block_by(allot_query, block));
    block = realloc(block, 100000);
    EXPECT(is_block_by(allot_query, block));
    free(block);

    thrd_t thread;
    EXPECT(thrd_create(&thread, run, NULL) == thrd_success);
    EXPECT(thrd_join(thread, NULL) == thrd_success);
    return 0;
}
