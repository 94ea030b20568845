"""The guard: training rows, held-out rows, and its verdict."""

import hashlib

import numpy as np
import pytest

from thresher.fingerprint import fingerprint
from thresher.signals.answer_loss import AnswerLoss
from thresher.signals.cross_fit import CrossFittedLoss, CrossRows
from thresher.signals.guard import LEAST, LEVEL, GuardRows, GuardVerdict, HeldOut, sign_test
from thresher.signals.part_loss import PartLoss
from thresher.signals.skills import Skills
from thresher.signals.visual_gain import VisualGain
from thresher.types import Columns, ModelIdentity, PartSignal, digests_to_array, seeded_ties

MODEL = ModelIdentity("sha256:0", "llava", "float32", "pil")
LOSS = AnswerLoss(MODEL)


def columns(n, copies=1, **values):
    digest = np.sort(
        digests_to_array([hashlib.sha256(b"%d" % (i // copies)).digest() for i in range(n)])
    )
    return Columns(digest, seeded_ties(digest, 0), np.zeros(n, np.int32), ("",), values)


@pytest.mark.parametrize(
    ("n", "rows"), [(0, 0), (1, 0), (24, 0), (25, 5), (50, 10), (5000, 1000), (9000, 1000)]
)
def test_held_out_rows(n, rows):
    chosen = HeldOut(0).pool(columns(n))["chosen"]
    assert chosen.sum() == rows
    if n == 9000:
        assert (chosen != HeldOut(1).pool(columns(n))["chosen"]).any()


@pytest.mark.parametrize(("distinct", "rows"), [(1, 0), (2, 0), (24, 0), (30, 6)])
def test_one_of_several_duplicates_is_held_out(distinct, rows):
    """A pool of copies of few rows has little to hold out, and something to train on is left."""
    given = columns(distinct * 20, copies=20)
    chosen = HeldOut(0).pool(given)["chosen"]
    assert chosen.sum() == len(np.unique(given.digest[chosen])) == rows
    drawn = GuardRows(HeldOut(0), 10, 0).pool(columns(distinct * 20, 20, held={"chosen": chosen}))[
        "chosen"
    ]
    assert drawn.sum() == 10


@pytest.mark.parametrize("copies", [1, 3])
def test_guard_models_never_see_held_out_rows_or_duplicates(copies):
    n = 600
    given = columns(n, copies)
    held = HeldOut(0)
    rng = np.random.default_rng(0)
    values = {
        "held": held.pool(given),
        "trust": {"nll": rng.gamma(1, 1, n)},
        "loss": {"nll": rng.gamma(1, 1, n)},
        "skills": {"leaf": rng.integers(0, 20, n)},
        "gain": {"gain": np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n))},
    }
    given = columns(n, copies, **values)
    chosen = np.asarray(values["held"]["chosen"])
    skills = Skills(LOSS, LOSS)
    for rows in (
        GuardRows(held, 40, 0),
        GuardRows(held, 40, 0, LOSS, LOSS, skills),
        GuardRows(held, 40, 0, LOSS, LOSS, skills, gain=VisualGain(LOSS)),
    ):
        assert rows.inputs().keys() <= values.keys()
        drawn = rows.pool(given)["chosen"]
        assert drawn.sum() == 40
        assert not np.isin(given.digest[drawn], given.digest[chosen]).any()
    assert not (values["gain"]["gain"][drawn] <= 0).any()


def test_random_rows_equal_those_of_random():
    """The first in the seeded order, as `--method random` with this seed takes them."""
    given = columns(400, held=HeldOut(3).pool(columns(400)))
    drawn = GuardRows(HeldOut(3), 30, 3).pool(given)["chosen"]
    first = np.argsort(seeded_ties(given.digest, 3), kind="stable")[:30]
    assert set(np.flatnonzero(drawn).tolist()) == set(first.tolist())


@pytest.mark.parametrize(
    ("better", "worse", "passed"),
    [(0, 0, True), (30, 0, True), (20, 20, True), (20, 30, True), (20, 40, False), (0, 5, False)],
)
def test_the_verdict_counts_held_out_rows_only(better, worse, passed):
    n = 200
    held = np.arange(n) < 100
    ours, theirs = np.zeros(n, bool), np.zeros(n, bool)
    ours[:better] = True
    theirs[50 : 50 + worse] = True
    ours[90:100] = theirs[90:100] = True
    theirs[100:] = True  # not held out
    given = columns(
        n,
        held={"chosen": held},
        selected={"greedy_match": ours},
        random={"greedy_match": theirs},
    )
    out = GuardVerdict(HeldOut(0), LOSS, LOSS).pool(given)
    assert out.pop("chance").tolist() == pytest.approx([sign_test(better, worse)] * n)
    assert {name: set(a.tolist()) for name, a in out.items()} == {
        "rows": {100},
        "better": {better},
        "worse": {worse},
        "passed": {passed},
    }


@pytest.mark.parametrize(
    ("better", "worse", "readable", "passed"),
    [(24, 29, False, True), (22, 29, False, False), (22, 29, True, True), (0, 4, False, True)],
)
def test_a_pool_that_the_base_cannot_judge_is_doubted_sooner(better, worse, readable, passed):
    n = 100
    ours, theirs = np.arange(n) < better, np.arange(n)[::-1] < worse
    given = columns(
        n,
        held={"chosen": np.ones(n, bool)},
        selected={"greedy_match": ours},
        random={"greedy_match": theirs},
        judgement={"readable": np.full(n, readable)},
    )
    out = GuardVerdict(HeldOut(0), LOSS, LOSS, LOSS).pool(given)
    assert set(out["passed"].tolist()) == {passed}


def test_fewer_than_the_least_differing_answers_cannot_refuse():
    assert sign_test(0, LEAST) < LEVEL <= sign_test(0, LEAST - 1)


def test_sign_test_is_exact():
    assert sign_test(0, 4) == pytest.approx(1 / 16) and sign_test(0, 5) < LEVEL
    assert sign_test(1, 2) == pytest.approx(4 / 8)


# ------------------------------------------------------------------------------- cross-fitted loss


@pytest.mark.parametrize("copies", [1, 2])
def test_two_seed_models_share_no_row(copies):
    given = columns(1000, copies)
    first, second = (CrossRows(0.05, 7, part).pool(given)["chosen"] for part in (0, 1))
    assert first.sum() == second.sum() == 50
    assert not np.isin(given.digest[first], given.digest[second]).any()


@pytest.mark.parametrize(("n", "rows"), [(40, 10), (1000, 250), (4000, 500), (20_000, 1000)])
def test_seed_rows_are_enough_for_a_training(n, rows):
    parts = [CrossRows(0.05, 0, part, 500).pool(columns(n))["chosen"] for part in (0, 1)]
    assert parts[0].sum() == parts[1].sum() == rows and not (parts[0] & parts[1]).any()


@pytest.mark.parametrize("n", [1, 2, 3])
def test_tiny_pools_have_seed_rows(n):
    assert CrossRows(0.05, 0, 0).pool(columns(n))["chosen"].sum() == 1


def test_each_row_has_the_loss_of_a_model_that_did_not_see_it():
    given = columns(
        4,
        rows={"chosen": np.array([True, False, False, True])},
        first={"nll": np.array([0.1, 0.2, 0.3, 0.4])},
        second={"nll": np.array([5.0, np.nan, np.nan, 6.0])},
    )
    signal = CrossFittedLoss(CrossRows(0.05, 0, 0), LOSS, LOSS)
    assert signal.pool(given)["nll"].tolist() == pytest.approx([5.0, 0.2, 0.3, 6.0])


def test_a_part_loss_is_known_by_its_model_only():
    a, b = (PartLoss(MODEL, HeldOut(seed)) for seed in (0, 1))
    assert isinstance(a, PartSignal) and a.inputs().keys() == {"among"}
    assert fingerprint(a) == fingerprint(b)
