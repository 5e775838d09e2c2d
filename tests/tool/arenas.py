"""allot arenas: the tree as the program made it, by memory and by socket, with limits and growth."""
import re

import processes
import tooltest

PROGRAM = r"""
#include <allot/arena.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
static allot_arena *make(const char *name, allot_arena_kind kind, unsigned flags, allot_arena *parent, size_t hard)
{
    allot_arena_options options = ALLOT_ARENA_OPTIONS_INIT;
    allot_arena *arena = NULL;
    options.name = name;
    options.kind = kind;
    options.flags = flags;
    options.parent = parent;
    options.hard_limit = hard;
    return allot_arena_create(1 << 20, &options, &arena) == 0 ? arena : NULL;
}
int main(int argc, char **argv)
{
    allot_arena *server = make("server", ALLOT_ARENA_GENERAL, 0, NULL, 64 << 20);
    allot_arena *request = make("request \n7", ALLOT_ARENA_BUMP, 0, server, 0);
    allot_arena *scratch = make("scratch", ALLOT_ARENA_BUMP, ALLOT_ARENA_UNSYNCHRONIZED, server, 0);
    allot_arena *cache = make("cache", ALLOT_ARENA_GENERAL, 0, NULL, 0);
    if (!server || !request || !scratch || !cache) return 1;
    for (int i = 0; i < 100; i++) {
        memset(allot_arena_malloc(server, 1000), 1, 1000);
        allot_arena_malloc(request, 512);
        allot_arena_malloc(scratch, 256);
    }
    puts("ready");
    fflush(stdout);
    for (int i = 0; argc > 1 && i < 2000; i++) {
        allot_arena_malloc(cache, 4096);
        allot_arena_malloc(scratch, 16);
        usleep(1000);
    }
    getchar();
    (void)argv;
}
"""


@tooltest.needs_library
class Arenas(tooltest.Case):
    def setUp(self):
        super().setUp()
        library = processes.library_folder()
        self.program = self.compile("arenas.c", PROGRAM, f"-I{tooltest.REPOSITORY}/include", f"-L{library}", "-lallot",
                                    f"-Wl,-rpath,{library}", "-Wno-unused-result")

    def run_it(self, *arguments, **changes):
        return processes.running([self.program, *arguments], preload=False, **changes)

    def test_the_tree_with_sizes_and_limits(self):
        with self.run_it() as pid:
            answer = self.json("arenas", "--json", "--interval", "50", pid)
            out, _ = self.allot("arenas", "--interval", "50", pid)
        by_name = {a["name"]: a for a in answer["arenas"]}
        self.assertEqual(len(answer["arenas"]), 4)
        self.assertEqual({name: (a["depth"], a["kind"]) for name, a in by_name.items()},
                         {"server": (0, "general"), "request \n7": (1, "bump"), "scratch": (1, "bump"), "cache": (0, "general")})
        at = [a["name"] for a in answer["arenas"]].index("server")
        self.assertEqual({a["depth"] for a in answer["arenas"][at + 1:at + 3]}, {1})
        self.assertEqual(by_name["server"]["hard_limit_bytes"], 64 << 20)
        self.assertGreaterEqual(by_name["server"]["total_bytes"], 3 << 20)
        for name, least in [("server", 100 * 1008), ("request \n7", 100 * 512), ("scratch", 100 * 256)]:
            self.assertGreaterEqual(by_name[name]["live_bytes"], least, name)
            self.assertLess(by_name[name]["live_bytes"], least * 1.3, name)
            self.assertGreaterEqual(by_name[name]["size_bytes"], 1 << 20)
            self.assertEqual(by_name[name]["growth_bytes_per_second"], 0)
            self.assertTrue(by_name[name]["file"].endswith("arenas.c"))
        self.assertRegex(out, r"(?m)^server +general .* 64\.0 MiB \d+ %")
        self.assertRegex(out, r"(?m)^  scratch +bump ")

    def test_growth(self):
        with self.run_it("grow") as pid:
            grown = {a["name"]: a["growth_bytes_per_second"] for a in self.json("arenas", "--json", pid)["arenas"]}
        self.assertGreater(grown["cache"], 100000)
        self.assertEqual(grown["server"], 0)

    def test_the_socket_says_the_same(self):
        (self.folder / "run").mkdir()
        with self.run_it("grow", ALLOT_OPTIONS="look", XDG_RUNTIME_DIR=str(self.folder / "run")) as pid:
            self.assertTrue(processes.wait_for((self.folder / f"run/allot/{pid}.sock").exists))
            told = self.json("arenas", "--json", "--interval", "50", "--socket", pid)
            read = self.json("arenas", "--json", "--interval", "50", pid)
        self.assertEqual((told["read_by"], read["read_by"]), ("socket", "memory"))
        for one, other in zip(told["arenas"], read["arenas"]):
            for key in ["depth", "serial", "kind", "hard_limit_bytes", "line", "file", "sealed"]:
                self.assertEqual(one[key], other[key])
            self.assertEqual(one["name"].replace("?", "\n"), other["name"])
            if one["name"] in ["server", "request ?7"]:
                self.assertEqual(one["live_bytes"], other["live_bytes"])

    def test_forty_columns(self):
        with self.run_it() as pid:
            out, _ = self.allot("arenas", "--interval", "50", pid, COLUMNS="40")
            self.assertLessEqual(max(map(len, out.splitlines())), 40)
            self.assertIn("server", out)

    def test_none_and_what_cannot_be_done(self):
        self.compile("plain.c", processes.C)
        with processes.running([self.folder / "plain"]) as pid:
            out, _ = self.allot("arenas", "--interval", "50", pid)
            self.assertIn("allot_arena_create()", out)
        self.assertIn("there is no process", self.allot("arenas", "4194999", status=1)[1])


if __name__ == "__main__":
    tooltest.main()
