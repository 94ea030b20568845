"""Methods with other settings against random on development questions, not those of the proof.

    python -m benchmarks.real.variants --pool noisy [options of proof.py]
        base=winnow:guard=off,trust=base keep1=winnow:guard=off,trust=base,keep=1

A variant is NAME=METHOD:KEY=VALUE,KEY=VALUE. Prints its accuracy, its difference from random at
10%, and what its rows are: wrong rows, and kinds of question with the answers to yes/no questions.
Then how pure skills are, for clusters of questions, of answers, and of both (as in winnow).
Finished cells are reused.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

from thresher.backends.hf.threads import limit_idle_threads

limit_idle_threads()

import numpy as np  # noqa: E402
from benchmarks.proof.development import shares  # noqa: E402
from benchmarks.proof.signals import purity  # noqa: E402
from benchmarks.real import arms, work  # noqa: E402
from benchmarks.real.by_source import PoolLabels  # noqa: E402
from benchmarks.real.pools import POOLS  # noqa: E402

from thresher.backends import ModelHandle  # noqa: E402
from thresher.compare import chosen_rows, make_job  # noqa: E402
from thresher.engine import RunContext, create_engine  # noqa: E402
from thresher.methods import load  # noqa: E402
from thresher.pools import Pool  # noqa: E402
from thresher.request import RunRequest  # noqa: E402
from thresher.signals.skills import Skills, skills_of  # noqa: E402
from thresher.storage.columns import Store  # noqa: E402
from thresher.types import Budget, Method  # noqa: E402


def main() -> None:
    parser = work.options(__doc__ or "")
    parser.set_defaults(half="development", seeds=2)
    parser.add_argument("--pool", required=True, choices=tuple(POOLS))
    parser.add_argument("variants", nargs="*", type=variant, metavar="NAME=METHOD:SETTINGS")
    a = parser.parse_args()
    world = work.world_of(a)
    labels = PoolLabels.of(world, a.pool)
    store = work.store_of(a, a.pool)
    pool, questions = work.opened(a, world, a.pool)
    model = work.base_of(a, store)
    print(f"rows of the pool: {shares(labels.kind.tolist())}")
    if a.variants:
        job = make_job(
            pool,
            questions,
            methods={"random": load("random"), **dict(a.variants)},
            budgets=[Budget.parse("10%")],
            seeds=a.seeds,
            model=model,
            recipe=replace(arms.RECIPE, precision=a.precision),
            full=False,
            equal="epochs",
            score="generate",
        )
        out = a.out / "variants" / a.half / a.pool
        for line in work.compute(a, job, store, out, a.pool).lines:
            rows = np.concatenate(
                [chosen_rows(out, c, pool) for c in job.cells() if c.method == line.method]
            )
            gap = "" if line.verdict is None else f"; from random {line.verdict.difference}"
            print(f"{line.method}: {line.mean}{gap}; wrong rows {labels.noisy[rows].mean():.0%}")
            print(f"    {shares(labels.kind[rows].tolist())}", flush=True)
    for name, value in purities(pool, labels, model, store).items():
        print(f"purity of skills of {name}: {value:.2f}")


def variant(text: str) -> tuple[str, Method]:
    """A variant's name and its method with settings."""
    name, _, rest = text.partition("=")
    method, _, settings = rest.partition(":")
    if not rest:
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=METHOD:KEY=VALUE,KEY=VALUE")
    return name, load(method, dict(s.split("=", 1) for s in settings.split(",") if s))


def purities(pool: Pool, labels: PoolLabels, model: ModelHandle, store: Store) -> dict[str, float]:
    """Share of rows whose source, kind and yes/no answer are the most frequent ones of their skill,
    0 to 1."""
    both = skills_of(model.identity)
    clusters = {
        "questions and answers": both,
        "questions": Skills(both.question, both.question),
        "answers": Skills(both.answer, both.answer),
    }
    engine = create_engine(pool, clusters, RunRequest(), RunContext(store, model))
    columns, rows = engine.columns(clusters), engine.eligible.pool_rows
    engine.close()
    return {name: purity(columns[name]["leaf"], labels.kind[rows]) for name in clusters}


if __name__ == "__main__":
    main()
