"""allot options shows the library's table, all of it."""
import re
import subprocess

import tooltest


class Options(tooltest.Case):
    def names(self):
        table = (tooltest.REPOSITORY / "src/config/options.def").read_text()
        return re.findall(r"^OPTION\((\w+),", table, re.M)

    def test_it_is_the_library_s_table(self):
        answer = self.json("options", "--json")
        self.assertEqual([option["name"] for option in answer["options"]], self.names())
        page = (tooltest.REPOSITORY / "docs/options.md").read_text()
        for option in answer["options"]:
            self.assertIn(f"| `{option['name']}` | {option['default_shown']} |".replace("\\|", "|"), page)
            self.assertLessEqual(option["least"], option["default"])
            self.assertLessEqual(option["default"], option["most"])

    def test_it_reads_as_a_table(self):
        out, _ = self.allot("options")
        for name in self.names():
            self.assertRegex(out, rf"(?m)^{name} ")

    def test_a_part_of_a_name_chooses(self):
        self.assertEqual([option["name"] for option in self.json("options", "--json", "_limit", "fill")["options"]],
                         [name for name in self.names() if "_limit" in name or "fill" in name])
        self.assertIn("no option has \"zzz\" in its name", self.allot("options", "zzz", status=1)[1])

    @tooltest.needs_library
    def test_the_library_knows_each_of_them(self):
        said = subprocess.run(["true"], stderr=subprocess.PIPE, text=True,
                              env=tooltest.environment(LD_PRELOAD=tooltest.LIBRARY, ALLOT_OPTIONS="help")).stderr
        for name in self.names():
            self.assertIn(f"allot:   {name} = ", said)


if __name__ == "__main__":
    tooltest.main()
