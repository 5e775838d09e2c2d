"""allot check: real bugs in real programs, with the function and the line they are in, in every form."""
import json
import os
import re
import shutil
import subprocess
import xml.etree.ElementTree

import tooltest

FAULTY = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
__attribute__((noinline)) char *make_block(size_t n) { return malloc(n); }
__attribute__((noinline)) void drop_block(char *block) { free(block); }
int main(int argc, char **argv)
{
    const char *fault = argc > 1 ? argv[1] : "none";
    char *volatile block = make_block(20);
    if (strcmp(fault, "overflow") == 0) block[20] = 1;
    drop_block(block);
    if (strcmp(fault, "twice") == 0) drop_block(block);
    if (strcmp(fault, "two") == 0) {
        block = make_block(30);
        block[30] = 1;
        drop_block(block);
        block = make_block(40);
        block[40] = 1;
        drop_block(block);
    }
    if (strcmp(fault, "lost") == 0) {
        block = make_block(777);
        block = make_block(1);
        drop_block(block);
    }
    puts("done");
    return argc > 2 ? atoi(argv[2]) : 0;
}
"""

TREE = r"""
#include <cstdio>
#include <map>
#include <string>
#include <thread>
static int *volatile numbers; /* what nobody sees may be left out */
int main(int argc, char **)
{
    std::map<std::string, int> counts;
    std::thread other([&] { for (int i = 0; i < 1000; i++) counts[std::to_string(i)]++; });
    other.join();
    numbers = new int[300];
    if (argc > 1) delete numbers; else delete[] numbers;
    puts("done");
}
"""


@tooltest.needs_library
class Check(tooltest.Case):
    def setUp(self):
        super().setUp()
        self.program = self.compile("faulty.c", FAULTY, "-O1", "-fno-builtin", "-Wno-use-after-free")

    def test_a_clean_program_is_clean(self):
        out, err = self.allot("check", self.program)
        self.assertEqual(out, "done\n")
        self.assertEqual(err, "allot: check: nothing was found\n")

    def test_it_leaves_with_what_a_clean_program_leaves_with(self):
        self.allot("check", self.program, "none", "7", status=7)
        _, err = self.allot("check", "sh", "-c", "kill -9 $$", status=137)
        self.assertIn("ended by signal 9", err)

    def test_a_bug_is_named_with_functions_and_lines(self):
        _, err = self.allot("check", self.program, "overflow", status=2)
        self.assertRegex(err, r"(?m)^allot: buffer overflow of 0x\w+: offset 20 in the 20-byte block at 0x\w+")
        for place in [r"make_block.*faulty\.c:5\b", r"main.*faulty\.c:10\b", r"drop_block.*faulty\.c:6\b"]:
            self.assertRegex(err, place)
        self.assertNotIn("nothing was found", err)
        _, err = self.allot("check", self.program, "twice", status=2)
        self.assertIn("allot: double free", err)

    def test_halt_and_continue(self):
        out, err = self.allot("check", self.program, "two", status=2)
        self.assertEqual((out, len(re.findall("(?m)^allot: buffer overflow", err))), ("", 1))
        out, err = self.allot("check", "--continue", self.program, "two", status=2)
        self.assertEqual((out, len(re.findall("(?m)^allot: buffer overflow", err))), ("done\n", 2))

    def test_json(self):
        file = self.folder / "found.json"
        file.write_text("what was there before")
        self.allot("check", "--continue", "--json", file, self.program, "two", status=2)
        answer = json.loads(file.read_text())
        self.assertEqual((answer["command"], answer["program"]), ("check", [str(self.program), "two"]))
        self.assertEqual([one["name"] for one in answer["findings"]], ["buffer overflow", "buffer overflow"])
        self.assertEqual([one["block"]["bytes"] for one in answer["findings"]], [30, 40])
        names = [name for frame in answer["findings"][0]["allocation"]["frames"] for name in frame["names"]]
        self.assertIn({"function": "make_block", "file": str(self.folder / "faulty.c"), "line": 5}, names)
        self.allot("check", "--json", file, self.program)
        answer = json.loads(file.read_text())
        self.assertEqual((answer["findings"], answer["status"]), ([], 0))

    def test_sarif_and_junit(self):
        sarif, junit = self.folder / "found.sarif", self.folder / "found.xml"
        self.allot("check", "--continue", "--sarif", sarif, self.program, "two", status=2)
        self.assertEqual(len(json.loads(sarif.read_text())["runs"][0]["results"]), 2)
        self.allot("check", "--continue", "--junit", junit, self.program, "two", status=2)
        self.assertEqual(len(list(xml.etree.ElementTree.parse(junit).iter("testcase"))), 2)
        self.allot("check", "--sarif", sarif, self.program)
        self.assertEqual(json.loads(sarif.read_text())["runs"][0]["results"], [])
        self.allot("check", "--junit", junit, self.program)
        self.assertEqual(list(xml.etree.ElementTree.parse(junit).iter("failure")), [])

    def test_a_c_plus_plus_program(self):
        program = self.compile("tree.cc", TREE, "-O1", "-pthread", "-Wno-mismatched-new-delete")
        self.assertEqual(self.allot("check", program)[0], "done\n")
        _, err = self.allot("check", program, "wrong", status=2)
        self.assertIn("allot: mismatched deallocation", err)
        self.assertIn("tree.cc", err)

    def test_children_are_left_alone_unless_asked_for(self):
        child = f"import subprocess, sys; subprocess.run(['{self.program}', 'overflow'])"
        command = ["/usr/bin/python3", "-c", child]
        self.assertNotIn("buffer overflow", self.allot("check", *command)[1])
        _, err = self.allot("check", "--children", *command, status=2)
        self.assertIn("buffer overflow", err)
        self.assertIn("make_block", err)

    def test_signals_reach_the_program(self):
        code = ("import signal; term = [signal.SIGTERM]; signal.pthread_sigmask(signal.SIG_BLOCK, term); "
                "print('ready', flush=True); signal.sigwait(term); exit(9)")
        process = subprocess.Popen([tooltest.TOOL, "check", "/usr/bin/python3", "-c", code], text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=tooltest.environment())
        self.assertEqual(process.stdout.readline(), "ready\n")
        process.terminate()
        self.assertEqual(process.wait(30), 9)
        process.stdout.close()

    def test_a_script_s_programs_are_checked(self):
        self.allot("check", "sh", "-c", f"{self.program} overflow; true", status=2)

    def test_what_can_t_be_is_said(self):
        self.assertIn("no such program", self.allot("check", "no-such-program", status=127)[1])
        self.assertIn("at a time", self.allot("check", "--json", "a", "--sarif", "b", "true", status=64)[1])
        self.assertIn("spaces or commas", self.allot("check", "--json", "a,b", "true", status=64)[1])
        self.assertIn("not a number", self.allot("check", "--quarantine-age=soon", "true", status=64)[1])

    def test_leaks(self):
        out, err = self.allot("check", "--leaks", self.program, "lost", status=2)
        self.assertRegex(err, r"(?m)^allot: leak of 0x[0-9a-f]+: offset 0 in the 777-byte block ")
        self.assertRegex(err, r"(?m)^ +#0 +make_block .*faulty\.c:5\n +#1 +main .*faulty\.c:\d+\n")
        self.assertNotIn("nothing was found", err)
        self.assertIn("nothing was found", self.allot("check", "--leaks", self.program)[1])
        self.assertIn("nothing was found", self.allot("check", self.program, "lost")[1])
        list_of_them = self.folder / "known"
        list_of_them.write_text("leak:faulty\n")
        self.allot("check", "--leaks", "--suppress", list_of_them, self.program, "lost")
        self.assertIn("No such file", self.allot("check", "--suppress", "/nowhere/x", "true", status=64)[1])

    def test_own(self):
        self.assertIn("nothing was found", self.allot("check", "--own", "none*", self.program, "overflow")[1])
        self.allot("check", "--own", "faul*", self.program, "overflow", status=2)

    def test_real_programs_are_clean(self):
        server = self.folder / "threaded_server"
        subprocess.run([os.environ["CC"], "-O1", "-pthread", "-o", server, tooltest.REPOSITORY / "examples/threaded_server.c"],
                       check=True)
        threads = ("import json, threading; all = [threading.Thread(target=lambda: json.dumps(list(range(9999)))) for _ in 'abcd']; "
                   "[one.start() for one in all]; [one.join() for one in all]")
        for command in [[server, "1"], ["/usr/bin/python3", "-c", threads], ["perl", "-e", "$h{$_} = 'x' x $_ for 1 .. 999"],
                        ["sqlite3", ":memory:", "create table t(a); insert into t values (1); select * from t;"]]:
            if shutil.which(str(command[0])):
                with self.subTest(command=command[0]):
                    self.assertIn("allot: check: nothing was found\n", self.allot("check", *command)[1])

    @tooltest.needs("redis-server")
    def test_a_real_server_starts_and_ends_clean(self):
        _, err = self.allot("check", "redis-server", "--version")
        self.assertIn("nothing was found", err)


if __name__ == "__main__":
    tooltest.main()
