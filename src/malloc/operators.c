/* SPDX-License-Identifier: MIT */
/* operators.c - every operator new and delete, in C: no libstdc++ is needed, and where the program has it, its new
 * handlers and std::bad_alloc work.
 *
 * The names are those of the Itanium C++ ABI: Zn w|a = new | new[], Zd l|a = delete | delete[]; m size_t,
 * St11align_val_t, RKSt9nothrow_t.
 *
 * When memory is refused:  the new handler is called and the call tried again, as long as there is one; then
 * std::bad_alloc is thrown, or NULL returned where nothrow says so. Both functions are looked for at that moment, so
 * libstdc++ may come by dlopen. A fully static program has allot::override, which links them in. With no way to throw,
 * a line says so and the process aborts.
 */
#include "malloc/malloc_internal.h"

#include "base/format.h"

#include <dlfcn.h>

#define EXPORT __attribute__((visibility("default")))

typedef void (*void_function)(void);
typedef void_function (*get_handler)(void);

/* Defined by override.cc in static C++ programs. */
__attribute__((weak, visibility("default"))) void_function allot_override_new_handler(void);
__attribute__((weak, visibility("default"))) void allot_override_throw(void);
/* Weak: a static program without it does without. */
__attribute__((weak)) void *dlsym(void *handle, const char *name);

static void_function find(const char *name)
{
    /* The way POSIX gives to make a function of dlsym's result. */
    union {
        void *object;
        void_function function;
    } found = {.object = dlsym == NULL ? NULL : dlsym(RTLD_DEFAULT, name)};
    return found.function;
}

static void_function new_handler(void)
{
    if (allot_override_new_handler != NULL) {
        return allot_override_new_handler();
    }
    get_handler get = (get_handler)find("_ZSt15get_new_handlerv");
    return get == NULL ? NULL : get();
}

NORETURN static void throw_bad_alloc(size_t bytes)
{
    if (allot_override_throw != NULL) {
        allot_override_throw();
    }
    void_function throw = find("_ZSt17__throw_bad_allocv");
    if (throw != NULL) {
        throw();
    }
    char buffer[160];
    struct text text = text_in(buffer, sizeof buffer);
    text_add(&text, "allot: operator new: no memory for ");
    text_add_unsigned(&text, bytes);
    text_add(&text, " bytes, and the program has no std::bad_alloc to throw\n");
    os_write_error(text.bytes, text.length);
    os_abort();
}

COLD static void *new_again(size_t bytes, size_t align, bool nothrow)
{
    for (;;) {
        void_function handler = new_handler();
        if (handler == NULL) {
            break;
        }
        handler();
        void *p = heap_aligned(align, bytes);
        if (p != NULL) {
            return p;
        }
    }
    if (!nothrow) {
        throw_bad_alloc(bytes);
    }
    return NULL;
}

INLINE void *new_plain(size_t bytes, bool nothrow)
{
    void *p = heap_malloc(bytes);
    return LIKELY(p != NULL) ? p : new_again(bytes, BLOCK_ALIGN, nothrow);
}

INLINE void *new_aligned(size_t bytes, size_t align, bool nothrow)
{
    void *p = heap_aligned(align, bytes);
    return LIKELY(p != NULL) ? p : new_again(bytes, align, nothrow);
}

#define NEW(name)                                                                                                      \
    EXPORT void *name##m(size_t bytes);                                                                                \
    void *name##m(size_t bytes)                                                                                        \
    {                                                                                                                  \
        return new_plain(bytes, /* nothrow */ false);                                                                  \
    }                                                                                                                  \
    EXPORT void *name##mRKSt9nothrow_t(size_t bytes, const void *nothrow);                                             \
    void *name##mRKSt9nothrow_t(size_t bytes, const void *nothrow)                                                     \
    {                                                                                                                  \
        (void)nothrow;                                                                                                 \
        return new_plain(bytes, /* nothrow */ true);                                                                   \
    }                                                                                                                  \
    EXPORT void *name##mSt11align_val_t(size_t bytes, size_t align);                                                   \
    void *name##mSt11align_val_t(size_t bytes, size_t align)                                                           \
    {                                                                                                                  \
        return new_aligned(bytes, align, /* nothrow */ false);                                                         \
    }                                                                                                                  \
    EXPORT void *name##mSt11align_val_tRKSt9nothrow_t(size_t bytes, size_t align, const void *nothrow);                \
    void *name##mSt11align_val_tRKSt9nothrow_t(size_t bytes, size_t align, const void *nothrow)                        \
    {                                                                                                                  \
        (void)nothrow;                                                                                                 \
        return new_aligned(bytes, align, /* nothrow */ true);                                                          \
    }

NEW(_Znw)
NEW(_Zna)

#define DELETE(name, ...)                                                                                              \
    EXPORT void name(void *p, ##__VA_ARGS__);                                                                          \
    void name(void *p, ##__VA_ARGS__)                                                                                  \
    {                                                                                                                  \
        heap_free(p);                                                                                                  \
    }

DELETE(_ZdlPv)
DELETE(_ZdaPv)
#pragma GCC diagnostic ignored "-Wunused-parameter"
DELETE(_ZdlPvm, size_t bytes)
DELETE(_ZdaPvm, size_t bytes)
DELETE(_ZdlPvRKSt9nothrow_t, const void *nothrow)
DELETE(_ZdaPvRKSt9nothrow_t, const void *nothrow)
DELETE(_ZdlPvSt11align_val_t, size_t align)
DELETE(_ZdaPvSt11align_val_t, size_t align)
DELETE(_ZdlPvmSt11align_val_t, size_t bytes, size_t align)
DELETE(_ZdaPvmSt11align_val_t, size_t bytes, size_t align)
DELETE(_ZdlPvSt11align_val_tRKSt9nothrow_t, size_t align, const void *nothrow)
DELETE(_ZdaPvSt11align_val_tRKSt9nothrow_t, size_t align, const void *nothrow)
