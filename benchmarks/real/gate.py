"""Go or no-go: can the base carry the comparison? Asked on the development half of the questions.

    python -m benchmarks.real.gate [--rates 1e-4,2e-4,5e-4] [--batches 2,4,8] [--pool mixed]

For each learning rate and batch: the untuned base, random 10% and the full pool, by kind. Go means
that full is above random 10% (95% interval), and random 10% above chance in every kind. If it is a
no-go, the base reads too little, or the pool has too little to teach: see the base's card, and
`--answers` of benchmarks.real.base. `--no-full` leaves out the full pool, ten times the cost of the
rest: to compare recipes, not to decide.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
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
from thresher.training.recipe import Recipe

STAGE = arms.Stage("gate", (RANDOM,), ("10%",), True, "epochs")


def main() -> None:
    parser = options(__doc__ or "")
    parser.set_defaults(half="development")
    parser.add_argument("--pool", default="mixed", choices=tuple(POOLS))
    parser.add_argument("--rates", default=f"{arms.RECIPE.learning_rate:g}")
    parser.add_argument("--batches", default=f"{arms.RECIPE.batch}")
    parser.add_argument("--no-full", action="store_true", help="leave out the full pool")
    a = parser.parse_args()
    world = world_of(a)
    for rate in map(float, a.rates.split(",")):
        for batch in map(int, a.batches.split(",")):
            recipe = replace(arms.RECIPE, learning_rate=rate, batch=batch, precision=a.precision)
            print(judged(a, world, recipe), flush=True)


def judged(a: argparse.Namespace, world: World, recipe: Recipe) -> str:
    """The table of one recipe, and the verdict."""
    store = store_of(a, a.pool)
    pool, questions = opened(a, world, a.pool)
    model = base_of(a, store)
    name = f"rate {recipe.learning_rate:g}, batch {recipe.batch}"
    stage = replace(STAGE, full=not a.no_full)
    job = arms.job_of(pool, questions, stage, model, a.seeds, recipe=recipe)
    out = a.out / "gate" / f"{a.pool}-{recipe.learning_rate:g}-{recipe.batch}"
    compute(a, job, store, out, f"gate, {name}")
    found: dict[str, list[np.ndarray]] = {}
    for cell in job.cells():
        read = read_cell(out, cell)
        assert read is not None, "the cells were just computed"
        found.setdefault(cell.method, []).append(np.nan_to_num(read[1]))
    random = np.stack(found[RANDOM])
    full = np.stack(found[FULL]) if FULL in found else None
    untuned = np.array(Ask(False)(model, questions, store=store).rows["correct"].to_pylist())
    asked = Asked.of(Path(questions.path), Path(pool.path))
    return verdict(asked, np.nan_to_num(untuned.astype(float)), random, full, name)


def verdict(
    asked: Asked, untuned: np.ndarray, random: np.ndarray, full: np.ndarray | None, name: str
) -> str:
    """The table by kind, under the verdict.

    Arguments:
        untuned: accuracy of the untuned base by question, [N], 0 to 1.
        random: of models trained on random 10%, [S, N].
        full: of models trained on the full pool, [S, N]; None: not run, then there is no verdict.
        name: of the recipe.
    """
    kinds, low = [], []
    for kind, chance in asked.chance.items():
        of = asked.kind == kind
        if not above(random[:, of], chance):
            low.append(kind)
        values = [chance, untuned[of].mean(), random[:, of].mean()]
        values += [] if full is None else [full[:, of].mean()]
        kinds.append([kind, str(int(of.sum())), *(f"{100 * v:.0f}" for v in values)])
    header = ["kind", "questions", "chance", "untuned", "random 10%"]
    figures: dict[str, object] = {"recipe": name, "random": float(random.mean())}
    if full is None:
        found = f"random 10%: {100 * random.mean():.1f}%; the full pool was left out, no verdict"
    else:
        gain = compare_to_random(full, random)
        go = gain.kind == "beats" and not low
        found = f"{'GO' if go else 'NO-GO'}; full − random 10%: {gap(gain)}"
        figures |= {"full": float(full.mean()), "go": go}
        header.append("full")
    return "\n".join(
        [
            f"{name}: {found}",
            f"not above chance at random 10%: {', '.join(low) or 'none'}",
            table(header, kinds),
            json.dumps(figures),
        ]
    )


if __name__ == "__main__":
    main()
