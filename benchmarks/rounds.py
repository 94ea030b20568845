"""Whether further rounds of winnow (`--set rounds=N`) find wrong rows better, on development pools.

    python -m benchmarks.rounds [--out DIR] [--seeds 3] [--pools web] [--easy-vqa FOLDER]

Reports the AUC of each round's loss for wrong rows inside skills, and wrong rows in a tenth. The
pools are those of `benchmarks.proof.development`: of another seed than the proof's. easy_vqa, whose
images the built-in model cannot read, is a sample of train.json with 30% of the answers swapped, as
in `benchmarks.suspects`. The guard is off. Accuracies of models trained on the selections:
`benchmarks.proof.development vary --variants winnow:guard=off,trust=base,rounds=2`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from thresher.backends.hf.threads import limit_idle_threads

limit_idle_threads()

import numpy as np  # noqa: E402
from benchmarks.auc import auc_within  # noqa: E402
from benchmarks.proof import setup  # noqa: E402
from benchmarks.suspects import swapped  # noqa: E402

from thresher.backends import resolve  # noqa: E402
from thresher.demo.command import wrong_answers  # noqa: E402
from thresher.engine import RunContext  # noqa: E402
from thresher.methods import load  # noqa: E402
from thresher.pools import Pool  # noqa: E402
from thresher.request import RunRequest  # noqa: E402
from thresher.selection import select as run  # noqa: E402
from thresher.selection.task import SelectionTask  # noqa: E402
from thresher.storage.columns import Store  # noqa: E402
from thresher.training.registry import make_trainer  # noqa: E402
from thresher.types import Budget  # noqa: E402

TENTH = Budget.parse("10%")
VARIANTS = {
    f"{'' if trust == 'base' else f'trust={trust} '}rounds={rounds}": {
        "guard": "off",
        "trust": trust,
        "rounds": str(rounds),
    }
    for trust, rounds in (("base", 1), ("base", 2), ("base", 3), ("seed", 1), ("seed", 2))
}


def judged(out: Path, seeds: int, names: str, easy_vqa: Path | None) -> None:
    print(
        "| pool | variant | AUC inside skills | wrong rows trusted | wrong rows selected |\n"
        "|---|---|---:|---:|---:|"
    )
    pools: dict[str, tuple[Pool, np.ndarray]] = {}
    setup.make_development(out, setup.Sizes())
    for name in names.split(","):
        pool, _ = setup.open_world(out, name)
        pools[name] = pool, wrong_answers(pool)
    if easy_vqa is not None:
        pools["easy_vqa, 30%"] = swapped(easy_vqa, out, 6000, 30, 11)
    for name, (pool, wrong) in pools.items():
        store = Store(out / "store" / name.partition(",")[0])
        model = resolve("demo", device="cpu", cache=store.root / "models")
        trainer = make_trainer(device="cpu", cache=store.root / "models")
        for variant, settings in VARIANTS.items():
            found = []
            for seed in range(seeds):
                task = SelectionTask(pool, load("winnow", settings), TENTH, RunRequest(seed=seed))
                outcome = run.select(task, RunContext(store, model, trainer=trainer))
                bad, r = wrong[outcome.considered], outcome.evidence
                last = next(n for n in ("round_loss", "seed_loss", "loss") if n in r)
                found.append(
                    (
                        auc_within(r[last], bad, r["skill"]),
                        bad[r["trusted"]].mean(),
                        wrong[outcome.rows].mean(),
                    )
                )
            low, mean, high = np.min(found, 0), np.mean(found, 0), np.max(found, 0)
            cells = [
                f"{mean[0]:.3f} ({low[0]:.3f}–{high[0]:.3f})",
                *(f"{mean[k]:.1%} ({100 * low[k]:.1f}–{100 * high[k]:.1f})" for k in (1, 2)),
            ]
            share = f"{name}, {wrong.mean():.0%} wrong" if "," not in name else name
            print(f"| {share} | {variant} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out/rounds"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--easy-vqa", type=Path)
    parser.add_argument("--pools", default="web,redundant,scarce")
    a = parser.parse_args()
    judged(a.out, a.seeds, a.pools, a.easy_vqa)


if __name__ == "__main__":
    main()
