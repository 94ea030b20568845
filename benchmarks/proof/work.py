"""Computes the cells of one pool and one stage with `thresher.compare`; finished cells are reused.

python -m benchmarks.proof.work --out DIR --pool web --stage ten [sizes]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from thresher.backends.hf.threads import limit_idle_threads

limit_idle_threads()

from benchmarks.label_teacher import label_teacher  # noqa: E402
from benchmarks.proof import setup  # noqa: E402
from benchmarks.proof.asking import Ask  # noqa: E402
from benchmarks.proof.oracles import oracles  # noqa: E402
from tools.demo_model.teacher import handle, read_labels  # noqa: E402

from thresher.backends import ModelHandle, resolve  # noqa: E402
from thresher.compare import Job, compare, make_job  # noqa: E402
from thresher.engine import RunContext  # noqa: E402
from thresher.pools import Pool  # noqa: E402
from thresher.storage.columns import Store  # noqa: E402
from thresher.training.registry import make_trainer  # noqa: E402
from thresher.types import Budget  # noqa: E402


def job_of(
    pool: Pool, questions: Pool, stage: setup.Stage, sizes: setup.Sizes, model: ModelHandle
) -> Job:
    return make_job(
        pool,
        questions,
        methods=setup.methods_of(stage, oracles(pool)),
        budgets=[Budget.parse(b) for b in stage.budgets],
        seeds=min(sizes.fewer_seeds, sizes.seeds) if stage.few else sizes.seeds,
        model=model,
        recipe=setup.RECIPE,
        full=stage.full,
        equal=stage.equal,
        score=stage.score,
        roles=roles_of(pool, stage),
        target=setup.open_validation(Path(pool.path).parents[1]) if stage.name == "aimed" else None,
    )


def roles_of(pool: Pool, stage: setup.Stage) -> dict[str, dict[str, ModelHandle]]:
    """Role models by method: the pool's hidden labels as a perfect judge or as a teacher, and a
    rule-based teacher that sees the scenes."""
    named = setup.LABELLED.get(stage.name, {})
    labels = Path(pool.path).with_name("hidden_labels.jsonl")
    models: dict[str, Callable[[], ModelHandle]] = {
        "labels": lambda: label_teacher(labels),
        "rules": lambda: handle({**read_labels(labels), **read_labels(validation_labels(pool))}),
    }
    return {
        name: {role: models[model]() for role, model in settings.items() if model in models}
        for name, (_, settings) in named.items()
    }


def validation_labels(pool: Pool) -> Path:
    return Path(pool.path).parents[1] / "validation" / "evaluation_labels.jsonl"


def work(out: Path, pool_name: str, stage: setup.Stage, sizes: setup.Sizes, model: str) -> None:
    pool, questions = setup.open_world(setup.world_folder(out, sizes), pool_name)
    store = Store(out / "store" / pool_name)  # a store for each pool: workers share nothing
    compare(
        job_of(
            pool, questions, stage, sizes, resolve(model, device="cpu", cache=store.root / "models")
        ),
        RunContext(store, trainer=make_trainer(device="cpu", cache=store.root / "models")),
        out / "pools" / pool_name,
        evaluate=Ask(stage.score == "both"),
        report=lambda text: print(f"{pool_name} {stage.name} {text}", flush=True),
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
    parser.add_argument("--stage", required=True, choices=[s.name for s in setup.STAGES])
    a = parser.parse_args()
    stage = next(s for s in setup.STAGES if s.name == a.stage)
    work(a.out, a.pool, stage, sizes_of(a), a.model)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
