/* SPDX-License-Identifier: MIT */
/* look_root.c - the root table says what the library does, and its note leads to it. */
#include "unit.h"

#include <allot/root.h>
#include <elf.h>
#include <link.h>

static void the_table_is_of_this_version(void **state)
{
    (void)state;
    assert_true(allot_root.magic == ALLOT_ROOT_MAGIC);
    assert_int_equal(allot_root.version, ALLOT_ROOT_VERSION);
    assert_int_equal(allot_root.bytes, sizeof allot_root);
    assert_string_equal(allot_root.library_version, allot_version());
    assert_int_equal(allot_root.map->bytes, sizeof *allot_root.map);
    assert_int_equal(allot_root.heap->bytes, sizeof *allot_root.heap);
    assert_int_equal(allot_root.pool->bytes, sizeof *allot_root.pool);
}

static void the_classes_are_those_that_blocks_come_in(void **state)
{
    (void)state;
    size_t sizes[256];
    size_t n = allot_size_classes(sizes, 256);
    assert_int_equal(allot_root.heap->n_classes, n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(allot_root.heap->class_bytes[i], sizes[i]);
    }
}

/* In the notes of a loaded module: does one of them lead to the table? */
static int look_for_note(struct dl_phdr_info *module, size_t size, void *found)
{
    (void)size;
    for (int i = 0; i < module->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &module->dlpi_phdr[i];
        const char *at = (const char *)(module->dlpi_addr + segment->p_vaddr);
        const char *end = at + segment->p_memsz;
        while (segment->p_type == PT_NOTE && segment->p_align <= 4 && at < end) {
            const ElfW(Nhdr) *note = (const void *)at;
            const char *description = at + sizeof *note + (note->n_namesz + 3) / 4 * 4;
            if (note->n_type == ALLOT_ROOT_NOTE && note->n_namesz == 6 &&
                strcmp((const char *)(note + 1), "allot") == 0) {
                int64_t distance;
                memcpy(&distance, description, sizeof distance);
                *(const void **)found = description + distance;
            }
            at = description + (note->n_descsz + 3) / 4 * 4;
        }
    }
    return 0;
}

static void the_note_leads_to_the_table(void **state)
{
    (void)state;
    const void *found = NULL;
    dl_iterate_phdr(look_for_note, &found);
    assert_non_null(found);
    assert_memory_equal(found, &allot_root, sizeof allot_root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_is_of_this_version),
        cmocka_unit_test(the_classes_are_those_that_blocks_come_in),
        cmocka_unit_test(the_note_leads_to_the_table),
    };
    return cmocka_run_group_tests_name("look_root", tests, NULL, NULL);
}
