"""Real programs on allot, started, under load, and ended again."""
import contextlib
import os
import pathlib
import shutil
import subprocess
import time

import tooltest

PYTHON = "import sys\nkept = [str(i) * 20 for i in range(100000)]\nprint('ready', flush=True)\nsys.stdin.read()\n"
PERL = "my %h; $h{$_} = 'x' x ($_ % 300) for 1 .. 50000; $| = 1; print \"ready\\n\"; <STDIN>;"
CPLUSPLUS = r"""
#include <cstdio>
#include <map>
#include <string>
#include <vector>
int main()
{
    std::map<int, std::string> words;
    std::vector<std::vector<double>> rows;
    for (int i = 0; i < 60000; i++) words[i] = std::string(size_t(i % 200), 'w');
    for (int i = 0; i < 500; i++) rows.emplace_back(size_t(i) * 40);
    for (int i = 0; i < 60000; i += 3) words.erase(i);
    rows.emplace_back(6000000, 1.5);
    std::puts("ready");
    std::fflush(stdout);
    std::getchar();
}
"""
C = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(void)
{
    static char *blocks[50000];
    for (size_t i = 0; i < 50000; i++) {
        blocks[i] = malloc(i % 700 + 1);
        memset(blocks[i], 1, i % 700 + 1);
    }
    for (size_t i = 0; i < 50000; i++)
        if (i % 5) free(blocks[i]);
    puts("ready");
    fflush(stdout);
    getchar();
}
"""


@contextlib.contextmanager
def running(arguments, ready="ready", preload=True, **changes):
    """A process that is ready: its pid. It ends with the block."""
    env = tooltest.environment(LD_PRELOAD=tooltest.LIBRARY if preload else None, **changes)
    process = subprocess.Popen([str(a) for a in arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, env=env)
    try:
        while ready is not None:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"{arguments} ended before it was ready")
            if ready.encode() in line:
                break
        yield process.pid
    finally:
        process.stdin.close()
        process.kill()
        process.wait()
        process.stdout.close()


@contextlib.contextmanager
def redis(folder, load=True, **changes):
    """redis-server on allot, filled, and with load=True under load for as long as the block runs."""
    socket = folder / "redis.sock"
    arguments = ["redis-server", "--port", "0", "--unixsocket", socket, "--save", "", "--dir", folder]
    with running(arguments, ready="eady to accept connections", **changes) as pid:
        fill = ["redis-benchmark", "-s", socket, "-t", "set", "-d", "200", "-q"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(fill + ["-n", "100000", "-r", "50000"], check=True, **quiet)
        client = subprocess.Popen(fill + ["-n", "100000000", "-r", "50000"], **quiet) if load else None
        try:
            yield pid
        finally:
            if client is not None:
                client.kill()
                client.wait()


def wait_for(condition, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def waits_for_input(pid):
    """Whether its first thread is in a read from standard input: it has started, and does nothing."""
    try:
        call = pathlib.Path(f"/proc/{pid}/syscall").read_text().split()
    except OSError:
        return False
    return call[0] == "0" and call[1] == "0x0"


def library_folder():
    return pathlib.Path(tooltest.LIBRARY).resolve().parent


def has(*programs):
    return all(shutil.which(program) for program in programs)


def can_read_others():
    """Whether the kernel lets us read a child's memory."""
    return os.geteuid() == 0 or not pathlib.Path("/proc/sys/kernel/yama/ptrace_scope").exists() or \
        pathlib.Path("/proc/sys/kernel/yama/ptrace_scope").read_text().strip() in "01"
