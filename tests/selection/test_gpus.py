"""Hours and memory on common GPUs, worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.runs import plan
from tests.text_pools import HighestLoss, Model, record, write_pool
from thresher.backends.model_size import ModelSize
from thresher.pools import open_pool
from thresher.selection.gpus import (
    GPUS,
    RowShape,
    Work,
    estimate,
    on_gpus,
    scoring_bytes,
    training_bytes,
    work_of,
)
from thresher.selection.plan import Plan
from thresher.selection.signal_plan import SignalPlan
from thresher.selection.training_plan import TrainingPlan
from thresher.storage.columns import Store
from thresher.types import Budget

SIZE = ModelSize(  # of two billion parameters
    parameters=2_000_000_000,
    language=1_500_000_000,
    vision=400_000_000,
    patches_per_token=4,
    layers=20,
    hidden=2000,
    intermediate=6000,
    vision_hidden=1000,
    vision_intermediate=4000,
    vocabulary=100_000,
    adapter_parameters=1_000_000,
)
ROW = RowShape(tokens=512, image_tokens=256, answer_tokens=8)


@pytest.fixture
def made(tmp_path: Path) -> Plan:
    """A plan of 1,000 rows of 512 tokens each, and a training on 100 of them."""
    pool = open_pool(write_pool(tmp_path / "pool.json", [record(i) for i in range(10)]))
    store = Store(tmp_path / "store")
    base = plan(pool, HighestLoss(), Budget.parse("3"), Model().handle, store)
    signal = SignalPlan("loss", "loss", "a", 1000, 0, 1000, False, 1000, 512_000, None, model="m")
    training = TrainingPlan("t", 100, 2.0, None, "m")
    return replace(base, model="m", signals=(signal,), trainings=(training,))


def test_the_work_of_a_plan(made: Plan) -> None:
    work = work_of(made, {"m": SIZE}, {"m": ROW})
    # 512 tokens of the language model; 256 image tokens are 1,024 patches
    row = 2 * (1.5e9 * 512 + 0.4e9 * 1024)
    assert work.row_flops == pytest.approx(row)
    assert work.scoring_flops == pytest.approx(1000 * row)
    assert work.training_flops == pytest.approx(3 * 2 * 100 * row)  # two passes, three times each
    assert work.peak_bytes == max(scoring_bytes(SIZE, ROW), training_bytes(SIZE, ROW))


def test_memory_of_scoring() -> None:
    # a batch of 16,384 tokens: 32 rows with 32 x 1,024 patches
    vision = 32 * 1024 * (2 * 1000 + 3 * 4000) * 2
    language = 16_384 * (2 * 2000 + 3 * 6000) * 2 + 10 * 32 * 8 * 100_000
    assert vision < language
    assert scoring_bytes(SIZE, ROW) == 2 * 2_000_000_000 + language
    wide = replace(SIZE, vision_hidden=4000, vision_intermediate=16_000)
    assert scoring_bytes(wide, ROW) == 2 * 2_000_000_000 + 4 * vision


def test_memory_of_training() -> None:
    tokens = 16 * 512
    adapters = 16 * 1_000_000 * 16  # rank 16, 16 bytes each
    logits = 10 * 16 * 8 * 100_000
    layer = 34 * 2000 * tokens
    fixed = 2 * 2_000_000_000 + adapters + logits
    # above a billion parameters each layer keeps its input only
    assert training_bytes(SIZE, ROW) == fixed + 20 * 2 * 2000 * tokens + layer
    small = replace(SIZE, parameters=999_999_999)
    assert training_bytes(small, ROW) == 2 * 999_999_999 + adapters + logits + 20 * layer


def test_hours_and_what_does_not_fit() -> None:
    hour = 0.35 * 121e12 * 3600  # operations of an L4
    work = Work(
        scoring_flops=8 * hour, training_flops=hour, row_flops=hour / 300, peak_bytes=10**10
    )
    by_name = {e.gpu: e for e in estimate(work, rows_saved=700, devices=4)}
    assert list(by_name) == [gpu.name for gpu in GPUS]
    # scoring on four, training on one; an epoch saves 3 x 700 passes, on four
    assert by_name["L4"].hours == pytest.approx(8 / 4 + 1)
    assert by_name["L4"].saved_hours_per_epoch == pytest.approx(3 * 700 / 300 / 4)
    assert by_name["A100 80 GB"].hours == pytest.approx(3 * 121 / 312)
    large = {e.gpu: e for e in estimate(replace(work, peak_bytes=73 * 10**9), 700)}
    # nine tenths of the memory can be used
    assert [name for name, e in large.items() if e.fits] == ["H200 SXM"]
    assert large["A100 80 GB"].hours is None is large["A100 80 GB"].saved_hours_per_epoch


def test_a_model_of_unknown_size_is_named(made: Plan, tmp_path: Path) -> None:
    from tests.runs import resolved

    pool = open_pool(write_pool(tmp_path / "pool.json", [record(i) for i in range(10)]))
    options = {"model": Model().handle, "store": Store(tmp_path / "store")}
    task, context = resolved(pool, HighestLoss(), Budget.parse("3"), options)
    estimates, notes = on_gpus(replace(made, model="fake"), task, context)
    assert estimates == [] and notes == [
        "GPUs: nothing is estimated for m, whose size is not known."
    ]


def test_what_is_left_out_is_said(made: Plan, tmp_path: Path) -> None:
    from tests.runs import resolved

    pool = open_pool(write_pool(tmp_path / "pool.json", [record(i) for i in range(10)]))
    handle = replace(Model().handle, name="m", size=lambda: SIZE)
    options = {"model": handle, "store": Store(tmp_path / "store")}
    task, context = resolved(pool, HighestLoss(), Budget.parse("3"), options)
    signals = (replace(made.signals[0], label="notes", writes=True),)
    trainings = (replace(made.trainings[0], rows=None),)
    made = replace(made, signals=signals, trainings=trainings)
    estimates, notes = on_gpus(made, task, context)
    assert len(estimates) == len(GPUS) and all(e.fits for e in estimates)
    assert "published" not in notes[0] and "estimated, not measured" in notes[0]
    assert any("text that the model writes is not included (notes)" in n for n in notes)
    assert any("not known yet are not included" in n for n in notes)
