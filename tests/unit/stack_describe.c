/* SPDX-License-Identifier: MIT */
/* stack_describe.c - where a pointer lies that is no block, in words. */
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>

#include "base/base.h"
#include "os/os.h"
#include "stack/stack.h"

static int data_word = 1;
static char zeroed[3 * 65536];
static const char constant[] = "constant";

static char words[256];

static const char *describe(const void *address)
{
    errno = 12345;
    const char *result = stack_describe(address, words, sizeof words);
    assert_int_equal(errno, 12345);
    return result;
}

static bool count(const struct os_mapping *mapping, void *context)
{
    (void)mapping;
    ++*(int *)context;
    return true;
}

static bool platform_can_tell(void)
{
    int n = 0;
    return os_mappings(count, &n) == 0;
}

static void platform_that_cannot_tell_says_little(void **state)
{
    (void)state;
    if (platform_can_tell()) {
        skip();
    }
    assert_string_equal(describe(&data_word), "not allot's");
}

static void program_and_libraries(void **state)
{
    (void)state;
    if (!platform_can_tell()) {
        skip();
    }
    assert_string_equal(describe((const void *)(uintptr_t)describe), "in the code of unit.stack_describe");
    assert_string_equal(describe(&data_word), "in the data of unit.stack_describe");
    assert_string_equal(describe(constant), "in the data of unit.stack_describe");
    for (size_t i = 0; i < sizeof zeroed; i += 4096) {
        assert_string_equal(describe(zeroed + i), "in the data of unit.stack_describe");
    }
    describe((const void *)(uintptr_t)getppid);
    assert_int_equal(strncmp(words, "in the code of ", 15), 0);
    assert_null(strchr(words, '/'));
}

static void *describe_own_stack(void *first)
{
    char local = 0;
    char text[128];
    EXPECT(strcmp(stack_describe(&local, text, sizeof text), "on the stack") == 0);
    EXPECT(strcmp(stack_describe(first, text, sizeof text), "on the stack") == 0);
    return NULL;
}

static void stacks(void **state)
{
    (void)state;
    char local = 0;
    pthread_t thread;
    if (!platform_can_tell()) {
        skip();
    }
    assert_string_equal(describe(&local), "on the stack");
    assert_string_equal(describe(environ[0]), "on the stack");
    assert_int_equal(pthread_create(&thread, NULL, describe_own_stack, &local), 0);
    pthread_join(thread, NULL);
}

static void nothing(void **state)
{
    (void)state;
    if (!platform_can_tell()) {
        skip();
    }
    char *p = os_map(4 * os_page_bytes(), os_page_bytes());
    assert_string_equal(describe(p), "in memory that allot did not give out");
    assert_int_equal(os_release(p, 4 * os_page_bytes()), 0);
    assert_string_equal(describe(p), "not mapped");
    for (unsigned i = 0; i < 64; i += 7) {
        describe((const void *)(uintptr_t)(UINT64_C(1) << i));
        describe((const void *)(uintptr_t) ~(UINT64_C(1) << i));
    }
    assert_string_equal(describe(NULL), "not mapped");
    assert_string_equal(describe((const void *)UINTPTR_MAX), "not mapped");
    assert_string_equal(describe((const void *)((uintptr_t)1 << 62)), "not mapped");
}

static void short_buffers_are_kept(void **state)
{
    (void)state;
    char whole[128] = "";
    stack_describe(whole, whole, sizeof whole);
    for (size_t n = 1; n <= 20; n++) {
        char text[21];
        memset(text, '#', sizeof text);
        assert_ptr_equal(stack_describe(whole, text, n), text);
        assert_int_equal(strlen(text), size_min(n - 1, strlen(whole)));
        assert_true(n == 20 || text[n] == '#');
    }
}

static void files(void **state)
{
    (void)state;
    char path[64];
    char expected[96];
    if (!platform_can_tell()) {
        skip();
    }
    snprintf(path, sizeof path, "/var/tmp/allot with space %d", (int)getpid());
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 4096), 0);
    void *file = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    assert_true(file != MAP_FAILED);
    close(fd);
    unlink(path);
    snprintf(expected, sizeof expected, "in the mapping of allot with space %d (deleted)", (int)getpid());
    assert_string_equal(describe(file), expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(platform_that_cannot_tell_says_little),
        cmocka_unit_test(program_and_libraries),
        cmocka_unit_test(stacks),
        cmocka_unit_test(nothing),
        cmocka_unit_test(short_buffers_are_kept),
        cmocka_unit_test(files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
