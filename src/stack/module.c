/* SPDX-License-Identifier: MIT */
/* module.c - which module an address lies in, and what its headers say.
 *
 * For unwinding, the loader is asked where that takes no lock (os_code_at). Elsewhere there is a table, made of what
 * the system says is mapped and of the ELF headers found there; an address that it doesn't know has it read again, but
 * not more often than every REFRESH_MS. A module that was unloaded stays in it, so that table is for systems whose
 * loader never unloads (musl), and for static programs.
 *
 * For reports, the system is asked anew each time.
 */
#include "base/atomic.h"
#include "os/os.h"
#include "stack/stack_internal.h"

#include <errno.h>
#include <string.h>

#define MODULES_MOST 512u
#define REFRESH_MS 50

/* The ELF headers of this machine, as far as they are needed. */
struct elf_header {
    unsigned char ident[16];
    uint16_t type;
    uint16_t machine;
    uint32_t version;
    uintptr_t entry;
    uintptr_t segments;
    uintptr_t sections;
    uint32_t flags;
    uint16_t header_bytes;
    uint16_t segment_bytes;
    uint16_t n_segments;
};

struct elf_segment {
    uint32_t type;
    uint32_t flags;
    uint64_t offset;
    uint64_t address;
    uint64_t physical;
    uint64_t file_bytes;
    uint64_t bytes;
    uint64_t align;
};

enum { SEGMENT_LOAD = 1, SEGMENT_NOTE = 4, SEGMENT_EH_FRAME = 0x6474e550, NOTE_BUILD_ID = 3 };

struct note_header {
    uint32_t name_bytes;
    uint32_t value_bytes;
    uint32_t type;
};

/* ---- headers ------------------------------------------------------------------------------------------------ */

struct image {
    uintptr_t bias; /* what was added to the file's own addresses */
    uintptr_t end;
    const void *unwind;
    const struct elf_segment *notes;
};

static bool is_elf(const void *begin)
{
    static const unsigned char magic[] = {0x7f, 'E', 'L', 'F', sizeof(void *) == 8 ? 2 : 1};
    const struct elf_header *header = begin;
    return memcmp(header->ident, magic, sizeof magic) == 0 && header->segment_bytes == sizeof(struct elf_segment) &&
           sizeof(void *) == 8;
}

/* begin: where the module's first page is mapped, headers included. */
static bool image_read(uintptr_t begin, struct image *image)
{
    const struct elf_header *header = (const void *)begin;
    const struct elf_segment *segments = (const void *)(begin + header->segments);
    *image = (struct image){.bias = begin};
    for (size_t i = 0; i < header->n_segments; i++) {
        if (segments[i].type == SEGMENT_LOAD) {
            image->bias = begin - round_down(segments[i].address, os_page_bytes());
            break;
        }
    }
    for (size_t i = 0; i < header->n_segments; i++) {
        const struct elf_segment *segment = &segments[i];
        uintptr_t at = image->bias + segment->address;
        if (segment->type == SEGMENT_LOAD) {
            image->end = at + segment->bytes;
        } else if (segment->type == SEGMENT_EH_FRAME) {
            image->unwind = (const void *)at;
        } else if (segment->type == SEGMENT_NOTE && image->notes == NULL) {
            image->notes = segment;
        }
    }
    return image->end > begin;
}

/* Looks through all notes: there may be several segments of them, in a row. */
static void read_build_id(const struct elf_header *header, const struct image *image, struct stack_module *module)
{
    const struct elf_segment *segments = (const void *)((uintptr_t)header + header->segments);
    for (size_t i = 0; i < header->n_segments; i++) {
        if (segments[i].type != SEGMENT_NOTE) {
            continue;
        }
        uintptr_t at = image->bias + segments[i].address;
        uintptr_t end = at + segments[i].bytes;
        while (at + sizeof(struct note_header) <= end) {
            const struct note_header *note = (const void *)at;
            uintptr_t value = at + sizeof *note + round_up(note->name_bytes, 4);
            bool is_gnu = note->name_bytes == 4 && memcmp(note + 1, "GNU", 4) == 0;
            if (is_gnu && note->type == NOTE_BUILD_ID && note->value_bytes <= STACK_BUILD_ID_MOST) {
                memcpy(module->build_id, (const void *)value, note->value_bytes);
                module->build_id_bytes = note->value_bytes;
                return;
            }
            at = value + round_up(note->value_bytes, 4);
        }
    }
}

/* ---- modules as they are mapped ----------------------------------------------------------------------------- */

/* Visits the first mapping of each module. */
struct scan {
    void (*visit)(struct scan *scan, uintptr_t begin, const char *path);
    uintptr_t address; /* the one that is looked for */
    char path[256];    /* of the group that is being read */
    uintptr_t begin;   /* where its headers are; 0: it has none */
    bool executable;
    struct stack_module *module;
    bool found;
};

static void scan_group_end(struct scan *scan)
{
    if (scan->begin != 0 && scan->executable) {
        scan->visit(scan, scan->begin, scan->path);
    }
    scan->begin = 0;
}

static bool scan_mapping(const struct os_mapping *mapping, void *context)
{
    struct scan *scan = context;
    if (mapping->name[0] == '\0') {
        return true; /* a module's zeroed data, or nobody's */
    }
    if (strncmp(scan->path, mapping->name, sizeof scan->path - 1) != 0) {
        scan_group_end(scan);
        if (scan->found) {
            return false;
        }
        size_t length = size_min(strlen(mapping->name), sizeof scan->path - 1);
        memcpy(scan->path, mapping->name, length);
        scan->path[length] = '\0';
        scan->executable = false;
        bool is_module = mapping->name[0] == '/' || strcmp(mapping->name, "[vdso]") == 0;
        /* Its first page is looked at: a file that was cut off since has none. */
        scan->begin = is_module && mapping->readable && os_readable((const void *)mapping->begin) &&
                              is_elf((const void *)mapping->begin)
                          ? mapping->begin
                          : 0;
    }
    scan->executable |= mapping->executable;
    return true;
}

static int scan_modules(struct scan *scan)
{
    int result = os_mappings(scan_mapping, scan);
    if (result == 0) {
        scan_group_end(scan);
    }
    return result;
}

static void match_module(struct scan *scan, uintptr_t begin, const char *path)
{
    struct image image;
    if (scan->found || scan->address < begin || !image_read(begin, &image) || scan->address >= image.end) {
        return;
    }
    struct stack_module *module = scan->module;
    memcpy(module->path, path, strlen(path) + 1);
    module->offset = scan->address - image.bias;
    read_build_id((const void *)begin, &image, module);
    scan->found = true;
}

bool stack_module_at(uintptr_t address, struct stack_module *module)
{
    *module = (struct stack_module){.build_id_bytes = 0};
    struct scan scan = {.visit = match_module, .address = address, .module = module};
    return scan_modules(&scan) == 0 && scan.found;
}

/* ---- the table ---------------------------------------------------------------------------------------------- */

static struct {
    struct {
        uintptr_t begin;
        uintptr_t end;
        const void *unwind;
    } of[MODULES_MOST];
    _Atomic size_t n;  /* O32 */
    _Atomic bool busy; /* somebody reads it anew; tried, not waited for */
    _Atomic uint64_t refreshed_ms;
} modules;

void *module_statics(size_t *bytes)
{
    *bytes = sizeof modules;
    return &modules;
}

static const void *table_find(uintptr_t pc)
{
    size_t n = load_acquire(&modules.n); /* O32: the rows below it are written */
    for (size_t i = n; i-- > 0;) {       /* newest first: an address may be another module's by now */
        if (pc >= modules.of[i].begin && pc < modules.of[i].end) {
            return modules.of[i].unwind;
        }
    }
    return NULL;
}

static void table_add(struct scan *scan, uintptr_t begin, const char *path)
{
    (void)scan;
    (void)path;
    struct image image;
    size_t n = load_relaxed(&modules.n); /* the holder of busy alone writes it */
    if (n == MODULES_MOST || !image_read(begin, &image) || image.unwind == NULL || table_find(begin) == image.unwind) {
        return;
    }
    modules.of[n].begin = begin;
    modules.of[n].end = image.end;
    modules.of[n].unwind = image.unwind;
    store_release(&modules.n, n + 1); /* O32 */
}

static void table_refresh(void)
{
    uint64_t now = os_now_ms();
    uint64_t before = load_relaxed(&modules.refreshed_ms); /* relaxed: a hint when to look */
    if ((before != 0 && now - before < REFRESH_MS) || xchg_acquire(&modules.busy, true)) { /* O33 */
        return;
    }
    struct scan scan = {.visit = table_add};
    scan_modules(&scan);
    store_relaxed(&modules.refreshed_ms, now);
    store_release(&modules.busy, false); /* O33 */
}

const void *module_unwind(uintptr_t pc)
{
    struct os_code code;
    int result = os_code_at(pc, &code);
    if (result != -ENOSYS) {
        return result == 0 ? code.unwind : NULL;
    }
    const void *unwind = table_find(pc);
    if (unwind == NULL) {
        table_refresh();
        unwind = table_find(pc);
    }
    return unwind;
}
