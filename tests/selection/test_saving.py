"""Cost and savings of a selection: never negative, and consistent in the sentences."""

from __future__ import annotations

import itertools
import math
import re

import pytest

from thresher.selection.saving import Saving, of_run, percent
from thresher.storage.columns import Store

TIMES = (None, 0.0, 1e-6, 0.04, 1.0, 13.2, 3600.0, 1e7)


@pytest.mark.parametrize("kept", [0, 1, 30, 99, 100, 101, 250])
@pytest.mark.parametrize("model", [True, False])
def test_savings_are_never_negative_or_invalid(kept: int, model: bool) -> None:
    for selecting, row in itertools.product(TIMES, TIMES):
        saving = Saving(100, kept, selecting, row, model)
        text = saving.sentence()
        assert 0 <= saving.share <= 1 and (saving.per_epoch is None or saving.per_epoch >= 0)
        assert saving.trainings is None or saving.trainings >= 1
        assert not re.search(r"-|−|nan|inf|\b1 trainings|None", text.replace("-perplexity", "")), (
            text
        )
        assert ("never pays off" in text) == (kept >= 100), text
        if kept >= 100:
            assert "saved per epoch: nothing" in text and "%" not in text
        if saving.trainings is not None and saving.selecting and saving.per_epoch and model:
            assert saving.trainings * saving.per_epoch >= 0.9 * saving.selecting


def test_an_empty_pool_saves_nothing() -> None:
    assert "nothing" in Saving(0, 0, None, None, False).sentence()


def test_number_of_trainings_to_pay_off() -> None:
    """300 rows, 210 saved at 3 x 0.1 s: 63 s an epoch."""
    for selecting, trainings in ((1, 1), (63, 1), (64, 2), (630, 10), (631, 11)):
        assert Saving(300, 90, float(selecting), 0.1, True).trainings == trainings
    text = Saving(300, 90, 64.0, 0.1, True).sentence()
    assert text == (
        "Selecting: ≈ 1 min 4 s; saved per epoch: ≈ 1 min 3 s (70% of the rows); pays off from 2 "
        "trainings of one epoch."
    )


def test_times_with_equal_text_count_as_equal() -> None:
    """13.2 s against 12.9 s is shown as 13 s against 13 s."""
    assert Saving(100, 0, 13.2, 12.9 / 300, True).trainings == 1


@pytest.mark.parametrize("share", [0.0, 1e-9, 0.004, 0.01, 0.5, 0.994, 0.9999999, 1.0])
def test_percentages_never_round_to_0_or_100(share: float) -> None:
    assert (percent(share) == "0%") == (share == 0) and (percent(share) == "100%") == (share == 1)


def test_cost_includes_reused_scores(tmp_path: object) -> None:
    store = Store(str(tmp_path))
    run = {
        "model": {"identity": {"architecture": "qwen"}},
        "signals": [
            {"fingerprint": "a" * 64, "signal": "answer_loss", "needed": 100},
            {"fingerprint": "b" * 64, "signal": "one_shot", "wanted": 100},
        ],
    }
    assert of_run(run, store, 100, 30).selecting is None  # nothing was noted
    store.record_cost("a" * 64, 50, 5.0)
    store.record_cost("b" * 64, 100, 20.0)
    found = of_run(run, store, 100, 30)
    assert math.isclose(found.selecting or 0, 30) and math.isclose(
        found.per_epoch or 0, 3 * 0.1 * 70
    )
    assert found.trainings == 2
    served = {**run, "model": {"identity": {"architecture": "openai"}}}
    # a server's seconds are not those of training
    assert of_run(served, store, 100, 30).per_epoch is None
    assert of_run(run, None, 100, 30).selecting is None
    assert of_run({"signals": []}, store, 100, 30).trainings == 1


@pytest.mark.parametrize(
    ("config", "asks"),
    [
        ({"method": "stratified", "settings": {"by": "skill"}}, True),
        ({"method": "random", "quota": ["skill:words=..10%"]}, True),
        ({"method": "random", "filter": ["skill=words"]}, True),
        ({"method": "stratified", "filter": ["length < 9"]}, False),
        ({"method": "of-another-version"}, False),
    ],
)
def test_a_selection_by_stored_skills_needed_a_model(
    tmp_path: object, config: dict[str, object], asks: bool
) -> None:
    """Its signals are not read where the skills of all rows are stored."""
    run = {"model": {"identity": {"architecture": "qwen"}}, "signals": [], "config": config}
    found = of_run(run, Store(str(tmp_path)), 100, 30)
    assert found.selecting_words == ("not measured" if asks else "no model needed")
