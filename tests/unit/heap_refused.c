/* SPDX-License-Identifier: MIT */
/* heap_refused.c - the heap on an OS that refuses. */
#include "child.h"

#include "heap/heap.h"
#include "os/fake.h"
#include "os/os.h"

/* Pages that the program has locked stay as they are when the heap would give them back. */
static void take_zeroed_after_refused_purges(void *unused)
{
    (void)unused;
    size_t sizes[] = {3 * os_page_bytes(), 10000, 600000, 100};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        enum { n_blocks = 5 };
        unsigned char *blocks[n_blocks];
        void *keeps_the_slab = heap_malloc(sizes[i]);
        EXPECT(keeps_the_slab != NULL);
        for (size_t k = 0; k < n_blocks; k++) {
            blocks[k] = heap_calloc(1, sizes[i]);
            EXPECT(blocks[k] != NULL);
            memset(blocks[k], 0xaa, sizes[i]);
        }
        for (size_t k = 0; k < n_blocks; k++) {
            heap_free(blocks[k]);
        }
        fake_fail(FAKE_PURGE, 1, SIZE_MAX);
        heap_trim(0);
        EXPECT(sizes[i] < os_page_bytes() || fake_failures() > 0);
        for (size_t k = 0; k < n_blocks; k++) {
            blocks[k] = heap_calloc(1, sizes[i]);
            for (size_t at = 0; at < sizes[i]; at++) {
                EXPECT(blocks[k][at] == 0);
            }
        }
    }
}

static void refused_purges_leave_no_contents(void **state)
{
    (void)state;
    child_succeeds(take_zeroed_after_refused_purges, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refused_purges_leave_no_contents),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
