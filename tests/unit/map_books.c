/* SPDX-License-Identifier: MIT */
/* map_books.c - memory for books: zeroed, aligned, each piece its owner's alone. */
#include "child.h"

#include <pthread.h>

#include "map/map.h"

static bool is_zero(const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    return true;
}

static void pieces_are_zeroed_and_aligned(void **state)
{
    (void)state;
    for (size_t bytes = 1; bytes <= 8 * MIB; bytes = bytes * 3 + 1) {
        char *p = map_books(bytes);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % CACHE_LINE, 0);
        assert_true(is_zero(p, bytes));
        memset(p, 0xff, bytes);
    }
}

static void figures_follow(void **state)
{
    (void)state;
    size_t space = map_books_bytes();
    size_t resident = map_books_resident_bytes();
    char *p = map_books(3 * MIB);
    assert_non_null(p);
    assert_in_range(map_books_bytes() - space, 3 * MIB, 4 * MIB);
    memset(p, 1, 3 * MIB);
    assert_in_range(map_books_resident_bytes() - resident, 3 * MIB - 64 * KIB, 4 * MIB);
    assert_true(map_books_resident_bytes() <= map_books_bytes());
}

enum { THREADS = 6, PIECES = 30000 };
static pthread_barrier_t together;

struct keeper {
    pthread_t thread;
    unsigned char mark;
    unsigned char *pieces[PIECES];
};

static size_t piece_bytes(size_t i)
{
    return 1 + i % 60;
}

static void *take_pieces(void *context)
{
    struct keeper *keeper = context;
    pthread_barrier_wait(&together);
    for (size_t i = 0; i < PIECES; i++) {
        keeper->pieces[i] = map_books(piece_bytes(i));
        EXPECT(keeper->pieces[i] != NULL);
        keeper->pieces[i][0] = keeper->mark;
        keeper->pieces[i][piece_bytes(i) - 1] = keeper->mark;
    }
    return NULL;
}

static void threads_get_pieces_of_their_own(void **state)
{
    (void)state;
    static struct keeper keepers[THREADS];
    pthread_barrier_init(&together, NULL, THREADS);
    for (int i = 0; i < THREADS; i++) {
        keepers[i].mark = (unsigned char)(i + 1);
        assert_int_equal(pthread_create(&keepers[i].thread, NULL, take_pieces, &keepers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(keepers[i].thread, NULL);
    }
    for (int i = 0; i < THREADS; i++) {
        for (size_t k = 0; k < PIECES; k++) {
            assert_int_equal(keepers[i].pieces[k][0], keepers[i].mark);
            assert_int_equal(keepers[i].pieces[k][piece_bytes(k) - 1], keepers[i].mark);
        }
    }
}

static void too_much_is_refused(void **state)
{
    (void)state;
    assert_null(map_books(PTRDIFF_MAX - 4 * KIB));
    assert_null(map_books(SIZE_MAX - 10));
    assert_null(map_books(SIZE_MAX - 200));
    assert_null(map_books(SIZE_MAX / 4));
    assert_non_null(map_books(64));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_zeroed_and_aligned),
        cmocka_unit_test(figures_follow),
        cmocka_unit_test(threads_get_pieces_of_their_own),
        cmocka_unit_test(too_much_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
