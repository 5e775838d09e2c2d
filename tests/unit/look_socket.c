/* SPDX-License-Identifier: MIT */
/* look_socket.c - with option look the process answers at a socket, while other threads take and give blocks. */
#include "unit.h"

#include <allot/arena.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static FILE *connected(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    if (runtime != NULL && access(runtime, W_OK) == 0) {
        snprintf(address.sun_path, sizeof address.sun_path, "%s/allot/%d.sock", runtime, (int)getpid());
    } else {
        snprintf(address.sun_path, sizeof address.sun_path, "/tmp/allot-%u/%d.sock", (unsigned)geteuid(),
                 (int)getpid());
    }
    int fd = -1;
    for (int tries = 0; tries < 500; tries++) { /* its thread has just begun */
        fd = socket(AF_UNIX, SOCK_STREAM, 0);
        if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0) {
            return fdopen(fd, "r+");
        }
        close(fd);
        usleep(10000);
    }
    return NULL;
}

/* How many lines of the answer begin with word. */
static int count(FILE *stream, const char *question, const char *word)
{
    char line[4096];
    int n = 0;
    fprintf(stream, "%s\n", question);
    fflush(stream);
    fseek(stream, 0, SEEK_CUR);
    while (fgets(line, sizeof line, stream) != NULL && strcmp(line, "end\n") != 0) {
        n += strncmp(line, word, strlen(word)) == 0;
    }
    return n;
}

static atomic_bool is_over;

static void *churn(void *number)
{
    unsigned seed = (unsigned)(uintptr_t)number;
    void *kept[64] = {NULL};
    allot_arena_options options = ALLOT_ARENA_OPTIONS_INIT;
    allot_arena *arena = NULL;
    options.name = "churn";
    options.kind = number == NULL ? ALLOT_ARENA_GENERAL : ALLOT_ARENA_BUMP;
    options.flags = ALLOT_ARENA_UNSYNCHRONIZED; /* nobody else may call on it: who looks doesn't */
    if (allot_arena_create(65536, &options, &arena) != 0) {
        return NULL;
    }
    while (!atomic_load(&is_over)) {
        unsigned i = (unsigned)rand_r(&seed) % 64;
        allot_free(kept[i]);
        kept[i] = allot_malloc((size_t)rand_r(&seed) % 20000);
        if (allot_arena_malloc(arena, 100) == NULL || rand_r(&seed) % 1000 == 0) {
            allot_arena_reset(arena);
        }
    }
    allot_arena_destroy(arena);
    for (unsigned i = 0; i < 64; i++) {
        allot_free(kept[i]);
    }
    return NULL;
}

static void it_answers_while_threads_run(void **state)
{
    (void)state;
    pthread_t threads[2];
    void *block = allot_malloc(3 << 20);
    void *small = allot_malloc(100);
    FILE *stream = connected();
    char greeting[64];
    assert_non_null(stream);
    assert_non_null(fgets(greeting, sizeof greeting, stream));
    assert_memory_equal(greeting, "allot ", 6);
    for (uintptr_t i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, churn, (void *)i), 0);
    }
    for (int i = 0; i < 20; i++) {
        assert_int_equal(count(stream, "stats", "live_bytes "), 1);
        assert_true(count(stream, "heap", "span large") >= 1);
        assert_true(count(stream, "options", "option look 1") == 1);
        assert_true(count(stream, "arenas", "arena 0 ") <= 2);
        assert_int_equal(count(stream, "what", "unknown question"), 1);
    }
    while (count(stream, "arenas", "arena 0 ") < 2) {
    }
    atomic_store(&is_over, true);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_true(count(stream, "heap", "span small") >= 1);
    fclose(stream);
    allot_free(small);
    allot_free(block);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_answers_while_threads_run),
    };
    return cmocka_run_group_tests_name("look_socket", tests, NULL, NULL);
}
