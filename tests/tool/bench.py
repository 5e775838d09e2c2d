"""allot bench: figures that hold together, verdicts in words, programs that fail, the picture."""
import os
import pathlib
import re
import xml.etree.ElementTree

import tooltest

SPIN = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
/* As many times as slow and as large as a library beside it says; with an argument it then fails. */
int main(int argc, char **argv)
{
    (void)argv;
    int *slower = dlsym(RTLD_DEFAULT, "slower");
    long times = slower == NULL ? 1 : *slower;
    if (argc > 1 && times != 1) abort();
    volatile unsigned long n = 0;
    for (long i = 0; i < 10000000L * times; i++) n += (unsigned long)i;
    size_t size = (size_t)times << 23;
    char *block = malloc(size);
    memset(block, 1, size);
    return block[size / 2] != 1;
}
"""


@tooltest.needs_library
class Bench(tooltest.Case):
    def setUp(self):
        super().setUp()
        self.program = self.compile("spin.c", SPIN, "-O1")
        self.slower = self.compile("slower.c", "int slower = 5;", "-shared", "-fPIC")

    def bench(self, *arguments, **how):
        return self.json("bench", "--json", "--rounds", "6", "--with", f"slow={self.slower}", *arguments, **how)

    def test_each_figure_is_of_its_malloc(self):
        answer = self.bench("--", self.program)
        self.assertEqual(answer["rounds"], 6)
        self.assertEqual([one["name"] for one in answer["mallocs"]], ["own", "allot", "slow"])
        for one in answer["mallocs"]:
            for metric in ["wall_seconds", "cpu_seconds", "peak_bytes"]:
                figures = one[metric]
                self.assertEqual(len(figures["rounds"]), 6)
                self.assertEqual((min(figures["rounds"]), max(figures["rounds"])), (figures["least"], figures["most"]))
                self.assertTrue(figures["least"] <= figures["median"] <= figures["most"])
                self.assertTrue(figures["ratio_low"] <= figures["ratio_to_own"] <= figures["ratio_high"])
        own, allot, slow = answer["mallocs"]
        self.assertTrue(2 < slow["cpu_seconds"]["ratio_to_own"] < 9, slow)
        self.assertTrue(3 < slow["peak_bytes"]["ratio_to_own"] < 6, slow)
        self.assertEqual(own["peak_bytes"]["ratio_to_own"], 1)
        self.assertGreater(allot["peak_bytes"]["least"], 8 << 20)
        self.assertIn("allot", answer["verdict"])

    def test_what_differs_is_said_and_what_doesn_t_is_not(self):
        out, _ = self.allot("bench", "--rounds=8", "--with", f"slow={self.slower}", self.program)
        slow = re.search(r"(?m)^slow .*", out).group()
        self.assertRegex(slow, r"\+\d+ %.*\+\d+ %.*\+\d+ %$")
        self.assertIn("8 rounds", out)

    def test_a_malloc_that_fails_is_left_out(self):
        out, _ = self.allot("bench", "--rounds=6", "--with", f"slow={self.slower}", self.program, "x")
        self.assertIn("slow is left out: it ended by signal 6", out)
        self.assertNotRegex(out, r"(?m)^slow +\d")

    def test_a_program_that_fails_anyway_is_not_measured(self):
        _, err = self.allot("bench", "sh", "-c", "echo the reason >&2; exit 3", status=1)
        self.assertIn("fails without allot already: it left with 3: the reason", err)

    def test_a_program_that_fails_on_allot_is_found(self):
        check = "import sys; sys.exit('not this one' if 'liballot' in open('/proc/self/maps').read() else 0)"
        answer = self.bench("/usr/bin/python3", "-c", check, status=2)
        self.assertIn("fails on allot: it left with 1: not this one", answer["verdict"])

    def test_input_and_arguments_reach_the_program(self):
        text = self.folder / "input"
        text.write_text("hello\n")
        self.bench("--input", text, "sh", "-c", 'read line; [ "$line" = hello ]')
        self.bench("sh", "-c", "! read line")
        self.assertIn("can't be read", self.allot("bench", "--input", "/nowhere", "true", status=1)[1])

    def test_installed_mallocs_are_found(self):
        files = [path for name in ["jemalloc.so.2", "mimalloc.so.2*", "tcmalloc_minimal.so.4"]
                 for path in list(pathlib.Path("/usr/lib").glob(f"*/lib{name}"))[:1]]
        answer = self.json("bench", "--json", "--rounds=6", self.program)
        self.assertEqual(len(answer["mallocs"]), 2 + len(files), answer)
        self.assertIn("not installed", self.allot("bench", "--with", "nomalloc", "true", status=1)[1])

    def test_the_picture_is_whole_and_readable(self):
        picture = self.folder / "bench.svg"
        out, _ = self.allot("bench", "--rounds=6", "--with", f"<a&b>={self.slower}", "-o", picture, "--", self.program)
        verdict = " ".join(out.split("\n\n")[1].split())
        tree = xml.etree.ElementTree.parse(picture)
        words = " ".join("".join(one.itertext()) for one in tree.iter("{http://www.w3.org/2000/svg}text"))
        for word in ["own", "allot", "<a&b>", "time", "user+sys", "peak RSS", str(self.program), verdict]:
            self.assertIn(word, words)
        self.assertEqual(len(list(tree.iter("{http://www.w3.org/2000/svg}circle"))), 3 * 3 * 6)
        self.assertNotIn("http", picture.read_text().replace('xmlns="http://www.w3.org/2000/svg"', ""))
        self.assertIn("No such file", self.allot("bench", "--rounds=6", "-o", "/nowhere/x.svg", "true", status=1)[1])

    def test_a_path_that_can_t_be_preloaded_is_said(self):
        away = self.folder / "a folder" / "liballot.so.1"
        away.parent.mkdir()
        os.symlink(tooltest.LIBRARY, away)
        self.assertIn("spaces and colons", self.allot("bench", "true", status=1, ALLOT_LIBRARY=str(away))[1])


if __name__ == "__main__":
    tooltest.main()
