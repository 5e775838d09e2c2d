// SPDX-License-Identifier: MIT
// A C++ program: every operator new is allot's; a new handler is asked, and std::bad_alloc is thrown.
#include "ask.h"

#include <map>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

// clang declares it with -fsized-deallocation only.
void operator delete(void *, std::size_t) noexcept;

static volatile std::size_t too_much = static_cast<std::size_t>(PTRDIFF_MAX);
static int asked;

static void give_up_the_second_time()
{
    if (++asked == 2)
        std::set_new_handler(nullptr);
}

static bool is_block(const void *p)
{
    return is_block_by(allot_query, p) != 0;
}

struct alignas(256) wide {
    char bytes[256];
};

template <class Take> static bool throws_bad_alloc(Take take)
{
    try {
        void *volatile block = take();
        ::operator delete(block);
    } catch (const std::bad_alloc &) {
        return true;
    }
    return false;
}

int main()
{
    auto number = std::make_unique<int>(1);
    EXPECT(is_block(number.get()));
    std::vector<std::string> texts(100, std::string(100, 'x'));
    EXPECT(is_block(texts.data()) && is_block(texts[50].data()));
    std::map<int, std::string> tree;
    for (int i = 0; i < 1000; i++)
        tree[i] = std::to_string(i);
    auto aligned = std::make_unique<wide>();
    EXPECT(reinterpret_cast<std::uintptr_t>(aligned.get()) % 256 == 0);
    void *plain = ::operator new(10, std::nothrow);
    EXPECT(is_block(plain));
    ::operator delete (plain, std::size_t{10});

    // Exceptions live in malloc's memory too.
    try {
        throw std::runtime_error(texts[0]);
    } catch (const std::exception &e) {
        EXPECT(texts[0] == e.what());
    }

    EXPECT(throws_bad_alloc([] { return ::operator new(too_much); }));
    EXPECT(throws_bad_alloc([] { return ::operator new[](too_much); }));
    EXPECT(throws_bad_alloc([] { return ::operator new (too_much, std::align_val_t{64}); }));
    EXPECT(::operator new(too_much, std::nothrow) == nullptr);
    EXPECT(::operator new[](too_much, std::align_val_t{64}, std::nothrow) == nullptr);

    std::set_new_handler(give_up_the_second_time);
    EXPECT(throws_bad_alloc([] { return ::operator new(too_much); }));
    EXPECT(asked == 2);

    asked = 0;
    std::set_new_handler(give_up_the_second_time);
    EXPECT(::operator new(too_much, std::nothrow) == nullptr);
    EXPECT(asked == 2);

    // A handler that throws: through operator new, and into null by its nothrow form.
    std::set_new_handler([] { throw std::bad_alloc(); });
    EXPECT(throws_bad_alloc([] { return ::operator new(too_much); }));
    EXPECT(::operator new(too_much, std::nothrow) == nullptr);
    return 0;
}
