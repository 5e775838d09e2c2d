// SPDX-License-Identifier: MIT
// override.cc - for static C++ programs: the two functions of libstdc++ that operators.c can't look up there.
#include <new>

extern "C" {
std::new_handler allot_override_new_handler(void);
void allot_override_throw(void);
}

std::new_handler allot_override_new_handler(void)
{
    return std::get_new_handler();
}

void allot_override_throw(void)
{
    throw std::bad_alloc();
}
