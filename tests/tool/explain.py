"""allot explain: its parts add up to what the kernel says, for real programs, and it says what it can't do."""
import os
import re
import subprocess

import processes
import tooltest


def rss_of(pid):
    with open(f"/proc/{pid}/smaps_rollup") as rollup:
        return int(re.search(r"^Rss:\s+(\d+) kB", rollup.read(), re.M)[1]) * 1024


@tooltest.needs_library
class Explain(tooltest.Case):
    def check_sum(self, pid, name, live_least=1):
        for attempt in range(3):  # the kernel's figure may be of another moment
            before = rss_of(pid)
            answer = self.json("explain", "--json", pid)
            after = rss_of(pid)
            self.assertEqual(sum(answer["parts"].values()), answer["sum_bytes"])
            near = min(abs(answer["sum_bytes"] - rss) / rss for rss in [before, after])
            if near <= 0.02:
                break
        self.assertLessEqual(near, 0.02, f"{name}: {answer} against {before} and {after}")
        self.assertGreaterEqual(answer["live_bytes"], live_least, name)
        self.assertGreaterEqual(answer["live_bytes"] * 1.01 + 65536,
                                answer["parts"]["live_requested"] + answer["parts"]["live_rounding"], name)
        return answer

    def test_ten_programs_add_up(self):
        self.compile("tree.cc", processes.CPLUSPLUS)
        self.compile("plain.c", processes.C)
        server = tooltest.REPOSITORY / "examples/threaded_server.c"
        self.compile("server.c", server.read_text(), "-pthread")
        programs = {
            "cat": (["cat"], 0),
            "awk": (["awk", "BEGIN { for (i = 0; i < 50000; i++) a[i] = i \"x\"; print \"ready\"; fflush(); getline }"], 1 << 20),
            "bash": (["bash", "-c", "for ((i = 0; i < 40000; i++)); do a[i]=$i; done; echo ready; read"], 1 << 20),
            "python3": (["python3", "-c", processes.PYTHON], 1 << 20),
            "perl": (["perl", "-e", processes.PERL], 4 << 20),
            "sort": (["sort"], 0),
            "C++": ([self.folder / "tree", "x"], 48000000),
            "C": ([self.folder / "plain", "x"], 2 << 20),
            "threaded server": ([self.folder / "server", 60], 4 << 20),
        }
        checked = 0
        for name, (arguments, least) in programs.items():
            if processes.has(arguments[0]):
                with processes.running(arguments, ready="ready" if arguments[1:] else None) as pid:
                    self.assertTrue("server" in name or processes.wait_for(lambda: processes.waits_for_input(pid)), name)
                    self.check_sum(pid, name, least)
                    checked += 1
        if processes.has("redis-server", "redis-benchmark"):
            with processes.redis(self.folder) as pid:
                answer = self.check_sum(pid, "redis-server", 4 << 20)
                self.assertTrue(answer["while_it_ran"])
                checked += 1
        self.assertGreaterEqual(checked, 6)

    def test_a_static_program_is_read_too_stripped_and_all(self):
        archive = processes.library_folder() / "liballot.a"
        self.compile("plain.c", processes.C, "-static", archive)
        subprocess.run(["strip", self.folder / "plain"], check=True)
        with processes.running([self.folder / "plain"], preload=False) as pid:
            answer = self.check_sum(pid, "static", 2 << 20)
            self.assertGreater(answer["live_blocks"], 10000)

    def test_what_is_live_is_counted_block_by_block(self):
        self.compile("plain.c", processes.C)
        with processes.running([self.folder / "plain"]) as pid:
            answer = self.json("explain", "--json", pid)
            # every fifth block of 1 to 700 bytes stays, and libc's own few
            self.assertGreaterEqual(answer["live_blocks"], 10000)
            self.assertLess(answer["live_blocks"], 10100)
            self.assertGreater(answer["parts"]["free_slots"], 4 << 20)

    def test_a_core_file_is_read(self):
        if not processes.has("gcore"):
            self.skipTest("no gcore")
        self.compile("plain.c", processes.C)
        with processes.running([self.folder / "plain"]) as pid:
            subprocess.run(["gcore", "-o", self.folder / "core", str(pid)], check=True, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
            live = self.json("explain", "--json", pid)
        core = self.folder / f"core.{pid}"
        answer = self.json("explain", "--json", core)
        self.assertEqual(answer["read_by"], "core")
        self.assertEqual(answer["live_blocks"], live["live_blocks"])
        self.assertEqual(answer["live_bytes"], live["live_bytes"])
        os.truncate(core, os.path.getsize(core) // 2)
        self.assertIn("is truncated", self.allot("explain", core, status=1)[1])

    def test_it_fits_narrow_terminals(self):
        self.compile("plain.c", processes.C)
        with processes.running([self.folder / "plain"]) as pid:
            for width in [40, 80]:
                out, _ = self.allot("explain", pid, COLUMNS=str(width))
                self.assertLessEqual(max(map(len, out.splitlines())), width)
                self.assertLessEqual(len(out.splitlines()), 24 if width == 80 else 60)
                self.assertIn("share their", " ".join(out.split()))

    def test_what_it_cannot_do_is_said(self):
        for arguments, said in [
            (["4194999"], "there is no process 4194999"),
            (["99999999999"], "there is no process"),
            (["/nowhere/core"], "No such file or directory"),
            ([tooltest.TOOL], "is no core file"),
            (["/dev/null"], "is no core file"),
        ]:
            out, err = self.allot("explain", *arguments, status=1)
            self.assertEqual(out, "")
            self.assertIn(said, err)
        self.assertIn("which process", self.allot("explain", status=64)[1])

    def test_a_process_without_allot(self):
        with processes.running(["cat"], ready=None, preload=False) as pid:
            err = self.allot("explain", pid, status=1)[1]
            self.assertIn("runs without allot", err)


if __name__ == "__main__":
    tooltest.main()
