// SPDX-License-Identifier: MIT
// override.cc - for static C++ programs: the functions of libstdc++ that operators.c can't look up there.
#include <cstddef>
#include <new>

extern "C" {
std::new_handler allot_override_new_handler(void);
void allot_override_throw(void);
void *allot_override_nothrow(std::size_t bytes, std::size_t align);
}

std::new_handler allot_override_new_handler(void)
{
    return std::get_new_handler();
}

void allot_override_throw(void)
{
    throw std::bad_alloc();
}

void *allot_override_nothrow(std::size_t bytes, std::size_t align)
{
    try {
        return ::operator new (bytes, std::align_val_t(align));
    } catch (...) {
        return nullptr;
    }
}
