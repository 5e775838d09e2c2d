# SPDX-License-Identifier: MIT
"""Tables from a record: medians, ratios, spread, geometric means; and two records side by side."""

import math
import statistics

from allocators import OURS

BASE = "glibc"
NOTICED = 1.02  # a smaller change is not marked, however steady
WITHOUT_RATIO = {"growth_kib"}  # may be nothing, or less


def geometric_mean(ratios):
    return math.exp(statistics.fmean(math.log(r) for r in ratios)) if ratios else float("nan")


def collect(record):
    """{(case, allocator, key): [values of all rounds]} of the runs that didn't fail."""
    values = {}
    for run in record["runs"]:
        for key, value in run.get("metrics", {}).items():
            values.setdefault((run["case"], run["allocator"], key), []).append(value)
    return values


def spread(values):
    """Half the distance from least to most, in percent of the median."""
    middle = statistics.median(values)
    return 50 * (max(values) - min(values)) / middle if middle else 0


def number(value, key):
    if key.endswith("_kib"):
        return f"{value / 1024:.2f} MiB" if value < 10240 else f"{value / 1024:.1f} MiB"
    for unit, size in (("ms", 1e6), ("us", 1e3)):
        if value >= 10 * size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.2f} ns" if value < 1000 else f"{value:.0f} ns"


class Table:
    """One key over all cases: a row a case, a column an allocator, ratios to the best peer and to glibc."""

    def __init__(self, record, key, pick):
        self.key = key
        self.pick = pick
        self.names = list(record["allocators"])
        self.values = collect(record)
        self.cases = [c for c in record["cases"] if any((c, n, key) in self.values for n in self.names)]
        self.to_best = {name: [] for name in self.names}
        self.to_base = {name: [] for name in self.names}

    def picked(self, case, name):
        values = self.values.get((case, name, self.key))
        return self.pick(values) if values else None

    def best_peer(self, case):
        peers = {n: self.picked(case, n) for n in self.names if n != OURS}
        peers = {n: v for n, v in peers.items() if v is not None}
        return min(peers, key=peers.get) if peers else None

    def cell(self, case, name, best):
        mine = self.picked(case, name)
        if mine is None:
            return "failed"
        if self.key in WITHOUT_RATIO:
            values = self.values[case, name, self.key]
            return f"{mine:.0f} KiB ({min(values):.0f}..{max(values):.0f})"
        base, least = self.picked(case, BASE), self.picked(case, best) if best else None
        text = f"{number(mine, self.key)}"
        if least and mine > 0 and least > 0:
            self.to_best[name].append(mine / least)
            text += f" {mine / least:6.2f}"
        if base and mine > 0 and base > 0:
            self.to_base[name].append(mine / base)
        return text + f" ±{spread(self.values[case, name, self.key]):2.0f}%"

    def lines(self, title):
        yield title
        yield f"{'':15}" + "".join(f"{name:>25}" for name in self.names) + "  best peer"
        for case in self.cases:
            best = self.best_peer(case)
            yield f"{case:15}" + "".join(f"{self.cell(case, n, best):>25}" for n in self.names) + f"  {best or ''}"
        if len(self.cases) < 2 or self.key in WITHOUT_RATIO:
            return
        for what, ratios in (("to best peer", self.to_best), (f"to {BASE}", self.to_base)):
            cells = (f"{geometric_mean(ratios[n]):.2f}" if ratios[n] else "-" for n in self.names)
            yield f"{'x ' + what:15}" + "".join(f"{cell:>25}" for cell in cells) + "  geometric mean"


def tables(record, by="median"):
    """The whole report of one record, as text; by "median" of the rounds, or by "least"."""
    pick = {"median": statistics.median, "least": min}[by]
    titles = {
        "ns": f"TIME of an operation: {by} of the rounds, ratio to the best peer of the case, spread",
        "cpu_ns": "CPU TIME of an operation, where the above is wall time",
        "peak_kib": "PEAK RSS of the process",
    }
    others = {k for _, _, k in collect(record) if k.endswith("_kib") and k not in titles}
    titles.update({key: f"RSS: {key.removesuffix('_kib')}" for key in sorted(others)})
    lines = []
    for key, title in titles.items():
        table = Table(record, key, pick)
        if table.cases:
            lines += [*table.lines(title), ""]
    failures = [r for r in record["runs"] if "failed" in r]
    lines += [f"FAILED {r['case']} on {r['allocator']}: {r['failed']}" for r in failures]
    return "\n".join(lines)


def compare(old, new):
    """What changed from one record to another; a change is marked when the two ranges lie apart."""
    before, after = collect(old), collect(new)
    lines = [f"{'':15}{'':12}{'before':>14}{'after':>14}{'ratio':>8}"]
    for key, title in (("ns", "TIME"), ("peak_kib", "PEAK RSS")):
        ratios = {}
        lines.append(title)
        for case, name, _ in [k for k in before if k[2] == key and k in after]:
            a, b = before[case, name, key], after[case, name, key]
            ratio = statistics.median(b) / statistics.median(a)
            ratios.setdefault(name, []).append(ratio)
            mark = "  less" if max(b) * NOTICED < min(a) else "  MORE" if min(b) > max(a) * NOTICED else ""
            middle = [number(statistics.median(values), key) for values in (a, b)]
            lines.append(f"{case:15}{name:12}{middle[0]:>14}{middle[1]:>14}{ratio:8.2f}{mark}")
        lines += [f"{'geometric mean':15}{n:12}{'':28}{geometric_mean(r):8.2f}" for n, r in ratios.items()]
    return "\n".join(lines)
