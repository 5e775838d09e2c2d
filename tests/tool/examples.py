"""Every example of the manual runs. In the pages allot*.1, a line "$ command" between .EX and .EE is one; a comment before
.EX may say .\\" needs: <program, or what prepare() can make>, and .\\" status: <how it leaves>."""
import pathlib
import re
import shutil
import subprocess

import tooltest

PROGRAM = r"""
#include <stdio.h>
#include <stdlib.h>
int main(void)
{
    void *blocks[1000];
    for (int i = 0; i < 1000; i++) blocks[i] = malloc((size_t)i);
    for (int i = 0; i < 1000; i++) free(blocks[i]);
    puts("done");
}
"""

FAULTY = r"""
#include <stdlib.h>
int main(void)
{
    char *volatile block = malloc(20);
    block[20] = 1;
    free(block);
    return 0;
}
"""


def plain(line):
    """What a line of roff says."""
    return line.replace(r"\-", "-").replace(r"\[aq]", "'").replace(r"\(aq", "'").replace(r"\e", "\\").replace(r"\&", "")


def examples(page):
    """(command, needs, status) for each in the page."""
    needs, status, inside = [], 0, False
    for line in page.read_text().splitlines():
        if line.startswith('.\\" needs:'):
            needs = line.split(":", 1)[1].split()
        elif line.startswith('.\\" status:'):
            status = int(line.split(":", 1)[1])
        elif line == ".EX":
            inside = True
        elif line == ".EE":
            needs, status, inside = [], 0, False
        elif inside and line.startswith("$ "):
            yield plain(line[2:]), needs, status


class Examples(tooltest.Case):
    def prepare(self, need):
        """True when the example has what it needs."""
        if need == "program":
            self.compile("program.c", PROGRAM)
        elif need == "faulty":
            self.compile("faulty.c", FAULTY, "-fno-builtin")
        elif need == "liballot":
            return bool(tooltest.LIBRARY)
        elif need == "jemalloc":
            return any(pathlib.Path("/usr/lib").glob("*/libjemalloc.so.2"))
        else:
            return shutil.which(need) is not None
        return True

    def test_each_runs(self):
        (self.folder / "bin").mkdir()
        (self.folder / "bin/allot").symlink_to(tooltest.TOOL)
        environment = tooltest.environment(PATH=f"{self.folder}/bin:{tooltest.os.environ['PATH']}")
        ran = 0
        for page in sorted((tooltest.REPOSITORY / "docs/man").glob("allot*.1")):
            for command, needs, status in examples(page):
                if not all(self.prepare(need) for need in needs):
                    continue
                with self.subTest(page=page.name, command=command):
                    done = subprocess.run(["bash", "-c", command], cwd=self.folder, env=environment, text=True, timeout=120,
                                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
                    self.assertEqual(done.returncode, status, done.stdout)
                    self.assertNotEqual(done.stdout, "")
                    ran += 1
        self.assertGreater(ran, 3)

    def test_each_subcommand_has_a_page_with_examples_and_all_its_options(self):
        table = (tooltest.REPOSITORY / "tool/commands.def").read_text()
        for name in re.findall(r"^COMMAND\((\w+)\)", table, re.M):
            page = tooltest.REPOSITORY / f"docs/man/allot-{name}.1"
            text = plain(page.read_text())
            self.assertTrue(list(examples(page)), page)
            self.assertIn(f"allot-{name} (1)", plain((tooltest.REPOSITORY / "docs/man/allot.1").read_text()))
            for option in re.findall(r"(?m)^ +(?:-\w, )?(--[a-z-]+)", self.allot("help", name, COLUMNS="200")[0]):
                self.assertRegex(text, rf"(?m)^\.(B|BI|BR|IR) .*{option}\b", page)


if __name__ == "__main__":
    tooltest.main()
