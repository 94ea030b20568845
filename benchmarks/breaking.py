"""winnow, visnec and dics against random on adversarial pools (proof/breaking.py).

    python -m benchmarks.breaking [--out DIR] [--pools one_skill,half_text] [--budgets 10%]
                                  [--seeds 3] [--variants winnow,visnec] [--model demo]
                                  [--rows 6000] [--no-training]

Finished cells are not repeated. Variants: the names in proof/stages.py. The guard is off, as in the
proof.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from thresher.backends.hf.threads import limit_idle_threads

limit_idle_threads()

import numpy as np  # noqa: E402
from benchmarks.proof import setup, stages, work  # noqa: E402
from benchmarks.proof.breaking import POOLS, Answers, make_breaking, read_labels  # noqa: E402
from benchmarks.proof.tables import gap  # noqa: E402

from thresher.backends import ModelHandle, resolve  # noqa: E402
from thresher.compare import Cell, Job, make_job, read_cell  # noqa: E402
from thresher.engine import RunContext  # noqa: E402
from thresher.engine.columns import compute_all  # noqa: E402
from thresher.pools import open_pool  # noqa: E402
from thresher.request import RunRequest  # noqa: E402
from thresher.selection.select import select  # noqa: E402
from thresher.selection.task import SelectionTask  # noqa: E402
from thresher.signals.answer import Answer  # noqa: E402
from thresher.storage.columns import Store  # noqa: E402
from thresher.training.registry import make_trainer  # noqa: E402
from thresher.types import Budget, Rows  # noqa: E402


def own_answers(model: ModelHandle, store: Store) -> Answers:
    def answers(path: Path) -> Mapping[str, str]:
        pool = open_pool(path)
        column = compute_all(
            {"answer": Answer(model.identity)}, pool, RunRequest(), RunContext(store, model)
        )["answer"]
        said = column.values["text"].tolist()
        return dict(zip(pool.ids(np.arange(len(pool))), said, strict=True))

    return answers


@dataclass(frozen=True)
class Case:
    """A pool with its comparison, trained or not."""

    folder: Path
    job: Job
    store: Store

    @property
    def name(self) -> str:
        return self.folder.name


def case_of(a: argparse.Namespace, name: str) -> Case:
    """The case of a pool; the pool is created if it does not exist."""
    sizes = setup.Sizes(rows=a.rows, seeds=a.seeds)
    folder = a.out / f"breaking-{sizes.rows}-{sizes.per_kind}" / name
    store = Store(a.out / "store" / f"breaking-{name}")
    model = resolve(a.model, device="cpu", cache=store.root / "models")
    make_breaking(folder, name, sizes, own_answers(model, store))
    job = make_job(
        open_pool(folder / "pool.json"),
        open_pool(folder / "questions" / "evaluation.json"),
        methods=stages.made(*a.variants.split(",")),
        budgets=[Budget.parse(b) for b in a.budgets.split(",")],
        seeds=a.seeds,
        model=model,
        recipe=setup.RECIPE,
        full=False,
    )
    return Case(folder, job, store)


def held(case: Case) -> list[str]:
    """A table line for each method and budget: mean shares of wrong and special rows in subsets.
    Then the notes of the selections with seed 0."""
    labels = read_labels(case.folder)
    wrong = np.array([bool(label["noisy"]) for label in labels])
    special = np.array([POOLS[case.name].special(label) for label in labels])
    trainer = make_trainer(device="cpu", cache=case.store.root / "models")
    context = RunContext(case.store, case.job.model, trainer=trainer)
    subsets: dict[tuple[str, str], list[np.ndarray]] = {}
    notes = []
    for cell in case.job.cells():
        request = RunRequest(seed=cell.seed, force=True)
        task = SelectionTask(
            case.job.pool, case.job.methods[cell.method], Rows.of(cell.rows), request
        )
        outcome = select(task, context)
        subsets.setdefault((cell.method, cell.budget), []).append(outcome.rows)
        if cell.seed == 0:
            notes += [f"- {cell.method} {cell.budget}: {note}" for note in outcome.notes]
    lines = [
        f"| {case.name} | {method} | {budget} | {_change(wrong, rows)} | {_change(special, rows)} |"
        for (method, budget), rows in subsets.items()
    ]
    return [HELD, *lines, *notes]


def _change(part: np.ndarray, subsets: list[np.ndarray]) -> str:
    """The share of a part of the rows in the pool and in the subsets.

    part: bool [n], of the pool.
    """
    return f"{part.mean():.0%} → {np.mean([part[rows].mean() for rows in subsets]):.0%}"


def trained(case: Case, out: Path) -> list[str]:
    """A table line for each method and budget: accuracy of the trained models."""
    comparison = work.computed(case.job, case.store, out, case.name)
    kind = POOLS[case.name].asked
    lines = []
    for line in comparison.lines:
        cells = [c for c in case.job.cells() if (c.method, c.budget) == (line.method, line.budget)]
        lines.append(
            f"| {case.name} | {line.method} | {line.budget} | {line.mean.mean:.1f} ± "
            f"{line.mean.half:.1f} | {gap(line.verdict)} | {_asked(kind, cells, out, case)} |"
        )
    return [TRAINED, *lines]


def _asked(kind: str | None, cells: list[Cell], out: Path, case: Case) -> str:
    """The accuracy on the questions of one kind, mean over seeds."""
    if kind is None:
        return ""
    path = case.folder / "questions" / "evaluation_labels.jsonl"
    of_kind = np.array(
        [json.loads(line)["kind"] == kind for line in path.read_text("utf-8").splitlines()]
    )
    read = [read_cell(out, cell) for cell in cells]
    scores = [np.nan_to_num(found[1])[of_kind].mean() for found in read if found is not None]
    return f"{kind} {100 * np.mean(scores):.0f}"


HELD = """\
| pool | method | budget | wrong rows, pool → subset | special rows, pool → subset |
|---|---|---:|---:|---:|"""
TRAINED = """\
| pool | method | budget | accuracy | − random | of a kind |
|---|---|---:|---:|---:|---:|"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out/winnow"))
    parser.add_argument("--pools", default=",".join(POOLS))
    parser.add_argument("--budgets", default="10%")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--variants", default="winnow")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--rows", type=int, default=setup.Sizes.rows)
    parser.add_argument("--no-training", action="store_true", help="only what the subsets hold")
    a = parser.parse_args()
    for name in a.pools.split(","):
        case = case_of(a, name)
        print(POOLS[name].mix.about, *held(case), sep="\n", flush=True)
        if not a.no_training:
            print(*trained(case, a.out / "pools" / f"breaking-{name}"), sep="\n", flush=True)


if __name__ == "__main__":
    main()
