# SPDX-License-Identifier: MIT
"""The record of a measurement: machine, kernel, compiler, commit, options and every raw number, as JSON."""

import json
import os
import platform
import subprocess
import time

from program import BENCH, FLAGS, compiler

FORMAT = 1


def output_of(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def first_match(path, key):
    try:
        with open(path, encoding="utf-8") as lines:
            return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), "")
    except OSError:
        return ""


def contents(path):
    try:
        with open(path, encoding="utf-8") as text:
            return text.read().strip()
    except OSError:
        return ""


def machine():
    return {
        "cpu": first_match("/proc/cpuinfo", "model name"),
        "cpus": len(os.sched_getaffinity(0)),
        "memory": first_match("/proc/meminfo", "MemTotal"),
        "architecture": platform.machine(),
        "kernel": platform.release(),
        "libc": " ".join(platform.libc_ver()),
        "system": first_match_os_name(),
        "transparent_hugepage": contents("/sys/kernel/mm/transparent_hugepage/enabled"),
        "overcommit_memory": contents("/proc/sys/vm/overcommit_memory"),
        "load_at_start": os.getloadavg()[0],
    }


def first_match_os_name():
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return ""


def new(options, allocators, cases):
    return {
        "format": FORMAT,
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine(),
        "compiler": output_of(compiler(), "--version").split("\n")[0],
        "flags": FLAGS,
        "commit": output_of("git", "-C", BENCH, "rev-parse", "HEAD"),
        "changed": output_of("git", "-C", BENCH, "status", "--porcelain", "--untracked-files=no").split("\n"),
        "options": options,
        "allocators": allocators,
        "cases": cases,
        "runs": [],
    }


def write(record, path):
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path, "w", encoding="utf-8") as out:
        json.dump(record, out, indent=1)
        out.write("\n")


def read(path):
    with open(path, encoding="utf-8") as text:
        record = json.load(text)
    if record.get("format") != FORMAT:
        raise SystemExit(f"bench: {path} is of format {record.get('format')}, not {FORMAT}")
    return record
