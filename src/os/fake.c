/* SPDX-License-Identifier: MIT */
/* fake.c - see fake.h.
 *
 * It is built together with the platform's own files, in which the compiler's command line renames os_map to
 * os_real_map and so on (the list is in CMakeLists.txt): theirs are the real calls, these are what the rooms above get.
 */
#include "os/fake.h"
#include "base/atomic.h"
#include "os/os.h" /* the real ones, by their new names */

#undef os_reserve
#undef os_reserve_readable
#undef os_commit
#undef os_purge
#undef os_release
#undef os_map
#undef os_remap
#undef os_extend
#undef os_break_grow
#undef os_huge_never
#undef os_huge_wanted
#undef os_fork_word

#include <errno.h>

/* The contract's names, to be defined here. */
__typeof__(os_real_reserve) os_reserve;
__typeof__(os_real_reserve_readable) os_reserve_readable;
__typeof__(os_real_commit) os_commit;
__typeof__(os_real_purge) os_purge;
__typeof__(os_real_release) os_release;
__typeof__(os_real_map) os_map;
__typeof__(os_real_remap) os_remap;
__typeof__(os_real_extend) os_extend;
__typeof__(os_real_break_grow) os_break_grow;
__typeof__(os_real_huge_never) os_huge_never;
__typeof__(os_real_huge_wanted) os_huge_wanted;
__typeof__(os_real_fork_word) os_fork_word;

static struct {
    _Atomic size_t calls[FAKE_ANY + 1];
    _Atomic size_t failures;
    enum fake_kind kind;
    size_t first;
    size_t n;
} fake;

void fake_fail(enum fake_kind kind, size_t first, size_t n)
{
    for (enum fake_kind each = 0; each <= FAKE_ANY; each++) {
        store_relaxed(&fake.calls[each], 0);
    }
    store_relaxed(&fake.failures, 0);
    fake.kind = kind;
    fake.first = first;
    fake.n = n;
}

size_t fake_calls(enum fake_kind kind)
{
    return load_relaxed(&fake.calls[kind]);
}

size_t fake_failures(void)
{
    return load_relaxed(&fake.failures);
}

/* Counts a call; true when it is to fail. Relaxed: the counters alone are shared. */
static bool fails(enum fake_kind kind)
{
    size_t of_kind = add_relaxed(&fake.calls[kind], 1) + 1;
    size_t of_any = add_relaxed(&fake.calls[FAKE_ANY], 1) + 1;
    size_t call = fake.kind == FAKE_ANY ? of_any : of_kind;
    if ((fake.kind != FAKE_ANY && fake.kind != kind) || call < fake.first || call - fake.first >= fake.n) {
        return false;
    }
    add_relaxed(&fake.failures, 1);
    return true;
}

void *os_reserve(size_t bytes, size_t align)
{
    return fails(FAKE_RESERVE) ? NULL : os_real_reserve(bytes, align);
}

void *os_reserve_readable(size_t bytes)
{
    return fails(FAKE_RESERVE) ? NULL : os_real_reserve_readable(bytes);
}

int os_commit(void *begin, size_t bytes)
{
    return fails(FAKE_COMMIT) ? -ENOMEM : os_real_commit(begin, bytes);
}

int os_purge(void *begin, size_t bytes, bool lazy)
{
    return fails(FAKE_PURGE) ? -EINVAL : os_real_purge(begin, bytes, lazy);
}

int os_release(void *begin, size_t bytes)
{
    return fails(FAKE_RELEASE) ? -ENOMEM : os_real_release(begin, bytes);
}

void *os_map(size_t bytes, size_t align)
{
    return fails(FAKE_MAP) ? NULL : os_real_map(bytes, align);
}

bool os_remap(void *begin, size_t old_bytes, size_t new_bytes, void *target)
{
    if (fails(FAKE_REMAP)) {
        os_real_release(target, new_bytes);
        return false;
    }
    return os_real_remap(begin, old_bytes, new_bytes, target);
}

bool os_extend(void *begin, size_t old_bytes, size_t new_bytes)
{
    return !fails(FAKE_REMAP) && os_real_extend(begin, old_bytes, new_bytes);
}

void *os_break_grow(size_t bytes)
{
    return fails(FAKE_BREAK) ? NULL : os_real_break_grow(bytes);
}

int os_huge_never(void *begin, size_t bytes)
{
    return fails(FAKE_ADVISE) ? -EINVAL : os_real_huge_never(begin, bytes);
}

int os_huge_wanted(void *begin, size_t bytes)
{
    return fails(FAKE_ADVISE) ? -EINVAL : os_real_huge_wanted(begin, bytes);
}

uint32_t *os_fork_word(void)
{
    return fails(FAKE_FORK_WORD) ? NULL : os_real_fork_word();
}
