/* SPDX-License-Identifier: MIT */
/* operators.c - every operator new and delete, in C: no libstdc++ is needed, and where the program has it, its new
 * handlers and std::bad_alloc work.
 *
 * The names are those of the Itanium C++ ABI: Zn w|a = new | new[], Zd l|a = delete | delete[]; m size_t,
 * St11align_val_t, RKSt9nothrow_t.
 *
 * When memory is refused:  the new handler is called and the call tried again, as long as there is one; then
 * std::bad_alloc is thrown. Both functions are looked for at that moment, so libstdc++ may come by dlopen. A fully
 * static program has allot::override, which links them in. With no way to throw, a line says so and the process aborts.
 * Nothrow forms pass on to libstdc++'s own, which calls the throwing form here and turns any exception into NULL: that
 * takes a catch, and so C++.
 */
#include "malloc/malloc_internal.h"

#include "base/format.h"

#include <dlfcn.h>

#define EXPORT __attribute__((visibility("default")))

typedef void (*void_function)(void);
typedef void_function (*get_handler)(void);

/* Defined by override.cc in static C++ programs. */
#define OVERRIDE __attribute__((weak, visibility("default")))
OVERRIDE void_function allot_override_new_handler(void);
OVERRIDE void allot_override_throw(void);
OVERRIDE void *allot_override_nothrow(size_t bytes, size_t align);
/* Weak: a static program without it does without. */
__attribute__((weak)) void *dlsym(void *handle, const char *name);
__attribute__((weak)) void *dlopen(const char *path, int mode);

/* The way POSIX gives to make a function of dlsym's result. */
union symbol {
    void *object;
    void_function function;
    get_handler get_handler;
    void *(*new_nothrow)(size_t bytes, const void *nothrow);
    void *(*new_aligned_nothrow)(size_t bytes, size_t align, const void *nothrow);
};

/* A plugin may have brought its C++ library along where others don't see it. */
static void *loaded_cxx_library(void)
{
    static const char *const names[] = {"libstdc++.so.6", "libc++abi.so.1"};
    for (size_t i = 0; dlopen != NULL && i < sizeof names / sizeof names[0]; i++) {
        void *library = dlopen(names[i], RTLD_NOLOAD | RTLD_NOW);
        if (library != NULL) {
            return library;
        }
    }
    return NULL;
}

static union symbol find(void *where, const char *name)
{
    union symbol symbol = {.object = dlsym == NULL ? NULL : dlsym(where, name)};
    void *library = symbol.object == NULL ? loaded_cxx_library() : NULL;
    if (library != NULL) {
        symbol.object = dlsym(library, name);
    }
    return symbol;
}

static void_function new_handler(void)
{
    if (allot_override_new_handler != NULL) {
        return allot_override_new_handler();
    }
    get_handler get = find(RTLD_DEFAULT, "_ZSt15get_new_handlerv").get_handler;
    return get == NULL ? NULL : get();
}

NORETURN static void throw_bad_alloc(size_t bytes)
{
    if (allot_override_throw != NULL) {
        allot_override_throw();
    }
    void_function throw = find(RTLD_DEFAULT, "_ZSt17__throw_bad_allocv").function;
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

COLD static void *new_again(enum block_kind kind, size_t bytes, size_t align)
{
    for (void_function handler; (handler = new_handler()) != NULL;) {
        handler();
        void *p = heap_aligned_as(kind, align, bytes);
        if (p != NULL) {
            return p;
        }
    }
    throw_bad_alloc(bytes);
}

COLD static void *nothrow_again(const char *name, size_t bytes, const void *nothrow)
{
    if (allot_override_nothrow != NULL) {
        return allot_override_nothrow(bytes, BLOCK_ALIGN);
    }
    union symbol next = find(RTLD_NEXT, name);
    return next.object == NULL ? NULL : next.new_nothrow(bytes, nothrow);
}

COLD static void *nothrow_again_aligned(const char *name, size_t bytes, size_t align, const void *nothrow)
{
    if (allot_override_nothrow != NULL) {
        return allot_override_nothrow(bytes, align);
    }
    union symbol next = find(RTLD_NEXT, name);
    return next.object == NULL ? NULL : next.new_aligned_nothrow(bytes, align, nothrow);
}

#define NEW(name, kind)                                                                                                \
    EXPORT void *name##m(size_t bytes);                                                                                \
    void *name##m(size_t bytes)                                                                                        \
    {                                                                                                                  \
        void *p = heap_malloc_as(kind, bytes);                                                                         \
        return LIKELY(p != NULL) ? p : new_again(kind, bytes, BLOCK_ALIGN);                                            \
    }                                                                                                                  \
    EXPORT void *name##mRKSt9nothrow_t(size_t bytes, const void *nothrow);                                             \
    void *name##mRKSt9nothrow_t(size_t bytes, const void *nothrow)                                                     \
    {                                                                                                                  \
        void *p = heap_malloc_as(kind, bytes);                                                                         \
        return LIKELY(p != NULL) ? p : nothrow_again(#name "mRKSt9nothrow_t", bytes, nothrow);                         \
    }                                                                                                                  \
    EXPORT void *name##mSt11align_val_t(size_t bytes, size_t align);                                                   \
    void *name##mSt11align_val_t(size_t bytes, size_t align)                                                           \
    {                                                                                                                  \
        void *p = heap_aligned_as(kind##_ALIGNED, align, bytes);                                                       \
        return LIKELY(p != NULL) ? p : new_again(kind##_ALIGNED, bytes, align);                                        \
    }                                                                                                                  \
    EXPORT void *name##mSt11align_val_tRKSt9nothrow_t(size_t bytes, size_t align, const void *nothrow);                \
    void *name##mSt11align_val_tRKSt9nothrow_t(size_t bytes, size_t align, const void *nothrow)                        \
    {                                                                                                                  \
        void *p = heap_aligned_as(kind##_ALIGNED, align, bytes);                                                       \
        return LIKELY(p != NULL)                                                                                       \
                   ? p                                                                                                 \
                   : nothrow_again_aligned(#name "mSt11align_val_tRKSt9nothrow_t", bytes, align, nothrow);             \
    }

NEW(_Znw, KIND_NEW)
NEW(_Zna, KIND_NEW_ARRAY)

#define DELETE(name, kind, bytes, align, ...)                                                                          \
    EXPORT void name(void *p, ##__VA_ARGS__);                                                                          \
    void name(void *p, ##__VA_ARGS__)                                                                                  \
    {                                                                                                                  \
        heap_free_as(kind, p, bytes, align);                                                                           \
    }

/* What is unused was not told. */
#pragma GCC diagnostic ignored "-Wunused-parameter"
#define DELETES(name, kind)                                                                                            \
    DELETE(name##Pv, kind, HOOK_SIZE_UNKNOWN, 0)                                                                       \
    DELETE(name##Pvm, kind, bytes, 0, size_t bytes)                                                                    \
    DELETE(name##PvRKSt9nothrow_t, kind, HOOK_SIZE_UNKNOWN, 0, const void *nothrow)                                    \
    DELETE(name##PvSt11align_val_t, kind##_ALIGNED, HOOK_SIZE_UNKNOWN, align, size_t align)                            \
    DELETE(name##PvmSt11align_val_t, kind##_ALIGNED, bytes, align, size_t bytes, size_t align)                         \
    DELETE(name##PvSt11align_val_tRKSt9nothrow_t, kind##_ALIGNED, HOOK_SIZE_UNKNOWN, align, size_t align,              \
           const void *nothrow)

DELETES(_Zdl, KIND_NEW)
DELETES(_Zda, KIND_NEW_ARRAY)
