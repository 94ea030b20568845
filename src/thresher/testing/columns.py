"""Columns with synthetic values for any signals, to test a method's `select` without a model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from thresher.signals.vectors import VECTOR, WIDTH, as_bytes
from thresher.types import Columns, Field, Signal, digests_to_array, seeded_ties


def planted_columns(signals: Mapping[str, Signal], n: int, seed: int = 0) -> Columns:
    """Columns of `n` rows from three sources, with values for every field of every signal.

    Arguments:
        signals: name -> signal, as `Method.signals` returns them.
        n: rows, at least 0.
        seed: of values and ties; the digests are the same for every seed.
    """
    digest = np.sort(digests_to_array([hashlib.sha256(b"row %d" % i).digest() for i in range(n)]))
    rng = np.random.default_rng(seed)
    values = {
        name: {f.name: _values(f, n, rng) for f in signal.fields}
        for name, signal in signals.items()
    }
    source = rng.integers(0, 3, n).astype(np.int32)
    return Columns(digest, seeded_ties(digest, seed), source, ("chart", "photo", "text"), values)


def _values(f: Field, n: int, rng: np.random.Generator) -> np.ndarray:
    """[n] of the field's dtype: positive floats with a long tail, small integers, booleans, random
    vectors, or short texts."""
    dtype = np.dtype(object if f.dtype in ("str", "text") else f.dtype)
    if dtype.kind == "f":
        return rng.gamma(2.0, 0.7, n).astype(dtype)
    if dtype.kind == "b":
        return rng.random(n) < 0.4
    if dtype.kind in "iu":
        return rng.integers(0, 9, n).astype(dtype)
    words = rng.integers(0, 9, n).tolist()
    if f.dtype == VECTOR:
        return as_bytes(rng.standard_normal((n, WIDTH)))
    if dtype.kind == "S":
        return np.array([hashlib.sha256(b"%d" % w).digest() for w in words], dtype)
    return np.array([f"text {w}" for w in words], object)
