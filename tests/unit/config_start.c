/* SPDX-License-Identifier: MIT */
/* config_start.c - ALLOT_OPTIONS at start, each case in a fresh process, and changes later. */
#include "child.h"

#include <pthread.h>
#include <signal.h>

#include "config/config.h"

static void start_with(const char *options)
{
    if (options == NULL) {
        unsetenv("ALLOT_OPTIONS");
    } else {
        setenv("ALLOT_OPTIONS", options, 1);
    }
    config_init();
}

static void check_defaults(void *options)
{
    for (enum option_id id = 0; id < OPT_COUNT; id++) {
        EXPECT(option(id) == option_row(id)->initial); /* before anything has been read */
    }
    start_with(options);
    for (enum option_id id = 0; id < OPT_COUNT; id++) {
        EXPECT(option(id) == option_row(id)->initial);
    }
}

static void defaults_hold_without_options(void **state)
{
    (void)state;
    assert_string_equal(child_succeeds(check_defaults, NULL).said, "");
    assert_string_equal(child_succeeds(check_defaults, "").said, "");
}

static void check_values(void *options)
{
    start_with(options);
    EXPECT(option(OPT_purge_age) == 1000);
    EXPECT(option(OPT_source) == SOURCE_BRK);
    EXPECT(option(OPT_purge_cap) == option_row(OPT_purge_cap)->initial);
    setenv("ALLOT_OPTIONS", "purge_age=5,bin_limit=10,nonsense", 1);
    config_init();
    EXPECT(option(OPT_bin_limit) == option_row(OPT_bin_limit)->initial);
    EXPECT(option(OPT_purge_age) == 1000); /* it is read once */
}

static void options_are_read_once(void **state)
{
    (void)state;
    struct child child = child_succeeds(check_values, "purge_age=1000,source=brk,sorce");
    assert_string_equal(child.said, "allot: option \"sorce\" is unknown; nearest is \"source\"\n");
}

static void check_changes(void *options)
{
    setenv("ALLOT_OPTIONS", options, 1);
    /* before anybody has read the environment, and to what it is already */
    EXPECT(option_set(OPT_remote_batch, option_row(OPT_remote_batch)->initial));
    EXPECT(option_set(OPT_purge_age, 7));
    config_init();
    EXPECT(option(OPT_purge_age) == 7);
    EXPECT(option(OPT_bin_limit) == 100);
    EXPECT(option(OPT_remote_batch) == option_row(OPT_remote_batch)->initial);
    EXPECT(!option_set(OPT_purge_age, -1));
    EXPECT(!option_set(OPT_purge_age, 3600001));
    EXPECT(option(OPT_purge_age) == 7);
    EXPECT(option_set(OPT_purge_age, 3600000));
    EXPECT(option(OPT_purge_age) == 3600000);
    EXPECT(option_set(OPT_fill, -1) && !option_set(OPT_fill, -2) && !option_set(OPT_fill, 256));
    EXPECT(!option_set(OPT_purge, 2));
}

static void the_program_has_the_last_word(void **state)
{
    (void)state;
    assert_string_equal(child_succeeds(check_changes, "purge_age=1000,bin_limit=100,remote_batch=3").said, "");
}

static void start_quietly(void *options)
{
    start_with(options);
}

static void help_prints_every_option(void **state)
{
    (void)state;
    struct child child = child_succeeds(start_quietly, "help,purge_age=77");
    for (enum option_id id = 0; id < OPT_COUNT; id++) {
        char begins[64];
        snprintf(begins, sizeof begins, "allot:   %s = ", option_row(id)->name);
        const char *line = strstr(child.said, begins);
        assert_non_null(line);
        const char *end = strchr(line, '\n');
        size_t help = strlen(option_row(id)->help);
        assert_true(end != NULL && (size_t)(end - line) > help); /* whole, not cut */
        assert_memory_equal(end - help, option_row(id)->help, help);
    }
    assert_non_null(strstr(child.said, "allot:   purge_age = 77 ms (0 ms to 3600000 ms): "));
}

static void too_long_options_are_cut_and_said(void **state)
{
    (void)state;
    static char options[3000] = "purge_age=1000,source=brk,";
    memset(options + strlen(options), ',', sizeof options - 1 - strlen(options));
    struct child child = child_succeeds(check_values, options);
    assert_int_equal(strncmp(child.said, "allot: ALLOT_OPTIONS is too long", 32), 0);
}

enum { THREADS = 8 };
static pthread_barrier_t together;

static void *race(void *unused)
{
    (void)unused;
    pthread_barrier_wait(&together);
    config_init();
    EXPECT(option(OPT_purge_age) == 1000 && option(OPT_bin_limit) == 99 && option(OPT_stats) == 1);
    return NULL;
}

static void start_in_many_threads(void *options)
{
    pthread_t threads[THREADS];
    setenv("ALLOT_OPTIONS", options, 1);
    pthread_barrier_init(&together, NULL, THREADS);
    for (int i = 0; i < THREADS; i++) {
        EXPECT(pthread_create(&threads[i], NULL, race, NULL) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
}

static void threads_that_race_see_one_start(void **state)
{
    (void)state;
    for (int round = 0; round < 30; round++) {
        struct child child = child_succeeds(start_in_many_threads, "purge_age=1000,nosense,bin_limit=99,stats");
        assert_string_equal(child.said, "allot: option \"nosense\" is unknown; nearest is \"source\"\n");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_hold_without_options),     cmocka_unit_test(options_are_read_once),
        cmocka_unit_test(the_program_has_the_last_word),     cmocka_unit_test(help_prints_every_option),
        cmocka_unit_test(too_long_options_are_cut_and_said), cmocka_unit_test(threads_that_race_see_one_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
