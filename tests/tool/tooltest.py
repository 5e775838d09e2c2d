"""What the tests of the allot command share. Each test is a unittest.TestCase in a file of its own and ends in main()."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

TOOL = os.environ["ALLOT_TOOL"]
LIBRARY = os.environ.get("ALLOT_LIBRARY", "")  # empty in builds with a sanitizer
REPOSITORY = pathlib.Path(__file__).resolve().parents[2]

needs_library = unittest.skipUnless(LIBRARY, "no liballot in this build")


def needs(program):
    return unittest.skipUnless(shutil.which(program), f"no {program}")


def environment(**changes):
    """The caller's environment without what would change an answer; None takes a name away."""
    env = {**os.environ, "COLUMNS": "80", "LC_ALL": "C.UTF-8"}
    for name in ["LD_PRELOAD", "ALLOT_OPTIONS", "DEBUGINFOD_URLS", "NO_COLOR"]:
        env.pop(name, None)
    env.update(changes)
    return {name: value for name, value in env.items() if value is not None}


class Case(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="allot-tool-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def allot(self, *arguments, input=None, status=0, timeout=60, **changes):
        """Runs the command; it must leave with status, unless that is None. Returns (standard output, standard error)."""
        done = subprocess.run([TOOL, *map(str, arguments)], input=input, text=True, errors="replace", cwd=self.folder,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(**changes), timeout=timeout,
                              stdin=subprocess.DEVNULL if input is None else None)
        self.assertIn(status, [done.returncode, None], f"allot {' '.join(map(str, arguments))}:\n{done.stdout}\n{done.stderr}")
        return done.stdout, done.stderr

    def json(self, *arguments, **how):
        """Runs the command, whose answer must be JSON with the head that every answer has."""
        out, _ = self.allot(*arguments, **how)
        answer = json.loads(out)
        self.assertEqual((answer["command"], answer["format"]), (arguments[0], 1))
        return answer

    def compile(self, name, source, *flags):
        """Builds a program of the source text; name says the language: crash.c, tree.cc."""
        text = self.folder / name
        text.write_text(source)
        compiler = os.environ["CXX" if name.endswith(".cc") else "CC"]
        program = text.with_suffix("")
        subprocess.run([compiler, "-g", "-o", program, text, *flags], check=True)
        return program


def main():
    unittest.main(verbosity=1)
