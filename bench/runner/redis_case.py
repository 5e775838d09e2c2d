# SPDX-License-Identifier: MIT
"""redis-server filled, nine in ten keys deleted, filled with another size. Time is the server's own CPU time."""

import glob
import os
import random
import re
import socket
import subprocess
import tempfile
import time

N_KEYS = 120000
FIRST_BYTES, SECOND_BYTES = 500, 900
PIPELINE = 500


def encode(*words):
    out = b"*%d\r\n" % len(words)
    for word in words:
        out += b"$%d\r\n%s\r\n" % (len(word), word)
    return out


def send(connection, commands):
    """Send one-line-answer commands, PIPELINE at a time, and wait for each answer."""
    for at in range(0, len(commands), PIPELINE):
        part = commands[at:at + PIPELINE]
        connection.sendall(b"".join(part))
        answers = b""
        while answers.count(b"\r\n") < len(part):
            received = connection.recv(65536)
            if not received:
                raise RuntimeError("redis-server closed the connection")
            answers += received
        if answers.startswith(b"-") or b"\r\n-" in answers:
            raise RuntimeError(f"redis-server answered {answers[:80]!r}")


def cpu_ns(pid):
    total = 0
    for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
        with open(path, encoding="ascii") as stat:
            total += int(stat.read().split()[0])
    return total


def kib(pid, file, key):
    with open(f"/proc/{pid}/{file}", encoding="ascii") as text:
        return int(re.search(rf"^{key}:\s+(\d+) kB", text.read(), re.M)[1])


def connect(path, server):
    for _ in range(500):
        if server.poll() is not None:
            raise RuntimeError(f"redis-server ended with {server.returncode}")
        try:
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(path)
            return connection
        except OSError:
            connection.close()
            time.sleep(0.02)
    raise RuntimeError("redis-server does not answer")


def fill_delete_fill(connection, server, effort):
    """The load; returns RSS at its three corners."""
    n_keys = N_KEYS * effort // 100
    corners = {}
    send(connection, [encode(b"SET", b"first:%d" % i, b"a" * FIRST_BYTES) for i in range(n_keys)])
    corners["filled_kib"] = kib(server.pid, "smaps_rollup", "Rss")
    doomed = random.Random(1).sample(range(n_keys), n_keys * 9 // 10)
    send(connection, [encode(b"DEL", b"first:%d" % i) for i in doomed])
    corners["deleted_kib"] = kib(server.pid, "smaps_rollup", "Rss")
    n_second = len(doomed) * FIRST_BYTES // SECOND_BYTES
    send(connection, [encode(b"SET", b"second:%d" % i, b"b" * SECOND_BYTES) for i in range(n_second)])
    time.sleep(1)
    corners["final_kib"] = kib(server.pid, "smaps_rollup", "Rss")
    return corners, n_keys + len(doomed) + n_second


def measure(env, effort):
    with tempfile.TemporaryDirectory(prefix="allot-bench-") as folder:
        path = os.path.join(folder, "redis.sock")
        command = ["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no"]
        command += ["--dir", folder, "--daemonize", "no", "--loglevel", "warning"]
        with open(os.path.join(folder, "log"), "w", encoding="utf-8") as log:
            server = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        try:
            connection = connect(path, server)
            before = cpu_ns(server.pid)
            report, n_commands = fill_delete_fill(connection, server, effort)
            report["ns"] = (cpu_ns(server.pid) - before) / n_commands
            report["peak_kib"] = kib(server.pid, "status", "VmHWM")
            connection.close()
        finally:
            server.kill()
            server.wait()
    return report
