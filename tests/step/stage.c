/* SPDX-License-Identifier: MIT */
/* stage.c - the traced process: threads beside, the call under test, the signal handlers. See step.h.
 *
 * Two threads come before: one sleeps from then on and owns blocks, one ends and leaves blocks behind. In a copy of the
 * process only the thread under test is there; the others' heaps look as if their threads slept.
 *
 * A trap that no tracer takes (in a copy that was let go) comes here as SIGTRAP and means nothing.
 */
#include "step.h"

#include <allot/allot.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

/* clang-format off */
#define MARK(name) \
    __asm__(".text\n.globl " #name "\n.type " #name ",@function\n" \
            #name ":\n    int3\n.globl " #name "_mark\n" #name "_mark:\n    ret\n.size " #name ",.-" #name "\n"); \
    void name(void)
/* clang-format on */
MARK(stage_begin);
MARK(stage_end);
MARK(stage_handled);
__asm__(".text\n.globl stage_system_call\nstage_system_call:\n    syscall\n    int3\n");

#define ROUND_OVER UINT32_MAX
#define FUTEX_WAIT 0 /* linux/futex.h is not among a libc's headers */
#define FUTEX_WAKE 1

static struct {
    const struct call *call;
    enum mode mode;
    pid_t pid, tracer;
    sigjmp_buf back;
    volatile int elsewhere; /* in handlers, or on another thread while the one under test waits */
    bool is_forked_copy;    /* a child of _Fork in a handler */
    void *stock[N_STOCKS][MAX_CALLS / 8];
    unsigned n_stock[N_STOCKS];
    void (*sleepers_job)(void);
    _Atomic uint32_t sleepers_turn;   /* futex: 1 do the job, 2 done */
    _Atomic uint32_t thread_may_go;   /* futex */
    _Atomic uint32_t visitors_may_go; /* futex */
    pthread_key_t end_key;
    pthread_attr_t small_stack;
    pthread_t beside[2];
    void *gift[2][1024]; /* blocks that the threads beside take away */
    uint64_t gift_seed[2][1024];
    void *hoard[2][4000]; /* grows, so that these threads need fresh memory now and then */
    unsigned n_hoard[2];
    _Atomic unsigned n_gift[2];
    _Atomic(void *) exchanged[64];
    _Atomic unsigned n_bursts;   /* done, both threads together */
    _Atomic uint32_t n_visitors; /* futex: that are through; 3: and the last one has looked */
} stage;

bool stage_is_elsewhere(void)
{
    return stage.elsewhere != 0;
}

bool stage_tests_pool(void)
{
    return (stage.call->flags & CALL_POOL) != 0;
}

void fail(const char *format, ...)
{
    if (atomic_fetch_add(&shared->failed, 1) == 0) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(shared->message, sizeof shared->message, format, arguments);
        va_end(arguments);
    }
    _exit(1);
}

bool futex_wait(_Atomic uint32_t *word, uint32_t while_it_is, unsigned ms)
{
    struct timespec time = {ms / 1000, (long)(ms % 1000) * 1000000};
    while (atomic_load(word) == while_it_is) {
        if (syscall(SYS_futex, word, FUTEX_WAIT, while_it_is, &time, NULL, 0) != 0 && errno == ETIMEDOUT) {
            return false;
        }
    }
    return true;
}

void futex_wake(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

static void futex_set(_Atomic uint32_t *word, uint32_t value)
{
    atomic_store(word, value);
    futex_wake(word);
}

static void futex_wait_for(_Atomic uint32_t *word, uint32_t value)
{
    for (uint32_t now = atomic_load(word); now != value; now = atomic_load(word)) {
        futex_wait(word, now, 1000);
    }
}

/* ---- threads ------------------------------------------------------------------------------------------------ */

static pthread_t start_thread(void *(*run)(void *), void *argument)
{
    pthread_t thread;
    int error = pthread_create(&thread, &stage.small_stack, run, argument);
    if (error != 0) {
        fail("pthread_create: %s", strerror(error));
    }
    return thread;
}

/* libc's own block for a thread, which it keeps for the next one. It stands before the table of thread-local storage
 * that the second word of the thread's structure points into. */
static void know_thread_table(void)
{
#ifdef __GLIBC__
    void *const *thread = (void *const *)pthread_self();
    blocks_know((char *)thread[1] - 16);
#endif
}

/* The tracer runs with the stage on one CPU, which is several times faster; threads that go on are to run beside. */
static void use_all_cpus(void)
{
    cpu_set_t all;
    memset(&all, 0xff, sizeof all);
    sched_setaffinity(0, sizeof all, &all);
}

static void *sleep_and_work(void *unused)
{
    (void)unused;
    for (;;) {
        futex_wait_for(&stage.sleepers_turn, 1);
        stage.sleepers_job();
        futex_set(&stage.sleepers_turn, 2);
    }
    return NULL;
}

void stage_by_sleeper(void (*job)(void))
{
    stage.elsewhere++;
    stage.sleepers_job = job;
    futex_set(&stage.sleepers_turn, 1);
    futex_wait_for(&stage.sleepers_turn, 2);
    stage.elsewhere--;
}

/* ---- stock -------------------------------------------------------------------------------------------------- */

void *stage_stock(enum stock stock)
{
    return stage.n_stock[stock] == 0 ? NULL : stage.stock[stock][--stage.n_stock[stock]];
}

static size_t handlers_bytes(void)
{
    /* Before every instruction, small ones only: what a handler leaves for the interrupted call to tidy up must not be
     * more than that can do in between, or it never ends. */
    size_t most = stage.mode == MODE_ALWAYS ? 4096 : (size_t)1 << 20;
    return stage.call->bytes < most ? stage.call->bytes : most;
}

static void fill_stock(enum stock stock)
{
    size_t bytes = handlers_bytes();
    unsigned n = bytes > 100000 ? 8 : stage.mode == MODE_ALWAYS ? 300 : 60;
    for (unsigned i = 0; i < n; i++) {
        stage.stock[stock][stage.n_stock[stock]++] = block_malloc(bytes);
    }
}

static void fill_own(void)
{
    fill_stock(STOCK_OWN);
}

static void fill_sleepers(void)
{
    fill_stock(STOCK_SLEEPER);
    allot_thread_flush();
}

static void *fill_gone(void *unused)
{
    (void)unused;
    fill_stock(STOCK_GONE);
    return NULL;
}

/* ---- handlers ----------------------------------------------------------------------------------------------- */

static void keep(void *p)
{
    static void *kept[24];
    static unsigned n;
    if (kept[n % 24] != NULL) {
        block_free(kept[n % 24]);
    }
    kept[n++ % 24] = p;
}

/* All that a handler may do with blocks of all kinds and owners. */
static void allocate_and_free(void)
{
    static unsigned n;
    bool with_large = stage.mode != MODE_ALWAYS || n++ % 1000 == 0;
    size_t bytes = handlers_bytes();
    void *first = block_malloc(bytes); /* what the interrupted call may have its eye on: it is not given back */
    void *small = block_malloc(48);
    keep(block_malloc(bytes));
    for (enum stock stock = 0; stock < N_STOCKS; stock++) {
        void *p = stage_stock(stock);
        void *q = stage_stock(stock);
        if (q != NULL) {
            block_free(p);
            keep(block_realloc(q, bytes + 40));
        }
    }
    void *aligned = block_aligned(512, 100);
    void *zeroed = block_calloc(bytes < 100000 ? bytes : 100000);
    if (with_large) {
        void *medium = block_malloc(40000);
        void *large = block_malloc(600000);
        block_free(medium);
        block_free(large);
    }
    block_free(small);
    block_free(zeroed);
    keep(block_realloc(aligned, 2000));
    keep(first);
    if (stage_tests_pool()) {
        calls_pool_in_handler(stage.call);
    }
}

/* The calls of a handler are now the calls under test. */
static void allocate_and_free_stepped(void)
{
    size_t bytes = handlers_bytes();
    void *own = stage_stock(STOCK_OWN);
    void *moved = stage_stock(STOCK_OWN);
    void *remote = stage_stock(STOCK_SLEEPER);
    block_forget(own);
    block_forget(moved);
    block_forget(remote);
    stage_begin();
    void *first = malloc(bytes);
    free(own);
    void *second = realloc(moved, bytes + 100);
    free(remote);
    void *large = malloc(600000);
    free(first);
    void *third = malloc(bytes);
    free(large);
    stage_end();
    block_add(second, bytes + 100, "realloc");
    block_add(third, bytes, "malloc");
}

static void *visit(void *number)
{
    unsigned who = (unsigned)(uintptr_t)number;
    futex_wait_for(&stage.visitors_may_go, 1);
    use_all_cpus();
    for (unsigned i = 0; i < stage.n_gift[who]; i++) {
        free(stage.gift[who][i]);
    }
    blocks_churn(who + 1, 10000);
    if (atomic_fetch_add(&stage.n_visitors, 1) == 1) {
        blocks_audit((stage.call->flags & CALL_AT_ONCE) != 0 ? stage.call->n : 1, "while it is stopped");
        futex_set(&stage.n_visitors, 3);
    }
    futex_wait_for(&stage.n_visitors, 3); /* quiet while the other one looks */
    return NULL;
}

/* The interrupted thread waits here until two others have done what they had to: to them, it has stopped for good. */
static void others_go_on(void)
{
    pthread_t threads[2];
    for (unsigned who = 0; who < 2; who++) {
        for (enum stock stock = 0; stock < N_STOCKS; stock++) {
            for (unsigned i = 0; i < 8 && stage.n_stock[stock] > 0; i++) {
                void *p = stage_stock(stock);
                block_forget(p);
                stage.gift[who][stage.n_gift[who]++] = p;
            }
        }
    }
    for (uintptr_t who = 0; who < 2; who++) {
        threads[who] = start_thread(visit, (void *)who);
#ifdef __GLIBC__
        blocks_know((char *)((void *const *)threads[who])[1] - 16); /* as in know_thread_table */
#endif
    }
    futex_set(&stage.visitors_may_go, 1);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
}

/* One child ends in the handler, one goes on with the call that was interrupted. */
static void fork_children(void)
{
    for (unsigned i = 0; i < 2; i++) {
        pid_t child = _Fork();
        if (child < 0) {
            fail("_Fork: %s", strerror(errno));
        }
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            stage.is_forked_copy = true;
            allocate_and_free();
            blocks_work(50);
            if (i == 0) {
                blocks_verify();
                _exit(0);
            }
            return;
        }
        int status;
        while (waitpid(child, &status, 0) < 0) {
        }
        if (WIFSIGNALED(status)) {
            fail("a child of _Fork that %s was ended by signal %d", i == 0 ? "allocates at once" : "goes on",
                 WTERMSIG(status));
        } else if (status != 0) {
            _exit(1); /* it has left a message */
        }
    }
    allocate_and_free();
}

static void handle(void)
{
    switch (stage.mode) {
    case MODE_NESTED:
        allocate_and_free_stepped();
        break;
    case MODE_STOPPED:
        others_go_on();
        break;
    case MODE_FORK:
        fork_children();
        break;
    default:
        allocate_and_free();
    }
}

void stage_on_signal(int signal)
{
    int saved = errno;
    if (getpid() != stage.pid) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    }
    stage.elsewhere++;
    if (signal == SIGUSR2) {
        allocate_and_free();
    } else {
        handle();
    }
    stage.elsewhere--;
    errno = saved;
    if (stage.mode == MODE_JUMP) {
        siglongjmp(stage.back, 1);
    }
    if (stage.mode == MODE_ALWAYS) {
        stage_handled();
    }
}

static void on_trap(int signal)
{
    (void)signal;
}

/* For the report: where it came from. Then it comes again and ends the process. */
static void on_fault(int signal, siginfo_t *info, void *context)
{
    const ucontext_t *interrupted = context;
    (void)signal;
    (void)info;
    shared->fault_at = (uintptr_t)interrupted->uc_mcontext.gregs[REG_RIP];
}

static void set_handlers(void)
{
    struct sigaction action = {.sa_handler = stage_on_signal};
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGUSR2, &action, NULL);
    action.sa_handler = on_trap;
    sigaction(SIGTRAP, &action, NULL);
    struct sigaction fault = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | (int)SA_RESETHAND};
    sigaction(SIGSEGV, &fault, NULL);
    sigaction(SIGBUS, &fault, NULL);
    sigaction(SIGILL, &fault, NULL);
}

/* ---- threads that go on while the call stands still --------------------------------------------------------- */

/* What one of them allocates the other frees. */
static void exchange_blocks(bool is_last)
{
    for (unsigned i = 0; i < 64; i++) {
        free(atomic_exchange(&stage.exchanged[i], is_last ? NULL : malloc(100)));
    }
}

static void spend_hoard(unsigned who)
{
    while (stage.n_hoard[who] > 0) {
        free(stage.hoard[who][--stage.n_hoard[who]]);
    }
}

static void hoard_blocks(unsigned who)
{
    size_t bytes = stage.call->bytes < 4096 ? stage.call->bytes : 4096;
    if (stage.n_hoard[who] == 4000) {
        spend_hoard(who);
    }
    for (unsigned i = 0; i < 40; i++) {
        stage.hoard[who][stage.n_hoard[who]++] = malloc(bytes);
    }
}

static void *go_on(void *number)
{
    unsigned who = (unsigned)(uintptr_t)number;
    use_all_cpus();
    for (uint32_t round = 0;;) {
        futex_wait(&shared->round, round, 1000);
        if (atomic_load(&shared->round) == round) {
            continue;
        }
        round = atomic_load(&shared->round);
        if (round == ROUND_OVER) {
            spend_hoard(who);
            return NULL;
        }
        for (unsigned i = 0; i < 2 && round % 64 == 0 && stage.n_gift[who] > 0; i++) {
            unsigned n = --stage.n_gift[who];
            if (!block_intact(stage.gift[who][n], stage.call->bytes, stage.call->bytes, stage.gift_seed[who][n])) {
                fail("damaged: the contents of %p have changed, found by a thread beside", stage.gift[who][n]);
            }
            free(stage.gift[who][n]);
        }
        hoard_blocks(who);
        exchange_blocks(false);
        blocks_churn(who + 1, 10000);
        if (atomic_fetch_add(&stage.n_bursts, 1) % 2 == 1) {
            exchange_blocks(true);
        }
        atomic_fetch_add(&shared->n_done, 1);
        futex_wake(&shared->n_done);
    }
}

static void start_beside(void)
{
    for (uintptr_t who = 0; who < 2; who++) {
        unsigned n = stage.call->bytes > 100000 ? 0 : 500;
        for (unsigned i = 0; i < n; i++) {
            stage.gift[who][i] = block_malloc(stage.call->bytes);
        }
        for (unsigned i = 0; i < n; i++) {
            stage.gift_seed[who][i] = block_forget(stage.gift[who][i]);
        }
        stage.n_gift[who] = n;
        stage.beside[who] = start_thread(go_on, (void *)who);
    }
}

static void end_beside(void)
{
    futex_set(&shared->round, ROUND_OVER);
    for (unsigned who = 0; who < 2; who++) {
        pthread_join(stage.beside[who], NULL);
        while (stage.n_gift[who] > 0) {
            free(stage.gift[who][--stage.n_gift[who]]);
        }
    }
}

/* ---- after the call ----------------------------------------------------------------------------------------- */

static size_t resident_pages(void)
{
    char text[128] = "";
    unsigned long pages = 0;
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, text, sizeof text - 1) < 0 || sscanf(text, "%*s %lu", &pages) != 1) {
        fail("can't read /proc/self/statm");
    }
    close(fd);
    return pages;
}

/* A thread whose handler never came back to the call: every third block lost would be more. */
static void check_bounded(void)
{
    blocks_churn(0, 3000);
    size_t before = resident_pages();
    blocks_churn(0, 12000);
    size_t after = resident_pages();
    if (after > before + 256) {
        fail("memory grows: %zu pages more after 12000 calls", after - before);
    }
}

/* What the call has done goes to the table. Returns how many live blocks may be without a holder for good. */
static unsigned settle_flight(bool interrupted)
{
    const struct call *call = stage.call;
    size_t bytes = call->to_bytes != 0 ? call->to_bytes : call->bytes;
    flight.open = false;
    for (unsigned i = 0; i < flight.n_after; i++) {
        const char *p = flight.after[i];
        if ((call->flags & CALL_MOVES) != 0 && p != NULL &&
            !block_intact(p, call->bytes, bytes < call->bytes ? bytes : call->bytes, flight.seed[i])) {
            fail("damaged: the call's result at %p lacks the old contents", (const void *)p);
        }
        for (size_t k = 0; (call->flags & CALL_ZEROED) != 0 && p != NULL && k < bytes; k++) {
            if (p[k] != 0) {
                fail("calloc of %zu bytes gave %p, not zero at %zu", bytes, (const void *)p, k);
            }
        }
        if (call->extra != 0 && (call->flags & CALL_MOVES) == 0 && (uintptr_t)p % call->extra != 0) {
            fail("aligned_alloc(%zu, %zu) gave %p", call->extra, bytes, (const void *)p);
        }
        if (stage_tests_pool()) {
            block_add_pool(flight.after[i], bytes);
        } else {
            block_add(flight.after[i], bytes, "the call");
        }
    }
    bool all = (call->flags & CALL_AT_ONCE) != 0;
    for (unsigned i = flight.at; i < flight.n_before; i++) {
        if (flight.begun && (all || i == flight.at)) {
            blocks_either(flight.before[i]);
        } else if (stage_tests_pool()) {
            block_add_pool(flight.before[i], call->bytes);
        } else {
            block_add(flight.before[i], call->bytes, "an earlier call");
        }
    }
    return !interrupted ? 0 : all ? call->n : 1;
}

static void settle(bool interrupted)
{
    unsigned n_in_flight = settle_flight(interrupted);
    if (stage.mode == MODE_BESIDE) {
        end_beside();
    }
    blocks_verify();
    if (interrupted) {
        check_bounded();
    }
    blocks_work(200);
    blocks_audit(n_in_flight, "after the call");
    blocks_free_all();
    blocks_audit(n_in_flight, "with everything freed");
    bool has_heap = !interrupted && !stage.is_forked_copy && (stage.call->flags & CALL_THREAD_EXIT) == 0;
    /* A block between guard pages keeps its place for itself for a long time. */
    if (has_heap && !stage_tests_pool() && options.sample_rate == 0) {
        blocks_check_reuse(stage.call->bytes);
    }
}

/* ---- the call ----------------------------------------------------------------------------------------------- */

/* Stands still until the tracer has us. */
static void be_traced(void)
{
    uint32_t tid = (uint32_t)syscall(SYS_gettid);
    const volatile uint32_t *thread = (const volatile uint32_t *)pthread_self();
    for (unsigned i = 0; i < 512; i++) {
        if (thread[i] == tid) {
            shared->tid_address = (uintptr_t)&thread[i];
            break;
        }
    }
    futex_set(&shared->tid, tid);
    futex_wait_for(&shared->go, 1);
    flight.open = true;
}

static void call_under_test(void)
{
    be_traced();
    bool interrupted = sigsetjmp(stage.back, 1) != 0;
    if (!interrupted) {
        stage_begin();
        stage.call->run(stage.call);
        stage_end();
    }
    settle(interrupted);
    _exit(0);
}

static void *first_of_thread(void *unused)
{
    (void)unused;
    futex_wait_for(&stage.thread_may_go, 1);
    blocks_own_nothing();
    call_under_test();
    return NULL;
}

static void run_in_new_thread(void)
{
    pthread_t thread = start_thread(first_of_thread, NULL);
    blocks_know_the_rest();
    futex_set(&stage.thread_may_go, 1);
    pthread_join(thread, NULL);
}

/* The library's own destructor has run by the second round, whatever the order of the keys. */
static void at_thread_end(void *round)
{
    if (round == &stage.end_key) {
        pthread_setspecific(stage.end_key, &stage);
        return;
    }
    stage_end();
    settle(false);
    if (getpid() != stage.pid) {
        _exit(0);
    }
}

static void *end_of_thread(void *unused)
{
    (void)unused;
    know_thread_table();
    pthread_setspecific(stage.end_key, &stage.end_key);
    blocks_own_nothing();
    fill_own();
    stage.call->prepare(stage.call);
    blocks_know_the_rest();
    be_traced();
    stage_begin();
    return NULL;
}

static void run_thread_exit(void)
{
    pthread_key_create(&stage.end_key, at_thread_end);
    pthread_join(start_thread(end_of_thread, NULL), NULL);
    blocks_work(200);
    blocks_audit(0, "after the thread's end");
    blocks_free_all();
    blocks_audit(0, "after the thread's end, with everything freed");
    _exit(0);
}

/* The child of the child, once the tracer is its parent. */
static void run_forked(void)
{
    blocks_know_the_rest();
    pid_t child = fork();
    if (child < 0) {
        fail("fork: %s", strerror(errno));
    }
    if (child > 0) {
        _exit(0);
    }
    while (getppid() != stage.tracer) {
        sched_yield();
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    stage.pid = getpid();
    call_under_test();
}

static void set_stage(void)
{
    unsigned flags = stage.call->flags;
    start_thread(sleep_and_work, NULL);
    stage_by_sleeper(fill_sleepers); /* before the heap is left behind that it would take over */
    if ((flags & CALL_NO_HEIR) == 0) {
        stage.elsewhere++;
        pthread_join(start_thread(fill_gone, NULL), NULL);
        stage.elsewhere--;
    }
    if ((flags & CALL_THREAD_EXIT) == 0) {
        fill_own();
    }
    if (stage.mode == MODE_BESIDE) {
        start_beside();
    }
    if (stage.call->prepare != NULL && (flags & CALL_THREAD_EXIT) == 0) {
        stage.call->prepare(stage.call);
    }
}

void stage_run(const struct stage *s)
{
    stage.call = s->call;
    stage.mode = s->mode;
    stage.pid = getpid();
    stage.tracer = getppid();
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(s->error_fd, STDERR_FILENO);
    pthread_attr_init(&stage.small_stack);
    pthread_attr_setstacksize(&stage.small_stack, (size_t)256 << 10);
    set_handlers();
    set_stage();
    if ((s->call->flags & CALL_NEW_THREAD) != 0) {
        run_in_new_thread();
    } else if ((s->call->flags & CALL_THREAD_EXIT) != 0) {
        run_thread_exit();
    } else if ((s->call->flags & CALL_FORKED) != 0) {
        run_forked();
    } else {
        blocks_know_the_rest();
        call_under_test();
    }
    _exit(1);
}
