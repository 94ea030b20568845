"""Scores as a judge writes them: what is asked, and which numbers count."""

import math

import numpy as np
import pytest

from thresher.backends.fake import FakeBackend
from thresher.signals.capabilities import CAPABILITIES
from thresher.signals.written_score import WrittenScore, score_of
from thresher.types import ModelIdentity, Sample, Turn

MODEL = ModelIdentity("sha256:0", "llava", "float32", "pil")


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("4", 4), (" 0\n", 0), ("5.", 5), ("Score: 3", 3), ("3/5", 3), ("**2**", 2), ("4.0", 4), ("I say 1, not 5", 1),
        ("10", None), ("7", None), ("3.5", None), ("-2", None), ("", None), ("four", None), ("0.5", None), ("15 or 2", 2),
    ],
)  # fmt: skip
def test_the_first_whole_number_from_0_to_5_counts(text, score):
    found = score_of(text)
    assert math.isnan(found) if score is None else found == score


def test_the_question_follows_the_row_in_one_user_turn():
    rows = [Sample(f'"{i}"', (Turn("user", f"<image>\nQ{i}"), Turn("assistant", f"A{i}")), ()) for i in range(40)]
    seen = {}

    def writes(sample):
        seen[sample.id] = sample.turns
        number = int(sample.id.strip('"'))
        return "no" if number == 7 else f"I rate it {number % 6}."

    def fails(sample):
        return "broken" if sample.id == '"9"' else ""

    signal = WrittenScore(MODEL, CAPABILITIES[0])
    score, error = np.zeros(40), [""] * 40
    for piece in signal.rows(rows, None, FakeBackend(writes=writes, fails=fails), None):
        assert piece.values["score"].dtype == np.float32
        assert (piece.values["parsed"] == ~np.isnan(piece.values["score"])).all()
        score[piece.index] = piece.values["score"]
        for i, e in zip(piece.index.tolist(), piece.errors, strict=True):
            error[i] = e
    assert np.isnan(score[7]) and (np.delete(score, 7) == np.delete(np.arange(40) % 6, 7)).all()
    assert error[9] == "broken" and error.count("") == 39
    system, user, answer = seen['"3"']
    assert (system.role, user.role, answer.role, answer.text) == ("system", "user", "assistant", "")
    assert user.text == (
        "Question: Q3 Answer: A3\nOn a scale of 0 to 5, how do you rate the helpfulness of the VQA instance in training a "
        "Multimodal Large Language Model for object spatial understanding?"
    )
