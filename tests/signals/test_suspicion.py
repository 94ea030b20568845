"""Suspicion on synthetic columns: components of the loss, and the check by images."""

import numpy as np
import pytest

from tests.suspicion_columns import CHECKED, LOSS, SKILLS, columns, planted
from thresher.signals.suspicion import UNCHECKED, Suspicion, image_agreement


def test_ten_rows_by_hand():
    """Rows 8 and 9 form the higher hump; their images speak against them, those of the others for
    them: so all suspected rows are wrong. Ranks by loss."""
    loss = [0.1, 0.2, 0.0, 0.15, 0.25, 0.3, 0.05, 0.12, 5.0, 5.5]
    out = CHECKED.pool(columns(loss, [0] * 10, [1.0] * 8 + [-1.0] * 2))
    assert out["suspicion"].round(3).tolist() == [0.0] * 8 + [1.0] * 2
    assert out["agreement"].tolist() == [1.0] * 10
    assert out["rank"].tolist() == [3, 6, 1, 5, 7, 8, 2, 4, 9, 10]
    assert out["rows"].tolist() == [10] * 10
    for name, kind in ((f.name, f.dtype) for f in CHECKED.fields):
        assert out[name].dtype == np.dtype(kind)


@pytest.mark.parametrize("helped", [0.9, 0.6])
def test_helpful_images_clear_suspected_rows(helped):
    rng = np.random.default_rng(3)
    loss = np.concatenate([planted(40, 10, seed) for seed in range(20)])
    leaf = np.repeat(np.arange(20), 40)
    gain = np.where(rng.random(800) < helped, 1.0, -1.0)
    out = CHECKED.pool(columns(loss, leaf, gain))
    assert out["hump"].sum() == pytest.approx(200, abs=5)
    assert out["suspicion"].max() < 0.3


@pytest.mark.parametrize(("helped", "most"), [(0.28, UNCHECKED), (0.6, UNCHECKED), (0.9, 1.0)])
def test_images_that_the_model_cannot_read_confirm_no_suspicion(helped, most):
    """Images never help the rows with a high loss. On 3,000 photographs the built-in model had 28%
    of helped rows, 13% among those with a high loss, and right rows had a suspicion of 0.76."""
    rng = np.random.default_rng(6)
    loss = np.concatenate([planted(40, 10, seed) for seed in range(20)])
    leaf = np.repeat(np.arange(20), 40)
    gain = np.where((loss < 3) & (rng.random(800) < helped), 1.0, -1.0)
    out = CHECKED.pool(columns(loss, leaf, gain))
    assert out["suspicion"].max() == pytest.approx(most, abs=0.01)
    # too few rows to tell
    few = np.full(800, np.nan)
    few[15:40] = gain[15:40]
    out = CHECKED.pool(columns(loss, leaf, few))
    assert out["suspicion"].max() > UNCHECKED


@pytest.mark.parametrize("share", [0.5, 0.8, 1.0])
def test_the_agreement_is_the_share_of_wrong_rows(share):
    """Right rows are helped in 9 of 10 cases, wrong ones never; `share` of the suspected rows is
    wrong."""
    rng = np.random.default_rng(4)
    hump = np.tile(np.repeat([0.0, 1.0], [30, 10]), 50)
    wrong = (hump > 0) & (rng.random(2000) < share)
    gain = np.where(~wrong & (rng.random(2000) < 0.9), 1.0, -1.0)
    leaf, parent = np.repeat(np.arange(50), 40), np.repeat(np.arange(5), 400)
    assert image_agreement(hump, gain, leaf, parent) == pytest.approx(share, abs=0.08)


def test_agreement_distinguishes_groups():
    rng = np.random.default_rng(5)
    hump = np.tile(np.repeat([0.0, 1.0], [30, 10]), 40)
    leaf, parent = np.repeat(np.arange(40), 40), np.repeat([0, 1], 800)
    read = parent == 0
    gain = np.where(rng.random(1600) < np.where(read, np.where(hump > 0, 0.0, 0.9), 0.5), 1.0, -1.0)
    found = image_agreement(hump, gain, leaf, parent)
    assert found[read].min() > 0.6 and found[~read].max() < 0.4


def test_rows_without_an_image_are_not_checked():
    loss, leaf = np.tile(planted(40, 10), 2), np.repeat([0, 1], 40)
    gain = np.where(leaf == 0, np.where(loss > 3, -1.0, 1.0), np.nan)
    out = CHECKED.pool(columns(loss, leaf, gain))
    assert np.isnan(out["agreement"][40:]).all() and not np.isnan(out["agreement"][:40]).any()
    assert out["suspicion"][40:].max() == pytest.approx(UNCHECKED)
    assert out["suspicion"][:40].max() == pytest.approx(1.0)
    unchecked = Suspicion(LOSS, SKILLS)
    assert set(unchecked.inputs()) == {"loss", "skills"}
    assert unchecked.pool(columns(loss, leaf))["suspicion"].max() == pytest.approx(UNCHECKED)


@pytest.mark.parametrize("n", [0, 1, 7])
def test_few_rows_are_not_suspected(n):
    out = CHECKED.pool(columns(planted(7, 2)[:n], [0] * n, [1.0] * n))
    assert out["suspicion"].tolist() == [0.0] * n
