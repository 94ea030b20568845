"""Writes the page of the real proof from the finished cells."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from textwrap import fill

import numpy as np
from benchmarks.proof.numbers import Arm, Key, against, arms_of
from benchmarks.proof.report import above
from benchmarks.proof.tables import gap, percent, table
from benchmarks.real import arms, suspects
from benchmarks.real.by_source import Asked, PoolLabels
from benchmarks.real.drawn import agreement, drawn_differences, read_pages
from benchmarks.real.pools import POOLS, World
from benchmarks.real.work import base_of, cells_of, job_of, opened, store_of

from thresher.compare import FULL, RANDOM
from thresher.stats.verdict import Verdict

BUDGETS = ("10%", "30%")
FLAWED = ("mixed", "noisy", "skewed")
WORDS = {"beats": "**beats random**", "worse": "worse than random", "no gain": "no gain"}


@dataclass(frozen=True)
class PoolResult:
    """`labels`: of the rows; `stages`: finished arms by stage; `missing`: number of unfinished
    cells."""

    name: str
    labels: PoolLabels
    asked: Asked
    stages: Mapping[str, Mapping[Key, Arm]]
    missing: int

    @property
    def rows(self) -> int:
        return len(self.labels.kind)

    @property
    def wrong(self) -> float:
        """Share of wrong rows."""
        return float(self.labels.noisy.mean())

    @property
    def main(self) -> Mapping[Key, Arm]:
        return self.stages["epochs"]


def write_page(file: Path, a: argparse.Namespace, world: World, pools: Sequence[str]) -> None:
    found = [collect(a, world, name) for name in pools]
    parts = [
        head(a, found),
        base_card(a.base.parent / "README.json"),
        glance(found),
        *(section(p) for p in found),
        steps(found),
        kinds(found),
        subsets(found),
        worlds(found),
        captions(a),
    ]
    file.write_text("\n\n".join(p for p in parts if p) + "\n", "utf-8")


def collect(a: argparse.Namespace, world: World, name: str) -> PoolResult:
    pool, questions = opened(a, world, name)
    labels = PoolLabels.of(world, name)
    asked = Asked.of(Path(questions.path), world.pools[name])
    model = base_of(a, store_of(a, name))
    stages, missing = {}, 0
    for stage in (s for s in arms.STAGES if s.name in a.stages):
        job = job_of(a, stage, pool, questions, model)
        stages[stage.name], left = arms_of(job, cells_of(a, name), labels, asked.yes_no)
        missing += left
    return PoolResult(name, labels, asked, stages, missing)


def head(a: argparse.Namespace, found: Sequence[PoolResult]) -> str:
    missing = sum(p.missing for p in found)
    recipe = arms.RECIPE
    left = f"\n\n**Not finished**: {missing} cells are missing." if missing else ""
    trial = (
        "\n\n**A trial** with fewer rows or questions: it shows that the commands run, and nothing "
        "about the methods."
        if a.rows is not None or a.questions is not None
        else ""
    )
    card = a.base.parent / "README.json"
    cost = json.loads(card.read_text("utf-8"))["cost"] if card.exists() else {}
    hours = "; ".join(f"{k} {v}" for k, v in cost.items())
    text = fill(
        f"{date.today().isoformat()}, {os.cpu_count()} CPU cores shared with other work "
        f"({platform.machine()}). Base: InternVL of 157 M parameters ({hours or 'no card'}). "
        f"{len(found[0].asked.kind)} questions, the {a.half} half, on pictures that are in no "
        f"pool. Training: LoRA, batch {recipe.batch}, learning rate {recipe.learning_rate:g}, "
        f"precision {a.precision}, one pass over the subset unless said. Seeds 0 to "
        f"{a.seeds - 1}; accuracy is that of generated answers, normalised, in %; ± is a 95% "
        "interval over seeds, and for differences over seeds and questions, paired. mmssr: the "
        "base is its own judge, since no stronger one is at hand. winnow: without its guard; "
        "winnow_base: also with trust=base.",
        100,
    )
    return f"""# The proof on photographs, with a pretrained language model

    make real-base
    {command(a, [p.name for p in found])}

{text}{left}{trial}"""


def base_card(file: Path) -> str:
    """What the base reads, from its card; empty if it has none."""
    if not file.exists():
        return ""
    card = json.loads(file.read_text("utf-8"))
    names = ("chance", "right", "right_other")
    rows = [
        [kind, str(count), *(f"{100 * card[name][kind]:.0f}" for name in names)]
        for kind, count in sorted(card["questions"].items())
    ]
    header = ["kind", "questions", "chance", "right", "right, another picture"]
    text = fill(
        "Questions about pictures that it was not trained on, answered in its own form, a "
        "sentence; right: exactly the expected one, in %. Chance: without the picture. Control: "
        "the same with another picture of the source.",
        100,
    )
    return f"## The base\n\n{text}\n\n" + table(header, rows)


def command(a: argparse.Namespace, pools: Sequence[str]) -> str:
    """The command of a page, with the options that change its numbers."""
    given = {"seeds": (a.seeds, arms.SEEDS), "precision": (a.precision, "auto")}
    given |= {"half": (a.half, "evaluation"), "pools": (",".join(pools), ",".join(POOLS))}
    given |= {n: (",".join(getattr(a, n) or ()), "") for n in ("methods", "budgets")}
    stages = (s.name for s in arms.stages_at(a.budgets))
    given["stages"] = (",".join(a.stages), ",".join(stages))
    given |= {n: (getattr(a, n), None) for n in ("rows", "questions")}
    args = " ".join(f"--{name} {value}" for name, (value, usual) in given.items() if value != usual)
    return f'make real-proof ARGS="{args}"' if args else "make real-proof"


def verdict_of(arms_found: Mapping[Key, Arm], key: Key, full: Arm | None = None) -> Verdict | None:
    """The comparison with random; None if it is random or full, or random is not there."""
    arm, random = arms_found.get(key), arms_found.get((RANDOM, key[1]))
    if arm is None or random is None or key[0] in (RANDOM, FULL):
        return None
    return against(arm, random, full)


def glance(found: Sequence[PoolResult]) -> str:
    rows = []
    for budget in BUDGETS:
        names = dict.fromkeys(m for p in found for m, b in p.main if b == budget and m != RANDOM)
        for name in names:
            verdicts = [verdict_of(p.main, (name, budget)) for p in found]
            cells = [
                "" if v is None else f"**{gap(v)}**" if v.kind != "no gain" else gap(v)
                for v in verdicts
            ]
            rows.append([f"{name}, {budget}", *cells])
    return (
        "## At a glance\n\nDifference from random, in points (bold: the interval excludes 0):\n\n"
        + table(["", *(p.name for p in found)], rows)
    )


def section(p: PoolResult) -> str:
    full = p.main.get((FULL, "100%"))
    rows = []
    for (name, budget), arm in sorted(p.main.items(), key=lambda item: item[0][1] == "30%"):
        verdict = verdict_of(p.main, (name, budget), full)
        measured = full is not None and full.scores.any()
        share = "" if not measured else f"{100 * arm.scores.mean() / full.scores.mean():.0f}"
        saved = "" if full is None else f"{full.seconds_training - arm.seconds_training:.0f}"
        rows.append(
            [
                f"{name}, {budget}",
                f"{arm.rows:,}",
                str(len(arm.seeds)),
                str(arm.mean),
                share,
                "" if verdict is None else gap(verdict),
                "" if verdict is None else WORDS[verdict.kind],
                percent(arm.yes_rate),
                percent(arm.noise),
                f"{arm.seconds_selection:.0f}",
                f"{arm.seconds_training:.0f}",
                saved,
            ]
        )
    header = ["", "rows", "seeds", "accuracy", "% of full", "− random", "verdict", "says yes"]
    header += ["wrong rows", "s selecting", "s training", "s saved against full"]
    return (
        f"## Pool: {p.name}\n\n{p.rows:,} rows; {p.wrong:.0%} are machine captions or have swapped "
        "answers. A selection saves time if it takes less than it saves.\n\n" + table(header, rows)
    )


def steps(found: Sequence[PoolResult]) -> str:
    rows = []
    for p in found:
        for key, arm in p.stages.get("steps", {}).items():
            verdict = verdict_of(p.stages["steps"], key)
            difference = "" if verdict is None else gap(verdict)
            word = "" if verdict is None else WORDS[verdict.kind]
            rows.append([f"{p.name}: {key[0]}", str(arm.mean), difference, word])
    if not rows:
        return ""
    text = f"10% of the rows, as many steps as one pass over {arms.LONG:.0%} of the pool takes."
    return f"## Equal steps\n\n{text}\n\n" + table(["", "accuracy", "− random", "verdict"], rows)


def kinds(found: Sequence[PoolResult]) -> str:
    parts = []
    for p in found:
        at = {n: arm for (n, b), arm in p.main.items() if b in ("10%", "100%")}
        if RANDOM not in at:
            continue
        rows, low = [], []
        for kind, chance in p.asked.chance.items():
            of = p.asked.kind == kind
            if not above(at[RANDOM].scores[:, of], chance):
                low.append(kind)
            means = [f"{100 * arm.scores[:, of].mean():.0f}" for arm in at.values()]
            rows.append([kind, str(int(of.sum())), f"{100 * chance:.0f}", *means])
        note = f"Not above chance at random 10%: {', '.join(low)}." if low else ""
        parts.append(
            f"**{p.name}**. {note}\n\n" + table(["kind", "questions", "chance", *at], rows)
        )
    text = "Accuracy in %. Chance: without the picture, see `benchmarks/real/card.py`."
    return f"## By kind, at 10%\n\n{text}\n\n" + "\n\n".join(parts) if parts else ""


def subsets(found: Sequence[PoolResult]) -> str:
    """What the subsets contain, at 10%."""
    parts = []
    for p in found:
        at = {name: arm for (name, budget), arm in p.main.items() if budget == "10%"}
        rows = []
        for kind in np.unique(p.labels.kind).tolist():
            shares = [float(np.mean(p.labels.kind == kind))]
            shares += [arm.kinds.get(kind, 0.0) for arm in at.values()]
            rows.append([kind, *(f"{100 * share:.1f}" for share in shares)])
        if at:
            parts.append(f"**{p.name}**\n\n" + table(["source: kind", "pool", *at], rows))
    if not parts:
        return ""
    text = "Share of the rows in %, mean over seeds."
    return f"## What the subsets contain, at 10%\n\n{text}\n\n" + "\n\n".join(parts)


def worlds(found: Sequence[PoolResult]) -> str:
    """The agreement with the ranking of the synthetic world, at 10%."""
    by_method: dict[str, list[float]] = {}
    flawed = [p for p in found if p.name in FLAWED]
    for p in flawed:
        for name, budget in p.main:
            verdict = verdict_of(p.main, (name, budget))
            if budget == "10%" and verdict is not None:
                by_method.setdefault(name, []).append(verdict.difference.mean)
    real = {n: float(np.mean(v)) for n, v in by_method.items() if len(v) == len(flawed)}
    drawn = drawn_differences(read_pages())
    rho, chance, count = agreement(real, drawn)
    if not real:
        return ""
    rows = [
        [name, f"{value:+.1f}", f"{drawn[name]:+.1f}" if name in drawn else ""]
        for name, value in sorted(real.items(), key=lambda item: -item[1])
    ]
    text = (
        f"Spearman's correlation of both rankings over {count} methods: {rho:.2f}; {chance:.0%} of "
        "random rankings agree at least as much."
        if np.isfinite(rho)
        else f"No correlation: {count} methods are in both worlds, and a ranking needs three that "
        "differ."
    )
    text = "Mean difference from random at 10% over the pools with flaws, in points. " + text
    return f"## The synthetic world's ranking\n\n{fill(text, 100)}\n\n" + table(
        ["", "photographs", "synthetic"], rows
    )


def captions(a: argparse.Namespace) -> str:
    file = suspects.file_of(a)
    if not file.exists():
        return ""
    found = json.loads(file.read_text("utf-8"))
    first = "; ".join(f"{v:.0%} of the first {k}" for k, v in found["precision"].items())
    listed = (
        f"{found['listed_machine']} of the {found['listed']} listed captions"
        if found["listed"]
        else "no caption is listed at the default threshold"
    )
    share = found["machine"] / max(found["captions"], 1)
    text = (
        f"Of the mixed pool's {found['captions']} captions {share:.0%} are a machine's, visibly "
        f"often wrong. In the order of `thresher suspects`: {first}; {listed}; AUC "
        f"{found['auc']:.2f}. The machine's captions describe diagrams and photographs, the "
        "people's only photographs: part of the difference is the kind of picture."
    )
    return "## Machine captions among the suspects\n\n" + fill(text, 100)
