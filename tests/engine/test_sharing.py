"""Several processes share one job: each row is scored once, and rows of a dead process are taken
over."""

from __future__ import annotations

import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests import runs as run
from tests.engine.judge_panel import Judge, Panel
from tests.engine.shared_job import asked, go, started
from tests.runs import compute
from tests.text_pools import HighestLoss, Loss, Model, record, write_pool
from tests.warm_process import WarmProcess, WarmServer
from thresher.backends.fake import IDENTITY
from thresher.engine.sharing import WorkQueue
from thresher.pools import open_pool
from thresher.storage import claims
from thresher.storage.claims import Claims
from thresher.storage.columns import Store
from thresher.types import DIGEST, Budget, Sample

ROWS = 240
JOB = """
import sys
from pathlib import Path
from tests.text_pools import HighestLoss, Model
from tests import runs as run
from thresher.selection.cost_lines import cost_line
from thresher.backends.fake import FakeBackend
from thresher.pools import open_pool
from thresher.storage.columns import Store
from thresher.types import Budget

folder, number, speed = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
kept = Store(folder / "store")
pool = open_pool(folder / "pool.json", cache=kept.root / "pools")
model = Model(kwargs=dict(seconds_per_row=1 / speed, log=folder / f"asked-{number}", piece=4))
print("ready", flush=True)
sys.stdin.readline()
outcome = run.select(pool, HighestLoss(), Budget.parse("20%"), model=model.handle, store=kept)
print(cost_line(outcome))
print(sorted(outcome.rows.tolist()))
"""


Start = Callable[[Path, int, float], WarmProcess]


@pytest.fixture
def start(warm: WarmServer) -> Start:
    """Starts JOB, which waits for `go`."""

    return partial(started, warm, JOB)


@pytest.fixture
def job(tmp_path: Path) -> Path:
    write_pool(tmp_path / "pool.json", [record(i) for i in range(ROWS)])
    return tmp_path


@pytest.mark.parametrize("processes", [2, 3])
def test_concurrent_processes_score_every_row_once(job: Path, start: Start, processes: int) -> None:
    many = [start(job, i, 200.0) for i in range(processes)]
    for process in many:
        go(process)
    texts = [process.communicate(timeout=120)[0].splitlines() for process in many]
    assert all(process.returncode == 0 for process in many)
    rows = asked(job, *range(processes))
    assert len(rows) == ROWS and set(Counter(rows).values()) == {1}
    assert len({lines[1] for lines in texts}) == 1  # the same selection
    shares = []
    for i, lines in enumerate(texts):
        found = re.search(
            r"(\d+) needed, (\d+) scored here, (\d+) by other processes, (\d+) "
            r"reused",
            lines[0],
        )
        assert found, lines
        expected, here, elsewhere, reused = map(int, found.groups())
        assert (
            expected == ROWS
            and here == len(asked(job, i))
            and here + elsewhere == ROWS
            and reused == 0
        )
        shares.append(here)
    assert min(shares) > ROWS / processes / 3
    assert not list((job / "store/claims").glob("*.claim"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_rows_of_a_killed_process_are_taken_over(job: Path, start: Start, number: int) -> None:
    doomed, other = start(job, 0, 20.0), start(job, 1, 200.0)
    go(doomed)
    deadline = time.monotonic() + 60
    while len(asked(job, 0)) < 8 and time.monotonic() < deadline:
        time.sleep(0.02)
    go(other)
    while not asked(job, 1) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(doomed.pid, number)
    doomed.communicate(timeout=60)
    text = other.communicate(timeout=120)[0]
    assert other.returncode == 0 and doomed.returncode != 0 and "needed" in text
    alone = Store(job / "alone")
    model = Model()
    pool = open_pool(job / "pool.json")
    outcome = run.select(pool, HighestLoss(), Budget.parse("20%"), model=model.handle, store=alone)
    assert text.splitlines()[1] == str(sorted(outcome.rows.tolist()))
    assert len(set(asked(job, 0, 1))) == ROWS
    assert not list((job / "store/claims").glob("*.claim"))


def digests(n: int) -> np.ndarray:
    return np.array([bytes([i]) * 32 for i in range(1, n + 1)], DIGEST)


def work_queue(root: Path, n: int = 40, processes: int = 1) -> WorkQueue:
    columns, retried = [("f" * 32, Loss.fields)], np.zeros(n, bool)
    return WorkQueue(Store(root), columns, digests(n), retried, 0, lambda rows: None, processes)


def test_late_process_gets_a_share_of_the_rest(tmp_path: Path) -> None:
    with work_queue(tmp_path) as first:
        a = first.next_block(lambda: None, lambda: None)
        with work_queue(tmp_path) as late:
            b = late.next_block(lambda: None, lambda: None)
            assert a is not None and b is not None
            assert len(a) == 20 and len(b) == 8 and not set(a.tolist()) & set(b.tolist())


@pytest.mark.parametrize(("processes", "rows"), [(1, 80), (2, 40), (5, 16)])
def test_first_process_leaves_rows_for_expected_ones(
    tmp_path: Path, processes: int, rows: int
) -> None:
    with work_queue(tmp_path, 160, processes) as first:
        block = first.next_block(lambda: None, lambda: None)
        assert block is not None and len(block) == rows


def test_blocks_are_as_large_as_their_cost(tmp_path: Path) -> None:
    """100 rows of cost 9 before 100 of cost 1: the first 55 rows are half of all cost, the next 28
    half of what is left then."""
    store, costs = Store(tmp_path), np.repeat([9.0, 1.0], 100)
    columns, keys = [("f" * 32, Loss.fields)], digests(200)
    rows, left = [], float(costs.sum())
    retried = np.zeros(200, bool)
    with WorkQueue(store, columns, keys, retried, 0, lambda n: None, 1, costs) as queue:
        while (block := queue.next_block(lambda: None, lambda: None)) is not None:
            cost, smallest = costs[block].sum(), 8 * costs.mean()
            assert cost <= max(left / 2, smallest)
            left -= cost
            rows.append(len(block))
            values = {f.name: np.zeros(len(block), f.dtype) for f in Loss.fields}
            store.append("f" * 32, Loss.fields, keys[block], values, [""] * len(block))
            queue.mark_stored(block)
    assert rows[:2] == [55, 28] and sum(rows) == 200


def test_expensive_rows_make_blocks_of_one(tmp_path: Path) -> None:
    queue = work_queue(tmp_path)
    queue._costs = np.array([1000.0] + [1.0] * 39)
    with queue:
        block = queue.next_block(lambda: None, lambda: None)
        assert block is not None and block.tolist() == [0]


def test_claims_of_other_columns_and_rows_do_not_block(tmp_path: Path) -> None:
    one, two = Claims(tmp_path, ["a", "b"]), Claims(tmp_path, ["c"])
    three = Claims(tmp_path, ["b"])
    with one, two, three:
        one.claim(digests(3))
        assert two.other_claims() == []
        assert [len(k) for k in three.other_claims()] == [3] and [
            len(k) for k in one.other_claims()
        ] == [0]


@pytest.mark.parametrize("left", ["half a line", "no lock file", "keys cut off"])
def test_claims_of_killed_processes_are_removed(tmp_path: Path, left: str) -> None:
    own = Claims(tmp_path, ["a"])
    head = b'{"host": "%s", "process": 1, "fingerprints": ["a"]}\n' % claims._host().encode()
    body = {
        "half a line": head[:20],
        "no lock file": head + bytes(32),
        "keys cut off": head + bytes(40),
    }[left]
    with own:
        (tmp_path / "claims/dead.claim").write_bytes(body)
        if left != "no lock file":
            (tmp_path / "claims/dead.lock").touch()
        assert own.other_claims() == []
        assert [p.name for p in (tmp_path / "claims").glob("*.claim")] == [own.file.name]


def test_remote_claim_is_alive_while_it_is_renewed(tmp_path: Path) -> None:
    far = tmp_path / "claims/far.claim"
    with Claims(tmp_path, ["a"]) as own:
        far.write_bytes(
            b'{"host": "elsewhere", "process": 1, "fingerprints": ["a"]}\n' + digests(2).tobytes()
        )
        assert [len(k) for k in own.other_claims()] == [2]
        old = time.time() - claims.DEAD_AFTER - 60
        os.utime(far, (old, old))
        assert own.other_claims() == [] and not far.exists()


def test_claims_without_file_locks_expire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: object, *_: object, **__: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(claims.FileLock, "acquire", refused)
    with Claims(tmp_path, ["a"]) as one, Claims(tmp_path, ["a"]) as two:
        with one.exclusive():
            one.claim(digests(2))
        assert [len(k) for k in two.other_claims()] == [2]
        old = time.time() - claims.DEAD_AFTER - 60
        os.utime(one.file, (old, old))
        assert two.other_claims() == []


@pytest.mark.parametrize("copies", [0, 5])
def test_rows_excluded_meanwhile_do_not_count(tmp_path: Path, copies: int) -> None:
    """Questions are asked in one pass; a row that fails the first is not wanted for the second, and
    was scored all the same."""
    records = [record(i) for i in range(200)] + [record(i) for i in range(copies)]
    pool = open_pool(write_pool(tmp_path / "p.json", records))
    for run_before in (False, True):
        values = {
            "model": Judge(fails="a").handle,
            "store": Store(tmp_path / "store"),
            "on_missing": "exclude",
        }
        a, b = run.select(pool, Panel("a,b"), Budget.parse("10"), **values).signals  # type: ignore[arg-type]
        assert a.needed == 200 and a.failed > 0 and b.needed == 200 - a.failed
        assert [s.scored for s in (a, b)] == ([0, 0] if run_before else [a.needed, b.needed])
        assert [s.reused for s in (a, b)] == ([a.needed, b.needed] if run_before else [0, 0])
        assert [s.elsewhere for s in (a, b)] == [0, 0]


def test_stored_failure_is_retried_by_one_process(tmp_path: Path) -> None:
    pool = open_pool(write_pool(tmp_path / "p.json", [record(i) for i in range(40)]))
    store = Store(tmp_path / "store")
    bad = pool.sample(3).digest

    def fails(sample: Sample) -> str:
        return "broken" if sample.digest == bad else ""

    loss = Loss(IDENTITY)
    first = compute(loss, pool, store=store, model=Model(fails).handle, on_missing="exclude")
    assert first.errors[3] == "broken"
    model = Model()
    again = compute(
        loss, pool, store=store, model=model.handle, on_missing="exclude", retry_errors=True
    )
    assert again.errors[3] == "" and model.scored == 1


@pytest.mark.parametrize("merged", [False, True])
def test_a_failure_is_retried_once_by_a_command(tmp_path: Path, merged: bool) -> None:
    """Of ten rows, row 0 failed before the command began, and row 1 since."""
    store, keys, fp = Store(tmp_path), digests(10), "f" * 32

    def append(rows: list[int], error: str) -> None:
        values = {f.name: np.zeros(len(rows), f.dtype) for f in Loss.fields}
        store.append(fp, Loss.fields, keys[rows], values, [error] * len(rows))

    append([0, 1, 2], "before")
    since = time.time_ns()
    append([1], "since")
    append([2], "")
    if merged:
        store._merge(fp, Loss.fields, store.parts(fp))
        assert len(store.parts(fp)) == 1
    retried = np.arange(10) < 3
    columns = [(fp, Loss.fields)]
    with WorkQueue(store, columns, keys, retried, since, lambda rows: None) as queue:
        assert np.flatnonzero(queue.done).tolist() == [1, 2]
    with WorkQueue(store, columns, keys, ~retried, since, lambda rows: None) as queue:
        assert np.flatnonzero(queue.done).tolist() == [0, 1, 2]


def test_waiting_is_reported_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "poll_seconds", 0.01)
    store, results = Store(tmp_path), []
    fp = "f" * 32
    keys = digests(10)
    other = Claims(tmp_path, [fp])

    def waiting(rows: int) -> None:
        results.append(rows)
        values = {f.name: np.zeros(10, f.dtype) for f in Loss.fields}
        store.append(fp, Loss.fields, keys, values, [""] * 10)
        other.__exit__()

    other.__enter__()
    other.claim(keys)
    with WorkQueue(store, [(fp, Loss.fields)], keys, np.zeros(10, bool), 0, waiting) as queue:
        assert queue.next_block(lambda: None, lambda: None) is None
    assert results == [10] and queue.elsewhere.all() and not queue.scored_here.any()
