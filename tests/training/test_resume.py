"""A killed training resumes from its last checkpoint with the same losses, weights and failures."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.tiny_models import build
from tests.training.colour_pools import pool_of, record
from thresher.console.progress import NoProgress
from thresher.errors import ConfigError
from thresher.pools import Pool
from thresher.storage.lock import NAME, file_lock
from thresher.training import Recipe, TrainingResult, fit

RECIPE = Recipe(epochs=3, batch=3, accumulation=2, learning_rate=2e-3)
FULL = Recipe(epochs=3, batch=3, accumulation=2, learning_rate=2e-3, lora=False, weight_decay=0.01)

KILLED = """
import sys, time
from pathlib import Path
from thresher.pools import open_pool
from thresher.console.progress import NoProgress
from thresher.training import Recipe, fit

class Slow(NoProgress):
    def advance(self, n):
        time.sleep(0.1)

base, pool, out = sys.argv[1:]
recipe = Recipe(epochs=3, batch=3, accumulation=2, learning_rate=2e-3)
fit(base, open_pool(pool), None, recipe, Path(out), device="cpu", progress=Slow(), checkpoint_every=0)
"""  # noqa: E501


class Stop(NoProgress):
    """Ctrl-C after some steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps
        self.started_at = -1
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def start(self, label: str, total: int, done: int) -> None:
        self.started_at = done

    def advance(self, n: int) -> None:
        time.sleep(0.03)  # else the next checkpoint is not yet due: see COSTLY
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """30 rows, two of which fail: one only when its image is opened."""
    folder = tmp_path_factory.mktemp("rows")
    records = [record(i) for i in range(30)]
    records[4]["image"] = "torn.png"
    records[9]["image"] = "gone.png"
    (folder / "torn.png").write_bytes(b"not a picture")
    return pool_of(folder, records)


@pytest.fixture(scope="module")
def interrupted(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that Ctrl-C ended after six of its 15 steps, with one checkpoint.
    Tests continue in a copy."""
    out = tmp_path_factory.mktemp("interrupted") / "m"
    base, stop = str(build("llava")), Stop(6)
    with pytest.raises(KeyboardInterrupt):
        fit(base, pool, None, RECIPE, out, device="cpu", progress=stop, checkpoint_every=0)
    return out


@pytest.fixture
def unfinished(interrupted: Path, tmp_path: Path) -> Path:
    """A copy of that folder."""
    return Path(shutil.copytree(interrupted, tmp_path / "m"))


def same_end(got: TrainingResult, want: TrainingResult) -> None:
    assert len(got.losses) == len(want.losses) == 15
    assert got.losses == pytest.approx(want.losses, abs=1e-6)
    assert got.unusable == want.unusable and len(got.unusable) == 2
    name = (
        "adapter_model.safetensors"
        if (want.folder / "adapter_model.safetensors").exists()
        else "model.safetensors"
    )
    a, b = load_file(got.folder / name), load_file(want.folder / name)
    assert a.keys() == b.keys() and all(torch.allclose(a[k], b[k], atol=1e-6, rtol=0) for k in a)
    assert not (got.folder / ".training").exists()


@pytest.mark.slow  # the same by Ctrl-C, in this process, is below
def test_killed_training_resumes_to_the_same_result(pool: Pool, tmp_path: Path) -> None:
    base, out = str(build("llava")), tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, base, str(pool.path), str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        until = time.monotonic() + 90
        while not list(out.glob(".training/checkpoint-*/progress.json")):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL and not (out / "training.json").exists()
    with pytest.raises(ConfigError, match="another unfinished training"):
        fit(base, pool, None, FULL, out, device="cpu")
    rest = fit(base, pool, None, RECIPE, out, device="cpu")
    assert 0 < rest.steps < 15
    same_end(rest, fit(base, pool, None, RECIPE, tmp_path / "whole", device="cpu"))


@pytest.mark.parametrize("name", ["mllama", pytest.param("qwen2_5_vl", marks=pytest.mark.slow)])
def test_full_training_stopped_twice(name: str, pool: Pool, tmp_path: Path) -> None:
    base, out = str(build(name)), tmp_path / "stopped"
    done = []
    for _ in range(2):
        stop = Stop(6)
        with pytest.raises(KeyboardInterrupt):
            fit(base, pool, None, FULL, out, device="cpu", progress=stop, checkpoint_every=0)
        done.append(stop.started_at)
    rest = fit(base, pool, None, FULL, out, device="cpu")
    assert done[0] == 0 < done[1] and rest.steps < 15
    same_end(rest, fit(base, pool, None, FULL, tmp_path / "whole", device="cpu"))


def test_incomplete_checkpoint_is_ignored(pool: Pool, unfinished: Path) -> None:
    """Killed while it was being written: the one before it is used, or none."""
    base, out = str(build("llava")), unfinished
    (whole,) = out.glob(".training/checkpoint-*")
    step = int(whole.name.split("-")[1])
    half = whole.with_name(f"checkpoint-{step + 1}")
    half.mkdir()
    (half / "trained.safetensors").write_bytes(b"half")
    data = json.loads((whole / "progress.json").read_text())
    assert len(data["losses"]) == step
    rest = fit(base, pool, None, RECIPE, out, device="cpu")
    assert rest.steps == 15 - step


@pytest.mark.parametrize("file", ["optimizer.pt", "progress.json", "trained.safetensors"])
@pytest.mark.parametrize("how", ["empty", "cut", "flipped"])
def test_damaged_checkpoint_is_reported_and_ignored(
    pool: Pool, unfinished: Path, file: str, how: str
) -> None:
    """Training starts again at the first step."""
    damage(unfinished, file, how)
    again = Stop(1)
    with pytest.raises(KeyboardInterrupt):
        fit(str(build("llava")), pool, None, RECIPE, unfinished, device="cpu", progress=again)
    (said,) = again.said
    assert "is damaged" in said and said.endswith("and is not used.")
    assert again.started_at == 0


def damage(folder: Path, file: str, how: str) -> None:
    """Change a file of the only checkpoint in `folder`."""
    (damaged,) = folder.glob(f".training/checkpoint-*/{file}")
    data = damaged.read_bytes()
    middle = len(data) // 2
    flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    damaged.write_bytes({"empty": b"", "cut": data[:middle], "flipped": flipped}[how])


def test_without_progress_a_damaged_checkpoint_is_a_warning(pool: Pool, unfinished: Path) -> None:
    damage(unfinished, "optimizer.pt", "cut")
    with pytest.warns(UserWarning, match="is damaged .* and is not used"):
        rest = fit(str(build("llava")), pool, None, RECIPE, unfinished, device="cpu")
    assert rest.steps == 15


def test_training_with_a_damaged_record_restarts(pool: Pool, tmp_path: Path) -> None:
    base, out = str(build("llava")), tmp_path / "m"
    for note in (b"", b"\xff\xfe", b"0123"):
        (out / ".training").mkdir(parents=True, exist_ok=True)
        (out / ".training" / "identity").write_bytes(note)
        (out / ".training" / "left").touch()
        with pytest.raises(KeyboardInterrupt):
            fit(base, pool, None, RECIPE, out, device="cpu", progress=Stop(1))
        assert not (out / ".training" / "left").exists()
        assert not (out / ".thresher.lock").exists()


def test_two_trainings_into_one_folder_do_not_mix(pool: Pool, tmp_path: Path) -> None:
    """The second of the same waits and takes the model; one of another recipe is refused at
    once."""
    base, out = str(build("llava")), tmp_path / "m"
    with pytest.raises(KeyboardInterrupt):  # a beginning, so that the other recipe is refused
        fit(base, pool, None, RECIPE, out, device="cpu", progress=Stop(1))
    results: list[TrainingResult] = []
    both = [
        threading.Thread(
            target=lambda: results.append(fit(base, pool, None, RECIPE, out, device="cpu"))
        )
        for _ in range(2)
    ]
    with file_lock(out / NAME, "trains here"):
        for thread in both:
            thread.start()
        with pytest.raises(ConfigError, match="another unfinished training"):
            fit(base, pool, None, FULL, out, device="cpu")
        assert not results
    for thread in both:
        thread.join()
    assert sorted(r.steps > 0 for r in results) == [False, True]
    assert results[0].losses == results[1].losses and not (out / NAME).exists()


def test_without_resume_training_restarts(pool: Pool, unfinished: Path) -> None:
    base, out = str(build("llava")), unfinished
    assert fit(base, pool, None, RECIPE, out, device="cpu", resume=False).steps == 15
    assert fit(base, pool, None, RECIPE, out, device="cpu").steps == 0
