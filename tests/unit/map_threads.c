/* SPDX-License-Identifier: MIT */
/* map_threads.c - threads that set the map up and add to it at the same moment end up with one map. */
#include "child.h"

#include <pthread.h>

#include "map/map.h"

#define NEAR ((uintptr_t)0x7f1234560000)
#define FAR ((uintptr_t)3 << 40)

enum { THREADS = 6, CHUNKS = 20 };

static pthread_barrier_t together;
static int rounds_done;
static struct {
    pthread_t thread;
    uint32_t number;
    void *descriptors[2 * CHUNKS];
} workers[THREADS];

/* All add the same chunks, in the window and outside, and tag every THREADS-th granule of them as their own. */
static void add_and_tag(uint32_t number, uintptr_t begin, void **descriptors)
{
    EXPECT(map_add((void *)begin, CHUNKS * CHUNK_BYTES) == 0);
    for (size_t i = 0; i < CHUNKS; i++) {
        descriptors[i] = map_descriptor((void *)(begin + i * CHUNK_BYTES));
        EXPECT(descriptors[i] != NULL);
    }
    for (size_t granule = number; granule < CHUNKS * CHUNK_GRANULES; granule += THREADS) {
        void *p = (void *)(begin + granule * GRANULE_BYTES);
        *(uint32_t *)map_descriptor(p) = number + 1;
        map_set(p, 1, map_make_tag(number + MAP_HEAP_FIRST, 3));
        EXPECT(map_tag(p) == map_make_tag(number + MAP_HEAP_FIRST, 3));
    }
}

static void *work(void *context)
{
    uint32_t number = *(uint32_t *)context;
    pthread_barrier_wait(&together);
    EXPECT(map_init((void *)(NEAR + number * GIB)));
    uintptr_t begin = round_down(NEAR, CHUNK_BYTES);
    if (rounds_done % 2 == 0) { /* both places are begun by all at the same moment, in turn */
        add_and_tag(number, begin, workers[number].descriptors);
        add_and_tag(number, FAR, workers[number].descriptors + CHUNKS);
    } else {
        add_and_tag(number, FAR, workers[number].descriptors + CHUNKS);
        add_and_tag(number, begin, workers[number].descriptors);
    }
    return NULL;
}

static void check_all(uintptr_t begin)
{
    for (size_t granule = 0; granule < CHUNKS * CHUNK_GRANULES; granule++) {
        void *p = (void *)(begin + granule * GRANULE_BYTES);
        uint32_t number = (uint32_t)(granule % THREADS);
        EXPECT(map_tag(p) == map_make_tag(number + MAP_HEAP_FIRST, 3));
        EXPECT(*(uint32_t *)map_descriptor(p) == number + 1);
    }
}

static void race(void *unused)
{
    (void)unused;
    pthread_barrier_init(&together, NULL, THREADS);
    for (uint32_t i = 0; i < THREADS; i++) {
        workers[i].number = i;
        EXPECT(pthread_create(&workers[i].thread, NULL, work, &workers[i].number) == 0);
    }
    for (uint32_t i = 0; i < THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
        EXPECT(memcmp(workers[i].descriptors, workers[0].descriptors, sizeof workers[0].descriptors) == 0);
    }
    check_all(round_down(NEAR, CHUNK_BYTES));
    check_all(FAR);
}

static void racing_threads_make_one_map(void **state)
{
    (void)state;
    for (rounds_done = 0; rounds_done < (SANITIZED ? 20 : 200); rounds_done++) {
        child_succeeds(race, NULL);
    }
}

/* One thread tags and untags; others ask all the while and may see either, but nothing else. */
static _Atomic bool stop;

static void *ask(void *seen)
{
    while (!load_relaxed(&stop)) {
        uint32_t tag = map_tag((void *)NEAR);
        EXPECT(tag == 0 || tag == 0x777);
        if (tag != 0) {
            *(bool *)seen = true;
        }
    }
    return NULL;
}

static void ask_while_it_changes(void *unused)
{
    (void)unused;
    pthread_t threads[2];
    bool seen[2] = {false, false};
    for (int i = 0; i < 2; i++) {
        EXPECT(pthread_create(&threads[i], NULL, ask, &seen[i]) == 0);
    }
    EXPECT(map_init((void *)NEAR));
    EXPECT(map_add((void *)NEAR, GRANULE_BYTES) == 0);
    for (int i = 0; i < 200000; i++) {
        map_set((void *)NEAR, 1, i % 2 == 0 ? 0x777 : 0);
    }
    store_relaxed(&stop, true);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
    }
}

static void askers_see_the_old_or_the_new(void **state)
{
    (void)state;
    child_succeeds(ask_while_it_changes, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(racing_threads_make_one_map),
        cmocka_unit_test(askers_see_the_old_or_the_new),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
