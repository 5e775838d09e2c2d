"""Completion: what the tool offers, and that bash, zsh and fish show it."""
import os
import pty
import re
import select
import subprocess
import time

import tooltest

FILES = tooltest.REPOSITORY / "tool/completion"


class Offers(tooltest.Case):
    def offered(self, *words):
        return [line.split("\t")[0] for line in self.allot("complete", *words)[0].splitlines()]

    def test_subcommands(self):
        table = (tooltest.REPOSITORY / "tool/commands.def").read_text()
        names = re.findall(r"^COMMAND\((\w+)\)", table, re.M)
        self.assertEqual(self.offered(""), names + ["help"])
        self.assertEqual(self.offered("help", ""), names)
        self.assertIn("run", self.offered("r"))
        self.assertNotIn("bench", self.offered("r"))
        self.assertEqual(self.offered("nonsense", ""), [])

    def test_options_of_each(self):
        for name in re.findall(r"(?m)^(\w+)", (self.allot("complete", "help", "")[0])):
            usage = self.allot("help", name, COLUMNS="200")[0]
            options = [option for option in re.findall(r"(?m)^ +(?:-\w, )?(--[a-z-]+)", usage)]
            self.assertTrue(set(options) <= set(self.offered(name, "--")), (name, options))

    def test_the_library_s_options_are_flags_of_run(self):
        self.assertEqual(self.offered("run", "--purge="), ["--purge=dontneed", "--purge=free"])
        flags = self.offered("run", "--")
        for option in self.json("options", "--json")["options"]:
            if option["name"] != "help":
                self.assertTrue(any(flag.rstrip("=") == "--" + option["name"].replace("_", "-") for flag in flags), option)

    def test_values_and_arguments(self):
        self.assertEqual(self.offered("run", "--print", ""), ["systemd", "docker", "env"])
        self.assertEqual(self.offered("bench", "-o", ""), [":files"])
        self.assertEqual(self.offered("bench", "--input", ""), [":files"])
        self.assertEqual(self.offered("bench", "--rounds", ""), [])
        self.assertEqual(self.offered("run", "py"), [":programs"])
        self.assertEqual(self.offered("run", "--", "python3", "-"), [":command 3"])
        self.assertEqual(self.offered("run", "--limit", "1g", "--stats", "python3", ""), [":command 5"])
        self.assertEqual(self.offered("options", "purge_a"), ["purge_age"])

    @tooltest.needs_library
    def test_processes_that_have_allot(self):
        sleeper = subprocess.Popen([tooltest.TOOL, "run", "sleep", "30"], env=tooltest.environment())
        try:
            for _ in range(100):
                if str(sleeper.pid) in self.offered("doctor", ""):
                    break
                time.sleep(0.02)
            self.assertIn(f"{sleeper.pid}\tsleep", self.allot("complete", "doctor", str(sleeper.pid))[0])
            self.assertNotIn(str(os.getpid()), self.offered("doctor", ""))
        finally:
            sleeper.kill()
            sleeper.wait()


class Shells(tooltest.Case):
    def setUp(self):
        super().setUp()
        (self.folder / "bin").mkdir()
        (self.folder / "bin/allot").symlink_to(tooltest.TOOL)
        self.environment = tooltest.environment(PATH=f"{self.folder}/bin:{os.environ['PATH']}", HOME=str(self.folder),
                                                TERM="dumb")

    def shell(self, *command):
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.folder,
                              env=self.environment, timeout=60, stdin=subprocess.DEVNULL).stdout

    def bash(self, *words):
        quoted = " ".join(f"'{word}'" for word in ["allot", *words])
        script = (f"source {FILES}/allot.bash; COMP_WORDS=({quoted}); COMP_CWORD={len(words)}; _allot; "
                  'printf "%s\\n" "${COMPREPLY[@]}"')
        return self.shell("bash", "--norc", "-c", script).split()

    def test_bash(self):
        (self.folder / "a-file").write_text("")
        self.assertEqual(self.bash("ru"), ["run"])
        self.assertEqual(self.bash("run", "--purge-a"), ["--purge-age="])
        self.assertEqual(self.bash("run", "--purge", "="), ["dontneed", "free"])
        self.assertEqual(self.bash("run", "--purge", "=", "f"), ["free"])
        self.assertEqual(self.bash("bench", "-o", "a-f"), ["a-file"])
        self.assertIn("python3", self.bash("run", "python"))

    @tooltest.needs("fish")
    def test_fish(self):
        (self.folder / "a-file").write_text("")

        def fish(line):
            out = self.shell("fish", "--no-config", "-c", f"source {FILES}/allot.fish; complete -C '{line}'")
            return [one.split("\t")[0] for one in out.splitlines()]
        self.assertEqual(fish("allot ru"), ["run"])
        self.assertEqual(fish("allot run --purge-a"), ["--purge-age="])
        self.assertEqual(fish("allot run --purge="), ["--purge=dontneed", "--purge=free"])
        self.assertEqual(fish("allot bench -o a-f"), ["a-file"])
        self.assertIn("python3", fish("allot run python"))
        self.assertEqual(fish("allot run -- cat a-f"), ["a-file"])

    @tooltest.needs("zsh")
    def test_zsh(self):
        """zsh completes on a terminal only."""
        (self.folder / ".zshrc").write_text(f"fpath=({FILES} $fpath)\nautoload -Uz compinit\ncompinit -u\nPS1='> '\n"
                                            "setopt no_beep no_list_ambiguous\nzstyle ':completion:*' list-prompt ''\n")
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(self.folder)
            os.execvpe("zsh", ["zsh", "-i"], {**self.environment, "ZDOTDIR": str(self.folder), "TERM": "xterm"})
        out = ""

        def until(pattern, seconds=20):
            nonlocal out
            end = time.time() + seconds
            plain = ""
            while not re.search(pattern, plain) and time.time() < end:
                if select.select([terminal], [], [], 0.2)[0]:
                    out += os.read(terminal, 65536).decode(errors="replace")
                    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out)
            self.assertRegex(plain, pattern)
            out = ""
        try:
            until("> ")
            os.write(terminal, b"allot ru\t")
            until(r"allot run ")
            os.write(terminal, b"--purge-a\t")
            until(r"--purge-age=")
            os.write(terminal, b"\25allot be\t")
            until(r"allot bench ")
            os.write(terminal, b"\25allot run --print \t")
            until(r"(?s)lines for a shell.*systemd")
        finally:
            os.kill(pid, 9)
            os.close(terminal)
            os.waitpid(pid, 0)


if __name__ == "__main__":
    tooltest.main()
