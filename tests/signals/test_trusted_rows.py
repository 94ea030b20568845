"""Training rows of winnow's next round: by hand, and how they are divided."""

import hashlib

import numpy as np
import pytest

from thresher.signals.answer_loss import AnswerLoss
from thresher.signals.embedding import Embedding
from thresher.signals.skills import Skills
from thresher.signals.trusted_rows import TrustedRows
from thresher.signals.visual_gain import VisualGain
from thresher.types import Columns, ModelIdentity, digests_to_array, seeded_ties

MODEL = ModelIdentity("sha256:0", "llava", "float32", "pil")
LOSS = AnswerLoss(MODEL)
SKILLS = Skills(Embedding(MODEL), Embedding(MODEL, part="answer"))


def columns(n, copies=1, skills=20, **more):
    digest = np.sort(
        digests_to_array([hashlib.sha256(b"%d" % (i // copies)).digest() for i in range(n)])
    )
    of = np.unique(digest, return_inverse=True)[1]
    rng = np.random.default_rng(0)
    values = {
        "trust": {"nll": rng.gamma(1, 1, n)[of]},
        "loss": {"nll": rng.gamma(1, 1, n)[of]},
        "skills": {"leaf": rng.integers(0, skills, n)[of]},
        **more,
    }
    return Columns(digest, seeded_ties(digest, 0), np.zeros(n, np.int32), ("",), values)


def chosen(given, fraction=0.05, seed=0, **more):
    return [
        TrustedRows(LOSS, LOSS, SKILLS, fraction, seed, part, **more).pool(given)["chosen"]
        for part in (0, 1)
    ]


def test_ten_rows_by_hand():
    """One skill of ten rows, whose trusted half is the rows with even numbers: 2·2 of these five,
    the first four in the order of the seeded hash, in turn to each model."""
    given = columns(10, skills=1)
    even = np.arange(10) % 2 == 0
    given.values["trust"]["nll"] = np.where(even, 0.1, 5.0)
    order = [i for i in np.argsort(seeded_ties(given.digest, 7)).tolist() if even[i]]
    first, second = chosen(given, 0.2, seed=7)
    assert set(np.flatnonzero(first).tolist()) == {order[0], order[2]}
    assert set(np.flatnonzero(second).tolist()) == {order[1], order[3]}


@pytest.mark.parametrize("copies", [1, 3])
def test_the_models_see_different_rows_and_copies_stay_together(copies):
    given = columns(900, copies)
    first, second = chosen(given)
    distinct = 900 // copies
    for part in (first, second):
        assert len(np.unique(given.digest[part])) == round(0.05 * distinct)
        assert part.sum() == copies * round(0.05 * distinct)
    assert not np.isin(given.digest[first], given.digest[second]).any()
    other, _ = chosen(given, seed=1)
    assert (other != first).any()


def test_only_trusted_rows_are_trained_on_however_few():
    """A quarter of 400 rows each would be 200, but only about 40 are trusted."""
    given = columns(400, skills=4)
    first, second = chosen(given, keep=0.1, least=500)
    for part in (first, second):
        for skill in range(4):
            of = given["skills"]["leaf"] == skill
            highest = np.quantile(given["trust"]["nll"][of], 0.11)
            assert (given["trust"]["nll"][of & part] <= highest).all()
    assert abs(int(first.sum()) - int(second.sum())) <= 1 and 38 <= (first | second).sum() <= 42


def test_rows_that_the_image_does_not_help_are_left_out():
    gain = np.where(np.arange(600) % 3 == 0, np.nan, np.where(np.arange(600) % 3 == 1, -1.0, 1.0))
    given = columns(600, gain={"gain": gain})
    taken = np.logical_or(*chosen(given, gain=VisualGain(LOSS)))
    assert taken.sum() == 60 and not (gain[taken] <= 0).any()


@pytest.mark.parametrize("n", [0, 1])
def test_copies_of_one_row_train_both_models(n):
    for part in chosen(columns(30 * n, copies=30)):
        assert part.sum() == 30 * n


def test_most_rows_is_what_is_chosen():
    for n, least in ((900, 0), (900, 200), (20, 3), (1, 0)):
        signal = TrustedRows(LOSS, LOSS, SKILLS, 0.05, 0, 0, least)
        assert signal.pool(columns(n, skills=3))["chosen"].sum() == signal.most_rows(n)
    assert TrustedRows(LOSS, LOSS, SKILLS, 0.05, 0, 0, 500).most_rows(900) == 225  # a quarter
