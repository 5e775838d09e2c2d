"""allot doctor: programs and processes that have allot, can have it, or can't, and machines of all kinds below --root."""
import os
import pathlib
import shutil
import subprocess
import time
import unittest

import tooltest

PYTHON = "/usr/bin/python3"
SLEEP = "import time; print('ready', flush=True); time.sleep(60)"


class Doctor(tooltest.Case):
    def findings(self, *arguments, status=None, **how):
        """name: (state, finding, what to do), of the last finding of each name. The machine that this runs on may have
        its own faults, so how the command leaves is looked at where a fault is made."""
        answer = self.json("doctor", "--json", *arguments, status=status, **how)
        return {one["name"]: (one["state"], one["finding"], one["to_do"]) for one in answer["findings"]}

    def start(self, *command, **changes):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=tooltest.environment(**changes))
        self.addCleanup(lambda: (process.kill(), process.wait(), process.stdout.close()))
        self.assertEqual(process.stdout.readline(), "ready\n")
        return process.pid


@tooltest.needs_library
class OfProcesses(Doctor):
    def test_one_that_has_allot(self):
        pid = self.start(tooltest.TOOL, "run", PYTHON, "-c", SLEEP)
        found = self.findings(pid)
        self.assertEqual(found["loaded"][0], "ok")
        self.assertIn("liballot.so", found["loaded"][1])
        self.assertRegex(found["mappings"][1], r"^\d+ of \d+$")
        self.assertEqual(found["looking inside"], ("ok", "the process's memory can be read", None))

    def test_one_that_has_not(self):
        found = self.findings(self.start(PYTHON, "-c", SLEEP), status=2)
        self.assertEqual(found["loaded"][0], "wrong")
        self.assertIn("LD_PRELOAD didn't name liballot", found["loaded"][1])
        self.assertIn("allot run", found["loaded"][2])

    def test_one_whose_library_is_not_there(self):
        gone = self.folder / "liballot.so.1"
        found = self.findings(self.start(PYTHON, "-c", SLEEP, LD_PRELOAD=str(gone)), status=2)
        self.assertIn(f"{gone}, which is not there", found["loaded"][1])

    def test_one_whose_library_was_replaced(self):
        library = self.folder / "liballot.so.1"
        shutil.copy(tooltest.LIBRARY, library)
        pid = self.start(PYTHON, "-c", SLEEP, LD_PRELOAD=str(library))
        library.unlink()
        self.assertEqual(self.findings(pid)["loaded"][0], "note")
        self.assertIn("restart", self.findings(pid)["loaded"][2])

    def test_one_with_another_malloc_beside_it(self):
        jemalloc = next(iter(pathlib.Path("/usr/lib").glob("*/libjemalloc.so.2")), None)
        if jemalloc is None:
            self.skipTest("no jemalloc")
        pid = self.start(PYTHON, "-c", SLEEP, LD_PRELOAD=f"{tooltest.LIBRARY}:{jemalloc}")
        self.assertIn("jemalloc", self.findings(pid)["malloc"][1])
        pid = self.start(PYTHON, "-c", SLEEP, LD_PRELOAD=str(jemalloc))
        self.assertIn("jemalloc", self.findings(pid, status=2)["malloc"][1])

    def test_a_static_one_with_allot_inside(self):
        source = ("#include <stdio.h>\n#include <stdlib.h>\n#include <unistd.h>\n"
                  'int main(int argc, char **argv) { printf("ready%s\\n", malloc(9) ? "" : argv[argc]); fflush(stdout); sleep(60); }')
        plain = self.start(self.compile("plain.c", source, "-static"))
        self.assertIn("linked statically", self.findings(plain, status=2)["loaded"][1])
        archive = str(pathlib.Path(tooltest.LIBRARY).parent / "liballot.a")
        inside = self.start(self.compile("inside.c", source, "-static", archive))
        self.assertEqual(self.findings(inside)["loaded"], ("ok", "yes, linked statically", None))

    def test_none(self):
        _, err = self.allot("doctor", "999999999", status=1)
        self.assertIn("there is no process 999999999", err)
        ended = subprocess.Popen(["true"])
        time.sleep(0.2)
        self.assertIn("has ended", self.allot("doctor", ended.pid, status=1)[1])
        ended.wait()

    @unittest.skipUnless(os.getuid() == 0, "needs root")
    def test_one_of_somebody_else(self):
        tool = self.folder / "allot"
        shutil.copy(tooltest.TOOL, tool)
        self.folder.chmod(0o755)
        done = subprocess.run([tool, "doctor", str(os.getpid())], stderr=subprocess.PIPE, text=True, user=65534, group=65534,
                              stdout=subprocess.PIPE, extra_groups=[], cwd="/", env=tooltest.environment(ALLOT_LIBRARY=None))
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("can't be looked at (Permission denied); try as its user or as root", done.stderr)


@tooltest.needs_library
class OfPrograms(Doctor):
    def test_one_that_can_have_it(self):
        found = self.findings(self.compile("program.c", "int main(void) { return 0; }"))
        self.assertEqual([found[name][0] for name in ["library", "program", "malloc", "debug info"]], ["ok"] * 4)

    def test_one_without_debug_info(self):
        program = self.compile("program.c", "int main(void) { return 0; }", "-s", "-Wl,--build-id=none")
        self.assertEqual(self.findings(program)["debug info"][0], "note")
        self.assertIn("no build-id", self.findings(program)["debug info"][1])

    def test_those_that_can_t(self):
        source = "int main(void) { return 0; }"
        self.assertIn("linked statically", self.findings(self.compile("a.c", source, "-static"), status=2)["program"][1])
        own = self.compile("b.c", "void *malloc(unsigned long n) { (void)n; return 0; }" + source, "-rdynamic", "-fno-builtin")
        self.assertEqual(self.findings(own, status=2)["malloc"][0], "wrong")
        self.assertIn("no such program", self.findings("nowhere-to-be-found", status=2)["program"][1])
        cut = self.folder / "cut"
        cut.write_bytes(own.read_bytes()[:50])
        cut.chmod(0o755)
        self.assertIn("damaged", self.findings(cut, status=2)["program"][1])

    @tooltest.needs("redis-server")
    def test_redis(self):
        found = self.findings("redis-server")
        self.assertEqual(found["program"][0], "ok")

    def test_a_script(self):
        script = self.folder / "start"
        script.write_text("#!/bin/sh\n")
        script.chmod(0o755)
        self.assertEqual(self.findings(script)["program"][0], "note")


@tooltest.needs_library
class OfMachines(Doctor):
    def below_root(self, status=None, **files):
        root = self.folder / "root"
        shutil.rmtree(root, ignore_errors=True)
        for name, text in files.items():
            path = root / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return self.findings("--root", root, status=status)

    def test_this_one(self):
        found = self.findings()
        self.assertTrue({"library", "limits", "cgroup", "overcommit", "mappings", "looking inside"} <= set(found))

    def test_limits(self):
        found = self.below_root(proc__self__limits="")
        self.assertEqual(found["limits"][0], "ok")
        for size, state, status in [(1 << 30, "note", 0), (32 << 20, "wrong", 2)]:
            line = f"Max address space         {size}           {size}           bytes\n"
            self.assertEqual(self.below_root(proc__self__limits=line, status=status)["limits"][0], state)

    def test_cgroups(self):
        two = {"proc__self__cgroup": "0::/a/b\n"}
        found = self.below_root(**two, **{"sys__fs__cgroup__a__b__memory.max": "max\n"})
        self.assertEqual(found["cgroup"][0], "ok")
        files = {"sys__fs__cgroup__a__b__memory.max": "max\n", "sys__fs__cgroup__a__memory.max": "1073741824\n"}
        found = self.below_root(**two, **files, **{"sys__fs__cgroup__a__memory.current": "536870912\n"})
        self.assertEqual(found["cgroup"][:2], ("note", "512.0 MiB of 1.0 GiB are used"))
        found = self.below_root(**two, **files, **{"sys__fs__cgroup__a__memory.current": "1073000000\n"}, status=2)
        self.assertEqual(found["cgroup"][0], "wrong")
        one = {"proc__self__cgroup": "4:memory:/x\n", "sys__fs__cgroup__memory__memory.limit_in_bytes": "9223372036854771712\n"}
        self.assertEqual(self.below_root(**one)["cgroup"][0], "ok")
        one["sys__fs__cgroup__memory__x__memory.limit_in_bytes"] = "2147483648\n"
        self.assertEqual(self.below_root(**one)["cgroup"][1], "the limit of memory is 2.0 GiB")

    def test_the_kernel_s_settings(self):
        found = self.below_root(proc__sys__vm__overcommit_memory="2\n", proc__sys__vm__max_map_count="4096\n",
                                sys__kernel__mm__transparent_hugepage__enabled="[always] madvise never\n",
                                proc__sys__kernel__yama__ptrace_scope="1\n")
        for name in ["overcommit", "mappings", "huge pages", "looking inside"]:
            self.assertEqual(found[name][0], "note", name)
        self.assertIn("huge_pages=never", found["huge pages"][2])

    def test_the_environment(self):
        found = self.findings(status=2, ALLOT_OPTIONS="purge_age=soon")
        self.assertIn("purge_age=soon: not a number", found["ALLOT_OPTIONS"][1])
        self.assertEqual(self.findings(ALLOT_OPTIONS="stats")["ALLOT_OPTIONS"][0], "ok")
        found = self.findings(status=2, LD_PRELOAD="/no/such/library.so")
        self.assertIn("/no/such/library.so can't be read", found["LD_PRELOAD"][1])

    def test_the_library_is_missed_and_a_wrong_one_found_out(self):
        self.assertEqual(self.findings(status=2, ALLOT_LIBRARY="/nowhere/liballot.so.1")["library"][0], "wrong")
        text = self.folder / "liballot.so.1"
        text.write_text("no library")
        self.assertIn("can't be loaded", self.findings(status=2, ALLOT_LIBRARY=str(text))["library"][1])

    def test_as_people_read_it(self):
        out, _ = self.allot("doctor", "nowhere-to-be-found", status=2, COLUMNS="40")
        self.assertRegex(out, r"(?m)^wrong  program: ")
        self.assertRegex(out, r"(?m)^       -> give its path")
        self.assertTrue(all(len(line) <= 40 for line in out.splitlines() if "/" not in line), out)


if __name__ == "__main__":
    tooltest.main()
