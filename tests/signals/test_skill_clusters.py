"""Skills: planted kinds of rows become leaves, with their characteristic words."""

import hashlib

import numpy as np
import pytest

from thresher.errors import ConfigError
from thresher.signals.embedding import Embedding
from thresher.signals.skills import WORD_ROWS, Skills, typical_rows
from thresher.signals.vectors import WIDTH, as_bytes
from thresher.types import (
    Columns,
    ModelIdentity,
    Sample,
    StoredPoolSignal,
    Turn,
    digests_to_array,
    seeded_ties,
)

KINDS = ("What colour is the ball?", "How many cats are there?", "Read the digits.", "Hello!")


def planted(n=600, seed=0, order=None):
    """Four kinds of rows, each with its own vectors; the last has no image. (inputs, samples)."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 4, n)
    centres = rng.normal(size=(2, 4, WIDTH))
    parts = [c[kind] + 0.4 * rng.normal(size=(n, WIDTH)) for c in centres]
    digest = digests_to_array([hashlib.sha256(b"%d" % i).digest() for i in range(n)])
    by_digest = np.argsort(digest)
    kind, digest = kind[by_digest], digest[by_digest]
    values = {
        "question": {"vector": as_bytes(parts[0][by_digest])},
        "answer": {"vector": as_bytes(parts[1][by_digest])},
        "visual": {"given": kind < 3},
    }
    columns = Columns(digest, seeded_ties(digest, 0), np.zeros(n, np.int32), ("",), values)
    read = []

    def samples(rows):
        read.append(rows)
        return [
            Sample(
                str(i),
                (
                    Turn("system", "Ignore systems."),
                    Turn("user", "<image>\n" + KINDS[kind[i]]),
                    Turn("assistant", f"it is {i}"),
                ),
            )
            for i in rows.tolist()
        ]

    return columns, samples, kind, read


def signal(**settings):
    model = ModelIdentity("sha256:0", "llava", "float32", "pil")
    return Skills(Embedding(model, 0.5, "question"), Embedding(model, 0.5, "answer"), **settings)


def test_kinds_become_leaves_with_their_words():
    columns, samples, kind, _ = planted()
    out = signal().pool_rows(columns, samples)
    assert isinstance(signal(), StoredPoolSignal)
    assert out.keys() == {f.name for f in Skills.fields}
    for leaf in range(out["leaf"].max() + 1):
        assert len(set(kind[out["leaf"] == leaf].tolist())) == 1
    expected = ("colour", "cats", "digits", "hello")
    words = {k: out["words"][kind == k][0] for k in range(4)}
    assert all(expected[k] in words[k] for k in range(4)), words
    assert "systems" not in " ".join(out["words"]) and "image" not in " ".join(out["words"])
    parents = out["parent"][kind == 3]
    assert not np.isin(parents, out["parent"][kind < 3]).any()
    assert all(w for w in out["parent_words"])


def test_the_number_of_leaves_and_what_is_read():
    columns, samples, _, read = planted()
    out = signal(leaves=8).pool_rows(columns, samples)
    assert out["leaf"].max() + 1 <= 9  # one more where a group would have none
    rows = np.concatenate(read)
    assert len(rows) == len(np.unique(rows)) <= 9 * WORD_ROWS
    assert (np.bincount(out["leaf"][rows]) <= WORD_ROWS).all()
    typical = out["typicality"]
    first = rows[out["leaf"][rows] == 0]
    others = np.setdiff1d(np.flatnonzero(out["leaf"] == 0), first)
    assert typical[first].min() >= typical[others].max()


def test_typical_rows_are_the_nearest_first():
    leaf, typicality = np.array([1, 0, 1, 1, 0]), np.array([0.2, 0.9, 0.8, 0.8, 0.95])
    assert typical_rows(leaf, typicality, 2).tolist() == [4, 1, 2, 3]
    assert typical_rows(leaf[:0], typicality[:0], 2).tolist() == []


@pytest.mark.parametrize("n", [0, 1, 7])
def test_few_rows(n):
    columns, samples, _, _ = planted(n)
    out = signal().pool_rows(columns, samples)
    assert all(len(values) == n for values in out.values())


def test_leaves_below_one_are_refused():
    with pytest.raises(ConfigError, match="at least 1"):
        signal(leaves=0)
