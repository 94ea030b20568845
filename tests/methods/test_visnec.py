"""visnec on synthetic columns: ten rows by hand, settings, signals and explanations."""

from __future__ import annotations

import numpy as np
import pytest

from tests.methods.planted_columns import digests
from thresher.errors import ConfigError
from thresher.methods import load
from thresher.methods.explanation import Evidence
from thresher.methods.visnec import VisNec
from thresher.signals.answer_loss import AnswerLoss
from thresher.signals.embedding import Embedding
from thresher.types import Columns, MethodContext, ModelIdentity, Selection

NAN = np.nan
#                0    1     2    3    4    5    6    7    8    9
GAIN = np.array([0.5, 2.0, -1.0, 1.0, 1.0, 0.1, NAN, NAN, NAN, 3.0], np.float32)
LEAF = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 2])
TIES = np.array([9, 3, 7, 5, 1, 8, 6, 2, 4, 0], np.uint64)


def run(budget: int, gain: np.ndarray = GAIN) -> Selection:
    words = np.array(["red cats", "how many", "where"], object)[LEAF]
    values = {"gain": {"gain": gain}, "skills": {"leaf": LEAF, "words": words}}
    n = len(gain)
    columns = Columns(np.sort(digests(n)), TIES, np.zeros(n, np.int32), ("",), values)
    return load("visnec").select(columns, budget)


def test_ten_rows_by_hand() -> None:
    """Of 6, 3 and 1 rows at half: 3, 1.5 and 0.5; the larger of equal remainders goes first."""
    chosen = run(5)
    assert chosen.rows.tolist() == [7, 1, 4, 8, 3]  # ranks 0/3, 0/6, 1/6, 1/3, 2/6
    assert chosen.reason["cluster_rank"].tolist() == [4, 1, 6, 3, 2, 5, 3, 1, 2, 1]
    assert chosen.reason["cluster_rows"].tolist() == [6] * 6 + [3] * 3 + [1]


def test_ties_use_the_hash_and_small_budgets_the_largest_cluster() -> None:
    assert run(1).rows.tolist() == [1]
    assert run(10).rows.tolist()[:3] == [9, 7, 1]
    assert sorted(run(10).rows.tolist()) == list(range(10))
    equal = run(5, np.where(np.isnan(GAIN), NAN, 1).astype(np.float32))
    assert sorted(equal.rows.tolist()) == [1, 3, 4, 7, 8]


def test_rows_without_image_keep_their_share_of_a_cluster() -> None:
    gain = np.where(np.arange(10) % 2 == 0, NAN, GAIN).astype(np.float32)
    rows = run(6, gain).rows
    assert np.isnan(gain[rows][LEAF[rows] == 0]).sum() == 2


def test_the_share_of_images_that_help_is_told() -> None:
    assert "more likely in 86% of the rows with an image or video." in run(5).notes[0]
    assert "unable to read" not in run(5).notes[0]
    assert "unable to read it" in run(5, -GAIN).notes[0]
    assert "No row has an image or a scored video" in run(5, np.full(10, NAN, np.float32)).notes[0]


def test_signals_are_one_pass_with_and_one_without_images() -> None:
    model = ModelIdentity("sha256:0", "llava", "float32", "pil")
    signals = load("visnec", {"clusters": "7", "layer": "0.25"}).signals(MethodContext(model))
    gain, skills = signals["gain"], signals["skills"]
    assert list(gain.inputs().values()) == [AnswerLoss(model), AnswerLoss(model, image=False)]
    assert skills.inputs()["question"] == Embedding(model, 0.25, "question")


@pytest.mark.parametrize("settings", [{"clusters": "0"}, {"layer": "2"}])
def test_impossible_settings(settings: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="settings="):
        load("visnec", settings)


def test_reasons_in_words() -> None:
    chosen = run(5)
    kept = np.isin(np.arange(10), chosen.rows)
    explanation = VisNec.explain(Evidence(chosen.reason, kept))
    assert explanation.why is not None
    assert (
        "visual gain +2.00 nats per token, rank 1 of 6 in its cluster (red cats)"
        in explanation.why(1).text
    )
    assert explanation.why(2).kind == "the visual input contradicts the answer"
    assert explanation.why(6).text == (
        "not kept: random sample of the rows without an image or video"
    )
    assert VisNec.explain(Evidence({}, kept)).lead == ""
