"""winnow, visnec and dics against random on pools that are made to break them (proof/breaking.py).

    python -m benchmarks.breaking [--out DIR] [--pools one_skill,half_text] [--budgets 10%]
                                  [--seeds 3] [--variants winnow,visnec] [--model demo]
                                  [--rows 6000]

Cells that are finished are not made again. The guard is off, as in `benchmarks.winnow`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from benchmarks import winnow  # first: it limits the threads
from benchmarks.proof import setup
from benchmarks.proof.breaking import POOLS, Answers, make_breaking, read_labels

from thresher.backends import ModelHandle, resolve
from thresher.compare import Cell, Comparison, Job, chosen_rows, make_job, read_cell
from thresher.engine import RunContext
from thresher.engine.columns import compute_all
from thresher.pools import open_pool
from thresher.request import RunRequest
from thresher.signals.answer import Answer
from thresher.storage.columns import Store
from thresher.types import Budget


def own_answers(model: ModelHandle, store: Store) -> Answers:
    def answers(path: Path) -> Mapping[str, str]:
        pool = open_pool(path)
        column = compute_all(
            {"answer": Answer(model.identity)}, pool, RunRequest(), RunContext(store, model)
        )["answer"]
        said = column.values["text"].tolist()
        return dict(zip(pool.ids(np.arange(len(pool))), said, strict=True))

    return answers


def compared(a: argparse.Namespace, name: str) -> tuple[Job, Comparison, Path]:
    sizes = setup.Sizes(rows=a.rows, seeds=a.seeds)
    folder = a.out / f"breaking-{sizes.rows}-{sizes.per_kind}" / name
    store = Store(a.out / "store" / f"breaking-{name}")
    model = resolve(a.model, device="cpu", cache=store.root / "models")
    make_breaking(folder, name, sizes, own_answers(model, store))
    job = make_job(
        open_pool(folder / "pool.json"),
        open_pool(folder / "questions" / "evaluation.json"),
        methods=winnow.methods(a.variants.split(",")),
        budgets=[Budget.parse(b) for b in a.budgets.split(",")],
        seeds=a.seeds,
        model=model,
        recipe=setup.RECIPE,
        full=False,
    )
    out = a.out / "pools" / f"breaking-{name}"
    return job, winnow.compared_job(job, store, out, name), folder


def table(job: Job, comparison: Comparison, out: Path, folder: Path) -> list[str]:
    """A line for each method and budget: accuracy, and what its subsets hold."""
    pool = POOLS[folder.name]
    labels = read_labels(folder)
    wrong = np.array([bool(label["noisy"]) for label in labels])
    special = np.array([pool.special(label) for label in labels])
    lines = []
    for line in comparison.lines:
        cells = [c for c in job.cells() if (c.method, c.budget) == (line.method, line.budget)]
        subsets = [chosen_rows(out, cell, job.pool) for cell in cells]
        inside = [
            100 * np.mean([part[rows].mean() for rows in subsets]) for part in (wrong, special)
        ]
        lines.append(
            f"| {folder.name} | {100 * wrong.mean():.0f}% | {line.budget} | {line.method} | "
            f"{line.mean.mean:.1f} ± {line.mean.half:.1f} | {winnow.gap_text(line)} | "
            f"{inside[0]:.0f}% | {100 * special.mean():.0f}% → {inside[1]:.0f}% | "
            f"{_asked(pool.asked, cells, out, folder)} |"
        )
    return lines


def _asked(kind: str | None, cells: list[Cell], out: Path, folder: Path) -> str:
    """The accuracy on the questions of one kind, mean over seeds."""
    if kind is None:
        return ""
    lines = (folder / "questions" / "evaluation_labels.jsonl").read_text("utf-8").splitlines()
    mine = np.array([json.loads(line)["kind"] == kind for line in lines])
    read = [read_cell(out, cell) for cell in cells]
    scores = [np.nan_to_num(found[1])[mine].mean() for found in read if found is not None]
    return f"{kind} {100 * np.mean(scores):.0f}"


HEAD = """\
| pool | wrong rows | budget | method | accuracy | − random | wrong in the subset | special rows | |
|---|---:|---:|---|---:|---:|---:|---:|---:|"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out/winnow"))
    parser.add_argument("--pools", default=",".join(POOLS))
    parser.add_argument("--budgets", default="10%")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--variants", default="winnow")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--rows", type=int, default=setup.Sizes.rows)
    a = parser.parse_args()
    for name in a.pools.split(","):
        job, comparison, folder = compared(a, name)
        print(POOLS[name].mix.about, HEAD, sep="\n")
        print("\n".join(table(job, comparison, a.out / "pools" / f"breaking-{name}", folder)))
        for note in comparison.selection_notes():
            print(f"- {note}", flush=True)


if __name__ == "__main__":
    main()
