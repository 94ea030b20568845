"""Writes docs/results/winnow.md from the finished cells of its stages: winnow, VisNec and DICS
against random, with one pass over the subset and with equal steps."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from benchmarks.proof import setup, stages
from benchmarks.proof.collected import PoolResult, from_random, unfinished
from benchmarks.proof.mixes import MIXES, OWN_MIX
from benchmarks.proof.tables import gap, marked, percent, span, table, words

from thresher.compare import RANDOM

BUDGETS = ("5%", "10%", "30%")


def winnow_page(found: Sequence[PoolResult], out: Path, sizes: setup.Sizes, model: str) -> str:
    """The page. `found`: of each pool, at least one with finished cells."""
    parts = [
        _head(found, sizes, model),
        _glance(found),
        _accuracies(found),
        _styles(found),
        _long(found),
        LIMITS,
    ]
    return "\n\n".join(p for p in parts if p) + "\n"


def _head(found: Sequence[PoolResult], sizes: setup.Sizes, model: str) -> str:
    n, recipe = len(found[0].questions.kind), setup.RECIPE
    days = span(day for p in found for day in p.days)
    mixes = "\n".join(f"- **{p.name}**: {MIXES[p.name].about} {p.noise:.0%} wrong." for p in found)
    return f"""# winnow, VisNec and DICS against random

    python -m benchmarks.proof --stages {",".join(stages.of_page("winnow"))}

The third edition of the [proof](proof.md): the same world and recipe, other methods and one more
pool. Trainings of {days}, {os.cpu_count()} CPU cores shared with other work
({platform.machine()}, no GPU). Base: `--model {model}`, the built-in model (1.4 M parameters).
Pools of {found[0].rows:,} rows; {n:,} questions on scenes that are in no pool; exact match of
generated answers in %. Training: all weights but the vision tower, batch {recipe.batch}, learning
rate {recipe.learning_rate}, one pass over the subset unless said. ± is a 95% interval over seeds,
and for differences over seeds and questions, paired, on the seeds that both arms have. The guard is
off and `trust=base`; other settings are the methods' defaults. No setting was chosen on these
questions. What the numbers mean: [notes](proof_notes.md#the-third-edition). Settings of winnow, and
what its signals know of the pools: [parts](winnow_parts.md).

{mixes}{unfinished(found)}"""


def _glance(found: Sequence[PoolResult]) -> str:
    rows, below = [], []
    for budget in BUDGETS:
        names = dict.fromkeys(
            name for p in found for name, b in p.main if b == budget and name != RANDOM
        )
        for name in names:
            verdicts = [from_random(p.main, (name, budget)) for p in found]
            rows.append([f"{name}, {budget}", *map(marked, verdicts)])
            by_kind = {
                kind: [p.name for p, v in zip(found, verdicts, strict=True) if v and v.kind == kind]
                for kind in ("worse", "no gain")
            }
            lost = [
                f"{text} on {', '.join(by_kind[kind])}"
                for kind, text in (("worse", "random is better"), ("no gain", "no difference"))
                if by_kind[kind]
            ]
            if lost:
                below.append(f"- {name}, {budget}: {'; '.join(lost)}.")
    return (
        "## At a glance\n\nDifference from random, in points (bold: the interval excludes 0):\n\n"
        + table(["", *(p.name for p in found)], rows)
        + ("\n\n**Where random is as good or better:**\n\n" + "\n".join(below) if below else "")
    )


def _accuracies(found: Sequence[PoolResult]) -> str:
    rows = []
    for p in found:
        arms = p.main
        for budget in BUDGETS:
            for key, arm in arms.items():
                if key[1] == budget:
                    verdict = from_random(arms, key)
                    rows.append(
                        [
                            f"{p.name}, {budget}",
                            key[0],
                            str(len(arm.seeds)),
                            str(arm.mean),
                            gap(verdict),
                            words(verdict),
                            percent(arm.noise),
                            f"{arm.seconds_selection:.0f}",
                        ]
                    )
    header = [
        "",
        "method",
        "seeds",
        "accuracy",
        "− random",
        "verdict",
        "wrong rows",
        "s selecting",
    ]
    return "## Accuracy\n\n" + table(header, rows)


def _styles(found: Sequence[PoolResult]) -> str:
    """Of the pool with its own questions: accuracy by answer style at 10%."""
    own = next((p for p in found if p.name == OWN_MIX.name), None)
    arms = {} if own is None else {n: a for (n, b), a in own.main.items() if b == "10%"}
    if own is None or not arms:
        return ""
    styles, counts = np.unique(own.questions.style, return_counts=True)
    rows = [
        [
            style,
            str(count),
            *(percent(a.scores[:, own.questions.style == style]) for a in arms.values()),
        ]
        for style, count in zip(styles.tolist(), counts.tolist(), strict=True)
    ]
    return (
        f"**{own.name} by answer style, 10%.** In the other pools the questions ask for short "
        "answers, which winnow prefers; here they ask for what the pool's rows ask for.\n\n"
        + table(["style", "questions", *arms], rows)
    )


def _long(found: Sequence[PoolResult]) -> str:
    rows = []
    for p in found:
        arms = p.stages.get("long", {})
        larger = {key: a for key, a in p.among("sizes").items() if key[1] == "30%"}
        both = [(f"10%, {stages.LONG} steps", arms, key) for key in arms]
        both += [("30%, one pass", larger, key) for key in larger]
        for what, among, key in both if arms else []:
            arm = among[key]
            cells = [str(len(arm.seeds)), str(arm.mean), gap(from_random(among, key))]
            rows.append([f"{p.name}: {what}", key[0], *cells])
    if not rows:
        return ""
    return (
        f"## Equal steps\n\n10% of the rows, trained for {stages.LONG} steps (three passes): as "
        "many as one pass over 30% takes, which is shown for comparison where it was run.\n\n"
        + table(["", "method", "seeds", "accuracy", "− random"], rows)
    )


LIMITS = """\
## Limitations

- One tiny base model that reads these images well, and one synthetic world. What happens with a
  base that cannot read the images: [easy_vqa](easy_vqa.md), [the default](winnow_default.md).
- Pools and questions are one random sample: the seeds vary the selection and the training, not the
  data. A random tenth of web differs by several points between samples of the pool.
- There is no correction for multiple verdicts: of 20 on purely random subsets, one is expected to
  be wrong.
- Pools that are made to break winnow are on [a page of their own](breaking.md)."""
