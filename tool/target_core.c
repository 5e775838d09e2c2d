/* SPDX-License-Identifier: MIT */
/* target_core.c - a core file: its segments, the files that were mapped, the threads' stack pointers.
 *
 * The kernel leaves out what it can find in files. That is read from the files that the core names, if they are still
 * there.
 */
#include "target_core.h"

#include "tool.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/procfs.h>
#include <sys/stat.h>
#include <unistd.h>

struct segment {
    uint64_t begin;
    uint64_t end;        /* of the address space */
    uint64_t held_bytes; /* so much of it is in the file */
    uint64_t offset;
};

static bool read_at(int fd, void *out, size_t bytes, uint64_t offset)
{
    char *at = out;
    while (bytes > 0) {
        ssize_t got = pread(fd, at, bytes, (off_t)offset);
        if (got <= 0) {
            return false;
        }
        at += got;
        offset += (uint64_t)got;
        bytes -= (size_t)got;
    }
    return true;
}

/* ---- reading ------------------------------------------------------------------------------------------------ */

static const struct segment *segment_at(const struct target *target, uint64_t address)
{
    for (size_t i = 0; i < target->n_segments; i++) {
        const struct segment *segment = &target->segments[i];
        if (address >= segment->begin && address < segment->begin + segment->held_bytes) {
            return segment;
        }
    }
    return NULL;
}

/* From the file that was mapped there. */
static size_t read_mapped_file(struct target *target, uint64_t address, void *out, size_t bytes)
{
    const struct mapping *mapping = target_mapping(target, address);
    if (mapping == NULL || mapping->name[0] != '/') {
        return 0;
    }
    int fd = open(mapping->name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    uint64_t left = mapping->end - address;
    size_t step = bytes < left ? bytes : (size_t)left;
    bool done = read_at(fd, out, step, mapping->offset + (address - mapping->begin));
    close(fd);
    return done ? step : 0;
}

bool core_read(struct target *target, uint64_t address, void *out, size_t bytes)
{
    char *at = out;
    while (bytes > 0) {
        const struct segment *segment = segment_at(target, address);
        size_t step;
        if (segment == NULL) {
            step = read_mapped_file(target, address, at, bytes);
        } else {
            uint64_t left = segment->begin + segment->held_bytes - address;
            step = bytes < left ? bytes : (size_t)left;
            if (!read_at(target->core_fd, at, step, segment->offset + (address - segment->begin))) {
                step = 0;
            }
        }
        if (step == 0) {
            return false;
        }
        address += step;
        at += step;
        bytes -= step;
    }
    return true;
}

static bool is_zero(const char *page, size_t bytes)
{
    return page[0] == 0 && memcmp(page, page + 1, bytes - 1) == 0;
}

void core_pages(struct target *target, uint64_t address, size_t n, uint8_t *states)
{
    char *page = take_memory(target->page_bytes);
    for (size_t i = 0; i < n; i++) {
        uint64_t at = address + i * target->page_bytes;
        bool held = segment_at(target, at) != NULL && core_read(target, at, page, target->page_bytes);
        states[i] = held && !is_zero(page, target->page_bytes) ? PAGE_RESIDENT : PAGE_ABSENT;
    }
    free(page);
}

/* ---- notes -------------------------------------------------------------------------------------------------- */

/* count, page size, then (begin, end, offset in pages) of each, then the names. */
static void note_files(struct target *target, const char *note, size_t bytes)
{
    uint64_t head[2];
    if (bytes < sizeof head) {
        return;
    }
    memcpy(head, note, sizeof head);
    if (head[0] > bytes / 24) {
        return;
    }
    const char *names = note + sizeof head + head[0] * 24;
    const char *end = note + bytes;
    for (uint64_t i = 0; i < head[0] && names < end; i++) {
        uint64_t row[3];
        memcpy(row, note + sizeof head + i * 24, sizeof row);
        size_t length = strnlen(names, (size_t)(end - names));
        bool covered = false;
        for (size_t k = 0; k < target->n_mappings; k++) {
            struct mapping *mapping = &target->mappings[k];
            if (mapping->begin >= row[0] && mapping->end <= row[1]) {
                covered = covered || mapping->begin == row[0];
                free(mapping->name);
                mapping->name = take_text("%.*s", (int)length, names);
                mapping->offset = row[2] * head[1] + (mapping->begin - row[0]);
            }
        }
        if (!covered && row[0] < row[1]) { /* what the kernel or gdb left out: it is in the file */
            char *name = take_text("%.*s", (int)length, names);
            struct mapping *mapping = target_add_mapping(target, row[0], row[1], name);
            mapping->offset = row[2] * head[1];
            mapping->readable = true;
            free(name);
        }
        names += length + 1;
    }
}

static void note_thread(struct target *target, const char *note, size_t bytes)
{
    prstatus_t status;
    if (bytes < sizeof status) {
        return;
    }
    memcpy(&status, note, sizeof status);
    struct thread *thread = target_add_thread(target, status.pr_pid);
#if defined(__x86_64__)
    thread->stack = ((const unsigned long long *)&status.pr_reg)[19]; /* rsp */
#elif defined(__aarch64__)
    thread->stack = ((const unsigned long long *)&status.pr_reg)[31];
#else
    (void)thread;
#endif
}

static void note_program(struct target *target, const char *note, size_t bytes)
{
    prpsinfo_t info;
    if (bytes >= sizeof info && target->name == NULL) {
        memcpy(&info, note, sizeof info);
        target->name = take_text("%.*s", (int)sizeof info.pr_fname, info.pr_fname);
    }
}

static void read_notes(struct target *target, char *notes, size_t bytes)
{
    for (size_t at = 0; at + sizeof(Elf64_Nhdr) <= bytes;) {
        Elf64_Nhdr note;
        memcpy(&note, notes + at, sizeof note);
        size_t description = at + sizeof note + ((size_t)note.n_namesz + 3) / 4 * 4;
        if (description > bytes || note.n_descsz > bytes - description) {
            return;
        }
        switch (note.n_type) {
        case NT_FILE:
            note_files(target, notes + description, note.n_descsz);
            break;
        case NT_PRSTATUS:
            note_thread(target, notes + description, note.n_descsz);
            break;
        case NT_PRPSINFO:
            note_program(target, notes + description, note.n_descsz);
            break;
        default:
            break;
        }
        at = description + ((size_t)note.n_descsz + 3) / 4 * 4;
    }
}

/* ---- opening ------------------------------------------------------------------------------------------------ */

#if defined(__aarch64__)
#define OWN_MACHINE EM_AARCH64
#else
#define OWN_MACHINE EM_X86_64
#endif
#define NOTES_MOST (UINT64_C(256) << 20)

static void add_load(struct target *target, const Elf64_Phdr *header)
{
    struct mapping *mapping = target_add_mapping(target, header->p_vaddr, header->p_vaddr + header->p_memsz, "");
    mapping->readable = (header->p_flags & PF_R) != 0;
    mapping->writable = (header->p_flags & PF_W) != 0;
    mapping->executable = (header->p_flags & PF_X) != 0;
    target->segments = take_more(target->segments, (target->n_segments + 1) * sizeof *target->segments);
    target->segments[target->n_segments++] = (struct segment){
        .begin = header->p_vaddr,
        .end = header->p_vaddr + header->p_memsz,
        .held_bytes = header->p_filesz,
        .offset = header->p_offset,
    };
}

static bool is_whole(const struct target *target, const Elf64_Phdr *header)
{
    if (header->p_offset <= target->core_bytes && header->p_filesz <= target->core_bytes - header->p_offset) {
        return true;
    }
    complain("%s is truncated: it ends at %llu bytes, and memory that it should hold lies behind; see ulimit -c",
             target->path, (unsigned long long)target->core_bytes);
    return false;
}

static bool read_headers(struct target *target, const Elf64_Ehdr *head)
{
    Elf64_Phdr *headers = take_memory((size_t)head->e_phnum * sizeof *headers);
    bool good = read_at(target->core_fd, headers, (size_t)head->e_phnum * sizeof *headers, head->e_phoff);
    if (!good) {
        complain("%s is truncated: its table of segments is cut off; see ulimit -c", target->path);
    }
    for (size_t i = 0; good && i < head->e_phnum; i++) {
        good = is_whole(target, &headers[i]);
        if (good && headers[i].p_type == PT_LOAD) {
            add_load(target, &headers[i]);
        }
    }
    for (size_t i = 0; good && i < head->e_phnum; i++) {
        const Elf64_Phdr *header = &headers[i];
        if (header->p_type != PT_NOTE || header->p_filesz > NOTES_MOST) {
            continue;
        }
        char *notes = take_memory(header->p_filesz);
        if (read_at(target->core_fd, notes, header->p_filesz, header->p_offset)) {
            read_notes(target, notes, header->p_filesz);
        }
        free(notes);
    }
    free(headers);
    return good;
}

static int by_address(const void *a, const void *b)
{
    uint64_t left = ((const struct mapping *)a)->begin;
    uint64_t right = ((const struct mapping *)b)->begin;
    return left < right ? -1 : left > right;
}

/* A core doesn't tell what was resident: pages of zeros were not, as a rule. */
static void count_resident(struct target *target)
{
    uint8_t states[1024];
    for (size_t i = 0; i < target->n_mappings; i++) {
        struct mapping *mapping = &target->mappings[i];
        for (uint64_t at = mapping->begin; at < mapping->end && segment_at(target, at) != NULL;) {
            uint64_t left = (mapping->end - at) / target->page_bytes;
            size_t n = left < sizeof states ? (size_t)left : sizeof states;
            core_pages(target, at, n, states);
            for (size_t k = 0; k < n; k++) {
                mapping->rss_bytes += states[k] == PAGE_RESIDENT ? target->page_bytes : 0;
            }
            if (n == 0) {
                break;
            }
            at += n * target->page_bytes;
        }
        target->rss_bytes += mapping->rss_bytes;
    }
}

bool core_open(struct target *target)
{
    struct stat status;
    Elf64_Ehdr head;
    target->core_fd = open(target->path, O_RDONLY | O_CLOEXEC);
    if (target->core_fd < 0 || fstat(target->core_fd, &status) != 0) {
        complain("%s: %s; right is the number of a process, or the path of a core file", target->path, strerror(errno));
        return false;
    }
    target->core_bytes = (uint64_t)status.st_size;
    if (!S_ISREG(status.st_mode) || !read_at(target->core_fd, &head, sizeof head, 0) ||
        memcmp(head.e_ident, ELFMAG, SELFMAG) != 0) {
        complain("%s is no core file", target->path);
        return false;
    }
    if (head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_machine != OWN_MACHINE || head.e_type != ET_CORE ||
        head.e_phentsize != sizeof(Elf64_Phdr)) {
        complain("%s is no core file of a 64-bit process of this kind of machine", target->path);
        return false;
    }
    if (!read_headers(target, &head)) {
        return false;
    }
    if (target->name == NULL) {
        target->name = take_copy("");
    }
    if (target->n_mappings > 0) {
        qsort(target->mappings, target->n_mappings, sizeof *target->mappings, by_address);
    }
    count_resident(target);
    return true;
}
