"""Each tracker with its real package, offline; skipped where that is not installed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from thresher.request import Track
from thresher.tracking import Table, tracked

VERDICTS = Table(("method", "budget", "difference"), (("winnow", "10%", 1.5), ("full", "", None)))


def send(track: Track) -> None:
    """The same run to every tracker."""
    with tracked(track, "out30", {"model": "demo", "budget": "30%"}, pytest.fail) as tracking:
        tracking.log({"loss/rows": 10.0, "loss/rows_per_second": 2.5}, 10)
        tracking.log({"loss/failed": 1.0}, 15)
        tracking.log({"training/loss": 0.5}, 3)  # another axis, which begins at 0 again
        tracking.summary({"counts/selected": 30, "accuracy/winnow 10%": 61.5})
        tracking.table("verdicts", VERDICTS)
        tracking.text("summary", "Kept 30 of 100 rows.")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def need(module: str) -> Callable[..., None]:
    return pytest.importorskip(module, reason=f"{module} is not installed")


def test_tensorboard(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    send("tensorboard")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(folder / "logs"))
    send("tensorboard")
    (first,), (second,) = ((folder / name).iterdir() for name in ("runs", "logs"))
    assert first.name.startswith("out30-") and second.name.startswith("out30-")
    found = EventAccumulator(str(first))
    found.Reload()
    scalars = {name: [(e.step, e.value) for e in found.Scalars(name)] for name in (
        "loss/rows", "loss/failed", "training/loss", "counts/selected", "accuracy/winnow 10%"
    )}  # fmt: skip
    assert scalars == {
        "loss/rows": [(10, 10.0)],
        "loss/failed": [(15, 1.0)],
        "training/loss": [(3, 0.5)],
        "counts/selected": [(0, 30.0)],
        "accuracy/winnow 10%": [(0, 61.5)],
    }
    texts = {name: found.Tensors(name)[0].tensor_proto.string_val[0].decode() for name in (
        "settings", "verdicts", "summary", "state"
    )}  # fmt: skip
    assert "| model | demo |" in texts["settings"]
    assert "| winnow | 10% | 1.5 |" in texts["verdicts"] and "| full |  |  |" in texts["verdicts"]
    assert (texts["summary"], texts["state"]) == ("Kept 30 of 100 rows.", "finished")


def test_mlflow(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("mlflow")
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/runs.db")
    send("mlflow")
    client = MlflowClient()
    experiment = client.get_experiment_by_name("thresher")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("out30", "FINISHED")
    assert run.data.params["model"] == "demo" and run.data.params["budget"] == "30%"
    assert run.data.metrics["counts/selected"] == 30
    assert run.data.metrics["accuracy/winnow 10_"] == 61.5
    (point,) = client.get_metric_history(run.info.run_id, "loss/failed")
    assert (point.step, point.value) == (15, 1.0)
    artifacts = {a.path for a in client.list_artifacts(run.info.run_id)}
    assert artifacts == {"verdicts.json", "summary.md"}
    path = client.download_artifacts(run.info.run_id, "verdicts.json", str(folder))
    assert json.loads(Path(path).read_text()) == {
        "columns": ["method", "budget", "difference"],
        "data": [["winnow", "10%", 1.5], ["full", "", None]],
    }


def log_records(data: bytes) -> Iterator[bytes]:
    """The records of a .wandb file: LevelDB's log format behind a header of seven bytes."""
    block, header, at, whole = 32768, 7, 7, b""
    while at + header <= len(data):
        if block - at % block < header:
            at += block - at % block
            continue
        size = int.from_bytes(data[at + 4 : at + 6], "little")
        kind = data[at + 6]  # 1: whole; 2, 3, 4: first, middle, last part
        whole += data[at + header : at + header + size]
        at += header + size
        if kind in (1, 4):
            yield whole
            whole = b""


def test_wandb(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("wandb")
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    send("wandb")
    wandb.teardown()  # its service writes the rest of the file at its end
    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    records = [Record.FromString(data) for data in log_records(file.read_bytes())]
    (run,) = (r.run for r in records if r.WhichOneof("record_type") == "run")
    assert (run.project, run.display_name) == ("thresher", "out30")
    history = [
        {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in r.history.item}
        for r in records
        if r.WhichOneof("record_type") == "history"
    ]
    points = [{k: v for k, v in h.items() if not k.startswith("_")} for h in history]
    assert {"loss/rows": 10.0, "loss/rows_per_second": 2.5, "loss/step": 10} in points
    assert {"loss/failed": 1.0, "loss/step": 15} in points
    assert {"training/loss": 0.5, "training/step": 3} in points
    assert any("verdicts/path" in h for h in history)
    summary = {
        "/".join(i.nested_key) or i.key: json.loads(i.value_json)
        for r in records
        if r.WhichOneof("record_type") == "summary"
        for i in r.summary.update
    }
    assert summary["counts/selected"] == 30 and summary["summary"] == "Kept 30 of 100 rows."
