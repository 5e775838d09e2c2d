/* SPDX-License-Identifier: MIT */
/* where.c - an address as symbol+offset, static functions included: from the symbol table of the mapped file. The stage
 * is a fork of the tracer, so the tracer's own mappings tell, also when the stage is gone. */
#include "step.h"

#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct place {
    uintptr_t begin;      /* of the mapping that holds the address */
    unsigned long offset; /* of that in its file */
    char path[256];
};

static bool find_mapping(uintptr_t address, struct place *place)
{
    char line[512];
    FILE *file = fopen("/proc/self/maps", "re");
    bool found = false;
    while (file != NULL && !found && fgets(line, sizeof line, file) != NULL) {
        unsigned long begin;
        unsigned long end;
        place->path[0] = '\0';
        int n = sscanf(line, "%lx-%lx %*s %lx %*s %*s %255[^\n]", &begin, &end, &place->offset, place->path);
        place->begin = begin;
        found = n >= 3 && address >= begin && address < end;
    }
    if (file != NULL) {
        fclose(file);
    }
    return found;
}

/* The file's own address of a byte at offset: what the symbols' values are. */
static uintptr_t file_address(const Elf64_Ehdr *elf, unsigned long offset)
{
    const Elf64_Phdr *header = (const Elf64_Phdr *)((const char *)elf + elf->e_phoff);
    for (unsigned i = 0; i < elf->e_phnum; i++) {
        if (header[i].p_type == PT_LOAD && offset >= header[i].p_offset &&
            offset < header[i].p_offset + header[i].p_filesz) {
            return offset - header[i].p_offset + header[i].p_vaddr;
        }
    }
    return 0;
}

static const char *find_symbol(const Elf64_Ehdr *elf, uintptr_t address, uintptr_t *begin)
{
    const Elf64_Shdr *section = (const Elf64_Shdr *)((const char *)elf + elf->e_shoff);
    const char *name = NULL;
    for (unsigned i = 0; i < elf->e_shnum; i++) {
        if (section[i].sh_type != SHT_SYMTAB && section[i].sh_type != SHT_DYNSYM) {
            continue;
        }
        const Elf64_Sym *symbol = (const Elf64_Sym *)((const char *)elf + section[i].sh_offset);
        const char *strings = (const char *)elf + section[section[i].sh_link].sh_offset;
        for (size_t k = 0; k < section[i].sh_size / sizeof *symbol; k++) {
            if (ELF64_ST_TYPE(symbol[k].st_info) == STT_FUNC && symbol[k].st_shndx != SHN_UNDEF &&
                address >= symbol[k].st_value && address < symbol[k].st_value + symbol[k].st_size) {
                name = strings + symbol[k].st_name;
                *begin = symbol[k].st_value;
            }
        }
    }
    return name;
}

void where(uintptr_t address, char *text, size_t capacity)
{
    struct place place;
    snprintf(text, capacity, "%#lx", (unsigned long)address);
    if (!find_mapping(address, &place)) {
        return;
    }
    unsigned long offset = address - place.begin + place.offset;
    const char *slash = strrchr(place.path, '/');
    snprintf(text, capacity, "%s+%#lx", slash != NULL ? slash + 1 : place.path, offset);
    int fd = open(place.path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) != 0) {
        return;
    }
    const Elf64_Ehdr *elf = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (elf == MAP_FAILED) {
        return;
    }
    uintptr_t begin = 0;
    uintptr_t inside = file_address(elf, offset);
    const char *name = find_symbol(elf, inside, &begin);
    if (name != NULL) {
        snprintf(text, capacity, "%s+%#lx (%s, %#lx)", name, (unsigned long)(inside - begin),
                 slash != NULL ? slash + 1 : place.path, (unsigned long)inside);
    }
    munmap((void *)(uintptr_t)elf, (size_t)status.st_size);
}
