"""What is read from a process that changes, or from a damaged core file, may be anything: the command must not trip over it."""
import random
import shutil
import subprocess

import processes
import tooltest


@tooltest.needs_library
@tooltest.needs("gcore")
class Damaged(tooltest.Case):
    def setUp(self):
        super().setUp()
        self.compile("plain.c", processes.C)
        with processes.running([self.folder / "plain"]) as pid:
            subprocess.run(["gcore", "-o", self.folder / "core", str(pid)], check=True, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
        self.core = self.folder / f"core.{pid}"

    def survives(self, core):
        for arguments in [["explain", "--json"], ["map", "--json"], ["arenas", "--json", "--interval", "50"]]:
            done = subprocess.run([tooltest.TOOL, *arguments, core], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                  env=tooltest.environment(), timeout=60)
            self.assertIn(done.returncode, [0, 1], f"{arguments}: {done.stderr}")
            self.assertNotIn("Sanitizer", done.stderr)

    def damage(self, seed, width):
        """A copy with some words of what isn't zero changed."""
        chance = random.Random(seed)
        copy = self.folder / "damaged"
        shutil.copy(self.core, copy)
        with open(copy, "r+b") as file:
            size = self.core.stat().st_size
            done = 0
            while done < 400:
                at = chance.randrange(4096, size - 8) // 8 * 8
                file.seek(at)
                if any(file.read(8)):
                    file.seek(at)
                    file.write(chance.choice([b"\xff" * 8, b"\x00" * 8, chance.randbytes(8), b"\x01\x00\x00\x00\x00\x00\x00\x00"])[:width])
                    done += 1
        return copy

    def test_words_that_are_anything(self):
        for seed in range(4):
            with self.subTest(seed=seed):
                self.survives(self.damage(seed, 8 if seed % 2 else 2))

    def test_a_file_that_ends_anywhere(self):
        size = self.core.stat().st_size
        for share in [0.0001, 0.01, 0.3, 0.9, 0.9999]:
            copy = self.folder / "short"
            with open(self.core, "rb") as whole:
                copy.write_bytes(whole.read(int(size * share)))
            self.assertRegex(self.allot("explain", copy, status=1)[1], "is truncated|is no core file")


if __name__ == "__main__":
    tooltest.main()
