/* SPDX-License-Identifier: MIT */
/* gcmap.h - collected mappings: mmap that unmaps itself when nothing points into it any more.
 *
 * A collection stops the other threads for a moment and looks through everything that a pointer can lie in: registers,
 * stacks, thread-local storage, the data of all modules, live blocks of the heap, and all other private memory that can
 * be written to. Free blocks of the heap, and what lies below a stack pointer, keep nothing. A mapping is kept whole by
 * any word that is the address of one of its bytes; mappings don't keep each other, but for ALLOT_GCMAP_SCAN. Pointers
 * that are packed, tagged in their upper bits, misaligned, in a file or in memory shared between processes are not
 * seen: allot_gcmap_pin, or allot_gc_add_root.
 *
 * Mapped bytes are no part of the heap, and the heap's growth starts no collection. allot_gcmap starts one when so many
 * mappings or bytes have come since the last, when the system's limits come near (options gc_*,
 * allot_gcmap_set_trigger), or allot_gcmap_collect does. Finalizers run on the thread that collected, outside all
 * locks.
 *
 * A collection that can't read every thread's stack and registers frees nothing, and says why. It needs Linux and
 * /proc; elsewhere mappings are there until they are closed.
 *
 * A mapping that was closed or collected leaves its range reserved. Who still uses it ends with a line that names it:
 *
 *     allot: use after close of 0x7f12a0: offset 16 in the 8192-byte mapping at 0x7f1290 (closed; "index" of /var/db/a,
 *     made by search+0x1d20), thread 4121
 *
 * The handler of SIGSEGV and SIGBUS that says so comes with the first mapping, if option gc_faults is on, and passes on
 * what isn't ours to the handler before it.
 *
 * The labels of the comments are those of allot.h.
 */
#ifndef ALLOT_GCMAP_H
#define ALLOT_GCMAP_H

#include "allot/allot.h"

#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- mapping ------------------------------------------------------------------------------------------------ */

enum {
    ALLOT_GCMAP_SCAN = 1,  /* pointers in this mapping keep others, as long as it is kept itself */
    ALLOT_GCMAP_SYNC = 2,  /* msync before it goes */
    ALLOT_GCMAP_PINNED = 4 /* allot_gcmap_pin at once */
};

/* Runs once, right before a mapping goes, closed or collected; its contents are still there. Nothing can keep it. */
typedef void (*allot_gcmap_finalizer)(void *begin, size_t length_bytes, void *context);

typedef struct allot_gcmap_opts {
    size_t abi_size;                 /* sizeof(allot_gcmap_opts), by ALLOT_GCMAP_OPTS_INIT */
    const char *name;                /* for reports; copied, cut at 31 bytes. NULL: none */
    void *hint;                      /* where, if that lies in the range for mappings and is free; NULL: anywhere */
    unsigned flags;                  /* ALLOT_GCMAP_ */
    allot_gcmap_finalizer finalizer; /* NULL: none */
    void *context;                   /* for finalizer; keeps nothing alive */
} allot_gcmap_opts;

/* clang-format off */
#define ALLOT_GCMAP_OPTS_INIT {sizeof(allot_gcmap_opts), NULL, NULL, 0, NULL, NULL}
/* clang-format on */

/* allot_gcmap - mmap, collected.
 *
 *   fd, offset, length_bytes, prot, flags   as mmap has them
 *   returns     the mapping; MAP_FAILED, which is (void *)-1, when there is none
 *   threads     any
 *   signals     not safe
 *   fork        the child has the mapping too, and collects on its own
 *   errors      MAP_FAILED and mmap's errno; EINVAL for flags that say where (MAP_FIXED, MAP_FIXED_NOREPLACE,
 * MAP_32BIT, MAP_GROWSDOWN) and for MAP_HUGETLB of a size that the system hasn't; ENOMEM when, after a collection,
 * there is still no address space or the system's number of mappings is used up source      POSIX.1-2024 mmap, Linux's
 * mmap(2)
 */
ALLOT_API void *allot_gcmap(int fd, off_t offset, size_t length_bytes, int prot, int flags) ALLOT_NODISCARD;

/* allot_gcmap_with - the same with options.
 *
 *   opts        NULL: none
 *   threads, signals, fork: as allot_gcmap
 *   errors      as allot_gcmap; EINVAL for options of an unknown size or with unknown flags
 */
ALLOT_API void *allot_gcmap_with(int fd, off_t offset, size_t length_bytes, int prot, int flags,
                                 const allot_gcmap_opts *opts) ALLOT_NODISCARD;

/* allot_gcmap_close - unmap now; the finalizer runs on this thread.
 *
 *   begin       what allot_gcmap returned; NULL does nothing
 *   returns     0; ENOMEM: the system can't split what it has mapped, everything is as before; an error of msync: the
 *               mapping is gone all the same. errno is kept
 *   threads     any; nobody else may use the mapping
 *   signals     not safe
 *   fork        usable in the child at once
 *   errors      by the return value; misuse: double close, invalid close
 */
ALLOT_API int allot_gcmap_close(void *begin);

/* allot_gcmap_unmap - unmap a part now. What is left is still one mapping: a pointer to any of it keeps all of it.
 *
 *   begin       in a mapping, at a multiple of its page size; length_bytes is rounded up to that
 *   returns     0; EINVAL: no part of one mapping; ENOMEM: the system can't split what it has mapped. errno is kept
 *   threads     any; nobody else may use the part
 *   signals     not safe
 *   fork        usable in the child at once
 *   errors      by the return value. Not munmap: the addresses would be anybody's, and be taken back when the rest goes
 */
ALLOT_API int allot_gcmap_unmap(void *begin, size_t length_bytes) ALLOT_NODISCARD;

/* allot_gcmap_pin, allot_gcmap_unpin - keep the mapping without a pointer that can be seen, as often as it was pinned.
 *
 *   address     of any byte of the mapping
 *   returns     0; EINVAL: in no mapping, or not pinned. errno is kept
 *   threads     any
 *   signals     not safe
 *   fork        usable in the child at once
 *   errors      by the return value
 */
ALLOT_API int allot_gcmap_pin(const void *address);
ALLOT_API int allot_gcmap_unpin(const void *address);

/* ---- collecting --------------------------------------------------------------------------------------------- */

typedef struct allot_gcmap_collected {
    size_t abi_size;      /* in: sizeof(allot_gcmap_collected), by ALLOT_GCMAP_COLLECTED_INIT */
    size_t n_mappings;    /* that went */
    size_t bytes;         /* of them, in whole pages */
    size_t n_threads;     /* that were stopped */
    size_t scanned_bytes; /* that were looked through for pointers */
    uint64_t pause_ns;    /* for which they were stopped */
    unsigned long thread; /* that could not be read; 0: none */
    const char *why;      /* nothing was freed, in words; "" when all went well */
} allot_gcmap_collected;

/* clang-format off */
#define ALLOT_GCMAP_COLLECTED_INIT {sizeof(allot_gcmap_collected), 0, 0, 0, 0, 0, 0, ""}
/* clang-format on */

/* allot_gcmap_collect - find the mappings that nothing points into, and unmap them now.
 *
 *   told        what happened; NULL: not wanted
 *   returns     0; otherwise nothing was freed: EBUSY (a thread blocks the signal, is held by a debugger, or did not
 *               answer), ETIMEDOUT (the limit on the pause), EPERM (the signal can't be sent, or the program has a
 * handler of its own for it), ENOSYS (the platform can't, or there is no /proc), ENOMEM; EINVAL: told is of an unknown
 * size. errno is kept threads     any; the others stand still meanwhile. Slow calls that a signal ends (sleep, poll)
 * may end early signals     not safe fork        usable in the child at once errors      by the return value
 */
ALLOT_API int allot_gcmap_collect(allot_gcmap_collected *told);

/* When allot_gcmap collects before it maps. What is 0 is no reason. */
typedef struct allot_gcmap_trigger {
    size_t abi_size;     /* sizeof(allot_gcmap_trigger) */
    size_t bytes;        /* mapped since the last collection: at least so many, and as many as it left */
    size_t number;       /* mappings made since: likewise */
    unsigned maps_share; /* percent of the mappings that the system allows a process */
    unsigned room_share; /* percent of RLIMIT_AS, for the range for mappings */
    unsigned age_ms;     /* since the last collection */
} allot_gcmap_trigger;

/* allot_gcmap_set_trigger - what the options gc_bytes, gc_number, gc_maps, gc_room and gc_age say, from now on.
 *
 *   returns     0; EINVAL, and nothing happens: trigger is NULL, of an unknown size, or out of the options' bounds
 *   threads     any
 *   signals     safe
 *   fork        the child inherits it
 *   errors      by the return value
 */
ALLOT_API int allot_gcmap_set_trigger(const allot_gcmap_trigger *trigger);

/* allot_gcmap_num_active, allot_gcmap_bytes_active - mappings that are there, and their bytes in whole pages. Up when
 * one has been made, down when it is unmapped.
 *
 *   threads     any
 *   signals     safe
 *   fork        usable in the child at once
 *   errors      none
 */
ALLOT_API size_t allot_gcmap_num_active(void);
ALLOT_API size_t allot_gcmap_bytes_active(void);

/* allot_gcmap_resident_bytes - of them, in memory; pages of a file count when the system caches them.
 *
 *   threads     any
 *   signals     not safe
 *   fork        usable in the child at once
 *   errors      none
 */
ALLOT_API size_t allot_gcmap_resident_bytes(void);

/* ---- what keeps mappings ------------------------------------------------------------------------------------ */

/* allot_gc_add_root - pointers in this memory count, though it is shared or not the process's own to write.
 *
 *   begin       bytes from here on; what of it can't be read is passed over
 *   returns     0; EINVAL: begin is NULL or the range wraps; ENOMEM. errno is kept
 *   threads     any
 *   signals     not safe
 *   fork        the child inherits it
 *   errors      by the return value
 */
ALLOT_API int allot_gc_add_root(const void *begin, size_t bytes);

/* allot_gc_remove_root - take back what allot_gc_add_root was called with.
 *
 *   returns     0; EINVAL: there is no such root. errno is kept
 *   threads     any
 *   signals     not safe
 *   fork        usable in the child at once
 *   errors      by the return value
 */
ALLOT_API int allot_gc_remove_root(const void *begin, size_t bytes);

typedef struct allot_weak allot_weak;

/* allot_weak_create - remember an address in a mapping without keeping the mapping.
 *
 *   address     of any byte of a mapping
 *   returns     the weak reference; NULL: address is in no mapping (EINVAL), or no memory (ENOMEM)
 *   threads     any
 *   signals     not safe
 *   fork        usable in the child at once
 *   errors      NULL and errno
 */
ALLOT_API allot_weak *allot_weak_create(const void *address) ALLOT_NODISCARD;

/* allot_weak_get - the address, or NULL when its mapping is gone, or its finalizer is about to run. Never waits.
 *
 *   threads     any, but for allot_weak_destroy of the same one
 *   signals     safe
 *   fork        usable in the child at once
 *   errors      none
 */
ALLOT_API void *allot_weak_get(const allot_weak *weak) ALLOT_NODISCARD;

/* allot_weak_destroy - NULL does nothing.
 *
 *   threads     any
 *   signals     not safe
 *   fork        usable in the child at once
 *   errors      none
 */
ALLOT_API void allot_weak_destroy(allot_weak *weak);

#ifdef __cplusplus
}
#endif
#endif
