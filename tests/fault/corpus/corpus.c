/* SPDX-License-Identifier: MIT */
/* corpus.c - see corpus.h; and the program. */
#include "corpus.h"
#include "../fault.h"

#include <sys/syscall.h>

static struct {
    uintptr_t block; /* its complement: nothing that looks for pointers may find it here */
    size_t size, usable;
    const char *name;
    bool by_any_thread;
} watched;

void *hidden(const void *pointer)
{
    return hide(pointer);
}

size_t unknown(size_t n)
{
    return opaque(n);
}

void *watch(void *block, size_t size)
{
    if (block == NULL) {
        broken("no memory");
    }
    watched.block = ~(uintptr_t)block;
    watched.size = size;
    watched.usable = malloc_usable_size(block);
    return hide(block);
}

void named(const char *name)
{
    watched.name = name;
}

void by_any_thread(void)
{
    watched.by_any_thread = true;
}

static const char *name_expected(void)
{
    return watched.name == NULL ? running_case()->error : watched.name;
}

static void thread_expected(char out[24])
{
    if (watched.by_any_thread) {
        snprintf(out, 24, "[0-9]+");
    } else {
        snprintf(out, 24, "%ld", syscall(SYS_gettid));
    }
}

/* Only who keeps what was asked for can tell it: by default a block has the size of its class, and so has a large one
 * that no guard pages were left for. */
static size_t size_expected(void)
{
    bool is_kept = running_mode() == MODE_CHECK || running_mode() == MODE_SAMPLER;
    return is_kept ? watched.size : watched.usable;
}

static const char *rest_expected(void)
{
    return running_mode() == MODE_DEFAULT ? "$" : "";
}

void misuse(ptrdiff_t offset, const char *state)
{
    char line[400], thread[24];
    uintptr_t block = ~watched.block;
    thread_expected(thread);
    snprintf(line, sizeof line,
             "^allot: (%s) of 0x%jx: offset %td in the %zu-byte block at 0x%jx \\((%s)\\), thread %s\n%s",
             name_expected(), (uintmax_t)(block + (uintptr_t)offset), offset, size_expected(), (uintmax_t)block, state,
             thread, rest_expected());
    expect_line(line);
}

void misuse_outside(const void *address, const char *place)
{
    char line[400], thread[24];
    thread_expected(thread);
#ifdef ALLOT_TEST_NO_PLACES
    place = "[^()\n]+";
#endif
    snprintf(line, sizeof line, "^allot: (%s) of 0x%jx: no block, %s, thread %s\n%s", name_expected(),
             (uintmax_t)(uintptr_t)address, place, thread, rest_expected());
    expect_line(line);
}

void misuse_of(const void *address)
{
    char line[200];
    snprintf(line, sizeof line, "^allot: (%s) of 0x%jx: [^\n]+, thread [0-9]+\n%s", name_expected(),
             (uintmax_t)(uintptr_t)address, rest_expected());
    expect_line(line);
}

static volatile unsigned char nowhere;

void read_byte(const void *address)
{
    nowhere = *(const volatile unsigned char *)hide(address);
}

void write_byte(void *address)
{
    *(volatile unsigned char *)hide(address) = 'X';
}

void write_bytes(void *address, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        write_byte((char *)address + i);
    }
}

/* ---- afterwards ------------------------------------------------------------------------------------------------- */

enum { MOST_TAKEN = 300 };
static unsigned char *taken[MOST_TAKEN];

static size_t marked(size_t size)
{
    return size < 512 ? size : 512;
}

/* No two may overlap: each is filled with its own bytes before any is looked at. */
static void take_and_compare(size_t size, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        taken[i] = i % 2 == 0 ? malloc(size) : calloc(1, size);
        if (taken[i] == NULL || (i % 2 != 0 && !all_zero(taken[i], marked(size)))) {
            _exit(EXIT_DAMAGED);
        }
        pattern_fill(taken[i], marked(size), (unsigned)i);
    }
    for (size_t i = 0; i < n; i++) {
        if (!pattern_holds(taken[i], marked(size), (unsigned)i)) {
            _exit(EXIT_DAMAGED);
        }
    }
    for (size_t i = 0; i < n; i++) {
        free(taken[i]);
    }
}

static size_t how_many(size_t size)
{
    return size > 100000 ? 4 : size > 4096 ? 20 : MOST_TAKEN;
}

void take_many(size_t size)
{
    take_and_compare(size, how_many(size));
}

void go_on(void)
{
    const size_t sizes[] = {watched.size == 0 ? 1 : watched.size, 24, 48, 200, 1000, 5000, 20000, 300000};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        take_many(sizes[i]);
    }
}

void forget(void)
{
    volatile unsigned char stack[16 * KIB];
    for (size_t i = 0; i < sizeof stack; i++) {
        stack[i] = 0;
    }
}

/* ---- all together ----------------------------------------------------------------------------------------------- */

static const struct fault_family *const families[] = {
    &double_free, &invalid_free, &overflow, &after_free, &wrong_size, &uninitialised, &leak,
#ifdef ALLOT_TEST_CPLUSPLUS
    &cplusplus,
#endif
};

int main(int argc, char **argv)
{
    static struct fault_case cases[400];
    size_t n = 0;
    for (size_t i = 0; i < COUNT(families); i++) {
        for (size_t j = 0; j < families[i]->n_cases && n < COUNT(cases); j++) {
            cases[n++] = families[i]->cases[j];
        }
    }
    int result = fault_main(argc, argv, cases, n);
    if (running_case() != NULL) {
        go_on();
    }
    return result;
}
