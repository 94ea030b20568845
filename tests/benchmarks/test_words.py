"""winnow with clusters of words: an ablation that asks the model for the loss only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from benchmarks.proof import stages
from benchmarks.proof.oracles import Labels
from benchmarks.proof.signals import purity
from benchmarks.proof.words import BUCKETS, hashed_words

from thresher.backends import resolve
from thresher.demo.pool import make_pool
from thresher.engine import RunContext
from thresher.pools import open_pool
from thresher.request import RunRequest
from thresher.selection.select import select
from thresher.selection.task import SelectionTask
from thresher.storage.columns import Store
from thresher.types import Budget


def test_words_are_counted() -> None:
    counts = hashed_words(["Red, red colour!", "", "colour Red"])
    assert counts.shape == (3, BUCKETS) and counts.sum(axis=1).tolist() == [3, 0, 2]
    assert sorted(counts[0][counts[0] > 0].tolist()) == [1, 2]
    assert (counts[0] > 0).tolist() == (counts[2] > 0).tolist()


def test_rows_with_like_words_are_one_skill(tmp_path: Path) -> None:
    """And the whole method selects; only its clusters differ from winnow's."""
    pool = open_pool(make_pool(tmp_path, 150, 2))
    model = resolve("demo", device="cpu")
    context = RunContext(Store(tmp_path / "store"), model)
    leaves = {}
    for name in ("winnow", "words instead of states"):
        method = stages.made(name)[name]
        task = SelectionTask(pool, method, Budget.parse("10%"), RunRequest(force=True))
        found = select(task, context)
        assert len(set(found.rows.tolist())) == 15
        leaves[name] = np.asarray(found.evidence["skill"])
    kinds = Labels.read(pool).kind[found.considered]
    words, states = leaves["words instead of states"], leaves["winnow"]
    assert len(np.unique(words)) == len(np.unique(states)) and purity(words, kinds) > 0.4
    assert words.tolist() != states.tolist()
