# SPDX-License-Identifier: MIT
"""The cases: those of allot_bench, and real programs. Each run is a process of its own; it returns {key: number}."""

import os
import shutil
import subprocess
import sys

import redis_case
from program import BENCH

TIMEOUT_S = 300


class Failed(Exception):
    """A run that gave no numbers; the text says why."""


def environment(library, **more):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "PYTHON", "LD_PRELOAD"))}
    return dict(env, LD_PRELOAD=library, **more)


def run(command, env):
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired as too_long:
        raise Failed(f"took more than {TIMEOUT_S} s") from too_long
    if done.returncode != 0:
        raise Failed(f"exit status {done.returncode}: {done.stderr.strip()[-300:]}")
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)


def numbers(report):
    return {key: float(value) for key, value in report.items() if key != "malloc_from"}


def program_case(program, name):
    def case(library, effort):
        report = run([program, name, str(effort)], environment(library))
        if os.path.realpath(report.get("malloc_from", "")) != os.path.realpath(library):
            raise Failed(f"malloc came from {report.get('malloc_from')}, not from {library}")
        return numbers(report)

    return case


def check_preloads(program, chosen):
    """A library that doesn't take over malloc would pass for another one in the cases that are real programs."""
    for name, library in chosen.items():
        try:
            program_case(program, "one")(library, 1)
        except Failed as why:
            raise SystemExit(f"bench: {name} can't be measured: {why}") from why


def python_case(library, effort):
    script = os.path.join(BENCH, "programs", "structures.py")
    env = environment(library, PYTHONMALLOC="malloc", PYTHONHASHSEED="1")
    return numbers(run([sys.executable, "-S", script, str(effort)], env))


def redis(library, effort):
    try:
        return redis_case.measure(environment(library), effort)
    except (OSError, RuntimeError, subprocess.SubprocessError) as why:
        raise Failed(str(why)) from why


def all_cases(program):
    """{name: (what it does, function of library and effort)}, and what can't run here with the reason."""
    listed = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout
    cases, missing = {}, {}
    for line in listed.splitlines():
        name, what = line.split("\t")
        cases[name] = (what, program_case(program, name))
    cases["python"] = ("python3 builds and drops large structures, all of it by malloc", python_case)
    if shutil.which("redis-server"):
        cases["redis"] = ("redis filled with 500-byte values, nine in ten deleted, filled with 900-byte values", redis)
    else:
        missing["redis"] = "redis-server is not installed"
    return cases, missing
