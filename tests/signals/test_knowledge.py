import numpy as np

from tests.methods.planted_columns import digests
from thresher.signals.answer_loss import AnswerLoss
from thresher.signals.knowledge import Knowledge
from thresher.types import Columns, ModelIdentity, PoolSignal, seeded_ties

LOSS = AnswerLoss(ModelIdentity("sha256:0", "llava", "float32", "pil"))


def parametric(nll, tokens, match, long_answer=32):
    d = np.sort(digests(len(nll)))
    loss = {
        "nll": np.array(nll, np.float32),
        "tokens": np.array(tokens, np.int32),
        "greedy_match": np.array(match, bool),
    }
    columns = Columns(d, seeded_ties(d, 0), np.zeros(len(d), np.int32), ("",), {"loss": loss})
    return Knowledge(LOSS, long_answer).pool(columns)["parametric"].tolist()


def test_short_answers_by_greedy_match_whatever_their_loss():
    assert parametric([9.0, 0.1, 0.2], [1, 32, 5], [True, False, True]) == [True, False, True]


def test_long_answers_by_the_median_of_the_whole_pool():
    # median of 0.1 0.2 0.5 0.9 3.0 is 0.5; the long ones are 0.2 (below), 0.5 (not below) and 0.9
    nll, tokens = [0.1, 0.2, 0.5, 0.9, 3.0], [1, 33, 40, 100, 2]
    assert parametric(nll, tokens, [False, False, True, True, False]) == [
        False,
        True,
        False,
        False,
        False,
    ]


def test_long_answer_setting():
    assert parametric([0.1, 0.9], [5, 5], [False, True], long_answer=4) == [True, False]


def test_protocol():
    signal = Knowledge(LOSS)
    assert isinstance(signal, PoolSignal)
    assert signal.inputs() == {"loss": LOSS}
