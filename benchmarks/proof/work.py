"""Computes the cells of one pool and one stage with `thresher.compare`; finished cells are reused.

python -m benchmarks.proof.work --out DIR --pool web --stage ten [sizes]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from thresher.backends.hf.threads import limit_idle_threads

limit_idle_threads()

from benchmarks.label_teacher import label_teacher  # noqa: E402
from benchmarks.proof import setup, signals, stages  # noqa: E402
from benchmarks.proof.asking import Ask  # noqa: E402
from benchmarks.proof.oracles import oracles  # noqa: E402
from tools.demo_model.teacher import handle, read_labels  # noqa: E402

from thresher.backends import ModelHandle, resolve  # noqa: E402
from thresher.compare import Comparison, Job, compare, make_job  # noqa: E402
from thresher.engine import RunContext  # noqa: E402
from thresher.pools import Pool  # noqa: E402
from thresher.storage.columns import Store  # noqa: E402
from thresher.training.registry import make_trainer  # noqa: E402
from thresher.types import Budget  # noqa: E402


def job_of(
    pool: Pool, questions: Pool, stage: stages.Stage, sizes: setup.Sizes, model: ModelHandle
) -> Job:
    return make_job(
        pool,
        questions,
        methods=stages.methods_of(stage, oracles(pool) if stage.oracles else {}),
        budgets=[Budget.parse(b) for b in stage.budgets],
        seeds=min(sizes.fewer_seeds, sizes.seeds) if stage.few else sizes.seeds,
        model=model,
        recipe=replace(setup.RECIPE, steps=stage.steps),
        full=stage.full,
        equal=stage.equal,
        score=stage.score,
        roles=roles_of(pool, stage),
        target=setup.open_validation(Path(pool.path).parents[1]) if stage.name == "aimed" else None,
    )


def roles_of(pool: Pool, stage: stages.Stage) -> dict[str, dict[str, ModelHandle]]:
    """Role models by method: the pool's hidden labels as a perfect judge or as a teacher, and a
    rule-based teacher that sees the scenes."""
    labels = Path(pool.path).with_name("hidden_labels.jsonl")
    models: dict[str, Callable[[], ModelHandle]] = {
        "labels": lambda: label_teacher(labels),
        "rules": lambda: handle({**read_labels(labels), **read_labels(validation_labels(pool))}),
    }
    return {
        name: {role: models[model]() for role, model in settings.items() if model in models}
        for name, (_, settings) in stage.methods.items()
    }


def validation_labels(pool: Pool) -> Path:
    return Path(pool.path).parents[1] / "validation" / "evaluation_labels.jsonl"


def work(out: Path, pool_name: str, stage: stages.Stage, sizes: setup.Sizes, model: str) -> None:
    if not stage.methods:
        signals.measure(out, sizes, model, pool_name)
        return
    pool, questions = setup.open_world(setup.world_folder(out, sizes), pool_name)
    store = Store(out / "store" / pool_name)  # a store for each pool: workers share nothing
    handle = resolve(model, device="cpu", cache=store.root / "models")
    job = job_of(pool, questions, stage, sizes, handle)
    computed(job, store, out / "pools" / pool_name, f"{pool_name} {stage.name}")


def computed(job: Job, store: Store, out: Path, name: str) -> Comparison:
    """The comparison, after its missing cells are made in `out`. `name`: for messages."""
    return compare(
        job,
        RunContext(store, trainer=make_trainer(device="cpu", cache=store.root / "models")),
        out,
        evaluate=Ask(job.score == "both"),
        report=lambda text: print(f"{name} {text}", flush=True),
    )


def sizes_of(a: argparse.Namespace) -> setup.Sizes:
    return setup.smaller(setup.Sizes(), a.rows, a.per_kind, a.seeds)


def add_sizes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("out/proof"),
        help="cells, scores and pools are kept here",
    )
    parser.add_argument("--model", default="demo")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--per-kind", type=int)
    parser.add_argument("--seeds", type=int)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    add_sizes(parser)
    parser.add_argument("--pool", required=True, choices=setup.POOLS)
    parser.add_argument("--stage", required=True, choices=[s.name for s in stages.STAGES])
    a = parser.parse_args()
    stage = next(s for s in stages.STAGES if s.name == a.stage)
    work(a.out, a.pool, stage, sizes_of(a), a.model)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
