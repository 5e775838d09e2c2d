// SPDX-License-Identifier: MIT
// arena_memory_resource.cc - C++ containers in arenas: what they hold stays, what they give back comes back.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wshadow" // struct allot_mallinfo2 and the function of that name, as glibc has them
#endif
#include <allot/memory_resource.hpp>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <list>
#include <map>
#include <numeric>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace
{

int failures;

void expect(bool holds, const char *what, int line)
{
    if (!holds) {
        std::fprintf(stderr, "arena_memory_resource.cc:%d: %s\n", line, what);
        failures++;
    }
}

#define EXPECT(x) expect((x), #x, __LINE__)

allot::arena_ptr arena_of(allot_arena_kind kind, unsigned flags, std::size_t hard_limit = 0)
{
    allot_arena_options options = ALLOT_ARENA_OPTIONS_INIT;
    options.kind = kind;
    options.flags = flags;
    options.hard_limit = hard_limit;
    return allot::make_arena(0, &options);
}

std::size_t live_bytes(allot_arena *arena)
{
    return allot_arena_capacity(arena) - allot_arena_free_bytes(arena);
}

void containers_live_in(allot_arena *arena)
{
    allot::memory_resource resource(arena);
    {
        std::pmr::vector<std::pmr::string> words(&resource);
        std::pmr::map<std::pmr::string, std::pmr::vector<int>> table(&resource);
        std::pmr::unordered_map<int, std::pmr::string> numbers(&resource);
        for (int i = 0; i < 2000; i++) {
            words.emplace_back(static_cast<std::size_t>(i % 90), static_cast<char>('a' + i % 26));
            table[words.back()].push_back(i);
            numbers.emplace(i, words.back());
            EXPECT(allot_arena_contains(arena, &words.back()) == 1);
        }
        for (int i = 0; i < 2000; i += 2) {
            numbers.erase(i);
            table.erase(words[static_cast<std::size_t>(i)]);
        }
        EXPECT(allot_arena_check(arena) == 0);
        for (int i = 1; i < 2000; i += 2) {
            EXPECT(numbers.at(i) == words[static_cast<std::size_t>(i)]);
            EXPECT(words[static_cast<std::size_t>(i)] ==
                   std::pmr::string(static_cast<std::size_t>(i % 90), static_cast<char>('a' + i % 26)));
        }
        const char *data = words[89].data();
        EXPECT(words[89].size() == 89 && allot_arena_contains(arena, data) == 1); /* nested ones too */
    }
    allot_arena_report report = ALLOT_ARENA_REPORT_INIT;
    EXPECT(allot_arena_stats(arena, &report) == 0);
    EXPECT(report.kind != ALLOT_ARENA_GENERAL || live_bytes(arena) == 0);
    EXPECT(allot_arena_reset(arena) == 0);
    EXPECT(live_bytes(arena) == 0);
}

struct alignas(256) wide {
    char bytes[256];
};

void alignments_and_sizes_are_kept()
{
    allot::arena_ptr arena = allot::make_arena();
    allot::memory_resource resource(arena.get());
    for (std::size_t alignment = 1; alignment <= 8192; alignment *= 2)
        for (std::size_t bytes = 0; bytes < 600; bytes += 37) {
            void *block = resource.allocate(bytes, alignment);
            EXPECT(block != nullptr && reinterpret_cast<std::uintptr_t>(block) % alignment == 0);
            std::memset(block, 0x5a, bytes);
            resource.deallocate(block, bytes, alignment);
        }
    std::vector<wide, allot::allocator<wide>> wides(3, wide(), arena.get());
    EXPECT(reinterpret_cast<std::uintptr_t>(wides.data()) % 256 == 0);
    wides = std::vector<wide, allot::allocator<wide>>(arena.get());
    EXPECT(live_bytes(arena.get()) == 0);
}

template <class Exception, class Function> bool throws(Function function)
{
    try {
        function();
    } catch (const Exception &) {
        return true;
    }
    return false;
}

void no_memory_is_bad_alloc()
{
    allot::arena_ptr arena = arena_of(ALLOT_ARENA_GENERAL, 0, 100000);
    allot::memory_resource resource(arena.get());
    volatile std::size_t huge = PTRDIFF_MAX; // the compiler need not know
    EXPECT(throws<std::bad_alloc>([&] { return resource.allocate(200000); }));
    EXPECT(throws<std::bad_alloc>([&] { return resource.allocate(huge); }));
    EXPECT(throws<std::bad_alloc>([&] { return resource.allocate(huge, 4096); }));
    allot::allocator<double> doubles(arena.get());
    EXPECT(throws<std::bad_array_new_length>([&] { return doubles.allocate(huge); }));
    EXPECT(throws<std::bad_alloc>([&] {
        std::pmr::vector<int> numbers(&resource);
        for (int i = 0;; i++)
            numbers.push_back(i);
    }));
    EXPECT(live_bytes(arena.get()) == 0);
    EXPECT(throws<std::bad_alloc>([&] { return allot::make_arena(huge); }));
}

void equality_is_that_of_the_arena()
{
    allot::arena_ptr one = allot::make_arena();
    allot::arena_ptr two = allot::make_arena();
    allot::memory_resource a(one.get()), also_a(one.get()), b(two.get());
    EXPECT(a == also_a);
    EXPECT(a != b);
    EXPECT(!a.is_equal(*std::pmr::new_delete_resource()));
    EXPECT(allot::allocator<int>(one.get()) == allot::allocator<char>(one.get()));
    EXPECT(allot::allocator<int>(one.get()) != allot::allocator<int>(two.get()));
    EXPECT(a.arena() == one.get());
}

using strings = std::list<std::string, allot::allocator<std::string>>;

void an_allocator_moves_with_its_container()
{
    allot::arena_ptr one = allot::make_arena();
    allot::arena_ptr two = allot::make_arena();
    {
        strings first(one.get());
        strings second(two.get());
        for (int i = 0; i < 100; i++)
            first.push_back(std::to_string(i));
        const std::string *front = &first.front();
        second = first; // copied: into its own arena
        EXPECT(second.get_allocator().arena() == two.get());
        EXPECT(allot_arena_contains(two.get(), &second.front()) == 1);
        second = std::move(first); // moved: not one element
        EXPECT(&second.front() == front && second.get_allocator().arena() == one.get());
        strings third(two.get());
        std::swap(second, third);
        EXPECT(second.empty() && second.get_allocator().arena() == two.get());
        EXPECT(third.size() == 100 && third.back() == "99");
        std::map<int, int, std::less<int>, allot::allocator<std::pair<const int, int>>> squares(two.get());
        for (int i = 0; i < 1000; i++)
            squares[i] = i * i;
        EXPECT(squares.at(31) == 961);
    }
    EXPECT(live_bytes(one.get()) == 0);
    EXPECT(live_bytes(two.get()) == 0);
}

void other_resources_stand_on_it()
{
    allot::arena_ptr arena = allot::make_arena();
    allot::memory_resource resource(arena.get());
    {
        std::pmr::monotonic_buffer_resource monotonic(&resource);
        std::pmr::unsynchronized_pool_resource pools(&monotonic);
        std::pmr::vector<std::pmr::vector<int>> rows(&pools);
        for (int i = 0; i < 300; i++) {
            rows.emplace_back(static_cast<std::size_t>(i));
            std::iota(rows.back().begin(), rows.back().end(), i);
        }
        EXPECT(rows[299][298] == 299 + 298);
    }
    EXPECT(live_bytes(arena.get()) == 0);
}

unsigned caught;

allot_action count_it(const allot_error *error, void *)
{
    caught += std::strcmp(error->name, "overlapping free") == 0;
    return ALLOT_ACTION_CONTINUE;
}

void a_wrong_size_is_misuse()
{
    allot::arena_ptr arena = allot::make_arena();
    allot::memory_resource resource(arena.get());
    allot_arena_set_error_handler(arena.get(), count_it, nullptr);
    void *block = resource.allocate(64);
    resource.deallocate(block, 128);
    EXPECT(caught == 1);
    resource.deallocate(block, 64);
    EXPECT(caught == 1 && live_bytes(arena.get()) == 0);
}

} // namespace

int main()
{
    const unsigned flags[] = {0, ALLOT_ARENA_UNSYNCHRONIZED};
    for (unsigned flag : flags) {
        containers_live_in(arena_of(ALLOT_ARENA_GENERAL, flag).get());
        containers_live_in(arena_of(ALLOT_ARENA_BUMP, flag).get());
    }
    char buffer[4096];
    allot_arena_options options = ALLOT_ARENA_OPTIONS_INIT;
    options.kind = ALLOT_ARENA_SCRATCH;
    allot_arena *scratch = nullptr;
    EXPECT(allot_arena_create_at(buffer, sizeof buffer, &options, &scratch) == 0);
    containers_live_in(scratch);
    allot_arena_destroy(scratch);
    alignments_and_sizes_are_kept();
    no_memory_is_bad_alloc();
    equality_is_that_of_the_arena();
    an_allocator_moves_with_its_container();
    other_resources_stand_on_it();
    a_wrong_size_is_misuse();
    return failures == 0 ? 0 : 1;
}
