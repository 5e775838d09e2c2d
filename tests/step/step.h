/* SPDX-License-Identifier: MIT */
/* step.h - the stepper: what happens when a call of malloc or free is interrupted before each of its instructions.
 *
 *     main.c      the command line, the list of runs, the summary
 *     drive.c     one run: which boundaries, and what is done at each
 *     trace.c     one thread under ptrace: step it, copy its process
 *     where.c     an address as symbol+offset
 *     stage.c     the traced process: threads beside, the call under test, the signal handlers
 *     calls.c     the calls under test, and the states that they start from
 *     blocks.c    which blocks are whose, what stands in them, and does the allocator agree
 *     toy.c       a toy allocator, right or with a fault on request: shows that the stepper finds what it looks for
 *
 * A boundary is the moment before an instruction. The stage brings the allocator into the state that a call starts
 * from, and stops at a mark; the tracer steps it through the call, libc's instructions included, to a second mark. At a
 * boundary the stage is copied: it is made to execute a clone system call of the tracer's, registers put right in the
 * copy. So every boundary is tried from the same history, in a process of its own, for the price of a fork; the number
 * of steps grows with the path's length, not with its square.
 *
 * Pages that the kernel wipes at fork are put back in the copy, and so is the thread's number inside libc: the copy
 * can't tell that it is one.
 */
#ifndef STEP_STEP_H
#define STEP_STEP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum mode {
    MODE_ONCE,    /* in a copy: one handler that allocates and frees, then the call goes on */
    MODE_ALWAYS,  /* no copies: such a handler before every single instruction of one and the same call */
    MODE_NESTED,  /* in a copy: calls in a handler are the calls under test, interrupted by a second handler */
    MODE_STOPPED, /* in a copy: the thread stands still; two new threads allocate, and free its blocks */
    MODE_BESIDE,  /* no copies: the thread stands still; two threads that were there before go on */
    MODE_JUMP,    /* in a copy: the handler leaves by siglongjmp */
    MODE_FORK,    /* in a copy: the handler calls _Fork, the children use the allocator at once */
    N_MODES
};

/* What tracer and stage share: one mapping, made before the stage, also seen by its copies. */
struct shared {
    _Atomic uint32_t tid;    /* futex: of the thread that waits to be traced */
    _Atomic uint32_t go;     /* futex: it is */
    _Atomic uint32_t round;  /* futex: bursts that the threads beside were asked for */
    _Atomic uint32_t n_done; /* futex: bursts done, both threads together */
    uintptr_t tid_address;   /* where libc keeps the thread's number; 0 when not found */
    _Atomic uint32_t failed;
    char message[400];  /* of the first failure */
    uintptr_t fault_at; /* the instruction that a fatal signal came from; 0: none came */
};
extern struct shared *shared;

/* ---- marks: the traced thread stops right before these addresses -------------------------------------------- */

extern const char stage_begin_mark[], stage_end_mark[], stage_handled_mark[];
extern const char stage_system_call[]; /* a system call instruction and a trap behind it, for the tracer's use */

/* ---- calls.c ------------------------------------------------------------------------------------------------ */

#define MAX_CALLS 4096

struct call {
    const char *name;
    void (*prepare)(const struct call *); /* by the thread that allocated before; NULL: nothing */
    void (*run)(const struct call *);     /* between the marks */
    size_t bytes;                         /* of the blocks before */
    size_t to_bytes;                      /* of the blocks after, where that is different; otherwise 0 */
    size_t extra;                         /* an alignment; a size to expand to */
    unsigned n;                           /* so many calls in a row */
    unsigned flags;
};

enum {
    CALL_NEW_THREAD = 1,  /* run is the first that its thread does with the allocator */
    CALL_NO_HEIR = 2,     /* no thread has left a heap behind before */
    CALL_THREAD_EXIT = 4, /* run is a thread's end, up to the keys' destructors */
    CALL_FORKED = 8,      /* run is the first that a child of fork does with it */
    CALL_ZEROED = 16,     /* what it allocates must be zero */
    CALL_AT_ONCE = 32,    /* one call takes or gives n blocks: all of them are in flight together */
    CALL_MOVES = 64,      /* after[i] has the contents of before[i] */
    CALL_POOL = 128,      /* its blocks are the public pool's */
};

/* What a handler does with the pool on top, and the pool's free; where there is a public pool. */
bool calls_have_pool(void);
void calls_pool_in_handler(const struct call *call);
void calls_pool_free(void *p);

extern const struct call calls[];
extern const unsigned n_calls;

/* What the interrupted call had got to. Written between the marks, so also read after a handler never came back. */
struct flight {
    void *before[MAX_CALLS]; /* blocks that the calls take away or move, in this order */
    uint64_t seed[MAX_CALLS];
    unsigned n_before;
    volatile unsigned at; /* before[0 .. at) are done with; before[at] may be, when begun says so */
    volatile bool begun;
    void *after[MAX_CALLS];
    volatile unsigned n_after;
    volatile bool open; /* between the marks */
};
extern struct flight flight;

/* ---- stage.c ------------------------------------------------------------------------------------------------ */

#define NORETURN __attribute__((noreturn))
#define PRINTF(f, a) __attribute__((format(printf, f, a)))

struct stage {
    const struct call *call;
    enum mode mode;
    int error_fd; /* becomes standard error */
};
NORETURN void stage_run(const struct stage *stage);

/* Blocks for handlers and threads beside to take away: allocated by the thread under test, by one that sleeps, by one
 * that has ended. NULL when there are no more. */
enum stock { STOCK_OWN, STOCK_SLEEPER, STOCK_GONE, N_STOCKS };
void *stage_stock(enum stock stock);
/* In a handler, or on a thread that is not under test. */
bool stage_is_elsewhere(void);
bool stage_tests_pool(void);
/* Runs job on the thread that sleeps otherwise. */
void stage_by_sleeper(void (*job)(void));

/* The signal handler, of which the tracer knows that it was entered. */
void stage_on_signal(int signal);

/* False: not within that time. */
bool futex_wait(_Atomic uint32_t *word, uint32_t while_it_is, unsigned ms);
void futex_wake(_Atomic uint32_t *word);

/* The first failure ends the process. */
NORETURN void fail(const char *format, ...) PRINTF(1, 2);

/* ---- blocks.c ----------------------------------------------------------------------------------------------- */

void *block_malloc(size_t bytes);
void *block_calloc(size_t bytes);
void *block_aligned(size_t alignment, size_t bytes);
void *block_realloc(void *p, size_t bytes);
void block_free(void *p);
/* p came from outside: the table takes it on, or no longer vouches for it. forget returns its seed. */
void block_add(void *p, size_t bytes, const char *call);
/* The public pool's: allot_walk needn't show it, and free doesn't take it. */
void block_add_pool(void *p, size_t bytes);
uint64_t block_forget(void *p);
/* Are the first upto bytes of a block of bytes bytes what was written there? */
bool block_intact(const void *p, size_t bytes, size_t upto, uint64_t seed);

/* Every live block that the table doesn't have is libc's own. */
void blocks_know_the_rest(void);
void blocks_know(const void *p);
/* p may be live or free: a call was interrupted for good in the middle of freeing it. */
void blocks_either(const void *p);
/* The thread under test has got nothing from the heap yet. */
void blocks_own_nothing(void);
void blocks_verify(void);
/* Table and allot_walk agree, but for n_in_flight live blocks more. when: for the message. */
void blocks_audit(unsigned n_in_flight, const char *when);
void blocks_free_all(void);
/* Every free block of the calling thread's slabs is handed out again, once, before much else is. */
void blocks_check_reuse(size_t bytes);
/* A random mix of calls through the table. */
void blocks_work(unsigned n);
/* The same, fast, beside the table: by any thread; everything is freed at the end. */
void blocks_churn(unsigned who, unsigned n);

/* ---- trace.c ------------------------------------------------------------------------------------------------ */

#define MAX_WIPED 8

struct tracee {
    pid_t thread;
    uintptr_t at;    /* the instruction that comes next */
    uintptr_t stack; /* and the stack pointer */
    int signal;      /* what it stopped for */
    bool ended;
    bool out_of_time; /* and that was us: it didn't stop any more */
    int status;       /* once it ended, as from waitpid */
    bool in_repeat;
    unsigned n_wiped; /* ranges that the kernel wipes at fork */
    struct {
        uintptr_t begin, end;
    } wiped[MAX_WIPED];
};

/* False: may not trace here. */
bool tracee_seize(struct tracee *t, pid_t thread);
void tracee_wait(struct tracee *t);
void tracee_continue(struct tracee *t, int signal);
/* One instruction; of a repeated string instruction, first one round, then all others. */
void tracee_step(struct tracee *t);
/* One instruction of the tracee, or the first of the handler if it takes signal now. */
void tracee_step_signal(struct tracee *t, int signal);
void tracee_copy(struct tracee *t, struct tracee *copy);
void tracee_let_go(struct tracee *t, int signal);
void tracee_kill(struct tracee *t);
bool tracee_at_system_call(struct tracee *t);
/* Whoever it is is killed when the time is over; 0 seconds: never mind. Returns whether that has happened. */
bool time_limit(pid_t pid, double seconds);
/* Waits for a child's end, but not for longer than that: then it is killed, and false returned. */
bool wait_for_end(pid_t pid, double seconds, int *status);

/* ---- where.c ------------------------------------------------------------------------------------------------ */

/* "name+0x1f (file)" into text. */
void where(uintptr_t address, char *text, size_t capacity);

/* ---- drive.c ------------------------------------------------------------------------------------------------ */

struct options {
    unsigned budget;        /* boundaries tried per run where a path is longer */
    double seconds;         /* for a copy to end in */
    unsigned max_reports;   /* failures shown per run */
    const char *only_calls; /* patterns of names, with commas between; NULL: all */
    unsigned modes;         /* bits */
    const char *expect;     /* parts of messages, with | between: one must come. NULL: there must be none */
    unsigned n_outer;       /* nested: boundaries where the outer handler comes in */
    unsigned sample_rate;   /* one of so many blocks lies between guard pages; 0: none */
};
extern struct options options;

struct result {
    unsigned n_boundaries, n_addresses, n_system_calls; /* of the path */
    unsigned n_tried, n_addresses_tried;
    unsigned n_failed, n_expected;
    unsigned n_strays; /* tried as well: addresses that the recorded path didn't pass */
    bool may_not_trace;
};
void drive(const struct call *call, enum mode mode, struct result *result);
extern const char *const mode_name[N_MODES];
double now_seconds(void);

#endif
