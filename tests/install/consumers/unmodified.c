/* SPDX-License-Identifier: MIT */
/* A program that was built without allot: its blocks, and those that libc hands it, come from the library preloaded. */
#include "ask.h"

#include <malloc.h>
#include <string.h>

int main(void)
{
    void *blocks[] = {malloc(100),    calloc(10, 10),  realloc(NULL, 5000),    aligned_alloc(4096, 4096),
                      strdup("text"), memalign(64, 1), malloc((size_t)8 << 20)};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        EXPECT(is_block_by(allot_query, blocks[i]));
        free(blocks[i]);
    }
    char *line = NULL;
    size_t capacity = 0;
    FILE *self = fopen("/proc/self/status", "r");
    EXPECT(self != NULL && getline(&line, &capacity, self) > 0);
    EXPECT(is_block_by(allot_query, line));
    free(line);
    fclose(self);
    return 0;
}
