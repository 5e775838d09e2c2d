/* SPDX-License-Identifier: MIT */
/* posix_threads.c - what os.h asks about all threads and all memory of the process, as far as POSIX knows: nothing. A
 * thread can't be found that didn't make itself known, and what is mapped can't be listed.
 */
#define _GNU_SOURCE
#include "os/os.h"

#include "base/atomic.h"
#include "base/base.h"

#include <errno.h>
#include <time.h>

void os_wait(_Atomic uint32_t *word, uint32_t value, unsigned ms)
{
    int saved = errno;
    struct timespec step = {.tv_nsec = 200000};
    uint64_t deadline = os_now_ns() + (uint64_t)ms * 1000000;
    while (load_relaxed(word) == value && os_now_ns() < deadline) { /* relaxed: the caller looks again, in its order */
        nanosleep(&step, NULL);
    }
    errno = saved;
}

void os_wake(_Atomic uint32_t *word)
{
    (void)word; /* who waits looks by itself */
}

void os_file_path(int fd, char *buffer, size_t capacity)
{
    (void)fd;
    (void)capacity;
    buffer[0] = '\0';
}

size_t os_mappings_most(void)
{
    return SIZE_MAX;
}

int os_memory_each(uintptr_t skip_begin, uintptr_t skip_end, bool (*visit)(const struct os_memory *, void *),
                   void *context)
{
    (void)skip_begin;
    (void)skip_end;
    (void)visit;
    (void)context;
    return -ENOSYS;
}

uintptr_t os_stack_left(uintptr_t begin, uintptr_t end)
{
    (void)begin;
    (void)end;
    return 0;
}

int os_pages_open(void)
{
    return -1;
}

void os_pages_close(int pages)
{
    (void)pages;
}

void os_pages_written(int pages, uintptr_t begin, uintptr_t end,
                      void (*visit)(uintptr_t begin, uintptr_t end, void *context), void *context)
{
    (void)pages;
    visit(begin, end, context);
}

bool os_threads_prepare(void)
{
    return true;
}

bool os_threads_stop(int signal, unsigned ms, bool pass_over, struct os_stop *stop)
{
    (void)pass_over;
    (void)signal;
    (void)ms;
    *stop = (struct os_stop){.fault = OS_STOP_UNKNOWN};
    return false;
}

void os_threads_go(void) {}

const struct os_standing *os_standing(size_t i)
{
    (void)i;
    return NULL;
}
