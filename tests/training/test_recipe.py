"""The recipe: invalid values, default rates, and the order of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from thresher.errors import ConfigError
from thresher.fingerprint import fingerprint
from thresher.training import Recipe


@pytest.mark.parametrize(
    ("wrong", "result"),
    [
        ({"epochs": 0}, "epochs=0: expected a number above 0"),
        ({"epochs": float("nan")}, "epochs=nan"),
        ({"learning_rate": -1e-4}, "learning_rate=-0.0001: expected a number above 0"),
        ({"learning_rate": 3}, "learning_rate=3"),
        ({"steps": 0}, "steps=0"),
        ({"batch": 0}, "batch=0"),
        ({"accumulation": -1}, "accumulation=-1"),
        ({"seed": -1}, "seed=-1"),
        ({"warmup": 1.0}, "warmup"),
        ({"weight_decay": -0.1}, "weight_decay"),
        ({"schedule": "cosin"}, "cosine, linear, constant"),
        ({"precision": "fp8"}, "auto, fp32, bf16"),
        ({"lora_rank": 0}, "lora_rank=0"),
    ],
)
def test_wrong_values_are_refused_by_name(wrong: dict[str, Any], result: str) -> None:
    with pytest.raises(ConfigError, match=result.replace("(", r"\(")) as caught:
        Recipe(**wrong)
    assert caught.value.exit_code == 2


def test_one_epoch_takes_every_row_once_in_seeded_order() -> None:
    plan = Recipe(batch=16).batches(100)
    assert [len(b) for b in plan] == [16] * 6 + [4]
    order = np.concatenate(plan)
    assert sorted(order.tolist()) == list(range(100)) and order.tolist() != list(range(100))
    assert np.array_equal(order, np.concatenate(Recipe(batch=7).batches(100))), (
        "the order knows no batch size"
    )
    assert not np.array_equal(order, np.concatenate(Recipe(batch=16, seed=1).batches(100)))


def test_epochs_differ_and_steps_count_rows() -> None:
    two = np.concatenate(Recipe(epochs=2, batch=10).batches(50))
    assert sorted(two[:50].tolist()) == sorted(two[50:].tolist()) == list(range(50))
    assert two[:50].tolist() != two[50:].tolist()
    assert len(np.concatenate(Recipe(epochs=0.5).batches(50))) == 25
    steps = Recipe(steps=7, batch=4, accumulation=3, epochs=99).batches(10)
    assert len(steps) == 21 and {len(b) for b in steps} == {4}


def test_default_rates_follow_kind_and_size() -> None:
    assert (
        Recipe().learning_rate_for(7 * 10**9) == 2e-4
        and Recipe(lora=False).learning_rate_for(7 * 10**9) == 2e-5
    )
    assert Recipe().learning_rate_for(10**6) > Recipe().learning_rate_for(10**9)
    assert Recipe(learning_rate=0.1).learning_rate_for(1) == 0.1


def test_equal_recipes_have_one_fingerprint() -> None:
    assert fingerprint(Recipe(epochs=1)) == fingerprint(Recipe(epochs=1.0))
    assert fingerprint(Recipe()) != fingerprint(Recipe(seed=1))
