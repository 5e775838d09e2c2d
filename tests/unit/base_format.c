/* SPDX-License-Identifier: MIT */
/* base_format.c - text into a fixed buffer: nothing is lost that fits, nothing written that doesn't. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/format.h"

static void text_begins_empty(void **state)
{
    (void)state;
    char buffer[4] = "xyz";
    struct text text = text_in(buffer, sizeof buffer);
    assert_string_equal(text.bytes, "");
    assert_int_equal(text.length, 0);
}

static void text_is_cut_at_every_capacity(void **state)
{
    (void)state;
    static const char whole[] = "allot: -42 0xbeef 1.5 KiB";
    for (size_t capacity = 1; capacity <= sizeof whole + 2; capacity++) {
        char buffer[64];
        memset(buffer, '#', sizeof buffer);
        struct text text = text_in(buffer, capacity);
        text_add(&text, "allot: ");
        text_add_signed(&text, -42);
        text_add(&text, " ");
        text_add_hex(&text, 0xbeef);
        text_add(&text, " ");
        text_add_bytes(&text, 1536);
        size_t length = capacity - 1 < sizeof whole - 1 ? capacity - 1 : sizeof whole - 1;
        assert_int_equal(text.length, length);
        assert_memory_equal(buffer, whole, length);
        assert_int_equal(buffer[length], '\0');
        for (size_t i = capacity; i < sizeof buffer; i++) {
            assert_int_equal(buffer[i], '#');
        }
    }
}

#define ASSERT_TEXT(call, expected)                                                                                    \
    do {                                                                                                               \
        char buffer[64];                                                                                               \
        struct text text = text_in(buffer, sizeof buffer);                                                             \
        call;                                                                                                          \
        assert_string_equal(text.bytes, expected);                                                                     \
        assert_int_equal(text.length, strlen(expected));                                                               \
    } while (0)

static void numbers_to_their_limits(void **state)
{
    (void)state;
    ASSERT_TEXT(text_add_unsigned(&text, 0), "0");
    ASSERT_TEXT(text_add_unsigned(&text, 9), "9");
    ASSERT_TEXT(text_add_unsigned(&text, 10), "10");
    ASSERT_TEXT(text_add_unsigned(&text, UINT64_MAX), "18446744073709551615");
    ASSERT_TEXT(text_add_signed(&text, 0), "0");
    ASSERT_TEXT(text_add_signed(&text, -1), "-1");
    ASSERT_TEXT(text_add_signed(&text, INT64_MAX), "9223372036854775807");
    ASSERT_TEXT(text_add_signed(&text, INT64_MIN), "-9223372036854775808");
    ASSERT_TEXT(text_add_hex(&text, 0), "0x0");
    ASSERT_TEXT(text_add_hex(&text, 0x7f12a0), "0x7f12a0");
    ASSERT_TEXT(text_add_hex(&text, UINT64_MAX), "0xffffffffffffffff");
}

static void bytes_in_the_widest_unit(void **state)
{
    (void)state;
    ASSERT_TEXT(text_add_bytes(&text, 0), "0 B");
    ASSERT_TEXT(text_add_bytes(&text, 1023), "1023 B");
    ASSERT_TEXT(text_add_bytes(&text, 1024), "1.0 KiB");
    ASSERT_TEXT(text_add_bytes(&text, 1536), "1.5 KiB");
    ASSERT_TEXT(text_add_bytes(&text, (UINT64_C(1) << 20) - 1), "1023.9 KiB");
    ASSERT_TEXT(text_add_bytes(&text, UINT64_C(20) << 30), "20.0 GiB");
    ASSERT_TEXT(text_add_bytes(&text, UINT64_MAX), "15.9 EiB");
}

static void columns_are_right_aligned(void **state)
{
    (void)state;
    ASSERT_TEXT(text_add_column(&text, "ab", 5), "   ab");
    ASSERT_TEXT(text_add_column(&text, "abcde", 5), "abcde");
    ASSERT_TEXT(text_add_column(&text, "abcdef", 5), "abcdef");
    ASSERT_TEXT(text_add_column(&text, "", 0), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_begins_empty),         cmocka_unit_test(text_is_cut_at_every_capacity),
        cmocka_unit_test(numbers_to_their_limits),   cmocka_unit_test(bytes_in_the_widest_unit),
        cmocka_unit_test(columns_are_right_aligned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
