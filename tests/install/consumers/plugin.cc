// SPDX-License-Identifier: MIT
// A C++ library that a C program loads late, and libstdc++ with it.
#include <cstddef>
#include <cstdint>
#include <new>

static volatile std::size_t too_much = static_cast<std::size_t>(PTRDIFF_MAX);
static int asked;

extern "C" int plugin_catches_bad_alloc()
{
    std::set_new_handler([] {
        asked++;
        std::set_new_handler(nullptr);
    });
    try {
        void *volatile block = ::operator new(too_much);
        ::operator delete(block);
    } catch (const std::bad_alloc &) {
        return asked == 1;
    }
    return 0;
}
