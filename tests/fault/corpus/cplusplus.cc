// SPDX-License-Identifier: MIT
// cplusplus.cc - what C++ adds: new and delete that don't belong together, deletes that are told a size, and the faults
// of the other files by new, delete and containers.
#include "corpus.h"

#include <memory>
#include <new>
#include <string>
#include <vector>

#define FAMILY "cplusplus"

namespace
{

// ---- what was taken one way and is given back another ------------------------------------------------------------

void *by_new(std::size_t size)
{
    return watch(::operator new(size), size);
}

void *by_new_array(std::size_t size)
{
    return watch(::operator new[](size), size);
}

void *by_malloc(std::size_t size)
{
    return watch(std::malloc(size), size);
}

void by_delete(void *block)
{
    ::operator delete(block);
}

void by_delete_array(void *block)
{
    ::operator delete[](block);
}

constexpr std::align_val_t aligned{256};

void *by_aligned_new(std::size_t size)
{
    return watch(::operator new(size, aligned), size);
}

void by_aligned_delete(void *block)
{
    ::operator delete(block, aligned);
}

void by_realloc(void *block)
{
    std::free(std::realloc(block, 200));
}

void mismatch(bool fault, void *(*take)(std::size_t), void (*give)(void *), void (*give_wrongly)(void *))
{
    void *block = take(100);
    if (fault) {
        misuse(0, "live");
        give_wrongly(block);
    } else {
        give(block);
    }
}

void malloc_and_delete(bool fault)
{
    mismatch(fault, by_malloc, std::free, by_delete);
}

void malloc_and_delete_array(bool fault)
{
    mismatch(fault, by_malloc, std::free, by_delete_array);
}

void new_and_free(bool fault)
{
    mismatch(fault, by_new, by_delete, std::free);
}

void new_array_and_free(bool fault)
{
    mismatch(fault, by_new_array, by_delete_array, std::free);
}

void new_and_delete_array(bool fault)
{
    mismatch(fault, by_new, by_delete, by_delete_array);
}

void new_array_and_delete(bool fault)
{
    mismatch(fault, by_new_array, by_delete_array, by_delete);
}

void new_and_realloc(bool fault)
{
    mismatch(fault, by_new, by_delete, by_realloc);
}

void aligned_new_and_delete(bool fault)
{
    mismatch(fault, by_aligned_new, by_aligned_delete, by_delete);
}

void new_and_aligned_delete(bool fault)
{
    mismatch(fault, by_new, by_delete, by_aligned_delete);
}

void aligned_new_and_free(bool fault)
{
    mismatch(fault, by_aligned_new, by_aligned_delete, std::free);
}

void string_copy_and_delete(bool fault)
{
    void *text = watch(strdup("made by strdup"), 15);
    if (fault) {
        misuse(0, "live");
        by_delete(text);
    } else {
        std::free(text);
    }
}

void shared_pointer_to_malloced(bool fault)
{
    void *block = by_malloc(sizeof(int));
    if (fault) {
        misuse(0, "live");
        std::shared_ptr<int> owner(static_cast<int *>(block));
    } else {
        std::shared_ptr<int> owner(static_cast<int *>(block), std::free);
    }
}

// ---- deletes that are told a size ---------------------------------------------------------------------------------

void told(bool fault, std::size_t asked, std::size_t size)
{
    void *block = by_new(asked);
    if (fault) {
        misuse(0, "live");
    }
    ::operator delete(block, fault ? size : asked);
}

void told_twice_the_size(bool fault)
{
    told(fault, 100, 200);
}

void told_one_more(bool fault)
{
    told(fault, 100, 101);
}

void told_too_little(bool fault)
{
    told(fault, 1000, 8);
}

void told_too_little_of_a_large_one(bool fault)
{
    told(fault, 1000000, 100);
}

struct base {
    long first = 1;
};

struct derived : base {
    char rest[300] = {};
};

// Without a virtual destructor the base's size is told.
void deleted_as_its_base(bool fault)
{
    derived *object = new derived;
    watch(object, sizeof *object);
    base *as_base = static_cast<base *>(hidden(object));
    if (fault) {
        misuse(0, "live");
        delete as_base;
    } else {
        delete static_cast<derived *>(as_base);
    }
}

// ---- double and invalid frees -------------------------------------------------------------------------------------

void deleted_twice(bool fault)
{
    void *block = by_new(100);
    by_delete(block);
    if (fault) {
        misuse(0, "free");
        by_delete(block);
    }
}

void array_deleted_twice(bool fault)
{
    void *block = by_new_array(100);
    by_delete_array(block);
    if (fault) {
        misuse(0, "free");
        by_delete_array(block);
    }
}

void owned_by_two(bool fault)
{
    void *block = by_new(sizeof(int));
    {
        std::unique_ptr<int> owner(static_cast<int *>(block));
    }
    if (fault) {
        misuse(0, "free");
        std::unique_ptr<int> other(static_cast<int *>(hidden(block)));
    }
}

struct left {
    virtual ~left() = default;
    long one = 1;
};

struct right {
    long two = 2;
};

struct both : left, right {
    long three = 3;
};

// The second base lies inside: its address is not the block's.
void deleted_as_its_second_base(bool fault)
{
    both *object = new both;
    watch(object, sizeof *object);
    right *second = static_cast<right *>(hidden(static_cast<right *>(object)));
    if (fault) {
        misuse(16, "live");
        delete second;
    } else {
        delete object;
    }
}

struct counted {
    ~counted()
    {
        hidden(this);
    }
    long value = 1;
};

// In front of the array stands how many there are.
void counted_array_deleted_as_one(bool fault)
{
    counted *array = new counted[5];
    watch(reinterpret_cast<char *>(array) - 8, 5 * sizeof(counted) + 8);
    if (fault) {
        misuse(8, "live");
        delete static_cast<counted *>(hidden(array));
    } else {
        delete[] array;
    }
}

void deleted_from_the_stack(bool fault)
{
    alignas(16) char local[64] = "";
    void *kept = by_new(20);
    if (fault) {
        misuse_outside(local, "on the stack");
        by_delete(hidden(local));
    }
    by_delete(kept);
}

// ---- memory used beyond its bounds or its life --------------------------------------------------------------------

void array_written_past(bool fault)
{
    int *array = new int[12];
    watch(array, 12 * sizeof(int));
    if (fault) {
        misuse(48, "live");
        write_byte(array + 12);
    }
    delete[] static_cast<int *>(hidden(array));
}

void array_written_below(bool fault)
{
    void *below[2] = {::operator new[](48), ::operator new[](48)};
    int *array = new int[12];
    watch(array, 12 * sizeof(int));
    if (fault) {
        misuse(-1, "live");
        write_byte(static_cast<char *>(hidden(array)) - 1);
    }
    delete[] static_cast<int *>(hidden(array));
    ::operator delete[](below[0]);
    ::operator delete[](below[1]);
}

void vector_written_past(bool fault)
{
    std::vector<long> numbers(6);
    long *data = static_cast<long *>(watch(numbers.data(), 6 * sizeof(long)));
    if (fault) {
        misuse(48, "live");
        write_byte(data + unknown(6));
    }
}

void vector_reference_kept(bool fault)
{
    std::vector<long> numbers(6);
    long *first = static_cast<long *>(watch(numbers.data(), 6 * sizeof(long)));
    numbers.resize(unknown(1000));
    if (fault) {
        misuse(8, "free");
        read_byte(first + 1);
    }
}

void string_view_kept(bool fault)
{
    const char *text;
    {
        std::string name(unknown(40), 'n');
        text = static_cast<const char *>(watch(name.data(), 41));
    }
    if (fault) {
        misuse(20, "free");
        read_byte(text + 20);
    }
}

struct shape {
    virtual ~shape() = default;
    virtual long area() const
    {
        return 7;
    }
};

struct square : shape {
    long area() const override
    {
        return side * side;
    }
    long side = 3;
};

// The first word of the freed object names its functions.
void called_after_delete(bool fault)
{
    shape *object = unknown(1) == 0 ? new shape : new square;
    watch(object, sizeof(square));
    object = static_cast<shape *>(hidden(object));
    delete object;
    if (fault) {
        misuse(0, "free");
        unknown(static_cast<std::size_t>(static_cast<shape *>(hidden(object))->area()));
    }
}

// ---- leaks --------------------------------------------------------------------------------------------------------

__attribute__((noinline)) void lose_new(bool fault)
{
    long *block = static_cast<long *>(hidden(new long[20]()));
    if (!fault) {
        delete[] block;
    }
}

void leak_of_new(bool fault)
{
    if (fault) {
        expect_line("^allot: leak of 0x[0-9a-f]+: ");
    }
    lose_new(fault);
    forget();
}

// What was taken before the exception is lost with the frame.
__attribute__((noinline)) void lose_by_exception(bool fault)
{
    try {
        void *volatile block = std::malloc(100);
        std::unique_ptr<void, void (*)(void *)> owner(fault ? nullptr : block, std::free);
        throw 1;
    } catch (int) {
    }
}

void leak_by_an_exception(bool fault)
{
    if (fault) {
        expect_line("^allot: leak of 0x[0-9a-f]+: ");
    }
    lose_by_exception(fault);
    forget();
}

const fault_case cases[] = {
    FAULT(malloc_and_delete, MISMATCHED, SILENT, NAMED, NAMED, NAMED),
    FAULT(malloc_and_delete_array, MISMATCHED, SILENT, NAMED, NAMED, NAMED),
    FAULT(new_and_free, MISMATCHED, SILENT, NAMED, NAMED, NAMED),
    FAULT(new_array_and_free, MISMATCHED, SILENT, NAMED, NAMED, NAMED),
    FAULT(new_and_delete_array, MISMATCHED, SILENT, NAMED, NAMED, NAMED),
    FAULT(new_array_and_delete, MISMATCHED, SILENT, NAMED, NAMED, NAMED),
    FAULT(new_and_realloc, MISMATCHED, SILENT, NAMED, NAMED, NAMED),
    FAULT(aligned_new_and_delete, MISMATCHED, SILENT, NAMED, NAMED, NAMED),
    FAULT(new_and_aligned_delete, MISMATCHED, SILENT, NAMED, NAMED, NAMED),
    FAULT(aligned_new_and_free, MISMATCHED, SILENT, NAMED, NAMED, NAMED),
    FAULT(string_copy_and_delete, MISMATCHED, SILENT, NAMED, NAMED, NAMED),
    FAULT(shared_pointer_to_malloced, MISMATCHED, SILENT, NAMED, NAMED, NAMED),
    FAULT(told_twice_the_size, WRONG_SIZE, SILENT, NAMED, NAMED, NAMED),
    FAULT(told_one_more, WRONG_SIZE, SILENT, NAMED, NAMED, NAMED),
    FAULT(told_too_little, WRONG_SIZE, SILENT, NAMED, NAMED, NAMED),
    FAULT(told_too_little_of_a_large_one, WRONG_SIZE, SILENT, NAMED, SILENT, NAMED),
    FAULT(deleted_as_its_base, WRONG_SIZE, SILENT, NAMED, NAMED, NAMED),
    FAULT(deleted_twice, DOUBLE_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(array_deleted_twice, DOUBLE_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(owned_by_two, DOUBLE_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(deleted_as_its_second_base, INVALID_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(counted_array_deleted_as_one, INVALID_FREE "|" MISMATCHED, NAMED, NAMED, NAMED, NAMED),
    FAULT(deleted_from_the_stack, INVALID_FREE, NAMED, NAMED, NAMED, NAMED),
    FAULT(array_written_past, BUFFER_OVERFLOW, STOPPED, NAMED, NAMED, NAMED),
    FAULT(array_written_below, BUFFER_UNDERFLOW, SILENT, NAMED, NAMED, NAMED),
    FAULT(vector_written_past, BUFFER_OVERFLOW, STOPPED, NAMED, NAMED, NAMED),
    FAULT(vector_reference_kept, USE_AFTER_FREE, SILENT, NAMED, SILENT, NAMED),
    FAULT(string_view_kept, USE_AFTER_FREE, SILENT, NAMED, SILENT, NAMED),
    FAULT(called_after_delete, USE_AFTER_FREE, STOPPED, NAMED, STOPPED, NAMED),
    FAULT(leak_of_new, LEAK, SILENT, NAMED, SILENT, NAMED),
    FAULT(leak_by_an_exception, LEAK, SILENT, NAMED, SILENT, NAMED),
};

} // namespace

const fault_family cplusplus = FAMILY_OF(cases);
