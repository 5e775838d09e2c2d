"""The pictures that allot draws, in a real browser: headless Chromium, light and dark."""
import re
import struct
import subprocess
import zlib

import processes
import tooltest


class Browser(tooltest.Case):
    def browse(self, picture, dark=False, size=(820, 700)):
        """(what the document says when its scripts have run, its screenshot). Fails on any script error."""
        shot = self.folder / f"shot-{'dark' if dark else 'light'}.png"
        browser = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr",
                   f"--user-data-dir={self.folder}/profile", f"--window-size={size[0]},{size[1]}",
                   f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
        dom = subprocess.run([*browser, "--dump-dom", f"file://{picture}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             text=True, timeout=120)
        seen = subprocess.run([*browser, f"--screenshot={shot}", f"file://{picture}"], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=120)
        for done in [dom, seen]:
            self.assertEqual(re.findall(r".*:CONSOLE.*", done.stderr), [])
        return dom.stdout, shot.read_bytes()

    def first_pixel(self, png):
        """Red, green, blue of the upper left corner, which no filter of PNG changes."""
        data, at = b"", 8
        while at < len(png):
            length, kind = struct.unpack(">I4s", png[at:at + 8])
            data += png[at + 8:at + 8 + length] if kind == b"IDAT" else b""
            at += length + 12
        return tuple(zlib.decompress(data)[1:4])


class Pictures(Browser):
    @tooltest.needs_library
    @tooltest.needs("chromium")
    def test_bench(self):
        picture = self.folder / "bench.svg"
        out, _ = self.allot("bench", "--rounds", "6", "-o", picture, "--", "/usr/bin/python3", "-c", "list(range(10**6))")
        light, light_shot = self.browse(picture)
        _, dark_shot = self.browse(picture, dark=True)
        self.assertIn('aria-labelledby="title verdict"', light)
        self.assertEqual((self.first_pixel(light_shot), self.first_pixel(dark_shot)), ((255, 255, 255), (13, 17, 23)))

    @tooltest.needs_library
    @tooltest.needs("chromium")
    def test_map(self):
        picture = self.folder / "heap.svg"
        self.compile("plain.c", processes.C)
        with processes.running([self.folder / "plain"]) as pid:
            self.allot("map", "-o", picture, pid)
        light, light_shot = self.browse(picture, size=(1000, 740))
        _, dark_shot = self.browse(picture, dark=True, size=(1000, 740))
        self.assertEqual((self.first_pixel(light_shot), self.first_pixel(dark_shot)), ((255, 255, 255), (13, 17, 23)))
        self.assertIn('aria-labelledby="title desc"', light)
        self.assertNotIn('id="static"', light)  # the script has run
        self.assertRegex(light, r'aria-label="Span 1 of \d+: ')
        self.assertIn('aria-live="polite"', light)
        self.assertRegex(light, r'data-mode="use" aria-pressed="true"')

    @tooltest.needs_library
    @tooltest.needs("chromium")
    def test_map_by_keyboard(self):
        picture = self.folder / "heap.svg"
        self.compile("plain.c", processes.C)
        with processes.running([self.folder / "plain"]) as pid:
            self.allot("map", "-o", picture, pid)
        press = """
            const map = document.getElementById("map"), seen = [];
            const key = (name, on) => (on || map).dispatchEvent(new KeyboardEvent("keydown", {key: name, bubbles: true}));
            const say = () => seen.push(map.getAttribute("aria-label").split(":")[0]);
            say(); key("ArrowRight"); say(); key("ArrowDown"); say(); key("ArrowLeft"); say(); key("End"); say(); key("Home"); say();
            key("ArrowLeft"); say(); key("Enter"); seen.push(document.getElementById("blocks").getAttribute("visibility"));
            key("Escape"); seen.push(document.getElementById("blocks").getAttribute("visibility"));
            for (const mode of ["2", "3", "4", "5", "1"]) { key(mode); seen.push(document.querySelector("[aria-pressed=true]").dataset.mode); }
            const button = document.querySelector("[data-mode=age]");
            key("Enter", button); seen.push(document.querySelector("[aria-pressed=true]").dataset.mode);
            document.documentElement.setAttribute("data-seen", seen.join("|"));
        """
        pressed = self.folder / "pressed.svg"
        pressed.write_text(picture.read_text().replace("]]></script>", press + "]]></script>"))
        said, _ = self.browse(pressed)
        seen = re.search(r'data-seen="([^"]*)"', said)[1].split("|")
        n = re.search(r"of (\d+)", seen[0])[1]
        self.assertEqual([re.match(r"Span (\d+)", s)[1] for s in seen[:7]], ["1", "2", "18", "17", n, "1", "1"])
        self.assertEqual(seen[7:], ["visible", "hidden", "class", "age", "room", "heap", "use", "age"])


if __name__ == "__main__":
    tooltest.main()
