"""allot run: real programs on allot, their options, their children, and those that can't have it."""
import os
import shutil
import subprocess
import time
import unittest

import tooltest

SAYS = "import os, sys; print('liballot' in open('/proc/self/maps').read(), os.environ.get('LD_PRELOAD', ''), *sys.argv[1:])"
PYTHON = "/usr/bin/python3"  # no wrapper of it

THREADS = r"""
#include <cstdio>
#include <string>
#include <thread>
#include <vector>
int main()
{
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; i++)
        threads.emplace_back([] {
            std::vector<std::string> all;
            for (int n = 0; n < 20000; n++) all.push_back(std::string((size_t)(n % 300), 'x'));
        });
    for (auto &thread : threads) thread.join();
    puts("done");
}
"""


@tooltest.needs_library
class Run(tooltest.Case):
    def test_the_program_gets_allot_and_its_arguments(self):
        out, _ = self.allot("run", PYTHON, "-c", SAYS, "--stats", "--", "-x")
        self.assertEqual(out, "True  --stats -- -x\n")
        self.assertEqual(self.allot("run", "--", PYTHON, "-c", SAYS)[0], "True \n")

    def test_it_leaves_with_what_the_program_leaves_with(self):
        self.allot("run", PYTHON, "-c", "raise SystemExit(7)", status=7)
        self.allot("run", PYTHON, "-c", "import os; os.kill(os.getpid(), 9)", status=-9)

    def test_stats(self):
        _, err = self.allot("run", "--stats", PYTHON, "-c", "")
        self.assertIn("allot: where the process's resident memory is", err)

    def test_limit(self):
        big = "try: b'x' * (300 << 20); print('taken')\nexcept MemoryError: print('refused')"
        self.assertEqual(self.allot("run", PYTHON, "-c", big)[0], "taken\n")
        self.assertEqual(self.allot("run", "--limit", "200m", PYTHON, "-c", big)[0], "refused\n")

    def test_children(self):
        child = f"import subprocess; subprocess.run(['{PYTHON}', '-c', {SAYS!r}])"
        self.assertEqual(self.allot("run", PYTHON, "-c", child)[0], "False \n")
        out, _ = self.allot("run", "--children", PYTHON, "-c", child)
        self.assertTrue(out.startswith("True /"), out)

    def test_scripts_pass_it_on(self):
        script = self.folder / "start.sh"
        script.write_text(f"#!/bin/sh\nexec {PYTHON} -c \"{SAYS}\"\n")
        script.chmod(0o755)
        self.assertTrue(self.allot("run", script)[0].startswith("True "))
        script.write_text(f"#!/usr/bin/env python3\n{SAYS}\n")
        self.assertTrue(self.allot("run", script)[0].startswith("True "))
        self.assertTrue(self.allot("run", "env", "X=1", PYTHON, "-c", SAYS)[0].startswith("True "))

    def test_what_was_preloaded_stays(self):
        other = self.compile("other.c", "int other_is_here(void) { return 1; }", "-shared", "-fPIC")
        out, _ = self.allot("run", PYTHON, "-c", SAYS, LD_PRELOAD=f"{tooltest.LIBRARY} {other}")
        self.assertEqual(out, f"True {other}\n")
        said = self.json("run", "--json", "--children", "true", LD_PRELOAD=f"{other}")
        self.assertEqual(said["environment"]["LD_PRELOAD"], f"{tooltest.LIBRARY}:{other}")

    def test_options_as_flags(self):
        said = self.json("run", "--json", "--purge-age=10", "--limit", "75%", "--stats", "--children", "ls", "-l",
                         ALLOT_OPTIONS="bin_limit=100")
        self.assertEqual(said["environment"]["ALLOT_OPTIONS"], "bin_limit=100,purge_age=10,hard_limit=75%,stats")
        self.assertEqual(said["program"], ["ls", "-l"])
        _, err = self.allot("run", "--help")
        for option in self.json("options", "--json")["options"]:
            if option["name"] not in ("help", "children"):
                flag = f"--{option['name'].replace('_', '-')}={option['default_shown'].split()[0]}"
                if option["kind"] in ("size", "limit"):
                    flag = f"{flag.split('=')[0]}={option['default']}"
                self.allot("run", flag, "true")

    def test_a_wrong_option_starts_nothing(self):
        for flag, said in [("--purge-age=soon", "not a number"), ("--limit=5x", "not a size"), ("--purge=all", "not one of")]:
            out, err = self.allot("run", flag, "echo", "started", status=64)
            self.assertEqual(out, "")
            self.assertIn(said, err)

    def test_permanent(self):
        out, _ = self.allot("run", "--print", "env", "--purge-age=10")
        said = subprocess.run(["bash", "-c", f'{out}\nexec {PYTHON} -c "{SAYS}"'], stdout=subprocess.PIPE, text=True,
                              env=tooltest.environment()).stdout
        self.assertTrue(said.startswith("True "), said)
        out, _ = self.allot("run", "--print=systemd", "--limit", "75%", "/usr/sbin/nginx")
        self.assertIn("systemctl edit nginx.service", out)
        self.assertIn(f"\nEnvironment=LD_PRELOAD={tooltest.LIBRARY}\n", out)
        self.assertIn("\nEnvironment=ALLOT_OPTIONS=hard_limit=75%%\n", out)
        out, _ = self.allot("run", "--print=docker", "--limit", "75%")
        self.assertIn("\nENV ALLOT_OPTIONS=hard_limit=75%\n", out)
        self.assertIn("systemd, docker or env", self.allot("run", "--print=runit", status=64)[1])

    def test_what_can_t_have_it_is_said(self):
        self.assertIn("no such program", self.allot("run", "no-such-program", status=127)[1])
        self.assertIn("Permission denied", self.allot("run", "/etc/passwd", status=126)[1])
        source = "int main(void) { return 0; }"
        static = self.compile("static.c", source, "-static")
        self.assertIn("linked statically", self.allot("run", static, status=126)[1])
        cut = self.folder / "cut"
        cut.write_bytes(static.read_bytes()[:40])
        cut.chmod(0o755)
        self.assertIn("damaged", self.allot("run", cut, status=126)[1])
        other = bytearray(static.read_bytes())
        other[18:20] = (183).to_bytes(2, "little")  # EM_AARCH64
        cut.write_bytes(other)
        self.assertIn("another kind of machine", self.allot("run", cut, status=126)[1])
        own = self.compile("own.c", "void *malloc(unsigned long n) { (void)n; return 0; } " + source, "-rdynamic", "-fno-builtin")
        self.assertIn("a malloc of its own", self.allot("run", own)[1])

    @unittest.skipUnless(os.getuid() == 0, "needs root")
    def test_set_uid_is_said(self):
        program = self.compile("program.c", "int main(void) { return 0; }")
        os.chown(program, 65534, 65534)
        program.chmod(0o4755)
        self.assertIn("set-uid", self.allot("run", program, status=126)[1])

    @unittest.skipUnless(shutil.which("musl-gcc"), "no musl-gcc")
    def test_musl_is_said(self):
        (self.folder / "program.c").write_text("int main(void) { return 0; }")
        subprocess.run(["musl-gcc", "-o", self.folder / "program", self.folder / "program.c"], check=True)
        self.assertIn("musl", self.allot("run", self.folder / "program", status=126)[1])

    def test_a_threaded_c_plus_plus_program(self):
        program = self.compile("threads.cc", THREADS, "-O1", "-pthread")
        out, err = self.allot("run", "--stats", program)
        self.assertEqual(out, "done\n")
        self.assertIn("live blocks", err)

    @tooltest.needs("redis-server")
    @tooltest.needs("redis-cli")
    def test_redis(self):
        socket = self.folder / "redis.sock"
        server = subprocess.Popen([tooltest.TOOL, "run", "redis-server", "--port", "0", "--unixsocket", socket, "--save", "",
                                   "--enable-debug-command", "local"],
                                  stdout=subprocess.DEVNULL, cwd=self.folder, env=tooltest.environment())
        try:
            for _ in range(100):
                if socket.exists():
                    break
                time.sleep(0.05)
            cli = ["redis-cli", "-s", socket]
            load = ["debug", "populate", "20000", "key", "200"]
            self.assertIn("OK", subprocess.run(cli + load, stdout=subprocess.PIPE, text=True).stdout)
            self.assertIn("liballot.so", open(f"/proc/{server.pid}/maps").read())  # it is the server, not a parent of it
            subprocess.run(cli + ["shutdown", "nosave"], stdout=subprocess.DEVNULL)
            self.assertEqual(server.wait(20), 0)
        finally:
            server.kill()
            server.wait()


if __name__ == "__main__":
    tooltest.main()
