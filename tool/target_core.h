/* SPDX-License-Identifier: MIT */
/* target_core.h - core files behind target.h. Called by target.c alone. */
#ifndef TOOL_TARGET_CORE_H
#define TOOL_TARGET_CORE_H

#include "target.h"

/* target->path is a core file of a 64-bit process of this machine's kind; otherwise a line says what it is. */
bool core_open(struct target *target);
bool core_read(struct target *target, uint64_t address, void *out, size_t bytes);
/* What the file holds as other than zeros counts as resident. */
void core_pages(struct target *target, uint64_t address, size_t n, uint8_t *states);

/* In target.c. */
struct mapping *target_add_mapping(struct target *target, uint64_t begin, uint64_t end, const char *name);
struct thread *target_add_thread(struct target *target, pid_t tid);

#endif
