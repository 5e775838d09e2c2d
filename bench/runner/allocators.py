# SPDX-License-Identifier: MIT
"""Which allocators take part: a name and the shared object to preload; glibc's is the C library itself."""

import glob
import hashlib
import os

LIBRARY_FOLDERS = ["/usr/lib/*-linux-gnu*", "/usr/lib64", "/usr/lib", "/usr/local/lib"]
PEERS = {
    "glibc": ["libc.so.6"],
    "jemalloc": ["libjemalloc.so.2"],
    "mimalloc": ["libmimalloc.so.2.0", "libmimalloc.so.2", "libmimalloc.so.3"],
    "tcmalloc": ["libtcmalloc_minimal.so.4"],
}
OURS = "allot"


def find_peer(names):
    for name in names:
        for folder in LIBRARY_FOLDERS:
            found = sorted(glob.glob(os.path.join(folder, name)))
            if found:
                return os.path.realpath(found[0])
    return None


def find_ours(build, repository):
    """liballot.so below the build folder given, else below that of the release."""
    folder = build or os.path.join(repository, "build", "release")
    found = glob.glob(os.path.join(folder, "**", "liballot.so"), recursive=True)
    return os.path.realpath(max(found, key=os.path.getmtime)) if found else None


def choose(wanted, ours):
    """{name: path} of those wanted ("name" or "name=path", comma separated), or of all that are installed."""
    known = {name: find_peer(names) for name, names in PEERS.items()}
    known[OURS] = os.path.realpath(ours) if ours else None
    if not wanted:
        return {name: path for name, path in known.items() if path}
    chosen = {}
    for item in wanted.split(","):
        name, _, path = item.partition("=")
        path = os.path.realpath(path) if path else known.get(name)
        if not path or not os.path.exists(path):
            raise SystemExit(f"bench: no library for allocator {name}")
        chosen[name] = path
    return chosen


def describe(chosen):
    """What goes into the record: the path, and a digest that tells two builds apart."""
    result = {}
    for name, path in chosen.items():
        with open(path, "rb") as library:
            result[name] = {"path": path, "sha256": hashlib.sha256(library.read()).hexdigest()}
    return result
