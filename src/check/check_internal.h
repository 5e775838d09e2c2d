/* SPDX-License-Identifier: MIT */
/* check_internal.h - what the files of this room share. */
#ifndef CHECK_CHECK_INTERNAL_H
#define CHECK_CHECK_INTERNAL_H

#include "base/atomic.h"
#include "base/hooks.h"
#include "check/check.h"
#include "map/map.h"
#include "os/os.h"

/* ---- note.c: what is known of a block ----------------------------------------------------------------------- */

enum note_state {
    NOTE_NONE,
    NOTE_LIVE,
    NOTE_FREED, /* by the program: in quarantine, or between closed guard pages */
    NOTE_GONE   /* back in the heap; what is known of it is history */
};

struct note {
    _Atomic uint8_t state; /* relaxed, but who changes it from NOTE_LIVE owns the block from then on */
    uint8_t kind;
    uint8_t align_shift;
    uint8_t reported; /* faults of it that were told already; so that a sweep tells each once */
    uint32_t take_thread;
    uint32_t give_thread;
    uint32_t take_stack; /* numbers of the depot */
    uint32_t give_stack;
    uint32_t unused;
    uint64_t requested;
};

/* The note of a block of the heap, NULL when it has none. block_bytes: of its class. */
struct note *note_find(const void *block, size_t block_bytes);
/* The same, made if there is none; NULL when there is no memory. */
struct note *note_make(const void *block, size_t block_bytes);

/* The block that covers an address, and its note. */
struct noted {
    struct note *note; /* NULL: nothing is known */
    char *block;
    size_t room_bytes; /* from block to where its canary ends */
    bool guarded;
};
struct noted noted_find(const void *address);

/* Sets what taking or giving knows. */
void note_take(struct note *note, const struct hook_take *wanted);
void note_give(struct note *note);

/* In a forked child the thread has another number. */
void check_forget_thread(void);

/* The caller's stack without allot's own frames, by its number in the depot. */
uint32_t check_stack(void);
/* Leaves allot's own frames at the front out; how many are left. */
size_t check_leave_own(uintptr_t *pcs, size_t n);

/* ---- guard.c: blocks between pages that can't be touched ---------------------------------------------------- */

/* NULL: the budget is used up, or the system refuses. */
void *guard_take(const struct hook_take *wanted);
/* A block that was NOTE_FREED by the caller. */
void guard_give(struct noted *noted);
/* The guarded block of the granules that an address lies in, whatever distance from it; note NULL when there is none.
 */
struct noted guard_find(const void *address);
/* Of several guarded blocks whose pages border an address, the one that was probably meant. */
struct noted guard_nearest(const void *address);
/* Its pages can be touched from now on, so that the program may go on. */
void guard_open(const void *address);
/* Not where a guard forbids to read. */
bool guard_is_open(const void *address);
void guard_fork_child(void);

/* ---- fill.c: bytes that tell -------------------------------------------------------------------------------- */

#define FILL_NEW 0xbd
#define FILL_FREED 0xdb
#define FILL_CANARY 0xcb
#define FILL_WORD(byte) ((uintptr_t)-1 / 255 * (byte))
/* Behind what was asked for, at least. */
#define TAIL_BYTES 16

void fill_new(const struct noted *noted);
void fill_freed(const struct noted *noted);
void fill_tail(const struct noted *noted);

/* Looks at a live block's tail, and at what lies before it between guard pages. NULL: whole. Otherwise the first byte
 * that was changed; below: how it lies to the block. */
const char *fill_find_damage(const struct noted *noted);
/* Looks at a freed block's fill. NULL: whole. */
const char *fill_find_write(const struct noted *noted);
/* Where the bytes before block, which belong to another block, show that something was written there; NULL: nowhere. */
const char *fill_find_underflow(const struct noted *noted);

/* Is the word made of the fill of new memory, or of freed memory? As it is, or with little added. */
bool fill_is_new(uintptr_t word);
bool fill_is_freed(uintptr_t word);

/* ---- quarantine.c ------------------------------------------------------------------------------------------- */

void quarantine_put(void *block, size_t bytes);
void quarantine_fork_child(void);

/* ---- faults of a noted block -------------------------------------------------------------------------------- */

struct check_fault {
    const char *name;
    const void *address;
    const char *action;
};

/* Reports it as the block is now; whether to go on. */
void check_fault(const struct noted *noted, const char *name, const void *address, const char *action);
/* Looks at a live block and reports; how many faults. */
size_t check_live(const struct noted *noted, const char *action);
/* Looks at a freed one. */
size_t check_freed(const struct noted *noted);
/* Is this address, or size, what was read from memory that nobody wrote to? Then it is reported. */
bool check_uninitialised(uintptr_t word, const char *action);

/* ---- leak.c ------------------------------------------------------------------------------------------------- */

/* Looks for blocks that nothing points to, and reports one for each place that they were taken at; how many. */
size_t leaks_tell(void);

/* ---- access.c ----------------------------------------------------------------------------------------------- */

/* Faults of guard pages come here from now on. */
void access_catch(void);

/* ---- judge.c: what is to be reported ------------------------------------------------------------------------ */

bool judge_wants(const struct fault *fault);

/* ---- report.c ----------------------------------------------------------------------------------------------- */

void report_tell(const struct fault *fault, const char *line);
bool report_goes_on(const struct fault *fault);

/* ---- a lock that nobody waits for --------------------------------------------------------------------------- */

INLINE bool check_try_lock(_Atomic bool *lock)
{
    return !load_relaxed(lock) && !xchg_acquire(lock, true); /* O38 */
}

INLINE void check_unlock(_Atomic bool *lock)
{
    store_release(lock, false); /* O38 */
}

#endif
