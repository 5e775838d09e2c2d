/* SPDX-License-Identifier: MIT */
/* overflow.c - reads and writes beyond either end of a block, from one byte on. */
#include "corpus.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define FAMILY "overflow"

/* ---- from one byte to a page, at blocks of every kind ------------------------------------------------------------ */

enum access { READ, WRITE };

static volatile unsigned sum;

static void touch(char *from, size_t n, enum access access)
{
    for (size_t i = 0; i < n; i++) {
        if (access == READ) {
            sum += (unsigned char)((volatile char *)from)[i];
        } else {
            ((volatile char *)from)[i] = 'X';
        }
    }
}

/* n bytes from offset on. The block lies between others of its size: nothing is hit that isn't the heap's. */
static void past(bool fault, void *block, size_t size, ptrdiff_t offset, size_t n, enum access access)
{
    char *begin = watch(block, size);
    void *beyond[4] = {malloc(size), malloc(size), malloc(size), malloc(8192)};
    touch(begin, size, WRITE);
    if (fault) {
        misuse(offset, "live");
        touch((char *)hidden(begin) + offset, n, access);
    }
    free(begin);
    for (size_t i = 0; i < 4; i++) {
        free(beyond[i]);
    }
}

/* Blocks before it too, for what goes to the front. */
static void before(bool fault, void *(*take)(void), size_t size, ptrdiff_t offset, size_t n, enum access access)
{
    void *front[2] = {take(), take()};
    past(fault, take(), size, offset, n, access);
    free(front[0]);
    free(front[1]);
}

static void *shrunk(size_t from, size_t to)
{
    return realloc(malloc(from), to);
}

static void *at_multiple_of(size_t alignment, size_t size)
{
    void *block = NULL;
    return posix_memalign(&block, alignment, size) == 0 ? block : NULL;
}

#define PAST(name, block, size, offset, n, access)                                                                     \
    static void name(bool fault)                                                                                       \
    {                                                                                                                  \
        past(fault, block, size, offset, n, access);                                                                   \
    }

PAST(write_1_into_padding, malloc(24), 24, 24, 1, WRITE)
PAST(write_1, malloc(48), 48, 48, 1, WRITE)
PAST(write_8, malloc(48), 48, 48, 8, WRITE)
PAST(write_16, malloc(48), 48, 48, 16, WRITE)
PAST(write_4096, malloc(48), 48, 48, 4096, WRITE)
PAST(write_1_of_13, malloc(13), 13, 13, 1, WRITE)
PAST(write_of_nothing, malloc(0), 0, 0, 1, WRITE)
PAST(write_1_medium, malloc(20000), 20000, 20000, 1, WRITE)
PAST(write_1_large, malloc(1000000), 1000000, 1000000, 1, WRITE)
PAST(write_4096_large, malloc(1 << 20), 1 << 20, 1 << 20, 4096, WRITE)
PAST(write_1_huge, malloc(50000001), 50000001, 50000001, 1, WRITE)
PAST(write_1_aligned, at_multiple_of(64, 100), 100, 100, 1, WRITE)
PAST(write_1_page_aligned, at_multiple_of(4096, 5000), 5000, 5000, 1, WRITE)
PAST(write_1_calloced, calloc(3, 11), 33, 33, 1, WRITE)
PAST(write_1_shrunk, shrunk(200, 150), 150, 150, 1, WRITE)
PAST(write_1_grown, shrunk(40, 200), 200, 200, 1, WRITE)
PAST(write_1_shrunk_large, shrunk(1000000, 600000), 600000, 600000, 1, WRITE)

PAST(read_1_of_padding, malloc(24), 24, 24, 1, READ)
PAST(read_1, malloc(48), 48, 48, 1, READ)
PAST(read_8, malloc(48), 48, 48, 8, READ)
PAST(read_16, malloc(48), 48, 48, 16, READ)
PAST(read_4096, malloc(48), 48, 48, 4096, READ)
PAST(read_1_medium, malloc(20000), 20000, 20000, 1, READ)
PAST(read_1_large, malloc(1000000), 1000000, 1000000, 1, READ)
PAST(read_4096_large, malloc(1 << 20), 1 << 20, 1 << 20, 4096, READ)
PAST(read_1_aligned, at_multiple_of(64, 128), 128, 128, 1, READ)
PAST(read_1_calloced, calloc(4, 16), 64, 64, 1, READ)
PAST(read_1_shrunk, shrunk(200, 144), 144, 144, 1, READ)

static void *small(void)
{
    return malloc(48);
}

static void *medium(void)
{
    return malloc(20000);
}

static void *large(void)
{
    return malloc(1000000);
}

static void *calloced(void)
{
    return calloc(4, 16);
}

static void *aligned(void)
{
    return at_multiple_of(64, 128);
}

#define BEFORE(name, take, size, offset, n, access)                                                                    \
    static void name(bool fault)                                                                                       \
    {                                                                                                                  \
        before(fault, take, size, offset, n, access);                                                                  \
    }

BEFORE(write_1_below, small, 48, -1, 1, WRITE)
BEFORE(write_8_below, small, 48, -8, 8, WRITE)
BEFORE(write_16_below, small, 48, -16, 16, WRITE)
BEFORE(write_1_below_medium, medium, 20000, -1, 1, WRITE)
BEFORE(write_1_below_large, large, 1000000, -1, 1, WRITE)
BEFORE(write_1_below_calloced, calloced, 64, -1, 1, WRITE)
BEFORE(write_1_below_aligned, aligned, 128, -1, 1, WRITE)
BEFORE(read_1_below, small, 48, -1, 1, READ)
BEFORE(read_16_below, small, 48, -16, 16, READ)
BEFORE(read_1_below_large, large, 1000000, -1, 1, READ)

/* ---- as it happens ---------------------------------------------------------------------------------------------- */

static void a_string_and_no_room_for_its_end(bool fault)
{
    const char *text = hidden("sixteen and more");
    size_t length = strlen(text) + (fault ? 0 : 1);
    char *copy = watch(malloc(length), length);
    if (fault) {
        misuse((ptrdiff_t)length, "live");
    }
    strcpy(copy, text);
    free(copy);
}

static void a_string_appended(bool fault)
{
    char *text = watch(malloc(32), 32);
    strcpy(text, hidden("twenty characters...")); /* 20 */
    if (fault) {
        misuse(32, "live");
    }
    strcat(text, hidden(fault ? "and twelve.." : "and eleven."));
    free(text);
}

static void a_number_printed(bool fault)
{
    char *text = watch(malloc(16), 16);
    if (fault) {
        misuse(16, "live");
    }
    sprintf(text, "%zu", unknown(fault ? 1234567890123456 : 123456789012345));
    free(text);
}

static void a_loop_one_too_far(bool fault)
{
    int *numbers = watch(malloc(12 * sizeof *numbers), 12 * sizeof *numbers);
    if (fault) {
        misuse(12 * sizeof *numbers, "live");
    }
    for (size_t i = 0; i < unknown(fault ? 13 : 12); i++) {
        numbers[i] = (int)i;
    }
    free(numbers);
}

static void a_loop_one_too_far_down(bool fault)
{
    void *below[2] = {malloc(12 * sizeof(int)), malloc(12 * sizeof(int))};
    int *numbers = watch(malloc(12 * sizeof *numbers), 12 * sizeof *numbers);
    if (fault) {
        misuse(-(ptrdiff_t)sizeof *numbers, "live");
    }
    for (int i = 11; i >= (int)unknown(fault ? 0 : 1) - 1; i--) {
        ((volatile int *)numbers)[i] = i;
    }
    free(numbers);
    free(below[0]);
    free(below[1]);
}

static void a_copy_too_long(bool fault)
{
    static char source[200];
    char *block = watch(malloc(96), 96);
    if (fault) {
        misuse(96, "live");
    }
    memcpy(block, source, unknown(fault ? 120 : 96));
    free(block);
}

/* The length comes with the message and is believed. */
static void a_length_that_is_believed(bool fault)
{
    static char answer[4096];
    char *message = watch(malloc(48), 48);
    void *beyond[3] = {malloc(48), malloc(48), malloc(4096)};
    memset(message, 'm', 48);
    if (fault) {
        misuse(48, "live");
    }
    memcpy(answer, message, unknown(fault ? 200 : 48));
    free(message);
    for (size_t i = 0; i < 3; i++) {
        free(beyond[i]);
    }
}

static void a_string_without_an_end(bool fault)
{
    char *text = watch(malloc(16), 16);
    memset(text, 't', 16);
    if (fault) {
        misuse(16, "live");
        unknown(strlen(text));
    }
    free(text);
}

/* n * size wrapped around; reallocarray would have said so. */
static void a_product_that_wrapped(bool fault)
{
    size_t n = unknown(fault ? (SIZE_MAX / 16) + 4 : 4);
    char *block = watch(malloc(n * 16), n * 16 == 0 ? 0 : 48 + (fault ? 0 : 16));
    if (fault) {
        misuse(48, "live");
    }
    write_bytes(block, 64);
    free(block);
}

static void the_size_of_a_pointer(bool fault)
{
    struct record {
        char name[40];
    } *records = fault ? malloc(2 * sizeof records) : malloc(2 * sizeof *records);
    records = watch(records, fault ? 2 * sizeof records : 2 * sizeof *records);
    if (fault) {
        misuse(2 * sizeof records, "live");
    }
    write_bytes(records, 2 * sizeof *records);
    free(records);
}

static void an_array_at_the_end_of_a_struct(bool fault)
{
    struct list {
        size_t n;
        long items[];
    } *list = malloc(sizeof *list + 5 * sizeof(long));
    watch(list, sizeof *list + 5 * sizeof(long));
    if (fault) {
        misuse(48, "live");
    }
    list = hidden(list);
    for (list->n = 0; list->n < unknown(fault ? 6 : 5); list->n++) {
        ((volatile long *)list->items)[list->n] = 7;
    }
    free(list);
}

static void by_the_kernel(bool fault)
{
    char *buffer = watch(malloc(48), 48);
    int zero = open("/dev/zero", O_RDONLY);
    if (fault) {
        misuse(48, "live");
    }
    if (read(zero, buffer, unknown(fault ? 64 : 48)) < 0) {
        buffer[0] = 0;
    }
    close(zero);
    free(buffer);
}

static void *write_past_it(void *block)
{
    by_any_thread(); /* found here, or when it is freed */
    misuse(48, "live");
    write_byte((char *)block + 48);
    return NULL;
}

static void in_another_thread(bool fault)
{
    char *block = watch(malloc(48), 48);
    memset(block, 0, 48);
    if (fault) {
        elsewhere(write_past_it, block);
    }
    free(block);
}

static void *write_past_and_free(void *block)
{
    misuse(24, "live");
    write_byte((char *)block + 24);
    free(block);
    return NULL;
}

static void freed_in_another_thread(bool fault)
{
    char *block = watch(malloc(24), 24);
    memset(block, 0, 24);
    if (fault) {
        elsewhere(write_past_and_free, block);
    } else {
        free(block);
    }
}

static void found_by_realloc(bool fault)
{
    char *block = watch(malloc(24), 24);
    memset(block, 0, 24);
    if (fault) {
        misuse(24, "live");
        write_byte(block + 24);
    }
    free(realloc(block, 5000));
}

/* Never freed, but not lost: only who looks at all blocks at the end finds it. */
static void of_a_block_that_lives_to_the_end(bool fault)
{
    static char *kept;
    kept = watch(malloc(24), 24);
    memset(kept, 0, 24);
    if (fault) {
        misuse(24, "live");
        write_byte(kept + 24);
    }
}

/* Over what stands between blocks, into the next one or what would be it. */
static void far_beyond(bool fault)
{
    char *block = watch(malloc(1000), 1000);
    void *beyond[4] = {malloc(1000), malloc(1000), malloc(1000), malloc(1000)};
    memset(block, 0, 1000);
    if (fault) {
        misuse(1100, "live");
        write_byte(block + 1100);
    }
    free(block);
    for (size_t i = 0; i < 4; i++) {
        free(beyond[i]);
    }
}

static const struct fault_case cases[] = {
    FAULT(write_1_into_padding, BUFFER_OVERFLOW, SILENT, NAMED, NAMED, NAMED),
    FAULT(write_1, BUFFER_OVERFLOW, SILENT, NAMED, NAMED, NAMED),
    FAULT(write_8, BUFFER_OVERFLOW, SILENT, NAMED, NAMED, NAMED),
    FAULT(write_16, BUFFER_OVERFLOW, SILENT, NAMED, NAMED, NAMED),
    FAULT(write_4096, BUFFER_OVERFLOW, STOPPED, NAMED, NAMED, NAMED),
    FAULT(write_1_of_13, BUFFER_OVERFLOW, SILENT, NAMED, NAMED, NAMED),
    FAULT(write_of_nothing, BUFFER_OVERFLOW, SILENT, NAMED, NAMED, NAMED),
    FAULT(write_1_medium, BUFFER_OVERFLOW, SILENT, NAMED, NAMED, NAMED),
    FAULT(write_1_large, BUFFER_OVERFLOW, SILENT, NAMED, SILENT, NAMED),
    FAULT(write_4096_large, BUFFER_OVERFLOW, SILENT, NAMED, SILENT, NAMED),
    FAULT(write_1_huge, BUFFER_OVERFLOW, SILENT, NAMED, SILENT, NAMED),
    FAULT(write_1_aligned, BUFFER_OVERFLOW, SILENT, NAMED, NAMED, NAMED),
    FAULT(write_1_page_aligned, BUFFER_OVERFLOW, SILENT, NAMED, NAMED, NAMED),
    FAULT(write_1_calloced, BUFFER_OVERFLOW, SILENT, NAMED, NAMED, NAMED),
    FAULT(write_1_shrunk, BUFFER_OVERFLOW, SILENT, NAMED, NAMED, NAMED),
    FAULT(write_1_grown, BUFFER_OVERFLOW, SILENT, NAMED, NAMED, NAMED),
    FAULT(write_1_shrunk_large, BUFFER_OVERFLOW, SILENT, NAMED, SILENT, NAMED),
    FAULT(read_1_of_padding, BUFFER_OVERFLOW, SILENT, SILENT, SILENT,
          SILENT), /* no page ends there, and nothing is changed */
    FAULT(read_1, BUFFER_OVERFLOW, SILENT, NAMED, SILENT, NAMED),
    FAULT(read_8, BUFFER_OVERFLOW, SILENT, NAMED, SILENT, NAMED),
    FAULT(read_16, BUFFER_OVERFLOW, SILENT, NAMED, SILENT, NAMED),
    FAULT(read_4096, BUFFER_OVERFLOW, SILENT, NAMED, SILENT, NAMED),
    FAULT(read_1_medium, BUFFER_OVERFLOW, SILENT, NAMED, SILENT, NAMED),
    FAULT(read_1_large, BUFFER_OVERFLOW, SILENT, NAMED, SILENT, NAMED),
    FAULT(read_4096_large, BUFFER_OVERFLOW, SILENT, NAMED, SILENT, NAMED),
    FAULT(read_1_aligned, BUFFER_OVERFLOW, SILENT, NAMED, SILENT, NAMED),
    FAULT(read_1_calloced, BUFFER_OVERFLOW, SILENT, NAMED, SILENT, NAMED),
    FAULT(read_1_shrunk, BUFFER_OVERFLOW, SILENT, NAMED, SILENT, NAMED),
    FAULT(write_1_below, BUFFER_UNDERFLOW, SILENT, NAMED, NAMED, NAMED),
    FAULT(write_8_below, BUFFER_UNDERFLOW, SILENT, NAMED, NAMED, NAMED),
    FAULT(write_16_below, BUFFER_UNDERFLOW, SILENT, NAMED, STOPPED, NAMED),
    FAULT(write_1_below_medium, BUFFER_UNDERFLOW, SILENT, NAMED, NAMED, NAMED),
    FAULT(write_1_below_large, BUFFER_UNDERFLOW, SILENT, NAMED, SILENT, NAMED),
    FAULT(write_1_below_calloced, BUFFER_UNDERFLOW, SILENT, NAMED, NAMED, NAMED),
    FAULT(write_1_below_aligned, BUFFER_UNDERFLOW, SILENT, NAMED, NAMED, NAMED),
    FAULT(read_1_below, BUFFER_UNDERFLOW, SILENT, SILENT, SILENT, SILENT), /* a page can't end on both sides */
    FAULT(read_16_below, BUFFER_UNDERFLOW, SILENT, SILENT, SILENT, SILENT),
    FAULT(read_1_below_large, BUFFER_UNDERFLOW, SILENT, SILENT, SILENT, SILENT),
    FAULT(a_string_and_no_room_for_its_end, BUFFER_OVERFLOW, STOPPED, NAMED, NAMED, NAMED),
    FAULT(a_string_appended, BUFFER_OVERFLOW, STOPPED, NAMED, NAMED, NAMED),
    FAULT(a_number_printed, BUFFER_OVERFLOW, STOPPED, NAMED, NAMED, NAMED),
    FAULT(a_loop_one_too_far, BUFFER_OVERFLOW, STOPPED, NAMED, NAMED, NAMED),
    FAULT(a_loop_one_too_far_down, BUFFER_UNDERFLOW, SILENT, NAMED, NAMED, NAMED),
    FAULT(a_copy_too_long, BUFFER_OVERFLOW, STOPPED, NAMED, NAMED, NAMED),
    FAULT(a_length_that_is_believed, BUFFER_OVERFLOW, SILENT, NAMED, SILENT, NAMED),
    FAULT(a_string_without_an_end, BUFFER_OVERFLOW, SILENT, NAMED, SILENT, NAMED),
    FAULT(a_product_that_wrapped, BUFFER_OVERFLOW, STOPPED, NAMED, NAMED, NAMED),
    FAULT(the_size_of_a_pointer, BUFFER_OVERFLOW, STOPPED, NAMED, NAMED, NAMED),
    FAULT(an_array_at_the_end_of_a_struct, BUFFER_OVERFLOW, STOPPED, NAMED, NAMED, NAMED),
    FAULT(by_the_kernel, BUFFER_OVERFLOW, STOPPED, SILENT, NAMED,
          SILENT), /* a guard page makes the kernel stop short */
    FAULT(in_another_thread, BUFFER_OVERFLOW, STOPPED, NAMED, NAMED, NAMED),
    FAULT(freed_in_another_thread, BUFFER_OVERFLOW, SILENT, NAMED, NAMED, NAMED),
    FAULT(found_by_realloc, BUFFER_OVERFLOW, SILENT, NAMED, NAMED, NAMED),
    FAULT(of_a_block_that_lives_to_the_end, BUFFER_OVERFLOW, SILENT, NAMED, NAMED, NAMED),
    FAULT(far_beyond, BUFFER_OVERFLOW, SILENT, NAMED, SILENT, NAMED),
};

const struct fault_family overflow = FAMILY_OF(cases);
