"""Correctness of one answer, larger is better: exact match, ANLS, relaxed accuracy.

ANLS as in ST-VQA and DocVQA: one minus the edit distance over the longer length, and 0 from a
normalised distance of 0.5 on. Relaxed accuracy as in ChartQA: a number within 5% of the expected
one is right; anything else must match exactly.
"""

from __future__ import annotations

from thresher.answers.normalise import normalise, number

ANLS_LIMIT = 0.5
TOLERANCE = 0.05


def exact_match(answer: str, expected: str) -> bool:
    """Whether both are equal once normalised; an empty answer is never right.

    Arguments:
        answer: the answer to judge.
        expected: the correct one.
    """
    return bool(answer.strip()) and normalise(answer) == normalise(expected)


def anls(answer: str, expected: str) -> float:
    """Average normalised Levenshtein similarity, 0..1, ignoring case and the amount of white space.

    Arguments:
        answer: the answer to judge.
        expected: the correct one.

    >>> anls("Hotel Rio", "hotel  rio"), anls("hotel", "hostel"), anls("car", "house")
    (1.0, 0.8333333333333334, 0.0)
    """
    from rapidfuzz.distance import Levenshtein

    a, b = (" ".join(t.casefold().split()) for t in (answer, expected))
    distance = Levenshtein.normalized_distance(a, b)
    return 1.0 - distance if distance < ANLS_LIMIT else 0.0


def relaxed_accuracy(answer: str, expected: str) -> bool:
    """Whether a number is within 5% of the expected one; other answers must match exactly.

    Arguments:
        answer: the answer to judge, with or without a % sign.
        expected: the correct one.

    >>> relaxed_accuracy("104", "100"), relaxed_accuracy("106", "100")
    (True, False)
    >>> relaxed_accuracy("Red", "red"), relaxed_accuracy("12%", "0.12")
    (True, True)
    """
    answer_number, expected_number = number(answer), number(expected)
    if answer_number is None or expected_number is None:
        return exact_match(answer, expected)
    if expected_number == 0:
        return answer_number == 0
    return abs(answer_number - expected_number) <= TOLERANCE * abs(expected_number) * (1 + 1e-12)
