"""Benchmark of `thresher suspects` on pools with known wrong rows: AUC, precision and recall.

Uses pools of the proof's mixes (built-in world, hidden labels) with other seeds, and easy_vqa's
training rows with answers swapped within a kind (yes/no, shape, colour) in 0, 5, 15 and 30% of the
rows. The model is the built-in one. Reports means over seeds, and the range.

    python -m benchmarks.suspects [--easy-vqa FOLDER] [--shares 5,15] [--mixes web]
                                  [--rows N] [--seeds N] [--store DIR] [--list-only]

Two more tables compare single signals: the AUC of each over the pool, and over pairs of rows of the
same skill. The seed models of winnow (trust=seed) are trained for it, two per pool; `--list-only`
leaves these tables out, and takes a third of the time.

FOLDER contains train.json and images/. AUC and precision at the share of wrong rows measure the
order of the list; "listed" are the rows at the default threshold; "said" is their mean suspicion,
which should equal their precision.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
from benchmarks.auc import auc, auc_within
from benchmarks.proof.mixes import MIXES
from benchmarks.proof.stages import FOUR
from rich.console import Console
from rich.table import Table

from thresher.backends import ModelHandle, resolve
from thresher.demo.command import wrong_answers
from thresher.demo.pool import make_pool
from thresher.doctor.suspects import (
    THRESHOLD,
    suspicion_order,
)
from thresher.engine import RunContext, create_engine
from thresher.methods.winnow import Winnow
from thresher.pools import Pool, open_pool
from thresher.request import RunRequest
from thresher.signals.entropy import Entropy
from thresher.signals.own_answer_gap import OwnAnswerGap
from thresher.signals.suspicion import suspicion_signals
from thresher.storage.columns import Store
from thresher.training.registry import make_trainer
from thresher.types import MethodContext, Signal

SHARES = "0,5,15,30"  # percent
YES_NO, SHAPES = ("yes", "no"), ("circle", "rectangle", "triangle")
COLUMNS = ("loss", "rank", "hump", "order", "at share", "listed", "precision", "said", "recall")
SIGNALS = (
    "loss",
    "loss of seed models",
    "own_answer_gap",
    "entropy",
    "visual_gain",
    "hump",
    "suspicion",
)
Measured = tuple[dict[str, float], dict[str, tuple[float, float]]]


def kind_of(answer: str) -> str:
    """The kind of an answer of easy_vqa."""
    return "yes/no" if answer in YES_NO else "shape" if answer in SHAPES else "colour"


def swapped(folder: Path, out: Path, rows: int, percent: int, seed: int) -> tuple[Pool, np.ndarray]:
    """A random sample of easy_vqa with wrong answers, and a mask of these rows, bool [n]. Every
    percentage has the same sample."""
    rng = Random(f"suspects {seed}")
    records = rng.sample(json.loads((folder / "train.json").read_text("utf-8")), rows)
    answers = [r["conversations"][1]["value"] for r in records]
    by_kind: dict[str, list[str]] = {}
    for answer in answers:
        by_kind.setdefault(kind_of(answer), []).append(answer)
    wrong = np.zeros(rows, bool)
    for k in rng.sample(range(rows), round(rows * percent / 100)):
        others = [a for a in by_kind[kind_of(answers[k])] if a != answers[k]]
        records[k]["conversations"][1]["value"] = rng.choice(others)
        wrong[k] = True
    file = out / f"easy-{seed}-{percent}.json"
    file.write_text(json.dumps(records), "utf-8")
    return open_pool(file, folder / "images"), wrong


def built_in(out: Path, mix: str, rows: int, seed: int) -> tuple[Pool, np.ndarray]:
    """A built-in pool, and a mask of its wrong rows, bool [n]."""
    pool = open_pool(make_pool(out / f"{mix}-{seed}", rows, seed, MIXES[mix], house_style=True))
    return pool, wrong_answers(pool)


def measure(
    pool: Pool, wrong: np.ndarray, model: ModelHandle, store: Store, seed: int, list_only: bool
) -> Measured:
    """Metrics of one pool, by column of the first table; AUC over the pool and inside skills, by
    signal (none with `list_only`)."""
    base = model.identity
    signals: dict[str, Signal] = dict(suspicion_signals(base))
    if not list_only:
        seeds = Winnow(trust="seed", guard="off").signals(MethodContext(base, seed=seed))["trust"]
        signals |= {"seeds": seeds, "gap": OwnAnswerGap(base), "entropy": Entropy(base)}
    request = RunRequest(on_missing="refuse")
    trainer = make_trainer(device="cpu", cache=store.root / "models")
    engine = create_engine(pool, signals, request, RunContext(store, model, trainer=trainer))
    columns = engine.columns(signals)
    engine.close()
    wrong = wrong[engine.eligible.pool_rows]
    found, n, planted = columns["suspicion"], len(wrong), int(wrong.sum())
    place = np.empty(n)
    order = suspicion_order(columns)
    place[order] = -np.arange(n)
    listed = found["suspicion"] >= THRESHOLD
    none = float("nan")
    metrics = {
        "wrong": planted / n,
        "loss": auc(columns["loss"]["nll"], wrong),
        "rank": auc(found["rank"] / found["rows"], wrong),
        "hump": auc(found["hump"], wrong),
        "order": auc(place, wrong),
        "at share": float(wrong[order[:planted]].mean()) if planted else none,
        "listed": float(listed.mean()),
        "precision": float(wrong[listed].mean()) if listed.any() else none,
        "said": float(found["suspicion"][listed].mean()) if listed.any() else none,
        "recall": float(wrong[listed].sum() / planted) if planted else none,
    }
    if list_only:
        return metrics, {}
    scores = (
        columns["loss"]["nll"],
        columns["seeds"]["nll"],
        columns["gap"]["gap"],
        columns["entropy"]["entropy"],
        -columns["gain"]["gain"],  # a low one speaks against the answer
        found["hump"],
        found["suspicion"],
    )
    leaf = np.asarray(columns["skills"]["leaf"], np.int64)
    return metrics, {
        name: (auc(score, wrong), auc_within(score, wrong, leaf))
        for name, score in zip(SIGNALS, scores, strict=True)
    }


def pools(
    arguments: argparse.Namespace, out: Path
) -> Iterator[tuple[str, tuple[Pool, np.ndarray], int]]:
    """Yields (name, (pool, mask of wrong rows), seed)."""
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    for mix in arguments.mixes.split(",") if arguments.mixes else ():
        for seed in seeds:
            yield mix, built_in(out, mix, arguments.rows, seed), seed
    for percent in map(int, arguments.shares.split(",")) if arguments.easy_vqa else ():
        for seed in seeds:
            yield (
                f"easy_vqa, {percent}%",
                swapped(arguments.easy_vqa, out, arguments.rows, percent, seed),
                seed,
            )


def cell(values: list[float], percent: bool) -> str:
    """Mean and range over seeds; a dash without values."""
    known = np.array([v for v in values if not np.isnan(v)])
    if not len(known):
        return "–"
    low, mean, high = known.min(), known.mean(), known.max()
    if percent:
        return f"{mean:.0%} ({100 * low:.0f}–{100 * high:.0f})"
    return f"{mean:.2f} ({low:.2f}–{high:.2f})"


def options(description: str) -> argparse.Namespace:
    """The options that choose the pools. `description`: of the command."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--easy-vqa", type=Path)
    parser.add_argument("--shares", default=SHARES, help="percent of swapped answers of easy_vqa")
    parser.add_argument("--mixes", default=",".join(FOUR), help='"" for none')
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    # settings were chosen on seeds below 11
    parser.add_argument("--first-seed", type=int, default=11)
    parser.add_argument("--store", type=Path, help="keep scores here (default: thrown away)")
    parser.add_argument("--list-only", action="store_true", help="no tables of single signals")
    return parser.parse_args()


def main() -> None:
    arguments = options(__doc__ or "")
    model, only = resolve("demo"), arguments.list_only
    results: dict[str, list[Measured]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        store = Store(arguments.store or Path(scratch) / "store")
        for name, (pool, wrong), seed in pools(arguments, Path(scratch)):
            results.setdefault(name, []).append(measure(pool, wrong, model, store, seed, only))
            print(name, results[name][-1], flush=True)
    console = Console(width=200)
    title = f"{arguments.rows:,} rows, {arguments.seeds} seeds: mean (lowest–highest)"
    table = titled(title, "pool", "wrong", *COLUMNS)
    for name, found in results.items():
        cells = [cell([f[c] for f, _ in found], c not in COLUMNS[:4]) for c in ("wrong", *COLUMNS)]
        table.add_row(name, *cells)
    console.print(table)
    for i, where in () if only else enumerate(("over the pool", "inside skills")):
        table = titled(f"AUC {where}; {title}", "pool", *SIGNALS)
        for name, found in results.items():
            if found[0][0]["wrong"]:
                table.add_row(name, *(cell([f[c][i] for _, f in found], False) for c in SIGNALS))
        console.print(table)


def titled(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title)
    table.add_column(first)
    for name in columns:
        table.add_column(name, justify="right")
    return table


if __name__ == "__main__":
    main()
