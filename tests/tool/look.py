"""A process answers over its socket: the same as its memory says, only when asked for, and only to its user."""
import contextlib
import os
import pathlib
import signal
import socket
import stat
import subprocess
import threading

import processes
import tooltest


def threads(pid):
    return sorted(pathlib.Path(f"/proc/{pid}/task/{tid}/comm").read_text().strip() for tid in os.listdir(f"/proc/{pid}/task"))


def ask(path, question):
    """The answer's lines."""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as connection:
        connection.connect(str(path))
        connection.settimeout(10)
        stream = connection.makefile("rw")
        assert stream.readline().startswith("allot "), "no greeting"
        stream.write(question + "\n")
        stream.flush()
        lines = []
        while (line := stream.readline().rstrip("\n")) != "end":
            if not line:
                raise EOFError
            lines.append(line)
        return lines


@tooltest.needs_library
class Look(tooltest.Case):
    def setUp(self):
        super().setUp()
        self.runtime = self.folder / "run"
        self.runtime.mkdir()
        self.look = {"ALLOT_OPTIONS": "look", "XDG_RUNTIME_DIR": str(self.runtime)}

    def path(self, pid):
        return self.runtime / "allot" / f"{pid}.sock"

    def opened(self, pid):
        self.assertTrue(processes.wait_for(self.path(pid).exists), "no socket")
        return self.path(pid)

    @contextlib.contextmanager
    def plain(self, **changes):
        self.compile("plain.c", processes.C)
        with processes.running([self.folder / "plain"], **changes) as pid:
            yield pid

    def test_by_default_there_is_nothing(self):
        with self.plain(XDG_RUNTIME_DIR=str(self.runtime)) as pid:
            self.assertEqual(threads(pid), ["plain"])
            self.assertEqual(len(os.listdir(f"/proc/{pid}/fd")), 3)
            self.assertEqual(os.listdir(self.runtime), [])
            err = self.allot("explain", "--socket", pid, status=1)[1]
            self.assertIn("has opened no socket: start it with ALLOT_OPTIONS=look", err)

    def test_it_says_what_memory_says(self):
        with self.plain(**self.look) as pid:
            path = self.opened(pid)
            self.assertEqual(threads(pid), ["allot-look", "plain"])
            self.assertEqual(stat.S_IMODE(path.parent.stat().st_mode), 0o700)
            memory = self.json("explain", "--json", pid)
            told = self.json("explain", "--json", "--socket", pid)
            self.assertEqual((memory["read_by"], told["read_by"]), ("memory", "socket"))
            for name in ["live_blocks", "live_bytes"]:
                self.assertAlmostEqual(memory[name], told[name], delta=memory[name] / 500)  # stdin's buffer may come yet
            for name in ["live_requested", "free_slots"]:
                self.assertAlmostEqual(memory["parts"][name], told["parts"][name], delta=65536)
            self.assertLess(abs(told["sum_bytes"] - told["rss_bytes"]), told["rss_bytes"] / 50)
            stats = dict(line.split() for line in ask(path, "stats"))
            self.assertEqual(int(stats["n_live_blocks"]), told["live_blocks"])
            self.assertEqual(int(stats["live_bytes"]), told["live_bytes"])
            self.assertEqual(ask(path, "nonsense"), ["unknown question"])

    def test_one_variable_turns_it_off(self):
        for value in ["off", "0"]:
            with self.plain(**self.look, ALLOT_LOOK=value) as pid:
                self.assertEqual(threads(pid), ["plain"])
                self.assertEqual(os.listdir(self.runtime), [])

    def test_a_signal_opens_it(self):
        look = {**self.look, "ALLOT_OPTIONS": f"look_signal={int(signal.SIGUSR2)}"}
        with self.plain(**look) as pid:
            self.assertEqual(threads(pid), ["allot-look", "plain"])
            self.assertFalse(self.path(pid).exists())
            os.kill(pid, signal.SIGUSR2)
            self.assertTrue(ask(self.opened(pid), "stats"))

    def test_a_directory_that_others_may_enter_is_refused(self):
        (self.runtime / "allot").mkdir()
        (self.runtime / "allot").chmod(0o755)
        with self.plain(**self.look) as pid:
            self.assertFalse(self.path(pid).exists())
            elsewhere = pathlib.Path(f"/tmp/allot-{os.geteuid()}/{pid}.sock")
            self.assertTrue(processes.wait_for(elsewhere.exists))
            self.assertEqual(self.json("explain", "--json", "--socket", pid)["read_by"], "socket")
        elsewhere.unlink(missing_ok=True)

    def test_another_user_is_not_answered_even_where_the_directory_lets_him_in(self):
        if os.geteuid() != 0:
            self.skipTest("only root can be another user")
        with self.plain(**self.look) as pid:
            path = self.opened(pid)
            for place in [self.folder, self.runtime, path.parent, path]:
                place.chmod(0o777)
            heard = subprocess.run(["python3", "-c", f"import os, socket\nos.setgid(65534)\nos.setuid(65534)\n"
                                    f"s = socket.socket(socket.AF_UNIX)\ns.connect({str(path)!r})\nprint(s.recv(100))"],
                                   stdout=subprocess.PIPE, text=True, timeout=20).stdout
            self.assertIn(heard.strip(), ["b''"])
            self.assertTrue(ask(path, "stats"))

    def test_it_goes_with_the_process(self):
        self.compile("brief.c", "#include <unistd.h>\nint main(void) { usleep(300000); return 0; }")
        done = subprocess.Popen([self.folder / "brief"],
                                env=tooltest.environment(LD_PRELOAD=tooltest.LIBRARY, **self.look))
        self.opened(done.pid)
        done.wait()
        self.assertFalse(self.path(done.pid).exists())

    def test_a_child_of_a_fork_has_its_own(self):
        program = "import os, sys\npid = os.fork()\nprint(pid, 'ready' if pid else '', flush=True)\nsys.stdin.read()\n"
        if not processes.has("python3"):
            self.skipTest("no python3")
        with processes.running(["python3", "-c", program], **self.look) as pid:
            parent = self.opened(pid)
            kids = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            self.assertEqual(len(kids), 1)
            child = self.opened(kids[0])
            for path, number in [(parent, pid), (child, int(kids[0]))]:
                self.assertTrue(ask(path, "stats"))
                self.assertEqual(self.json("explain", "--json", "--socket", number)["pid"], number)

    def test_it_is_reached_in_a_container(self):
        inside = f"mount -t tmpfs none {self.runtime} && exec perl -e '$| = 1; print \"ready\\n\"; <STDIN>'"
        arguments = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", inside]
        if os.geteuid() != 0 or not processes.has("unshare", "perl") or \
                subprocess.run(arguments[:5] + ["true"], stderr=subprocess.DEVNULL).returncode != 0:
            self.skipTest("no right to make a container")
        with processes.running(arguments, **self.look) as outer:
            pid = int(pathlib.Path(f"/proc/{outer}/task/{outer}/children").read_text().split()[0])
            answers = lambda: subprocess.run([tooltest.TOOL, "explain", "--socket", str(pid)], stdout=subprocess.DEVNULL,
                                             stderr=subprocess.DEVNULL).returncode == 0
            self.assertTrue(processes.wait_for(answers))
            answer = self.json("explain", "--json", "--socket", pid)
            self.assertEqual((answer["pid"], answer["program"], answer["read_by"]), (pid, "perl", "socket"))
            self.assertFalse(self.path(pid).exists())

    def test_a_set_uid_program_opens_nothing(self):
        if os.geteuid() != 0:
            self.skipTest("only root can make one of another user's")
        program = self.compile("plain.c", processes.C, "-static", processes.library_folder() / "liballot.a")
        self.folder.chmod(0o755)
        os.chown(program, 65534, 65534)
        program.chmod(0o4755)
        with processes.running([program], preload=False, **self.look) as pid:
            self.assertEqual(threads(pid), ["plain"])

    def test_ten_thousand_connects_under_load(self):
        server = tooltest.REPOSITORY / "examples/threaded_server.c"
        self.compile("server.c", server.read_text(), "-pthread")
        with processes.running([self.folder / "server", 120], **self.look) as pid:
            path = self.opened(pid)
            answered = []

            def connect(n):
                for i in range(n):
                    if i % 100 == 0:
                        answered.append(len(ask(path, "heap")) > 10)
                    else:
                        with contextlib.closing(socket.socket(socket.AF_UNIX)) as connection:
                            connection.connect(str(path))
                            if i % 3 == 0:
                                connection.send(b"heap\nstats\n"[: i % 11])  # and leaves in the middle

            callers = [threading.Thread(target=connect, args=(2500,)) for _ in range(4)]
            for caller in callers:
                caller.start()
            for caller in callers:
                caller.join()
            self.assertEqual((len(answered), set(answered)), (100, {True}))
            self.assertTrue(ask(path, "stats"))
            self.assertEqual(self.json("explain", "--json", "--socket", pid)["read_by"], "socket")
            # what came and went is gone: only the listener, the pipe and the program's own are open
            self.assertTrue(processes.wait_for(lambda: len(os.listdir(f"/proc/{pid}/fd")) == 6), os.listdir(f"/proc/{pid}/fd"))

    def test_who_does_not_read_is_dropped_and_holds_nobody_up_for_long(self):
        with self.plain(**self.look) as pid:
            path = self.opened(pid)
            with contextlib.closing(socket.socket(socket.AF_UNIX)) as deaf:
                deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                deaf.connect(str(path))
                deaf.send(b"heap\n" * 12)
                self.assertTrue(ask(path, "stats"))


if __name__ == "__main__":
    tooltest.main()
