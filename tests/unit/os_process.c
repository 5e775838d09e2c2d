/* SPDX-License-Identifier: MIT */
/* os_process.c - what os.h promises of the process: time, environment, limits, standard error, the end. */
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <time.h>

#include "base/base.h"
#include "os/os.h"

static const char *program; /* this one */

/* ---- time and chance ---------------------------------------------------------------------------------------- */

static void time_goes_on(void **state)
{
    (void)state;
    uint64_t begin = os_now_ms();
    struct timespec nap = {.tv_nsec = 60 * 1000000};
    nanosleep(&nap, NULL);
    uint64_t passed = os_now_ms() - begin;
    assert_in_range(passed, 40, 30000);
}

static void random_differs(void **state)
{
    (void)state;
    uint64_t a = os_random();
    assert_true(a != os_random() || a != os_random());
}

/* ---- the environment ---------------------------------------------------------------------------------------- */

static void environment_is_found_and_cut(void **state)
{
    (void)state;
    char buffer[8];
    setenv("ALLOT_TEST_LONGER", "no", 1);
    unsetenv("ALLOT_TEST");
    errno = 12345;
    assert_true(os_environment_ready());
    assert_false(os_environment("ALLOT_TEST", buffer, sizeof buffer));
    assert_int_equal(errno, 12345);
    setenv("ALLOT_TEST", "a=b", 1);
    assert_true(os_environment("ALLOT_TEST", buffer, sizeof buffer));
    assert_string_equal(buffer, "a=b");
    setenv("ALLOT_TEST", "0123456789", 1);
    assert_true(os_environment("ALLOT_TEST", buffer, sizeof buffer));
    assert_string_equal(buffer, "0123456");
    setenv("ALLOT_TEST", "", 1);
    assert_true(os_environment("ALLOT_TEST", buffer, sizeof buffer));
    assert_string_equal(buffer, "");
}

static void check_forgotten(const char *before, const char *after)
{
    setenv("ALLOT_TEST_LIST", before, 1);
    setenv("ALLOT_TEST_NEXT", "liballot.so", 1);
    os_environment_forget_file("ALLOT_TEST_LIST", "liballot.so");
    const char *left = getenv("ALLOT_TEST_LIST");
    if (after == NULL) {
        assert_null(left);
    } else {
        assert_non_null(left);
        assert_string_equal(left, after);
    }
    assert_string_equal(getenv("ALLOT_TEST_NEXT"), "liballot.so");
}

static void a_file_is_taken_out_of_a_list(void **state)
{
    (void)state;
    check_forgotten("/usr/lib/liballot.so.1", NULL);
    check_forgotten(":liballot.so:/a/liballot.so.0.1.0 ", NULL);
    check_forgotten("/usr/lib/liballot.so.1:/b/other.so", "/b/other.so");
    check_forgotten("/b/other.so /usr/lib/liballot.so.1  third.so:", "/b/other.so:third.so");
    check_forgotten("/liballot.so/other.so", "/liballot.so/other.so");
    check_forgotten("", NULL);
    unsetenv("ALLOT_TEST_LIST");
    os_environment_forget_file("ALLOT_TEST_LIST", "liballot.so");
    assert_null(getenv("ALLOT_TEST_LIST"));
}

/* main(), when it is run with an argument: says what it finds, with or without libc's environ. */
static int say_environment(const char *mode)
{
    char buffer[16];
    if (strcmp(mode, "early") == 0) {
        environ = NULL;
    }
    bool found = os_environment("ALLOT_TEST", buffer, sizeof buffer);
    dprintf(2, "%s%s", os_environment_ready() ? "ready " : "", found ? buffer : "none");
    return 0;
}

struct command {
    const char *path;
    const char *mode;
    char *environment[4];
};

static void run_command(void *context)
{
    struct command *command = context;
    char *arguments[] = {(char *)(uintptr_t)command->path, (char *)(uintptr_t)command->mode, NULL};
    execve(command->path, arguments, command->environment);
    _exit(98);
}

static void environment_is_there_before_libc(void **state)
{
    (void)state;
    static char much[40000] = "MUCH=";
    memset(much + 5, 'x', sizeof much - 6);
    struct command command = {program, "early", {much, "ALLOT_TEST_LONGER=1", "ALLOT_TEST=here", NULL}};
    struct child child = child_succeeds(run_command, &command);
    bool never_early = strcmp(child.said, "none") == 0; /* posix.c says that it isn't ready */
    assert_true(never_early || strcmp(child.said, "ready here") == 0);
    command.environment[2] = NULL;
    child = child_succeeds(run_command, &command);
    assert_string_equal(child.said, never_early ? "none" : "ready none");
}

static void copy_file(const char *from, const char *to)
{
    char bytes[65536];
    int in = open(from, O_RDONLY);
    int out = open(to, O_WRONLY | O_CREAT | O_EXCL, 0755);
    assert_true(in >= 0 && out >= 0);
    ssize_t n;
    while ((n = read(in, bytes, sizeof bytes)) > 0) {
        assert_int_equal(write(out, bytes, (size_t)n), n);
    }
    close(in);
    close(out);
}

/* As root only: a copy of this program that belongs to somebody else and runs as its owner. */
static void privileged_program_has_no_environment(void **state)
{
    (void)state;
    char path[64];
    struct statvfs where;
    snprintf(path, sizeof path, "/var/tmp/allot_set_uid_%d", (int)getpid());
    if (SANITIZED || getuid() != 0 || statvfs("/var/tmp", &where) != 0 || (where.f_flag & ST_NOSUID) != 0) {
        skip();
    }
    copy_file(program, path);
    struct command command = {path, "plain", {"ALLOT_TEST=here", NULL}};
    struct child before = child_run(run_command, &command);
    int changed = chown(path, 65534, 65534) | chmod(path, 04755);
    struct child after = child_run(run_command, &command);
    unlink(path);
    assert_int_equal(changed, 0);
    assert_string_equal(before.said, "ready here");
    assert_string_equal(after.said, "ready none");
}

/* ---- limits and figures ------------------------------------------------------------------------------------- */

static void limit_address_space(void *unused)
{
    (void)unused;
    EXPECT(setrlimit(RLIMIT_AS, &(struct rlimit){.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY}) == 0);
    EXPECT(os_address_space_limit() == SIZE_MAX);
    EXPECT(setrlimit(RLIMIT_AS, &(struct rlimit){.rlim_cur = 512 * MIB, .rlim_max = RLIM_INFINITY}) == 0);
    EXPECT(os_address_space_limit() == 512 * MIB);
    EXPECT(os_memory_limit() <= 512 * MIB);
    EXPECT(os_map(GIB, os_page_bytes()) == NULL);
}

static void limit_data(void *unused)
{
    (void)unused;
    EXPECT(os_memory_limit() > 16 * MIB);
    EXPECT(setrlimit(RLIMIT_DATA, &(struct rlimit){.rlim_cur = 16 * MIB, .rlim_max = RLIM_INFINITY}) == 0);
    EXPECT(os_memory_limit() == 16 * MIB);
}

static void limits_are_seen(void **state)
{
    (void)state;
    if (SANITIZED) {
        skip();
    }
    child_succeeds(limit_address_space, NULL);
    child_succeeds(limit_data, NULL);
}

static void resident_bytes_of_the_process_grow(void **state)
{
    (void)state;
    size_t before = os_process_resident_bytes();
    if (before == 0) {
        skip(); /* the platform can't tell */
    }
    assert_in_range(before, 100 * KIB, os_memory_limit());
    char *p = os_map(64 * MIB, os_page_bytes());
    memset(p, 1, 64 * MIB);
    assert_true(os_process_resident_bytes() > before + 32 * MIB);
    assert_int_equal(os_release(p, 64 * MIB), 0);
}

struct walk {
    uintptr_t address;
    uintptr_t last_end;
    struct os_mapping found;
    int n;
};

static bool walk_on(const struct os_mapping *mapping, void *context)
{
    struct walk *walk = context;
    walk->n++;
    assert_true(mapping->begin < mapping->end && mapping->begin >= walk->last_end);
    walk->last_end = mapping->end;
    if (walk->address >= mapping->begin && walk->address < mapping->end) {
        walk->found = *mapping;
        assert_non_null(strstr(mapping->name, "os_"));
        return false;
    }
    return true;
}

static void mappings_are_walked(void **state)
{
    (void)state;
    struct walk walk = {.address = (uintptr_t)walk_on};
    errno = 12345;
    int error = os_mappings(walk_on, &walk);
    assert_int_equal(errno, 12345);
    if (error == -ENOSYS) {
        skip();
    }
    assert_int_equal(error, 0);
    assert_true(walk.found.readable && walk.found.executable && !walk.found.writable);
    int n = walk.n;
    walk = (struct walk){.address = 1};
    assert_int_equal(os_mappings(walk_on, &walk), 0);
    assert_true(walk.n > n && walk.found.end == 0);
}

/* ---- standard error ----------------------------------------------------------------------------------------- */

enum { LONG_TEXT = 1 << 20 };

static char long_text[LONG_TEXT];

static void ring(int signal)
{
    (void)signal;
}

static int read_slowly(int fd)
{
    static char bytes[8192];
    int sum = 0;
    ssize_t n;
    while ((n = read(fd, bytes, sizeof bytes)) > 0 || (n < 0 && errno == EINTR)) {
        sum += n > 0 ? (int)n : 0;
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
    return sum;
}

/* A megabyte through a pipe whose writing end doesn't block and whose reader is slow, while signals come in. */
static void all_is_written(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct sigaction action = {.sa_handler = ring};
        struct itimerval often = {.it_interval.tv_usec = 500, .it_value.tv_usec = 500};
        dup2(ends[1], 2);
        close(ends[0]);
        close(ends[1]);
        fcntl(2, F_SETFL, O_NONBLOCK);
        sigaction(SIGALRM, &action, NULL);
        setitimer(ITIMER_REAL, &often, NULL);
        os_write_error(long_text, sizeof long_text);
        _exit(0);
    }
    close(ends[1]);
    int sum = read_slowly(ends[0]);
    close(ends[0]);
    waitpid(pid, NULL, 0);
    assert_int_equal(sum, sizeof long_text);
}

static void write_to_nobody(void *blocked)
{
    int ends[2];
    sigset_t pipe_only;
    sigset_t pending;
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    EXPECT(pipe(ends) == 0);
    close(ends[0]);
    int real = dup(2);
    dup2(ends[1], 2);
    signal(SIGPIPE, SIG_DFL);
    if (*(bool *)blocked) {
        sigprocmask(SIG_BLOCK, &pipe_only, NULL);
    }
    errno = 12345;
    os_write_error("x", 1);
    int seen = errno;
    dup2(real, 2);
    EXPECT(seen == 12345);
    EXPECT(sigpending(&pending) == 0 && !sigismember(&pending, SIGPIPE));
    sigset_t now;
    sigprocmask(SIG_BLOCK, NULL, &now);
    EXPECT(sigismember(&now, SIGPIPE) == *(bool *)blocked);
    signal(SIGPIPE, SIG_IGN);
    dup2(ends[1], 2);
    os_write_error("x", 1); /* ignored, no signal is pending: must not wait for one */
    close(2);
    os_write_error("x", 1);
}

static void nobody_listening_is_no_harm(void **state)
{
    (void)state;
    bool blocked = false;
    child_succeeds(write_to_nobody, &blocked);
    blocked = true;
    child_succeeds(write_to_nobody, &blocked);
}

/* ---- the end ------------------------------------------------------------------------------------------------ */

enum ending { PLAIN, BLOCKED, IGNORED, HANDLED, HANDLED_AND_LEFT };

static jmp_buf leave;

static void say_last_words(int signal)
{
    (void)signal;
    ssize_t n = write(2, "last words", 10);
    (void)n;
}

static void leave_by_jump(int signal)
{
    (void)signal;
    longjmp(leave, 1);
}

static void abort_in(void *ending)
{
    enum ending how = *(enum ending *)ending;
    sigset_t all;
    sigfillset(&all);
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    signal(SIGABRT, how == IGNORED            ? SIG_IGN
                    : how == HANDLED          ? say_last_words
                    : how == HANDLED_AND_LEFT ? leave_by_jump
                                              : SIG_DFL);
    if (how == BLOCKED) {
        sigprocmask(SIG_BLOCK, &all, NULL);
    }
    if (setjmp(leave) == 0) {
        os_abort();
    }
    _exit(7);
}

static void abort_always_ends_the_process(void **state)
{
    (void)state;
    for (enum ending how = PLAIN; how <= HANDLED; how++) {
        struct child child = child_run(abort_in, &how);
        assert_true(child_killed_by(&child, SIGABRT));
        assert_string_equal(child.said, how == HANDLED ? "last words" : "");
    }
    enum ending how = HANDLED_AND_LEFT;
    struct child child = child_run(abort_in, &how);
    assert_true(WIFEXITED(child.status) && WEXITSTATUS(child.status) == 7);
}

int main(int argc, char **argv)
{
    static char path[4096];
    if (argc == 2) {
        return say_environment(argv[1]);
    }
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    program = length > 0 ? path : argv[0];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(time_goes_on),
        cmocka_unit_test(random_differs),
        cmocka_unit_test(environment_is_found_and_cut),
        cmocka_unit_test(a_file_is_taken_out_of_a_list),
        cmocka_unit_test(environment_is_there_before_libc),
        cmocka_unit_test(privileged_program_has_no_environment),
        cmocka_unit_test(limits_are_seen),
        cmocka_unit_test(resident_bytes_of_the_process_grow),
        cmocka_unit_test(mappings_are_walked),
        cmocka_unit_test(all_is_written),
        cmocka_unit_test(nobody_listening_is_no_harm),
        cmocka_unit_test(abort_always_ends_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
