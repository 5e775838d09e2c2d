/* SPDX-License-Identifier: MIT */
/* symbols_find.c - see symbols.h. libdwfl finds files and tables; this asks it and walks the inlined functions. */
#include "symbols.h"

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwfl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MOST_BUILD_ID 64
#define ANYWHERE ((Dwarf_Addr)0x100000) /* where a module known by build-id alone is said to lie */

/* Where code of a compilation unit lies, as debug info has it. */
struct unit {
    Dwarf_Addr begin;
    Dwarf_Addr end;
    Dwarf_Die die;
};

struct module {
    struct module *next;
    char *path;
    char *build_id;    /* NULL: any */
    Dwfl *session;     /* one each, so that modules can't lie over one another */
    Dwfl_Module *dwfl; /* NULL when nothing was found */
    Dwarf_Addr bias;   /* an offset plus this is an address of dwfl */
    bool has_lines;
    struct unit *units; /* by address; NULL until unit_at needs them */
    size_t n_units;
    const char *missing;
};

struct symbols {
    struct module *modules; /* the last one asked comes first */
};

/* From libstdc++, which declares it in a header of C++. */
char *__cxa_demangle(const char *mangled, char *buffer, size_t *length, int *status);

static char *debug_path; /* NULL: libdwfl's default, the file's folder, its .debug, and /usr/lib/debug */

static const Dwfl_Callbacks by_path = {
    .find_elf = dwfl_build_id_find_elf,
    .find_debuginfo = dwfl_standard_find_debuginfo,
    .section_address = dwfl_offline_section_address,
    .debuginfo_path = &debug_path,
};

/* ---- modules ------------------------------------------------------------------------------------------------ */

static size_t bytes_of_hex(const char *hex, unsigned char *out, size_t most)
{
    size_t n = 0;
    for (; n < most && hex[2 * n] != '\0'; n++) {
        unsigned byte;
        if (sscanf(hex + 2 * n, "%2x", &byte) != 1) {
            return 0;
        }
        out[n] = (unsigned char)byte;
    }
    return n;
}

static char *hex_of_bytes(const unsigned char *bytes, size_t n)
{
    char *hex = take_memory(2 * n + 1);
    for (size_t i = 0; i < n; i++) {
        snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
    }
    return hex;
}

static char *build_id_of(Dwfl_Module *module)
{
    const unsigned char *bits;
    GElf_Addr address;
    int n = dwfl_module_build_id(module, &bits, &address);
    return n > 0 ? hex_of_bytes(bits, (size_t)n) : NULL;
}

static bool open_by_path(struct module *module)
{
    module->session = dwfl_begin(&by_path);
    if (module->session == NULL) {
        return false;
    }
    dwfl_report_begin(module->session);
    module->dwfl = dwfl_report_offline(module->session, module->path, module->path, -1);
    dwfl_report_end(module->session, NULL, NULL);
    if (module->dwfl == NULL || dwfl_module_getelf(module->dwfl, &module->bias) == NULL) {
        return false;
    }
    char *found = build_id_of(module->dwfl);
    bool right = module->build_id == NULL || (found != NULL && strcasecmp(found, module->build_id) == 0);
    free(found);
    return right;
}

static bool open_by_build_id(struct module *module)
{
    unsigned char id[MOST_BUILD_ID];
    size_t n = module->build_id == NULL ? 0 : bytes_of_hex(module->build_id, id, sizeof id);
    if (n == 0) {
        return false;
    }
    module->session = dwfl_begin(&by_path);
    if (module->session == NULL) {
        return false;
    }
    dwfl_report_begin(module->session);
    module->dwfl = dwfl_report_module(module->session, module->path, ANYWHERE, UINT64_MAX / 2);
    bool named = module->dwfl != NULL && dwfl_module_report_build_id(module->dwfl, id, n, 0) == 0;
    dwfl_report_end(module->session, NULL, NULL);
    return named && dwfl_module_getelf(module->dwfl, &module->bias) != NULL;
}

static void close_session(struct module *module)
{
    if (module->session != NULL) {
        dwfl_end(module->session);
    }
    module->session = NULL;
    module->dwfl = NULL;
}

static void open_module(struct module *module)
{
    if (!open_by_path(module)) {
        close_session(module);
        bool there = access(module->path, R_OK) == 0;
        if (!open_by_build_id(module)) {
            close_session(module);
            module->missing = !there                     ? "the file can't be read"
                              : module->build_id == NULL ? "the file is no ELF file"
                                                         : "the file is not the one that ran: another build-id";
            return;
        }
    }
    Dwarf_Addr bias;
    module->has_lines = dwfl_module_getdwarf(module->dwfl, &bias) != NULL;
    if (!module->has_lines) {
        module->missing = "no debug info: install its -dbgsym package, or set DEBUGINFOD_URLS";
    }
}

static bool is_module(const struct module *module, const char *path, const char *build_id)
{
    bool same_id = build_id == NULL || module->build_id == NULL ? build_id == module->build_id
                                                                : strcmp(module->build_id, build_id) == 0;
    return same_id && strcmp(module->path, path) == 0;
}

static struct module *module_at(struct symbols *symbols, const char *path, const char *build_id)
{
    for (struct module **link = &symbols->modules; *link != NULL; link = &(*link)->next) {
        struct module *module = *link;
        if (is_module(module, path, build_id)) {
            *link = module->next;
            module->next = symbols->modules;
            symbols->modules = module;
            return module;
        }
    }
    struct module *module = take_memory(sizeof *module);
    module->path = take_copy(path);
    module->build_id = build_id == NULL ? NULL : take_copy(build_id);
    open_module(module);
    module->next = symbols->modules;
    symbols->modules = module;
    return module;
}

struct symbols *symbols_open(void)
{
    return take_memory(sizeof(struct symbols));
}

void symbols_close(struct symbols *symbols)
{
    while (symbols->modules != NULL) {
        struct module *module = symbols->modules;
        symbols->modules = module->next;
        close_session(module);
        free(module->path);
        free(module->build_id);
        free(module->units);
        free(module);
    }
    free(symbols);
}

const char *symbols_missing(struct symbols *symbols, const char *path, const char *build_id)
{
    return module_at(symbols, path, build_id)->missing;
}

char *symbols_build_id(const char *path)
{
    struct module module = {.path = (char *)path};
    char *found = open_by_path(&module) ? build_id_of(module.dwfl) : NULL;
    close_session(&module);
    return found;
}

/* ---- names and files ----------------------------------------------------------------------------------------- */

static char *demangled(const char *name)
{
    if (name == NULL) {
        return NULL;
    }
    char *plain = strncmp(name, "_Z", 2) == 0 ? __cxa_demangle(name, NULL, NULL, NULL) : NULL;
    return plain != NULL ? plain : take_copy(name);
}

static char *function_of(Dwarf_Die *die)
{
    Dwarf_Attribute attribute;
    const char *name = NULL;
    if (dwarf_attr_integrate(die, DW_AT_linkage_name, &attribute) != NULL ||
        dwarf_attr_integrate(die, DW_AT_MIPS_linkage_name, &attribute) != NULL) {
        name = dwarf_formstring(&attribute);
    }
    return demangled(name != NULL ? name : dwarf_diename(die));
}

/* Files are relative to the folder that the compiler ran in. */
static char *whole_path(const char *folder, const char *file)
{
    if (file == NULL) {
        return NULL;
    }
    return file[0] == '/' || folder == NULL ? take_copy(file) : take_text("%s/%s", folder, file);
}

static const char *folder_of(Dwarf_Die *unit)
{
    Dwarf_Attribute attribute;
    return dwarf_formstring(dwarf_attr(unit, DW_AT_comp_dir, &attribute));
}

/* ---- which unit ---------------------------------------------------------------------------------------------- */

static int by_begin(const void *a, const void *b)
{
    Dwarf_Addr x = ((const struct unit *)a)->begin;
    Dwarf_Addr y = ((const struct unit *)b)->begin;
    return (x > y) - (x < y);
}

static void add_ranges(struct module *module, Dwarf_Die *die)
{
    Dwarf_Addr base;
    Dwarf_Addr begin;
    Dwarf_Addr end;
    ptrdiff_t at = 0;
    while ((at = dwarf_ranges(die, at, &base, &begin, &end)) > 0) {
        module->units = take_more(module->units, (module->n_units + 1) * sizeof *module->units);
        module->units[module->n_units++] = (struct unit){begin, end, *die};
    }
}

/* The compilation unit that an address of dwfl is in, and what debug info's addresses differ by. Units that gcc
 * compiled are in a table of the file; clang writes none, so one is made when it is first needed. */
static Dwarf_Die *unit_at(struct module *module, Dwarf_Addr address, Dwarf_Addr *bias)
{
    Dwarf_Die *die = dwfl_module_addrdie(module->dwfl, address, bias);
    if (die != NULL) {
        return die;
    }
    if (module->units == NULL) {
        module->units = take_memory(sizeof *module->units);
        while ((die = dwfl_module_nextcu(module->dwfl, die, bias)) != NULL) {
            add_ranges(module, die);
        }
        qsort(module->units, module->n_units, sizeof *module->units, by_begin);
    }
    dwfl_module_getdwarf(module->dwfl, bias);
    size_t low = 0;
    size_t high = module->n_units; /* the first that begins behind the address is in [low, high] */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (module->units[middle].begin <= address - *bias) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    struct unit *unit = low == 0 ? NULL : &module->units[low - 1];
    return unit != NULL && address - *bias < unit->end ? &unit->die : NULL;
}

/* ---- frames of a place --------------------------------------------------------------------------------------- */

static struct frame *add_frame(struct frames *frames)
{
    frames->all = take_more(frames->all, (frames->n + 1) * sizeof *frames->all);
    frames->all[frames->n] = (struct frame){.line = 0};
    return &frames->all[frames->n++];
}

static void set_place(struct frame *frame, Dwarf_Die *unit, Dwarf_Addr address)
{
    Dwarf_Line *line = dwarf_getsrc_die(unit, address);
    if (line != NULL) {
        dwarf_lineno(line, &frame->line);
        frame->file = whole_path(folder_of(unit), dwarf_linesrc(line, NULL, NULL));
    }
}

/* Where an inlined function is called: the place in the next frame out. */
static void set_call_place(struct frame *frame, Dwarf_Die *unit, Dwarf_Die *inlined)
{
    Dwarf_Attribute attribute;
    Dwarf_Word number;
    Dwarf_Files *files;
    size_t n;
    if (dwarf_formudata(dwarf_attr(inlined, DW_AT_call_line, &attribute), &number) == 0) {
        frame->line = (int)number;
    }
    if (dwarf_formudata(dwarf_attr(inlined, DW_AT_call_file, &attribute), &number) == 0 &&
        dwarf_getsrcfiles(unit, &files, &n) == 0 && number < n) {
        frame->file = whole_path(folder_of(unit), dwarf_filesrc(files, number, NULL, NULL));
    }
}

/* All functions whose code this is; unit and address as debug info has them. */
static void add_functions(struct frames *frames, Dwarf_Die *unit, Dwarf_Addr address)
{
    Dwarf_Die *found = NULL;
    Dwarf_Die *scopes = NULL;
    /* The first gives the scopes around an inlined function's definition, the second those around its call. */
    int n = dwarf_getscopes(unit, address, &found);
    n = n <= 0 ? 0 : dwarf_getscopes_die(&found[0], &scopes);
    free(found);
    Dwarf_Die *called = NULL; /* the inlined function of the frame before */
    for (int i = 0; i < n; i++) {
        int tag = dwarf_tag(&scopes[i]);
        if (tag != DW_TAG_inlined_subroutine && tag != DW_TAG_subprogram) {
            continue;
        }
        struct frame *frame = add_frame(frames);
        frame->function = function_of(&scopes[i]);
        if (called == NULL) {
            set_place(frame, unit, address);
        } else {
            set_call_place(frame, unit, called);
        }
        called = &scopes[i];
        if (tag == DW_TAG_subprogram) {
            break;
        }
    }
    free(scopes);
}

struct frames symbols_find(struct symbols *symbols, const char *path, const char *build_id, uint64_t offset)
{
    struct frames frames = {.n = 0};
    struct module *module = module_at(symbols, path, build_id);
    Dwarf_Addr address = offset + module->bias;
    Dwarf_Addr bias = 0;
    Dwarf_Die *unit = module->has_lines ? unit_at(module, address, &bias) : NULL;
    if (unit != NULL) {
        add_functions(&frames, unit, address - bias);
    }
    if (frames.n == 0) {
        struct frame *frame = add_frame(&frames);
        if (unit != NULL) {
            set_place(frame, unit, address - bias);
        }
    }
    struct frame *outermost = &frames.all[frames.n - 1];
    if (outermost->function == NULL && module->dwfl != NULL) {
        GElf_Off into;
        GElf_Sym symbol;
        outermost->function = demangled(dwfl_module_addrinfo(module->dwfl, address, &into, &symbol, NULL, NULL, NULL));
    }
    return frames;
}

void frames_free(struct frames *frames)
{
    for (size_t i = 0; i < frames->n; i++) {
        free(frames->all[i].function);
        free(frames->all[i].file);
    }
    free(frames->all);
    *frames = (struct frames){.n = 0};
}
