"""Cells that several processes share: each is computed once, and those of a dead process are taken
over."""

from __future__ import annotations

import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from tests.compare.shared_comparison import CELLS, SEED_MODELS, SharedComparison
from tests.warm_process import WarmServer
from thresher.compare.cells import Cell
from thresher.compare.queue import CellQueue
from thresher.training.recipe import Recipe


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, warm: WarmServer) -> str:
    """What one process writes."""
    shared = SharedComparison(tmp_path_factory.mktemp("alone"), warm, seconds=0)
    (process,) = shared.start(1)
    assert process.wait() == 0
    return shared.written()


def test_processes_share_the_cells_and_write_the_same_table(
    tmp_path: Path, warm: WarmServer, alone: str
) -> None:
    shared = SharedComparison(tmp_path, warm, seconds=0.02)
    outputs = [process.communicate() for process in shared.start(3)]
    assert shared.written() == alone
    assert len(shared.evaluated()) == shared.evaluated().total() == CELLS
    assert shared.trained() == CELLS + SEED_MODELS
    begun = [out.splitlines() for out, _ in outputs]
    assert all(begun) and sum(map(len, begun)) == CELLS, outputs


def test_cells_of_a_killed_process_are_taken_over(
    tmp_path: Path, warm: WarmServer, alone: str
) -> None:
    shared = SharedComparison(tmp_path, warm, seconds=0.1)
    first, second = shared.start(2)
    deadline = time.monotonic() + 60
    while len(shared.finished()) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(random.Random(os.urandom(8)).uniform(0, 0.2))
    first.kill()
    assert first.wait() == -signal.SIGKILL and len(shared.finished()) < CELLS
    assert second.wait() == 0
    assert shared.written() == alone
    assert len(shared.evaluated()) == CELLS and shared.evaluated().total() <= CELLS + 1
    assert not list((tmp_path / "out/cells/claims").glob("*.claim"))
    # and a later one has nothing left to do
    (third,) = shared.start(1)
    assert third.communicate() == ("", "") and shared.written() == alone


# ---------------------------------------------------------------------------------------- one queue


def cells(number: int) -> list[Cell]:
    return [Cell("random", "10%", 30, seed, f"{seed:064x}", Recipe()) for seed in range(number)]


def queue(out: Path, number: int) -> CellQueue:
    def damaged(*_: object) -> None:
        raise AssertionError

    def waiting(missing: int) -> None:
        raise TimeoutError(missing)

    (out / "cells").mkdir(parents=True, exist_ok=True)
    return CellQueue(out, cells(number), damaged, waiting)


def publish(taken: tuple[int, Cell] | None, queue: CellQueue, out: Path) -> None:
    assert taken is not None
    path = out / "cells" / f"{taken[1].fingerprint}.json"
    queue.publish(taken[1], lambda: path.write_text("{}"))


def test_nobody_takes_a_claimed_cell(tmp_path: Path) -> None:
    with queue(tmp_path, 2) as first, queue(tmp_path, 2) as second:
        one, two = first.next(), second.next()
        assert one == (1, cells(2)[0]) and two == (2, cells(2)[1])
        publish(one, first, tmp_path)
        with pytest.raises(TimeoutError) as waits:
            first.next()
        assert waits.value.args == (1,)
        publish(two, second, tmp_path)
        assert first.next() is second.next() is None


def test_a_cell_is_free_again_when_its_process_has_ended(tmp_path: Path) -> None:
    with queue(tmp_path, 1) as first:
        with queue(tmp_path, 1) as second:
            assert second.next() == (1, cells(1)[0])
            with pytest.raises(TimeoutError):
                first.next()
        assert first.next() == (1, cells(1)[0])


def test_a_cell_on_the_same_rows_waits_for_their_training(tmp_path: Path) -> None:
    key = bytes(range(31)) + b"\0"  # an array of digests strips the last byte
    with queue(tmp_path, 3) as first, queue(tmp_path, 3) as second:
        one, two = first.next(), second.next()
        assert one is not None and two is not None
        assert first.claim_training(one[1], key)
        assert not second.claim_training(two[1], key)
        three = second.next()
        assert three is not None and three[1] == cells(3)[2]  # not the one that was put off
        publish(three, second, tmp_path)
        with pytest.raises(TimeoutError):
            second.next()
        publish(one, first, tmp_path)
        assert first.next() == (3, cells(3)[1])  # which the first may compute
        publish((3, cells(3)[1]), first, tmp_path)
        assert first.next() is second.next() is None


def test_a_process_that_was_taken_for_dead_does_not_overwrite_a_cell(tmp_path: Path) -> None:
    with queue(tmp_path, 1) as first:
        taken = first.next()
        publish(taken, first, tmp_path)
        assert taken is not None
        first.publish(taken[1], lambda: pytest.fail("written twice"))


def test_many_threads_take_each_cell_once(tmp_path: Path) -> None:
    threads = 4
    all_are_there = Barrier(threads)

    def take(_: int) -> list[int]:
        seeds = []
        with queue(tmp_path, 40) as own:
            all_are_there.wait(60)
            own._waiting = lambda missing: None
            while (taken := own.next()) is not None:
                seeds.append(taken[1].seed)
                publish(taken, own, tmp_path)
        return seeds

    with ThreadPoolExecutor(threads) as pool:
        taken = [seed for seeds in pool.map(take, range(threads)) for seed in seeds]
    assert sorted(taken) == list(range(40))
