# SPDX-License-Identifier: MIT
"""Builds and drops large structures of several shapes, as a long-running program does; prints what bench/run reads."""

import json
import random
import re
import sys
import time


def records(n, seed):
    choose = random.Random(seed)
    return [{"id": i, "name": "n" * choose.randrange(8, 80), "tags": [str(choose.random()) for _ in range(4)]}
            for i in range(n)]


def tree(depth):
    return (tree(depth - 1), tree(depth - 1), depth) if depth else ()


def kib(file, key):
    with open(f"/proc/self/{file}", encoding="ascii") as text:
        return int(re.search(rf"^{key}:\s+(\d+) kB", text.read(), re.M)[1])


def work(scale):
    kept = []
    for seed in range(3):
        rows = records(600 * scale, seed)
        by_name = {row["name"] + str(row["id"]): row for row in rows}
        text = json.dumps(rows)
        kept.extend(random.Random(seed).sample(rows, len(rows) // 20))
        del rows
        words = text.split()
        counts = {}
        for word in words:
            counts[word] = counts.get(word, 0) + 1
        del by_name, words, text, counts
        branches = [tree(10) for _ in range(max(1, scale // 4))]
        del branches
    return kept


def main():
    scale = int(sys.argv[1])
    begin = time.process_time_ns()
    kept = work(scale)
    print(f"ns {(time.process_time_ns() - begin) / scale:.0f}")
    print(f"final_kib {kib('smaps_rollup', 'Rss')}")
    print(f"peak_kib {kib('status', 'VmHWM')}")
    return len(kept) == 0


if __name__ == "__main__":
    sys.exit(main())
