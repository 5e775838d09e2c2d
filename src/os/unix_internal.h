/* SPDX-License-Identifier: MIT */
/* unix_internal.h - what unix.c and the platform's own file, linux.c or posix.c, have of each other. */
#ifndef OS_UNIX_INTERNAL_H
#define OS_UNIX_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>

#ifndef MAP_ANONYMOUS
#define MAP_ANONYMOUS MAP_ANON
#endif
#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif

int unix_unmap(void *begin, size_t bytes);

/* fd, made bytes long; a negative errno when that fails, or when opening it has failed: errno says why. */
int unix_file_sized(int fd, size_t bytes);

/* The value of the entry "name=value" in a list that a NULL ends, copied and cut at capacity; false when there is none.
 */
bool unix_find_value(char *const *entries, const char *name, char *buffer, size_t capacity);

/* See os_environment_forget_file; entries as above. Changes them in place. */
void unix_forget_file(char **entries, const char *name, const char *file);

/* RLIMIT_DATA and RLIMIT_AS, the lesser. */
size_t unix_memory_limit(void);

/* In linux.c and posix.c: pages that are to be zeros in the child of a fork. 0 or a negative errno. */
int unix_wipe_at_fork(void *begin, size_t bytes);

#endif
