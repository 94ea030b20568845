"""The end of an answer, and whether the model would stop there."""

from __future__ import annotations

import numpy as np
import pytest

from thresher.backends.hf.answer_ends import AnswerEnds

STOPS = frozenset({2, 9})
# answers 6 7 and 8; a line break (3) before the second end
IDS = np.array([1, 5, 6, 7, 2, 4, 5, 8, 3, 2, 4])


def ends(*answers: int) -> AnswerEnds:
    return AnswerEnds.find(IDS, np.array(answers), STOPS)


def test_positions_include_the_end_token() -> None:
    assert ends(2, 3, 7).positions == ((3,), (7, 8))
    assert ends(10).positions == ((10,),)  # nothing follows


@pytest.mark.parametrize(
    ("predicted", "reached"),
    [
        ({3: 2, 7: 3, 8: 2}, True),
        ({3: 9, 7: 3, 8: 9}, True),  # any token that ends an answer
        ({3: 2, 7: 2, 8: 5}, True),  # without the line break
        ({3: 6, 7: 3, 8: 2}, False),  # the first answer continues
        ({3: 2, 7: 3, 8: 6}, False),
        ({3: 2, 7: 8, 8: 2}, False),
    ],
)
def test_every_answer_must_end(predicted: dict[int, int], reached: bool) -> None:
    assert ends(2, 3, 7).reached(IDS, predicted) is reached
