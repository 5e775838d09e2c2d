"""allot top: samples and rates, once, as JSON, as a stream, and on a terminal that is drawn anew."""
import json
import os
import pty
import select
import signal
import subprocess
import time

import processes
import tooltest


@tooltest.needs_library
class Top(tooltest.Case):
    def setUp(self):
        super().setUp()
        server = tooltest.REPOSITORY / "examples/threaded_server.c"
        self.compile("busy.c", server.read_text(), "-pthread")

    def test_once(self):
        with processes.running([self.folder / "busy", 60]) as pid:
            answer = self.json("top", "--once", "--json", pid)
            explained = self.json("explain", "--json", pid)
            out, _ = self.allot("top", "--once", pid)
            self.allot("top", pid)  # no terminal: the same
        self.assertEqual((answer["pid"], answer["program"], answer["threads"]), (pid, "busy", 6))
        self.assertAlmostEqual(answer["live_bytes"], explained["live_bytes"], delta=explained["live_bytes"] / 5)
        self.assertGreater(answer["per_second"]["handed_out_bytes"], 100000)
        self.assertGreater(answer["per_second"]["cpu_seconds"], 0)
        self.assertGreater(sum(c["live"] for c in answer["classes"]), 10000)
        busy = [heap for heap in answer["heaps"] if heap["live_bytes"] > 1 << 20]
        self.assertEqual(len(busy), 4)
        for word in ["resident", "live", "handed out", "faults", "blocks of", "thread"]:
            self.assertIn(word, out)

    def test_redis_under_load(self):
        if not processes.has("redis-server", "redis-benchmark"):
            self.skipTest("no redis")
        with processes.redis(self.folder) as pid:
            answer = self.json("top", "--once", "--json", pid)
            self.assertEqual(answer["program"], "redis-server")
            self.assertGreater(answer["per_second"]["cpu_seconds"], 0.05)
            self.assertGreater(answer["live_blocks"], 50000)

    def test_it_lists_who_runs_on_allot(self):
        with processes.running([self.folder / "busy", 60]) as pid:
            listed = {p["pid"]: p["program"] for p in self.json("top", "--json")["processes"]}
            self.assertEqual(listed[pid], "busy")
            out, err = self.allot("top")
            self.assertRegex(out, rf"(?m)^ +{pid} .* busy$")
            self.assertEqual(err, "")

    def test_a_stream_ends_with_the_process(self):
        with processes.running([self.folder / "busy", 2]) as pid:
            out, _ = self.allot("top", "--json", "--interval", "200", pid, timeout=20)
        samples = [json.loads(line) for line in out.splitlines()]
        self.assertGreaterEqual(len(samples), 2)
        self.assertEqual({s["pid"] for s in samples}, {pid})

    def test_a_stream_ends_with_its_reader(self):
        with processes.running([self.folder / "busy", 60]) as pid:
            stream = subprocess.Popen([tooltest.TOOL, "top", "--json", "--interval", "100", str(pid)], stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE, env=tooltest.environment())
            json.loads(stream.stdout.readline())
            stream.stdout.close()
            self.assertEqual(stream.stderr.read(), b"")
            stream.wait(10)

    def test_forty_columns(self):
        with processes.running([self.folder / "busy", 60]) as pid:
            out, _ = self.allot("top", "--once", pid, COLUMNS="40")
            self.assertLessEqual(max(map(len, out.splitlines())), 40)

    def screen(self, pid, script):
        """What the command writes to a terminal while script(write, wait_for) runs."""
        child, terminal = pty.fork()
        if child == 0:
            os.execve(tooltest.TOOL, [tooltest.TOOL, "top", "--interval", "100", str(pid)],
                      tooltest.environment(TERM="xterm", COLUMNS=None, LINES=None))
        said = bytearray()

        def wait_for(word, seconds=15):
            end = time.monotonic() + seconds
            while word.encode() not in said and time.monotonic() < end:
                if select.select([terminal], [], [], 0.1)[0]:
                    try:
                        said.extend(os.read(terminal, 65536))
                    except OSError:
                        break
            self.assertIn(word, said.decode(errors="replace"))

        try:
            script(lambda keys: os.write(terminal, keys.encode()), wait_for)
            end = time.monotonic() + 10
            while time.monotonic() < end:
                try:
                    if not os.read(terminal, 65536):
                        break
                except OSError:
                    break
        finally:
            os.close(terminal)
            _, status = os.waitpid(child, 0)
        self.assertEqual(os.waitstatus_to_exitcode(status), 0)

    def test_on_a_terminal_it_pauses_and_leaves(self):
        with processes.running([self.folder / "busy", 60]) as pid:
            def script(write, wait_for):
                wait_for("blocks of")
                wait_for("pause")
                write("p")
                wait_for("go on")
                write("q")
            self.screen(pid, script)

    def test_it_watches_the_next_of_the_same_name(self):
        with processes.running([self.folder / "busy", 60]) as pid:
            with processes.running([self.folder / "busy", 60]) as second:
                def script(write, wait_for):
                    wait_for(f"{pid} busy")
                    os.kill(pid, signal.SIGKILL)
                    wait_for(f"{second}")
                    write("q")
                self.screen(pid, script)

    def test_what_it_cannot_do_is_said(self):
        self.assertIn("there is no process", self.allot("top", "4194999", status=1)[1])
        self.assertIn("--interval", self.allot("top", "--interval", "1", "1", status=64)[1])
        with processes.running(["cat"], ready=None, preload=False) as pid:
            self.assertIn("runs without allot", self.allot("top", "--once", pid, status=1)[1])


if __name__ == "__main__":
    tooltest.main()
