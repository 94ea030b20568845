"""Training on distillation examples with a tiny model: a scorer learns the teacher's scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.tiny_models import build
from tests.training.colour_pools import pool_of, record
from thresher.backends import resolve
from thresher.signals.capabilities import CAPABILITIES
from thresher.signals.distillation import ScoreExamples
from thresher.signals.judge import Judge
from thresher.signals.teacher import TeacherJudge
from thresher.signals.teacher_sample import TeacherSample
from thresher.stats.correlation import spearman
from thresher.training import Recipe, fit
from thresher.training.distillation_pool import DistillationPool
from thresher.types import Columns, ModelIdentity

TEACHER = ModelIdentity("labels", "none", "none", "none")
OURS = (CAPABILITIES[0], CAPABILITIES[13])


def taught(pool, scores):
    """Distillation examples of the pool's rows. `scores`: [rows, 2], of the teacher."""
    examples = ScoreExamples(
        tuple(TeacherJudge(TEACHER, c, sample=TeacherSample(1.0, 0)) for c in OURS)
    )
    values = {
        f"score_{i}": {
            "score": scores[:, i].astype(np.float32),
            "best": np.nan_to_num(scores[:, i]).astype(np.int32),
        }
        for i in range(len(OURS))
    }
    n = len(pool)
    columns = Columns(pool.digest, np.zeros(n, np.uint64), np.zeros(n, np.int32), ("",), values)
    return DistillationPool(pool, np.arange(n), examples, columns)


def test_scorer_learns_from_examples_and_reuses_a_finished_folder(tmp_path: Path) -> None:
    pool = pool_of(tmp_path / "pool", [record(i) for i in range(24)])
    warm = [
        any("red" in turn.text or "white" in turn.text for turn in s.turns)
        for s in pool.samples(range(24))
    ]
    scores = np.stack([np.where(warm, 5.0, 0.0), np.full(24, 2.0)], axis=1)
    scores[3, 1] = np.nan  # the teacher gave no number: one example fewer
    examples = taught(pool, scores)
    assert len(examples) == 47 and {s.turns[-1].text for s in examples.samples(range(47))} == {
        "0",
        "5",
        "2",
    }
    base, out = str(build("llava")), tmp_path / "scorer"
    recipe = Recipe(steps=30, batch=8, learning_rate=4e-3)
    done = fit(base, examples, None, recipe, out, device="cpu")
    assert done.rows == 47 and not done.unusable and done.losses[-1] < done.losses[0] / 2
    assert fit(base, examples, np.arange(47), recipe, out, device="cpu").steps == 0

    handle = resolve(str(out), device="cpu")
    judges = [Judge(handle.identity, c) for c in OURS]
    found, mass = np.zeros((24, 2)), np.zeros((24, 2))
    for pieces in Judge.batch_rows(judges, pool.samples(range(24)), None, handle.open(), pool):
        for i, piece in enumerate(pieces):
            found[piece.index, i], mass[piece.index, i] = (
                piece.values["score"],
                piece.values["mass"],
            )
    assert np.median(mass) > 0.5  # it answers with numbers now
    assert np.abs(found[:, 1] - 2).max() < 1
    assert spearman(found[:, 0], scores[:, 0]) > 0.3


def test_examples_with_unreadable_image_are_reported_by_row_id(tmp_path: Path) -> None:
    pool = pool_of(tmp_path / "pool", [record(i) for i in range(12)])
    examples = taught(pool, np.full((12, 2), 3.0))
    assert sorted(set(examples.ids(range(24)))) == sorted(pool.ids(range(12)))
    (tmp_path / "pool" / "green.png").write_bytes(b"cut off")
    with_green = {
        i
        for i, s in enumerate(pool.samples(range(12)))
        if any("green" in image.path for image in s.images)
    }
    done = fit(
        str(build("llava")), examples, None, Recipe(epochs=1, batch=8), tmp_path / "m", device="cpu"
    )
    assert done.rows == 24 and {u.id for u in done.unusable} == set(pool.ids(sorted(with_green)))
    assert len(done.unusable) == 2 * len(with_green) > 0 and all(
        "green.png" in u.error for u in done.unusable
    )
