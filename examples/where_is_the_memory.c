/* SPDX-License-Identifier: MIT */
/* where_is_the_memory.c - a load comes and goes; allot says at each step where the process's memory is.
 *
 *     cc where_is_the_memory.c $(pkg-config --cflags --libs allot)
 */
#include <allot/allot.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_BLOCKS = 100000 };

static allot_stats_report show(const char *when)
{
    allot_stats_report now = ALLOT_STATS_INIT;
    if (allot_stats(&now) == 0)
        printf("%-22s RSS %7zu KiB = live %7zu + free slots %6zu + kept %6zu + tables %5zu + not malloc %5zu\n", when,
               now.rss / 1024, (now.rss_live_requested + now.rss_live_rounding) / 1024, now.rss_free_slots / 1024,
               now.rss_kept / 1024, now.rss_tables / 1024, now.rss_not_malloc / 1024);
    return now;
}

int main(void)
{
    static char *blocks[N_BLOCKS];
    allot_stats_report start = show("at start");
    for (size_t i = 0; i < N_BLOCKS; i++) {
        size_t size = 16 + i % 1000;
        blocks[i] = malloc(size);
        if (!blocks[i])
            return 1;
        memset(blocks[i], 'x', size);
    }
    allot_stats_report loaded = show("loaded");
    for (size_t i = 0; i < N_BLOCKS; i++)
        if (i % 10)
            free(blocks[i]);
    show("nine in ten freed");
    for (size_t i = 0; i < N_BLOCKS; i += 10)
        free(blocks[i]);
    show("all freed");
    printf("trim gave back %zu KiB\n", allot_trim(0) / 1024);
    allot_stats_report trimmed = show("trimmed");
    return loaded.rss > start.rss && trimmed.rss < loaded.rss ? 0 : 1;
}
