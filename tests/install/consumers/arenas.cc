// SPDX-License-Identifier: MIT
// arenas.cc - a C++ program that keeps containers in an arena, and tries a backend, with the installed headers.
#include <allot/backend_trial.h>
#include <allot/memory_resource.hpp>

#include <string>
#include <vector>

static allot_backend *make_reservation(void *)
{
    allot_backend *backend = nullptr;
    return allot_backend_virt(64 << 20, nullptr, &backend) == 0 ? backend : nullptr;
}

int main()
{
    allot::arena_ptr arena = allot::make_arena();
    allot::memory_resource resource(arena.get());
    {
        std::pmr::vector<std::pmr::string> words(&resource);
        for (int i = 0; i < 1000; i++)
            words.emplace_back("a word that is too long for the string itself");
        if (allot_arena_contains(arena.get(), words.back().data()) != 1)
            return 1;
    }
    allot_backend_trial trial = {make_reservation, nullptr, nullptr, 0, nullptr};
    return allot_arena_free_bytes(arena.get()) == allot_arena_capacity(arena.get()) && allot_backend_try(&trial) == 0
               ? 0
               : 2;
}
