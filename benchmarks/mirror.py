"""Benchmark: does CLIPPER's coreset match the pool's log-perplexity better than random subsets?

For each pool and budget: Kolmogorov-Smirnov distance between coreset and pool of the zero-shot and
one-shot log-perplexity, with the median and the minimum of 100 random subsets. Scores are stored,
so a second run needs no model.

    python benchmarks/mirror.py [--quick] [--json FILE] [--seed N] [--store DIR]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import thresher
from thresher.samplers import ks_distance

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def pools(scratch: Path, quick: bool) -> dict[str, tuple[Path, Path]]:
    if SHARED.exists() and not quick:
        return {
            "easy_vqa": (SHARED / "easy_vqa/train.json", SHARED / "easy_vqa/images"),
            "NLVR": (SHARED / "nlvr/dev.json", SHARED / "nlvr/images"),
        }
    from thresher.demo.pool import make_pool

    file = make_pool(scratch, rows=1500)
    return {"built-in world": (file, file.parent)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="the built-in world only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    table = Table(
        title=f"KS distance to the pool, CLIPPER with the built-in model, seed {arguments.seed}"
    )
    for column in (
        "pool",
        "kept",
        "perplexity",
        "clipper",
        "median of 100 random",
        "smallest of 100",
        "ratio",
    ):
        table.add_column(column, justify="left" if column in ("pool", "perplexity") else "right")
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, (file, images) in pools(Path(scratch), arguments.quick).items():
            pool = thresher.open_pool(file, images)
            for budget in ("10%", "30%"):
                store = arguments.store or Path(scratch) / "store"
                outcome = thresher.select(
                    pool, "clipper", budget, model="demo", seed=arguments.seed, store=store
                ).outcome
                kept = np.flatnonzero(np.isin(outcome.considered, outcome.rows))
                rng = np.random.default_rng(arguments.seed)
                for column in ("nll", "nll_one_shot"):
                    values = np.asarray(outcome.evidence[column], float)
                    seen = np.isfinite(values)
                    ours = ks_distance(values[seen], values[kept][seen[kept]])
                    draws = []
                    for _ in range(100):
                        rows = rng.choice(len(values), len(kept), replace=False)
                        draws.append(ks_distance(values[seen], values[rows][seen[rows]]))
                    peer = float(np.median(draws))
                    label = "zero-shot" if column == "nll" else "one-shot"
                    table.add_row(
                        name,
                        f"{len(kept):,}",
                        label,
                        f"{ours:.4f}",
                        f"{peer:.4f}",
                        f"{min(draws):.4f}",
                        f"{peer / ours:.1f}x",
                    )
                    results.append(
                        {
                            "name": f"{name}, {budget}, {label}",
                            "ours": ours,
                            "peer": peer,
                            "ratio": peer / ours,
                            "unit": "KS",
                        }
                    )
    Console(width=120).print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
