/* SPDX-License-Identifier: MIT */
/* report.c - who uses a mapping that is gone is told by name, in the line that every misuse is reported in.
 *
 * Signals. Async-signal-safe: it runs in the handler of SIGSEGV and SIGBUS, and reads the books without the lock.
 */
#include "gc/gc_internal.h"

#include <string.h>

#include "map/map.h"

static const char *const end_words[] = {"", "closed", "collected", "unmapped"};

struct module {
    uintptr_t address;
    uintptr_t begin; /* of the first piece of the newest file */
    bool found;
    char name[64];
};

static bool find_module(const struct os_mapping *mapping, void *context)
{
    struct module *module = context;
    const char *slash = strrchr(mapping->name, '/');
    const char *name = slash == NULL ? mapping->name : slash + 1;
    if (mapping->name[0] != '\0' && strncmp(name, module->name, sizeof module->name - 1) != 0) {
        struct text text = text_in(module->name, sizeof module->name);
        text_add(&text, name);
        module->begin = mapping->begin;
    }
    module->found = module->address >= mapping->begin && module->address < mapping->end;
    return !module->found;
}

/* closed; "index" of /var/db/a, made by search+0x1d20 */
static void describe(struct text *text, const struct mapping *mapping, bool live)
{
    struct module module = {.address = mapping->made_by};
    unsigned how = load_relaxed(&mapping->ended);
    text_add(text, live ? "live" : end_words[how == END_NONE ? END_UNMAPPED : how]);
    text_add(text, "; ");
    if (mapping->name[0] != '\0') {
        text_add(text, "\"");
        text_add(text, mapping->name);
        text_add(text, "\" of ");
    }
    text_add(text, mapping->file[0] == '\0' ? "no file" : mapping->file);
    text_add(text, ", made by ");
    if (os_mappings(find_module, &module) == 0 && module.found) {
        text_add(text, module.name);
        text_add(text, "+");
        text_add_hex(text, mapping->made_by - module.begin);
    } else {
        text_add_hex(text, mapping->made_by);
    }
}

static void report(const char *name, const void *address, struct piece *piece, const struct os_access *access)
{
    char state[256];
    struct text text = text_in(state, sizeof state);
    struct fault fault = {.name = name, .address = address, .state = state, .fatal = access != NULL};
    fault.registers = access != NULL && access->has_registers ? &access->registers : NULL;
    struct mapping *mapping = piece == NULL ? NULL : load_relaxed(&piece->mapping);
    if (mapping != NULL) {
        fault.block = (void *)mapping->begin;
        fault.block_bytes = mapping->length;
        fault.is_mapping = true;
        describe(&text, mapping, load_relaxed(&piece->state) == PIECE_LIVE);
    } else {
        text_add(&text,
                 piece != NULL ? "in the range of collected mappings, long unmapped" : "in no collected mapping");
    }
    fault_report(&fault);
}

void report_misuse(struct gc *gc, const char *call, const void *address)
{
    struct piece *piece = gc == NULL ? NULL : range_find_signal(gc, (uintptr_t)address);
    struct mapping *mapping = piece == NULL ? NULL : load_relaxed(&piece->mapping);
    bool twice = mapping != NULL && load_relaxed(&mapping->ended) != END_NONE && mapping->begin == (uintptr_t)address;
    char name[32];
    struct text text = text_in(name, sizeof name);
    text_add(&text, twice ? "double " : "invalid ");
    text_add(&text, call);
    report(name, address, piece, NULL);
}

bool report_fault(const struct os_access *access)
{
    struct gc *gc = gc_now();
    const void *address = access->address;
    if (gc == NULL || !range_has(gc, (uintptr_t)address)) {
        return false;
    }
    struct piece *piece = range_find_signal(gc, (uintptr_t)address);
    uint32_t state = piece == NULL ? PIECE_NONE : load_relaxed(&piece->state);
    if (state == PIECE_GHOST) {
        struct mapping *mapping = load_relaxed(&piece->mapping);
        report(load_relaxed(&mapping->ended) == END_COLLECTED ? "use after collection" : "use after close", address,
               piece, access);
    } else if (state == PIECE_FREE) {
        report("use after close", address, piece, access);
    } else if (state == PIECE_LIVE && access->beyond_file && !access->handled) {
        report("use beyond the end of the file", address, piece, access);
    }
    return false; /* a live mapping's own protection is the program's business */
}
