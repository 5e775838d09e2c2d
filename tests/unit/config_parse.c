/* SPDX-License-Identifier: MIT */
/* config_parse.c - what a text in the form of ALLOT_OPTIONS says, and what is said about what is wrong in it. */
#include "child.h"

#include "config/config.h"
#include "os/os.h"

static struct config_parsed parsed;
static char said[4096];
static size_t said_length;

static void complain(const char *line, size_t length)
{
    assert_int_equal(strlen(line), length);
    assert_int_equal(line[length - 1], '\n');
    assert_true(said_length + length < sizeof said);
    memcpy(said + said_length, line, length + 1);
    said_length += length;
}

static void start(void)
{
    parsed = (struct config_parsed){.complain = complain};
    for (enum option_id id = 0; id < OPT_COUNT; id++) {
        parsed.values[id] = option_row(id)->initial;
    }
    said[0] = '\0';
    said_length = 0;
}

static int64_t value_of(const char *text, enum option_id id)
{
    start();
    config_parse(text, &parsed);
    for (enum option_id other = 0; other < OPT_COUNT; other++) {
        assert_true(other == id || parsed.values[other] == option_row(other)->initial);
    }
    return parsed.values[id];
}

/* The text is right, and sets that option to that value alone. */
#define ASSERT_SETS(text, id, value)                                                                                   \
    do {                                                                                                               \
        assert_int_equal(value_of(text, id), value);                                                                   \
        assert_string_equal(said, "");                                                                                 \
        assert_int_equal(parsed.n_complaints, 0);                                                                      \
    } while (0)

/* The text is wrong: this is said, what holds in the place of %s, and the option has the value that was said. Defaults
 * and bounds are the table's, and may be tuned. */
static void assert_says(const char *text, enum option_id id, int64_t value, const char *format)
{
    char expected[512];
    char shown[64];
    struct text words = text_in(shown, sizeof shown);
    option_add_value(&words, id, value);
    snprintf(expected, sizeof expected - 1, format, shown);
    strcat(expected, "\n");
    assert_int_equal(value_of(text, id), value);
    assert_string_equal(said, expected);
    assert_int_equal(parsed.n_complaints, 1);
}

static void assert_keeps(const char *text, enum option_id id, const char *format)
{
    assert_says(text, id, option_row(id)->initial, format);
}

static void numbers(void **state)
{
    (void)state;
    ASSERT_SETS("purge_age=0", OPT_purge_age, 0);
    ASSERT_SETS("purge_age=1000", OPT_purge_age, 1000);
    ASSERT_SETS("purge_age=3600000", OPT_purge_age, 3600000);
    ASSERT_SETS("purge_age=0x10", OPT_purge_age, 16);
    ASSERT_SETS("bin_limit=00512", OPT_bin_limit, 512);
}

static void sizes(void **state)
{
    (void)state;
    ASSERT_SETS("purge_cap=0", OPT_purge_cap, 0);
    ASSERT_SETS("purge_cap=4097", OPT_purge_cap, 4097);
    ASSERT_SETS("purge_cap=64k", OPT_purge_cap, 65536);
    ASSERT_SETS("purge_cap=64K", OPT_purge_cap, 65536);
    ASSERT_SETS("purge_cap=64KiB", OPT_purge_cap, 65536);
    ASSERT_SETS("purge_cap=8m", OPT_purge_cap, INT64_C(8) << 20);
    ASSERT_SETS("purge_cap=8mib", OPT_purge_cap, INT64_C(8) << 20);
    ASSERT_SETS("purge_cap=3g", OPT_purge_cap, INT64_C(3) << 30);
    ASSERT_SETS("purge_cap=2T", OPT_purge_cap, INT64_C(2) << 40);
}

static void limits_take_shares(void **state)
{
    (void)state;
    ASSERT_SETS("hard_limit=512m", OPT_hard_limit, INT64_C(512) << 20);
    ASSERT_SETS("hard_limit=0%", OPT_hard_limit, 0);
    size_t memory = os_memory_limit();
    int64_t half = value_of("soft_limit=50%", OPT_soft_limit);
    int64_t all = value_of("soft_limit=100%", OPT_soft_limit);
    assert_int_equal(parsed.n_complaints, 0);
    assert_true(memory == SIZE_MAX || (all > (int64_t)(memory - memory / 50) && all <= (int64_t)memory));
    assert_true(half == all / 2);
}

static void words_and_flags(void **state)
{
    (void)state;
    ASSERT_SETS("purge=dontneed", OPT_purge, PURGE_DONTNEED);
    ASSERT_SETS("purge=free", OPT_purge, PURGE_FREE);
    ASSERT_SETS("source=brk", OPT_source, SOURCE_BRK);
    ASSERT_SETS("huge_pages=never", OPT_huge_pages, HUGE_NEVER);
    ASSERT_SETS("huge_pages=auto", OPT_huge_pages, HUGE_AUTO);
    ASSERT_SETS("huge_pages=always", OPT_huge_pages, HUGE_ALWAYS);
    ASSERT_SETS("realloc_zero=keep", OPT_realloc_zero, REALLOC_ZERO_KEEP);
    ASSERT_SETS("stats", OPT_stats, 1);
    ASSERT_SETS("stats=1", OPT_stats, 1);
    ASSERT_SETS("stats=on", OPT_stats, 1);
    ASSERT_SETS("stats=1,stats=0", OPT_stats, 0);
    ASSERT_SETS("stats,stats=false", OPT_stats, 0);
    ASSERT_SETS("fill=off", OPT_fill, -1);
    ASSERT_SETS("fill=0", OPT_fill, 0);
    ASSERT_SETS("fill=0xdf", OPT_fill, 0xdf);
}

static void lists(void **state)
{
    (void)state;
    start();
    config_parse(",, purge_age=1,\tstats\n,purge=free,", &parsed);
    assert_int_equal(parsed.n_complaints, 0);
    assert_int_equal(parsed.values[OPT_purge_age], 1);
    assert_int_equal(parsed.values[OPT_stats], 1);
    assert_int_equal(parsed.values[OPT_purge], PURGE_FREE);
    ASSERT_SETS("", OPT_stats, 0);
    ASSERT_SETS("purge_age=1,purge_age=2", OPT_purge_age, 2);
    start();
    config_parse("nonsense,purge_age=7,stats=maybe,purge=free", &parsed);
    assert_int_equal(parsed.n_complaints, 2);
    assert_int_equal(parsed.values[OPT_purge_age], 7);
    assert_int_equal(parsed.values[OPT_purge], PURGE_FREE);
}

static void unknown_names(void **state)
{
    (void)state;
    assert_keeps("purge_aeg=5", OPT_purge_age, "allot: option \"purge_aeg\" is unknown; nearest is \"purge_age\"");
    assert_keeps("prge_cap=5", OPT_purge_cap, "allot: option \"prge_cap\" is unknown; nearest is \"purge_cap\"");
    assert_keeps("Stats", OPT_stats, "allot: option \"Stats\" is unknown; nearest is \"stats\"");
    assert_keeps("sorce=brk", OPT_source, "allot: option \"sorce\" is unknown; nearest is \"source\"");
    assert_keeps("stat", OPT_stats, "allot: option \"stat\" is unknown; nearest is \"stats\"");
    assert_keeps("hlep", OPT_help, "allot: option \"hlep\" is unknown; nearest is \"help\"");
    assert_keeps("bin_bits=3", OPT_bin_bytes, "allot: option \"bin_bits\" is unknown; nearest is \"bin_bytes\"");
}

static void assert_least(const char *text, enum option_id id, const char *format)
{
    assert_says(text, id, option_row(id)->least, format);
}

static void assert_most(const char *text, enum option_id id, const char *format)
{
    assert_says(text, id, option_row(id)->most, format);
}

static void values_out_of_bounds(void **state)
{
    (void)state;
    assert_most("purge_age=99999999", OPT_purge_age, "allot: option purge_age=99999999: the most is %s; using that");
    assert_least("purge_age=-1", OPT_purge_age, "allot: option purge_age=-1: the least is %s; using that");
    assert_least("bin_limit=0", OPT_bin_limit, "allot: option bin_limit=0: the least is %s; using that");
    assert_least("mmap_threshold=1k", OPT_mmap_threshold,
                 "allot: option mmap_threshold=1k: the least is %s; using that");
    assert_most("bin_bytes=99999999999999999999999g", OPT_bin_bytes,
                "allot: option bin_bytes=99999999999999999999999g: the most is %s; using that");
    assert_most("bin_bytes=9000000000t", OPT_bin_bytes,
                "allot: option bin_bytes=9000000000t: the most is %s; using that");
    assert_most("fill=256", OPT_fill, "allot: option fill=256: the most is %s; using that");
}

static void values_of_another_kind(void **state)
{
    (void)state;
    assert_keeps("purge_age=soon", OPT_purge_age, "allot: option purge_age=soon: not a number; using %s");
    assert_keeps("purge_age=5m", OPT_purge_age, "allot: option purge_age=5m: not a number; using %s");
    assert_keeps("purge_age=", OPT_purge_age, "allot: option purge_age=: not a number; using %s");
    assert_keeps("purge_age=-", OPT_purge_age, "allot: option purge_age=-: not a number; using %s");
    assert_keeps("purge_age=0x", OPT_purge_age, "allot: option purge_age=0x: not a number; using %s");
    assert_keeps("purge_age", OPT_purge_age, "allot: option purge_age: needs a value; using %s");
    assert_keeps("purge_cap=4q", OPT_purge_cap,
                 "allot: option purge_cap=4q: not a size such as 4096, 64k, 4m or 1g; using %s");
    assert_keeps("purge_cap=4kb", OPT_purge_cap,
                 "allot: option purge_cap=4kb: not a size such as 4096, 64k, 4m or 1g; using %s");
    assert_keeps("purge_cap=10%", OPT_purge_cap,
                 "allot: option purge_cap=10%%: not a size such as 4096, 64k, 4m or 1g; using %s");
    assert_keeps("hard_limit=101%", OPT_hard_limit,
                 "allot: option hard_limit=101%%: not a size such as 512m or a share such as 75%%; using %s");
    assert_keeps("hard_limit=%", OPT_hard_limit,
                 "allot: option hard_limit=%%: not a size such as 512m or a share such as 75%%; using %s");
    assert_keeps("purge=fere", OPT_purge,
                 "allot: option purge=fere: not one of dontneed|free; nearest is \"free\"; using %s");
    assert_keeps("purge", OPT_purge, "allot: option purge: needs a value, one of dontneed|free; using %s");
    assert_keeps("purge=", OPT_purge, "allot: option purge=: not one of dontneed|free; nearest is \"free\"; using %s");
    assert_keeps("stats=2", OPT_stats, "allot: option stats=2: not 0 or 1; using %s");
    assert_keeps("fill=none", OPT_fill, "allot: option fill=none: not a byte or off; using %s");
    assert_says("purge_age=9,purge_age=x", OPT_purge_age, 9, "allot: option purge_age=x: not a number; using %s");
}

static void complaints_are_fit_for_a_terminal(void **state)
{
    (void)state;
    char text[5000];
    assert_keeps("st\033[2Jats", OPT_stats, "allot: option \"st?[2Jats\" is unknown; nearest is \"stats\"");
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    value_of(text, OPT_stats);
    assert_int_equal(parsed.n_complaints, 1);
    assert_true(said_length < 120);
    assert_non_null(strstr(said, "aaa...\" is unknown"));
    memcpy(text, "purge=", 6);
    value_of(text, OPT_purge);
    assert_true(said_length < 200);
    assert_non_null(strstr(said, "; using "));
}

/* Whatever the text, values stay in their bounds and the count is the lines said. */
static void random_texts_stay_in_bounds(void **state)
{
    (void)state;
    static const char *const pieces[] = {"purge_age",  "purge", "=",     ",",  "free", "-",   "9",    "99999999999",
                                         "k",          "%",     "stats", "0x", " ",    "off", "\xff", "fill",
                                         "hard_limit", "\n",    "|",     "==", "mib",  "a b"};
    srand(1);
    for (int round = 0; round < (SANITIZED ? 5000 : 100000); round++) {
        char text[256] = "";
        for (int n = rand() % 12; n > 0; n--) {
            strcat(text, pieces[(size_t)rand() % (sizeof pieces / sizeof pieces[0])]);
        }
        start();
        parsed.complain = round % 2 == 0 ? complain : NULL;
        config_parse(text, &parsed);
        size_t lines = 0;
        for (const char *s = said; *s != '\0'; s++) {
            lines += *s == '\n';
        }
        assert_int_equal(lines, round % 2 == 0 ? parsed.n_complaints : 0);
        for (enum option_id id = 0; id < OPT_COUNT; id++) {
            assert_true(parsed.values[id] >= option_row(id)->least && parsed.values[id] <= option_row(id)->most);
        }
    }
}

static void values_are_shown_as_they_are_written(void **state)
{
    (void)state;
    /* What option_add_value shows, without its space and its unit, sets the same value again. */
    for (enum option_id id = 0; id < OPT_COUNT; id++) {
        const struct option_row *row = option_row(id);
        if (row->kind == OPTION_TEXT) {
            continue; /* what is shown is whether there is one */
        }
        const int64_t values[] = {row->least, row->initial, row->most};
        for (size_t i = 0; i < 3; i++) {
            char shown[128];
            struct text text = text_in(shown, sizeof shown);
            text_add(&text, row->name);
            text_add(&text, "=");
            option_add_value(&text, id, values[i]);
            char *space = strchr(shown, ' ');
            if (space != NULL && row->kind != OPTION_NUMBER && strcmp(space, " bytes") != 0) {
                memmove(space, space + 1, strlen(space));
            } else if (space != NULL) {
                *space = '\0';
            }
            start();
            config_parse(shown, &parsed);
            assert_string_equal(said, "");
            assert_int_equal(parsed.values[id], values[i]);
        }
    }
}

static void texts_are_kept_one_by_one(void **state)
{
    (void)state;
    start();
    config_parse("symbols=/some/path,report_file=r.json,only=", &parsed);
    assert_string_equal(said, "");
    assert_string_equal(parsed.texts + parsed.values[OPT_symbols] - 1, "/some/path");
    assert_string_equal(parsed.texts + parsed.values[OPT_report_file] - 1, "r.json");
    assert_int_equal(parsed.values[OPT_only], 0);
    start();
    config_parse("symbols", &parsed);
    assert_string_equal(said, "allot: option symbols: needs a value; using none\n");
}

static void a_mode_stands_alone(void **state)
{
    (void)state;
    start();
    config_parse("check", &parsed);
    assert_int_equal(parsed.values[OPT_check], CHECK_ON);
    config_parse("check=full", &parsed);
    assert_int_equal(parsed.values[OPT_check], CHECK_FULL);
    config_parse("check=off", &parsed);
    assert_int_equal(parsed.values[OPT_check], CHECK_OFF);
    assert_string_equal(said, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers),
        cmocka_unit_test(texts_are_kept_one_by_one),
        cmocka_unit_test(a_mode_stands_alone),
        cmocka_unit_test(sizes),
        cmocka_unit_test(limits_take_shares),
        cmocka_unit_test(words_and_flags),
        cmocka_unit_test(lists),
        cmocka_unit_test(unknown_names),
        cmocka_unit_test(values_out_of_bounds),
        cmocka_unit_test(values_of_another_kind),
        cmocka_unit_test(complaints_are_fit_for_a_terminal),
        cmocka_unit_test(random_texts_stay_in_bounds),
        cmocka_unit_test(values_are_shown_as_they_are_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
