/* SPDX-License-Identifier: MIT */
/* uninitialised.c - what malloc returned is used before anything was written there. The blocks were used before: what
 * is in them is what somebody left there. */
#include "corpus.h"

#include <malloc.h>

#define FAMILY "uninitialised"

static void announce(void)
{
    expect_line("^allot: uninitialised read of 0x[0-9a-f]+: .*, thread [0-9]+\n");
}

struct record {
    size_t *size;
    char *name;
    size_t n;
};

static struct record *take(bool fault)
{
    struct record *used = hidden(malloc(sizeof *used));
    memset(used, 0, sizeof *used);
    free(used);
    struct record *record = watch(malloc(sizeof *record), sizeof *record);
    if (!fault) {
        memset(record, 0, sizeof *record);
    }
    return record;
}

static void as_an_address_to_read(bool fault)
{
    struct record *record = take(fault);
    if (fault) {
        announce();
        unknown(*(volatile size_t *)record->size);
    }
    free(record);
}

static void as_an_address_to_write(bool fault)
{
    struct record *record = take(fault);
    if (fault) {
        announce();
        *(volatile size_t *)record->size = 1;
    }
    free(record);
}

static void as_an_index(bool fault)
{
    static char table[16];
    struct record *record = take(fault);
    if (fault) {
        announce();
    }
    read_byte(table + record->n);
    free(record);
}

static void as_a_size(bool fault)
{
    struct record *record = take(fault);
    if (fault) {
        announce();
    }
    free(malloc(unknown(record->n)));
    free(record);
}

static void as_a_size_for_realloc(bool fault)
{
    struct record *record = take(fault);
    char *block = malloc(24);
    if (fault) {
        announce();
    }
    char *moved = realloc(block, unknown(record->n) + (fault ? 0 : 1));
    free(moved == NULL && fault && record->n != 0 ? block : moved);
    free(record);
}

static void as_an_argument_of_free(bool fault)
{
    struct record *record = take(fault);
    if (fault) {
        announce();
    }
    free(hidden(record->name));
    free(record);
}

static void as_an_argument_of_realloc(bool fault)
{
    struct record *record = take(fault);
    if (fault) {
        announce();
    }
    free(realloc(hidden(record->name), 50));
    free(record);
}

static void of_what_realloc_added(bool fault)
{
    char **block = malloc(2 * sizeof *block);
    block[0] = block[1] = NULL;
    block = watch(realloc(block, 50 * sizeof *block), 50 * sizeof *block);
    if (fault) {
        announce();
    } else {
        block[40] = NULL;
    }
    free(hidden(block[40]));
    free(block);
}

static void as_a_condition(bool fault)
{
    struct record *record = take(fault);
    if (fault) {
        announce();
    }
    if (hidden(record->name) == (void *)unknown(1234)) {
        write_byte(record);
    }
    free(record);
}

static const struct fault_case cases[] = {
    FAULT(as_an_address_to_read, UNINITIALISED, SILENT, NAMED, NAMED, NAMED),
    FAULT(as_an_address_to_write, UNINITIALISED, STOPPED, NAMED, NAMED, NAMED),
    FAULT(as_an_index, UNINITIALISED, SILENT, NAMED, NAMED, NAMED),
    FAULT(as_a_size, UNINITIALISED, SILENT, NAMED, NAMED, NAMED),
    FAULT(as_a_size_for_realloc, UNINITIALISED, SILENT, NAMED, NAMED, NAMED),
    FAULT(as_an_argument_of_free, UNINITIALISED, SILENT, NAMED, NAMED, NAMED),
    FAULT(as_an_argument_of_realloc, UNINITIALISED, SILENT, NAMED, NAMED, NAMED),
    FAULT(of_what_realloc_added, UNINITIALISED, SILENT, NAMED, NAMED, NAMED),
    FAULT(as_a_condition, UNINITIALISED, SILENT, SILENT, SILENT, SILENT), /* nothing is used that could be looked at */
};

const struct fault_family uninitialised = FAMILY_OF(cases);
