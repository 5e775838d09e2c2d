/* SPDX-License-Identifier: MIT */
/* doctor_system.c - what of the machine, of limits and of the environment matters to allot. */
#include "doctor.h"
#include "preload.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define LEAST_ADDRESS_SPACE (64ull << 20) /* that a program starts under */
#define NO_LIMIT UINT64_MAX

/* ---- limits ------------------------------------------------------------------------------------------------- */

/* The soft limit that begins with name in /proc/PID/limits; NO_LIMIT also when nothing is known. */
static uint64_t limit_named(const char *limits, const char *name)
{
    const char *line = strstr(limits, name);
    if (line == NULL) {
        return NO_LIMIT;
    }
    const char *number = line + strlen(name);
    number += strspn(number, " ");
    return *number < '0' || *number > '9' ? NO_LIMIT : strtoull(number, NULL, 10);
}

static void look_at_limits(struct visit *visit)
{
    static const char *const names[] = {"Max address space", "Max data size"};
    static const char *const shown[] = {"address space (ulimit -v)", "data (ulimit -d)"};
    char *limits = read_process_text(visit, "limits");
    bool any = false;
    for (size_t i = 0; limits != NULL && i < 2; i++) {
        uint64_t bytes = limit_named(limits, names[i]);
        char text[BYTES_TEXT];
        if (bytes == NO_LIMIT) {
            continue;
        }
        any = true;
        if (bytes < LEAST_ADDRESS_SPACE) {
            found(visit, STATE_WRONG, "limits", "raise it to 64 MiB at least", "the limit of %s is %s", shown[i],
                  bytes_text(text, bytes));
        } else {
            found(visit, STATE_NOTE, "limits", NULL, "the limit of %s is %s; allot reserves less ahead below one",
                  shown[i], bytes_text(text, bytes));
        }
    }
    if (!any) {
        found(visit, STATE_OK, "limits", NULL, "none on address space or data");
    }
    free(limits);
}

/* ---- the kernel's settings ---------------------------------------------------------------------------------- */

static void look_at_overcommit(struct visit *visit)
{
    char *text = read_text(visit, "/proc/sys/vm/overcommit_memory");
    if (text != NULL && text[0] == '2') {
        found(visit, STATE_NOTE, "overcommit", NULL,
              "vm.overcommit_memory is 2: what is committed counts, used or not; allot commits in steps");
    } else if (text != NULL) {
        found(visit, STATE_OK, "overcommit", NULL, "vm.overcommit_memory is %c", text[0]);
    }
    free(text);
}

static size_t count_lines(const char *text)
{
    size_t n = 0;
    for (; *text != '\0'; text++) {
        n += *text == '\n';
    }
    return n;
}

static void look_at_mappings(struct visit *visit)
{
    char *text = read_text(visit, "/proc/sys/vm/max_map_count");
    char *maps = visit->pid == 0 ? NULL : read_process_text(visit, "maps");
    unsigned long most = text == NULL ? 0 : strtoul(text, NULL, 10);
    size_t used = maps == NULL ? 0 : count_lines(maps);
    static const char raise[] = "raise it: sysctl vm.max_map_count=262144";
    if (most != 0 && used > most / 10 * 8) {
        found(visit, STATE_WRONG, "mappings", raise, "the process has %zu of the %lu that vm.max_map_count allows",
              used, most);
    } else if (most != 0 && most < 10000) {
        found(visit, STATE_NOTE, "mappings", raise, "vm.max_map_count is %lu; guards and large blocks share them",
              most);
    } else if (most != 0 && used != 0) {
        found(visit, STATE_OK, "mappings", NULL, "%zu of %lu", used, most);
    } else if (most != 0) {
        found(visit, STATE_OK, "mappings", NULL, "vm.max_map_count is %lu", most);
    }
    free(text);
    free(maps);
}

static void look_at_huge_pages(struct visit *visit)
{
    char *text = read_text(visit, "/sys/kernel/mm/transparent_hugepage/enabled");
    if (text == NULL) {
        return;
    }
    const char *chosen = strchr(text, '[');
    if (chosen != NULL && strncmp(chosen, "[always]", 8) == 0) {
        found(visit, STATE_NOTE, "huge pages", "where RSS matters more than speed: option huge_pages=never",
              "the system gives them to everybody (always): faster, and RSS may be larger");
    } else {
        found(visit, STATE_OK, "huge pages", NULL, "%.*s", chosen == NULL ? 1 : (int)strcspn(chosen + 1, "]"),
              chosen == NULL ? "?" : chosen + 1);
    }
    free(text);
}

/* Whether explain, map and top can read a process: this one, where there is one, otherwise any of the user's. */
static void look_at_reading(struct visit *visit)
{
    static const char todo[] = "look as root, or start it with allot run --look: then it answers by itself";
    if (visit->pid != 0) {
        char *path = take_text("%s/proc/%d/mem", visit->root, visit->pid);
        int file = open(path, O_RDONLY | O_CLOEXEC);
        bool readable = file >= 0;
        found(visit, readable ? STATE_OK : STATE_NOTE, "looking inside", readable ? NULL : todo,
              readable ? "the process's memory can be read" : "the system doesn't let you read the process's memory");
        if (readable) {
            close(file);
        }
        free(path);
        return;
    }
    char *text = read_text(visit, "/proc/sys/kernel/yama/ptrace_scope");
    int scope = text == NULL ? 0 : atoi(text);
    free(text);
    if (scope == 0) {
        found(visit, STATE_OK, "looking inside", NULL, "a user's processes may read each other's memory");
    } else {
        found(visit, STATE_NOTE, "looking inside", todo,
              "kernel.yama.ptrace_scope is %d: a process's memory can't be read by its own user", scope);
    }
}

/* ---- the cgroup --------------------------------------------------------------------------------------------- */

/* The number in a file of the group, or of the root that a container sees in its place. */
static uint64_t read_group(const struct visit *visit, const char *mount, const char *group, const char *file)
{
    char *text = read_text(visit, "/sys/fs/cgroup%s%s/%s", mount, group, file);
    if (text == NULL) {
        text = read_text(visit, "/sys/fs/cgroup%s/%s", mount, file);
    }
    uint64_t bytes = text == NULL || *text < '0' || *text > '9' ? NO_LIMIT : strtoull(text, NULL, 10);
    free(text);
    return bytes;
}

/* What follows key in /proc/PID/cgroup, cut at its line's end. */
static char *group_named(const char *groups, const char *key)
{
    const char *begin = strstr(groups, key);
    if (begin == NULL) {
        return NULL;
    }
    begin += strlen(key);
    size_t length = strcspn(begin, "\n");
    return take_text("%.*s", (int)(length == 1 ? 0 : length), begin); /* "/" is the mount itself */
}

/* The least limit on the way up (version 2), or version 1's. */
static uint64_t limit_of_group(const struct visit *visit, const char *groups, uint64_t *used)
{
    char *group = group_named(groups, ":memory:");
    if (group != NULL) {
        uint64_t limit = read_group(visit, "/memory", group, "memory.limit_in_bytes");
        *used = read_group(visit, "/memory", group, "memory.usage_in_bytes");
        free(group);
        return limit;
    }
    group = group_named(groups, "0::");
    uint64_t least = NO_LIMIT;
    while (group != NULL) {
        uint64_t limit = read_group(visit, "", group, "memory.max");
        if (limit < least) {
            least = limit;
            *used = read_group(visit, "", group, "memory.current");
        }
        char *slash = strrchr(group, '/');
        if (slash == NULL) {
            break;
        }
        *slash = '\0';
    }
    free(group);
    return least;
}

static void look_at_cgroup(struct visit *visit)
{
    char *groups = read_process_text(visit, "cgroup");
    if (groups == NULL) {
        return;
    }
    uint64_t used = NO_LIMIT;
    uint64_t limit = limit_of_group(visit, groups, &used);
    free(groups);
    char limit_text[BYTES_TEXT];
    char used_text[BYTES_TEXT];
    if (limit >= UINT64_MAX / 4) { /* version 1 writes a very large number for none */
        found(visit, STATE_OK, "cgroup", NULL, "no limit of memory");
        return;
    }
    bytes_text(limit_text, limit);
    static const char todo[] =
        "with option hard_limit=90% malloc fails before the kernel kills; soft_limit=80% gives back earlier";
    if (used == NO_LIMIT) {
        found(visit, STATE_NOTE, "cgroup", todo, "the limit of memory is %s", limit_text);
    } else {
        found(visit, used > limit / 10 * 9 ? STATE_WRONG : STATE_NOTE, "cgroup", todo, "%s of %s are used",
              bytes_text(used_text, used), limit_text);
    }
}

/* ---- the environment ---------------------------------------------------------------------------------------- */

static void look_at_options(struct visit *visit)
{
    const char *options = getenv("ALLOT_OPTIONS");
    if (visit->pid != 0 || visit->library == NULL || options == NULL || options[0] == '\0') {
        return;
    }
    char *objections = preload_objections(visit->library, options);
    if (objections == NULL) {
        found(visit, STATE_OK, "ALLOT_OPTIONS", NULL, "%s", options);
    } else {
        found(visit, STATE_WRONG, "ALLOT_OPTIONS", "allot options shows what may be set", "%.*s",
              (int)strcspn(objections, "\n"), objections);
    }
    free(objections);
}

static void look_at_preload(struct visit *visit)
{
    const char *rest = getenv("LD_PRELOAD");
    if (visit->pid != 0 || rest == NULL) {
        return;
    }
    while (*(rest += strspn(rest, " :")) != '\0') {
        size_t length = strcspn(rest, " :");
        char *file = take_text("%.*s", (int)length, rest);
        rest += length;
        if (strchr(file, '/') != NULL && access(file, R_OK) != 0) {
            found(visit, STATE_WRONG, "LD_PRELOAD", "take it out, or put the file there", "%s can't be read", file);
        }
        free(file);
    }
}

void look_at_system(struct visit *visit)
{
    look_at_limits(visit);
    look_at_cgroup(visit);
    look_at_overcommit(visit);
    look_at_mappings(visit);
    look_at_huge_pages(visit);
    look_at_reading(visit);
    look_at_options(visit);
    look_at_preload(visit);
}
