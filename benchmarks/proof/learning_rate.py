"""Learning-rate sweep for a tiny model in short and long runs, on development data only.

Two data sets: the built-in world (pool and development questions on separate scenes), and
easy_vqa's train.json with the rows of every twentieth image held out (test.json is never opened).
Each rate trains on random rows for several numbers of steps. Each run is a line of a file and is
not repeated.

    python -m benchmarks.proof.learning_rate --out DIR [--model MODEL] [--seeds 2] [--lora
    5e-3,2e-3] [--full 1e-3] [--data world]
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from thresher.backends.hf.threads import limit_idle_threads

limit_idle_threads()

import numpy as np  # noqa: E402

from thresher.backends import resolve  # noqa: E402
from thresher.demo.pool import make_evaluation, make_pool  # noqa: E402
from thresher.evaluation import evaluate  # noqa: E402
from thresher.pools import Pool, open_pool  # noqa: E402
from thresher.storage.columns import Store  # noqa: E402
from thresher.training import fit  # noqa: E402
from thresher.training.recipe import Recipe  # noqa: E402

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "easy_vqa"
HELD_OUT = 20  # one in this many of easy_vqa's images is held out
JUDGED = 1000  # maximum number of held-out rows
BATCH = 16
STEPS = {"world": (40, 120, 375), "easy_vqa": (40, 120, 241, 1200)}


def world(folder: Path) -> tuple[Pool, Pool]:
    """6,000 rows of a pool that the proof does not use, and development questions."""
    if not (folder / "world" / "done").exists():
        make_pool(folder / "world" / "pool", 6000, seed=100)
        make_evaluation(folder / "world" / "development", 60, seed=0, split="development")
        (folder / "world" / "done").touch()
    return open_pool(folder / "world/pool/pool.json"), open_pool(
        folder / "world/development/evaluation.json"
    )


def easy_vqa(folder: Path) -> tuple[Pool, Pool]:
    """train.json in two parts that share no image."""
    parts = [folder / f"easy_vqa_{name}.json" for name in ("train", "held_out")]
    if not parts[1].exists():
        records = json.loads((SHARED / "train.json").read_bytes())
        names = sorted({r["image"] for r in records})
        apart = frozenset(names[::HELD_OUT])
        held = [r for r in records if r["image"] in apart]
        step = max(len(held) // JUDGED, 1)
        parts[0].write_text(json.dumps([r for r in records if r["image"] not in apart]))
        parts[1].write_text(json.dumps(held[::step][:JUDGED]))
    pool, judged = (open_pool(p, SHARED / "images") for p in parts)
    return pool, judged


def run(
    pool: Pool, judged: Pool, model: str, lora: bool, rate: float, steps: int, seed: int
) -> dict[str, Any]:
    rows = np.random.default_rng([seed, 7]).permutation(len(pool))[
        : steps * BATCH
    ]  # short runs see part of the long runs' rows
    with tempfile.TemporaryDirectory() as scratch:
        recipe = Recipe(learning_rate=rate, lora=lora, seed=seed, batch=BATCH)
        fitted = fit(model, pool, rows, recipe, Path(scratch) / "model", device="cpu")
        tuned = resolve(str(Path(scratch) / "model"), device="cpu")
        answered = evaluate(tuned, judged, score="generate", store=Store(Path(scratch) / "store"))
        shutil.rmtree(Path(scratch) / "model")
    return {
        "accuracy": answered.accuracy,
        "loss": float(np.mean(fitted.losses[-20:])),
        "seconds": fitted.seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--lora", default="5e-3,2e-3,1e-3")
    parser.add_argument("--full", default="1e-3,5e-4")
    parser.add_argument("--data", default="world,easy_vqa")
    parser.add_argument("--steps", default="", help="only these numbers of steps")
    a = parser.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    lines = a.out / "learning_rate.jsonl"
    done = [json.loads(x) for x in lines.read_text().splitlines()] if lines.exists() else []
    identity = resolve(a.model, device="cpu").identity.weights
    numbers = lambda text: [float(x) for x in text.split(",") if x]  # noqa: E731
    rates = [(True, r) for r in numbers(a.lora)] + [(False, r) for r in numbers(a.full)]
    for data in a.data.split(","):
        pool, judged = world(a.out) if data == "world" else easy_vqa(a.out)
        only = [int(x) for x in a.steps.split(",") if x] or STEPS[data]
        for seed in (int(s) for s in a.seeds.split(",")):
            for steps in only:
                for lora, rate in rates:
                    key = {
                        "data": data,
                        "lora": lora,
                        "rate": rate,
                        "steps": steps,
                        "seed": seed,
                        "base": identity,
                    }
                    if any(all(d[k] == v for k, v in key.items()) for d in done):
                        continue
                    began = time.monotonic()
                    found = run(pool, judged, a.model, lora, rate, steps, seed)
                    done.append({**key, **found})
                    with lines.open("a") as f:
                        f.write(json.dumps(done[-1]) + "\n")
                    print(
                        f"{data} {'lora' if lora else 'full'} {rate:g} {steps} steps seed {seed}: "
                        f"{100 * found['accuracy']:.1f}%  ({time.monotonic() - began:.0f} s)",
                        flush=True,
                    )
    print(table([d for d in done if d["base"] == identity]))


def table(done: list[dict[str, Any]]) -> str:
    """Markdown: mean accuracy over seeds (their range) for each rate and number of steps."""
    columns = [
        (d, s)
        for d in STEPS
        for s in STEPS[d]
        if any(x["data"] == d and x["steps"] == s for x in done)
    ]
    lines = [
        "| | " + " | ".join(f"{d}, {s:,} steps" for d, s in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for lora, rate in sorted({(x["lora"], x["rate"]) for x in done}, reverse=True):
        cells = []
        for d, s in columns:
            found = [
                100 * x["accuracy"]
                for x in done
                if (x["lora"], x["rate"], x["data"], x["steps"]) == (lora, rate, d, s)
            ]
            spread = f" ({min(found):.1f}–{max(found):.1f})" if len(found) > 1 else ""
            cells.append(f"{np.mean(found):.1f}{spread}" if found else "")
        lines.append(f"| {'LoRA' if lora else 'full'} {rate:g} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
