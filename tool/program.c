/* SPDX-License-Identifier: MIT */
/* program.c - see program.h. */
#include "program.h"

#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <libelf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define MOST_SCRIPTS 4 /* of scripts whose interpreter is a script, as in the kernel */

/* ---- the file ----------------------------------------------------------------------------------------------- */

/* 0 when path is a file that may be run, otherwise an errno. */
static int may_run(const char *path)
{
    struct stat status;
    if (stat(path, &status) != 0) {
        return errno;
    }
    return S_ISREG(status.st_mode) && access(path, X_OK) == 0 ? 0 : EACCES;
}

/* The file that execvp would take. NULL and errno when there is none. */
static char *find_file(const char *name)
{
    if (strchr(name, '/') != NULL || name[0] == '\0') {
        errno = name[0] == '\0' ? ENOENT : may_run(name);
        return errno == 0 ? take_copy(name) : NULL;
    }
    const char *folders = getenv("PATH");
    folders = folders == NULL ? "/bin:/usr/bin" : folders;
    int refused = ENOENT;
    for (;;) {
        size_t length = strcspn(folders, ":");
        char *path = take_text("%.*s%s%s", (int)length, folders, length == 0 ? "" : "/", name);
        int error = may_run(path);
        if (error == 0) {
            return path;
        }
        free(path);
        refused = error == EACCES ? EACCES : refused;
        if (folders[length] == '\0') {
            break;
        }
        folders += length + 1;
    }
    errno = refused;
    return NULL;
}

static const char *file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

/* The interpreter that a script names in its first line; NULL when the file is no script. */
static char *interpreter_of(const char *path)
{
    char line[512];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return NULL;
    }
    ssize_t n = read(fd, line, sizeof line - 1);
    close(fd);
    if (n < 2 || line[0] != '#' || line[1] != '!') {
        return NULL;
    }
    line[n] = '\0';
    char *begin = line + 2 + strspn(line + 2, " \t");
    begin[strcspn(begin, " \t\n")] = '\0';
    return take_copy(begin);
}

static bool is_privileged(const char *path)
{
    struct stat status;
    if (stat(path, &status) != 0) {
        return false;
    }
    bool other_user = (status.st_mode & S_ISUID) != 0 && status.st_uid != getuid();
    bool other_group = (status.st_mode & S_ISGID) != 0 && (status.st_mode & S_IXGRP) != 0 && status.st_gid != getgid();
    bool capable = getuid() != 0 && getxattr(path, "security.capability", NULL, 0) > 0;
    return other_user || other_group || capable;
}

static bool is_launcher(const char *path)
{
    static const char *const names[] = {"env",  "sh",      "bash",   "dash",   "zsh",     "busybox",
                                        "nice", "nohup",   "setsid", "stdbuf", "taskset", "timeout",
                                        "time", "numactl", "ionice", "chrt",   "xargs",   "sudo"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(file_name(path), names[i]) == 0) {
            return true;
        }
    }
    return false;
}

const char *allocator_named(const char *path)
{
    static const char *const names[] = {"jemalloc",        "tcmalloc", "mimalloc", "snmalloc",
                                        "rpmalloc",        "hoard",    "scudo",    "tbbmalloc",
                                        "hardened_malloc", "ptmalloc", "mesh",     "supermalloc"};
    const char *name = file_name(path);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strncmp(name, "lib", 3) == 0 && strncmp(name + 3, names[i], strlen(names[i])) == 0) {
            return names[i];
        }
    }
    return NULL;
}

/* ---- what is in an ELF file --------------------------------------------------------------------------------- */

static void read_interpreter(Elf *elf, struct program *out)
{
    size_t n;
    if (elf_getphdrnum(elf, &n) != 0) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        GElf_Phdr header;
        if (gelf_getphdr(elf, (int)i, &header) == NULL || header.p_type != PT_INTERP) {
            continue;
        }
        Elf_Data *data = elf_getdata_rawchunk(elf, (int64_t)header.p_offset, header.p_filesz, ELF_T_BYTE);
        if (data != NULL && data->d_size > 0 && ((char *)data->d_buf)[data->d_size - 1] == '\0') {
            out->linker = take_copy(data->d_buf);
        }
    }
}

static void read_needed(Elf *elf, Elf_Scn *section, const GElf_Shdr *header, struct program *out)
{
    Elf_Data *data = elf_getdata(section, NULL);
    GElf_Dyn entry;
    for (int i = 0; data != NULL && gelf_getdyn(data, i, &entry) != NULL; i++) {
        const char *name = entry.d_tag != DT_NEEDED ? NULL : elf_strptr(elf, header->sh_link, entry.d_un.d_val);
        if (name == NULL) {
            continue;
        }
        if (strncmp(name, "liballot.so", 11) == 0) {
            out->has_allot = true;
        }
        if (out->allocator == NULL && allocator_named(name) != NULL) {
            out->allocator = take_copy(name);
        }
    }
}

/* A table of symbols: the dynamic one says what is exported, the other one what is inside. */
static void read_symbols(Elf *elf, Elf_Scn *section, const GElf_Shdr *header, struct program *out)
{
    Elf_Data *data = elf_getdata(section, NULL);
    GElf_Sym symbol;
    for (int i = 0; data != NULL && gelf_getsym(data, i, &symbol) != NULL; i++) {
        const char *name = symbol.st_shndx == SHN_UNDEF ? NULL : elf_strptr(elf, header->sh_link, symbol.st_name);
        if (name == NULL) {
            continue;
        }
        if (strcmp(name, "allot_version") == 0) {
            out->has_allot = true;
        }
        if (header->sh_type == SHT_DYNSYM && strcmp(name, "malloc") == 0) {
            out->has_own_malloc = true;
        }
    }
}

static void read_sections(Elf *elf, struct program *out)
{
    Elf_Scn *section = NULL;
    while ((section = elf_nextscn(elf, section)) != NULL) {
        GElf_Shdr header;
        if (gelf_getshdr(section, &header) == NULL) {
            continue;
        }
        if (header.sh_type == SHT_DYNAMIC) {
            read_needed(elf, section, &header, out);
        } else if (header.sh_type == SHT_DYNSYM || header.sh_type == SHT_SYMTAB) {
            read_symbols(elf, section, &header, out);
        }
    }
}

static bool is_dynamic(Elf *elf)
{
    size_t n;
    GElf_Phdr header;
    for (size_t i = 0; elf_getphdrnum(elf, &n) == 0 && i < n; i++) {
        if (gelf_getphdr(elf, (int)i, &header) != NULL && header.p_type == PT_INTERP) {
            return true;
        }
    }
    return false;
}

/* What the file's header says of the machine. This tool is its own measure. */
static bool is_other_machine(const char *ident, GElf_Half machine)
{
    static GElf_Half own;
    static unsigned char own_class;
    if (own == 0) {
        int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
        Elf *elf = fd < 0 ? NULL : elf_begin(fd, ELF_C_READ, NULL);
        GElf_Ehdr header;
        if (elf != NULL && gelf_getehdr(elf, &header) != NULL) {
            own = header.e_machine;
            own_class = header.e_ident[EI_CLASS];
        }
        elf_end(elf);
        close(fd);
    }
    return machine != own || (unsigned char)ident[EI_CLASS] != own_class;
}

static int read_elf(Elf *elf, struct program *out)
{
    GElf_Ehdr header;
    if (elf == NULL || elf_kind(elf) != ELF_K_ELF || gelf_getehdr(elf, &header) == NULL) {
        return ENOEXEC;
    }
    out->is_other_machine = is_other_machine((const char *)header.e_ident, header.e_machine);
    out->is_static = !is_dynamic(elf);
    read_interpreter(elf, out);
    read_sections(elf, out);
    out->is_other_libc = out->linker != NULL && strstr(out->linker, "/ld-musl") != NULL;
    return 0;
}

static int read_binary(struct program *out)
{
    elf_version(EV_CURRENT);
    int fd = open(out->binary, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return errno == EACCES ? 0 : errno; /* it may be run, not read: nothing is known of it */
    }
    Elf *elf = elf_begin(fd, ELF_C_READ_MMAP, NULL);
    int error = read_elf(elf, out);
    elf_end(elf);
    close(fd);
    return error;
}

int program_find(const char *name, struct program *out)
{
    *out = (struct program){.path = find_file(name)};
    if (out->path == NULL) {
        return errno;
    }
    out->binary = take_copy(out->path);
    out->is_launcher = is_launcher(out->path);
    for (int i = 0; i < MOST_SCRIPTS; i++) {
        char *interpreter = interpreter_of(out->binary);
        if (interpreter == NULL) {
            break;
        }
        free(out->binary);
        out->binary = interpreter;
        out->is_launcher = true;
        int error = may_run(out->binary);
        if (error != 0) {
            return ENOEXEC;
        }
    }
    if (strcmp(out->binary, out->path) != 0) {
        out->script_of = take_copy(out->binary);
    }
    out->is_privileged = is_privileged(out->binary);
    return read_binary(out);
}

void program_free(struct program *program)
{
    free(program->path);
    free(program->script_of);
    free(program->binary);
    free(program->linker);
    free(program->allocator);
    *program = (struct program){.path = NULL};
}

const char *program_refusal(const struct program *program)
{
    if (program->is_other_machine) {
        return "it is built for another kind of machine than this allot; install an allot for that one";
    }
    if (program->has_allot) {
        return NULL; /* whatever else holds, allot is in it */
    }
    if (program->is_static) {
        return "it is linked statically, so nothing can be preloaded; link it with liballot.a, see liballot(7)";
    }
    if (program->is_privileged) {
        return "it is set-uid, set-gid or has capabilities, so the system ignores LD_PRELOAD; link it with liballot, "
               "or run "
               "it as the user it becomes";
    }
    if (program->is_other_libc) {
        return "it runs on musl and this allot on glibc; build allot with musl-gcc for it";
    }
    return NULL;
}
