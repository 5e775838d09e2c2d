/* SPDX-License-Identifier: MIT */
/* gc_limits.c - what starts a collection by itself near a limit, on which thread, and what one says that can't be done.
 *
 * Each case is a process of its own: options are read once, and limits and filters of system calls are for good.
 */
#include "gc.h"

#include <pthread.h>
#include <semaphore.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <errno.h>

static const size_t mib = 1 << 20;

static int n_finalized;
static long finalized_by;

static void finalize(void *begin, size_t length, void *context)
{
    (void)begin, (void)length, (void)context;
    __atomic_store_n(&finalized_by, syscall(SYS_gettid), __ATOMIC_RELAXED);
    __atomic_add_fetch(&n_finalized, 1, __ATOMIC_RELEASE);
}

/* How many could be made. */
__attribute__((noinline)) static size_t make_and_forget(size_t n, size_t bytes)
{
    allot_gcmap_opts opts = ALLOT_GCMAP_OPTS_INIT;
    opts.finalizer = finalize;
    for (size_t i = 0; i < n; i++) {
        if (allot_gcmap_with(-1, 0, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, &opts) == MAP_FAILED) {
            return i;
        }
    }
    return n;
}

static void set_trigger(unsigned maps_share, unsigned room_share)
{
    allot_gcmap_trigger trigger = {.abi_size = sizeof trigger, .maps_share = maps_share, .room_share = room_share};
    EXPECT(allot_gcmap_set_trigger(&trigger) == 0);
}

static size_t number_in(const char *path)
{
    size_t n = 0;
    FILE *file = fopen(path, "r");
    EXPECT(file != NULL && fscanf(file, "%zu", &n) == 1);
    fclose(file);
    return n;
}

/* ---- near a limit ------------------------------------------------------------------------------------------- */

/* What the limit on address space is now, with so much still to be had. Before the first mapping: the range for them is
 * reserved in steps that a limit makes small. */
static size_t leave_room(size_t bytes)
{
    struct rlimit limit;
    free(hide(malloc(100)));
    EXPECT(getrlimit(RLIMIT_AS, &limit) == 0);
    limit.rlim_cur = number_in("/proc/self/statm") * (size_t)sysconf(_SC_PAGESIZE) + bytes;
    EXPECT(setrlimit(RLIMIT_AS, &limit) == 0);
    return limit.rlim_cur;
}

static void maps_share(void)
{
    size_t most = number_in("/proc/sys/vm/max_map_count");
    if (most > 300000) {
        return; /* it takes too many */
    }
    set_trigger(/* maps_share */ 1, 0);
    EXPECT(make_and_forget(most / 8, page) == most / 8);
    EXPECT(n_finalized > 0);
    EXPECT(allot_gcmap_num_active() <= most / 16);
    set_trigger(0, 0);
    n_finalized = 0;
    EXPECT(make_and_forget(most / 8, page) == most / 8);
    EXPECT(n_finalized == 0);
}

static void room_share(void)
{
    size_t n = leave_room(2048 * mib) / 32 / mib; /* so many of a MiB at least between two collections */
    set_trigger(0, /* room_share */ 1);
    EXPECT(make_and_forget(4 * n, mib) == 4 * n);
    EXPECT(n_finalized > 0);
    EXPECT(allot_gcmap_num_active() <= n + 10);
}

static void no_room_share(void)
{
    size_t n = leave_room(2048 * mib) / 32 / mib;
    set_trigger(0, 0);
    EXPECT(make_and_forget(4 * n, mib) == 4 * n);
    EXPECT(n_finalized == 0);
}

/* Nothing is asked for: what can't be mapped starts a collection. */
static void headroom(void)
{
    leave_room(512 * mib);
    set_trigger(0, 0);
    EXPECT(make_and_forget(3000, mib) == 3000);
    EXPECT(n_finalized > 2000);
    EXPECT(allot_gcmap_bytes_active() <= 512 * mib);
}

/* ---- which thread ------------------------------------------------------------------------------------------- */

static void own_thread(void)
{
    EXPECT(make_and_forget(500, page) == 500);
    EXPECT(n_finalized > 0);
    EXPECT(finalized_by == syscall(SYS_gettid));
}

static void thread_of_its_own(void)
{
    EXPECT(make_and_forget(500, page) == 500);
    for (int i = 0; i < 1000 && __atomic_load_n(&n_finalized, __ATOMIC_ACQUIRE) == 0; i++) {
        usleep(10000);
    }
    EXPECT(__atomic_load_n(&n_finalized, __ATOMIC_ACQUIRE) > 0);
    EXPECT(__atomic_load_n(&finalized_by, __ATOMIC_RELAXED) != syscall(SYS_gettid));
}

/* ---- the limit on the pause --------------------------------------------------------------------------------- */

static void pause_by_memory(void)
{
    size_t bytes = 512 * mib;
    allot_gcmap_collected told = ALLOT_GCMAP_COLLECTED_INIT;
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT(memory != MAP_FAILED);
    memset(memory, 1, bytes);
    allot_weak *weak = make_mapping(NULL, 0, 0);
    EXPECT(allot_gcmap_collect(&told) == ETIMEDOUT);
    EXPECT(strcmp(told.why, "the limit on the pause was passed") == 0);
    EXPECT(told.n_mappings == 0 && told.scanned_bytes < bytes);
    EXPECT(is_there(weak));
    munmap(memory, bytes);
    EXPECT(!is_kept(weak));
}

static sem_t ready;

/* Until the child has left, this thread takes no signal. */
static void *sleeps_in_vfork(void *context)
{
    (void)context;
    sem_post(&ready);
    if (vfork() == 0) {
        usleep(700000);
        _exit(0);
    }
    return NULL;
}

static void pause_by_thread(void)
{
    pthread_t thread;
    allot_gcmap_collected told = ALLOT_GCMAP_COLLECTED_INIT;
    allot_weak *weak = make_mapping(NULL, 0, 0);
    sem_init(&ready, 0, 0);
    EXPECT(pthread_create(&thread, NULL, sleeps_in_vfork, NULL) == 0);
    sem_wait(&ready);
    usleep(200000);
    EXPECT(allot_gcmap_collect(&told) == EBUSY);
    EXPECT(strcmp(told.why, "a thread did not answer within the limit on the pause") == 0);
    EXPECT(told.thread != 0 && told.n_mappings == 0);
    EXPECT(is_there(weak));
    pthread_join(thread, NULL);
    EXPECT(!is_kept(weak));
}

/* ---- system calls that are forbidden ------------------------------------------------------------------------ */

struct step {
    uint16_t code;
    uint8_t if_true;
    uint8_t if_false;
    uint32_t k;
};

/* From now on this call fails with EPERM. */
static void forbid(long number)
{
    struct step steps[] = {
        {0x20, 0, 0, 0},                   /* load the call's number */
        {0x15, 0, 1, (uint32_t)number},    /* is it this one? */
        {0x06, 0, 0, 0x00050000u | EPERM}, /* then it fails */
        {0x06, 0, 0, 0x7fff0000u},         /* otherwise it doesn't */
    };
    struct {
        unsigned short n;
        struct step *steps;
    } program = {sizeof steps / sizeof *steps, steps};
    EXPECT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    EXPECT(prctl(PR_SET_SECCOMP, 2, &program) == 0);
}

static int ends[2];

static void *sleeps_with_it(void *weak)
{
    void *volatile here;
    *(allot_weak **)weak = make_mapping(&here, 17, 0);
    sem_post(&ready);
    char byte;
    while (syscall(SYS_readv, ends[0], &(struct {
                       void *base;
                       size_t n;
                   }){&byte, 1},
                   1) != 1) {
    }
    return here;
}

/* One mapping is held by a thread that sleeps, one by nobody. */
static void try_without(const long *calls, int wanted, const char *why)
{
    pthread_t thread;
    allot_weak *held;
    allot_gcmap_collected told = ALLOT_GCMAP_COLLECTED_INIT;
    EXPECT(pipe(ends) == 0);
    sem_init(&ready, 0, 0);
    EXPECT(pthread_create(&thread, NULL, sleeps_with_it, &held) == 0);
    sem_wait(&ready);
    allot_weak *dead = make_mapping(NULL, 0, 0);
    for (; *calls >= 0; calls++) {
        forbid(*calls);
    }
    for (int i = 0; i < 2; i++) {
        int error = allot_gcmap_collect(&told);
        if (error != wanted || strcmp(told.why, why) != 0) {
            dprintf(2, "%d: %s\n", error, told.why);
            _exit(99);
        }
        EXPECT(is_there(held));
        EXPECT(is_there(dead) == (wanted != 0));
    }
    EXPECT(write(ends[1], "x", 1) == 1);
    pthread_join(thread, NULL);
}

static const struct forbidden {
    const char *name;
    long calls[3];
    int error;
    const char *why;
} forbidden[] = {
    {"openat", {SYS_openat, -1}, ENOSYS, "the threads of the process can't be listed here"},
    {"getdents64", {SYS_getdents64, -1}, ENOSYS, "the threads of the process can't be listed here"},
    {"rt_tgsigqueueinfo", {SYS_rt_tgsigqueueinfo, -1}, EPERM, "the signal that stops threads can't be sent"},
    {"rt_sigaction", {SYS_rt_sigaction, -1}, EPERM, "the signal that stops threads can't be sent"},
    {"ioctl_read", {SYS_ioctl, SYS_read, -1}, EPERM, "the memory of the process can't be listed here"},
    /* These it can do without. */
    {"ioctl", {SYS_ioctl, -1}, 0, ""},
    {"ioctl_pread64", {SYS_ioctl, SYS_pread64, -1}, 0, ""},
};

static void without_a_call(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof forbidden / sizeof *forbidden; i++) {
        print_message("without %s\n", forbidden[i].name);
        pid_t pid = fork();
        if (pid == 0) {
            try_without(forbidden[i].calls, forbidden[i].error, forbidden[i].why);
            _exit(0);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
    }
}

/* ---- all of them -------------------------------------------------------------------------------------------- */

#define NEVER "gc_bytes=0,gc_number=0,gc_maps=0,gc_room=0,gc_age=0"

static const struct limit_case {
    const char *name;
    void (*run)(void);
    const char *options;
} cases[] = {
    {"maps_share", maps_share, NEVER},
    {"room_share", room_share, NEVER},
    {"no_room_share", no_room_share, NEVER},
    {"headroom", headroom, NEVER},
    {"own_thread", own_thread, "gc_number=50"},
    {"thread_of_its_own", thread_of_its_own, "gc_number=50,gc_thread"},
    {"pause_by_memory", pause_by_memory, "gc_pause=1"},
    {"pause_by_thread", pause_by_thread, "gc_pause=100"},
};

static void again(void *context)
{
    const struct limit_case *one = context;
    setenv("ALLOT_OPTIONS", one->options, 1);
    execl("/proc/self/exe", "again", one->name, (char *)NULL);
}

static void each_limit(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        print_message("%s\n", cases[i].name);
        child_succeeds(again, (void *)(uintptr_t)&cases[i]);
    }
}

int main(int argc, char **argv)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases && argc > 1; i++) {
        if (strcmp(argv[1], cases[i].name) == 0) {
            cases[i].run();
            return 0;
        }
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_limit),
        cmocka_unit_test(without_a_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
