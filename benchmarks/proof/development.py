"""Measurements on development pools, from which the settings of the proof were chosen.

The settings are its pools, the learning rate, mmSSR's threshold and its number of training steps.

    python -m benchmarks.proof.development reads --out DIR
        what the untuned base model reads: its accuracy, by kind of question
    python -m benchmarks.proof.development oracles --out DIR [--pool web] [--rates 1e-3,2e-3]
        random and oracles at 10%, by kind of question
    python -m benchmarks.proof.development variants --out DIR --pool web
        --variants clipper mllm_selector:alpha=0
        methods with other settings against random at 10%
    python -m benchmarks.proof.development threshold --out DIR [--pool scarce]
        mmSSR with an oracle as its judge, by threshold
    python -m benchmarks.proof.development teacher --out DIR --steps 300,1000
        agreement of mmSSR's trained models with their teacher, by number of training steps
    python -m benchmarks.proof.development composition --out out/proof
        kinds and styles of the subsets of the proof, seed 0
    python -m benchmarks.proof.development kinds --out out/proof --pool control --budget 5%
        accuracy and share of the rows by kind, in the proof

The last two read the results of a finished proof. The others use development pools (seed 100) and
development questions, which the proof does not use. Writes under DIR.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from thresher.backends.hf.threads import limit_idle_threads

limit_idle_threads()

import numpy as np  # noqa: E402
from benchmarks.label_teacher import label_teacher  # noqa: E402
from benchmarks.proof import setup, stages  # noqa: E402
from benchmarks.proof.asking import Ask  # noqa: E402
from benchmarks.proof.collected import collect  # noqa: E402
from benchmarks.proof.extras import labels_of  # noqa: E402
from benchmarks.proof.oracles import Labels, oracles  # noqa: E402
from benchmarks.proof.pages import PAGES  # noqa: E402
from benchmarks.proof.questions import balanced_questions  # noqa: E402
from benchmarks.proof.work import job_of  # noqa: E402

from thresher.backends import ModelHandle, resolve  # noqa: E402
from thresher.compare import Comparison, Job, chosen_rows, compare, make_job, read_cell  # noqa: E402
from thresher.demo.llava_rows import Row, write_rows  # noqa: E402
from thresher.demo.questions import KINDS  # noqa: E402
from thresher.demo.styles import phrase  # noqa: E402
from thresher.engine import RunContext  # noqa: E402
from thresher.evaluation import evaluate  # noqa: E402
from thresher.methods import load  # noqa: E402
from thresher.pools import Pool, open_pool  # noqa: E402
from thresher.request import RunRequest  # noqa: E402
from thresher.selection import select as run  # noqa: E402
from thresher.selection.task import SelectionTask  # noqa: E402
from thresher.storage.columns import Store  # noqa: E402
from thresher.training.registry import make_trainer  # noqa: E402
from thresher.types import Budget, Method  # noqa: E402

SIZES = setup.Sizes()


def development(out: Path, name: str) -> tuple[Pool, Pool, Store, ModelHandle]:
    """(pool, questions, store, model) of a development pool, which is made if it is missing."""
    setup.make_development(out, SIZES, (name,))
    store = Store(out / "store" / name)
    return (
        *setup.open_world(out, name),
        store,
        resolve("demo", device="cpu", cache=store.root / "models"),
    )


def reads(out: Path) -> None:
    """Print the accuracy of the untuned base model on short plain answers, in %, by kind."""
    folder = out / "reads"
    if not folder.exists():
        rng = Random("reads")
        drawn = [
            q
            for kind in KINDS
            for q in balanced_questions(rng, kind, "development", SIZES.per_kind)
        ]
        rows = [Row(q.kind, (q.scene,), (phrase(rng, q, "word", "pool"),)) for q in drawn]
        write_rows(folder, "evaluation", "evaluation_labels.jsonl", "evaluation", rows)
    found = evaluate(
        resolve("demo", device="cpu"),
        open_pool(folder / "evaluation.json"),
        score="generate",
        store=Store(out / "store"),
    )
    print(
        by_kind(
            np.repeat(KINDS, SIZES.per_kind), np.array(found.rows["correct"].to_pylist(), float)
        )
    )


def against_random(
    out: Path,
    name: str,
    methods: Mapping[str, Method],
    rate: float | None = None,
    judges: Sequence[str] = (),
) -> tuple[Job, Comparison]:
    """Compare methods with random at 10% over three seeds.

    Arguments:
        out: the folder to write.
        name: of the development pool.
        methods: by name.
        rate: learning rate; None: that of the proof.
        judges: names of the methods whose judge is an oracle that reads the labels.
    """
    pool, questions, store, model = development(out, name)
    job = make_job(
        pool,
        questions,
        methods={"random": load("random"), **methods},
        budgets=[Budget.parse("10%")],
        seeds=3,
        model=model,
        recipe=setup.RECIPE if rate is None else replace(setup.RECIPE, learning_rate=rate),
        full=False,
        equal="epochs",
        score="generate",
        roles={m: {"judge": label_teacher(out / name / "hidden_labels.jsonl")} for m in judges},
    )
    made = compare(
        job,
        RunContext(store, trainer=make_trainer(device="cpu", cache=store.root / "models")),
        out / "room" / name,
        evaluate=Ask(False),
        report=print,
    )
    return job, made


def compare_oracles(out: Path, name: str, rates: str) -> None:
    """Print the accuracy of random and the oracles at 10% by kind, for each learning rate."""
    pool, questions, *_ = development(out, name)
    kind_of = np.array([label["kind"] for label in labels_of(Path(questions.path))])
    for rate in rates.split(","):
        job, _ = against_random(out, name, oracles(pool), float(rate))
        for method in job.methods:
            cells = [
                read_cell(out / "room" / name, cell)
                for cell in job.cells()
                if cell.method == method
            ]
            scores = np.stack([np.nan_to_num(cell[1]) for cell in cells if cell is not None])
            mean, spread = 100 * scores.mean(), 100 * scores.mean(1).std(ddof=1)
            detail = by_kind(kind_of, scores.mean(0))
            print(f"{name} {rate} {method}: {mean:.1f}, SD {spread:.1f}; {detail}", flush=True)


def compare_variants(out: Path, name: str, variants: list[str]) -> None:
    """Compare methods with other settings with random.

    A variant is METHOD or METHOD:KEY=VALUE,KEY=VALUE.
    """
    pool, *_ = development(out, name)
    wrong = Labels.read(pool).noisy
    methods = {}
    for variant in variants:
        method, _, settings = variant.partition(":")
        methods[variant] = load(method, dict(s.split("=", 1) for s in settings.split(",") if s))
    job, made = against_random(out, name, methods)
    cells = out / "room" / name
    for line in made.lines:
        rows = np.concatenate(
            [chosen_rows(cells, c, pool) for c in job.cells() if c.method == line.method]
        )
        gap = "" if line.verdict is None else f"{line.verdict.difference}"
        print(
            f"{name} {line.method}: {line.mean}, wrong rows {wrong[rows].mean():.0%}; from random "
            f"{gap}",
            flush=True,
        )


def by_kind(kinds: np.ndarray, right: np.ndarray) -> str:
    """The mean of `right` (float [n], 0 to 1) for each kind (str [n]), in %."""
    return ", ".join(
        f"{k} {100 * right[kinds == k].mean():.0f}" for k in dict.fromkeys(kinds.tolist())
    )


def compare_thresholds(out: Path, name: str) -> None:
    """Compare mmSSR, with an oracle as its judge, with random, for each threshold."""
    methods = {
        f"threshold={t}": load("mmssr", {"judge": "labels", "threshold": t}) for t in ("0", "0.5")
    }
    _, made = against_random(out, name, methods, judges=list(methods))
    for line in made.lines:
        print(f"{line.method}: {line.mean}", "" if line.verdict is None else line.verdict.words)


def agreement_with_teacher(out: Path, name: str, steps: Sequence[str]) -> None:
    """Print mmSSR's notes about scorer, styler and teacher, seed 0, for each number of steps."""
    pool, _, store, model = development(out, name)
    teacher = label_teacher(out / name / "hidden_labels.jsonl")
    trainer = make_trainer(device="cpu", cache=store.root / "models")
    context = RunContext(store, model, {"teacher": teacher}, trainer)
    for number in steps:
        method = load("mmssr", dict(stages.TAUGHT["mmssr, taught"][1]) | {"steps": number})
        task = SelectionTask(pool, method, Budget.parse("10%"), RunRequest(force=True))
        notes = [note for note in map(str, run.select(task, context).notes) if "teacher" in note]
        print(f"{number} steps:", *notes, sep="\n  ")


def composition(out: Path) -> None:
    """Print the share of each kind and style in the proof's subsets at 10%, seed 0."""
    sizes = setup.Sizes()
    model = resolve("demo", device="cpu")
    for name in setup.POOLS:
        pool, questions = setup.open_world(setup.world_folder(out, sizes), name)
        lines = Path(pool.path).with_name("hidden_labels.jsonl").read_text("utf-8").splitlines()
        labels = {x["id"]: x for x in map(json.loads, lines)}
        rows = [labels[i] for i in pool.ids(np.arange(len(pool)))]
        for stage in (
            s
            for s in stages.stages_of(name)
            if s.name not in ("ablations", "steps", "parts", "long")  # other trainings or settings
        ):
            for cell in job_of(pool, questions, stage, sizes, model).cells():
                if (
                    cell.seed
                    or cell.budget != "10%"
                    or read_cell(out / "pools" / name, cell) is None
                ):
                    continue
                chosen = [rows[i] for i in chosen_rows(out / "pools" / name, cell, pool)]
                print(
                    name,
                    cell.method,
                    shares([r["kind"] for r in chosen]),
                    shares([r["style"] for r in chosen]),
                )


def kinds(out: Path, name: str, budget: str) -> None:
    """Print accuracy and share of the rows by kind, for each method of the proof at a budget."""
    for page in PAGES:
        found = collect(out, name, setup.Sizes(), "demo", page)
        for (method, b), arm in found.main.items():
            if b == budget:
                rows = ", ".join(f"{k} {100 * v:.0f}%" for k, v in arm.kinds.items())
                accuracy = by_kind(found.questions.kind, arm.scores.mean(0))
                print(f"{name} {method}: accuracy {accuracy}; rows {rows}", flush=True)


def shares(values: list[str]) -> str:
    """The share of each value, in %."""
    names, counts = np.unique(values, return_counts=True)
    return ", ".join(
        f"{n} {100 * c / len(values):.0f}%" for n, c in zip(names, counts, strict=True)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pool", default="scarce", choices=sorted(setup.POOLS))
    parser.add_argument("--variants", nargs="+", default=[], help="for variants")
    parser.add_argument("--steps", default="300,1000", help="for teacher")
    parser.add_argument("--rates", default="1e-3", help="learning rates, for oracles")
    parser.add_argument("--budget", default="5%", help="for kinds")
    actions: dict[str, Callable[[argparse.Namespace], None]] = {
        "reads": lambda a: reads(a.out),
        "oracles": lambda a: compare_oracles(a.out, a.pool, a.rates),
        "variants": lambda a: compare_variants(a.out, a.pool, a.variants),
        "threshold": lambda a: compare_thresholds(a.out, a.pool),
        "teacher": lambda a: agreement_with_teacher(a.out, a.pool, a.steps.split(",")),
        "composition": lambda a: composition(a.out),
        "kinds": lambda a: kinds(a.out, a.pool, a.budget),
    }
    parser.add_argument("action", choices=actions)
    a = parser.parse_args()
    actions[a.action](a)


if __name__ == "__main__":
    main()
