"""Fixed-point vectors: exact products, centring, parts that a row lacks."""

import numpy as np
import pytest

from thresher.clusters import SCALE, unit_vectors
from thresher.clusters.vectors import fixed_point


@pytest.mark.parametrize("width", [2, 64, 512])
def test_products_in_float32_are_exact_in_every_order(width):
    rng = np.random.default_rng(width)
    spread = rng.normal(size=(300, width)) ** 3  # a few large coordinates, many small ones
    a = fixed_point(spread)
    exact = a.astype(np.int64) @ a.astype(np.int64).T
    for order in (np.arange(width), np.arange(width)[::-1], rng.permutation(width)):
        b = np.ascontiguousarray(a[:, order], np.float32)
        assert (b @ b.T == exact).all()
    assert exact.max() < 2**24


def test_vectors_keep_the_cosines_of_centred_unit_vectors():
    rng = np.random.default_rng(0)
    given = rng.normal(size=(400, 40)) + 3 * rng.normal(size=40)
    got = unit_vectors([given]) / SCALE
    units = given / np.linalg.norm(given, axis=1, keepdims=True)
    units -= units.mean(axis=0)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    assert np.abs(got @ got.T - units @ units.T).max() < 5e-3


def test_joined_parts_keep_their_leading_directions():
    """Rows of 5 kinds in two parts of 96 coordinates: 64 components tell the kinds apart."""
    rng = np.random.default_rng(1)
    kind = rng.integers(0, 5, 500)
    parts = [rng.normal(size=(5, 96))[kind] + 0.3 * rng.normal(size=(500, 96)) for _ in range(2)]
    got = unit_vectors(parts) / SCALE
    assert got.shape == (500, 64)
    cosine = got @ got.T
    same = kind[:, None] == kind
    assert cosine[same].min() > cosine[~same].max()


def test_missing_part_is_zero_not_the_mean():
    given = np.array([[3.0, 4.0], [4.0, 3.0], [0.0, 0.0]])
    other = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    got = unit_vectors([given, other])
    assert (got[2, :2] == 0).all() and (got[:2, :2] != 0).all()
    assert (unit_vectors([np.zeros((3, 2))]) == 0).all()


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_rows(n):
    got = unit_vectors([np.ones((n, 100), np.float16)])
    assert got.shape == (n, 64) and got.dtype == np.int16 and (got == 0).all()


def test_half_and_single_precision_nearly_agree():
    given = np.random.default_rng(2).normal(size=(50, 8)).astype(np.float32)
    a, b = unit_vectors([given]), unit_vectors([given.astype(np.float16)])
    assert np.abs(a - b).max() <= 8
