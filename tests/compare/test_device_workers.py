"""`compare --devices`: workers divide the cells; those of one that is killed or fails are computed
by another one."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.compare.shared_comparison import (
    CELLS,
    SEED_MODELS,
    Computed,
    job_in,
    untimed,
    write_pools,
)
from tests.text_pools import record, write_pool
from tests.tracking.recording_tracker import RecordingTracker
from thresher.cli import main
from thresher.compare import compare, device_workers
from thresher.compare.cells import Cell
from thresher.compare.device_workers import DeviceWorkers
from thresher.compare.request import CompareRequest
from thresher.compare.worker import assignment, compute
from thresher.errors import ConfigError, ModelError, StoreError, ThresherError, TooManyFailures
from thresher.request import RunRequest
from thresher.selection.worker_state import Reports, WorkerState
from thresher.storage.claims import Claims
from thresher.tracking import session
from thresher.training.recipe import Recipe

ROOT = Path(__file__).parents[2]


class Run(Computed):
    """A comparison whose workers are fake: see `fake_worker`."""

    def __init__(self, folder: Path, *errors: str, seconds: float = 0.02) -> None:
        super().__init__(folder)
        write_pools(folder)
        self.said: list[str] = []
        self.begun: list[tuple[str, str]] = []
        self.reports: list[str] = []
        self._seconds, left = seconds, list(errors)
        self.workers = DeviceWorkers(
            lambda device: {"folder": str(folder), "seconds": seconds, "error": left.pop(0)},
            ["cpu"] * len(errors),
            self.said.append,
            self.reports.append,
            lambda task, worker: self.begun.append((task, worker)),
        )

    def compare(self, watched: Callable[[], None] = lambda: None) -> None:
        """Compute all cells; `watched` is called after every look at the workers."""
        job, context, evaluate = job_in(self.folder, self._seconds)

        class Watched:
            def watch(_) -> bool:
                working = self.workers.watch()
                watched()
                return working

        saved = False
        try:
            out = self.folder / "out"
            compare(job, replace(context, workers=Watched()), out, evaluate=evaluate)
            saved = True
        finally:
            self.workers.close(saved)

    def processes(self) -> list[int]:
        return [worker.process.process.pid for worker in self.workers._workers]


@pytest.fixture(autouse=True)
def fake_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_workers, "MODULE", "tests.compare.fake_worker")
    paths = [str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setattr(device_workers, "REPORT_SECONDS", 0.0)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What one process writes."""
    folder = tmp_path_factory.mktemp("alone")
    write_pools(folder)
    job, context, evaluate = job_in(folder, 0)
    compare(job, context, folder / "out", evaluate=evaluate)
    return Computed(folder).written()


def test_workers_share_the_cells_and_this_process_writes_the_table(
    tmp_path: Path, alone: str
) -> None:
    run = Run(tmp_path, "", "")
    run.compare()
    assert run.written() == alone and run.said == []
    assert len(run.evaluated()) == run.evaluated().total() == CELLS
    assert run.trained() == CELLS + SEED_MODELS
    tasks = [task for task, _ in run.begun]
    assert len(tasks) == len(set(tasks)) == CELLS
    assert {worker for _, worker in run.begun} == {"worker 1 on cpu", "worker 2 on cpu"}
    assert run.reports[-1].startswith("Computed by worker 1 on cpu: ")
    assert any("training" in line or "seed" in line for line in run.reports[:-1])
    counts = re.findall(r"on cpu: (\d+) cell", run.reports[-1])
    assert len(counts) == 2 and sum(map(int, counts)) == CELLS


def test_the_cell_of_a_killed_worker_is_computed_by_another_one(tmp_path: Path, alone: str) -> None:
    run = Run(tmp_path, "", "", seconds=0.1)

    def kill_the_first() -> None:
        if len(run.finished()) >= 2 and run.said == []:
            with suppress(ProcessLookupError):
                os.kill(run.processes()[0], signal.SIGKILL)

    run.compare(kill_the_first)
    assert run.said == ["Worker 1 on cpu failed (signal 9). Its cell is computed by another one."]
    assert run.written() == alone
    assert len(run.evaluated()) == CELLS and run.evaluated().total() <= CELLS + 1
    assert "worker 1 on cpu: " in run.reports[-1] and "(failed)" in run.reports[-1]


def test_others_compute_the_cell_of_a_worker_that_fails(tmp_path: Path, alone: str) -> None:
    run = Run(tmp_path, "ModelError", "")
    run.compare()
    assert run.said == [
        "Worker 1 on cpu failed (exit code 1): the reason. Its cell is computed by another one."
    ]
    assert run.written() == alone


def test_the_command_fails_when_no_worker_is_left(tmp_path: Path) -> None:
    run = Run(tmp_path, "ModelError", "StoreError")
    with pytest.raises(ThresherError, match="the reason") as failed:
        run.compare()
    assert isinstance(failed.value, ModelError | StoreError)
    assert len(run.said) == 1 and not run.finished()


def test_the_command_fails_when_all_workers_are_killed(tmp_path: Path) -> None:
    run = Run(tmp_path, "", "", seconds=0.2)

    def kill() -> None:
        for process in run.processes():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    with pytest.raises(ModelError, match=r"No worker is left. Worker \d on cpu failed \(signal 9"):
        run.compare(kill)


def test_an_error_that_every_worker_would_have_ends_the_command(tmp_path: Path) -> None:
    run = Run(tmp_path, "TooManyFailures", "", seconds=0.2)
    with pytest.raises(TooManyFailures, match="the reason"):
        run.compare()
    assert run.said == [] and len(run.finished()) < CELLS


def test_workers_end_when_the_command_is_interrupted_and_it_resumes(
    tmp_path: Path, alone: str
) -> None:
    run = Run(tmp_path, "", "", seconds=0.1)

    def interrupt() -> None:
        if len(run.finished()) >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.compare(interrupt)
    assert run.said == [] and not any(worker.running for worker in run.workers._workers)
    assert not list((tmp_path / "out/cells/claims").glob("*.claim"))
    before = run.finished()
    assert 2 <= len(before) < CELLS
    again = Run(tmp_path, "", "", seconds=0)
    again.compare()
    assert again.written() == alone and again.evaluated().total() <= CELLS + 2
    assert all(again.evaluated()[cell] == 1 for cell in before)


def test_no_worker_starts_where_all_is_finished(tmp_path: Path, alone: str) -> None:
    Run(tmp_path, "", "", seconds=0).compare()
    again = Run(tmp_path, "", "")
    again.compare()
    assert again.workers._workers == [] and again.written() == alone and again.reports == []


# --------------------------------------------------------------------------------- the real worker


def request(folder: Path, **more: Any) -> CompareRequest:
    write_pool(folder / "pool.json", [record(i) for i in range(40)])
    write_pool(folder / "test.json", [record(i) for i in range(100, 120)])
    options = RunRequest(
        pool=str(folder / "pool.json"),
        model="demo",
        store=str(folder / "store"),
        out=str(folder / "out"),
    )
    return CompareRequest(options=options, test=str(folder / "test.json"), methods="length", **more)


def test_a_request_is_the_same_after_it_was_sent(tmp_path: Path) -> None:
    asked = request(
        tmp_path,
        settings=("winnow.guard=off",),
        recipe=Recipe(epochs=2, lora=False),
        keep_models=True,
    )
    assert CompareRequest.from_mapping(json.loads(json.dumps(asked.to_mapping()))) == asked


def test_a_worker_refuses_another_folder_and_other_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("trl")
    monkeypatch.setattr("thresher.compare.worker.STORE_SECONDS", 0.0)
    asked, reports = request(tmp_path), Reports(WorkerState("", ""))
    other = [Cell("random", "10%", 4, 0, "0" * 32, Recipe())]
    given = assignment(asked, asked.options.to_mapping(), other, "absent") | {"total": 1}
    with pytest.raises(ConfigError, match="is not the folder of that name where the command"):
        compute(given, reports)
    different = pytest.raises(ConfigError, match="another pool, evaluation set or model")
    with Claims(tmp_path / "out/cells", ()) as claims, different:
        compute({**given, "claim": claims.name}, reports)


def test_the_command_with_two_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("trl")
    monkeypatch.setattr(device_workers, "MODULE", "thresher.compare.worker")
    tracker = RecordingTracker()
    monkeypatch.setattr(session, "open_tracker", lambda track, run: tracker)
    monkeypatch.setattr("thresher.extras._importable", lambda name: True)
    asked = request(tmp_path)
    words = [asked.options.pool, "--eval", asked.test, "-m", "length", "-b", "20%", "--no-full"]
    words += ["--seeds", "1", "--model", "demo", "--store", str(tmp_path / "store")]
    outputs = []
    for devices in ("cpu,cpu", "cpu"):
        out = tmp_path / devices
        more = ["--track", "wandb"] if devices == "cpu,cpu" else []
        with pytest.raises(SystemExit) as ended:
            main(["compare", *words, "--devices", devices, "-o", str(out), *more])
        printed = capsys.readouterr()
        assert not ended.value.code, printed.err
        assert "length at 20%: " in printed.out
        outputs.append((out / "compare.json").read_text())
        assert "(worker 2 on cpu)" in printed.err or devices == "cpu"
    assert untimed(outputs[0], tmp_path) == untimed(outputs[1], tmp_path)
    assert tracker.values("cells/rows")[0] == (0, 0) and tracker.values("cells/rows")[-1] == (2, 2)
    assert len(tracker.tables["verdicts"].rows) == 2 and tracker.ended == [False]


def test_a_device_that_does_not_exist_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch = pytest.importorskip("torch")
    number = torch.cuda.device_count()
    words = ["no.json", "--eval", "no.json", "-m", "length", "--model", "demo"]
    with pytest.raises(SystemExit) as ended:
        main(["compare", *words, "--devices", f"cpu,{number}", "-o", str(tmp_path / "out")])
    assert ended.value.code == 2 and f"there is no cuda:{number}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
