"""`cost` of run.yaml: what a plan predicted beside what the run took."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.runs import resolved
from tests.text_pools import HighestLoss, Model, record, write_pool
from thresher.pools import Pool, open_pool
from thresher.selection import folder as output
from thresher.selection.cost_record import Cost, Prediction, cost_section, keep_prediction
from thresher.selection.plan import plan
from thresher.selection.select import select
from thresher.selection.signal_plan import SignalPlan
from thresher.selection.training_plan import TrainingPlan
from thresher.storage.columns import Store
from thresher.types import Budget


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return open_pool(write_pool(tmp_path / "pool.json", [record(i) for i in range(200)]))


def job(pool: Pool, folder: Path, **options: Any) -> Any:
    """A task of one column, and its context."""
    model = Model(kwargs={"seconds_per_row": 0.001})
    options = {"model": model.handle, "store": Store(folder / "store"), **options}
    return resolved(pool, HighestLoss(), Budget.parse("10"), options)


def test_a_plan_and_its_run_are_side_by_side(pool: Pool, tmp_path: Path) -> None:
    task, context = job(pool, tmp_path)
    keep_prediction(plan(task, context), task, context)
    task, context = job(pool, tmp_path)  # another command
    outcome = select(task, context)
    cost = cost_section(task, context, seconds=2.5, requests=0)
    assert cost is not None
    # the fake model says that a row takes a hundredth of a second and one MiB
    assert cost["predicted"] == {
        "by": "plan",
        "scores": 200,
        "scoring_seconds": pytest.approx(2.0),
        "training_seconds": 0.0,
        "requests": 0,
        "peak_bytes": 1 << 20,
    }
    measured = cost["measured"]
    assert measured["scores"] == 200 and measured["requests"] == 0
    assert measured["scoring_seconds"] >= 0.2 and measured["training_seconds"] == 0
    assert measured["seconds"] == 2.5 and measured["peak_bytes"] > 10 << 20
    assert cost["memory"] == "process"
    output.write(outcome, pool, None, tmp_path / "out", cost=cost)
    first = (tmp_path / "out" / "run.yaml").read_bytes()
    assert output.read(tmp_path / "out")["cost"] == cost

    task, context = job(pool, tmp_path)  # everything is stored now
    outcome = select(task, context)
    assert cost_section(task, context, seconds=0.1, requests=0) is None
    output.write(outcome, pool, None, tmp_path / "out", cost=None)
    assert (tmp_path / "out" / "run.yaml").read_bytes() == first


def test_without_a_plan_the_first_rows_predict(pool: Pool, tmp_path: Path) -> None:
    task, context = job(pool, tmp_path)
    select(task, context)
    cost = cost_section(task, context, seconds=1.0, requests=0)
    assert cost is not None
    predicted = cost["predicted"]
    assert predicted["by"] == "first rows" and predicted["scores"] == 200
    estimated = context.meter.estimated_seconds
    assert predicted["scoring_seconds"] == round(estimated, 3)
    assert estimated >= 0.2  # a row takes at least a millisecond
    assert predicted["training_seconds"] is None and predicted["peak_bytes"] is None


def test_without_either_there_is_no_prediction(tmp_path: Path) -> None:
    small = open_pool(write_pool(tmp_path / "pool.json", [record(i) for i in range(50)]))
    task, context = job(small, tmp_path)
    select(task, context)
    cost = cost_section(task, context, seconds=1.0, requests=7)
    assert cost is not None and cost["predicted"] is None
    assert cost["measured"]["requests"] == 7


def test_a_prediction_is_of_one_request_and_its_devices(pool: Pool, tmp_path: Path) -> None:
    task, context = job(pool, tmp_path)
    keep_prediction(plan(task, context), task, context)
    for change in ({"seed": 1}, {"device": "cuda"}, {"batch_tokens": 512}):
        other = replace(task, request=replace(task.request, **change))
        fresh = replace(context, meter=type(context.meter)(scores=1))
        assert cost_section(other, fresh, 1.0, 0)["predicted"] is None  # type: ignore[index]
    # where the files are written changes nothing
    other = replace(task, request=replace(task.request, out="elsewhere"))
    fresh = replace(context, meter=type(context.meter)(scores=1))
    assert cost_section(other, fresh, 1.0, 0)["predicted"]["by"] == "plan"  # type: ignore[index]


def test_a_plan_that_measured_nothing_is_not_kept(pool: Pool, tmp_path: Path) -> None:
    task, context = job(pool, tmp_path)
    keep_prediction(plan(task, context, probe=False), task, context)
    assert not (context.store.root / "plans").exists()


def test_a_damaged_prediction_is_none(tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    for text in ("", "{", "[]", "null", '{"scores": 3}'):
        file.write_text(text)
        assert Prediction.read(file) is None


def test_what_scores_decide_is_apart(pool: Pool, tmp_path: Path) -> None:
    task, context = job(pool, tmp_path)
    made = plan(task, context)
    one = SignalPlan("loss", "loss", "a", 200, 0, 200, False, 200, 2000, hours=1.0)
    two = replace(one, label="seed", to_score=190, upper_bound=True, conditional=True, hours=0.5)
    sure = TrainingPlan("m", 100, 1.0, 0.25)
    unsure = replace(sure, hours=2.0, upper_bound=True)
    made = replace(made, signals=(one, two), trainings=(sure, unsure))
    found = Prediction.of(made)
    assert found.cost == Cost(200, 3600.0, 900.0, 0, 1 << 20)
    assert found.at_most == Cost(390, 5400.0, 8100.0, 0, 1 << 20)
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(found.to_json()))
    assert Prediction.read(file) == found
