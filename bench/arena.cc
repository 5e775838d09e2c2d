// SPDX-License-Identifier: MIT
// arena.cc - arenas beside what else there is: obstack, APR's pools, talloc, std::pmr, a first-fit free list, the heap.
// All in one process and one run.
//
//     allot_bench_arena [<work> [<rounds> [<most live blocks>]]]
//
// ns of CPU time, the median of the rounds (5, which take turns), and the ratio to allot's best of the row; <work>
// scales how long a cell runs (1: some tenths of a second).
//
//     bump      a block of 16 to 128 bytes, 10,000 of them, then all at once
//     request   ten blocks, then all at once: by the block
//     pair      one block of 48 bytes, again and again
//     replace   a block at random among so many of 16 to 64 bytes: freed, and another one taken
//     2, 8 thr  replace among 1,000 blocks a thread, all threads on one arena
#include <allot/arena.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <memory>
#include <memory_resource>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#if __has_include(<obstack.h>)
#include <obstack.h>
#define HAVE_OBSTACK 1
#else
#define HAVE_OBSTACK 0
#endif
#if BENCH_APR
#include <apr_general.h>
#include <apr_pools.h>
#endif
#if BENCH_TALLOC
#include <talloc.h>
#endif

namespace
{

[[noreturn]] void give_up(const char *why)
{
    std::fprintf(stderr, "allot_bench_arena: %s\n", why);
    std::exit(1);
}

// ---- contenders --------------------------------------------------------------------------------------------------
//
// Each is made for so many bytes, takes, gives, and frees all at once. Where single blocks don't come back, give is
// empty.

template <allot_arena_kind kind, unsigned flags, allot_arena_fit fit = ALLOT_FIT_GOOD> struct arena {
    static constexpr bool is_general = kind == ALLOT_ARENA_GENERAL;
    allot_arena *self = nullptr;
    explicit arena(std::size_t bytes)
    {
        allot_arena_options options = ALLOT_ARENA_OPTIONS_INIT;
        options.kind = kind;
        options.flags = flags;
        options.fit = fit;
        if (allot_arena_create(bytes, &options, &self) != 0)
            give_up("no arena");
    }
    ~arena()
    {
        allot_arena_destroy(self);
    }
    void *take(std::size_t n)
    {
        return is_general ? allot_arena_malloc(self, n) : allot_bump_malloc(self, n);
    }
    void give(void *block, std::size_t)
    {
        allot_arena_free(self, block);
    }
    void reset()
    {
        if (allot_arena_reset(self) != 0)
            give_up("no reset");
    }
};
using arena_bump = arena<ALLOT_ARENA_BUMP, ALLOT_ARENA_UNSYNCHRONIZED>;
using arena_bump_shared = arena<ALLOT_ARENA_BUMP, 0>;
using arena_alone = arena<ALLOT_ARENA_GENERAL, ALLOT_ARENA_UNSYNCHRONIZED>;
using arena_shared = arena<ALLOT_ARENA_GENERAL, 0>;
using arena_first = arena<ALLOT_ARENA_GENERAL, ALLOT_ARENA_UNSYNCHRONIZED, ALLOT_FIT_FIRST>;
using arena_best = arena<ALLOT_ARENA_GENERAL, ALLOT_ARENA_UNSYNCHRONIZED, ALLOT_FIT_BEST>;

struct heap {
    explicit heap(std::size_t) {}
    void *take(std::size_t n)
    {
        return allot_malloc(n);
    }
    void give(void *block, std::size_t)
    {
        allot_free(block);
    }
    void reset() {}
};

struct libc {
    explicit libc(std::size_t) {}
    void *take(std::size_t n)
    {
        return std::malloc(n);
    }
    void give(void *block, std::size_t)
    {
        std::free(block);
    }
    void reset() {}
};

#if HAVE_OBSTACK
#define obstack_chunk_alloc std::malloc
#define obstack_chunk_free std::free
struct an_obstack {
    struct obstack self;
    void *first;
    explicit an_obstack(std::size_t bytes)
    {
        obstack_begin(&self, static_cast<int>(std::min<std::size_t>(bytes + bytes / 4, 1 << 30)));
        first = obstack_alloc(&self, 1);
    }
    ~an_obstack()
    {
        obstack_free(&self, nullptr);
    }
    void *take(std::size_t n)
    {
        return obstack_alloc(&self, static_cast<int>(n));
    }
    void give(void *, std::size_t) {}
    void reset()
    {
        obstack_free(&self, first);
        first = obstack_alloc(&self, 1);
    }
};
#endif

// It begins anew in the buffer that it was given, which is the best it can do.
struct pmr_monotonic {
    std::unique_ptr<char[]> buffer;
    std::pmr::monotonic_buffer_resource self;
    explicit pmr_monotonic(std::size_t bytes)
        : buffer(new char[bytes + bytes / 4]), self(buffer.get(), bytes + bytes / 4)
    {
    }
    void *take(std::size_t n)
    {
        return self.allocate(n, 16);
    }
    void give(void *, std::size_t) {}
    void reset()
    {
        self.release();
    }
};

template <class Resource> struct pmr_pool {
    Resource self;
    explicit pmr_pool(std::size_t) {}
    void *take(std::size_t n)
    {
        return self.allocate(n, 16);
    }
    void give(void *block, std::size_t n)
    {
        self.deallocate(block, n, 16);
    }
    void reset()
    {
        self.release();
    }
};
using pmr_alone = pmr_pool<std::pmr::unsynchronized_pool_resource>;
using pmr_shared = pmr_pool<std::pmr::synchronized_pool_resource>;

#if BENCH_APR
struct apr {
    apr_pool_t *self = nullptr;
    explicit apr(std::size_t)
    {
        static const bool is_ready = apr_initialize() == APR_SUCCESS;
        if (!is_ready || apr_pool_create(&self, nullptr) != APR_SUCCESS)
            give_up("no APR");
    }
    ~apr()
    {
        apr_pool_destroy(self);
    }
    void *take(std::size_t n)
    {
        return apr_palloc(self, n);
    }
    void give(void *, std::size_t) {}
    void reset()
    {
        apr_pool_clear(self);
    }
};
#endif

#if BENCH_TALLOC
struct talloc_context {
    void *self;
    explicit talloc_context(std::size_t) : self(talloc_new(nullptr)) {}
    ~talloc_context()
    {
        talloc_free(self);
    }
    void *take(std::size_t n)
    {
        return talloc_size(self, n);
    }
    void give(void *block, std::size_t)
    {
        talloc_free(block);
    }
    void reset()
    {
        talloc_free_children(self);
    }
};

struct talloc_of_a_pool : talloc_context {
    explicit talloc_of_a_pool(std::size_t bytes) : talloc_context(0)
    {
        talloc_free(self);
        self = talloc_pool(nullptr, 3 * bytes + 4096);
    }
};
#endif

// A list of the free blocks by address, in the memory itself; the first that fits is cut from its end; a block that
// comes back is joined with its neighbours. Sizes are the caller's to remember. One lock around it all.
class first_fit
{
  public:
    explicit first_fit(std::size_t bytes) : bytes_(2 * bytes + 4096), memory_(std::malloc(bytes_))
    {
        if (memory_ == nullptr)
            give_up("no memory");
        reset();
    }
    ~first_fit()
    {
        std::free(memory_);
    }
    void *take(std::size_t n)
    {
        std::lock_guard<std::mutex> guard(lock_);
        n = (n + 15) / 16 * 16;
        for (node **link = &first_; *link != nullptr; link = &(*link)->next) {
            node *found = *link;
            if (found->bytes < n)
                continue;
            found->bytes -= n;
            if (found->bytes == 0)
                *link = found->next;
            return reinterpret_cast<char *>(found) + found->bytes;
        }
        return nullptr;
    }
    void give(void *block, std::size_t n)
    {
        std::lock_guard<std::mutex> guard(lock_);
        n = (n + 15) / 16 * 16;
        node *before = nullptr;
        node *behind = first_;
        while (behind != nullptr && behind < block) {
            before = behind;
            behind = behind->next;
        }
        node *fresh = static_cast<node *>(block);
        *fresh = {behind, n};
        join(fresh);
        if (before == nullptr) {
            first_ = fresh;
        } else {
            before->next = fresh;
            join(before);
        }
    }
    void reset()
    {
        first_ = static_cast<node *>(memory_);
        *first_ = {nullptr, bytes_ / 16 * 16};
    }

  private:
    struct node {
        node *next;
        std::size_t bytes;
    };
    static void join(node *front)
    {
        node *next = front->next;
        if (next != nullptr && reinterpret_cast<char *>(front) + front->bytes == reinterpret_cast<char *>(next))
            *front = {next->next, front->bytes + next->bytes};
    }
    std::size_t bytes_;
    void *memory_;
    node *first_ = nullptr;
    std::mutex lock_;
};

// ---- cases -------------------------------------------------------------------------------------------------------

double cpu_ns()
{
    timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

double work = 1;

unsigned next(unsigned &seed)
{
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return seed;
}

std::size_t times(double n)
{
    return std::max<std::size_t>(1, static_cast<std::size_t>(n * work));
}

inline void touch(void *block)
{
    *static_cast<volatile char *>(block) = 1;
}

constexpr std::size_t n_sizes = 256; // taken in turns, so that the choice costs nothing
struct size_table {
    unsigned char of[n_sizes];
    size_table(unsigned least, unsigned most)
    {
        unsigned seed = 1;
        for (unsigned char &size : of)
            size = static_cast<unsigned char>(least + next(seed) % (most - least + 1));
    }
};
const size_table to_128(16, 128);
const size_table to_64(16, 64);

// What frees single blocks alone must do that.
template <class A> double all_at_once(std::size_t n, std::size_t rounds)
{
    constexpr bool one_by_one = std::is_same_v<A, heap> || std::is_same_v<A, libc>;
    std::vector<void *> blocks(one_by_one ? n : 0);
    A a(n * 96);
    double start = 0;
    for (std::size_t round = 0; round <= rounds; round++) {
        if (round == 1)
            start = cpu_ns(); // the first finds out how much memory it takes
        for (std::size_t i = 0; i < n; i++) {
            void *block = a.take(to_128.of[i % n_sizes]);
            touch(block);
            if constexpr (one_by_one)
                blocks[i] = block;
        }
        if constexpr (one_by_one)
            for (void *block : blocks)
                a.give(block, 0);
        a.reset();
    }
    return (cpu_ns() - start) / static_cast<double>(rounds * n);
}

template <class A> double bump()
{
    return all_at_once<A>(10000, times(1000));
}

template <class A> double request()
{
    return all_at_once<A>(10, times(300000));
}

template <class A> double pair()
{
    A a(4096);
    std::size_t n = times(5e6);
    double start = cpu_ns();
    for (std::size_t i = 0; i < n; i++) {
        void *block = a.take(48);
        touch(block);
        a.give(block, 48);
    }
    return (cpu_ns() - start) / static_cast<double>(n);
}

struct slot {
    void *block;
    std::size_t bytes;
};

template <class A> void fill(A &a, std::vector<slot> &slots)
{
    for (std::size_t i = 0; i < slots.size(); i++) {
        slots[i] = {a.take(to_64.of[i % n_sizes]), to_64.of[i % n_sizes]};
        if (slots[i].block == nullptr)
            give_up("no memory");
        touch(slots[i].block);
    }
}

// Until the time is over, looked at every so many calls: a list that is walked may take as long as it likes.
template <class A> double replace(A &a, std::vector<slot> &slots, unsigned seed, std::size_t n, std::size_t step)
{
    double start = cpu_ns();
    std::size_t done = 0;
    while (done < n && cpu_ns() - start < 2e9) {
        for (std::size_t i = 0; i < step; i++) {
            slot &one = slots[next(seed) % slots.size()];
            a.give(one.block, one.bytes);
            one.bytes = to_64.of[(done + i + seed) % n_sizes];
            one.block = a.take(one.bytes);
            touch(one.block);
        }
        done += step;
    }
    return (cpu_ns() - start) / static_cast<double>(done);
}

template <class A> double replace_among(std::size_t live)
{
    A a(live * 48);
    std::vector<slot> slots(live);
    fill(a, slots);
    std::size_t step = std::is_same_v<A, first_fit> && live > 10000 ? 20 : 1000;
    replace(a, slots, 77, step, step);
    double result = replace(a, slots, 1, times(live > 1000000 ? 2e6 : 1e6), step);
    if constexpr (!std::is_same_v<A, first_fit>) { // which is never done
        for (slot &one : slots)
            a.give(one.block, one.bytes);
    }
    return result;
}

template <class A> double on_threads(unsigned n_threads)
{
    A a(n_threads * 1000 * 64);
    std::vector<std::vector<slot>> slots(n_threads, std::vector<slot>(1000));
    for (auto &own : slots)
        fill(a, own);
    std::size_t n = times(2e6 / n_threads);
    double start = cpu_ns();
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < n_threads; i++)
        threads.emplace_back([&a, &own = slots[i], i, n] {
            unsigned seed = i + 1;
            for (std::size_t k = 0; k < n; k++) {
                slot &one = own[next(seed) % own.size()];
                a.give(one.block, one.bytes);
                one.bytes = to_64.of[k % n_sizes];
                one.block = a.take(one.bytes);
                touch(one.block);
            }
        });
    for (std::thread &thread : threads)
        thread.join();
    double result = (cpu_ns() - start) / static_cast<double>(n * n_threads);
    for (auto &own : slots)
        for (slot &one : own)
            a.give(one.block, one.bytes);
    return result;
}

// ---- rows --------------------------------------------------------------------------------------------------------

struct cell {
    std::string contender;
    std::function<double()> run;
    std::vector<double> ns;
};

struct row {
    std::string name;
    std::vector<cell> cells;
};

std::vector<row> rows;

void add(const char *contender, double (*run)())
{
    rows.back().cells.push_back({contender, run, {}});
}

template <class A> void add_replace(const char *contender, std::size_t live)
{
    rows.back().cells.push_back({contender, [live] { return replace_among<A>(live); }, {}});
}

template <class A> void add_threads(const char *contender, unsigned n)
{
    rows.back().cells.push_back({contender, [n] { return on_threads<A>(n); }, {}});
}

template <template <class> class Case> void add_all_at_once()
{
    add("allot bump", Case<arena_bump>::run);
    add("allot bump, shared", Case<arena_bump_shared>::run);
    add("allot general", Case<arena_alone>::run);
#if HAVE_OBSTACK
    add("obstack", Case<an_obstack>::run);
#endif
    add("std::pmr monotonic", Case<pmr_monotonic>::run);
#if BENCH_APR
    add("APR pool", Case<apr>::run);
#endif
#if BENCH_TALLOC
    add("talloc", Case<talloc_context>::run);
    add("talloc pool", Case<talloc_of_a_pool>::run);
#endif
    add("std::pmr pool", Case<pmr_alone>::run);
    add("allot heap", Case<heap>::run);
    add("libc", Case<libc>::run);
}

template <class A> struct bump_case {
    static double run()
    {
        return bump<A>();
    }
};

template <class A> struct request_case {
    static double run()
    {
        return request<A>();
    }
};

void add_pairs()
{
    add("allot general", pair<arena_alone>);
    add("allot general, shared", pair<arena_shared>);
    add("allot first fit", pair<arena_first>);
    add("allot best fit", pair<arena_best>);
    add("allot heap", pair<heap>);
    add("std::pmr pool", pair<pmr_alone>);
#if BENCH_TALLOC
    add("talloc", pair<talloc_context>);
#endif
    add("first-fit list", pair<first_fit>);
    add("libc", pair<libc>);
}

void add_replaces(std::size_t live)
{
    add_replace<arena_alone>("allot general", live);
    add_replace<arena_shared>("allot general, shared", live);
    add_replace<arena_first>("allot first fit", live);
    add_replace<arena_best>("allot best fit", live);
    add_replace<heap>("allot heap", live);
    add_replace<pmr_alone>("std::pmr pool", live);
#if BENCH_TALLOC
    add_replace<talloc_context>("talloc", live);
#endif
    add_replace<first_fit>("first-fit list", live);
    add_replace<libc>("libc", live);
}

void add_thread_rows(unsigned n)
{
    add_threads<arena_shared>("allot general, shared", n);
    add_threads<heap>("allot heap", n);
    add_threads<pmr_shared>("std::pmr pool, synchronized", n);
    add_threads<first_fit>("first-fit list", n);
    add_threads<libc>("libc", n);
}

double median(std::vector<double> of)
{
    std::sort(of.begin(), of.end());
    return of[of.size() / 2];
}

void show(const row &one)
{
    double best = 0;
    std::printf("%s\n", one.name.c_str());
    for (const cell &cell : one.cells)
        if (cell.contender.compare(0, 5, "allot") == 0 && cell.contender != "allot heap")
            best = best == 0 ? median(cell.ns) : std::min(best, median(cell.ns));
    for (const cell &cell : one.cells)
        std::printf("  %-28s %10.2f ns  %8.2f\n", cell.contender.c_str(), median(cell.ns), median(cell.ns) / best);
    std::fflush(stdout);
}

} // namespace

int main(int argc, char **argv)
{
    work = argc > 1 ? std::atof(argv[1]) : 1;
    std::size_t rounds = argc > 2 ? static_cast<std::size_t>(std::atoi(argv[2])) : 5;
    std::size_t most = argc > 3 ? static_cast<std::size_t>(std::atol(argv[3])) : 10000000;
    rows.push_back({"bump, a block", {}});
    add_all_at_once<bump_case>();
    rows.push_back({"request, a block", {}});
    add_all_at_once<request_case>();
    rows.push_back({"pair", {}});
    add_pairs();
    for (std::size_t live = 1000; live <= most; live *= 100) {
        rows.push_back({"replace among " + std::to_string(live), {}});
        add_replaces(live);
    }
    for (unsigned n = 2; n <= 8; n *= 4) {
        rows.push_back({std::to_string(n) + " threads, replace", {}});
        add_thread_rows(n);
    }
    for (row &one : rows) {
        for (std::size_t round = 0; round < rounds; round++)
            for (std::size_t i = 0; i < one.cells.size(); i++) {
                cell &now = one.cells[(i + round) % one.cells.size()];
                now.ns.push_back(now.run());
            }
        show(one);
    }
    return 0;
}
