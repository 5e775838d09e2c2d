/* SPDX-License-Identifier: MIT */
/* top_sample.c - what allot top knows of a process, sample by sample. */
#include "tool.h"
#include "top.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Page faults and processor time, of /proc/PID/stat. */
static void read_stat(pid_t pid, struct sample *sample)
{
    char *text = process_file(pid, "stat", NULL);
    char *at = text == NULL ? NULL : strrchr(text, ')');
    unsigned long long minor = 0, major = 0, user = 0, kernel = 0;
    if (at != NULL && sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %llu %*u %llu %*u %llu %llu", &minor, &major, &user,
                             &kernel) == 4) {
        sample->faults = minor + major;
        sample->cpu_seconds = (double)(user + kernel) / (double)sysconf(_SC_CLK_TCK);
    }
    free(text);
}

static void sum_classes(const struct heap_view *view, struct sample *sample)
{
    for (size_t i = 0; i < view->n_spans; i++) {
        const struct span_view *span = &view->spans[i];
        if ((span->use == USE_SMALL || span->use == USE_MEDIUM) && span->class_index < CLASSES_MOST) {
            struct class_sample *sum = &sample->classes[span->class_index];
            sum->block_bytes = span->block_bytes;
            sum->n_slabs++;
            sum->n_blocks += span->n_blocks;
            sum->n_live += span->n_live;
            sum->resident_bytes += span->resident_bytes;
        }
    }
}

static double rate(double now, double before, double seconds)
{
    return seconds <= 0 ? 0 : (now - before) / seconds;
}

static void rates_of(struct watched *watched)
{
    const struct sample *now = &watched->now;
    const struct sample *before = &watched->before;
    double seconds = now->at - before->at;
    watched->rates = (struct rates){
        .live_bytes = rate((double)now->totals.live_bytes, (double)before->totals.live_bytes, seconds),
        .given_bytes = rate((double)now->given_bytes, (double)before->given_bytes, seconds),
        .purged_bytes = rate((double)now->purged_bytes, (double)before->purged_bytes, seconds),
        .faults = rate((double)now->faults, (double)before->faults, seconds),
        .cpu = rate(now->cpu_seconds, before->cpu_seconds, seconds),
    };
}

bool watched_sample(struct watched *watched)
{
    struct heap_view view;
    double begun = seconds_now();
    bool refused = watched->target.memory_refused;
    if (!target_refresh(&watched->target)) {
        return false;
    }
    watched->target.memory_refused = refused;
    if (!heap_view_read(&watched->target, &view, /* with_blocks */ false)) {
        return false;
    }
    free(watched->before.heaps);
    watched->before = watched->now;
    struct sample *now = &watched->now;
    *now = (struct sample){
        .at = begun,
        .rss_bytes = watched->target.rss_bytes,
        .given_bytes = view.sampled_bytes,
        .purged_bytes = view.purged_bytes,
        .n_threads = watched->target.n_threads,
        .heaps = view.heaps,
        .n_heaps = view.n_heaps,
    };
    view.heaps = NULL;
    heap_view_totals(&view, &now->totals);
    sum_classes(&view, now);
    read_stat(watched->target.pid, now);
    snprintf(watched->version, sizeof watched->version, "%s", view.version);
    snprintf(watched->name, sizeof watched->name, "%s", watched->target.name);
    watched->by_socket = view.by_socket;
    if (watched->n_samples > 0) {
        rates_of(watched);
    }
    size_t i = watched->n_samples++ % HISTORY;
    watched->rss[i] = (float)now->rss_bytes;
    watched->live[i] = (float)now->totals.live_bytes;
    watched->faults[i] = (float)watched->rates.faults;
    watched->given[i] = (float)watched->rates.given_bytes;
    heap_view_forget(&view);
    now->took = seconds_now() - begun;
    return true;
}

void watched_close(struct watched *watched)
{
    free(watched->now.heaps);
    free(watched->before.heaps);
    watched->now = (struct sample){.at = 0};
    watched->before = watched->now;
    watched->rates = (struct rates){.cpu = 0};
    target_close(&watched->target);
}

/* ---- all processes ------------------------------------------------------------------------------------------ */

static bool has_allot(pid_t pid)
{
    char *maps = process_file(pid, "maps", NULL);
    bool has = maps != NULL && strstr(maps, "/liballot") != NULL;
    free(maps);
    return has;
}

static bool see(pid_t pid, struct seen_process *seen)
{
    struct target target;
    struct heap_view view;
    struct heap_totals totals;
    char number[16];
    snprintf(number, sizeof number, "%d", (int)pid);
    if (!target_open(&target, number)) {
        return false;
    }
    bool good = !target.memory_refused && heap_view_read(&target, &view, /* with_blocks */ false);
    if (good) {
        heap_view_totals(&view, &totals);
        *seen = (struct seen_process){.pid = pid,
                                      .rss_bytes = target.rss_bytes,
                                      .live_bytes = totals.live_bytes,
                                      .free_slots_bytes = totals.resident_free_slots,
                                      .kept_bytes = totals.resident_kept};
        snprintf(seen->name, sizeof seen->name, "%s", target.name);
        heap_view_forget(&view);
    }
    target_close(&target);
    return good;
}

static int by_rss(const void *a, const void *b)
{
    uint64_t left = ((const struct seen_process *)a)->rss_bytes;
    uint64_t right = ((const struct seen_process *)b)->rss_bytes;
    return left > right ? -1 : left < right;
}

/* Who can't be read isn't listed, and nothing is said of it: until stderr_back, complaints go nowhere. */
static int stderr_away(void)
{
    fflush(stderr);
    int kept = dup(STDERR_FILENO);
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (kept >= 0 && nowhere >= 0) {
        dup2(nowhere, STDERR_FILENO);
    }
    if (nowhere >= 0) {
        close(nowhere);
    }
    return kept;
}

static void stderr_back(int kept)
{
    fflush(stderr);
    if (kept >= 0) {
        dup2(kept, STDERR_FILENO);
        close(kept);
    }
}

size_t top_processes(struct seen_process **out)
{
    size_t n = 0;
    int kept = stderr_away();
    *out = NULL;
    DIR *all = opendir("/proc");
    for (struct dirent *entry; all != NULL && (entry = readdir(all)) != NULL;) {
        pid_t pid = isdigit((unsigned char)entry->d_name[0]) ? (pid_t)atoi(entry->d_name) : 0;
        if (pid == 0 || !has_allot(pid)) {
            continue;
        }
        *out = take_more(*out, (n + 1) * sizeof **out);
        n += see(pid, &(*out)[n]);
    }
    if (all != NULL) {
        closedir(all);
    }
    stderr_back(kept);
    if (n > 0) {
        qsort(*out, n, sizeof **out, by_rss);
    }
    return n;
}
