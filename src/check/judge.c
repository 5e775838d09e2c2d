/* SPDX-License-Identifier: MIT */
/* judge.c - which faults are reported: option only wants a module of a certain name on the stack of who did it, or of
 * who took the block. What is fatal is always reported.
 */
#include "check/check_internal.h"
#include "config/config.h"
#include "stack/stack.h"

#include <string.h>

/* * stands for anything, also for nothing. */
static bool matches(const char *pattern, const char *s)
{
    const char *star = NULL;
    const char *again = NULL;
    while (*s != '\0') {
        if (*pattern == '*') {
            star = ++pattern;
            again = s;
        } else if (*pattern == *s) {
            pattern++;
            s++;
        } else if (star != NULL) {
            pattern = star;
            s = ++again;
        } else {
            return false;
        }
    }
    while (*pattern == '*') {
        pattern++;
    }
    return *pattern == '\0';
}

static bool is_through(const uintptr_t *pcs, size_t n, const char *pattern)
{
    struct stack_module module;
    for (size_t i = 0; i < n; i++) {
        if (!stack_module_at(pcs[i] - 1, &module)) {
            continue;
        }
        const char *slash = strrchr(module.path, '/');
        if (matches(pattern, module.path) || (slash != NULL && matches(pattern, slash + 1))) {
            return true;
        }
    }
    return false;
}

static bool is_through_own_code(const struct fault *fault, const char *pattern)
{
    uintptr_t pcs[STACK_FRAMES_MOST];
    size_t n = 0;
    struct noted noted = fault->block == NULL ? (struct noted){.note = NULL} : noted_find(fault->block);
    if (strcmp(fault->name, "leak") != 0) {
        n = fault->registers != NULL ? stack_capture_from(fault->registers, pcs, STACK_FRAMES_MOST)
                                     : stack_capture(pcs, STACK_FRAMES_MOST);
        n = check_leave_own(pcs, n);
    }
    if (is_through(pcs, n, pattern)) {
        return true;
    }
    n = noted.note == NULL ? 0 : stack_recall(noted.note->take_stack, pcs);
    return is_through(pcs, n, pattern);
}

bool judge_wants(const struct fault *fault)
{
    char pattern[256];
    option_text(OPT_only, pattern, sizeof pattern);
    return pattern[0] == '\0' || is_through_own_code(fault, pattern);
}
