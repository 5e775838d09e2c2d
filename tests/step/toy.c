/* SPDX-License-Identifier: MIT */
/* toy.c - a toy allocator under the standard names, right or with a fault on request.
 *
 * It has what the stepper looks at, in its smallest form: a heap a thread, lent while it is in use; a lock-free reserve
 * for handlers that find it lent; an inbox for what other threads free; a mapping for each larger block. It is neither
 * fast nor thrifty. As it stands the stepper finds nothing; toy_plant makes one of the faults below, each of which it
 * must find.
 *
 *     granule of a heap    16 chunks of 4 KiB, each cut into blocks of one class: 64, 128, ... 2048 bytes
 *     block                16 bytes of header, then what the caller gets
 */
#include "step.h"

#include <allot/allot.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define N_CLASSES 6
#define CHUNK ((size_t)4096)
#define GRANULE ((size_t)65536)
#define REGION ((size_t)512 << 20)
#define N_HEAPS 64
#define N_MAPPINGS 8192
#define RESERVE 0     /* the heap number of the reserve's blocks */
#define MAPPED 0xffff /* the class of a block with a mapping of its own */
#define FENCE() atomic_signal_fence(memory_order_seq_cst)

struct header {
    uint16_t class;
    uint16_t heap;
    uint32_t mapping; /* its number, if MAPPED */
    _Atomic uint32_t live;
    uint32_t unused;
};

struct block {
    struct block *next;
};

struct heap {
    struct block *list[N_CLASSES];
    _Atomic(struct block *) inbox;
    char *span, *span_end; /* not cut yet */
    _Atomic bool owned;
};

struct mapping {
    _Atomic(char *) block;
    size_t bytes;
    char *begin;
    size_t length;
};

enum fault { NONE, HEAD, PUSH, LOCK, REALLOC, RESERVED, STUCK, INBOX, N_FAULTS };
static const char *const fault_name[N_FAULTS] = {"none",    "head",    "push",  "lock",
                                                 "realloc", "reserve", "stuck", "inbox"};

static struct {
    enum fault fault;
    _Atomic(char *) region;
    _Atomic size_t used;                         /* of the region */
    _Atomic uint8_t chunk_class[REGION / CHUNK]; /* + 1, once its blocks have headers */
    struct heap heap[N_HEAPS];                   /* 0: its number is the reserve's */
    _Atomic uint64_t reserve[N_CLASSES];         /* block's number in units of 64 bytes; counter above */
    struct mapping mapping[N_MAPPINGS];
    pthread_key_t key;
    _Atomic bool lock; /* fault LOCK */
} toy;

static __thread struct heap *current; /* NULL: lent, or there is none yet */
static __thread struct heap *_Atomic home;

int toy_plant(const char *fault);
int toy_plant(const char *fault)
{
    for (unsigned i = 0; i < N_FAULTS; i++) {
        if (strcmp(fault, fault_name[i]) == 0) {
            toy.fault = (enum fault)i;
            return 1;
        }
    }
    return 0;
}

NORETURN static void die(const char *text)
{
    if (write(2, text, strlen(text)) < 0) {
        _exit(3);
    }
    abort();
}

static struct header *header_of(const void *p)
{
    return (struct header *)(uintptr_t)p - 1;
}

static size_t payload(unsigned class)
{
    return ((size_t)64 << class) - sizeof(struct header);
}

/* ---- where memory comes from -------------------------------------------------------------------------------- */

static char *region(void)
{
    char *begin = atomic_load(&toy.region);
    if (begin != NULL) {
        return begin;
    }
    char *p = mmap(NULL, REGION + GRANULE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        die("toy: no memory\n");
    }
    char *aligned = (char *)(((uintptr_t)p + GRANULE - 1) & ~(GRANULE - 1));
    if (atomic_compare_exchange_strong(&toy.region, &begin, aligned)) {
        return aligned;
    }
    munmap(p, REGION + GRANULE);
    return begin;
}

static char *take_granule(void)
{
    size_t at = atomic_fetch_add(&toy.used, GRANULE) + GRANULE; /* number 0 is no block */
    if (at + GRANULE > REGION) {
        die("toy: the region is used up\n");
    }
    return region() + at;
}

/* The chunk's blocks, in a list. */
static struct block *cut(char *chunk, unsigned class, uint16_t heap)
{
    size_t bytes = (size_t)64 << class;
    struct block *list = NULL;
    if (toy.fault == LOCK) {
        while (atomic_exchange(&toy.lock, true)) {
            sched_yield();
        }
    }
    for (size_t at = CHUNK; at > 0; at -= bytes) {
        struct header *header = (struct header *)(chunk + at - bytes);
        *header = (struct header){.class = (uint16_t) class, .heap = heap};
        struct block *block = (struct block *)(header + 1);
        block->next = list;
        list = block;
    }
    atomic_store(&toy.chunk_class[(size_t)(chunk - region()) / CHUNK], (uint8_t)(class + 1));
    if (toy.fault == LOCK) {
        atomic_store(&toy.lock, false);
    }
    return list;
}

/* ---- the reserve -------------------------------------------------------------------------------------------- */

static void reserve_push(struct block *block, unsigned class)
{
    uint64_t number = (uint64_t)((char *)block - region()) / 64;
    uint64_t head = atomic_load(&toy.reserve[class]);
    do {
        *(_Atomic uint64_t *)block = head & UINT32_MAX;
    } while (!atomic_compare_exchange_weak(&toy.reserve[class], &head, ((head >> 32) + 1) << 32 | number));
}

static void *reserve_malloc(unsigned class)
{
    for (;;) {
        uint64_t head = atomic_load(&toy.reserve[class]);
        uint64_t number = head & UINT32_MAX;
        if (number == 0) {
            struct block *next;
            for (struct block *block = cut(take_granule(), class, RESERVE); block != NULL; block = next) {
                next = block->next;
                reserve_push(block, class);
            }
            continue;
        }
        struct block *block = (struct block *)(region() + number * 64 + sizeof(struct header));
        uint64_t after = ((head >> 32) + 1) << 32 | (*(_Atomic uint64_t *)block & UINT32_MAX);
        if (toy.fault == RESERVED) {
            atomic_store(&toy.reserve[class], after);
        } else if (!atomic_compare_exchange_strong(&toy.reserve[class], &head, after)) {
            continue;
        }
        atomic_store(&header_of(block)->live, 1);
        return block;
    }
}

/* ---- heaps -------------------------------------------------------------------------------------------------- */

static void thread_exit(void *heap)
{
    struct heap *h = heap;
    current = NULL;
    FENCE();
    atomic_store(&home, &toy.heap[RESERVE]); /* from now on, as if lent */
    atomic_store(&h->owned, false);
}

__attribute__((constructor)) static void make_key(void)
{
    pthread_key_create(&toy.key, thread_exit);
}

/* A first call. A handler that interrupts it may be first. */
static struct heap *home_make(void)
{
    for (unsigned i = 1; i < N_HEAPS; i++) {
        struct heap *h = &toy.heap[i];
        bool owned = false;
        if (!atomic_compare_exchange_strong(&h->owned, &owned, true)) {
            continue;
        }
        struct heap *made = NULL;
        if (!atomic_compare_exchange_strong(&home, &made, h)) {
            atomic_store(&h->owned, false);
            return made;
        }
        pthread_setspecific(toy.key, h);
        return h;
    }
    die("toy: too many threads\n");
}

static void collect(struct heap *h)
{
    struct block *next;
    struct block *block;
    if (toy.fault == INBOX) {
        block = atomic_load(&h->inbox);
        atomic_store(&h->inbox, NULL);
    } else {
        block = atomic_exchange(&h->inbox, NULL);
    }
    for (; block != NULL; block = next) {
        next = block->next;
        unsigned class = header_of(block)->class;
        block->next = h->list[class];
        h->list[class] = block;
    }
}

static void refill(struct heap *h, unsigned class)
{
    collect(h);
    if (h->list[class] != NULL) {
        return;
    }
    if (h->span == h->span_end) {
        h->span = take_granule();
        h->span_end = h->span + GRANULE;
    }
    char *chunk = h->span;
    h->span += CHUNK;
    h->list[class] = cut(chunk, class, (uint16_t)(h - toy.heap));
}

static void *small_malloc(unsigned class)
{
    struct heap *h = current;
    struct block *block = toy.fault == HEAD && h != NULL ? h->list[class] : NULL;
    if (h == NULL) {
        if (atomic_load(&home) != NULL) {
            return reserve_malloc(class);
        }
        h = home_make();
    }
    current = NULL;
    FENCE();
    if (toy.fault != HEAD || block == NULL) {
        if (h->list[class] == NULL) {
            refill(h, class);
        }
        block = h->list[class];
    }
    h->list[class] = block->next;
    atomic_store(&header_of(block)->live, 1);
    FENCE();
    current = h;
    return block;
}

/* ---- mappings ----------------------------------------------------------------------------------------------- */

static void *map_block(size_t bytes, size_t alignment)
{
    size_t length = (bytes + alignment + CHUNK + CHUNK - 1) & ~(CHUNK - 1);
    char *begin = bytes > PTRDIFF_MAX - alignment - 2 * CHUNK
                      ? MAP_FAILED
                      : mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (begin == MAP_FAILED) {
        errno = ENOMEM;
        return NULL;
    }
    char *block = (char *)(((uintptr_t)begin + sizeof(struct header) + alignment - 1) & ~(alignment - 1));
    for (uint32_t i = 0; i < N_MAPPINGS; i++) {
        char *none = NULL;
        if (atomic_compare_exchange_strong(&toy.mapping[i].block, &none, (char *)1)) {
            *header_of(block) = (struct header){.class = MAPPED, .mapping = i, .live = 1};
            toy.mapping[i].bytes = bytes;
            toy.mapping[i].begin = begin;
            toy.mapping[i].length = length;
            atomic_store(&toy.mapping[i].block, block);
            return block;
        }
    }
    die("toy: too many mappings\n");
}

static void unmap_block(struct header *header)
{
    struct mapping *mapping = &toy.mapping[header->mapping];
    char *begin = mapping->begin;
    size_t length = mapping->length;
    atomic_store(&mapping->block, NULL);
    int saved = errno;
    munmap(begin, length);
    errno = saved;
}

/* ---- the standard names ------------------------------------------------------------------------------------- */

void *malloc(size_t bytes)
{
    for (unsigned class = 0; class < N_CLASSES; class ++) {
        if (bytes <= payload(class)) {
            return small_malloc(class);
        }
    }
    return map_block(bytes, 16);
}

void free(void *p)
{
    if (p == NULL) {
        return;
    }
    struct header *header = header_of(p);
    struct block *block = p;
    unsigned class = header->class;
    struct heap *h = current;
    if (atomic_exchange(&header->live, 0) != 1) {
        die("toy: double free\n");
    }
    if (class == MAPPED) {
        unmap_block(header);
    } else if (header->heap == RESERVE) {
        if (toy.fault != STUCK) {
            reserve_push(block, class);
        }
    } else if (h == &toy.heap[header->heap]) {
        if (toy.fault != PUSH) {
            current = NULL;
        }
        FENCE();
        block->next = h->list[class];
        FENCE();
        h->list[class] = block;
        FENCE();
        current = h;
    } else {
        struct heap *owner = &toy.heap[header->heap];
        block->next = atomic_load(&owner->inbox);
        while (!atomic_compare_exchange_weak(&owner->inbox, &block->next, block)) {
        }
    }
}

size_t malloc_usable_size(void *p);
size_t malloc_usable_size(void *p)
{
    const struct header *header = header_of(p);
    return p == NULL ? 0 : header->class == MAPPED ? toy.mapping[header->mapping].bytes : payload(header->class);
}

void *calloc(size_t n, size_t bytes)
{
    size_t product;
    if (__builtin_mul_overflow(n, bytes, &product)) {
        errno = ENOMEM;
        return NULL;
    }
    void *p = malloc(product);
    if (p != NULL) {
        memset(p, 0, product);
    }
    return p;
}

void *realloc(void *p, size_t bytes)
{
    size_t old = malloc_usable_size(p);
    if (p != NULL && bytes <= old && bytes > old / 2) {
        return p;
    }
    if (toy.fault == REALLOC && p != NULL) {
        free(p);
        void *q = malloc(bytes);
        return q == NULL ? NULL : memmove(q, p, old < bytes ? old : bytes);
    }
    void *q = malloc(bytes);
    if (q != NULL && p != NULL) {
        memcpy(q, p, old < bytes ? old : bytes);
        free(p);
    }
    return q;
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    return alignment <= 16 ? malloc(bytes) : map_block(bytes, alignment);
}

void *memalign(size_t alignment, size_t bytes);
void *memalign(size_t alignment, size_t bytes)
{
    return aligned_alloc(alignment, bytes);
}

int posix_memalign(void **out, size_t alignment, size_t bytes)
{
    void *p = aligned_alloc(alignment, bytes);
    *out = p != NULL ? p : *out;
    return p != NULL ? 0 : ENOMEM;
}

/* ---- what the stepper asks ---------------------------------------------------------------------------------- */

size_t allot_good_size(size_t bytes)
{
    unsigned class = 0;
    while (class < N_CLASSES && bytes > payload(class)) {
        class ++;
    }
    return class < N_CLASSES ? payload(class) : bytes;
}

int allot_walk(int (*visit)(const allot_info *, void *), void *context)
{
    int result = 0;
    size_t used = atomic_load(&toy.used) + GRANULE;
    for (size_t at = 0; result == 0 && at < used; at += CHUNK) {
        unsigned class = atomic_load(&toy.chunk_class[at / CHUNK]);
        for (size_t i = 0; class != 0 && result == 0 && i < CHUNK; i += (size_t)64 << (class - 1)) {
            const struct header *header = (const struct header *)(region() + at + i);
            allot_info info = ALLOT_INFO_INIT;
            info.base = header + 1;
            info.size_bytes = payload(class - 1);
            info.room = header->heap == RESERVE ? ALLOT_ROOM_POOL : ALLOT_ROOM_HEAP;
            info.state = header->live ? ALLOT_STATE_LIVE : ALLOT_STATE_FREE;
            result = visit(&info, context);
        }
    }
    for (unsigned i = 0; result == 0 && i < N_MAPPINGS; i++) {
        const char *block = atomic_load(&toy.mapping[i].block);
        if (block != NULL && block != (const char *)1) {
            allot_info info = ALLOT_INFO_INIT;
            info.base = block;
            info.size_bytes = toy.mapping[i].bytes;
            info.room = ALLOT_ROOM_HEAP;
            info.state = ALLOT_STATE_LIVE;
            result = visit(&info, context);
        }
    }
    return result;
}

int allot_query(const void *address, allot_info *info)
{
    const struct header *header = header_of((const void *)((uintptr_t)address & ~(uintptr_t)15));
    info->base = header + 1;
    info->state = header->live ? ALLOT_STATE_LIVE : ALLOT_STATE_FREE;
    return 0;
}

size_t allot_malloc_usable_size(const void *p)
{
    return malloc_usable_size((void *)(uintptr_t)p);
}

int allot_try_expand(void *p, size_t bytes)
{
    return bytes <= malloc_usable_size(p);
}

size_t allot_malloc_batch(size_t bytes, void **out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        out[i] = malloc(bytes);
    }
    return n;
}

void allot_free_batch(void *const *blocks, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(blocks[i]);
    }
}

void allot_thread_flush(void) {}
