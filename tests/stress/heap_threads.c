/* SPDX-License-Identifier: MIT */
/* heap_threads.c - threads that share, hand over, fall asleep, end, and come in great numbers. */
#include "stress.h"

#include <pthread.h>

static void join_all(pthread_t *threads, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        void *result = NULL;
        pthread_join(threads[i], &result);
        EXPECT(result == NULL, "a thread found damage");
    }
}

static pthread_t start(void *(*work)(void *), void *argument)
{
    pthread_t thread;
    EXPECT(pthread_create(&thread, NULL, work, argument) == 0, "no thread");
    return thread;
}

/* ---- each its own
 * ----------------------------------------------------------------------------------------------------- */

static void *churn_alone(void *argument)
{
    struct churn churn;
    churn_init(&churn, (uintptr_t)argument, 300000);
    for (size_t i = 0; i < (stress_is_long() ? 3000000u : 60000u); i++) {
        if (!churn_step(&churn)) {
            return argument;
        }
    }
    return churn_end(&churn) ? NULL : argument;
}

static void threads_with_blocks_of_their_own(void)
{
    pthread_t threads[8];
    for (size_t i = 0; i < COUNT(threads); i++) {
        threads[i] = start(churn_alone, (void *)(i + 1));
    }
    join_all(threads, COUNT(threads));
}

/* ---- all share one table: most frees are of another thread's block
 * ------------------------------------------------------ */

enum { n_shared = 2000 };
static unsigned char *_Atomic shared[n_shared];

static size_t shared_size(const unsigned char *block)
{
    size_t size;
    memcpy(&size, block, sizeof size);
    return size;
}

static bool shared_block_is_whole(const unsigned char *block)
{
    size_t size = shared_size(block);
    return size <= 9000 && pattern_holds(block + 16, size - 16, (unsigned)size);
}

static unsigned char *shared_block_make(uint64_t *random)
{
    size_t size = 16 + random_below(random, random_below(random, 20) == 0 ? 8900 : 500);
    unsigned char *block = malloc(size);
    if (block != NULL) {
        memcpy(block, &size, sizeof size);
        pattern_fill(block + 16, size - 16, (unsigned)size);
    }
    return block;
}

static void *swap_shared(void *argument)
{
    uint64_t random = (uintptr_t)argument * 31337;
    for (size_t i = 0; i < (stress_is_long() ? 5000000u : 100000u); i++) {
        unsigned char *fresh = shared_block_make(&random);
        unsigned char *old =
            __atomic_exchange_n((unsigned char **)&shared[random_below(&random, n_shared)], fresh, __ATOMIC_ACQ_REL);
        if (fresh == NULL || (old != NULL && !shared_block_is_whole(old))) {
            return argument;
        }
        free(old);
    }
    return NULL;
}

static void threads_that_free_each_others_blocks(void)
{
    for (int round = 0; round < 3; round++) {
        pthread_t threads[6];
        for (size_t i = 0; i < COUNT(threads); i++) {
            threads[i] = start(swap_shared, (void *)(i + 1));
        }
        join_all(threads, COUNT(threads));
    }
    for (size_t i = 0; i < n_shared; i++) {
        EXPECT(shared[i] == NULL || shared_block_is_whole(shared[i]), "damage at the end");
        free(shared[i]);
    }
    EXPECT(resident_bytes() < 200 * MIB, "%zu MiB resident", resident_bytes() / MIB);
}

/* ---- producers and consumers
 * ---------------------------------------------------------------------------------------------- */

enum { ring_slots = 1024 };

struct ring {
    pthread_mutex_t lock;
    pthread_cond_t moved;
    void *slots[ring_slots];
    size_t n, first;
};

static struct ring ring = {.lock = PTHREAD_MUTEX_INITIALIZER, .moved = PTHREAD_COND_INITIALIZER};

static void ring_put(void *block)
{
    pthread_mutex_lock(&ring.lock);
    while (ring.n == ring_slots) {
        pthread_cond_wait(&ring.moved, &ring.lock);
    }
    ring.slots[(ring.first + ring.n++) % ring_slots] = block;
    pthread_cond_broadcast(&ring.moved);
    pthread_mutex_unlock(&ring.lock);
}

static void *ring_take(void)
{
    pthread_mutex_lock(&ring.lock);
    while (ring.n == 0) {
        pthread_cond_wait(&ring.moved, &ring.lock);
    }
    void *block = ring.slots[ring.first];
    ring.first = (ring.first + 1) % ring_slots;
    ring.n--;
    pthread_cond_broadcast(&ring.moved);
    pthread_mutex_unlock(&ring.lock);
    return block;
}

static size_t n_messages(void)
{
    return stress_is_long() ? 2000000 : 60000;
}

static void *produce(void *argument)
{
    uint64_t random = (uintptr_t)argument;
    for (size_t i = 0; i < n_messages(); i++) {
        unsigned char *block = malloc(16 + random_below(&random, 2000));
        if (block == NULL) {
            return argument;
        }
        memset(block, 0x42, 16);
        ring_put(block);
    }
    return NULL;
}

static void *consume(void *argument)
{
    for (size_t i = 0; i < n_messages(); i++) {
        unsigned char *block = ring_take();
        if (block[0] != 0x42 || block[15] != 0x42) {
            return argument;
        }
        free(block);
    }
    return NULL;
}

static void produce_and_consume(size_t n_pairs)
{
    size_t before = resident_bytes();
    pthread_t threads[8];
    for (size_t i = 0; i < n_pairs; i++) {
        threads[2 * i] = start(produce, (void *)(i + 1));
        threads[2 * i + 1] = start(consume, (void *)(i + 1));
    }
    join_all(threads, 2 * n_pairs);
    size_t grown = resident_bytes() - before;
    EXPECT(grown < 24 * MIB, "about 2 MiB were ever live, %zu KiB are resident", grown / KIB);
}

static void a_producer_and_a_consumer(void)
{
    produce_and_consume(1);
}

static void four_producers_and_four_consumers(void)
{
    produce_and_consume(4);
}

/* ---- owners that sleep or are gone
 * -------------------------------------------------------------------------------------- */

enum { n_left = 400000, left_size = 250 };
static void *left[n_left];
static pthread_barrier_t barrier;

static void take_left(void)
{
    for (size_t i = 0; i < n_left; i++) {
        left[i] = malloc(left_size);
        EXPECT(left[i] != NULL, "no memory");
        memset(left[i], 1, left_size);
    }
}

static void free_left_at_random(void)
{
    uint64_t random = 99;
    for (size_t i = n_left; i-- > 1;) {
        size_t j = random_below(&random, i + 1);
        void *kept = left[i];
        left[i] = left[j];
        left[j] = kept;
    }
    for (size_t i = 0; i < n_left; i++) {
        free(left[i]);
    }
}

static void *take_and_sleep(void *argument)
{
    (void)argument;
    take_left();
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier); /* asleep until the end */
    return NULL;
}

/* 95 MiB freed by another thread, the owner fast asleep: the memory comes back without its help. */
static void frees_to_a_sleeping_owner_come_back(void)
{
    memset(left, 1, sizeof left);
    pthread_barrier_init(&barrier, NULL, 2);
    size_t before = resident_bytes();
    pthread_t owner = start(take_and_sleep, NULL);
    pthread_barrier_wait(&barrier);
    size_t full = resident_bytes();
    EXPECT(full > before + 80 * MIB, "the owner took nothing");
    free_left_at_random();
    sleep_ms(400);
    for (size_t i = 0; i < 2000; i++) { /* the freeing thread goes on with its life */
        free(malloc(i));
    }
    size_t after = resident_bytes();
    EXPECT(after < before + 16 * MIB, "%zu MiB of %zu stayed", (after - before) / MIB, (full - before) / MIB);
    take_left(); /* and what came back serves this thread */
    EXPECT(resident_bytes() < full + 16 * MIB, "the memory was not used again");
    free_left_at_random();
    pthread_barrier_wait(&barrier);
    pthread_join(owner, NULL);
}

static void *take_and_end(void *argument)
{
    (void)argument;
    take_left();
    return NULL;
}

static void frees_to_an_owner_that_is_gone_come_back(void)
{
    memset(left, 1, sizeof left);
    size_t before = resident_bytes();
    size_t peak = 0;
    for (int round = 0; round < 4; round++) {
        pthread_t owner = start(take_and_end, NULL);
        pthread_join(owner, NULL);
        size_t full = resident_bytes();
        peak = peak == 0 ? full : peak;
        EXPECT(full < peak + 16 * MIB, "round %d: %zu MiB where %zu were enough", round, full / MIB, peak / MIB);
        free_left_at_random();
    }
    for (int i = 0; i < 20; i++) { /* what is kept goes by age, where calls continue */
        sleep_ms(25);
        free(malloc(MIB));
    }
    size_t after = resident_bytes();
    EXPECT(after < before + 16 * MIB, "%zu MiB stayed", (after - before) / MIB);
}

/* A heap left behind with free memory is taken over by the next thread. */
static void *take_and_free_all(void *argument)
{
    (void)argument;
    take_left();
    free_left_at_random();
    return NULL;
}

static void threads_one_after_the_other_use_the_same_memory(void)
{
    memset(left, 1, sizeof left);
    size_t peak = 0;
    for (int round = 0; round < 5; round++) {
        pthread_join(start(take_and_free_all, NULL), NULL);
        peak = peak == 0 ? peak_resident_bytes() : peak;
    }
    EXPECT(peak_resident_bytes() < peak + 16 * MIB, "%zu MiB, then %zu", peak / MIB, peak_resident_bytes() / MIB);
}

/* ---- a thread that only frees
 * ---------------------------------------------------------------------------------------------- */

static void *free_what_comes(void *argument)
{
    (void)argument;
    for (void *block; (block = ring_take()) != (void *)&ring;) {
        free(block);
    }
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return NULL;
}

static void a_thread_that_only_frees_hoards_nothing(void)
{
    pthread_barrier_init(&barrier, NULL, 2);
    pthread_t freer = start(free_what_comes, NULL);
    size_t before = resident_bytes();
    for (size_t i = 0; i < 400000; i++) {
        void *block = malloc(16 + i % 64 * 64);
        memset(block, 1, 16);
        ring_put(block);
    }
    ring_put(&ring);
    pthread_barrier_wait(&barrier);
    size_t after = resident_bytes();
    EXPECT(after < before + 24 * MIB, "%zu KiB stayed", (after - before) / KIB);
    pthread_barrier_wait(&barrier);
    pthread_join(freer, NULL);
}

/* ---- great numbers
 * ---------------------------------------------------------------------------------------------------------- */

static void *live_briefly(void *argument)
{
    size_t seed = (uintptr_t)argument;
    void *blocks[8];
    for (size_t i = 0; i < COUNT(blocks); i++) {
        blocks[i] = malloc(16 + (seed * 37 + i * 101) % 2000);
        memset(blocks[i], 1, 16);
    }
    for (size_t i = 0; i < COUNT(blocks); i++) {
        free(blocks[i]);
    }
    return NULL;
}

static void threads_born_and_dead(void)
{
    size_t n = stress_is_long() ? 100000 : 10000;
    size_t before = 0;
    for (size_t i = 0; i < n + 500; i++) {
        if (i == 500) {
            before = anonymous_bytes();
        }
        pthread_join(start(live_briefly, (void *)i), NULL);
    }
    size_t after = anonymous_bytes();
    EXPECT(after <= before + 128 * KIB, "%zu threads left %zu KiB behind", n, (after - before) / KIB);
}

/* Each leaves a block behind, which the next one frees. */
static void *leave_one_behind(void *argument)
{
    void **place = argument;
    free(*place);
    *place = malloc(500);
    return NULL;
}

static void threads_that_leave_a_block_behind(void)
{
    void *block = NULL;
    size_t before = 0;
    for (size_t i = 0; i < 10500; i++) {
        if (i == 500) {
            before = anonymous_bytes();
        }
        pthread_join(start(leave_one_behind, &block), NULL);
    }
    free(block);
    size_t after = anonymous_bytes();
    EXPECT(after <= before + 64 * KIB, "%zu KiB stayed", (after - before) / KIB);
}

static void *live_until_the_barrier(void *argument)
{
    (void)argument;
    void *blocks[3] = {malloc(24), malloc(100), malloc(1000)};
    for (size_t i = 0; i < COUNT(blocks); i++) {
        memset(blocks[i], 1, 24);
    }
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    for (size_t i = 0; i < COUNT(blocks); i++) {
        free(blocks[i]);
    }
    return NULL;
}

static void a_thousand_live_threads(void)
{
    enum { n = 1000 };
    static pthread_t threads[n];
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 * KIB);
    pthread_barrier_init(&barrier, NULL, n + 1);
    for (size_t i = 0; i < n; i++) {
        EXPECT(pthread_create(&threads[i], &attributes, live_until_the_barrier, (void *)i) == 0, "no thread");
    }
    pthread_barrier_wait(&barrier);
    size_t resident = resident_bytes();
    pthread_barrier_wait(&barrier);
    join_all(threads, n);
    /* The aim is 24 MiB. A page for the heap and one a class are more than that: docs/PERFORMANCE.md. */
    EXPECT(resident <= 36 * MIB, "%zu KiB resident", resident / KIB);
}

static const struct stress_case cases[] = {
    {"threads_with_blocks_of_their_own", threads_with_blocks_of_their_own, NULL, false},
    {"threads_that_free_each_others_blocks", threads_that_free_each_others_blocks, NULL, false},
    {"threads_that_free_each_others_blocks_one_at_a_time", threads_that_free_each_others_blocks, "remote_batch=1",
     false},
    {"threads_with_small_bins", threads_that_free_each_others_blocks,
     "bin_limit=8,bin_bytes=64k,purge_age=0,purge_cap=0", false},
    {"a_producer_and_a_consumer", a_producer_and_a_consumer, NULL, false},
    {"four_producers_and_four_consumers", four_producers_and_four_consumers, NULL, false},
    {"frees_to_a_sleeping_owner_come_back", frees_to_a_sleeping_owner_come_back, NULL, false},
    {"frees_to_an_owner_that_is_gone_come_back", frees_to_an_owner_that_is_gone_come_back, NULL, false},
    {"threads_one_after_the_other_use_the_same_memory", threads_one_after_the_other_use_the_same_memory, NULL, false},
    {"a_thread_that_only_frees_hoards_nothing", a_thread_that_only_frees_hoards_nothing, NULL, false},
    {"threads_born_and_dead", threads_born_and_dead, NULL, false},
    {"threads_that_leave_a_block_behind", threads_that_leave_a_block_behind, NULL, false},
    {"a_thousand_live_threads", a_thousand_live_threads, NULL, false},
};

int main(int argc, char **argv)
{
    return stress_main(argc, argv, cases, COUNT(cases));
}
