"""Columns with planted values, as a run would hand them to a method: no pool and no model needed."""

from __future__ import annotations

import hashlib

import numpy as np

from thresher.types import Columns, digests_to_array, seeded_ties


def digests(n: int, start: int = 0) -> np.ndarray:
    """n different digests, unsorted."""
    return digests_to_array([hashlib.sha256(b"%d" % i).digest() for i in range(start, start + n)])


def columns_of(
    nll: np.ndarray,
    one_shot: np.ndarray,
    known: np.ndarray,
    *,
    seed: int = 0,
    source: np.ndarray | None = None,
    digest: np.ndarray | None = None,
    length: np.ndarray | None = None,
) -> Columns:
    """Every column that any method asks for, sorted by digest (row i of the input is wherever its digest puts it)."""
    n = len(nll)
    digest = digests(n) if digest is None else digest
    order = np.argsort(digest, kind="stable")
    digest = digest[order]
    source = np.arange(n) % 3 if source is None else source
    length = np.arange(n) % 7 if length is None else length
    half = np.array([d[0] & 1 if d else 0 for d in digest.tolist()], np.int32)
    ties = seeded_ties(digest, seed)
    seed_row = np.zeros(n, bool)
    seed_row[np.argsort(ties, kind="stable")[: max(n // 20, 1)]] = True
    values = {
        "loss": {
            "nll": nll[order].astype(np.float32),
            "tokens": np.ones(n, np.int32),
            "greedy_match": known[order].astype(bool),
        },
        "knowledge": {"parametric": known[order].astype(bool)},
        "demonstration_p": {"digest": digest.copy(), "half": half},
        "demonstration_w": {"digest": digest.copy(), "half": half},
        # the two passes differ and their mean is `one_shot`
        "one_shot_p": {"nll": (one_shot[order] * 1.5).astype(np.float32)},
        "one_shot_w": {"nll": (one_shot[order] * 0.5).astype(np.float32)},
        "seed_rows": {"chosen": seed_row},
        "necessity": {"nll": nll[order].astype(np.float32)},
        "length": {"length": length[order].astype(np.int32)},
    }
    names = ("chart", "photo", "text")
    return Columns(digest, ties, source[order].astype(np.int32), names, values)


def like_real(n: int, seed: int, ties: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(NLL0, one-shot NLL, known) of a pool of short answers: a few clusters by answer, shifted by 32 demonstrations."""
    rng = np.random.default_rng(seed)
    typical = np.array([0.002, 0.4, 1.2, 1.5, 3.0, 6.0])
    answer = rng.choice(6, n, p=[0.1, 0.35, 0.35, 0.1, 0.05, 0.05])
    nll = typical[answer] * np.exp(0.25 * rng.standard_normal(n))
    shift = rng.normal(-0.3, 0.4, (32, 6))[rng.integers(0, 32, n), answer]
    one_shot = nll**0.8 * np.exp(shift + 0.2 * rng.standard_normal(n))
    if ties:
        nll, one_shot = np.round(nll, 1), np.round(one_shot, 1)
    return nll.astype(np.float32), one_shot.astype(np.float32), nll < 0.69


def sample_columns(n: int, seed: int = 0, pool_seed: int = 0) -> Columns:
    nll, one_shot, known = like_real(n, pool_seed)
    return columns_of(nll, one_shot, known, seed=seed)
