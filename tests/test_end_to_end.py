"""The main workflow with the built-in model on slices of real data, end to end.

Everything runs on one thread of a CPU, in about a minute together; `shared` skips where the data is
absent.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import runs as run
from tests.runs import plan
from thresher.backends import ModelHandle, resolve
from thresher.backends.hf.load import BATCH_TOKENS
from thresher.methods import load
from thresher.pools import Pool, open_pool
from thresher.samplers import ks_distance
from thresher.selection import folder as output
from thresher.selection.result import Outcome
from thresher.storage.columns import Store
from thresher.types import Budget

SLICES = {
    "easy_vqa": ("easy_vqa/train.json", "easy_vqa/images", 700),
    "nlvr": ("nlvr/dev.json", "nlvr/images", 700),
}
SMALL = 200  # rows of the runs that are repeated

# The job as a separate process. argv: pool, images, folder, renames before it kills itself (0: it
# does not). Small batches and parts, and results at once, so that the kill comes in the middle of a
# column.
JOB = """
import os, signal, sys
from pathlib import Path
from thresher.selection import folder as output
from tests import runs as run
from thresher.storage import columns as store
from thresher.backends import resolve
from thresher.backends.hf import backend
from thresher.engine import local
from thresher.methods import load
from thresher.pools import open_pool
from thresher.types import Budget

pool, images, folder, left = sys.argv[1], sys.argv[2], Path(sys.argv[3]), [int(sys.argv[4])]
tokens = None
if left[0]:
    tokens = 512
    local.score.__kwdefaults__["flush_rows"] = 16
    backend.YIELD_SECONDS = 0.0
    rename = os.replace

    def replace(a, b):
        rename(a, b)
        left[0] -= "part-" in str(b)
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = replace
opened = open_pool(pool, images)
model, kept = resolve("demo", batch_tokens=tokens), store.Store(folder / "store")
outcome = run.select(opened, load("clipper"), Budget.parse("30%"), model=model, store=kept)
output.write(outcome, opened, None, folder / "out")
print([s.scored for s in outcome.signals])
"""


@dataclass
class Slice:
    """Some rows of a real pool, in a separate file."""

    path: Path
    images: Path

    def pool(self) -> Pool:
        return open_pool(self.path, self.images)

    def job(
        self, folder: Path, *, hashseed: str, parts: int = 0
    ) -> subprocess.CompletedProcess[str]:
        """Select in another process; after `parts` files of scores it kills itself."""
        environment = {**os.environ, "PYTHONHASHSEED": hashseed, "OMP_NUM_THREADS": "1"}
        arguments = [
            sys.executable,
            "-c",
            JOB,
            str(self.path),
            str(self.images),
            str(folder),
            str(parts),
        ]
        return subprocess.run(
            arguments, env=environment, capture_output=True, text=True, timeout=300
        )


Slicer = Callable[..., Slice]


@pytest.fixture(scope="module")
def sliced(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Slicer:
    """`sliced("nlvr", rows)`: a random sample of that many rows."""

    def make(name: str, rows: int) -> Slice:
        file, images, _ = SLICES[name]
        records = json.loads((shared / "data" / file).read_text("utf-8"))
        random.Random(1).shuffle(records)
        path = tmp_path_factory.mktemp("slice") / "pool.json"
        path.write_text(json.dumps(records[:rows], indent=1))
        return Slice(path, shared / "data" / images)

    return make


@pytest.fixture(scope="module")
def small(sliced: Slicer) -> Slice:
    return sliced("easy_vqa", SMALL)


@pytest.fixture(scope="module")
def expected(small: Slice, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What an undisturbed process writes."""
    folder = tmp_path_factory.mktemp("expected")
    ended = small.job(folder, hashseed="1")
    assert ended.returncode == 0, ended.stderr
    return written(folder / "out")


def written(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("subset.json", "selection.parquet")}


def choose(
    pool: Pool, store: Path, *, budget: str = "30%", seed: int = 0, model: ModelHandle | None = None
) -> Outcome:
    return run.select(
        pool,
        load("clipper"),
        Budget.parse(budget),
        seed=seed,
        model=model or resolve("demo"),
        store=Store(store),
    )


def unopened() -> ModelHandle:
    """The demo model, as one that must not be opened."""
    return replace(resolve("demo"), open=lambda: pytest.fail("a model was opened"))


# ------------------------------------------------------------------------ what a selection is worth


@pytest.mark.parametrize("name", ["easy_vqa", pytest.param("nlvr", marks=pytest.mark.slow)])
def test_coreset_matches_both_perplexities_better_than_random(
    sliced: Slicer, tmp_path: Path, name: str
) -> None:
    pool = sliced(name, SLICES[name][2]).pool()
    first = choose(pool, tmp_path, budget="200")
    # equal rows are scored once
    assert [s.scored for s in first.signals] == [len(np.unique(pool.digest))] * 3
    for budget in ("200", "30%"):
        # a second budget opens no model …
        outcome = choose(pool, tmp_path, budget=budget, model=unopened())
        assert [s.scored for s in outcome.signals] == [0, 0, 0]  # … and scores nothing
        k, n = len(outcome.rows), len(outcome.considered)
        assert k >= 200
        rng = np.random.default_rng(0)
        draws = [rng.choice(n, k, replace=False) for _ in range(100)]
        kept = np.isin(outcome.considered, outcome.rows)
        for column in ("nll", "nll_one_shot"):
            values = outcome.evidence[column]
            of_random = np.median([ks_distance(values, values[d]) for d in draws])
            assert ks_distance(values, values[kept]) < of_random, (column, k)


# ----------------------------------------------------------------------------------- the same bytes


@pytest.mark.slow  # `expected` comes from a process of another hash seed than the tests below
def test_result_does_not_depend_on_the_hash_seed(
    small: Slice, expected: dict[str, bytes], tmp_path: Path
) -> None:
    ended = small.job(tmp_path, hashseed="2")
    assert ended.returncode == 0, ended.stderr
    assert written(tmp_path / "out") == expected


def test_kill_in_the_middle_of_a_column_does_not_change_the_result(
    small: Slice, expected: dict[str, bytes], tmp_path: Path
) -> None:
    killed = small.job(tmp_path, hashseed="3", parts=4)
    assert killed.returncode == -signal.SIGKILL and not (tmp_path / "out").exists()
    pool = small.pool()
    outcome = choose(pool, tmp_path / "store")
    output.write(outcome, pool, None, tmp_path / "out")
    scored = [s.scored for s in outcome.signals]
    # went on in the first column
    assert 0 < scored[0] <= SMALL - 4 * 16 and scored[1:] == [SMALL, SMALL]
    assert written(tmp_path / "out") == expected


def test_result_does_not_depend_on_the_batch(
    small: Slice, expected: dict[str, bytes], tmp_path: Path
) -> None:
    pool = small.pool()
    assert BATCH_TOKENS["cpu"] == 8 * 512  # what `expected` was made with
    outcome = choose(pool, tmp_path / "store", model=resolve("demo", batch_tokens=512))
    output.write(outcome, pool, None, tmp_path / "out")
    assert written(tmp_path / "out") == expected


def test_a_shuffled_pool_gives_the_same_set(
    small: Slice, expected: dict[str, bytes], tmp_path: Path
) -> None:
    records = json.loads(small.path.read_text("utf-8"))
    random.Random(2).shuffle(records)
    (tmp_path / "pool.json").write_text(json.dumps(records))
    pool = open_pool(tmp_path / "pool.json", small.images)
    chosen = {
        json.dumps(records[row], sort_keys=True)
        for row in choose(pool, tmp_path / "store").rows.tolist()
    }
    assert chosen == {
        json.dumps(record, sort_keys=True) for record in json.loads(expected["subset.json"])
    }


# ---------------------------------------------------------------------------- reuse, failures, cost


def test_another_seed_reuses_the_first_stage(small: Slice, tmp_path: Path) -> None:
    pool = small.pool()
    first = choose(pool, tmp_path)
    other = choose(pool, tmp_path, seed=1)
    assert other.signals[0].label == "loss" and other.signals[0].scored == 0
    assert all(s.scored > 0 for s in other.signals[1:])  # other demonstrations: other pairs
    assert set(other.rows.tolist()) != set(first.rows.tolist())


def test_one_broken_image_in_a_hundred_is_left_out_and_counted(
    small: Slice, tmp_path: Path
) -> None:
    records: list[dict[str, Any]] = json.loads(small.path.read_text("utf-8"))
    used: dict[str, int] = {}
    for record in records:
        used[record["image"]] = used.get(record["image"], 0) + 1
        (tmp_path / "images" / record["image"]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(small.images / record["image"], tmp_path / "images" / record["image"])
    broken = [name for name, times in used.items() if times == 1][: SMALL // 100]
    for name in broken:
        file = tmp_path / "images" / name
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    pool = open_pool(small.path, tmp_path / "images")
    outcome = choose(pool, tmp_path / "store")
    assert len(outcome.rows) == 60 and outcome.excluded == len(broken) == 2
    assert sorted(records[f.row]["image"] for f in outcome.failures) == sorted(broken)
    assert not {records[row]["image"] for row in outcome.rows.tolist()} & set(broken)
    output.write(outcome, pool, None, tmp_path / "out")
    assert len((tmp_path / "out" / "failures.jsonl").read_text().splitlines()) == 2


@pytest.mark.slow  # and only on a machine that does nothing else: it compares times
def test_plan_is_accurate_within_a_factor_of_two(sliced: Slicer, tmp_path: Path) -> None:
    pool = sliced("easy_vqa", 1500).pool()
    foreseen = plan(pool, load("clipper"), Budget.parse("30%"), resolve("demo"), Store(tmp_path))
    assert foreseen.hours is not None
    began = time.monotonic()
    choose(pool, tmp_path)
    actual = time.monotonic() - began
    assert actual / 2 < 3600 * foreseen.hours < actual * 2
