"""Benchmark: cost of the signals of one forward pass relative to the loss alone.

Each case computes its columns into a fresh store, like a selection: parse rows, load images, run
one forward pass, write results. The cases run in turn, and the fastest of several rounds counts.
Compares the CPU time of the process on a CPU, so that other processes matter little, and wall time
on a GPU.

    python benchmarks/signals.py [--rows N] [--rounds N] [--model SPEC ...] [--pool FILE]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from thresher.backends.hf.threads import limit_idle_threads  # noqa: E402

limit_idle_threads()

from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from thresher.backends import ModelHandle, resolve  # noqa: E402
from thresher.demo.pool import make_pool  # noqa: E402
from thresher.engine import RunContext  # noqa: E402
from thresher.engine.columns import compute_all  # noqa: E402
from thresher.pools import Pool, open_pool  # noqa: E402
from thresher.request import RunRequest  # noqa: E402
from thresher.signals import Embedding  # noqa: E402
from thresher.signals.answer_loss import AnswerLoss  # noqa: E402
from thresher.signals.entropy import Entropy  # noqa: E402
from thresher.signals.own_answer_gap import OwnAnswerGap  # noqa: E402
from thresher.storage.columns import Store  # noqa: E402
from thresher.types import ModelIdentity, Signal  # noqa: E402

LOSS, ALL = "loss", "loss, 2 embeddings, entropy, gap"


def cases(model: ModelIdentity) -> dict[str, dict[str, Signal]]:
    """Name -> the signals computed together."""
    loss: dict[str, Signal] = {"loss": AnswerLoss(model)}
    embeddings: dict[str, Signal] = {
        part: Embedding(model, 0.5, part) for part in ("question", "answer")
    }
    spread: dict[str, Signal] = {"entropy": Entropy(model), "gap": OwnAnswerGap(model)}
    return {
        LOSS: loss,
        ALL: loss | embeddings | spread,
        "loss, 2 embeddings": loss | embeddings,
        "loss, entropy, gap": loss | spread,
        "2 embeddings": embeddings,
        "loss without images": {"without": AnswerLoss(model, image=False)},
    }


def seconds(
    signals: Mapping[str, Signal], pool: Pool, handle: ModelHandle, store: Path, on_cpu: bool
) -> float:
    """Time in seconds to compute the signals into an empty store."""
    clock = time.process_time if on_cpu else time.perf_counter
    began = clock()
    request = RunRequest(on_missing="exclude")
    compute_all(signals, pool, request, RunContext(Store(store), handle))
    return clock() - began


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parse.add_argument("--rows", type=int, default=1000, help="rows of the demo's pool")
    parse.add_argument("--rounds", type=int, default=5)
    parse.add_argument("--model", action="append", help="default: demo; small: a 26 M Qwen2.5-VL")
    parse.add_argument("--device", default="auto")
    parse.add_argument("--pool", help="a pool instead of the demo's")
    given = parse.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        pool = open_pool(given.pool or make_pool(work / "pool", given.rows))
        for spec in given.model or ["demo"]:
            if spec == "small":
                from tests.tiny_models import build

                spec = str(build("qwen2_5_vl", size="small"))
            known = resolve(spec, device=given.device)
            backend = known.open()
            handle = ModelHandle(known.name, known.identity, lambda backend=backend: backend)
            on_cpu = backend.forward.device.type == "cpu"
            todo = cases(known.identity)
            took: dict[str, list[float]] = {name: [] for name in todo}
            for turn in range(given.rounds + 1):  # the first one warms up
                for name, signals in todo.items():
                    store = work / f"{len(took[LOSS])}-{turn}-{spec.replace('/', '_')}-{name}"
                    spent = seconds(signals, pool, handle, store, on_cpu)
                    took[name] += [spent] if turn else []
            best = {name: min(spent) for name, spent in took.items()}
            table = Table(title=f"{Path(spec).name}, {len(pool):,} rows, {backend.forward.device}")
            for head in ("signals", "seconds", "rows/s", "x the loss alone"):
                table.add_column(head, justify="left" if head == "signals" else "right")
            for name, spent in best.items():
                ratio = spent / best[LOSS]
                table.add_row(name, f"{spent:.2f}", f"{len(pool) / spent:.0f}", f"{ratio:.3f}")
            Console(width=100).print(table)


if __name__ == "__main__":
    main()
