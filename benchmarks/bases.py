"""winnow against random with other base models: one that reads badly, and one that is already tuned
on a tenth of the pool.

    python -m benchmarks.bases [--out DIR] [--bases demo,weak,tuned] [--pools web,scarce,control]
                               [--methods winnow,default] [--seeds 3]

`weak` is the built-in model with noise in its weights: each matrix gets normal noise of NOISE times
its own standard deviation. `tuned` is the built-in model after a training on a random tenth of the
pool, with the recipe of the comparison; these rows stay in the pool. `winnow` has no guard and
trust=base; `default` has the default settings. Models and finished cells are kept.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from thresher.backends.hf.threads import limit_idle_threads

limit_idle_threads()

from benchmarks.auc import auc, auc_within  # noqa: E402
from benchmarks.proof import setup  # noqa: E402
from benchmarks.proof.asking import Ask  # noqa: E402

from thresher.backends import ModelHandle, resolve  # noqa: E402
from thresher.compare import Comparison, Job, Line, chosen_rows, compare, make_job  # noqa: E402
from thresher.demo import MODEL_FOLDER  # noqa: E402
from thresher.demo.command import wrong_answers  # noqa: E402
from thresher.engine import RunContext, create_engine  # noqa: E402
from thresher.methods import load  # noqa: E402
from thresher.methods.winnow import Winnow  # noqa: E402
from thresher.pools import Pool  # noqa: E402
from thresher.request import RunRequest  # noqa: E402
from thresher.storage.columns import Store  # noqa: E402
from thresher.training import fit  # noqa: E402
from thresher.training.registry import make_trainer  # noqa: E402
from thresher.types import Budget, MethodContext  # noqa: E402

BASES = ("demo", "weak", "tuned")
POOLS = ("web", "scarce", "control")
# in standard deviations of each weight matrix; of 300 rows of a development pool, the model then
# answers 13% of the right ones as given instead of 18%; the AUC of its loss is 0.59 instead of 0.67
NOISE = 0.35
TUNED_SEED = 100  # of the rows that `tuned` has seen: no seed of the comparison
SETTINGS: dict[str, dict[str, str]] = {
    "winnow": {"guard": "off", "trust": "base"},
    "default": {},
}
HEAD = """\
| base | pool | before | likelier | trust | AUC, pool | AUC, in skill | method | wrong | \
accuracy | − random | verdict | guard |
|---|---|---:|---:|---|---:|---:|---|---:|---:|---:|---|---|"""


def weak_base(folder: Path) -> Path:
    """The built-in model with noise in its weights."""
    if not folder.exists():
        shutil.copytree(MODEL_FOLDER, folder)
        weights = load_file(folder / "model.safetensors")
        rng = torch.Generator().manual_seed(0)
        for name, tensor in sorted(weights.items()):
            if tensor.ndim > 1:
                noise = torch.randn(tensor.shape, generator=rng) * tensor.float().std()
                weights[name] = (tensor.float() + NOISE * noise).to(tensor.dtype)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def tuned_base(folder: Path, pool: Pool) -> Path:
    """The built-in model after a training on a random tenth of the pool."""
    rows = np.random.default_rng(TUNED_SEED).permutation(len(pool))[: len(pool) // 10]
    fit("demo", pool, rows, replace(setup.RECIPE, seed=TUNED_SEED), folder, device="cpu")
    return folder


def base_of(name: str, out: Path, pool_name: str, pool: Pool) -> str:
    if name == "weak":
        return str(weak_base(out / "weak"))
    if name == "tuned":
        return str(tuned_base(out / f"tuned-{pool_name}", pool))
    return "demo"


def loss_quality(pool: Pool, model: ModelHandle, store: Store) -> str:
    """Cells of the table: what `trust=auto` measures, and the AUC of the loss for wrong rows over
    the pool and inside skills."""
    named = Winnow(guard="off").signals(MethodContext(model.identity))
    signals = {name: named[name] for name in ("loss", "skills", "judgement")}
    engine = create_engine(pool, signals, RunRequest(), RunContext(store, model))
    columns = engine.columns(signals)
    engine.close()
    wrong, loss = wrong_answers(pool)[engine.eligible.pool_rows], columns["loss"]["nll"]
    found = columns["judgement"]
    return (
        f"{found['helped'][0]:.0%} | {'base' if found['readable'][0] else 'seed'} | "
        f"{auc(loss, wrong):.2f} | {auc_within(loss, wrong, columns['skills']['leaf']):.2f}"
    )


def lines(base: str, pool_name: str, a: argparse.Namespace) -> list[str]:
    """The lines of the table for one base and pool."""
    sizes = setup.Sizes(seeds=a.seeds)
    folder = setup.world_folder(a.out, sizes)
    setup.make_world(folder, sizes, POOLS)
    pool, questions = setup.open_world(folder, pool_name)
    store = Store(a.out / "store" / pool_name)
    model = resolve(
        base_of(base, a.out, pool_name, pool), device="cpu", cache=store.root / "models"
    )
    job = make_job(
        pool,
        questions,
        methods={"random": load("random")}
        | {name: load("winnow", SETTINGS[name]) for name in a.methods.split(",")},
        budgets=[Budget.parse("10%")],
        seeds=a.seeds,
        model=model,
        recipe=setup.RECIPE,
        full=False,
    )
    out = a.out / "cells" / f"{base}-{pool_name}"
    untuned = Ask(False)(model, questions, store=store).accuracy
    about = f"{base} | {pool_name} | {untuned:.0%} | {loss_quality(pool, model, store)}"
    trainer = make_trainer(device="cpu", cache=store.root / "models")
    comparison = compare(
        job,
        RunContext(store, trainer=trainer),
        out,
        evaluate=Ask(False),
        report=lambda text: print(f"{base} {pool_name} {text}", flush=True),
    )
    wrong = wrong_in_subsets(job, out, wrong_answers(pool))
    return [
        f"| {about} | {line.method} | {wrong[line.method]:.0%} | {line.mean} | "
        f"{against_random(line, comparison)} |"
        for line in comparison.lines
    ]


def against_random(line: Line, comparison: Comparison) -> str:
    """Cells of the table: difference, verdict, and in how many seeds the guard took random rows."""
    if line.verdict is None:
        return " | | "
    kind = {"beats": "**beats random**", "worse": "worse than random"}.get(line.verdict.kind)
    gap, seeds = line.verdict.difference, len({c.seed for c in comparison.cells})
    guard = f"random rows in {len(line.random_seeds)} of {seeds}"
    return (
        f"{gap.mean:+.1f} ± {gap.half:.1f} | {kind or 'no gain'} | "
        f"{guard if line.method == 'default' else ''}"
    )


def wrong_in_subsets(job: Job, out: Path, wrong: np.ndarray) -> Mapping[str, float]:
    """The share of wrong rows in the subsets, mean over seeds. wrong: bool [n], of the pool."""
    shares: dict[str, list[float]] = {}
    for cell in job.cells():
        shares.setdefault(cell.method, []).append(
            float(wrong[chosen_rows(out, cell, job.pool)].mean())
        )
    return {method: float(np.mean(found)) for method, found in shares.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out/bases"))
    parser.add_argument("--bases", default=",".join(BASES))
    parser.add_argument("--pools", default=",".join(POOLS))
    parser.add_argument("--methods", default=",".join(SETTINGS))
    parser.add_argument("--seeds", type=int, default=3)
    a = parser.parse_args()
    print(HEAD, flush=True)
    for base in a.bases.split(","):
        for pool_name in a.pools.split(","):
            print(*lines(base, pool_name, a), sep="\n", flush=True)


if __name__ == "__main__":
    main()
