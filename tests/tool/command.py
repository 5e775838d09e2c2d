"""The command as a whole: examples, help, wrong arguments, pipes, terminals."""
import os
import pty
import re
import subprocess

import tooltest


def subcommands():
    table = (tooltest.REPOSITORY / "tool/commands.def").read_text()
    return re.findall(r"^COMMAND\((\w+)\)", table, re.M)


class Command(tooltest.Case):
    def test_alone_it_prints_five_examples(self):
        out, _ = self.allot()
        self.assertEqual(len(re.findall(r"^  allot ", out, re.M)), 5, out)
        for name in re.findall(r"^  allot (\w+)", out, re.M):
            self.assertIn(name, subcommands() + ["help"])

    def test_help_names_every_subcommand_and_its_question(self):
        out, _ = self.allot("help")
        for name in subcommands():
            self.assertRegex(out, rf"(?m)^  {name}\s+\S")

    def test_each_subcommand_has_help(self):
        for name in subcommands():
            out, _ = self.allot("help", name)
            self.assertTrue(out.startswith(f"allot {name} "), out)
            self.assertEqual(self.allot(name, "--help")[0], out)
            self.assertIn("--json", out)

    def test_version(self):
        self.assertRegex(self.allot("--version")[0], r"^allot \d+\.\d+\.\d+\n$")

    def test_what_is_wrong_is_said_and_what_is_right(self):
        for arguments in [["optionz"], ["help", "optionz"], ["options", "--nonsense"], ["options", "-q"]]:
            out, err = self.allot(*arguments, status=64)
            self.assertEqual(out, "")
            self.assertRegex(err, r"^allot: .*\nallot: right is: allot help( options)?\n$")

    def test_no_line_is_wider_than_the_terminal(self):
        for width in [40, 80, 200]:
            for arguments in [["help"], [], ["options"]] + [["help", name] for name in subcommands()]:
                out, _ = self.allot(*arguments, COLUMNS=str(width))
                for line in out.splitlines():
                    if len(line) > width and " " in line.strip():
                        self.fail(f"{len(line)} columns in {width}: {line!r}")

    def test_a_closed_pipe_ends_it_quietly(self):
        for ignored in [False, True]:
            reader, writer = os.pipe()
            os.close(reader)
            done = subprocess.run([tooltest.TOOL, "options"], stdout=writer, stderr=subprocess.PIPE, text=True,
                                  env=tooltest.environment(), restore_signals=not ignored)
            os.close(writer)
            self.assertEqual(done.stderr, "")
            self.assertNotEqual(done.returncode, 0)

    def test_a_full_disk_is_said(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run([tooltest.TOOL, "options"], stdout=full, stderr=subprocess.PIPE, text=True,
                                  env=tooltest.environment())
        self.assertEqual(done.returncode, 1)
        self.assertIn("could not write all of the answer: No space left on device", done.stderr)

    def on_a_terminal(self, *arguments, **changes):
        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(tooltest.TOOL, [tooltest.TOOL, *arguments], tooltest.environment(**changes))
        out = b""
        try:
            while chunk := os.read(terminal, 65536):
                out += chunk
        except OSError:
            pass  # the terminal has gone with its program
        os.close(terminal)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0)
        return out.decode()

    def test_colours_on_terminals_that_want_them(self):
        narrow = {"COLUMNS": "40", "TERM": "xterm"}
        self.assertIn("\33[", self.on_a_terminal("options", **narrow))
        self.assertNotIn("\33[", self.on_a_terminal("options", **narrow, NO_COLOR="1"))
        self.assertNotIn("\33[", self.on_a_terminal("options", COLUMNS="40", TERM="dumb"))
        self.assertNotIn("\33[", self.allot("options", **narrow)[0])


if __name__ == "__main__":
    tooltest.main()
