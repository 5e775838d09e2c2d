/* SPDX-License-Identifier: MIT */
/* arena_jit.c - code made at run time, close enough to the program's own for direct calls, in memory of which no page
 * is ever both writable and executable: what is written through one view is executed through the other.
 *
 *     cc arena_jit.c $(pkg-config --cflags --libs allot) -o arena_jit && ./arena_jit
 *
 * For x86-64; elsewhere it says so and does nothing.
 */
#include <allot/arena.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#if defined(__x86_64__)

static long called_with;

/* What the generated code calls, by a displacement of 32 bits. */
__attribute__((noinline)) static long helper(long number)
{
    called_with = number;
    return number * 10;
}

static allot_backend *code_memory;

/* A function that multiplies its argument, calls the helper with that, and adds. NULL: no memory. */
static long (*make_function(allot_arena *arena, int8_t factor, int8_t summand))(long)
{
    unsigned char code[] = {
        0x48, 0x83, 0xec, 0x08,                  /* sub  rsp, 8 */
        0x48, 0x6b, 0xff, (unsigned char)factor, /* imul rdi, rdi, factor */
        0xe8, 0,    0,    0,
        0,                                        /* call helper */
        0x48, 0x83, 0xc0, (unsigned char)summand, /* add  rax, summand */
        0x48, 0x83, 0xc4, 0x08,                   /* add  rsp, 8 */
        0xc3,                                     /* ret */
    };
    unsigned char *place = allot_arena_malloc(arena, sizeof code);
    if (place == NULL)
        return NULL;
    int32_t distance = (int32_t)((intptr_t)helper - (intptr_t)(place + 13)); /* from behind the call */
    memcpy(code + 9, &distance, sizeof distance);
    memcpy(allot_pair_writable(code_memory, place), code, sizeof code);
    if (allot_pair_publish(code_memory, place, sizeof code) != 0)
        return NULL;
    return (long (*)(long))(uintptr_t)place;
}

int main(void)
{
    allot_map_options map = ALLOT_MAP_OPTIONS_INIT;
    allot_arena_options options = ALLOT_ARENA_OPTIONS_INIT;
    allot_arena *arena;
    map.near_to = (const void *)(uintptr_t)helper;
    int error = allot_backend_pair(1 << 20, &map, &code_memory);
    if (error == ENOTSUP || error == EACCES || error == EPERM) {
        puts("this system lets nobody make code");
        return 0;
    }
    options.name = "code";
    options.backend = code_memory;
    options.flags = ALLOT_ARENA_OWNS_BACKEND;
    if (error != 0 || allot_arena_create(0, &options, &arena) != 0)
        return 1;
    for (int i = 0; i < 1000; i++) {
        long (*function)(long) = make_function(arena, (int8_t)(i % 100), 7);
        if (function == NULL || function(3) != 3L * (i % 100) * 10 + 7 || called_with != 3L * (i % 100)) {
            printf("function %d is wrong\n", i);
            return 1;
        }
        if (i % 3 != 0)
            allot_arena_free(arena, (void *)(uintptr_t)function); /* its place is the next one's */
    }
    printf("1000 functions made and called, %zu bytes in use, %zu KiB from helper\n",
           allot_arena_capacity(arena) - allot_arena_free_bytes(arena),
           (size_t)((uintptr_t)allot_virt_address(code_memory) > (uintptr_t)helper
                        ? (uintptr_t)allot_virt_address(code_memory) - (uintptr_t)helper
                        : (uintptr_t)helper - (uintptr_t)allot_virt_address(code_memory)) /
               1024);
    allot_arena_destroy(arena);
    return 0;
}

#else

int main(void)
{
    puts("for x86-64 only");
    return 0;
}

#endif
