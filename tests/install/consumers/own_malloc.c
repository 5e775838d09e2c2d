/* SPDX-License-Identifier: MIT */
/* A program with a malloc of its own, and liballot_core beside it: neither sees the other's blocks. */
#include "ask.h"

#include <errno.h>
#include <string.h>

static union {
    char bytes[1 << 20];
    max_align_t align;
} memory;
static size_t used;

/* Every block has its size before it. */
void *malloc(size_t size)
{
    size_t whole = (size + 31) & ~(size_t)15;
    if (size > sizeof memory || whole > sizeof memory - used) {
        errno = ENOMEM;
        return NULL;
    }
    char *block = memory.bytes + used + 16;
    memcpy(block - 16, &size, sizeof size);
    used += whole;
    return block;
}

void free(void *block)
{
    (void)block;
}

void *calloc(size_t n, size_t size)
{
    void *block = malloc(n * size);
    return block ? memset(block, 0, n * size) : NULL;
}

void *realloc(void *old, size_t size)
{
    void *block = malloc(size);
    if (block && old) {
        size_t old_size;
        memcpy(&old_size, (char *)old - 16, sizeof old_size);
        memcpy(block, old, old_size < size ? old_size : size);
    }
    return block;
}

static int is_own(const char *p)
{
    return (uintptr_t)p - (uintptr_t)memory.bytes < sizeof memory.bytes;
}

int main(void)
{
    char *own = strdup("text");
    EXPECT(is_own(own) && !is_block_by(allot_query, own));
    char *allots = allot_malloc(100);
    EXPECT(!is_own(allots) && is_block_by(allot_query, allots));
    allots = allot_realloc(allots, 100000);
    EXPECT(!is_own(allots) && is_block_by(allot_query, allots));
    allot_free(allots);
    free(own);
    return 0;
}
