import numpy as np
import pytest

from tests.methods.planted_columns import digests
from thresher.signals.answer_loss import AnswerLoss
from thresher.signals.demonstrations import Demonstrations, halves
from thresher.signals.knowledge import Knowledge
from thresher.types import Columns, ModelIdentity, PoolSignal, digests_to_bytes, seeded_ties

KNOWLEDGE = Knowledge(AnswerLoss(ModelIdentity("sha256:0", "llava", "float32", "pil")))


def columns(digest, known, tokens=None):
    order = np.argsort(digest, kind="stable")
    d = digest[order]
    tokens = np.full(len(d), 3) if tokens is None else np.asarray(tokens)
    values = {
        "knowledge": {"parametric": np.asarray(known, bool)[order]},
        "loss": {"tokens": tokens[order].astype(np.int32)},
    }
    return Columns(d, seeded_ties(d, 0), np.zeros(len(d), np.int32), ("",), values)


def known_by_digest(digest):
    """A third is P, decided by the digest so that it does not move when a pool grows."""
    return np.array([d[5] % 3 == 0 for d in digests_to_bytes(digest)])


def shown(digest, kind="P", seed=0, bank=32, known=None, tokens=None):
    """digest of a row -> digest of its demonstration."""
    c = columns(digest, known_by_digest(digest) if known is None else known, tokens)
    out = Demonstrations(KNOWLEDGE, kind, seed, bank).pool(c)
    return dict(zip(digests_to_bytes(c.digest), digests_to_bytes(out["digest"]), strict=True))


@pytest.mark.parametrize("kind", ["P", "W"])
def test_demonstration_has_its_kind_and_the_other_half(kind):
    d = digests(2000)
    known = dict(zip(digests_to_bytes(d), known_by_digest(d), strict=True))
    half = dict(zip(digests_to_bytes(d), halves(d, 0), strict=True))
    pairs = shown(d, kind)
    assert all(
        known[demo] == (kind == "P") and half[demo] != half[query] for query, demo in pairs.items()
    )


def test_every_row_is_a_query_and_the_bank_is_used_evenly():
    pairs = shown(digests(6400), "W")
    used = np.unique(np.array([demo.hex() for demo in pairs.values()]), return_counts=True)[1]
    assert len(used) == 64  # 32 for each half
    assert used.min() > 50 and used.max() < 160  # 100 expected


def test_halves_are_even_and_depend_on_the_seed_only():
    d = digests(4000)
    assert 1850 < halves(d, 0).sum() < 2150
    assert 1850 < (halves(d, 0) != halves(d, 1)).sum() < 2150
    assert (halves(d[:100], 0) == halves(d, 0)[:100]).all()


def test_half_is_the_same_for_both_kinds():
    c = columns(digests(300), known_by_digest(digests(300)))
    p, w = (Demonstrations(KNOWLEDGE, kind, 3).pool(c)["half"] for kind in ("P", "W"))
    assert (p == w).all()


def test_exact_duplicates_share_half_and_demonstration():
    d = np.repeat(digests(40), 25)
    c = columns(d, known_by_digest(d))
    out = Demonstrations(KNOWLEDGE, "P", 0).pool(c)
    for i in range(1, len(c)):
        if c.digest[i] == c.digest[i - 1]:
            assert out["half"][i] == out["half"][i - 1] and out["digest"][i] == out["digest"][i - 1]
    assert (out["digest"] != c.digest).all()


def test_bank_has_no_duplicates():
    d = np.repeat(digests(400), 20)
    used = set(shown(d, "P", bank=8, known=np.ones(len(d), bool)).values())
    assert len(used) == 16  # with copies in it, each half's bank would hold one row


def test_growing_the_pool_by_a_tenth_changes_few_pairs():
    before, after = shown(digests(5000)), shown(digests(5500))
    changed = np.mean([after[query] != demo for query, demo in before.items()])
    # a bank replaces about 1 in 11; a changed bank row concerns two sets of queries
    assert 0 < changed < 0.3


def test_seed_and_order_of_the_pool():
    d = digests(500)
    assert shown(d) == shown(d[::-1])
    assert shown(d, seed=1) != shown(d)


def test_chunks_do_not_matter(monkeypatch):
    d = digests(500)
    whole = shown(d)
    monkeypatch.setattr("thresher.signals.demonstrations.CHUNK", 7)
    assert shown(d) == whole


def test_demonstrations_have_short_answers_if_possible():
    d = digests(400)
    every = np.ones(400, bool)
    tokens = np.where(np.arange(400) % 2 == 0, 513, 512)
    used = set(shown(d, known=every, tokens=tokens).values())
    of = dict(zip(digests_to_bytes(d), tokens.tolist(), strict=True))
    assert len(used) == 64 and {of[demo] for demo in used} == {512}
    # the hash decides among the short, not their length
    assert used >= set(shown(d[1::2], known=every[1::2]).values())


def test_bank_is_filled_with_the_shortest_answers():
    d = digests(400)
    tokens = np.arange(400) + 510  # three are short enough
    pairs = shown(d, bank=8, known=np.ones(400, bool), tokens=tokens)
    half = halves(d, 0)
    want = [d[half == h][:8] for h in (0, 1)]
    assert set(pairs.values()) == {bytes(x) for h in want for x in digests_to_bytes(h)}


def test_bank_setting_and_a_kind_that_is_absent():
    assert len(set(shown(digests(500), bank=3).values())) == 6
    none = shown(digests(50), "W", known=np.ones(50, bool))
    assert set(none.values()) == {bytes(32)}


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_tiny_pools(n):
    d = digests(n)
    out = Demonstrations(KNOWLEDGE, "P", 0).pool(columns(d, np.ones(n, bool)))
    assert out["digest"].shape == out["half"].shape == (n,)
    assert out["digest"].dtype == np.dtype("S32") and out["half"].dtype == np.dtype("int32")


def test_protocol():
    signal = Demonstrations(KNOWLEDGE, "P", 0)
    assert isinstance(signal, PoolSignal)
    assert signal.inputs() == {"knowledge": KNOWLEDGE, "loss": KNOWLEDGE.loss}
