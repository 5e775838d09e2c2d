// SPDX-License-Identifier: MIT
// malloc_operators.cc - every form of operator new and delete, new handlers, and what is thrown.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <malloc.h>
#include <memory>
#include <new>
#include <string>
#include <vector>

namespace
{

int failures;

void expect(bool holds, const char *what, int line)
{
    if (!holds) {
        std::fprintf(stderr, "malloc_operators.cc:%d: %s\n", line, what);
        failures++;
    }
}

#define EXPECT(x) expect((x), #x, __LINE__)

std::size_t opaque(std::size_t n)
{
    asm volatile("" : "+r"(n));
    return n;
}

bool is_aligned(void *p, std::size_t alignment)
{
    return reinterpret_cast<std::uintptr_t>(p) % alignment == 0;
}

constexpr std::size_t sizes[] = {0, 1, 16, 17, 100, 1024, 8192, 8193, 65536, 100000, 3000000, 40000000};

void used(void *p, std::size_t size)
{
    EXPECT(p != nullptr);
    EXPECT(is_aligned(p, 16));
    EXPECT(malloc_usable_size(p) >= size);
    std::memset(p, 1, size < 64 ? size : 64);
    if (size != 0) {
        static_cast<char *>(p)[size - 1] = 2;
    }
}

void plain_forms()
{
    for (std::size_t size : sizes) {
        void *p = operator new(size);
        used(p, size);
        operator delete(p);
        p = operator new[](size);
        used(p, size);
        operator delete[](p);
        p = operator new(size);
        operator delete(p, size);
        p = operator new[](size);
        operator delete[](p, size);
        p = operator new(size, std::nothrow);
        used(p, size);
        operator delete(p, std::nothrow);
        p = operator new[](size, std::nothrow);
        used(p, size);
        operator delete[](p, std::nothrow);
    }
    operator delete(nullptr);
    operator delete[](nullptr);
    operator delete(nullptr, std::size_t(8));
    operator delete(nullptr, std::align_val_t(64));
}

void aligned_forms()
{
    for (std::size_t alignment = 1; alignment <= 65536; alignment *= 2) {
        std::align_val_t align{alignment};
        for (std::size_t size : sizes) {
            void *p = operator new(size, align);
            used(p, size);
            EXPECT(is_aligned(p, alignment));
            operator delete(p, align);
            p = operator new[](size, align);
            EXPECT(is_aligned(p, alignment));
            operator delete[](p, align);
            p = operator new(size, align);
            operator delete(p, size, align);
            p = operator new[](size, align);
            operator delete[](p, size, align);
            p = operator new(size, align, std::nothrow);
            used(p, size);
            EXPECT(is_aligned(p, alignment));
            operator delete(p, align, std::nothrow);
            p = operator new[](size, align, std::nothrow);
            EXPECT(is_aligned(p, alignment));
            operator delete[](p, align, std::nothrow);
        }
    }
}

struct alignas(256) Wide {
    char bytes[300];
    ~Wide()
    {
        bytes[0] = 0;
    }
};

void expressions()
{
    auto one = std::make_unique<Wide>();
    EXPECT(is_aligned(one.get(), 256));
    std::unique_ptr<Wide[]> many(new Wide[17]);
    EXPECT(is_aligned(many.get(), 256));
    std::vector<std::string> words;
    for (int i = 0; i < 10000; i++) {
        words.push_back(std::string(static_cast<std::size_t>(i % 300), 'x'));
    }
    EXPECT(words[299].size() == 299);
    void *freed_by_free = operator new(100);
    std::free(freed_by_free);
}

template <typename Call> bool throws_bad_alloc(Call call)
{
    try {
        call();
    } catch (const std::bad_alloc &) {
        return true;
    }
    return false;
}

const std::size_t too_much = SIZE_MAX - 1000;

void failure_throws()
{
    std::align_val_t align{64};
    EXPECT(throws_bad_alloc([] { operator delete(operator new(opaque(too_much))); }));
    EXPECT(throws_bad_alloc([] { operator delete[](operator new[](opaque(too_much))); }));
    EXPECT(throws_bad_alloc([&] { operator delete(operator new(opaque(too_much), align), align); }));
    EXPECT(throws_bad_alloc([&] { operator delete[](operator new[](opaque(too_much), align), align); }));
    EXPECT(operator new(opaque(too_much), std::nothrow) == nullptr);
    EXPECT(operator new[](opaque(too_much), std::nothrow) == nullptr);
    EXPECT(operator new(opaque(too_much), align, std::nothrow) == nullptr);
    EXPECT(operator new[](opaque(too_much), align, std::nothrow) == nullptr);
}

int calls;

void handler_that_gives_up_after_three()
{
    if (++calls == 3) {
        std::set_new_handler(nullptr);
    }
}

struct Mine : std::bad_alloc {
};

void handler_that_throws_its_own()
{
    throw Mine();
}

void new_handlers_are_called()
{
    calls = 0;
    std::set_new_handler(handler_that_gives_up_after_three);
    EXPECT(throws_bad_alloc([] { operator delete(operator new(opaque(too_much))); }));
    EXPECT(calls == 3);
    calls = 0;
    std::set_new_handler(handler_that_gives_up_after_three);
    EXPECT(operator new(opaque(too_much), std::nothrow) == nullptr);
    EXPECT(calls == 3);
    calls = 0;
    std::set_new_handler(handler_that_gives_up_after_three);
    EXPECT(operator new[](opaque(too_much), std::align_val_t(128), std::nothrow) == nullptr);
    EXPECT(calls == 3);
    std::set_new_handler(handler_that_throws_its_own);
    bool mine = false;
    try {
        operator delete(operator new(opaque(too_much)));
    } catch (const Mine &) {
        mine = true;
    }
    EXPECT(mine);
    EXPECT(operator new(opaque(too_much), std::nothrow) == nullptr);
    std::set_new_handler(nullptr);
}

} // namespace

int main()
{
    plain_forms();
    aligned_forms();
    expressions();
    for (int i = 0; i < 100; i++) {
        failure_throws();
        new_handlers_are_called();
    }
    if (failures == 0) {
        std::puts("ok");
    }
    return failures == 0 ? 0 : 1;
}
