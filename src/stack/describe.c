/* SPDX-License-Identifier: MIT */
/* describe.c - see stack_describe.
 *
 * A module is mapped piece by piece, in a row: read-only data, code, data, and zeroed data without a name behind it.
 * So the walk gathers neighbours of one name, and reads on behind the address until it knows whether code is among
 * them.
 */
#include "base/base.h"
#include "base/format.h"
#include "os/os.h"
#include "stack/stack.h"

#include <string.h>

struct search {
    uintptr_t address;
    uintptr_t frame; /* of the thread that asks */
    bool found;
    bool is_code;       /* the mapping at the address can be executed, */
    bool has_frame;     /* or holds the caller's frame, */
    bool has_name;      /* or belongs to what name says */
    bool group_is_code; /* one of the pieces of that name can be executed */
    uintptr_t group_end;
    char name[128]; /* of the newest group: the end of the path */
};

static const char *end_of_path(const char *path)
{
    const char *slash = path[0] == '/' ? strrchr(path, '/') : NULL;
    return slash == NULL ? path : slash + 1;
}

/* Whether the mapping is one more piece of the group: the same name, or the nameless zeroed data of a module. */
static bool continues_group(const struct search *search, const struct os_mapping *mapping)
{
    if (search->name[0] == '\0') {
        return false;
    }
    if (mapping->name[0] == '\0') {
        return mapping->begin == search->group_end && mapping->writable && search->group_is_code;
    }
    return strncmp(search->name, end_of_path(mapping->name), sizeof search->name - 1) == 0;
}

static void begin_group(struct search *search, const struct os_mapping *mapping)
{
    struct text name = text_in(search->name, sizeof search->name);
    text_add(&name, end_of_path(mapping->name));
    search->group_is_code = false;
}

static bool look_at(const struct os_mapping *mapping, void *context)
{
    struct search *search = context;
    if (!continues_group(search, mapping)) {
        if (search->found) {
            return false;
        }
        begin_group(search, mapping);
    }
    search->group_is_code |= mapping->executable;
    search->group_end = mapping->end;
    if (search->address >= mapping->begin && search->address < mapping->end) {
        search->found = true;
        search->is_code = mapping->executable;
        search->has_frame = search->frame >= mapping->begin && search->frame < mapping->end;
        search->has_name = search->name[0] != '\0';
    }
    return true;
}

static void describe_named(struct text *text, const struct search *search)
{
    text_add(text, search->is_code         ? "in the code of "
                   : search->group_is_code ? "in the data of "
                                           : "in the mapping of ");
    text_add(text, search->name);
}

static bool is_file_or_module(const struct search *search)
{
    return search->has_name && (search->name[0] != '[' || search->group_is_code);
}

const char *stack_describe(const void *address, char *buffer, size_t n)
{
    struct search search = {.address = (uintptr_t)address, .frame = (uintptr_t)__builtin_frame_address(0)};
    struct text text = text_in(buffer, n);
    if (os_mappings(look_at, &search) != 0) {
        text_add(&text, "not allot's");
    } else if (!search.found) {
        text_add(&text, "not mapped");
    } else if (is_file_or_module(&search)) {
        describe_named(&text, &search);
    } else if (search.has_frame || strcmp(search.name, "[stack]") == 0) {
        text_add(&text, "on the stack");
    } else {
        text_add(&text, "in memory that allot did not give out");
    }
    return buffer;
}
