/* SPDX-License-Identifier: MIT */
/* maps.c - the backends that map memory: mmap, virt, pair.
 *
 *     mmap   piece, piece, ...           each a mapping, grown in place where that goes
 *     virt   | committed | reserved |    one piece, from the reservation's first byte on
 *     pair   | committed |          |    the same, of a file that has no name, mapped twice:
 *            | written here         |    what the arena has is executable, the other view is written to
 *
 * What the system says comes back unchanged, but for its sign.
 */
#include "arena/arena_internal.h"
#include "heap/heap.h"
#include "os/os.h"

#include <errno.h>

#define NEAR_BYTES (((size_t)1 << 31) - 4096)

enum maps_kind { MAPS_MMAP, MAPS_VIRT, MAPS_PAIR };

struct maps {
    allot_backend backend;
    enum maps_kind kind;
    allot_map_options options;
    int protection; /* of what is mapped or committed from now on */
    char *base;     /* virt, pair: the reservation; NULL: released */
    char *writable; /* pair: the other view */
    size_t reserved;
    _Atomic size_t committed; /* relaxed: a figure for other threads */
};

static struct maps *maps_self(allot_backend *backend)
{
    return (struct maps *)backend;
}

static size_t step_of(const struct maps *maps)
{
    return size_max(maps->options.align, os_page_bytes());
}

static struct os_view view_of(const struct maps *maps, size_t bytes)
{
    return (struct os_view){
        .bytes = bytes,
        .align = step_of(maps),
        .address = maps->options.address,
        .protection = maps->protection,
        .flags = maps->options.flags,
        .fd = maps->options.fd,
        .offset = maps->options.offset,
    };
}

static int map_where_wanted(const struct maps *maps, const struct os_view *view, void **out)
{
    const void *near = maps->options.near_to;
    return near == NULL ? os_view_map(view, out) : os_view_map_near(view, near, maps->options.near_bytes, out);
}

/* Advice for fresh memory. That it is refused is an error only where it was about a node. */
static int advise(const struct maps *maps, char *begin, size_t bytes)
{
    if (maps->options.huge_pages > 0) {
        os_huge_wanted(begin, bytes);
    } else if (maps->options.huge_pages < 0) {
        os_huge_never(begin, bytes);
    }
    return maps->options.numa_node < 0 ? 0 : os_prefer_node(begin, bytes, maps->options.numa_node);
}

static bool is_plain(const struct maps *maps)
{
    return maps->options.fd < 0 && (maps->options.flags & os_flags_shared()) == 0;
}

/* ---- mmap ---------------------------------------------------------------------------------------------------- */

static bool reaches_too_far(const struct maps *maps, const char *begin, size_t bytes)
{
    uintptr_t near = (uintptr_t)maps->options.near_to;
    return near != 0 && (uintptr_t)begin + bytes > near && (uintptr_t)begin + bytes - near > maps->options.near_bytes;
}

/* Shared memory grows by new pieces: a longer mapping of the same object would reach beyond its end. */
static int mmap_extend(struct maps *maps, char *begin, size_t bytes, size_t more)
{
    bool is_shared = (maps->options.flags & os_flags_shared()) != 0;
    if (is_shared || reaches_too_far(maps, begin, bytes + more) || !os_extend(begin, bytes, bytes + more)) {
        return ENOMEM;
    }
    return 0;
}

static int mmap_piece(struct maps *maps, size_t bytes, void **out_begin, size_t *out_bytes)
{
    struct os_view view = view_of(maps, bytes);
    void *p;
    int error = map_where_wanted(maps, &view, &p);
    if (error == 0) {
        error = advise(maps, p, bytes);
        if (error != 0) {
            os_release(p, bytes);
        }
    }
    if (error == 0) {
        *out_begin = p;
        *out_bytes = bytes;
    }
    return -error;
}

/* The next piece lies behind this one, in the file and at the address that was asked for. */
static void mmap_advance(struct maps *maps, size_t bytes)
{
    if (maps->options.fd >= 0) {
        maps->options.offset += bytes;
    }
    if (maps->options.address != NULL) {
        maps->options.address = (char *)maps->options.address + bytes;
    }
}

/* In place, otherwise by a new piece. */
static int mmap_grow_by(struct maps *maps, char *begin, size_t size_bytes, size_t more, void **out_begin,
                        size_t *out_bytes)
{
    int error = 0;
    if (begin != NULL && mmap_extend(maps, begin, size_bytes, more) == 0) {
        *out_begin = begin;
        *out_bytes = size_bytes + more;
        error = -advise(maps, begin + size_bytes, more);
    } else {
        error = mmap_piece(maps, more, out_begin, out_bytes);
    }
    if (error == 0) {
        mmap_advance(maps, more);
    }
    return error;
}

/* How much of its file is left; without one, any amount. */
static size_t file_room(const struct maps *maps)
{
    size_t bytes = maps->options.fd < 0 ? SIZE_MAX : os_file_bytes(maps->options.fd);
    if (bytes == SIZE_MAX) {
        return BYTES_MOST;
    }
    return bytes < maps->options.offset ? 0 : round_up(bytes - maps->options.offset, os_page_bytes());
}

static int mmap_grow(allot_backend *backend, void *begin, size_t size_bytes, size_t need_bytes, size_t want_bytes,
                     void **out_begin, size_t *out_bytes)
{
    struct maps *maps = maps_self(backend);
    size_t step = step_of(maps);
    if (want_bytes > BYTES_MOST) {
        return ENOMEM;
    }
    size_t need = round_up(need_bytes, step);
    size_t room = file_room(maps);
    if (need > room) {
        return ENOMEM;
    }
    size_t want = size_min(size_max(round_down(want_bytes, step), need), round_down(room, step));
    int error = mmap_grow_by(maps, begin, size_bytes, want, out_begin, out_bytes);
    return error == 0 || need == want ? error : mmap_grow_by(maps, begin, size_bytes, need, out_begin, out_bytes);
}

static int mmap_release(allot_backend *backend, void *begin, size_t size_bytes)
{
    (void)backend;
    return -os_release(begin, size_bytes);
}

static int maps_protect(allot_backend *backend, void *begin, size_t size_bytes, int prot)
{
    int error = -os_view_protect(begin, size_bytes, prot);
    if (error == 0) {
        maps_self(backend)->protection = prot;
    }
    return error;
}

static int maps_decommit(allot_backend *backend, void *begin, size_t size_bytes)
{
    struct maps *maps = maps_self(backend);
    if (is_plain(maps)) {
        return -os_view_purge(begin, size_bytes, maps->protection);
    }
    return maps->options.fd < 0 ? -os_file_purge(begin, size_bytes) : ENOTSUP;
}

static void mmap_destroy(allot_backend *backend)
{
    heap_free(backend);
}

/* ---- virt ---------------------------------------------------------------------------------------------------- */

/* How far to commit so that need_bytes more can be used; 0: that is beyond the reservation. */
static size_t commit_goal(const struct maps *maps, size_t need_bytes, size_t want_bytes)
{
    size_t page = os_page_bytes();
    size_t committed = load_relaxed(&maps->committed);
    size_t room = maps->reserved - committed;
    if (need_bytes > room || round_up(need_bytes, page) > room) {
        return 0;
    }
    size_t want = want_bytes > room ? room : round_down(want_bytes, page);
    return committed + size_max(want, round_up(need_bytes, page));
}

static int virt_grow(allot_backend *backend, void *begin, size_t size_bytes, size_t need_bytes, size_t want_bytes,
                     void **out_begin, size_t *out_bytes)
{
    struct maps *maps = maps_self(backend);
    size_t committed = load_relaxed(&maps->committed);
    (void)size_bytes;
    if (maps->base == NULL || begin != (committed == 0 ? NULL : maps->base)) {
        return ENOMEM;
    }
    size_t goal = commit_goal(maps, need_bytes, want_bytes);
    if (goal == 0) {
        return ENOMEM;
    }
    if (maps->kind == MAPS_VIRT) {
        int error = os_view_protect(maps->base + committed, goal - committed, maps->protection);
        if (error != 0) {
            return -error;
        }
    }
    store_relaxed(&maps->committed, goal);
    *out_begin = maps->base;
    *out_bytes = goal;
    return 0;
}

static int virt_release(allot_backend *backend, void *begin, size_t size_bytes)
{
    struct maps *maps = maps_self(backend);
    if (maps->base == NULL) {
        return 0;
    }
    int error = os_view_purge(begin, size_bytes, 0);
    if (error == 0) {
        error = os_view_protect(begin, size_bytes, 0);
    }
    maps->protection = maps->options.protection;
    store_relaxed(&maps->committed, 0);
    return -error;
}

static void maps_unmap(struct maps *maps)
{
    if (maps->base != NULL) {
        os_release(maps->base, maps->reserved);
    }
    if (maps->writable != NULL) {
        os_release(maps->writable, maps->reserved);
    }
    maps->base = NULL;
    maps->writable = NULL;
    maps->reserved = 0;
    store_relaxed(&maps->committed, 0);
}

static void virt_destroy(allot_backend *backend)
{
    maps_unmap(maps_self(backend));
    heap_free(backend);
}

/* ---- pair ---------------------------------------------------------------------------------------------------- */

static int pair_decommit(allot_backend *backend, void *begin, size_t size_bytes)
{
    struct maps *maps = maps_self(backend);
    return -os_file_purge(maps->writable + ptr_diff(begin, maps->base), size_bytes);
}

static int pair_release(allot_backend *backend, void *begin, size_t size_bytes)
{
    struct maps *maps = maps_self(backend);
    if (maps->base == NULL) {
        return 0;
    }
    store_relaxed(&maps->committed, 0);
    maps_protect(backend, maps->base, maps->reserved, maps->options.protection);
    return pair_decommit(backend, begin, size_bytes);
}

/* ---- their tables -------------------------------------------------------------------------------------------- */

#define TABLE(is_shared, grow_it, release_it, decommit_it, destroy_it)                                                 \
    {                                                                                                                  \
        .abi_size = sizeof(allot_backend_ops), .shared = (is_shared), .grow = (grow_it), .release = (release_it),      \
        .protect = maps_protect, .decommit = (decommit_it), .destroy = (destroy_it)                                    \
    }

static const allot_backend_ops mmap_ops = TABLE(0, mmap_grow, mmap_release, maps_decommit, mmap_destroy);
static const allot_backend_ops virt_ops = TABLE(0, virt_grow, virt_release, maps_decommit, virt_destroy);
static const allot_backend_ops pair_ops = TABLE(0, virt_grow, pair_release, pair_decommit, virt_destroy);

const struct maps *maps_of(const allot_backend *backend)
{
    const allot_backend_ops *ops = backend->ops;
    return ops == &mmap_ops || ops == &virt_ops || ops == &pair_ops ? (const struct maps *)backend : NULL;
}

size_t maps_reserved_bytes(const struct maps *maps)
{
    return maps->reserved;
}

bool maps_give_zeros(const struct maps *maps)
{
    return maps->kind == MAPS_VIRT || (maps->kind == MAPS_MMAP && is_plain(maps));
}

bool maps_are_released(const struct maps *maps)
{
    return maps->kind != MAPS_MMAP && maps->base == NULL;
}

void maps_begin(allot_backend *backend)
{
    struct maps *maps = maps_self(backend);
    maps->protection = maps->options.protection;
}

int maps_protection(const struct maps *maps)
{
    return maps->options.protection;
}

/* ---- making -------------------------------------------------------------------------------------------------- */

static int refuse(allot_map_options *options, const char *member)
{
    options->refused = member;
    return EINVAL;
}

static int check_common(allot_map_options *options)
{
    options->refused = NULL;
    if (options->abi_size != sizeof *options) {
        return refuse(options, "abi_size");
    }
    if (options->align != 0 && (!is_power_of_two(options->align) || options->align > BYTES_MOST)) {
        return refuse(options, "align");
    }
    if (options->huge_pages < -1 || options->huge_pages > 1) {
        return refuse(options, "huge_pages");
    }
    if (options->numa_node < -1) {
        return refuse(options, "numa_node");
    }
    if (options->protection < -1) {
        return refuse(options, "protection");
    }
    if (options->near_to != NULL && options->address != NULL) {
        return refuse(options, "near_to");
    }
    return options->near_bytes != 0 && options->near_to == NULL ? refuse(options, "near_bytes") : 0;
}

static int check_mmap(allot_map_options *options)
{
    if (options->fd < -1) {
        return refuse(options, "fd");
    }
    if (options->offset % os_page_bytes() != 0 || (options->offset != 0 && options->fd < 0)) {
        return refuse(options, "offset");
    }
    return 0;
}

static int check_virt(allot_map_options *options)
{
    if (options->fd != -1) {
        return refuse(options, "fd");
    }
    if (options->offset != 0) {
        return refuse(options, "offset");
    }
    return os_view_flags_reserve(options->flags) ? 0 : refuse(options, "flags");
}

static int check_pair(allot_map_options *options)
{
    if (options->protection != -1) {
        return refuse(options, "protection");
    }
    if (options->flags != 0) {
        return refuse(options, "flags");
    }
    if (options->huge_pages != 0) {
        return refuse(options, "huge_pages");
    }
    return options->numa_node != -1 ? refuse(options, "numa_node") : check_virt(options);
}

static const struct maps_shape {
    const allot_backend_ops *ops;
    int (*check)(allot_map_options *options);
} shapes[] = {
    [MAPS_MMAP] = {&mmap_ops, check_mmap},
    [MAPS_VIRT] = {&virt_ops, check_virt},
    [MAPS_PAIR] = {&pair_ops, check_pair},
};

static int maps_make(enum maps_kind kind, allot_map_options *options, struct maps **out)
{
    allot_map_options standard = ALLOT_MAP_OPTIONS_INIT;
    options = options == NULL ? &standard : options;
    int error = check_common(options);
    if (error == 0) {
        error = shapes[kind].check(options);
    }
    if (error != 0) {
        return error;
    }
    int saved = errno;
    struct maps *maps = heap_calloc(1, sizeof *maps);
    errno = saved;
    if (maps == NULL) {
        return ENOMEM;
    }
    maps->backend.ops = shapes[kind].ops;
    maps->kind = kind;
    maps->options = *options;
    if (maps->options.protection < 0) {
        maps->options.protection = kind == MAPS_PAIR ? os_protection_execute() : os_protection_usual();
    }
    if (maps->options.near_bytes == 0) {
        maps->options.near_bytes = NEAR_BYTES;
    }
    maps->protection = maps->options.protection;
    *out = maps;
    return 0;
}

int allot_backend_mmap(allot_map_options *options, allot_backend **out)
{
    struct maps *maps;
    int error = maps_make(MAPS_MMAP, options, &maps);
    if (error == 0) {
        *out = &maps->backend;
    }
    return error;
}

/* The whole pages that a reservation of so many bytes has; 0: too many, or none. */
static size_t reservation_bytes(size_t bytes)
{
    return bytes > BYTES_MOST ? 0 : round_up(bytes, os_page_bytes());
}

int allot_backend_virt(size_t reserve_bytes, allot_map_options *options, allot_backend **out)
{
    struct maps *maps;
    size_t bytes = reservation_bytes(reserve_bytes);
    if (bytes == 0) {
        return reserve_bytes == 0 ? EINVAL : ENOMEM;
    }
    int error = maps_make(MAPS_VIRT, options, &maps);
    if (error != 0) {
        return error;
    }
    struct os_view view = view_of(maps, bytes);
    void *base = NULL;
    view.reserve = true;
    error = map_where_wanted(maps, &view, &base);
    if (error == 0) {
        maps->base = base;
        maps->reserved = bytes;
        error = advise(maps, base, bytes);
    }
    if (error != 0) {
        virt_destroy(&maps->backend);
        return -error;
    }
    *out = &maps->backend;
    return 0;
}

static int pair_map(struct maps *maps, size_t bytes)
{
    int fd = os_file_make(bytes);
    if (fd < 0) {
        return fd == -ENOSYS ? -ENOTSUP : fd;
    }
    struct os_view view = view_of(maps, bytes);
    view.fd = fd;
    view.flags = os_flags_shared();
    void *base = NULL;
    void *writable = NULL;
    int error = map_where_wanted(maps, &view, &base);
    if (error == 0) {
        maps->base = base;
        maps->reserved = bytes;
        view.address = NULL;
        view.protection = os_protection_usual();
        error = os_view_map(&view, &writable);
        maps->writable = writable;
    }
    os_file_close(fd);
    return error;
}

int allot_backend_pair(size_t reserve_bytes, allot_map_options *options, allot_backend **out)
{
    struct maps *maps;
    size_t bytes = reservation_bytes(reserve_bytes);
    if (bytes == 0) {
        return reserve_bytes == 0 ? EINVAL : ENOMEM;
    }
    int error = maps_make(MAPS_PAIR, options, &maps);
    if (error != 0) {
        return error;
    }
    error = pair_map(maps, bytes);
    if (error != 0) {
        virt_destroy(&maps->backend);
        return -error;
    }
    *out = &maps->backend;
    return 0;
}

/* ---- questions and release ------------------------------------------------------------------------------------ */

static const struct maps *reservation_of(const allot_backend *backend)
{
    const struct maps *maps = backend == NULL ? NULL : maps_of(backend);
    return maps == NULL || maps->kind == MAPS_MMAP ? NULL : maps;
}

void *allot_virt_address(const allot_backend *backend)
{
    const struct maps *maps = reservation_of(backend);
    return maps == NULL ? NULL : maps->base;
}

size_t allot_virt_reserved(const allot_backend *backend)
{
    const struct maps *maps = reservation_of(backend);
    return maps == NULL ? 0 : maps->reserved;
}

size_t allot_virt_committed(const allot_backend *backend)
{
    const struct maps *maps = reservation_of(backend);
    return maps == NULL ? 0 : load_relaxed(&maps->committed);
}

int allot_virt_release(allot_backend *backend)
{
    if (backend == NULL) {
        return 0;
    }
    if (reservation_of(backend) == NULL) {
        return EINVAL;
    }
    struct maps *maps = maps_self(backend);
    allot_arena *arena = backend_owner(backend);
    if (maps->base != NULL && arena != NULL) {
        arena_lose_memory(arena);
    }
    maps_unmap(maps);
    return 0;
}

static bool is_in_pair(const struct maps *maps, const void *address, size_t bytes)
{
    return maps != NULL && maps->writable != NULL && ptr_diff(address, maps->base) < maps->reserved &&
           bytes <= maps->reserved - ptr_diff(address, maps->base);
}

void *allot_pair_writable(const allot_backend *backend, const void *address)
{
    const struct maps *maps = reservation_of(backend);
    return is_in_pair(maps, address, 1) ? maps->writable + ptr_diff(address, maps->base) : NULL;
}

int allot_pair_publish(const allot_backend *backend, const void *address, size_t bytes)
{
    if (!is_in_pair(reservation_of(backend), address, bytes)) {
        return EINVAL;
    }
    __builtin___clear_cache((char *)(uintptr_t)address, (char *)(uintptr_t)address + bytes);
    return 0;
}
