"""The ranking of the synthetic world, read from its pages, and its agreement with the real one.

Read from the sections "At a glance" of docs/results/proof.md and winnow.md: differences from random
at 10% by method and pool, the mean over the pools with flaws.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from benchmarks.real.places import ROOT

from thresher.stats.correlation import spearman

PAGES = (ROOT / "docs/results/proof.md", ROOT / "docs/results/winnow.md")
FLAWED = ("web", "redundant", "scarce")
CELL = re.compile(r"\**([+-]\d+\.\d) ± \d+\.\d\**")
NAMES = {"winnow": "winnow_base"}  # by the synthetic world's names; its winnow has trust=base
DRAWS = 10_000


def drawn_differences(pages: Sequence[str]) -> dict[str, float]:
    """Method, as in `arms.METHODS` -> mean difference from random at 10%, in points, over the pools
    of FLAWED.

    Methods that lack one of these pools are left out.

    >>> drawn_differences(['''## At a glance
    ... |  | web | redundant | scarce | control |
    ... |---|---:|---:|---:|---:|
    ... | clipper, 10% | +2.5 ± 5.9 | **-3.0 ± 2.9** | -5.5 ± 6.0 | -1.7 ± 2.1 |
    ... | clipper, 30% | +9.0 ± 5.9 | +9.0 ± 2.9 | +9.0 ± 6.0 | +9.0 ± 2.1 |
    ... '''])
    {'clipper': -2.0}
    """
    found = {}
    for page in pages:
        section = page.partition("## At a glance")[2].partition("\n## ")[0]
        header: list[str] = []
        for line in section.splitlines():
            cells = [c.strip() for c in line.strip().strip("|").split("|")]
            if all(name in cells for name in FLAWED):
                header = cells
            name, _, budget = cells[0].partition(", ")
            if not header or len(cells) != len(header) or budget not in ("", "10%"):
                continue
            values = [CELL.fullmatch(cells[header.index(pool)]) for pool in FLAWED]
            if all(values):
                found[NAMES.get(name, name)] = sum(float(v[1]) for v in values if v) / len(FLAWED)
    return found


def agreement(real: Mapping[str, float], drawn: Mapping[str, float]) -> tuple[float, float, int]:
    """(Spearman's correlation of both rankings, the share of random rankings that agree at least as
    much, number of common methods). NaN for fewer than three."""
    names = [name for name in real if name in drawn]
    a, b = (np.array([values[name] for name in names]) for values in (real, drawn))
    if len(names) < 3:
        return float("nan"), float("nan"), len(names)
    found = spearman(a, b)
    rng = np.random.default_rng(0)
    others = [spearman(rng.permutation(a), b) for _ in range(DRAWS)]
    return found, float(np.mean(np.array(others) >= found - 1e-12)), len(names)


def read_pages() -> list[str]:
    return [page.read_text("utf-8") for page in PAGES if page.exists()]
