# SPDX-License-Identifier: MIT
"""The tools that the corpus of faults is held against: how each runs a program, and what its words mean.

A tool has named a fault when it used the fault's own name, or words that can mean nothing else. Where a message leaves
a choice ("already deallocated; or else ..."), its first clause counts. What says that something is corrupt says no name.
"""

import os
import re
import subprocess

import allocators

DOUBLE, INVALID, AFTER = "double free", "invalid free", "use after free"
OVER, UNDER = "buffer overflow", "buffer underflow"
MISMATCH, SIZE, UNINITIALISED, LEAK = "mismatched deallocation", "wrong size", "uninitialised read", "leak"

TIMEOUT = 20
NOT_HERE, DAMAGED = 77, 43  # tests/fault/case.h


def by_rules(rules):
    """A reader of a tool's words: the names of all rules that match somewhere."""
    compiled = [(re.compile(pattern, re.M | re.S), name) for pattern, name in rules]
    return lambda text: {name for pattern, name in compiled if pattern.search(text)}


def first_line(read):
    """Only the first line counts: what follows is told about a heap that is wrong already."""
    return lambda text: read(text.split("\n", 1)[0])


ALLOT = first_line(by_rules([
    (r"^allot: double free of ", DOUBLE),
    (r"^allot: invalid (free|realloc|usable size) of ", INVALID),
    (r"^allot: (use|write) after free of ", AFTER),
    (r"^allot: buffer overflow of ", OVER),
    (r"^allot: buffer underflow of ", UNDER),
    (r"^allot: mismatched deallocation of ", MISMATCH),
    (r"^allot: wrong size of ", SIZE),
    (r"^allot: uninitialised read of ", UNINITIALISED),
    (r"^allot: leak of ", LEAK),
]))

ALLOCATOR = by_rules([
    # glibc: "double free or corruption" is taken for the first of the two
    (r"double free", DOUBLE),
    (r"(free|munmap_chunk|realloc)\(\): invalid pointer", INVALID),
    # jemalloc
    (r"[Ww]rite-after-free", AFTER),
    (r"size mismatch", SIZE),
    # mimalloc
    (r"already freed block", DOUBLE),
    # tcmalloc and its debug library
    (r"Attempt to free invalid pointer", INVALID),
    (r"object at \S+ has never been allocated", INVALID),
    (r"object at \S+ has been already deallocated", DOUBLE),
    (r"a word before object at \S+ has been corrupted", UNDER),
    (r"a word after object at \S+ has been corrupted", OVER),
    (r"Memory was written to after being freed", AFTER),
    (r"allocation/deallocation mismatch", MISMATCH),
])

ADDRESS = r"(?:(?!^==\d+== $).)*"  # within one of valgrind's paragraphs
VALGRIND = by_rules([
    (r"Address \S+ is [\d,]+ bytes after a block of size [\d,]+ alloc'd", OVER),
    (r"Address \S+ is [\d,]+ bytes inside a block of size [\d,]+ alloc'd", OVER),  # begins inside, ends beyond
    (r"Address \S+ is [\d,]+ bytes before a block of size [\d,]+ alloc'd", UNDER),
    (r"(Invalid (read|write)|unaddressable)" + ADDRESS + r"Address \S+ is [\d,]+ bytes inside a block of size [\d,]+ free'd",
     AFTER),
    (r"Invalid free\(\)" + ADDRESS + r"is 0 bytes (inside|after) a block of size [\d,]+ free'd", DOUBLE),
    (r"Invalid free\(\)(?!" + ADDRESS + r"is 0 bytes (inside|after) a block of size [\d,]+ free'd)", INVALID),
    (r"Mismatched free\(\)", MISMATCH),
    (r"uninitialised", UNINITIALISED),
    (r"blocks? (is|are) (definitely|indirectly) lost", LEAK),
])

ASAN = by_rules([
    (r"ERROR: AddressSanitizer: attempting double-free", DOUBLE),
    (r"ERROR: AddressSanitizer: attempting (free on address which was not malloc|to call malloc_usable_size)", INVALID),
    (r"ERROR: AddressSanitizer: heap-use-after-free", AFTER),
    (r"ERROR: AddressSanitizer: heap-buffer-overflow.*is located \d+ bytes (to the right of|after) ", OVER),
    (r"ERROR: AddressSanitizer: heap-buffer-overflow.*is located \d+ bytes (to the left of|before) ", UNDER),
    (r"ERROR: AddressSanitizer: alloc-dealloc-mismatch", MISMATCH),
    (r"ERROR: AddressSanitizer: new-delete-type-mismatch.*alignment of the", MISMATCH),
    (r"ERROR: AddressSanitizer: new-delete-type-mismatch.*size of the", SIZE),
    (r"ERROR: LeakSanitizer: detected memory leaks", LEAK),
])


class Tool:
    """One column: what goes before the program, what is set around it, and who reads what is said."""

    def __init__(self, title, read, program, before=(), **environment):
        self.title, self.read, self.program = title, read, program
        self.before, self.environment = list(before), environment

    def run(self, case, what):
        """The exit code (negative: a signal, None: it never ended) and what stands on standard error."""
        environment = {name: value for name, value in os.environ.items()
                       if name not in ("LD_PRELOAD", "ALLOT_OPTIONS", "ASAN_OPTIONS")}
        environment.update(self.environment)
        command = [*self.before, self.program, "--inside", "default", case, what]
        try:
            done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE, timeout=TIMEOUT, check=False)
        except subprocess.TimeoutExpired:
            return None, ""
        return done.returncode, done.stderr.decode(errors="replace")

    def outcome(self, case, errors):
        """How the fault ends: the words of tests/fault/case.h. errors are the names that are right for it."""
        code, said = self.run(case, "fault")
        if code == NOT_HERE:
            return "untried"
        if self.read(said) & errors:
            return "named"
        if code in (None, DAMAGED) and not said.strip():
            return "damaged"
        return "silent" if code == 0 and not said.strip() else "stopped"

    def is_quiet(self, case):
        """Whether the twin ends well, and no fault is named in it. A warning is none."""
        code, said = self.run(case, "twin")
        return code == NOT_HERE or (code == 0 and not self.read(said))


def ours(library, program):
    # By default one block in about a thousand is sampled: the table doesn't count on that luck.
    modes = [("allot", "sample_rate=0"), ("allot, check", "check"), ("allot, check, no guards left", "check,guards=0"),
             ("allot, every block sampled", "sample_rate=1")]
    for title, options in modes:
        yield Tool(title, ALLOT, program, LD_PRELOAD=library, ALLOT_OPTIONS=options)


def peers(program):
    names = {**allocators.PEERS, "tcmalloc, debug": ["libtcmalloc_minimal_debug.so.4"]}
    for title, libraries in names.items():
        library = allocators.find_peer(libraries)
        if library:
            yield Tool(title, ALLOCATOR, program, **({} if title == "glibc" else {"LD_PRELOAD": library}))


def sanitizers(program, rebuilt):
    yield Tool("Valgrind", VALGRIND, program,
               before=["valgrind", "-q", "--leak-check=full", "--num-callers=4", "--error-exitcode=9"])
    yield Tool("ASan", ASAN, rebuilt, ASAN_OPTIONS="detect_leaks=1:allocator_may_return_null=1:color=never")


def all_tools(library, program, rebuilt):
    return [*ours(library, program), *peers(program), *sanitizers(program, rebuilt)]
