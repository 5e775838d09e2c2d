/* SPDX-License-Identifier: MIT */
/* malloc_figures.c - what <malloc.h> can be asked and told: mallopt, mallinfo2, malloc_info, malloc_stats, malloc_trim.
 */
#include "unit.h"

#include <fcntl.h>
#include <sys/wait.h>

/* What write_it puts on descriptor fd, which is redirected to a file meanwhile. */
static size_t captured(int fd, void (*write_it)(void), char *out, size_t capacity)
{
    char name[] = "/tmp/allot-captured-XXXXXX";
    int file = mkstemp(name);
    assert_true(file >= 0);
    unlink(name);
    fflush(NULL);
    int kept = dup(fd);
    dup2(file, fd);
    write_it();
    fflush(NULL);
    dup2(kept, fd);
    close(kept);
    ssize_t n = pread(file, out, capacity - 1, 0);
    close(file);
    assert_true(n >= 0);
    out[n] = '\0';
    return (size_t)n;
}

static void write_stats(void)
{
    malloc_stats();
}

static void malloc_stats_says_something_on_standard_error(void **state)
{
    (void)state;
    static char text[65536];
    size_t n = captured(2, write_stats, text, sizeof text);
    assert_true(n > 20);
    assert_int_equal(text[n - 1], '\n');
    assert_true(captured(1, write_stats, text, sizeof text) == 0);
}

static size_t info_text(char *out, size_t capacity)
{
    FILE *stream = tmpfile();
    assert_non_null(stream);
    assert_int_equal(malloc_info(0, stream), 0);
    rewind(stream);
    size_t n = fread(out, 1, capacity - 1, stream);
    fclose(stream);
    out[n] = '\0';
    return n;
}

/* A reader of just enough XML: one root, every element closed in order, attributes quoted, no stray '<' or '&'. */
static const char *xml_name(const char *p, char *name, size_t capacity)
{
    size_t n = 0;
    while (n + 1 < capacity && ((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') ||
                                *p == '_' || *p == '-' || *p == '.')) {
        name[n++] = *p++;
    }
    name[n] = '\0';
    return n > 0 ? p : NULL;
}

static const char *xml_attributes(const char *p)
{
    char name[64];
    for (;;) {
        while (*p == ' ' || *p == '\n' || *p == '\t') {
            p++;
        }
        if (*p == '>' || *p == '/' || *p == '?') {
            return p;
        }
        p = xml_name(p, name, sizeof name);
        if (p == NULL || p[0] != '=' || (p[1] != '"' && p[1] != '\'')) {
            return NULL;
        }
        p = strchr(p + 2, p[1]);
        if (p == NULL) {
            return NULL;
        }
        p++;
    }
}

static bool xml_is_well_formed(const char *p)
{
    char open[16][64];
    int depth = 0;
    int n_roots = 0;
    while (*p != '\0') {
        if (*p == '&') {
            return false;
        }
        if (*p != '<') {
            p++;
            continue;
        }
        bool closing = p[1] == '/';
        bool declaration = p[1] == '?';
        char name[64];
        p = xml_name(p + 1 + (closing || declaration), name, sizeof name);
        p = p == NULL ? NULL : xml_attributes(p);
        if (p == NULL) {
            return false;
        }
        bool empty = *p == '/' || declaration;
        p += empty ? 2 : 1;
        if (closing) {
            if (depth == 0 || strcmp(open[--depth], name) != 0) {
                return false;
            }
        } else if (!declaration) {
            n_roots += depth == 0;
            if (!empty && depth == 16) {
                return false;
            }
            if (!empty) {
                strcpy(open[depth++], name);
            }
        }
    }
    return depth == 0 && n_roots == 1;
}

static void malloc_info_is_well_formed_xml(void **state)
{
    (void)state;
    static char text[1 << 20];
    void *small = malloc(100);
    void *large = malloc(50 * MIB);
    size_t n = info_text(text, sizeof text);
    assert_true(n > 0);
    assert_true(strncmp(text, "<malloc version=", 16) == 0 || strncmp(text, "<?xml", 5) == 0);
    if (!xml_is_well_formed(text)) {
        fail_msg("not well-formed:\n%s", text);
    }
    free(small);
    free(large);
}

static void the_reader_of_xml_finds_faults(void **state)
{
    (void)state;
    assert_true(xml_is_well_formed("<a b=\"1\"><c/><d e='2' f=\"3\">x</d>\n</a>\n"));
    assert_false(xml_is_well_formed("<a><b></a></b>"));
    assert_false(xml_is_well_formed("<a>"));
    assert_false(xml_is_well_formed("<a/><b/>"));
    assert_false(xml_is_well_formed("<a b=1/>"));
    assert_false(xml_is_well_formed("<a>&</a>"));
    assert_false(xml_is_well_formed("<a b=\"1/>"));
}

static void malloc_info_refuses_other_options_and_broken_streams(void **state)
{
    (void)state;
    assert_int_equal(malloc_info(1, stdout), EINVAL);
    assert_int_equal(malloc_info(-1, stdout), EINVAL);
#ifndef ALLOT_TEST_STANDARD
    FILE *full = fopen("/dev/full", "w");
    if (full != NULL) {
        setvbuf(full, NULL, _IONBF, 0);
        errno = 0;
        assert_int_equal(malloc_info(0, full), -1);
        assert_int_equal(errno, ENOSPC);
        fclose(full);
    }
#endif
}

#if defined(__GLIBC__) || defined(ALLOT_TEST_TWINS)
static void mallinfo2_counts_what_is_taken_and_freed(void **state)
{
    (void)state;
    enum { n = 1000, size = 1000 };
    static void *blocks[n];
    struct mallinfo2 before = mallinfo2();
    for (size_t i = 0; i < n; i++) {
        blocks[i] = malloc(size);
    }
    struct mallinfo2 during = mallinfo2();
    assert_true(during.uordblks >= before.uordblks + n * size);
    assert_true(during.uordblks <= before.uordblks + n * size * 5 / 4 + 64 * KIB);
    assert_true(during.arena + during.hblkhd >= during.uordblks);
    for (size_t i = 0; i < n; i++) {
        free(blocks[i]);
    }
    struct mallinfo2 after = mallinfo2();
    assert_true(after.uordblks < during.uordblks - n * size / 2);
}

static void mallinfo2_counts_large_mappings(void **state)
{
    (void)state;
    struct mallinfo2 before = mallinfo2();
    void *block = malloc(100 * MIB);
    struct mallinfo2 during = mallinfo2();
    assert_int_equal(during.hblks, before.hblks + 1);
    assert_true(during.hblkhd >= before.hblkhd + 100 * MIB);
    free(block);
}
#endif

static void trim_answers_yes_or_no(void **state)
{
    (void)state;
    enum { n = 20000 };
    static void *blocks[n];
    for (size_t i = 0; i < n; i++) {
        blocks[i] = malloc(1000);
        memset(blocks[i], 1, 1000);
    }
    for (size_t i = 0; i < n; i++) {
        free(blocks[i]);
    }
    int first = malloc_trim(0);
    assert_true(first == 0 || first == 1);
#ifndef ALLOT_TEST_STANDARD
    malloc_trim(0);
    assert_int_equal(malloc_trim(0), 0);
#endif
}

static void mallopt_answers_honestly(void **state)
{
    (void)state;
    assert_int_equal(mallopt(M_MMAP_THRESHOLD, 8 * 1024 * 1024), 1);
#if defined(__GLIBC__) || defined(ALLOT_TEST_TWINS)
    struct mallinfo2 before = mallinfo2();
    void *block = malloc(9 * MIB);
    assert_int_equal(mallinfo2().hblks, before.hblks + 1);
    free(block);
#endif
#ifndef ALLOT_TEST_STANDARD
    assert_int_equal(mallopt(M_MMAP_THRESHOLD, -1), 0);
    assert_int_equal(mallopt(123456, 1), 0);
    assert_int_equal(mallopt(M_TRIM_THRESHOLD, 64 * 1024), 1);
#endif
    int answer = mallopt(M_ARENA_MAX, 4);
    assert_true(answer == 0 || answer == 1);
    answer = mallopt(M_TOP_PAD, 4096);
    assert_true(answer == 0 || answer == 1);
}

/* M_PERTURB: new memory is filled with the complement, calloc stays zero. In a child, as it can't be undone for sure.
 */
static void perturb_fills(void **state)
{
    (void)state;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        int answer = mallopt(M_PERTURB, 0x5a);
        for (size_t size = 16; answer == 1 && size <= 100000; size *= 5) {
            unsigned char *block = malloc(size);
            if (block[0] != (0x5a ^ 0xff) || block[size - 1] != (0x5a ^ 0xff)) {
                _exit(2);
            }
            free(block);
            block = calloc(1, size);
            if (!all_zero(block, size)) {
                _exit(3);
            }
            free(block);
        }
        _exit(0);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malloc_stats_says_something_on_standard_error),
        cmocka_unit_test(the_reader_of_xml_finds_faults),
        cmocka_unit_test(malloc_info_is_well_formed_xml),
        cmocka_unit_test(malloc_info_refuses_other_options_and_broken_streams),
#if defined(__GLIBC__) || defined(ALLOT_TEST_TWINS)
        cmocka_unit_test(mallinfo2_counts_what_is_taken_and_freed),
        cmocka_unit_test(mallinfo2_counts_large_mappings),
#endif
        cmocka_unit_test(trim_answers_yes_or_no),
        cmocka_unit_test(perturb_fills),
        cmocka_unit_test(mallopt_answers_honestly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
