"""allot map shows every span: as letters, as JSON, as a picture that says the same."""
import base64
import collections
import json
import re
import xml.etree.ElementTree

import processes
import tooltest

SVG = "{http://www.w3.org/2000/svg}"


def data_of(picture):
    """What the picture's script works on: (order, step, spans)."""
    text = picture.read_text()
    order, step = map(int, re.search(r"const data = {order: (\d+), step: (\d+),", text).groups())
    spans = json.loads("[" + re.search(r"spans: \[\n(.*?),\n\]};", text, re.S)[1] + "]")
    return order, step, spans


@tooltest.needs_library
class Map(tooltest.Case):
    def setUp(self):
        super().setUp()
        self.compile("plain.c", processes.C)
        self.picture = self.folder / "heap.svg"

    def test_json_and_picture_say_the_same(self):
        with processes.running([self.folder / "plain"]) as pid:
            processes.wait_for(lambda: processes.waits_for_input(pid))
            answer = self.json("map", "--json", pid)
            out, _ = self.allot("map", "-o", self.picture, pid)
            explained = self.json("explain", "--json", pid)
        spans = answer["spans"]
        self.assertEqual((answer["torn_spans"], answer["live_blocks"]), (0, explained["live_blocks"]))
        self.assertEqual([int(s["begin"], 16) for s in spans], sorted(int(s["begin"], 16) for s in spans))
        for one, next_one in zip(spans, spans[1:]):
            self.assertLessEqual(int(one["begin"], 16) + one["bytes"], int(next_one["begin"], 16))
        self.assertEqual(sum(s["live"] for s in spans), answer["live_blocks"])
        order, step, drawn = data_of(self.picture)
        self.assertEqual([s[0] for s in drawn], [s["begin"] for s in spans])
        self.assertEqual([s[6] for s in drawn], [s["live"] for s in spans])
        self.assertGreaterEqual(4 ** order * step, sum(s[1] for s in drawn))
        for span, bits in [(s, base64.b64decode(s[9])) for s in drawn if s[2] <= 1]:
            self.assertEqual(sum(bin(byte).count("1") for byte in bits), span[6], span[:9])
        self.assertIn("A browser shows it", " ".join(out.split()))

    def test_every_fifth_block_is_live_where_the_program_left_every_fifth(self):
        with processes.running([self.folder / "plain"]) as pid:
            spans = self.json("map", "--json", pid)["spans"]
        by_class = collections.Counter()
        blocks = collections.Counter()
        for span in spans:
            if span["use"] == "small" and span["block_bytes"] > 128:
                by_class[span["block_bytes"]] += span["live"]
                blocks[span["block_bytes"]] += span["blocks"]
        for size in [160, 256, 448, 640]:
            self.assertAlmostEqual(by_class[size] / blocks[size], 0.2, delta=0.1)

    def test_the_picture_is_well_formed_and_needs_nothing_else(self):
        name = "strange <&> name"
        self.compile("strange.c", processes.C).rename(self.folder / name)
        with processes.running([self.folder / name]) as pid:
            self.allot("map", "-o", self.picture, pid)
            standard, _ = self.allot("map", "-o", "-", pid)
        root = xml.etree.ElementTree.parse(self.picture).getroot()
        self.assertTrue(standard.startswith("<svg"))
        self.assertIn("strange <&>", root.find(SVG + "title").text)
        self.assertIn("live blocks", root.find(SVG + "desc").text)
        text = self.picture.read_text()
        self.assertEqual(re.findall(r"(?:href|src|url)\s*[=(]|@import|fetch\(", text), [])
        self.assertEqual(re.findall(r"https?://[^\"]*", text), ["http://www.w3.org/2000/svg"] * 2)
        self.assertIn("prefers-color-scheme: dark", text)

    def test_letters_fit_the_terminal(self):
        with processes.running([self.folder / "plain"]) as pid:
            for width in [40, 80, 120]:
                out, _ = self.allot("map", pid, COLUMNS=str(width))
                self.assertLessEqual(max(map(len, out.splitlines())), width)
                self.assertRegex(out, r"(?m)^[SsMmLPOf.]{20,}$")
                self.assertIn("small blocks", out)

    def test_a_server_under_load_is_read_without_a_fault(self):
        server = tooltest.REPOSITORY / "examples/threaded_server.c"
        self.compile("server.c", server.read_text(), "-pthread")
        with processes.running([self.folder / "server", 60]) as pid:
            for _ in range(20):
                answer = self.json("map", "--json", pid)
                self.assertGreater(answer["live_blocks"], 10000)
                self.assertLess(answer["torn_spans"], len(answer["spans"]) / 20)
            self.assertGreaterEqual(len({s["heap"] for s in answer["spans"]} - {0}), 4)

    def test_what_cannot_be_written_is_said(self):
        with processes.running([self.folder / "plain"]) as pid:
            self.assertIn("/nowhere/x.svg: No such file", self.allot("map", "-o", "/nowhere/x.svg", pid, status=1)[1])
            self.assertIn("could not be written", self.allot("map", "-o", "/dev/full", pid, status=1)[1])
        self.assertIn("there is no process", self.allot("map", "4194999", status=1)[1])


if __name__ == "__main__":
    tooltest.main()
