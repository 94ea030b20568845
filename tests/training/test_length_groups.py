"""Grouping of batches by length: each row once, never more expensive than one pass, and the same
training."""

from pathlib import Path

import numpy as np
import pytest

from thresher.training import length_groups


def cost(groups: list[np.ndarray], sizes: np.ndarray, one_pass: int) -> int:
    return sum(len(g) * int(sizes[g].max()) + one_pass for g in groups)


@pytest.mark.parametrize("one_pass", [0, 30, 100, 10_000])
def test_cheapest_split(one_pass: int) -> None:
    rng = np.random.default_rng(one_pass)
    for n in (1, 2, 7, 16):
        sizes = rng.integers(10, 200, n)
        groups = length_groups.group_by_length(sizes, one_pass)
        assert sorted(np.concatenate(groups).tolist()) == list(range(n))
        order = np.argsort(sizes, kind="stable")
        halves = [[order[:k], order[k:]] for k in range(1, n)]  # every split in two, and none
        assert cost(groups, sizes, one_pass) <= min(
            cost(s, sizes, one_pass) for s in [[order], *halves]
        )
    assert len(length_groups.group_by_length(np.array([5, 500, 5]), 10_000)) == 1
    assert length_groups.group_by_length(np.array([], int)) == []


def test_training_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from thresher.demo.pool import make_pool
    from thresher.pools import open_pool
    from thresher.training import fit, trainer
    from thresher.training.recipe import Recipe

    pool = open_pool(make_pool(tmp_path / "pool", 48, 0))
    calls: list[int] = []
    real = length_groups.group_by_length
    monkeypatch.setattr(
        trainer, "group_by_length", lambda sizes: calls.append(len(real(sizes))) or real(sizes)
    )
    split = fit("demo", pool, None, Recipe(lora=False, batch=12), tmp_path / "split", device="cpu")
    monkeypatch.setattr(trainer, "group_by_length", lambda sizes: [np.arange(len(sizes))])
    whole = fit("demo", pool, None, Recipe(lora=False, batch=12), tmp_path / "whole", device="cpu")
    assert len(calls) == 4 and max(calls) > 1
    assert split.losses == pytest.approx(whole.losses, rel=1e-4)
