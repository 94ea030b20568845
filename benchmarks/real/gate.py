"""Go or no-go: can the base carry the comparison? Asked on the development half of the questions.

    python -m benchmarks.real.gate [--rates 2e-4,5e-4,1e-3] [--pool mixed]

For each learning rate: the untuned base, random 10% and the full pool, by kind. Go means that full
is above random 10% (95% interval), and random 10% above chance in every kind. If it is a no-go, the
base reads too little, or the pool has too little to teach: see the base's card, and `--answers` of
benchmarks.real.base.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from benchmarks.proof.asking import Ask
from benchmarks.proof.report import above
from benchmarks.proof.tables import gap, table
from benchmarks.real import arms
from benchmarks.real.by_source import Asked
from benchmarks.real.pools import POOLS, World
from benchmarks.real.work import base_of, compute, opened, options, store_of, world_of

from thresher.compare import FULL, RANDOM, read_cell
from thresher.stats.verdict import compare_to_random

STAGE = arms.Stage("gate", (RANDOM,), ("10%",), True, "epochs")


def main() -> None:
    parser = options(__doc__ or "")
    parser.set_defaults(half="development")
    parser.add_argument("--pool", default="mixed", choices=tuple(POOLS))
    parser.add_argument("--rates", default=f"{arms.RECIPE.learning_rate:g}")
    a = parser.parse_args()
    world = world_of(a)
    for rate in a.rates.split(","):
        print(judged(a, world, float(rate)), flush=True)


def judged(a: argparse.Namespace, world: World, rate: float) -> str:
    """The table of one learning rate, and the verdict."""
    store = store_of(a, a.pool)
    pool, questions = opened(a, world, a.pool)
    model = base_of(a, store)
    job = arms.job_of(pool, questions, STAGE, model, a.seeds, rate=rate, precision=a.precision)
    out = a.out / "gate" / f"{a.pool}-{rate:g}"
    compute(a, job, store, out, f"gate {rate:g}")
    found: dict[str, list[np.ndarray]] = {}
    for cell in job.cells():
        read = read_cell(out, cell)
        assert read is not None, "the cells were just computed"
        found.setdefault(cell.method, []).append(np.nan_to_num(read[1]))
    random, full = np.stack(found[RANDOM]), np.stack(found[FULL])
    untuned = np.array(Ask(False)(model, questions, store=store).rows["correct"].to_pylist())
    asked = Asked.of(Path(questions.path), Path(pool.path))
    return verdict(asked, np.nan_to_num(untuned.astype(float)), random, full, rate)


def verdict(
    asked: Asked, untuned: np.ndarray, random: np.ndarray, full: np.ndarray, rate: float
) -> str:
    """Arguments: scores of the untuned base [N], of random 10% and the full pool [S, N]."""
    kinds, low = [], []
    for kind, chance in asked.chance.items():
        of = asked.kind == kind
        if not above(random[:, of], chance):
            low.append(kind)
        values = (chance, untuned[of].mean(), random[:, of].mean(), full[:, of].mean())
        kinds.append([kind, str(int(of.sum())), *(f"{100 * v:.0f}" for v in values)])
    gain = compare_to_random(full, random)
    go = gain.kind == "beats" and not low
    means = {"random": float(random.mean()), "full": float(full.mean())}
    header = ["kind", "questions", "chance", "untuned", "random 10%", "full"]
    return "\n".join(
        [
            f"learning rate {rate:g}: {'GO' if go else 'NO-GO'}; full − random 10%: {gap(gain)}",
            f"not above chance at random 10%: {', '.join(low) or 'none'}",
            table(header, kinds),
            json.dumps({"rate": rate, "go": go, **means}),
        ]
    )


if __name__ == "__main__":
    main()
