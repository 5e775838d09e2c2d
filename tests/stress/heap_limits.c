/* SPDX-License-Identifier: MIT */
/* heap_limits.c - little address space, few mappings, limits of allot's own, options that say nonsense, the program
 * break beside the program's own use of it. */
#include "stress.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void limit(int what, size_t bytes)
{
    struct rlimit both = {bytes, bytes};
    EXPECT(setrlimit(what, &both) == 0, "no limit set");
}

static bool churn_for(size_t n, size_t most)
{
    struct churn churn;
    churn_init(&churn, n, most);
    for (size_t i = 0; i < n; i++) {
        if (!churn_step(&churn)) {
            return false;
        }
    }
    return churn_end(&churn);
}

/* ---- what the process started again does
 * ------------------------------------------------------------------------------- */

static int again(const char *what)
{
    if (strcmp(what, "little") == 0) {
        void *block = malloc(20 * MIB); /* of 64 MiB in all, libc and stack included */
        if (block == NULL) {
            return 3;
        }
        memset(block, 1, 20 * MIB);
        free(block);
        return churn_for(20000, 100000) ? 0 : 4;
    }
    if (strcmp(what, "work") == 0) {
        return churn_for(2000, 10000) ? 0 : 4;
    }
    return 5;
}

/* ---- the system's limits
 * ------------------------------------------------------------------------------------------------- */

static void starts_in_64_mib_of_address_space(void)
{
    const char *const nothing[] = {NULL};
    limit(RLIMIT_STACK, 8 * MIB);
    limit(RLIMIT_AS, 64 * MIB);
    int status = run_again("little", nothing, NULL, 0);
    EXPECT(status == 0, "status %#x", (unsigned)status);
}

/* Not a variable of the program: it would take half of the little address space above. */
enum { most_blocks = 4000000 };
static void **blocks;

static void make_table(void)
{
    blocks = mmap(NULL, most_blocks * sizeof *blocks, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT(blocks != MAP_FAILED, "no table");
}

/* Takes blocks until there is none; gives some back; goes on. Bytes that could be had. */
static size_t exhaust(size_t size, size_t least)
{
    size_t n = 0;
    errno = 0;
    while (n < most_blocks && (blocks[n] = malloc(size)) != NULL) {
        memset(blocks[n], 1, size < 64 ? size : 64);
        n++;
    }
    EXPECT(n < most_blocks, "no limit was met");
    EXPECT(errno == ENOMEM, "errno %d", errno);
    EXPECT(n * size >= least, "only %zu MiB of %zu-byte blocks", n * size / MIB, size);
    for (int round = 0; round < 1000; round++) { /* refusal is a state to live in */
        errno = 0;
        EXPECT(malloc(size * 1000 + MIB) == NULL && errno == ENOMEM, "errno %d", errno);
        EXPECT(realloc(blocks[0], size * 100000 + GIB) == NULL && errno == ENOMEM, "errno %d", errno);
    }
    for (size_t i = 1; i < n; i += 2) {
        free(blocks[i]);
        blocks[i] = NULL;
    }
    size_t n_again = 0;
    for (size_t i = 1; i < n; i += 2) {
        blocks[i] = malloc(size);
        n_again += blocks[i] != NULL;
    }
    EXPECT(n < 40 || n_again * 10 >= n / 2 * 9, "of %zu freed blocks %zu came again", n / 2, n_again);
    for (size_t i = 0; i < n; i++) {
        free(blocks[i]);
    }
    return n * size;
}

static void address_space_used_up(void)
{
    make_table();
    free(malloc(1));
    size_t pages = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    EXPECT(statm != NULL && fscanf(statm, "%zu", &pages) == 1, "no statm");
    fclose(statm);
    limit(RLIMIT_AS, pages * PAGE + 300 * MIB);
    const size_t sizes[] = {100 * KIB, MIB, 100, 3000, 20000, 200, 30 * MIB, 100};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        exhaust(sizes[i], sizes[i] > 20 * MIB ? 30 * MIB : 100 * MIB); /* few places are that wide by then */
    }
    EXPECT(churn_for(20000, 100000), "no work after the end of memory");
}

/* Memory of one size, freed, must serve any other size, though nothing more can be had. */
static void data_limit_used_up(void)
{
    make_table();
    free(malloc(1));
    limit(RLIMIT_DATA, 200 * MIB);
    exhaust(100, 50 * MIB);
    exhaust(100 * KIB, 50 * MIB);
    exhaust(5000, 50 * MIB);
    EXPECT(churn_for(20000, 100000), "no work after the end of memory");
}

static void mappings_used_up(void)
{
    enum { most = 200000 };
    static char *mapped[most];
    make_table();
    free(malloc(1));
    size_t n = 0;
    /* neighbours of unlike protection can't be joined */
    while (n < most) {
        int protection = n % 2 == 0 ? PROT_READ : PROT_NONE;
        mapped[n] = mmap(NULL, PAGE, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (mapped[n] == MAP_FAILED) {
            break;
        }
        n++;
    }
    if (n == most) {
        stress_skip("the system has no bound on mappings worth meeting");
    }
    size_t n_taken = 0;
    for (size_t i = 0; i < 100000; i++) {
        errno = 0;
        size_t size = i % 1000 == 0 ? 100 * KIB : i % 10000 == 1 ? 40 * MIB : i % 3000;
        blocks[i] = malloc(size);
        EXPECT(blocks[i] != NULL || errno == ENOMEM, "errno %d", errno);
        if (blocks[i] != NULL) {
            memset(blocks[i], 1, size < 64 ? size : 64);
            n_taken++;
        }
    }
    for (size_t i = 0; i < 100000; i++) {
        errno = 71;
        free(blocks[i]);
        EXPECT(errno == 71, "free changed errno to %d", errno);
    }
    malloc_trim(0);
    printf("    %zu mappings, then %zu of 100000 blocks\n", n, n_taken);
    EXPECT(n_taken > 1000, "only %zu blocks", n_taken);
    for (size_t i = 0; i < n; i++) {
        munmap(mapped[i], PAGE);
    }
    EXPECT(churn_for(20000, 300000), "no work after mappings were used up");
}

/* ---- allot's limits
 * ------------------------------------------------------------------------------------------------------ */

static void hard_limit_is_kept(void)
{
    make_table();
    size_t got = exhaust(10000, 20 * MIB);
    EXPECT(got <= 64 * MIB, "%zu MiB above a limit of 64", got / MIB);
    got = exhaust(100, 15 * MIB);
    EXPECT(got <= 64 * MIB, "%zu MiB above a limit of 64", got / MIB);
    errno = 0;
    EXPECT(malloc(65 * MIB) == NULL && errno == ENOMEM, "more than the limit at once");
    void *half = malloc(30 * MIB);
    EXPECT(half != NULL, "half of the limit");
    free(half);
    EXPECT(churn_for(20000, 100000), "no work below the limit");
}

static void soft_limit_gives_back_at_once(void)
{
    make_table();
    enum { n = 100000 };
    memset(blocks, 0, n * sizeof *blocks);
    size_t start = resident_bytes();
    for (size_t i = 0; i < n; i++) {
        blocks[i] = malloc(1000);
        memset(blocks[i], 1, 1000);
    }
    for (size_t i = 0; i < n; i++) {
        free(blocks[i]);
    }
    size_t grown = resident_bytes() - start;
    EXPECT(grown <= 24 * MIB, "%zu KiB stayed above a soft limit of 16 MiB", grown / KIB);
}

/* ---- options
 * --------------------------------------------------------------------------------------------------------------- */

static void an_unknown_option_is_reported(void)
{
    const char *const environment[] = {"ALLOT_OPTIONS=purge_aeg=100", NULL};
    char said[4000];
    int status = run_again("work", environment, said, sizeof said);
    EXPECT(status == 0, "status %#x", (unsigned)status);
    EXPECT(strstr(said, "allot: option") != NULL && strstr(said, "purge_age") != NULL, "said: %s", said);
}

static void a_value_out_of_bounds_is_reported(void)
{
    const char *const environment[] = {"ALLOT_OPTIONS=bin_limit=1,remote_batch=99999,purge=sometimes", NULL};
    char said[4000];
    int status = run_again("work", environment, said, sizeof said);
    EXPECT(status == 0, "status %#x", (unsigned)status);
    EXPECT(strstr(said, "bin_limit") != NULL && strstr(said, "remote_batch") != NULL && strstr(said, "purge") != NULL,
           "said: %s", said);
}

static void good_options_are_silent(void)
{
    const char *const environment[] = {
        "ALLOT_OPTIONS=purge_age=0,purge=free,bin_limit=64,huge_pages=always,fill=90,mmap_threshold=1m,large_cache=0",
        NULL};
    char said[4000];
    int status = run_again("work", environment, said, sizeof said);
    EXPECT(status == 0, "status %#x", (unsigned)status);
    EXPECT(said[0] == '\0', "said: %s", said);
}

static void stats_are_printed_at_exit(void)
{
    const char *const environment[] = {"ALLOT_OPTIONS=stats", NULL};
    char said[8000];
    int status = run_again("work", environment, said, sizeof said);
    EXPECT(status == 0, "status %#x", (unsigned)status);
    EXPECT(strstr(said, "not malloc") != NULL, "said: %s", said);
}

static void copy_program(const char *to)
{
    int from = open("/proc/self/exe", O_RDONLY);
    int out = open(to, O_WRONLY | O_CREAT | O_EXCL, 0755);
    static char buffer[65536];
    for (ssize_t n; from >= 0 && out >= 0 && (n = read(from, buffer, sizeof buffer)) > 0;) {
        EXPECT(write(out, buffer, (size_t)n) == n, "can't copy");
    }
    close(from);
    close(out);
}

/* Another user's program must not be steered by the environment of who calls it. */
static void set_uid_programs_ignore_options(void)
{
    if (getuid() != 0) {
        stress_skip("needs root to make a set-uid program");
    }
    char directory[] = "/tmp/allot-set-uid-XXXXXX";
    char program[100];
    EXPECT(mkdtemp(directory) != NULL, "no directory");
    snprintf(program, sizeof program, "%s/program", directory);
    chmod(directory, 0755);
    copy_program(program);
    chmod(program, 04755);
    char said[] = "/tmp/allot-set-uid-said-XXXXXX";
    int file = mkstemp(said);
    unlink(said);
    pid_t child = fork();
    if (child == 0) {
        dup2(file, 2);
        if (setgid(65534) != 0 || setuid(65534) != 0) {
            _exit(120);
        }
        putenv((char *)(uintptr_t) "ALLOT_OPTIONS=no_such_option=1,stats");
        execl(program, program, "--again", "work", (char *)NULL);
        _exit(121);
    }
    int status = wait_for(child);
    unlink(program);
    rmdir(directory);
    char text[4000];
    ssize_t n = pread(file, text, sizeof text - 1, 0);
    text[n < 0 ? 0 : n] = '\0';
    if (WIFEXITED(status) && (WEXITSTATUS(status) == 121 || WEXITSTATUS(status) == 127)) {
        stress_skip("the program can't be run by another user here");
    }
    EXPECT(status == 0, "status %#x: %s", (unsigned)status, text);
    EXPECT(strstr(text, "allot") == NULL, "said: %s", text);
}

/* ---- the program break
 * --------------------------------------------------------------------------------------------------- */

static void side_by_side_with_sbrk(void)
{
    enum { n = 200, step = 40000 };
    static char *mine[n];
    struct churn churn;
    churn_init(&churn, 9, 300000);
    for (size_t i = 0; i < n; i++) {
        mine[i] = sbrk(step);
        if (mine[i] == (void *)-1) {
            stress_skip("this libc gives no break");
        }
        memset(mine[i], (int)i + 1, step);
        for (int k = 0; k < 100; k++) {
            EXPECT(churn_step(&churn), "damage in the heap");
        }
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t at = 0; at < step; at++) {
            EXPECT(mine[i][at] == (char)(i + 1), "the heap wrote into the program's own break");
        }
        allot_info info = ALLOT_INFO_INIT;
        EXPECT(allot_query(mine[i] + 100, &info) == 0 && info.state == ALLOT_STATE_NONE, "it is taken for a block");
    }
    EXPECT(churn_end(&churn), "damage in the heap");
}

static void work_at_large(void)
{
    EXPECT(churn_for(60000, 40 * MIB), "damage");
}

static const struct stress_case cases[] = {
    {"starts_in_64_mib_of_address_space", starts_in_64_mib_of_address_space, NULL, false},
    /* Without guarded blocks, which stand wherever there is room: no place as wide as the widest would be left. */
    {"address_space_used_up", address_space_used_up, "sample_rate=0", false},
    {"data_limit_used_up", data_limit_used_up, NULL, false},
    {"mappings_used_up", mappings_used_up, NULL, false},
    {"hard_limit_is_kept", hard_limit_is_kept, "hard_limit=64m", false},
    {"soft_limit_gives_back_at_once", soft_limit_gives_back_at_once, "soft_limit=16m,purge_cap=1g", false},
    {"an_unknown_option_is_reported", an_unknown_option_is_reported, NULL, false},
    {"a_value_out_of_bounds_is_reported", a_value_out_of_bounds_is_reported, NULL, false},
    {"good_options_are_silent", good_options_are_silent, NULL, false},
    {"stats_are_printed_at_exit", stats_are_printed_at_exit, NULL, false},
    {"set_uid_programs_ignore_options", set_uid_programs_ignore_options, NULL, false},
    {"side_by_side_with_sbrk", side_by_side_with_sbrk, "source=brk", false},
    {"side_by_side_with_sbrk_from_mappings", side_by_side_with_sbrk, NULL, false},
    {"work_with_huge_pages", work_at_large, "huge_pages=always", false},
    {"work_without_huge_pages", work_at_large, "huge_pages=never", false},
    {"work_with_fill", work_at_large, "fill=171", false},
    {"work_with_lazy_purge", work_at_large, "purge=free,purge_age=0,purge_cap=0", false},
    {"work_with_a_low_threshold", work_at_large, "mmap_threshold=64k,large_cache=0", false},
};

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--again") == 0) {
        return again(argv[2]);
    }
    return stress_main(argc, argv, cases, COUNT(cases));
}
