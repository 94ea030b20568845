"""What was looked at before the world, the learning rate, mmSSR's threshold and the steps of its
training were chosen.

    python -m benchmarks.proof.development reads --out DIR
        what the untuned base reads, by kind
    python -m benchmarks.proof.development room --out DIR [--pool web] [--rates 1e-3,2e-3]
        random and oracles at 10%, by kind
    python -m benchmarks.proof.development vary --out DIR --pool web --variants clipper
    mllm_selector:alpha=0
        other settings
    python -m benchmarks.proof.development judged --out DIR [--pool scarce]
        a judge that is right, by threshold
    python -m benchmarks.proof.development taught --out DIR --steps 300,1000
        agreement with the teacher, by steps
    python -m benchmarks.proof.development composition --out out/proof
        kinds and styles of subsets, seed 0
    python -m benchmarks.proof.development kinds --out out/proof --pool control --budget 5%
        by kind, right and rows

All but the last two, which tell more of the finished proof, work on development pools (seed 100)
and development questions, which the proof does not use. Writes under DIR.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from thresher.backends.hf.threads import limit_idle_threads

limit_idle_threads()

import numpy as np  # noqa: E402
from benchmarks.label_teacher import label_teacher  # noqa: E402
from benchmarks.proof import setup  # noqa: E402
from benchmarks.proof.asking import Ask  # noqa: E402
from benchmarks.proof.extras import labels_of  # noqa: E402
from benchmarks.proof.oracles import Labels, oracles  # noqa: E402
from benchmarks.proof.questions import balanced_questions  # noqa: E402
from benchmarks.proof.report import collect  # noqa: E402
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
    """The pool, the questions, the store, the model."""
    setup.make_development(out, SIZES, (name,))
    store = Store(out / "store" / name)
    return (
        *setup.open_world(out, name),
        store,
        resolve("demo", device="cpu", cache=store.root / "models"),
    )


def reads(out: Path) -> None:
    """Percent of short answers right, untuned and in plain form, over every kind that the world
    has."""
    folder = out / "reads"
    if not folder.exists():
        rng = Random("reads")
        asked = [
            q
            for kind in KINDS
            for q in balanced_questions(rng, kind, "development", SIZES.per_kind)
        ]
        rows = [Row(q.kind, (q.scene,), (phrase(rng, q, "word", "pool"),)) for q in asked]
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
    """The methods and random at 10%, three seeds. `rate`: another learning rate than the proof's;
    `judges`: methods whose judge is the labels."""
    pool, questions, store, model = development(out, name)
    asked = make_job(
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
        asked,
        RunContext(store, trainer=make_trainer(device="cpu", cache=store.root / "models")),
        out / "room" / name,
        evaluate=Ask(False),
        report=print,
    )
    return asked, made


def room(out: Path, name: str, rates: str) -> None:
    """Random and the oracles at 10%, by kind, for each learning rate."""
    pool, questions, *_ = development(out, name)
    asked_of = np.array([label["kind"] for label in labels_of(Path(questions.path))])
    for rate in rates.split(","):
        asked, _ = against_random(out, name, oracles(pool), float(rate))
        for method in asked.methods:
            cells = [
                read_cell(out / "room" / name, cell)
                for cell in asked.cells()
                if cell.method == method
            ]
            scores = np.stack([np.nan_to_num(cell[1]) for cell in cells if cell is not None])
            mean, spread = 100 * scores.mean(), 100 * scores.mean(1).std(ddof=1)
            told = by_kind(asked_of, scores.mean(0))
            print(f"{name} {rate} {method}: {mean:.1f}, SD {spread:.1f}; {told}", flush=True)


def vary(out: Path, name: str, variants: list[str]) -> None:
    """Methods with other settings against random. A variant: METHOD or
    METHOD:KEY=VALUE,KEY=VALUE."""
    pool, *_ = development(out, name)
    wrong = Labels.read(pool).noisy
    methods = {}
    for variant in variants:
        method, _, settings = variant.partition(":")
        methods[variant] = load(method, dict(s.split("=", 1) for s in settings.split(",") if s))
    asked, made = against_random(out, name, methods)
    place = out / "room" / name
    for line in made.lines:
        rows = np.concatenate(
            [chosen_rows(place, c, pool) for c in asked.cells() if c.method == line.method]
        )
        gap = "" if line.verdict is None else f"{line.verdict.difference}"
        print(
            f"{name} {line.method}: {line.mean}, wrong rows {wrong[rows].mean():.0%}; from random "
            f"{gap}",
            flush=True,
        )


def by_kind(kinds: np.ndarray, right: np.ndarray) -> str:
    return ", ".join(
        f"{k} {100 * right[kinds == k].mean():.0f}" for k in dict.fromkeys(kinds.tolist())
    )


def judged(out: Path, name: str) -> None:
    """Differences from random of mmSSR with the labels as its judge, by threshold."""
    methods = {
        f"threshold={t}": load("mmssr", {"judge": "labels", "threshold": t}) for t in ("0", "0.5")
    }
    _, made = against_random(out, name, methods, judges=list(methods))
    for line in made.lines:
        print(f"{line.method}: {line.mean}", "" if line.verdict is None else line.verdict.words)


def taught(out: Path, name: str, steps: str) -> None:
    """What mmSSR's notes say of scorer, styler and teacher, seed 0."""
    pool, _, store, model = development(out, name)
    settings = dict(setup.TAUGHT["mmssr, taught"][1]) | {"steps": steps}
    teacher = label_teacher(out / name / "hidden_labels.jsonl")
    make = make_trainer(device="cpu", cache=store.root / "models")
    found = run.select(
        SelectionTask(pool, load("mmssr", settings), Budget.parse("10%"), RunRequest(force=True)),
        RunContext(store, model, {"teacher": teacher}, make),
    )
    print(
        f"{steps} steps:",
        *(note for note in map(str, found.notes) if "teacher" in note),
        sep="\n  ",
    )


def composition(out: Path) -> None:
    """Percent of each kind and style in the finished subsets of the proof at 10%, seed 0."""
    sizes = setup.Sizes()
    model = resolve("demo", device="cpu")
    for name in setup.POOLS:
        pool, questions = setup.open_world(setup.world_folder(out, sizes), name)
        lines = Path(pool.path).with_name("hidden_labels.jsonl").read_text("utf-8").splitlines()
        labels = {x["id"]: x for x in map(json.loads, lines)}
        rows = [labels[i] for i in pool.ids(np.arange(len(pool)))]
        for stage in (
            s
            for s in setup.STAGES
            if s.name in ("ten", *setup.LABELLED) and s in setup.stages_of(name)
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
    """Of each finished arm of the proof at a budget, over its seeds: percent right and percent of
    its rows, by kind."""
    found = collect(out, name, setup.Sizes(), "demo")
    for (method, b), arm in found.main.items():
        if b == budget:
            rows = ", ".join(f"{k} {100 * v:.0f}%" for k, v in arm.kinds.items())
            print(
                f"{name} {method}: right {by_kind(found.questions.kind, arm.scores.mean(0))}; "
                f"rows {rows}",
                flush=True,
            )


def shares(values: list[str]) -> str:
    names, counts = np.unique(values, return_counts=True)
    return ", ".join(
        f"{n} {100 * c / len(values):.0f}%" for n, c in zip(names, counts, strict=True)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "what", choices=("reads", "room", "vary", "judged", "taught", "composition", "kinds")
    )
    parser.add_argument("--variants", nargs="+", default=[], help="of vary")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pool", default="scarce", choices=sorted(setup.POOLS))
    parser.add_argument("--steps", default="300,1000")
    parser.add_argument("--rates", default="1e-3")
    parser.add_argument("--budget", default="5%", help="of kinds")
    a = parser.parse_args()
    if a.what == "reads":
        reads(a.out)
    elif a.what == "room":
        room(a.out, a.pool, a.rates)
    elif a.what == "vary":
        vary(a.out, a.pool, a.variants)
    elif a.what == "composition":
        composition(a.out)
    elif a.what == "kinds":
        kinds(a.out, a.pool, a.budget)
    elif a.what == "judged":
        judged(a.out, a.pool)
    else:
        for steps in a.steps.split(","):
            taught(a.out, a.pool, steps)


if __name__ == "__main__":
    main()
