"""Scores that a judge generates as text: prompt and parsing."""

import math
import time

import numpy as np
import pytest

from thresher.answers.parsing import parse_option
from thresher.backends.fake import FakeBackend
from thresher.signals.capabilities import CAPABILITIES, STYLES
from thresher.signals.style import style_bits, style_names
from thresher.signals.written_score import WrittenScore, score_of
from thresher.types import ModelIdentity, Sample, Turn

MODEL = ModelIdentity("sha256:0", "llava", "float32", "pil")


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("4", 4),
        (" 0\n", 0),
        ("5.", 5),
        ("Score: 3", 3),
        ("3/5", 3),
        ("**2**", 2),
        ("4.0", 4),
        ("I say 1, not 5", 1),
        ("10", None),
        ("7", None),
        ("3.5", None),
        ("-2", None),
        ("", None),
        ("four", None),
        ("0.5", None),
        ("15 or 2", None),
        # a scale is not a rating, whatever it looks like
        ("On a scale of 0 to 5, I", None),
        ("Helpfulness (0-5): 4", 4),
        ("Score (out of 5): 3", 3),
        ("Rating [0, 5] = 2", 2),
        ("On a 0–5 scale, I would say 1.", 1),
        ("Rating (0-10): 4", None),
        ("Rating (1-5): 4", 4),
        ("Score/5: 4", 4),
        (
            "On a scale of 0 to 5, how do you rate the helpfulness of the VQA instance in "
            "training a Multimodal Large Language Model for object spatial understanding? I rate "
            "it 4.",
            4,
        ),
        ("On a scale of 0-5 (0 = not helpful, 5 = very helpful), I'd rate it 2", 2),
        ("from 0 to", None),
        # of five, of something else
        ("4 out of 5", 4),
        ("I would give 4 out of 5", 4),
        ("4 / 5", 4),
        ("8/10", None),
        ("Rating: 4 out of 10", None),
        ("2/3", None),
        ("4/5 of the image is dark", None),
        ("5 out of 5 stars", 5),
        # prose
        ("I'd give it a 4.", 4),
        ("**Rating:** 4/5", 4),
        ("Rating\n4", 4),
        ("It shows a sign.\n\n4", 4),
        ("Score - 4", 4),
        ('{"score": 4}', 4),
        ("\\boxed{0}", 0),
        ("Helpfulness: High (4)", 4),
        ("4. The image shows 2 dogs.", 4),
        ("４", 4),
        ("There are 3 signs, so I rate it 4.", 4),
        ("1. Clear. 2. Short.\nScore: 5", 5),
        ("Clarity 3. Overall: 4", 4),
        ("The image has 3 dogs.", None),
        ("3 dogs are seen", None),
        (("The answer is 3, which is wrong."), None),
        ("Figure 2 helps.", None),
        ("Rating: four", None),
        ("zero", None),
        # between two, or taken back
        ("between 3 and 4", None),
        ("I'd rate it between 3 and 4.", None),
        ("3-4", None),
        ("Score: 3–4", None),
        ("3 or 4", None),
        ("Score: 3\nScore: 4", None),
        ("2\n\nScore: 4", None),
        ("3, 4", None),
        ("not a 4", None),
        ("at least 3", None),
        ("I would not give it a 4.", None),
        ("The rating is at least 3.", None),
        # no whole number of the scale
        ("4.5", None),
        ("Score: 4.5", None),
        ("4,5", None),
        ("-1", None),
        ("Rating: -1", None),
        ("−1", None),
        ("4%", None),
        ("$4", None),
        ("4th", None),
        ("2024-03-04", None),
        ("1e3", None),
        # reasoning
        ("<think>\nThe user wants a number from 0 to", None),
        ("<think>0? No, 3</think>\n\n4", 4),
        ("maybe 3</think>4", 4),
        ("<reasoning>Score: 2", None),
        (("<|channel|>analysis<|message|>Score: 2<|channel|>final<|message|>5"), 5),
    ],
)
def test_unambiguous_ratings_are_parsed(text, score):
    found = score_of(text)
    assert math.isnan(found) if score is None else found == score


@pytest.mark.parametrize(
    "text", ["I rate it 4", "Score: 4.", "Rating: 4/", "On a scale of 0", "Score: 3\nScore: 4"]
)
def test_number_at_a_truncation_is_ignored(text):
    assert math.isnan(score_of(text, finished=False))


@pytest.mark.parametrize(
    ("text", "score"),
    [("4", 4), ("4\n\nThe instance sh", 4), ("I rate it 4, because it", 4), ("3/5", 3)],
)
def test_number_before_a_truncation_counts(text, score):
    assert score_of(text, finished=False) == score


@pytest.mark.parametrize(
    "text",
    [
        "0 to 5 " * 150_000,
        "score " * 170_000 + "4",
        "<think>" * 150_000,
        "4 " * 500_000,
        "*4" * 500_000,
        "- " * 500_000,
    ],
)
def test_hostile_answer_of_a_megabyte_is_parsed_quickly(text):
    began = time.process_time()
    score_of(text)
    parse_option(text, "ABCD")
    style_bits(text)
    assert time.process_time() - began < 30


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("B", 1),
        ("b", 1),
        ("(C)", 2),
        ("B. red", 1),
        ("B) red", 1),
        ("The answer is (D).", 3),
        ("Answer: A", 0),
        ("Option C is right", 2),
        ("The correct choice is B", 1),
        ("<think>A or B?</think> C", 2),
        ("**D**", 3),
        ("A dog is there", None),
        ("I think so", None),
        ("The answer is a cat", None),
        ("The choice is a dog", None),
        ("The answer is not A.", None),
        ("Option A is wrong", None),
        ("A or B", None),
        ("<think>The answer is A", None),
        ("The answer is A or option B", None),
        ("E", None),
        ("", None),
        ("The answer is A dog", None),
    ],
)
def test_options_named_in_prose(text, option):
    assert parse_option(text, "ABCD") == option


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Styles: yes/no, comparison", {"yes/no", "comparison"}),
        ("<think>Is it multi-choice, or yes/no, hm</think>coordinate", {"coordinate"}),
        ("<think>\nmulti-choice, yes/no, comparison", set()),
        ("Interaction style candidates: [" + ", ".join(STYLES) + "]", set()),
        ("It is not a comparison.", set()),
    ],
)
def test_styles_are_parsed_from_the_answer_only(text, names):
    assert set(style_names(style_bits(text))) == names


def test_the_question_follows_the_row_in_one_user_turn():
    rows = [
        Sample(f'"{i}"', (Turn("user", f"<image>\nQ{i}"), Turn("assistant", f"A{i}")), ())
        for i in range(40)
    ]
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
        "Question: <image>\nQ3 Answer: A3\nOn a scale of 0 to 5, how do you rate the helpfulness "
        "of the VQA instance in training a Multimodal Large Language Model for object spatial "
        "understanding?"
    )
