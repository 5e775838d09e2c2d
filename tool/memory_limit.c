/* SPDX-License-Identifier: MIT */
/* memory_limit.c - see memory_limit.h. */
#include "memory_limit.h"

#include "target.h"
#include "tool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* 0 for "max", for no such file, and for the number by which version 1 says that there is no limit. */
static uint64_t number_in(const char *root, const char *group, const char *file)
{
    char *path = take_text("%s%s/%s", root, group, file);
    FILE *in = fopen(path, "re");
    unsigned long long n = 0;
    if (in != NULL) {
        if (fscanf(in, "%llu", &n) != 1 || n > UINT64_C(1) << 60) {
            n = 0;
        }
        fclose(in);
    }
    free(path);
    return n;
}

static void least_of(struct memory_limit *limit, const char *root, char *group, const char *most, const char *used)
{
    for (;;) {
        uint64_t bytes = number_in(root, group, most);
        if (bytes != 0 && (limit->limit_bytes == 0 || bytes < limit->limit_bytes)) {
            limit->limit_bytes = bytes;
            limit->used_bytes = number_in(root, group, used);
        }
        char *slash = strrchr(group, '/');
        if (slash == NULL) {
            return;
        }
        *slash = '\0';
    }
}

void memory_limit_of(pid_t pid, struct memory_limit *limit)
{
    *limit = (struct memory_limit){0};
    char *groups = pid == 0 ? NULL : process_file(pid, "cgroup", NULL);
    char *rest = groups;
    for (char *line; groups != NULL && (line = strsep(&rest, "\n")) != NULL;) {
        char *group = strchr(line, '/');
        if (group == NULL) {
            continue;
        }
        if (strncmp(line, "0::", 3) == 0) {
            least_of(limit, "/sys/fs/cgroup", group, "memory.max", "memory.current");
        } else if (strstr(line, ":memory:") != NULL) {
            least_of(limit, "/sys/fs/cgroup/memory", group, "memory.limit_in_bytes", "memory.usage_in_bytes");
        }
    }
    free(groups);
}
