"""Writes docs/results/winnow_parts.md from the finished cells of its stages: the parts of winnow,
its skills in other methods, and what its signals know of the pools."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.proof import setup, signals, stages
from benchmarks.proof.collected import PoolResult, from_random, unfinished
from benchmarks.proof.mixes import CONTROL
from benchmarks.proof.numbers import against
from benchmarks.proof.tables import gap, marked, percent, span, table, words

from thresher.compare import RANDOM


def parts_page(found: Sequence[PoolResult], out: Path, sizes: setup.Sizes, model: str) -> str:
    """The page. `found`: of each pool, at least one with finished cells."""
    known = {p.name: m for p in found if (m := signals.measured(out, p.name)) is not None}
    parts = [_head(found), _parts(found), _by_skill(found), _wrong(known), _purity(known)]
    return "\n\n".join(p for p in parts if p) + "\n"


def _head(found: Sequence[PoolResult]) -> str:
    return f"""# The parts of winnow

    python -m benchmarks.proof --stages {",".join(stages.of_page("winnow_parts"))}

The pools, questions, model and recipe of [winnow](winnow.md). Trainings of
{span(day for p in found for day in p.days)}, {os.cpu_count()} CPU cores shared with other work
({platform.machine()}, no GPU).{unfinished(found)}"""


def _parts(found: Sequence[PoolResult]) -> str:
    kept = [p for p in found if {n for n, _ in p.stages.get("parts", {})} - {RANDOM, "winnow"}]
    if not kept:
        return ""
    names = dict.fromkeys(n for p in kept for n, _ in p.stages["parts"] if n != RANDOM)
    rows = []
    for name in names:
        row = [name]
        for p in kept:
            arms = p.stages["parts"]
            arm, whole = arms.get((name, "10%")), arms.get(("winnow", "10%"))
            own = (
                None if arm is None or whole is None or arm is whole else against(arm, whole, None)
            )
            row += [
                marked(from_random(arms, (name, "10%"))),
                marked(own),
                "" if arm is None else percent(arm.noise),
            ]
        rows.append(row)
    header = [""]
    for p in kept:
        header += [f"{p.name}: − random", "− winnow", "wrong rows"]
    seeds = sorted({str(len(a.seeds)) for p in kept for a in p.stages["parts"].values()})
    return (
        f"## Parts of winnow, 10%\n\nEach line changes one setting of winnow; number of seeds: "
        f"{' to '.join(seeds)}. "
        "keep=1: no row is left out for its loss. power=0: skills get rows in proportion to their "
        "size. Both: a sample that is stratified by skill.\n\n" + table(header, rows)
    )


def _by_skill(found: Sequence[PoolResult]) -> str:
    rows = []
    for p in found:
        arms = p.stages.get("by_skill", {})
        for key, arm in arms.items():
            if key[0] != RANDOM:
                verdict = from_random(arms, key)
                cells = [str(len(arm.seeds)), str(arm.mean), gap(verdict), words(verdict)]
                rows.append([f"{p.name}: {key[0]}", *cells, percent(arm.noise)])
    if not rows:
        return ""
    header = ["", "seeds", "accuracy", "− random", "verdict", "wrong rows"]
    return "## CLIPPER and MLLM-Selector balanced over skills, 10%\n\n" + table(header, rows)


def _wrong(known: Mapping[str, Any]) -> str:
    pools = [name for name in known if name != CONTROL.name]
    if not pools:
        return ""
    names = list(known[pools[0]]["wrong"])
    rows = [[name, *(_two(known[pool]["wrong"][name]) for pool in pools)] for name in names]
    return (
        "## Which signal tells wrong rows\n\nAUC for wrong rows over the pool / over pairs of a "
        "wrong and a right row of one skill; 0.5 is chance. visual_gain: the lowest first, without "
        "the rows that have no image. Other pools: [suspects](suspects.md).\n\n"
        + table(["", *pools], rows)
    )


def _purity(known: Mapping[str, Any]) -> str:
    if not known:
        return ""
    names = list(next(iter(known.values()))["purity"])
    rows = [[name, *(_two(found["purity"][name]) for found in known.values())] for name in names]
    return (
        "## Purity of skills\n\nShare of rows whose hidden kind / kind and answer style is the "
        "most frequent one of their skill; one skill for 30 rows, from the untuned base model.\n\n"
        + table(["", *known], rows)
    )


def _two(values: Sequence[float | None]) -> str:
    return " / ".join("–" if v is None else f"{v:.2f}" for v in values)
