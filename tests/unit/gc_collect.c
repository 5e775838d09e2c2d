/* SPDX-License-Identifier: MIT */
/* gc_collect.c - what keeps a collected mapping, and what doesn't. */
#include <allot/arena.h>

#include "gc.h"

#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>

static void *volatile in_data;
static __thread void *volatile in_tls;

/* The anchor's one test: a file is mapped and read, forgotten, and found dead. */
__attribute__((noinline)) static unsigned sum_of_shell(void)
{
    int fd = open("/bin/sh", O_RDONLY);
    off_t length = lseek(fd, 0, SEEK_END);
    const unsigned char *bytes = allot_gcmap(fd, 0, (size_t)length, PROT_READ, MAP_SHARED);
    close(fd);
    assert_ptr_not_equal(bytes, MAP_FAILED);
    assert_int_equal(allot_gcmap_num_active(), 1);
    assert_int_equal(allot_gcmap_bytes_active(), ((size_t)length + page - 1) / page * page);
    unsigned sum = 0;
    for (off_t i = 0; i < length; i++) {
        sum += bytes[i];
    }
    return sum;
}

static void a_file_is_read_forgotten_and_collected(void **state)
{
    (void)state;
    assert_int_not_equal(sum_of_shell(), 0);
    size_t n;
    assert_int_equal(collect(&n), 0);
    if (EXACT) {
        assert_int_equal(n, 1);
        assert_int_equal(allot_gcmap_num_active(), 0);
        assert_int_equal(allot_gcmap_bytes_active(), 0);
    }
}

static void a_global_keeps_it_and_an_interior_address_too(void **state)
{
    (void)state;
    allot_weak *first = make_mapping(&in_data, 0, 0);
    assert_true(is_kept(first));
    in_data = (char *)in_data + 2 * page - 1;
    assert_true(is_kept(first));
    in_data = (char *)in_data + 1; /* one behind the last byte is none of its bytes */
    assert_gone(first);
    in_data = NULL;
    allot_weak_destroy(first);
}

static void each_mapping_is_kept_on_its_own(void **state)
{
    (void)state;
    void *volatile *places = calloc(3, sizeof *places);
    allot_weak *weak[3];
    for (int i = 0; i < 3; i++) {
        weak[i] = make_mapping(&places[i], 0, 0);
    }
    places[1] = NULL;
    assert_gone(weak[1]);
    assert_true(is_there(weak[0]));
    assert_true(is_there(weak[2]));
    places[0] = NULL;
    places[2] = NULL;
    assert_gone(weak[0]);
    assert_is_gone(weak[2]);
    free((void *)places);
    for (int i = 0; i < 3; i++) {
        allot_weak_destroy(weak[i]);
    }
}

/* In blocks of each kind: small, medium, large, with a mapping of its own, of the pools. */
static void a_live_block_keeps_it_and_a_freed_one_does_not(void **state)
{
    (void)state;
    static const size_t sizes[] = {24, 4096, 20000, 600000, 40 << 20};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        void *volatile *block = malloc(sizes[i]);
        size_t last = sizes[i] / sizeof(void *) - 1;
        allot_weak *weak = make_mapping(&block[last], 7, 0);
        assert_true(is_kept(weak));
        free((void *)block);
        assert_gone(weak);
        allot_weak_destroy(weak);
    }
    void *volatile *block = malloc(24);
    void *volatile *pooled = allot_pool_malloc(64);
    allot_weak *weak = make_mapping(&pooled[5], 7, 0);
    assert_true(is_kept(weak));
    allot_pool_free((void *)pooled);
    assert_gone(weak);
    allot_weak_destroy(weak);
    free((void *)block);
}

/* Of each kind: with blocks that can be freed, and without. */
static void a_live_arenas_block_keeps_it_and_a_destroyed_arenas_does_not(void **state)
{
    (void)state;
    const allot_arena_kind kinds[] = {ALLOT_ARENA_GENERAL, ALLOT_ARENA_BUMP, ALLOT_ARENA_SCRATCH};
    for (int i = 0; i < 3; i++) {
        allot_arena_options options = ALLOT_ARENA_OPTIONS_INIT;
        options.kind = kinds[i];
        allot_arena *arena = NULL;
        assert_int_equal(allot_arena_create(0, &options, &arena), 0);
        void *volatile *block = allot_arena_malloc(arena, 1000);
        allot_weak *weak = make_mapping(&block[100], 7, 0);
        assert_true(is_kept(weak));
        allot_arena_destroy(arena);
        assert_gone(weak);
        allot_weak_destroy(weak);
    }
}

static void a_freed_or_reset_block_of_an_arena_keeps_nothing(void **state)
{
    (void)state;
    allot_arena *arena = NULL;
    assert_int_equal(allot_arena_create(0, NULL, &arena), 0);
    void *volatile *first = allot_arena_malloc(arena, 1000);
    void *volatile *second = allot_arena_malloc(arena, 100000);
    allot_weak *freed = make_mapping(&first[100], 0, 0);
    allot_weak *reset = make_mapping(&second[10000], 0, 0);
    assert_int_equal(allot_arena_free(arena, (void *)first), 0);
    assert_true(is_kept(reset));
    assert_is_gone(freed);
    assert_int_equal(allot_arena_reset(arena), 0);
    assert_gone(reset);
    allot_weak_destroy(freed);
    allot_weak_destroy(reset);
    allot_arena_destroy(arena);
}

static void thread_local_storage_keeps_it(void **state)
{
    (void)state;
    allot_weak *weak = make_mapping(&in_tls, page, 0);
    assert_true(is_kept(weak));
    in_tls = NULL;
    assert_gone(weak);
    allot_weak_destroy(weak);
}

static void memory_that_the_program_mapped_keeps_it(void **state)
{
    (void)state;
    void *volatile *own = mmap(NULL, 64 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    allot_weak *weak = make_mapping(&own[3000], 0, 0);
    assert_true(is_kept(weak));
    munmap((void *)own, 64 * page);
    assert_gone(weak);
    allot_weak_destroy(weak);
}

static void shared_memory_keeps_it_when_it_is_named(void **state)
{
    (void)state;
    size_t bytes = 2 * page;
    void *volatile *own = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_int_equal(allot_gc_add_root((void *)own, bytes), 0);
    allot_weak *weak = make_mapping(&own[700], 0, 0);
    assert_true(is_kept(weak));
    assert_int_equal(allot_gc_remove_root((void *)own, bytes), 0);
    assert_int_equal(allot_gc_remove_root((void *)own, bytes), EINVAL);
    assert_int_equal(allot_gc_add_root(NULL, 8), EINVAL);
    assert_gone(weak);
    allot_weak_destroy(weak);
    /* A root may be unmapped before it is removed. */
    assert_int_equal(allot_gc_add_root((void *)own, bytes), 0);
    munmap((void *)own, page);
    assert_int_equal(collect(NULL), 0);
    assert_int_equal(allot_gc_remove_root((void *)own, bytes), 0);
    munmap((char *)own + page, page);
}

static void mappings_keep_each_other_when_that_is_asked_for(void **state)
{
    (void)state;
    allot_weak *first = make_mapping(&in_data, 0, ALLOT_GCMAP_SCAN);
    void *volatile *inside = in_data;
    allot_weak *second = make_mapping(&inside[1000], 0, ALLOT_GCMAP_SCAN);
    void *volatile *further = inside[1000];
    allot_weak *third = make_mapping(&further[10], page, 0);
    void *volatile *deepest = further[10];
    allot_weak *fourth = make_mapping(deepest, 0, 0); /* the third isn't scanned */
    inside = further = deepest = NULL;
    __asm__ volatile("" : : "r"(inside), "r"(further), "r"(deepest));
    assert_true(is_kept(first));
    assert_true(is_there(second));
    assert_true(is_there(third));
    assert_is_gone(fourth);
    in_data = NULL;
    assert_gone(first);
    assert_is_gone(second);
    assert_is_gone(third);
    allot_weak_destroy(first);
    allot_weak_destroy(second);
    allot_weak_destroy(third);
    allot_weak_destroy(fourth);
}

static void a_pin_keeps_it(void **state)
{
    (void)state;
    void *volatile hidden;
    allot_weak *weak = make_mapping(&hidden, 0, ALLOT_GCMAP_PINNED);
    hidden = (void *)~(uintptr_t)hidden;
    assert_int_equal(allot_gcmap_pin((void *)(~(uintptr_t)hidden + 100)), 0);
    assert_int_equal(allot_gcmap_unpin((void *)~(uintptr_t)hidden), 0);
    assert_true(is_kept(weak));
    assert_int_equal(allot_gcmap_unpin((void *)~(uintptr_t)hidden), 0);
    assert_int_equal(allot_gcmap_unpin((void *)~(uintptr_t)hidden), EINVAL);
    assert_gone(weak);
    allot_weak_destroy(weak);
}

/* ---- other threads ------------------------------------------------------------------------------------------ */

static sem_t ready;
static _Atomic bool go_on;
static int ends[2];

static void *sleeps_with_it(void *weak)
{
    void *volatile here;
    *(allot_weak **)weak = make_mapping(&here, 17, 0);
    sem_post(&ready);
    char byte;
    while (read(ends[0], &byte, 1) != 1) {
    }
    ((char *)here)[0] = 5;
    here = NULL;
    return NULL;
}

static void a_thread_asleep_in_a_system_call_keeps_it(void **state)
{
    (void)state;
    pthread_t thread;
    allot_weak *weak;
    assert_int_equal(pipe(ends), 0);
    sem_init(&ready, 0, 0);
    pthread_create(&thread, NULL, sleeps_with_it, &weak);
    sem_wait(&ready);
    for (int i = 0; i < 10; i++) {
        assert_true(is_kept(weak));
    }
    assert_int_equal(write(ends[1], "x", 1), 1);
    pthread_join(thread, NULL);
    assert_gone(weak);
    allot_weak_destroy(weak);
    close(ends[0]);
    close(ends[1]);
}

#if defined(__x86_64__)
/* The address is in one register and nowhere else: this loop doesn't touch memory but for the flag. */
__attribute__((noinline)) static void spin_with_register(uintptr_t hidden)
{
    __asm__ volatile("notq %0\n\t"
                     "1: cmpb $0, %1\n\t"
                     "je 1b\n\t"
                     "movb $9, (%0)\n\t"
                     "xorq %0, %0\n\t"
                     : "+r"(hidden)
                     : "m"(go_on)
                     : "memory", "cc");
}

/* The same in half of a vector register. */
__attribute__((noinline)) static void spin_with_vector(uintptr_t hidden)
{
    __asm__ volatile("notq %0\n\t"
                     "movq %0, %%xmm9\n\t"
                     "xorq %0, %0\n\t"
                     "1: cmpb $0, %1\n\t"
                     "je 1b\n\t"
                     "pxor %%xmm9, %%xmm9\n\t"
                     : "+r"(hidden)
                     : "m"(go_on)
                     : "memory", "cc", "xmm9");
}

struct spinner {
    void (*spin)(uintptr_t hidden);
    uintptr_t hidden;
};

static void *spins(void *context)
{
    struct spinner *spinner = context;
    sem_post(&ready);
    spinner->spin(spinner->hidden);
    return NULL;
}

__attribute__((noinline)) static allot_weak *make_hidden(uintptr_t *hidden)
{
    void *volatile address;
    allot_weak *weak = make_mapping(&address, 0, 0);
    *hidden = ~(uintptr_t)address;
    address = NULL;
    return weak;
}

static void a_register_keeps_it(void **state)
{
    (void)state;
    void (*const ways[])(uintptr_t) = {spin_with_register, spin_with_vector};
    for (int i = 0; i < 2; i++) {
        struct spinner spinner = {.spin = ways[i]};
        pthread_t thread;
        go_on = false;
        sem_init(&ready, 0, 0);
        allot_weak *weak = make_hidden(&spinner.hidden);
        pthread_create(&thread, NULL, spins, &spinner);
        sem_wait(&ready);
        usleep(20000); /* until it spins */
        assert_true(is_kept(weak));
        go_on = true;
        pthread_join(thread, NULL);
        assert_gone(weak);
        allot_weak_destroy(weak);
    }
}
#endif

static void *blocks_all(void *context)
{
    sigset_t all;
    sigset_t before;
    (void)context;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    sem_post(&ready);
    while (!go_on) {
        usleep(1000);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return NULL;
}

static void a_thread_that_blocks_the_signal_stops_the_collection(void **state)
{
    (void)state;
    pthread_t thread;
    go_on = false;
    sem_init(&ready, 0, 0);
    pthread_create(&thread, NULL, blocks_all, NULL);
    sem_wait(&ready);
    allot_weak *weak = make_mapping(NULL, 0, 0);
    for (int i = 0; i < 3; i++) {
        allot_gcmap_collected told = ALLOT_GCMAP_COLLECTED_INIT;
        assert_int_equal(allot_gcmap_collect(&told), EBUSY);
        assert_true(strstr(told.why, "blocks the signal") != NULL);
        assert_int_not_equal(told.thread, 0);
        assert_int_equal(told.n_mappings, 0);
        assert_true(is_there(weak));
    }
    go_on = true;
    pthread_join(thread, NULL);
    assert_gone(weak);
    allot_weak_destroy(weak);
}

/* ---- below the stack pointer -------------------------------------------------------------------------------- */

/* Deep frames, full of addresses, that are left. */
__attribute__((noinline)) static void *leave_traces(int depth)
{
    void *volatile traces[16];
    for (int i = 0; i < 16; i++) {
        traces[i] = allot_gcmap(-1, 0, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
        assert_ptr_not_equal(traces[i], MAP_FAILED);
    }
    return depth > 1 ? leave_traces(depth - 1) : traces[0] == NULL ? traces[1] : NULL;
}

static void what_lies_below_the_stack_pointer_keeps_nothing(void **state)
{
    (void)state;
    leave_traces(63);
    size_t n = 0;
    assert_int_equal(collect(&n), 0);
    print_message("%zu of %d at the first collection\n", n, 16 * 63);
    assert_true(!EXACT || n >= 16 * 63 * 99 / 100);
    for (int i = 0; i < 10 && allot_gcmap_num_active() > 0; i++) {
        assert_int_equal(collect(NULL), 0);
    }
    assert_true(!EXACT || allot_gcmap_num_active() == 0);
}

/* ---- finalizers --------------------------------------------------------------------------------------------- */

static int n_finalized;
static char seen;

static void finalize(void *begin, size_t length, void *context)
{
    assert_int_equal(length, 100);
    assert_ptr_equal(context, &n_finalized);
    seen = *(char *)begin;
    n_finalized++;
    assert_int_equal(collect(NULL), 0); /* no lock is held */
    assert_int_equal(allot_gcmap_close(allot_gcmap(-1, 0, 1, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS)), 0);
}

__attribute__((noinline)) static void make_with_finalizer(void)
{
    allot_gcmap_opts opts = ALLOT_GCMAP_OPTS_INIT;
    opts.finalizer = finalize;
    opts.context = &n_finalized;
    char *mapping = allot_gcmap_with(-1, 0, 100, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, &opts);
    assert_ptr_not_equal(mapping, MAP_FAILED);
    mapping[0] = 77;
}

static void a_finalizer_sees_the_contents_and_may_call_anything(void **state)
{
    (void)state;
    n_finalized = 0;
    make_with_finalizer();
    assert_int_equal(collect(NULL), 0);
    if (EXACT) {
        assert_int_equal(n_finalized, 1);
        assert_int_equal(seen, 77);
        assert_int_equal(allot_gcmap_num_active(), 0);
    }
}

/* ---- the trigger -------------------------------------------------------------------------------------------- */

__attribute__((noinline)) static void make_and_forget(size_t n, size_t bytes)
{
    for (size_t i = 0; i < n; i++) {
        assert_ptr_not_equal(allot_gcmap(-1, 0, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS), MAP_FAILED);
    }
}

static void collections_come_by_number_bytes_and_age(void **state)
{
    (void)state;
    allot_gcmap_trigger trigger = {.abi_size = sizeof trigger, .number = 50};
    assert_int_equal(allot_gcmap_set_trigger(&trigger), 0);
    make_and_forget(500, page);
    assert_in_range(allot_gcmap_num_active(), 1, 60);
    trigger = (allot_gcmap_trigger){.abi_size = sizeof trigger, .bytes = 100 * page};
    assert_int_equal(allot_gcmap_set_trigger(&trigger), 0);
    make_and_forget(100, 10 * page);
    assert_in_range(allot_gcmap_num_active(), 1, 20);
    trigger = (allot_gcmap_trigger){.abi_size = sizeof trigger, .age_ms = 20};
    assert_int_equal(allot_gcmap_set_trigger(&trigger), 0);
    make_and_forget(10, page);
    usleep(50000);
    make_and_forget(1, page);
    assert_in_range(allot_gcmap_num_active(), 1, 2);
    trigger = (allot_gcmap_trigger){.abi_size = sizeof trigger};
    assert_int_equal(allot_gcmap_set_trigger(&trigger), 0);
    make_and_forget(200, page);
    assert_true(allot_gcmap_num_active() >= 200);
    assert_int_equal(collect(NULL), 0);
    assert_true(!EXACT || allot_gcmap_num_active() == 0);
    trigger.abi_size = 3;
    assert_int_equal(allot_gcmap_set_trigger(&trigger), EINVAL);
    assert_int_equal(allot_gcmap_set_trigger(NULL), EINVAL);
}

static void a_large_sparse_mapping_starts_no_collection_of_the_heap(void **state)
{
    (void)state;
    allot_stats_report before = ALLOT_STATS_INIT;
    allot_stats_report after = ALLOT_STATS_INIT;
    assert_int_equal(allot_stats(&before), 0);
    char *mapping =
        allot_gcmap(-1, 0, (size_t)20 << 30, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
    assert_ptr_not_equal(mapping, MAP_FAILED);
    mapping[(size_t)15 << 30] = 1;
    assert_int_equal(allot_stats(&after), 0);
    assert_int_equal(before.area_bytes, after.area_bytes);
    assert_int_equal(before.purged_bytes, after.purged_bytes);
    assert_int_equal(allot_gcmap_close(mapping), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_read_forgotten_and_collected),
        cmocka_unit_test(a_global_keeps_it_and_an_interior_address_too),
        cmocka_unit_test(each_mapping_is_kept_on_its_own),
        cmocka_unit_test(a_live_block_keeps_it_and_a_freed_one_does_not),
        cmocka_unit_test(a_live_arenas_block_keeps_it_and_a_destroyed_arenas_does_not),
        cmocka_unit_test(a_freed_or_reset_block_of_an_arena_keeps_nothing),
        cmocka_unit_test(thread_local_storage_keeps_it),
        cmocka_unit_test(memory_that_the_program_mapped_keeps_it),
        cmocka_unit_test(shared_memory_keeps_it_when_it_is_named),
        cmocka_unit_test(mappings_keep_each_other_when_that_is_asked_for),
        cmocka_unit_test(a_pin_keeps_it),
        cmocka_unit_test(a_thread_asleep_in_a_system_call_keeps_it),
#if defined(__x86_64__)
        cmocka_unit_test(a_register_keeps_it),
#endif
        cmocka_unit_test(a_thread_that_blocks_the_signal_stops_the_collection),
        cmocka_unit_test(what_lies_below_the_stack_pointer_keeps_nothing),
        cmocka_unit_test(a_finalizer_sees_the_contents_and_may_call_anything),
        cmocka_unit_test(collections_come_by_number_bytes_and_age),
        cmocka_unit_test(a_large_sparse_mapping_starts_no_collection_of_the_heap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
