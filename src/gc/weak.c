/* SPDX-License-Identifier: MIT */
/* weak.c - references that keep nothing: see allot/gcmap.h. */
#include "gc/gc_internal.h"

#include <errno.h>

struct allot_weak {
    void *next_free; /* the store's */
    const void *address;
    struct mapping *mapping; /* its structure may be another mapping's by now; then it has another serial */
    uint64_t serial;
};

allot_weak *allot_weak_create(const void *address)
{
    struct gc *gc = gc_now();
    struct allot_weak *weak = NULL;
    int error = EINVAL;
    if (gc != NULL) {
        os_lock(&gc->lock);
        struct mapping *mapping = mapping_find(gc, (uintptr_t)address);
        if (mapping != NULL) {
            weak = store_take(&gc->weaks);
            error = ENOMEM;
        }
        if (weak != NULL) {
            weak->address = address;
            weak->mapping = mapping;
            weak->serial = mapping->weak_serial;
        }
        os_unlock(&gc->lock);
    }
    if (weak == NULL) {
        errno = error;
    }
    return weak;
}

/* The address is in a register, where a collection sees it, before it is asked whether the mapping is still there. */
void *allot_weak_get(const allot_weak *weak)
{
    void *address = (void *)(uintptr_t)weak->address;
    __asm__ volatile("" : "+r"(address) : : "memory");
    bool there = load_acquire(&weak->mapping->serial) == weak->serial; /* OG5 */
    __asm__ volatile("" : "+r"(address) : : "memory");
    return there ? address : NULL;
}

void allot_weak_destroy(allot_weak *weak)
{
    struct gc *gc = gc_now();
    if (weak != NULL) {
        os_lock(&gc->lock);
        store_give(&gc->weaks, weak);
        os_unlock(&gc->lock);
    }
}
