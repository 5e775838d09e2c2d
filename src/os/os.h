/* SPDX-License-Identifier: MIT */
/* os.h - the platform, whole: memory, threads, signals, time. Nothing above this room includes a system header.
 *
 * linux.c and posix.c, each with unix.c, fulfil this contract; fake.c wraps either and fails on command.
 *
 * Unless a comment says otherwise:
 *   memory functions take page-aligned addresses and sizes and return 0 or a negative errno; results through pointers
 *   are pages of zeros
 *   every function is async-signal-safe, keeps errno, takes no lock, allocates nothing, and is no cancellation point
 */
#ifndef OS_OS_H
#define OS_OS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- memory ------------------------------------------------------------------------------------------------- */

/* What the OS calls a page. A constant of the process. */
size_t os_page_bytes(void);

/* Address space without access or charge. align: a power of two of at least a page. NULL when there is none. */
void *os_reserve(size_t bytes, size_t align);

/* The same, readable as zeros: charged to nothing until os_commit makes parts of it writable. */
void *os_reserve_readable(size_t bytes);

/* Reserved memory becomes readable and writable. Memory that has been committed before keeps its contents. */
int os_commit(void *begin, size_t bytes);

/* Committed memory can't be touched any more, until os_commit; what it held stays. */
int os_protect(void *begin, size_t bytes);

/* Contents go back to the OS, the memory stays committed. Afterwards it reads as zeros; with lazy it may keep its old
 * contents until the OS needs the pages (where OS_CAN_PURGE_LAZY, otherwise lazy is ignored). */
int os_purge(void *begin, size_t bytes, bool lazy);

/* The address space goes back. Only for what os_reserve, os_map or os_remap returned, whole or in part. */
int os_release(void *begin, size_t bytes);

/* Committed memory in a mapping of its own, at a multiple of align. NULL when refused. */
void *os_map(size_t bytes, size_t align);

/* A mapping from os_map moves to target, reserved memory of new_bytes (not less than old_bytes), contents kept. False:
 * refused, or the platform can't; the old mapping is as it was, and target is released. */
bool os_remap(void *begin, size_t old_bytes, size_t new_bytes, void *target);

/* Grows a mapping in place only. */
bool os_extend(void *begin, size_t old_bytes, size_t new_bytes);

/* Advice about huge pages: never for books and thin areas, wanted on request. Refusal is harmless. */
int os_huge_never(void *begin, size_t bytes);
int os_huge_wanted(void *begin, size_t bytes);

/* How many bytes of the range are resident. bytes when the platform can't tell. */
size_t os_resident_bytes(void *begin, size_t bytes);

/* The program break moves up by bytes (whole pages): committed memory, wherever the program's own use of the break
 * left it, page-aligned. NULL when refused or where there is no break. Never moves it down. */
void *os_break_grow(size_t bytes);
/* Where the break is now; NULL where there is none. */
void *os_break_now(void);

/* ---- memory as somebody wants it ---------------------------------------------------------------------------- */

struct os_view {
    size_t bytes;
    size_t align;    /* a power of two of at least a page */
    void *address;   /* a hint */
    int protection;  /* PROT_*, unchanged; -1: readable and writable */
    int flags;       /* MAP_*, beyond what the rest of this says */
    int fd;          /* -1: anonymous */
    uint64_t offset; /* in fd */
    bool reserve;    /* address space alone: protection is none, nothing is charged */
};

/* A mapping. The error of the system comes back unchanged. */
int os_view_map(const struct os_view *view, void **out);
/* The same within distance of an address, as close to it as there is room. -ENOMEM when there is none. */
int os_view_map_near(const struct os_view *view, const void *near, size_t distance, void **out);
/* Whether a reservation can have these MAP_ flags: they don't share, touch or lock what isn't there yet. */
bool os_view_flags_reserve(int flags);

/* PROT_* as it is, and the error of the system unchanged. Memory that has been used before keeps its contents. */
int os_view_protect(void *begin, size_t bytes, int protection);
int os_protection_usual(void);   /* PROT_READ | PROT_WRITE */
int os_protection_read(void);    /* PROT_READ */
int os_protection_execute(void); /* PROT_READ | PROT_EXEC */

/* Contents of private anonymous pages go back to the OS; afterwards they read as zeros. protection: as it is now. */
int os_view_purge(void *begin, size_t bytes, int protection);

/* MAP_SHARED. */
int os_flags_shared(void);

/* Pages to be touched from now on come from this NUMA node where there is one to be had. */
int os_prefer_node(void *begin, size_t bytes, int node);

/* A file of bytes zero bytes that has no name and goes with its descriptor and mappings; a descriptor, or a negative
 * errno. */
int os_file_make(size_t bytes);
void os_file_close(int fd);
/* How long a regular file is; SIZE_MAX: it is none, or nobody can tell. */
size_t os_file_bytes(int fd);
/* Pages of such a file, or of shared memory, go back, seen through a shared mapping of it. */
int os_file_purge(void *begin, size_t bytes);

/* ---- the process -------------------------------------------------------------------------------------------- */

/* Milliseconds of a monotonic clock, as coarse as is cheap (a few ms). */
uint64_t os_now_ms(void);

/* Unpredictable where the OS can give that. Never fails. */
uint64_t os_random(void);

/* The environment variable called name, copied into buffer and cut at capacity; false when there is none. Works before
 * libc has set up environ. In a privileged process (set-uid, capabilities) there is none. */
bool os_environment(const char *name, char *buffer, size_t capacity);

/* Whether the process has rights that its user hasn't (set-uid, capabilities). */
bool os_is_privileged(void);

/* Whether os_environment can be asked yet. Where it can't (posix.c, before libc has been started) it answers false. */
bool os_environment_ready(void);

/* Takes each file whose name begins with file out of the environment's list of files (LD_PRELOAD) called name; a list
 * that is left empty goes. For the start, while no other thread reads the environment. */
void os_environment_forget_file(const char *name, const char *file);

/* RLIMIT_AS in bytes; SIZE_MAX when unlimited. */
size_t os_address_space_limit(void);
/* The least of RLIMIT_DATA, RLIMIT_AS, physical memory and the cgroup's limit (Linux). */
size_t os_memory_limit(void);
/* Resident bytes of the process; 0 when the platform can't tell. */
size_t os_process_resident_bytes(void);

/* To standard error, all of it, whatever signals come. That nobody listens there (SIGPIPE) is no harm. */
void os_write_error(const char *bytes, size_t length);

/* Whether standard error is a terminal. */
bool os_error_is_terminal(void);

/* A file to append to, made if there is none; nobody but the user may read it. Its number, or a negative errno. */
int os_append_to(const char *path);
/* All of it, whatever signals come, to the file of that number; os_close gives the number back. */
void os_write(int file, const char *bytes, size_t length);
void os_close(int file);

/* Puts more into a document of three parts, head, items and tail, before its tail: made if there is none. 0 or a
 * negative errno. */
struct os_document {
    const char *head;
    const char *between; /* two items */
    const char *tail;
};
int os_document_add(const char *path, const struct os_document *document, const char *item, size_t length);

/* The beginning of a file as a string, cut at capacity. Its length, or a negative errno. */
long os_read_file(const char *path, char *buffer, size_t capacity);

/* Runs a program as a child that gets input and is read until it closes its output, cut at capacity, or until
 * timeout_ms have gone by; then it is killed. It sees neither LD_PRELOAD nor ALLOT_OPTIONS, and sends no SIGCHLD.
 * arguments ends in NULL. How much it wrote, or a negative errno; -EPERM in a privileged process (set-uid,
 * capabilities). */
long os_run(const char *path, char *const *arguments, const char *input, size_t input_length, char *output,
            size_t capacity, unsigned timeout_ms);

/* Visits what is mapped in the process, by ascending address, until visit returns false. 0, or a negative errno when
 * the platform can't tell. The mapping lives for the call only; its name is a file's path, "[stack]" and the like, or
 * "". */
struct os_mapping {
    uintptr_t begin;
    uintptr_t end;
    bool readable;
    bool writable;
    bool executable;
    const char *name;
};
int os_mappings(bool (*visit)(const struct os_mapping *mapping, void *context), void *context);

/* Whether the byte at p can be read at this moment. A system call. */
bool os_readable(const void *p);

/* The module whose code lies at pc, found without a lock. 0; -ENOENT: there is none; -ENOSYS: the platform can't tell.
 */
struct os_code {
    uintptr_t begin;
    uintptr_t end;
    const void *unwind; /* its .eh_frame_hdr, or NULL */
};
int os_code_at(uintptr_t pc, struct os_code *code);
/* Whether that module is the program itself, not a library. */
bool os_code_is_program(const struct os_code *code);

/* The machine's registers, by the numbers that DWARF gives them, and the program counter behind them. */
#if defined(__x86_64__)
#define OS_REGISTERS 17u
#define OS_REGISTER_FP 6u
#define OS_REGISTER_SP 7u
#define OS_REGISTER_PC 16u
#elif defined(__aarch64__)
#define OS_REGISTERS 33u
#define OS_REGISTER_FP 29u
#define OS_REGISTER_SP 31u
#define OS_REGISTER_PC 32u
#else
#define OS_REGISTERS 3u
#define OS_REGISTER_FP 0u
#define OS_REGISTER_SP 1u
#define OS_REGISTER_PC 2u
#endif

struct os_registers {
    uintptr_t of[OS_REGISTERS];
};

/* Of the code that a signal interrupted; context is the handler's third argument. False: not known of this machine. */
bool os_registers_of(const void *context, struct os_registers *registers);

/* An access that the machine refused. */
struct os_access {
    const void *address; /* NULL when the machine doesn't tell: an address that could never be one, or NULL itself */
    bool address_known;
    int is_write;     /* 1 write, 0 read or execution, -1 the machine doesn't tell */
    bool beyond_file; /* SIGBUS: mapped, but its file ends before */
    bool handled;     /* the program has a handler of its own for the signal */
    bool has_registers;
    struct os_registers registers;
};

/* From now on, SIGSEGV and SIGBUS first ask handler, and those that were given before, each of which may say by true
 * that the access is to be tried again. What they pass over goes to the action that the program had before. Not
 * async-signal-safe. 0 or a negative errno. */
int os_catch_faults(bool (*handler)(const struct os_access *access));

/* Ends the process with that code, at once: no destructors, nothing flushed. */
__attribute__((noreturn)) void os_exit(int code);

/* Ends the process by SIGABRT, also when the program catches or blocks that. */
__attribute__((noreturn)) void os_abort(void);

/* ---- threads and signals ------------------------------------------------------------------------------------ */

/* The number that the OS's tools show for the calling thread. */
unsigned long os_thread_id(void);

/* Tells the processor that the caller spins. */
void os_relax(void);

/* A full barrier in every thread of the process that runs. 0, or a negative errno where there is none. */
int os_barrier_all(void);

/* Lets other threads run. */
void os_yield(void);

/* Makes the key through which thread_exit will be called. Once, before os_thread_exit_arm. Not async-signal-safe. */
int os_thread_exit_init(void (*thread_exit)(void *));
/* thread_exit(value) runs when the calling thread ends, before its thread-local storage goes; not for NULL, which
 * disarms. libc may allocate in here, so call it when the thread can. Not async-signal-safe. */
int os_thread_exit_arm(void *value);

/* fork(): child runs in the child, before fork returns there. Not async-signal-safe. */
int os_fork_init(void (*child)(void));
/* The same with functions that run before it and afterwards in the parent. Not async-signal-safe. */
int os_fork_around(void (*before)(void), void (*parent)(void), void (*child)(void));
/* A word that is 1, but 0 in a child made by any kind of copying fork until the child writes it; NULL when the platform
 * has no such thing. The same word at each call. */
uint32_t *os_fork_word(void);

/* A file's beginning as a string; its length, or a negative errno. */
long os_file_read(const char *path, char *buffer, size_t capacity);

/* The name of the function at an address, as far as the module's dynamic symbols know it. Takes the loader's lock. */
struct os_symbol {
    char name[128];
};
bool os_symbol_at(uintptr_t address, struct os_symbol *symbol);

/* ---- waiting ------------------------------------------------------------------------------------------------ */

/* Waits until somebody wakes the word, ms have passed, or a signal came; not at all when the word isn't value. */
void os_wait(_Atomic uint32_t *word, uint32_t value, unsigned ms);
/* All that wait for the word, of this process. */
void os_wake(_Atomic uint32_t *word);

/* A lock that waits, for what lies off the paths of malloc and free. All zeros: free. Not for signal handlers. */
struct os_lock {
    _Atomic uint32_t word;
};
void os_lock(struct os_lock *lock);
void os_unlock(struct os_lock *lock);

/* Nanoseconds of a monotonic clock. */
uint64_t os_now_ns(void);

/* A thread that ends with the process, with all signals blocked but one. 0 or a negative errno. Not async-signal-safe.
 */
int os_thread_start(void *(*run)(void *), void *argument, int signal);

/* ---- the program's own mappings ----------------------------------------------------------------------------- */

/* As os_reserve, at wanted if nothing lies there, or as near as the OS likes. */
void *os_reserve_near(void *wanted, size_t bytes);
/* Whatever is mapped there goes; the range is reserved again. */
int os_reserve_over(void *begin, size_t bytes);
/* The range is reserved if nothing lies in it. */
int os_reserve_hole(void *begin, size_t bytes);

/* mmap's arguments, over reserved memory. A failure may leave a hole there (os_reserve_hole). */
int os_map_user(void *target, size_t bytes, int fd, int64_t offset, int protection, int flags);
/* Flags that place a mapping, and so are no one's but the room's. */
bool os_map_flags_place(int flags);
/* Memory that belongs to no file and is not shared. */
bool os_map_flags_private(int flags);
/* What such a mapping's address and length are multiples of: the page, or a huge page. 0: no such huge pages here. */
size_t os_map_unit(int fd, int flags);
/* What was written to the range's pages is in their file. */
int os_sync(void *begin, size_t bytes);
/* The path of an open file, cut at the front; "" when the platform can't tell. */
void os_file_path(int fd, char *buffer, size_t capacity);
/* How many mappings a process may have. SIZE_MAX: no limit known. */
size_t os_mappings_most(void);

/* ---- what the whole process holds ---------------------------------------------------------------------------- */

/* Visits memory that can be read, by ascending address, but for what lies within the range from skip_begin to skip_end.
 * 0; -ENOSYS where the platform can't tell; or why it couldn't be read. */
struct os_memory {
    uintptr_t begin;
    uintptr_t end;
    bool writable;
    bool shared;
    bool guarded;     /* right below lies memory that can't be touched */
    bool first_stack; /* of the first thread */
};
int os_memory_each(uintptr_t skip_begin, uintptr_t skip_end, bool (*visit)(const struct os_memory *, void *),
                   void *context);

/* A guarded mapping that is a stack which libc keeps of a thread that ended, or has ready for one that is to begin:
 * where the thread's own structure lies in it; what lies below is nobody's. 0: it is none, or the platform can't tell.
 */
uintptr_t os_stack_left(uintptr_t begin, uintptr_t end);

/* Visits the parts of a range of private memory that were written to since they were mapped: pages in memory or swapped
 * out that are not their file's. pages: from os_pages_open; below 0, all of the range is visited. */
int os_pages_open(void);
void os_pages_close(int pages);
void os_pages_written(int pages, uintptr_t begin, uintptr_t end,
                      void (*visit)(uintptr_t begin, uintptr_t end, void *context), void *context);

/* Where the calling thread's own structure lies, as libc has it. */
uintptr_t os_thread_self(void);

/* A thread that stands still. */
struct os_standing {
    unsigned long id;
    uintptr_t stack;            /* the lowest byte that it may still read of its stack */
    uintptr_t self;             /* its own structure, as libc has it: at the upper end of the stack that libc gave it */
    const uintptr_t *ranges[2]; /* its registers */
    size_t words[2];
};

enum os_stop_fault {
    OS_STOP_NONE,
    OS_STOP_UNKNOWN, /* the platform can't, or the list of threads can't be read */
    OS_STOP_TAKEN,   /* the program has a handler of its own for the signal */
    OS_STOP_REFUSED, /* the signal can't be sent */
    OS_STOP_BLOCKED, /* a thread blocks the signal */
    OS_STOP_TRACED,  /* a thread is stopped by a debugger */
    OS_STOP_SILENT   /* a thread didn't answer in time */
};
struct os_stop {
    enum os_stop_fault fault;
    unsigned long thread; /* that it is about; 0: none */
    size_t n;             /* threads that stand still, beside the caller */
    size_t n_passed;      /* of them, passed over */
};

/* Takes the memory that stopping needs; otherwise the first stop does. False: refused. */
bool os_threads_prepare(void);
/* Stops every thread of the process but the caller, wherever it came from, by a signal; gives up after so many ms. The
 * caller's signals are blocked until os_threads_go, which must follow a success. While threads stand still, nothing may
 * be called that takes a lock of libc's. pass_over: a thread that blocks the signal and sleeps is
 * left asleep; its registers are not known, and it may wake. One caller at a time. False: all run again. */
bool os_threads_stop(int signal, unsigned ms, bool pass_over, struct os_stop *stop);
void os_threads_go(void);
/* Of those; NULL when it has ended instead. */
const struct os_standing *os_standing(size_t i);
/* ---- sockets, for who looks at the process ------------------------------------------------------------------- */

/* Names the calling thread, for the OS's tools, where that can be done. */
void os_thread_name(const char *name);

unsigned long os_process_id(void);
unsigned long os_user_id(void); /* whose rights the process has now */

/* A directory that is the user's alone: made with mode 0700, or there already with no right for anybody else. 0 or a
 * negative errno: -EPERM when it is another's, or others have rights. */
int os_private_directory(const char *path);
/* A Unix socket at path, in place of what lies there. Descriptor or a negative errno. */
int os_listen(const char *path);
void os_unlink(const char *path);
/* Whether the process at the other end runs as the same user, or as root. */
bool os_peer_may(int connection);
/* The next connection; -EAGAIN when there is none. What is sent on it waits for at most patience_ms. */
int os_accept(int listener, unsigned patience_ms);
/* Bytes; 0 at the end, a negative errno, -EAGAIN when nothing is there yet. */
long os_receive(int connection, char *buffer, size_t capacity);
/* All of it, or a negative errno. Raises no SIGPIPE. */
int os_send(int connection, const char *bytes, size_t length);
/* Two ends of a pipe that programs started don't inherit: bytes written to the second come out of the first. */
int os_pipe(int ends[2]);
void os_pipe_write(int end);
void os_pipe_drain(int end);
/* Waits until one of n descriptors (negative ones are passed over) has something, or for ms (negative: for good). ready
 * gets a bit a descriptor; n is at most 32. */
void os_wait_for(const int *descriptors, unsigned n, int ms, uint32_t *ready);

/* Calls handler when the signal comes. -EBUSY when the program has its own already. */
int os_on_signal(int number, void (*handler)(int));

#if defined(__linux__)
#define OS_CAN_PURGE_LAZY 1
#else
#define OS_CAN_PURGE_LAZY 0
#endif

#endif
