"""`--devices`: workers score their share, stop on request, and their failures are reported."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.text_pools import record, write_pool
from thresher.cli import main
from thresher.errors import ConfigError
from thresher.request import RunRequest
from thresher.request.devices import parse_devices
from thresher.selection.config import check_request
from thresher.selection.devices import start_scoring
from thresher.selection.opening import store_of
from thresher.selection.worker import read_request, score
from thresher.storage.columns import Store


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0,1,2", ("cuda:0", "cuda:1", "cuda:2")),
        (" cuda:3 , 1", ("cuda:3", "cuda:1")),
        ("cpu,cpu", ("cpu", "cpu")),
        ("all", ("all",)),
        ("mps", ("mps",)),
    ],
)
def test_devices_are_numbers_or_names(text: str, expected: tuple[str, ...]) -> None:
    assert parse_devices(text) == expected


@pytest.mark.parametrize("text", ["", "0,,1", "0,1,", "gpu0", "0,all", "0,cuda:0", "-1", "0-3"])
def test_other_values_are_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_request(RunRequest(devices=text))
    assert caught.value.option == "devices" and caught.value.value == text


def test_devices_exclude_a_device_and_a_server() -> None:
    with pytest.raises(ConfigError, match="exclude each other"):
        check_request(RunRequest(devices="0,1", device="cpu"))
    with pytest.raises(ConfigError, match="distribute their work themselves"):
        check_request(RunRequest(devices="0,1", backend="openai", url="http://localhost:1/v1"))


def test_missing_gpu_is_refused() -> None:
    torch = pytest.importorskip("torch")
    from thresher.selection.devices import devices_of

    count = torch.cuda.device_count()
    with pytest.raises(ConfigError, match=f"there is no cuda:{count}"):
        devices_of(RunRequest(devices=f"cpu,{count}"))
    if not count:
        with pytest.raises(ConfigError, match="no GPU that torch can use"):
            devices_of(RunRequest(devices="all"))


def test_devices_that_score_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from thresher.selection import devices

    assert devices.scoring_devices(RunRequest()) == 1
    assert devices.scoring_devices(RunRequest(devices="cpu,cpu")) == 1  # they share the cores
    assert devices.scoring_devices(RunRequest(engine="ray", ray_workers=6)) == 6
    monkeypatch.setattr(devices, "devices_of", lambda request: ("cuda:0", "cuda:1", "cpu", "cpu"))
    assert devices.scoring_devices(RunRequest()) == 3


def request(folder: Path, **more: object) -> RunRequest:
    write_pool(folder / "pool.json", [record(i) for i in range(40)])
    return RunRequest(
        pool=str(folder / "pool.json"),
        method="perplexity",
        budget="10",
        store=str(folder / "store"),
        filter=("length < 2000",),
        **more,  # type: ignore[arg-type]
    )


def test_a_worker_gets_the_request_of_the_user(tmp_path: Path) -> None:
    import json

    given = request(tmp_path, model="demo", settings={"where": "low"})
    assert read_request(json.loads(json.dumps(given.to_mapping()))) == given


def test_a_worker_scores_into_the_store_and_writes_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    score(request(tmp_path, model="demo"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pool.json", "store"]
    (column,) = (tmp_path / "store" / "columns").iterdir()
    assert any(p.suffix == ".parquet" for p in column.iterdir())


def test_workers_use_the_precision_of_the_first_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`auto` is bfloat16 on a GPU and float32 on a CPU: two columns, of which one is of no use."""
    pytest.importorskip("torch")
    from thresher.selection import devices
    from thresher.selection.opening import prepare

    given: list[dict[str, Any]] = []

    class Quiet:
        def stop(self) -> None: ...
        def end(self) -> str:
            return ""

    def start(module: str, message: dict[str, Any], *_: str, **__: str) -> Quiet:
        given.append(message["request"])
        return Quiet()

    monkeypatch.setattr(devices.WorkerProcess, "start", start)
    job = prepare(request(tmp_path, model="demo", devices="cpu,cpu"), print, out=False)
    model = job.context.model
    assert model is not None and job.task.request.dtype == "auto"
    half = replace(model, identity=replace(model.identity, dtype="bfloat16"))  # as on a GPU
    job = replace(job, context=replace(job.context, model=half))
    with devices.device_workers(job, print):
        pass
    assert [(r["device"], r["dtype"]) for r in given] == [("cpu", "bfloat16")]


def test_a_worker_that_fails_is_reported_with_its_reason(tmp_path: Path) -> None:
    worker = start_scoring(request(tmp_path, model=str(tmp_path / "absent")), "cpu", 0)
    worker.process.wait(60)
    worker.stop()
    problem = worker.end()
    assert problem.startswith("The worker on cpu failed (exit code 1): ") and "absent" in problem
    assert problem.endswith("Its rows were scored by the other processes.")


def test_a_worker_that_is_killed_is_reported(tmp_path: Path) -> None:
    worker = start_scoring(request(tmp_path, model="demo"), "cpu", 0)
    worker.process.kill()
    worker.stop()
    assert "failed (signal 9)" in worker.end()


def test_worker_stops_on_request(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    worker = start_scoring(request(tmp_path, model="demo"), "cpu", 0)
    time.sleep(0.5)
    worker.stop()
    assert worker.end() == ""


def with_torn_images(folder: Path) -> RunRequest:
    """A request for forty rows, the images of three of which cannot be read."""
    records: list[dict[str, Any]] = [record(i) for i in range(40)]
    for i in (3, 17, 30):
        (folder / f"{i}.png").write_bytes(b"not an image")
        records[i]["image"] = f"{i}.png"
        records[i]["conversations"][0]["value"] += "\n<image>"
    write_pool(folder / "pool.json", records)
    return RunRequest(
        pool=str(folder / "pool.json"),
        method="perplexity",
        budget="10",
        store=str(folder / "store"),
        model="demo",
        on_missing="exclude",
    )


def failures(folder: Path) -> list[int]:
    """How often each row that failed was tried, ascending."""
    store = Store(folder / "store")
    (column,) = (folder / "store" / "columns").iterdir()
    parts = store.new_keys(column.name, set())
    return sorted(Counter(k.tobytes() for p in parts for k in p.keys[~p.succeeded]).values())


def test_failed_rows_are_retried_once_by_all_processes_of_a_command(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    asked = with_torn_images(tmp_path)
    score(asked)
    score(asked)
    assert failures(tmp_path) == [1, 1, 1]
    again = replace(asked, retry_errors=True)
    began = time.time_ns()
    for _ in range(2):  # the second process starts when the first one has ended
        score(again, started=began)
        assert failures(tmp_path) == [2, 2, 2]
    score(again)  # another command
    assert failures(tmp_path) == [3, 3, 3]


def test_failed_rows_are_retried_once_with_several_devices(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    score(asked := with_torn_images(tmp_path))
    words = [asked.pool, "-m", asked.method, "-b", asked.budget, "--model", "demo"]
    words += ["--store", str(asked.store), "--on-missing", "exclude", "--retry-errors"]
    with pytest.raises(SystemExit) as ended:
        main(["select", *words, "--devices", "cpu,cpu", "-o", str(tmp_path / "out")])
    assert not ended.value.code
    assert failures(tmp_path) == [2, 2, 2]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"devices": "cpu,cpu"}, 'devices="cpu,cpu" starts several'),
        ({"devices": "all"}, 'devices="all" starts several'),
        ({"engine": "ray"}, 'engine="ray" starts several'),
    ],
)
def test_processes_cannot_share_a_store_in_memory(options: dict[str, str], said: str) -> None:
    pytest.importorskip("fsspec")
    asked = RunRequest(store="memory://a/b", **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"memory://.* is in the memory of one process") as error:
        store_of(asked)
    assert said in str(error.value)
    assert not store_of(RunRequest(store="memory://a/b", devices="cpu")).shared
