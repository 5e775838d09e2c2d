// SPDX-License-Identifier: MIT
// gc_vector.cc - a mapping that only a C++ container knows is kept by it, and goes with what it forgets.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wshadow" // struct allot_mallinfo2 and the function of that name, as glibc has them
#endif
#include <allot/gcmap.h>

#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <sys/mman.h>
#include <vector>

namespace
{

int failures;

void expect(bool holds, const char *what, int line)
{
    if (!holds) {
        std::fprintf(stderr, "gc_vector.cc:%d: %s\n", line, what);
        failures++;
    }
}

#define EXPECT(x) expect((x), #x, __LINE__)

constexpr std::size_t number = 500;

char *map_one()
{
    void *mapping = allot_gcmap(-1, 0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    EXPECT(mapping != MAP_FAILED);
    return static_cast<char *>(mapping);
}

__attribute__((noinline)) void fill(std::vector<char *> &rows, std::map<std::string, char *> &names)
{
    for (std::size_t i = 0; i < number; i++) {
        rows.push_back(map_one() + i); // the vector grows: what it had before is a free block
        *rows.back() = 1;
        names["name " + std::to_string(i)] = map_one();
    }
}

std::size_t left()
{
    EXPECT(allot_gcmap_collect(nullptr) == 0);
    return allot_gcmap_num_active();
}

// The few that a stale word on the stack keeps are not what this is about.
bool about(std::size_t n, std::size_t wanted)
{
    return n >= wanted && n <= wanted + 20;
}

} // namespace

int main()
{
    auto rows = std::make_unique<std::vector<char *>>();
    auto names = std::make_unique<std::map<std::string, char *>>();
    fill(*rows, *names);
    EXPECT(left() == 2 * number);
    for (char *row : *rows) {
        EXPECT(*row == 1);
    }
    names.reset();
    EXPECT(about(left(), number));
    rows->resize(number / 2); // what is behind its end is still in its block
    EXPECT(left() >= number / 2);
    rows->shrink_to_fit();
    EXPECT(about(left(), number / 2));
    rows.reset();
    EXPECT(about(left(), 0));
    return failures == 0 ? 0 : 1;
}
