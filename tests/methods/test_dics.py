"""dics on planted columns: ten rows by hand, and which signals it needs."""

from __future__ import annotations

import numpy as np
import pytest

from tests.methods.planted_columns import digests
from thresher.errors import ConfigError
from thresher.methods import load
from thresher.methods.dics import Dics
from thresher.methods.explanation import Evidence
from thresher.methods.needs import trains
from thresher.signals.embedding import Embedding
from thresher.signals.question_loss import BLIND, GIVEN, QuestionLoss
from thresher.signals.seed_rows import SeedRows
from thresher.signals.vectors import WIDTH, as_bytes
from thresher.signals.word_loss import WordLoss
from thresher.types import Columns, MethodContext, ModelIdentity, Selection, TrainedModel

NAN = np.nan
MODEL = ModelIdentity("sha256:0", "llava", "float32", "pil")
# factors, per weighted token:  0  1    2  3  4  5    6    7    8  9
VIC = np.array([8.0, 4, 2, 0.5, 6, 3, NAN, NAN, 2, 5])
RIC = np.array([4.0, 4, 3, 4.0, 2, 3, NAN, NAN, NAN, 0.5])
# score: the smaller       4  4  2  0.5  2  3    1    1    2  0.5
# degrees; rows of a close angle are alike
ANGLE = np.array([10.0, 0, 180, 50, 270, 170, 30, 40, 60, 70])
TIES = np.array([9, 3, 7, 5, 1, 8, 6, 2, 4, 0], np.uint64)


def words(content: np.ndarray, light: np.ndarray, tokens: int = 1) -> dict[str, np.ndarray]:
    """Losses of `tokens` tokens of each kind."""
    count = np.where(np.isnan(content), 0, tokens).astype(np.int32)
    return {
        "content": (content * count).astype(np.float32),
        "content_tokens": count,
        "light": (light * count).astype(np.float32),
        "light_tokens": count,
    }


def columns_of(vic: np.ndarray = VIC, ric: np.ndarray = RIC) -> Columns:
    """Only content words differ: by 1.1 times the gain, as they have 1/1.1 of the weight."""
    n = len(vic)
    vectors = np.zeros((n, WIDTH))
    vectors[:, 0], vectors[:, 1] = np.cos(np.radians(ANGLE)), np.sin(np.radians(ANGLE))
    base = np.where(np.isnan(vic), NAN, 3.0)
    turned = np.where(np.isnan(ric), NAN, 2.0)
    values = {
        "answer": words(np.full(n, 3.0), np.full(n, 9.0)),
        "answer_without_image": words(base + 1.1 * np.log(vic), base * 3),
        "question": words(turned + 1.1 * np.log(ric), turned),
        "question_of_answer": words(turned, turned),
        "asked": {"vector": as_bytes(vectors)},
        "answered": {"vector": as_bytes(vectors)},
        "visual": {"given": ~np.isnan(vic)},
    }
    return Columns(np.sort(digests(n)), TIES, np.zeros(n, np.int32), ("",), values)


def run(budget: int, vic: np.ndarray = VIC, ric: np.ndarray = RIC) -> Selection:
    return load("dics").select(columns_of(vic, ric), budget)


def test_ten_rows_by_hand() -> None:
    """By score 1 and 0 (4; ties 3, 9), 5 (3), 4, 8, 2 (2; ties 1, 4, 7), 7, 6 (1; ties 2, 6), 9, 3
    (0.5; ties 0, 5). For 3 rows the candidates are the first six; from 1, at 0 degrees, 2 is the
    farthest, and from both 4."""
    found = run(3)
    assert found.reason["score"].tolist() == pytest.approx([4, 4, 2, 0.5, 2, 3, 1, 1, 2, 0.5])
    assert found.reason["score_rank"].tolist() == [2, 1, 6, 10, 4, 3, 8, 7, 5, 9]
    assert np.flatnonzero(found.reason["candidate"]).tolist() == [0, 1, 2, 4, 5, 8]
    assert found.rows.tolist() == [1, 2, 4]
    assert found.reason["place"].tolist() == [0, 1, 2, 0, 3, 0, 0, 0, 0, 0]


def test_from_half_on_the_highest_scores_are_taken() -> None:
    assert run(5).rows.tolist() == [1, 0, 5, 4, 8]
    assert run(5).reason["candidate"].sum() == 5
    assert run(10).rows.tolist() == [1, 0, 5, 4, 8, 2, 7, 6, 9, 3]
    assert run(4).reason["candidate"].sum() == 8 and run(0).rows.tolist() == []


def test_one_row_without_a_question_has_the_image_alone() -> None:
    assert run(3).reason["score"][8] == pytest.approx(2)
    assert np.isnan(run(3).reason["answer_gain"][8])


def test_function_words_weigh_less() -> None:
    """The image changes function words only: by 2 nats, of a tenth of the weight."""
    columns = columns_of()
    for field in ("content", "light"):
        columns.values["answer_without_image"][field][:] = columns["answer"][field]
    columns.values["answer_without_image"]["light"][:] += 2
    gains = [
        load("dics", {"function_words": weight}).select(columns, 5).reason["image_gain"][0]
        for weight in ("0.1", "1")
    ]
    assert gains == pytest.approx([0.2 / 1.1, 1.0], abs=1e-5)


def test_huge_losses_are_ranked_and_stay_finite() -> None:
    vic = VIC.copy()
    vic[3] = np.exp(600.0)
    found = run(5, vic, np.where(np.isnan(RIC), NAN, np.exp(650.0)))
    assert found.rows[0] == 3 and np.isfinite(found.reason["score"]).all()


def test_the_warm_up_is_a_model_trained_on_random_rows() -> None:
    context = MethodContext(MODEL, seed=4)
    warm = load("dics").signals(context)["answer"]
    assert isinstance(warm, WordLoss) and isinstance(warm.model, TrainedModel)
    assert warm.model.rows == SeedRows(0.05, 4)
    assert trains(load("dics")) and not trains(load("dics", {"warmup": "off"}))
    half = load("dics", {"warmup": "12.5%"}).signals(context)["answer"]
    assert isinstance(half, WordLoss) and half.model.rows == SeedRows(0.125, 4)  # type: ignore[union-attr]


def test_what_it_asks_without_a_warm_up() -> None:
    signals = load("dics", {"warmup": "off", "layer": "0.25"}).signals(MethodContext(MODEL))
    assert list(signals.values())[:-1] == [
        WordLoss(MODEL),
        WordLoss(MODEL, image=False),
        QuestionLoss(MODEL, BLIND),
        QuestionLoss(MODEL, GIVEN),
        Embedding(MODEL, 0.25, "question"),
        Embedding(MODEL, 0.25, "answer"),
    ]


@pytest.mark.parametrize(
    "settings",
    [
        {"warmup": "0.05"},
        {"warmup": "200"},
        {"warmup": "5Mtok"},
        {"warmup": "0%"},
        {"warmup": "none"},
        {"function_words": "0"},
        {"function_words": "1.5"},
        {"layer": "2"},
    ],
)
def test_settings_that_are_impossible(settings: dict[str, str]) -> None:
    ((name, value),) = settings.items()
    with pytest.raises(ConfigError, match=f'{{"{name}": "?{value}"?}}: expected'):
        load("dics", settings)


def test_notes() -> None:
    helped, bare = run(3).notes
    assert "score below 1" in run(10).notes[1] and run(10).notes[1].endswith("row: 2 rows.")
    assert helped == (
        "The visual input makes the answer more likely in 88% of the rows with an image or video."
    )
    assert bare.startswith("2 rows without an image or video count as 1")
    assert "0 of them are kept" in bare
    assert "unable to read" in run(3, 1 / VIC).notes[0]
    assert run(3, VIC * NAN, RIC * NAN).notes == (
        "No row has an image or a scored video, so all have the same score.",
    )


def test_reasons_in_words() -> None:
    for budget in (3, 5):
        chosen = run(budget)
        kept = np.isin(np.arange(10), chosen.rows)
        explanation = Dics.explain(Evidence(chosen.reason, kept))
        assert explanation.why is not None
        text = explanation.why(1).text
        assert text.startswith(
            "kept: score 4, 1 of 10 by score: the visual input makes the answer 4 times as likely "
            "per token and the answer makes the question 4 times as likely"
        )
        assert ("taken first, for its score" in text) == (budget == 3)
        assert explanation.why(3).kind == "the visual input speaks against the answer"
        assert "a row without an image or video counts as 1" in explanation.why(6).text
        if budget == 3:
            assert "taken 2 of 3, as the row least like those before" in explanation.why(2).text
            assert explanation.why(0).kind == "high score, but like a kept row"
            assert "Of the 6 rows of the highest score, 3 are kept" in explanation.lead
    assert Dics.explain(Evidence({}, kept)).lead == ""
