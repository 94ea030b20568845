"""Benchmark of `thresher select` on a large pool: time and peak memory of whole processes after the
first opening.

The pool is synthetic: text-only LLaVA rows from 100 sources. The baseline is the naive script:
json.load, select, json.dump.

`--winnow` measures selections from stored scores instead: those of the built-in model are replaced
by random losses and by vectors of 500 directions with noise, so no model runs. The first selection
computes the skills; winnow's others are of another budget, and they and the other methods score
nothing. With `--folder`, the pool and its scores are kept for further runs, such as one of another
version of thresher (in PYTHONPATH).

    python -m benchmarks.million [--winnow [--folder DIR]] [--quick] [--json FILE] [--rows N]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from thresher.console.peak_memory import in_bytes

if TYPE_CHECKING:
    from thresher.engine import ScoredKeys, ScoringRequest
    from thresher.storage.columns import Store
    from thresher.types import Signal

FROM_SCORES = (  # what is measured, budget, method, settings
    ("winnow, first selection: skills", "10%", "winnow"),
    *((f"winnow, another budget: {b}", b, "winnow") for b in ("1%", "10%", "30%", "70%")),
    ("random", "10%", "random"),
    ("stratified", "10%", "stratified"),
    ("stratified by skill", "10%", "stratified", "by=skill"),
    ("perplexity", "10%", "perplexity"),
    ("clipper", "10%", "clipper"),
)

NAIVE = """
import json, random, sys
rows = json.load(open(sys.argv[1]))
if sys.argv[2] == "random":
    kept = random.Random(0).sample(range(len(rows)), len(rows) // 10)
elif sys.argv[2] == "length":
    words = [sum(len(t["value"].split()) for t in r["conversations"] if t["from"] == "gpt") for r in rows]
    kept = sorted(range(len(rows)), key=lambda i: -words[i])[: len(rows) // 10]
else:
    groups = {}
    for i, r in enumerate(rows):
        groups.setdefault(r["data_source"], []).append(i)
    kept = [i for g in groups.values() for i in random.Random(0).sample(g, len(g) // 10)]
json.dump([rows[i] for i in sorted(kept)], open(sys.argv[3], "w"))
"""  # noqa: E501


def generate(path: Path, rows: int) -> None:
    rng = random.Random(0)
    words = [f"word{i}" for i in range(5000)]
    with path.open("w") as f:
        f.write("[\n")
        for i in range(rows):
            question = " ".join(rng.choices(words, k=10))
            answer = " ".join(rng.choices(words, k=rng.randint(1, 25)))
            turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
            record = {
                "id": f"row_{i}",
                "data_source": f"source_{i * 7919 % 100}",
                "conversations": turns,
            }
            f.write(json.dumps(record) + (",\n" if i < rows - 1 else "\n"))
        f.write("]\n")


def run(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Wall time (s) and peak memory (GB) of a whole process."""
    wall, _, memory = measured(command, environment)
    return wall, memory


def measured(command: list[str], environment: dict[str, str]) -> tuple[float, float, float]:
    """Wall time (s), CPU time (s) and peak memory (GB) of a whole process."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        assert process.stderr is not None
        raise SystemExit(f"{' '.join(command)} failed:\n{process.stderr.read().decode()}")
    wall, cpu = time.perf_counter() - start, usage.ru_utime + usage.ru_stime
    return wall, cpu, in_bytes(usage.ru_maxrss) / 1e9


def plant(pool_file: Path, store_folder: Path) -> None:
    """Store a loss and two vectors for each row under the identity of the built-in model."""

    from benchmarks.skills import world

    from thresher.backends import resolve
    from thresher.engine import RunContext, create_engine
    from thresher.methods import load
    from thresher.pools import open_pool
    from thresher.request import RunRequest
    from thresher.signals.embedding import Embedding
    from thresher.signals.vectors import WIDTH, as_bytes
    from thresher.storage.columns import Store
    from thresher.types import MethodContext

    pool, store = open_pool(pool_file, cache=store_folder / "pools"), Store(store_folder)
    keys = np.unique(pool.digest)
    handle = resolve("demo", device="cpu", cache=store.root / "models")
    model = handle.identity
    signals = load("winnow", {"trust": "base", "guard": "off"}).signals(MethodContext(model))
    m = len(keys)
    loss = signals["loss"]
    store.append(store.register(loss), loss.fields, keys, random_losses(loss, m), [""] * m)
    for seed, part in enumerate(("question", "answer")):
        signal = Embedding(model, part=part)
        vectors = np.zeros((m, WIDTH), np.float16)
        vectors[:, :64] = world(m, seed)[0]
        store.append(
            store.register(signal), signal.fields, keys, {"vector": as_bytes(vectors)}, [""] * m
        )
    signals = load("clipper", {}).signals(MethodContext(model))
    request, context = RunRequest(), RunContext(store, handle)
    create_engine(pool, signals, request, context, scorer=RandomScorer(store)).columns(signals)


class RandomScorer:
    """Stores random losses in place of a model's.

    Arguments:
        store: where they are stored.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def score(self, requests: Sequence[ScoringRequest]) -> list[ScoredKeys]:
        """As `thresher.engine.scoring.Scorer.score`."""
        from thresher.engine import ScoredKeys

        for request in requests:
            keys, signal = request.keys[request.missing], request.signal
            values = random_losses(signal, len(keys))
            fingerprint = self.store.register(signal)
            self.store.append(fingerprint, signal.fields, keys, values, [""] * len(keys))
        return [ScoredKeys(request.fingerprint, request.keys, keys[:0]) for request in requests]


def random_losses(signal: Signal, rows: int) -> dict[str, np.ndarray]:
    """Random values of the field `nll`, and ones of others.

    Arguments:
        signal: with these fields.
        rows: number of values.
    """
    drawn = {"nll": np.random.default_rng(0).gamma(2.0, 0.7, rows)}
    return {f.name: drawn.get(f.name, np.ones(rows)).astype(f.dtype) for f in signal.fields}


def again(pool_file: Path, store_folder: Path, budget: str) -> None:
    """Print the CPU seconds of a selection in this process, by step, as JSON."""
    from thresher.backends import resolve
    from thresher.engine import RunContext
    from thresher.methods import load
    from thresher.pools import open_pool
    from thresher.request import RunRequest
    from thresher.selection import folder as output
    from thresher.selection import select as run
    from thresher.selection.task import SelectionTask
    from thresher.storage.columns import Store
    from thresher.types import Budget

    store = Store(store_folder)
    model = resolve("demo", device="cpu", cache=store.root / "models")
    times = [time.process_time()]
    pool = open_pool(pool_file, cache=store.root / "pools")
    times.append(time.process_time())
    method = load("winnow", {"trust": "base", "guard": "off"})
    request = RunRequest(pool=str(pool_file), method="winnow", budget=budget)
    task = SelectionTask(pool, method, Budget.parse(budget), request)
    outcome = run.select(task, RunContext(store, model))
    times.append(time.process_time())
    assert not any(signal.scored for signal in outcome.signals)
    output.write(outcome, pool, request, store_folder.parent / "again", overwrite=True)
    times.append(time.process_time())
    steps = zip(("open", "select", "write"), times, times[1:], strict=False)
    print(json.dumps({step: end - start for step, start, end in steps}))


def from_scores(rows: int, folder: Path) -> list[dict[str, Any]]:
    """Selections from `rows` rows with planted scores; the first only where there are none yet."""
    pool, store = folder / "pool.json", folder / "store"
    environment = {**os.environ, "THRESHER_STORE": str(store)}
    this = [sys.executable, "-m", "benchmarks.million"]
    cases = FROM_SCORES
    if pool.exists():
        cases = cases[1:]
    else:
        generate(pool, rows)
        run([*this, "--plant", str(pool), str(store)], environment)
    table = Table(title=f"{rows:,} rows ({platform.machine()})")
    for column in ("", "wall s", "CPU s", "GB", "open, select, write: CPU s"):
        table.add_column(column, justify="left" if not column else "right")
    results: list[dict[str, Any]] = []
    for name, budget, method, *words in cases:
        words = ["trust=base", "guard=off"] if method == "winnow" else words
        settings = ["--set", *words] if words else []
        command = [sys.executable, "-m", "thresher", "select", str(pool), "--budget", budget]
        command += ["--method", method, "--model", "demo", *settings]
        command += ["--out", str(folder / "out"), "--overwrite"]
        wall, cpu, memory = measured(command, environment)
        steps: dict[str, float] = {}
        if "another budget" in name:
            inside = [*this, "--again", str(pool), str(store), budget]
            steps = json.loads(subprocess.check_output(inside, env=environment))
        table.add_row(
            name,
            f"{wall:.1f}",
            f"{cpu:.1f}",
            f"{memory:.2f}",
            ", ".join(f"{seconds:.2f}" for seconds in steps.values()),
        )
        results.append({"name": name, "wall": wall, "cpu": cpu, "memory": memory, "steps": steps})
    Console(width=110).print(table)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="100,000 rows")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--winnow", action="store_true", help="selections from stored scores")
    parser.add_argument("--folder", type=Path, help="keeps pool and scores of --winnow")
    parser.add_argument("--plant", type=Path, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--again", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.plant:
        plant(*arguments.plant)
        return
    if arguments.again:
        again(Path(arguments.again[0]), Path(arguments.again[1]), arguments.again[2])
        return
    rows = arguments.rows or (100_000 if arguments.quick else 1_000_000)
    results: list[dict[str, Any]] = []
    if arguments.winnow:
        with tempfile.TemporaryDirectory() as scratch:
            results = from_scores(rows, arguments.folder or Path(scratch))
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=1))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        pool = folder / "pool.json"
        generate(pool, rows)
        environment = {**os.environ, "THRESHER_STORE": str(folder / "store")}
        table = Table(
            title=f"{rows:,} text-only rows ({pool.stat().st_size / 1e6:,.0f} MB), 10% kept, whole "
            "processes"
        )
        for column in ("", "thresher s", "naive s", "ratio", "thresher GB", "naive GB"):
            table.add_column(column, justify="left" if not column else "right")
        thresher = [
            sys.executable,
            "-m",
            "thresher",
            "select",
            str(pool),
            "--budget",
            "10%",
            "--out",
            str(folder / "out"),
        ]
        first, _ = run([*thresher, "--method", "random"], environment)
        for method in ("random", "length", "stratified"):
            ours, memory = run([*thresher, "--method", method], environment)
            naive = [sys.executable, "-c", NAIVE, str(pool), method, str(folder / "naive.json")]
            peer, peer_memory = run(naive, environment)
            table.add_row(
                method,
                f"{ours:.1f}",
                f"{peer:.1f}",
                f"{peer / ours:.1f}x",
                f"{memory:.2f}",
                f"{peer_memory:.2f}",
            )
            results += [
                {
                    "name": f"{method}: seconds",
                    "ours": ours,
                    "peer": peer,
                    "ratio": peer / ours,
                    "unit": "s",
                },
                {
                    "name": f"{method}: memory",
                    "ours": memory,
                    "peer": peer_memory,
                    "ratio": peer_memory / memory,
                    "unit": "GB",
                },
            ]
        table.caption = (
            f"The first opening, which reads and digests the file, took {first:.1f} s with its "
            "selection."
        )
    Console(width=110).print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
