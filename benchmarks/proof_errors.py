"""Benchmark of error-driven selection on its target task, in the built-in world, against random.

The student is the built-in model, tuned on rows without three kinds of question: comparison,
digits, chart. Short answers have the format of their kind (`house_style`), as in the proof, so the
missing formats must be learned. The target task is these three kinds. Validation: 300 questions on
scenes of the development split; test: other questions on scenes of the evaluation split; the pool
uses other scenes. The teacher is rule-based: an oracle that reads every step correctly and knows
the skill of each row. Every arm trains the student with the same recipe on the same number of rows.

    python -m benchmarks.proof_errors [--rows N] [--budget K] [--seeds S] [--json FILE] [--work DIR]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from tools.demo_model.teacher import handle, read_labels

from thresher.backends import resolve
from thresher.demo.house_style import in_house_style
from thresher.demo.llava_rows import Row, write_rows
from thresher.demo.pool import make_pool
from thresher.demo.questions import KINDS, sample_question
from thresher.demo.scenes import Split
from thresher.demo.styles import phrase
from thresher.engine import RunContext
from thresher.evaluation import evaluate
from thresher.methods import load
from thresher.pools import open_pool
from thresher.request import RunRequest
from thresher.selection.iterate import select as select_in_rounds
from thresher.selection.task import SelectionTask
from thresher.stats.verdict import difference, mean_over_seeds
from thresher.storage.columns import Store
from thresher.training.recipe import Recipe
from thresher.training.registry import make_trainer, trained_identity, trained_model
from thresher.types import Budget, TrainedModel

WEAK = ("comparison", "digits", "chart")
PRACTICE = 800  # rows that made the student
RATE = 2e-3
OURS = {"teacher": "rules", "ask": "plain", "max_new_tokens": "64"}
ARMS: dict[str, dict[str, str]] = {
    "random rows": {**OURS, "target": "random"},
    "error-driven": OURS,
    "random step instead of the identified one": {**OURS, "identify": "random"},
    "last step": {**OURS, "identify": "last"},
    "search by the step's words": {**OURS, "query": "step"},
}


def practised(folder: Path) -> Path:
    """Folder of a student that was trained without rows of the three kinds."""
    from thresher.training import fit

    rng = Random("practice")
    kinds = [k for k in KINDS if k not in WEAK]
    rows = []
    for k in range(PRACTICE):
        question = sample_question(rng, kinds[k % len(kinds)], "pool")
        turn = phrase(rng, question, "steps" if k // len(kinds) % 2 else "word", "pool")
        rows.append(in_house_style(Row("practice", (question.scene,), (turn,))))
    file = write_rows(folder / "practice", "practice", "practice_labels.jsonl", "practice", rows)
    recipe = Recipe(lora=False, batch=8, learning_rate=RATE)
    return fit(
        "demo", open_pool(file, file.parent), None, recipe, folder / "student", device="cpu"
    ).folder


def questions(folder: Path, stem: str, split: Split, per_kind: int) -> Path:
    """Questions with short correct answers, in the pool's wordings, on scenes of `split`; yes and
    no are equally frequent."""
    rng = Random(f"errors {split}")
    rows = []
    for kind in WEAK:
        for k in range(per_kind):
            while True:
                question = sample_question(rng, kind, split)
                if question.candidates != ("yes", "no") or question.answer == ("yes", "no")[k % 2]:
                    break
            rows.append(
                in_house_style(
                    Row(kind, (question.scene,), (phrase(rng, question, "word", "pool"),))
                )
            )
    return write_rows(folder, stem, f"{stem}_labels.jsonl", stem, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=6000, help="of the pool")
    parser.add_argument("--budget", type=int, default=300)
    parser.add_argument(
        "--per-kind",
        type=int,
        default=100,
        help="validation and test questions of each of the three kinds",
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=0, help="also error-driven in so many rounds")
    parser.add_argument(
        "--work", type=Path, help="keep pools, scores and models here, and go on from there"
    )
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        compare(arguments, arguments.work or Path(scratch))


def compare(arguments: argparse.Namespace, work: Path) -> None:
    began = time.time()
    file = work / "pool" / "pool.json"
    if not file.exists():
        make_pool(work / "pool", arguments.rows, seed=0, house_style=True)
    pool = open_pool(file, file.parent)
    aims, tests = (
        questions(work / n, n, s, arguments.per_kind)
        for n, s in (("aim", "development"), ("test", "evaluation"))
    )
    aim, test = open_pool(aims, aims.parent), open_pool(tests, tests.parent)
    known = {
        **read_labels(work / "pool" / "hidden_labels.jsonl"),
        **read_labels(work / "aim" / "aim_labels.jsonl"),
    }
    kinds = [known[i].kinds for i in pool.ids(np.arange(len(pool)))]
    weak = np.array([any(k in WEAK for k in ks) for ks in kinds])
    student, teacher = resolve(str(practised(work))), handle(known)
    store = Store(work / "store")
    make = make_trainer(device="cpu", cache=store.root / "models")
    print(f"{time.time() - began:6.0f} s  the student", flush=True)
    base = 100 * evaluate(student, test, score="generate", store=store).accuracy
    print(f"{time.time() - began:6.0f} s  the student is right in {base:.1f}%", flush=True)
    cells: list[dict[str, Any]] = []
    arms = {name: (settings, 1) for name, settings in ARMS.items()}
    if arguments.rounds:
        arms[f"error-driven, {arguments.rounds} rounds"] = (OURS, arguments.rounds)
    for seed in range(arguments.seeds):
        for name, (settings, rounds) in arms.items():
            method = load("error_driven", settings)
            recipe = Recipe(
                lora=False, batch=8, epochs=arguments.epochs, learning_rate=RATE, seed=seed
            )
            outcome = select_in_rounds(
                SelectionTask(
                    pool,
                    method,
                    Budget.parse(str(arguments.budget)),
                    RunRequest(rounds=rounds, seed=seed, on_leak="drop"),
                    aim,
                ),
                RunContext(store, student, {"teacher": teacher}, make),
                recipe,
            )
            identity = trained_identity(
                model_of(student.identity, recipe), pool.digest[outcome.rows]
            )
            tuned = trained_model(identity, student, pool, np.sort(outcome.rows), store, make, None)
            marks = evaluate(tuned, test, score="generate", store=store).rows["correct"].to_pylist()
            right = 100 * float(np.mean(marks))
            asked = float(weak[outcome.rows].mean())
            about = {
                "arm": name,
                "seed": seed,
                "rows": len(outcome.rows),
                "right": right,
                "of_the_kinds": asked,
            }
            cells.append({**about, "marks": [int(m) for m in marks]})
            print(
                f"{time.time() - began:6.0f} s  seed {seed}  {name}: {right:.1f}%, {asked:.0%} of "
                "the kinds",
                flush=True,
            )
            if arguments.json:
                arguments.json.write_text(
                    json.dumps({"base": base, "cells": cells}, indent=1) + "\n"
                )
    show(cells, list(arms), base, arguments, float(weak.mean()))


def model_of(identity: Any, recipe: Recipe) -> TrainedModel:
    from thresher.signals.seed_rows import SeedRows

    return TrainedModel(identity, recipe, SeedRows(1.0, 0))


def show(
    cells: list[dict[str, Any]],
    arms: list[str],
    base: float,
    arguments: argparse.Namespace,
    weak: float,
) -> None:
    def values(arm: str) -> np.ndarray:  # [seeds, questions]
        return np.array([c["marks"] for c in cells if c["arm"] == arm], float)

    title = (
        f"{3 * arguments.per_kind} test questions of the target task, {arguments.budget} of "
        f"{arguments.rows:,} rows, {arguments.epochs:g} epochs, {arguments.seeds} seeds; the "
        f"student {base:.1f}%; {weak:.1%} of the pool asks these kinds"
    )
    table = Table(title=title)
    for column in ("rows chosen by", "right", "against random", "rows of the kinds"):
        table.add_column(column, justify="left" if column == "rows chosen by" else "right")
    for arm in arms:
        of_arm = values(arm)
        gain = difference(of_arm, values(arms[0]))
        share = np.mean([c["of_the_kinds"] for c in cells if c["arm"] == arm])
        against = "" if arm == arms[0] else f"{gain.mean:+.1f} [{gain.low:+.1f}, {gain.high:+.1f}]"
        table.add_row(arm, str(mean_over_seeds(of_arm)), against, f"{share:.0%}")
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
