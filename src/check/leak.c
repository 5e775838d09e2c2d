/* SPDX-License-Identifier: MIT */
/* leak.c - blocks that nothing points to when the process ends, told as other faults are: one for each place that they
 * were taken at, the first that was found. The search is room gc's; so are suppressions.
 */
#include "base/format.h"
#include "check/check_internal.h"
#include "gc/gc.h"
#include "os/os.h"
#include "stack/stack.h"

#define PLACES_MOST 64

struct lost {
    const void *block;
    uint32_t stack;
};

struct losses {
    struct lost of[PLACES_MOST];
    size_t n;
};

static bool is_known(const struct losses *losses, uint32_t stack)
{
    for (size_t i = 0; i < losses->n; i++) {
        if (stack != 0 && losses->of[i].stack == stack) {
            return true;
        }
    }
    return false;
}

static void visit(const struct gc_leak *leak, void *context)
{
    struct losses *losses = context;
    struct noted noted = noted_find(leak->begin);
    bool is_live = noted.note != NULL && noted.block == leak->begin && load_relaxed(&noted.note->state) == NOTE_LIVE;
    if (leak->kind == GC_LEAK_DEFINITE && is_live && losses->n < PLACES_MOST &&
        !is_known(losses, noted.note->take_stack)) {
        losses->of[losses->n++] = (struct lost){.block = leak->begin, .stack = noted.note->take_stack};
    }
}

static bool is_suppressed(uint32_t stack)
{
    uintptr_t pcs[STACK_FRAMES_MOST];
    struct gc_frame frames[GC_FRAMES_MOST];
    struct os_symbol names[GC_FRAMES_MOST];
    struct stack_module modules[GC_FRAMES_MOST];
    size_t n = size_min(stack_recall(stack, pcs), GC_FRAMES_MOST);
    for (size_t i = 0; i < n; i++) {
        frames[i] = (struct gc_frame){
            .function = os_symbol_at(pcs[i] - 1, &names[i]) ? names[i].name : NULL,
            .module = stack_module_at(pcs[i] - 1, &modules[i]) ? modules[i].path : NULL,
        };
    }
    return n > 0 && gc_suppressed(GC_LEAK_DEFINITE, frames, n);
}

static void print_why(const struct gc_leaks_told *told)
{
    char buffer[256];
    struct text text = text_in(buffer, sizeof buffer);
    text_add(&text, "allot: no leak check: ");
    text_add(&text, told->why);
    text_add(&text, "\n");
    os_write_error(buffer, text.length);
}

size_t leaks_tell(void)
{
    uintptr_t stack = STACK_HERE();
    struct losses losses = {.n = 0};
    size_t n_told = 0;
    struct gc_leaks_told told;
    if (gc_leaks(stack, /* with_reachable */ false, visit, &losses, &told) != 0) {
        print_why(&told);
    }
    for (size_t i = 0; i < losses.n; i++) {
        struct noted noted = noted_find(losses.of[i].block);
        if (!is_suppressed(losses.of[i].stack)) {
            check_fault(&noted, "leak", noted.block, "end of the process");
            n_told++;
        }
    }
    return n_told;
}
