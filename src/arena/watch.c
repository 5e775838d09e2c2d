/* SPDX-License-Identifier: MIT */
/* watch.c - what debuggers are told of an arena's blocks: the address sanitizer, by functions that are there when it
 * is, and Valgrind, by a sequence of instructions that does nothing elsewhere.
 */
#include "arena/arena_internal.h"

__attribute__((weak)) void __asan_poison_memory_region(const volatile void *begin, size_t bytes);
__attribute__((weak)) void __asan_unpoison_memory_region(const volatile void *begin, size_t bytes);

/* What Valgrind is asked, by its numbers. */
enum { ASK_RUNNING = 0x1001, TELL_NO_ACCESS = 0x4d430000, TELL_UNDEFINED = 0x4d430001, TELL_DEFINED = 0x4d430002 };

#if defined(__x86_64__) && defined(__linux__)
/* Four rotations that add up to a whole turn, and an exchange of a register with itself. */
static uintptr_t valgrind(uintptr_t request, uintptr_t begin, uintptr_t bytes)
{
    volatile uintptr_t arguments[6] = {request, begin, bytes, 0, 0, 0};
    uintptr_t result = 0;
    __asm__ volatile("rolq $3, %%rdi\n\t"
                     "rolq $13, %%rdi\n\t"
                     "rolq $61, %%rdi\n\t"
                     "rolq $51, %%rdi\n\t"
                     "xchgq %%rbx, %%rbx"
                     : "+d"(result)
                     : "a"(&arguments[0])
                     : "cc", "memory");
    return result;
}
#else
static uintptr_t valgrind(uintptr_t request, uintptr_t begin, uintptr_t bytes)
{
    (void)request, (void)begin, (void)bytes;
    return 0;
}
#endif

static bool has_asan(void)
{
    return __asan_poison_memory_region != NULL && __asan_unpoison_memory_region != NULL;
}

static bool has_valgrind(void)
{
    return valgrind(ASK_RUNNING, 0, 0) != 0;
}

bool watch_is_on(void)
{
    return has_asan() || has_valgrind();
}

void watch_memory(const allot_arena *arena, const void *begin, size_t bytes)
{
    if (arena->watched) {
        if (has_asan()) {
            __asan_poison_memory_region(begin, bytes);
        }
        valgrind(TELL_NO_ACCESS, (uintptr_t)begin, bytes);
    }
}

void watch_forget(const allot_arena *arena, const void *begin, size_t bytes)
{
    if (arena->watched) {
        if (has_asan()) {
            __asan_unpoison_memory_region(begin, bytes);
        }
        valgrind(TELL_UNDEFINED, (uintptr_t)begin, bytes);
    }
}

void watch_keep(const allot_arena *arena, const void *begin, size_t bytes)
{
    if (arena->watched) {
        if (has_asan()) {
            __asan_unpoison_memory_region(begin, bytes);
        }
        valgrind(TELL_DEFINED, (uintptr_t)begin, bytes);
    }
}
