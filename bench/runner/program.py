# SPDX-License-Identifier: MIT
"""The C programs of the benchmark: their sources and how they are compiled."""

import os
import subprocess

BENCH = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SOURCES = {
    "allot_bench": ["main.c", "measure.c", "small.c", "large.c", "threads.c", "memory.c"],
    "allot_fast_path": ["fast_path.c"],
}
# No builtins: the compiler must not pair a malloc with its free and drop both. No plt: a call is one jump.
FLAGS = ["-std=c11", "-O2", "-fno-builtin", "-fno-plt", "-pthread", "-Wl,-z,now"]


def compiler():
    return os.environ.get("CC", "cc")


def compile_program(name, folder):
    """Compile one program into folder; returns its path."""
    path = os.path.join(folder, name)
    sources = [os.path.join(BENCH, source) for source in SOURCES[name]]
    subprocess.run([compiler(), *FLAGS, *sources, "-o", path], check=True)
    return path
