/* SPDX-License-Identifier: MIT */
/* memory_limit.h - how much memory the cgroup of a process may use. */
#ifndef TOOL_MEMORY_LIMIT_H
#define TOOL_MEMORY_LIMIT_H

#include <stdint.h>
#include <sys/types.h>

struct memory_limit {
    uint64_t limit_bytes; /* 0: none, or it can't be told */
    uint64_t used_bytes;  /* by all of the cgroup that has the limit */
};

/* The least limit on the way from the process's cgroup to the root; of version 1 the process's own. */
void memory_limit_of(pid_t pid, struct memory_limit *limit);

#endif
