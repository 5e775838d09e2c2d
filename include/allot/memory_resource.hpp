// SPDX-License-Identifier: MIT
// memory_resource.hpp - arenas for C++17 containers: a std::pmr::memory_resource and an allocator. Header only.
//
//     allot::arena_ptr arena = allot::make_arena();
//     allot::memory_resource resource(arena.get());
//     std::pmr::vector<std::pmr::string> words(&resource);
//
//     std::list<int, allot::allocator<int>> numbers(arena.get());
//
// Containers give single blocks back to a general arena. A bump or scratch arena keeps them until it is reset, rewound
// or destroyed, but for the latest one. The arena must live longer than what is in it; an arena that is reset or
// destroyed runs no destructors.
//
//   threads   as the arena: shared, unless it was made with ALLOT_ARENA_UNSYNCHRONIZED
//   signals   not safe
//   fork      as the arena
//   errors    std::bad_alloc where the arena gives no memory (none left, a limit, sealed, released);
//             std::bad_array_new_length where a size overflows. Misuse goes to the arena's error handler
#ifndef ALLOT_MEMORY_RESOURCE_HPP
#define ALLOT_MEMORY_RESOURCE_HPP

#include "allot/arena.h"

#include <cstddef>
#include <limits>
#include <memory>
#include <memory_resource>
#include <new>
#include <type_traits>

namespace allot
{

// ---- an arena that is destroyed where its name ends --------------------------------------------------------------

struct arena_destroy {
    void operator()(allot_arena *arena) const noexcept
    {
        allot_arena_destroy(arena);
    }
};

using arena_ptr = std::unique_ptr<allot_arena, arena_destroy>;

// The options are those of allot_arena_create; throws std::bad_alloc when there is no arena to be had.
inline arena_ptr make_arena(std::size_t size_bytes = 0, const allot_arena_options *options = nullptr)
{
    allot_arena *arena = nullptr;
    if (allot_arena_create(size_bytes, options, &arena) != 0)
        throw std::bad_alloc();
    return arena_ptr(arena);
}

namespace detail
{

// C++ has no zero-sized blocks: an allocation of 0 bytes is one of 1.
inline void *take(allot_arena *arena, std::size_t bytes, std::size_t alignment)
{
    bytes += bytes == 0;
    void *block = alignment <= 16 ? allot_bump_malloc(arena, bytes) : allot_arena_memalign(arena, alignment, bytes);
    if (block == nullptr)
        throw std::bad_alloc();
    return block;
}

inline void give(allot_arena *arena, void *block, std::size_t bytes) noexcept
{
    allot_arena_free_sized(arena, block, bytes + (bytes == 0));
}

} // namespace detail

// ---- std::pmr ----------------------------------------------------------------------------------------------------

// Two are equal when they stand on the same arena.
class memory_resource : public std::pmr::memory_resource
{
  public:
    explicit memory_resource(allot_arena *arena) noexcept : arena_(arena) {}
    memory_resource(const memory_resource &) = delete;
    memory_resource &operator=(const memory_resource &) = delete;

    allot_arena *arena() const noexcept
    {
        return arena_;
    }

  private:
    void *do_allocate(std::size_t bytes, std::size_t alignment) override
    {
        return detail::take(arena_, bytes, alignment);
    }

    void do_deallocate(void *block, std::size_t bytes, std::size_t) override
    {
        detail::give(arena_, block, bytes);
    }

    bool do_is_equal(const std::pmr::memory_resource &other) const noexcept override
    {
        const auto *same_kind = dynamic_cast<const memory_resource *>(&other);
        return same_kind != nullptr && same_kind->arena_ == arena_;
    }

    allot_arena *arena_;
};

// ---- an allocator ------------------------------------------------------------------------------------------------

// What a container of one known arena needs: no virtual call. A container that is moved or swapped takes its arena
// along; one that is copied from another keeps its own.
template <class T> class allocator
{
  public:
    using value_type = T;
    using propagate_on_container_copy_assignment = std::false_type;
    using propagate_on_container_move_assignment = std::true_type;
    using propagate_on_container_swap = std::true_type;
    using is_always_equal = std::false_type;

    allocator(allot_arena *arena) noexcept : arena_(arena) {}
    template <class U> allocator(const allocator<U> &other) noexcept : arena_(other.arena()) {}

    T *allocate(std::size_t n)
    {
        if (n > std::numeric_limits<std::size_t>::max() / sizeof(T))
            throw std::bad_array_new_length();
        return static_cast<T *>(detail::take(arena_, n * sizeof(T), alignof(T)));
    }

    void deallocate(T *block, std::size_t n) noexcept
    {
        detail::give(arena_, block, n * sizeof(T));
    }

    allot_arena *arena() const noexcept
    {
        return arena_;
    }

  private:
    allot_arena *arena_;
};

template <class T, class U> bool operator==(const allocator<T> &a, const allocator<U> &b) noexcept
{
    return a.arena() == b.arena();
}

template <class T, class U> bool operator!=(const allocator<T> &a, const allocator<U> &b) noexcept
{
    return a.arena() != b.arena();
}

} // namespace allot

#endif
