"""Writes docs/results/proof.md from the finished cells of its stages; only proof_notes.md is written
by hand."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from benchmarks.proof import setup, stages
from benchmarks.proof.collected import PoolResult, unfinished
from benchmarks.proof.mixes import ASKED, MIXES
from benchmarks.proof.numbers import against
from benchmarks.proof.tables import gap, marked, percent, span, table, words

from thresher.compare import FULL, RANDOM
from thresher.stats.verdict import difference

BUDGETS = ("5%", "10%", "30%")


def proof_page(found: Sequence[PoolResult], out: Path, sizes: setup.Sizes, model: str) -> str:
    parts = [head(found, sizes, model), summary(found)]
    for pool in found:
        parts.append(section(pool))
    parts += [ablations(found), equal_steps(found), kinds(found), models(out, found), LIMITS]
    return "\n\n".join(p for p in parts if p) + "\n"


def head(found: Sequence[PoolResult], sizes: setup.Sizes, model: str) -> str:
    n = len(found[0].questions.kind)
    recipe = setup.RECIPE
    what = "LoRA" if recipe.lora else "all weights but the vision tower"
    fewer = min(sizes.fewer_seeds, sizes.seeds)
    command = f"python -m benchmarks.proof --stages {','.join(stages.of_page('proof'))}"
    return f"""# The proof: every method against random, on synthetic pools with known labels

    {command}

{span(day for p in found for day in p.days)}, {os.cpu_count()} CPU cores shared with other work ({platform.machine()}, no GPU).
Base: `--model {model}`, the built-in model (1.4 M parameters). Pools of {found[0].rows:,} rows; {n:,} questions,
{sizes.per_kind} of each of {len(ASKED)} kinds, with equally frequent answers, on scenes that are in no pool. Training: {what},
batch {recipe.batch}, learning rate {recipe.learning_rate or "by default"}, one pass over the subset.
Seeds 0 to {sizes.seeds - 1}; ablations and equal steps 0 to {fewer - 1}. Accuracy is that of generated answers, normalised, in %; ± is a 95%
interval over seeds, and for differences from random over seeds and questions, paired (see `docs/compare.md`).
{spread(found)}

**Kinds of question.** Only kinds that the base model can read are evaluated: untuned and in plain format it answers 73 to
100% of these correctly (`python -m benchmarks.proof.development reads`). Counting, spatial relation, odd one out, arithmetic
and multiple choice are excluded; in a first edition of this table, with 13 kinds in pools of 3,000 rows, four to nine kinds
were at chance for random 10%.

**What has to be learned.** The base model already reads these images well, so each kind of question has its own format of
short answers ("Red colour", "Top left part"; `demo/house_style.py`), which the model has never seen. A kind that is rare in
a subset is not learned; a wrong answer teaches the format and the wrong content.

This is a disclosed synthetic world with a tiny model. It ranks methods under known flaws of a pool and does not reproduce
published percentages. Oracles use the hidden labels; they are not methods, but show what is possible. No method, default or
setting was chosen on these questions. The numbers are explained in the [notes](proof_notes.md).

winnow, VisNec and DICS are on [a page of their own](winnow.md), with their own runs of random: other cells, of a later
date.{unfinished(found)}"""


def spread(found: Sequence[PoolResult]) -> str:
    """A paragraph about the spread over seeds of the arms at 10%."""
    arms = [
        a
        for p in found
        for (_, budget), a in p.main.items()
        if budget == "10%" and len(a.seeds) > 2
    ]
    if not arms:
        return "Too few seeds to estimate their spread."
    sd = np.array([100 * a.scores.mean(1).std(ddof=1) for a in arms])
    return f"""**Seeds**: at 10% the SD over seeds is {np.median(sd):.1f} points (median over arms; up to {sd.max():.1f}), because trainings are short.
With stable arms, three seeds resolve differences of 2 to 3 points and five of about 2; here the intervals in the
tables are often wider."""


def summary(found: Sequence[PoolResult]) -> str:
    """A table of differences from random at 10%, and a list of the methods that beat random or lose
    to it."""
    names = list(dict.fromkeys(m for p in found for m, b in p.main if b == "10%" and m != RANDOM))
    rows = []
    for name in [*names, FULL]:
        row = [name]
        for p in found:
            arm, random = (
                p.main.get((name, "100%" if name == FULL else "10%")),
                p.main.get((RANDOM, "10%")),
            )
            verdict = None if arm is None or random is None else against(arm, random, None)
            row.append(marked(verdict))
        rows.append(row)
    lines = []
    for budget in BUDGETS:
        for p in found:
            wins, losses = _winners(p, budget)
            text = f"- {p.name}, {budget}: " + (
                f"better than random: {', '.join(wins)}" if wins else "**no method beats random**"
            )
            lines.append(text + (f"; worse: {', '.join(losses)}." if losses else "."))
    return (
        "## At a glance\n\nDifference from random at 10%, in points (bold: the interval excludes "
        "0):\n\n"
        + table(["", *(p.name for p in found)], rows)
        + "\n\nMethods with a significant difference from random:\n\n"
        + "\n".join(lines)
    )


def _winners(p: PoolResult, budget: str) -> tuple[list[str], list[str]]:
    random = p.main.get((RANDOM, budget))
    wins, losses = [], []
    for (name, b), arm in p.main.items():
        if b != budget or name in (RANDOM, FULL) or name.startswith("oracle") or random is None:
            continue
        verdict = against(arm, random, None)
        if verdict is not None and verdict.kind != "no gain":
            (wins if verdict.kind == "beats" else losses).append(name)
    return wins, losses


def section(p: PoolResult) -> str:
    """The table of one pool."""
    full = p.main.get((FULL, "100%"))
    rows = []
    for budget in (*BUDGETS, "100%"):
        random = p.main.get((RANDOM, budget))
        for (name, b), arm in p.main.items():
            if b != budget:
                continue
            verdict = (
                None if random is None or name in (RANDOM, FULL) else against(arm, random, full)
            )
            share = "" if full is None else f"{100 * arm.scores.mean() / full.scores.mean():.0f}"
            choice = "" if arm.by_choice is None else f"{100 * np.nanmean(arm.by_choice):.1f}"
            rows.append(
                [
                    f"{name}, {budget}",
                    f"{arm.rows:,}",
                    str(arm.mean),
                    share,
                    gap(verdict),
                    words(verdict),
                    choice,
                    percent(arm.yes_rate),
                    percent(arm.noise),
                    f"{arm.seconds_selection:.0f}",
                    f"{arm.seconds_training:.0f}",
                ]
            )
    header = [
        "",
        "rows",
        "accuracy",
        "% of full",
        "− random",
        "verdict",
        "by likelihood",
        "says yes",
        "wrong rows",
        "s selecting",
        "s training",
    ]
    seeds = sorted({len(a.seeds) for a in p.main.values()})
    some = f" Arms have {seeds[0]} to {seeds[-1]} seeds." if len(seeds) > 1 else ""
    mix = MIXES[p.name]
    return (
        f"## Pool: {p.name}\n\n{mix.about} {p.noise:.0%} of the rows are wrong.{some}\n\n"
        + table(header, rows)
    )


def ablations(found: Sequence[PoolResult]) -> str:
    rows = []
    for p in found:
        for (name, budget), arm in p.stages.get("ablations", {}).items():
            if name == RANDOM:
                continue
            whole, random = p.main.get((name.split()[0], budget)), p.main.get((RANDOM, budget))
            verdict = None if random is None else against(arm, random, None)
            parent = None if whole is None else against(arm, whole, None)
            rows.append(
                [
                    f"{p.name}, {budget}: {name}",
                    str(arm.mean),
                    gap(verdict),
                    gap(parent),
                    percent(arm.noise),
                ]
            )
    if not rows:
        return ""
    header = ["", "accuracy", "− random", "− default settings", "wrong rows"]
    return "## Ablations\n\nDifferences over the common seeds.\n\n" + table(header, rows)


def equal_steps(found: Sequence[PoolResult]) -> str:
    rows = []
    for p in found:
        arms = p.stages.get("steps", {})
        random = arms.get((RANDOM, "10%"))
        for (name, _), arm in arms.items():
            verdict = None if random is None or name == RANDOM else against(arm, random, None)
            rows.append(
                [
                    f"{p.name}: {name}",
                    str(arm.mean),
                    gap(verdict),
                    "" if verdict is None else verdict.kind,
                    str(len(arm.seeds)),
                ]
            )
        full = p.main.get((FULL, "100%"))
        if arms and full is not None:
            rows.append(
                [f"{p.name}: full pool, one pass", str(full.mean), "", "", str(len(full.seeds))]
            )
    if not rows:
        return ""
    header = ["", "accuracy", "− random", "verdict", "seeds"]
    return (
        "## Equal steps\n\n10% of the rows, as many optimiser steps as the full pool needs for "
        "one pass (ten passes).\n\n" + table(header, rows)
    )


def kinds(found: Sequence[PoolResult]) -> str:
    """Tables by kind, for each pool: chance, random, the methods at 10% and the full pool."""
    parts = []
    for p in found:
        arms = {n: a for (n, b), a in p.main.items() if b in ("10%", "100%")}
        if RANDOM not in arms:
            continue
        chance, n = p.questions.chance(), len(p.questions.kind)
        per = {name: p.questions.by_kind(a.scores) for name, a in arms.items()}
        low = [
            k for k in chance if not above(arms[RANDOM].scores[:, p.questions.kind == k], chance[k])
        ]
        rows = [
            [
                k,
                f"{100 * chance[k]:.0f}",
                *(f"{100 * per[name][k]:.0f}" for name in arms),
                f"{100 * arms[RANDOM].kinds.get(k, 0.0):.1f}",
            ]
            for k in chance
        ]
        sentence = (
            f"Not significantly above chance at random 10%: {', '.join(low)}."
            if low
            else "Every kind is above chance at random 10% (95% interval over seeds and questions)."
        )
        parts.append(
            f"**{p.name}** ({n:,} questions). {sentence}\n\n"
            + table(["kind", "chance", *arms, "% of random's rows"], rows)
        )
    text = (
        "Accuracy in %. Chance: the better of guessing among the candidates and always giving the "
        "most frequent answer."
    )
    return f"## By kind, at 10%\n\n{text}\n\n" + "\n\n".join(parts)


def above(scores: np.ndarray, chance: float) -> bool:
    """Whether a kind's scores [seeds, questions] are above `chance` (0 to 1) by more than a 95%
    interval over both."""
    return difference(scores, np.full_like(scores, chance)).low > 0


def models(out: Path, found: Sequence[PoolResult]) -> str:
    """The available additional measurements: untuned model, swapped images, demonstrations."""
    lines = []
    for path, name in [(out / "extras" / "untuned.json", "untuned model")] + [
        (out / "extras" / f"{p.name}.json", f"tuned on all of {p.name}, seed 0") for p in found
    ]:
        if path.exists():
            measured = json.loads(path.read_text())
            choice = [float(x) for x in measured["own"]["by_choice"] if x is not None]
            lines.append(
                [
                    name,
                    f"{100 * np.mean(measured['own']['correct']):.1f}",
                    f"{100 * np.mean(choice):.1f}",
                    f"{100 * np.mean(measured['other']['correct']):.1f}",
                ]
            )
    text = "## The models themselves\n\n" + table(
        ["", "accuracy", "by likelihood", "with the image of another question"], lines
    )
    demo = out / "extras" / "demonstrations.json"
    if demo.exists():
        measured = json.loads(demo.read_text())
        names = {
            "none": "no demonstration",
            "same": "of the same kind and style",
            "other": ("of another kind, in its own style"),
            "other_same_style": "of another kind, in the same style",
            "wrong": ("of the same kind and style, wrong answer"),
        }
        rows = [
            [
                names[c],
                f"{measured['nll'][c][0]:.3f} ± {measured['nll'][c][1]:.3f}",
                f"{100 * measured['greedy'][c]:.0f}",
            ]
            for c in measured["nll"]
        ]
        text += (
            f"\n\nThe base model after one demonstration, {measured['queries']} queries in the "
            "pool's wordings (± standard error):\n\n"
            + table(["demonstration", "NLL, nats per token", "greedy answer correct, %"], rows)
        )
    return text


LIMITS = """## Limitations

- One tiny base model and one synthetic world: methods that need a strong judge or broad knowledge are at a disadvantage.
- Pools are small; the same share of a large pool contains more rows of each scarce skill.
- Pools and questions are one random sample: the seeds vary the selection and the training, not the data.
- There is no correction for multiple verdicts: of 20 on purely random subsets, one is expected to be wrong."""
