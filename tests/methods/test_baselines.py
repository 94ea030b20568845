"""random, stratified, length, perplexity: ten rows by hand."""

import numpy as np

from tests.methods.planted_columns import digests
from thresher.methods import load
from thresher.types import Columns

#                0    1    2    3    4    5    6    7    8    9
NLL = np.array([0.5, 9.0, 0.1, 2.0, 2.0, 0.3, 7.0, 1.0, 0.2, 2.0], np.float32)
TIES = np.array([9, 3, 7, 1, 5, 8, 6, 2, 4, 0], np.uint64)
LENGTH = np.array([1, 1, 5, 1, 2, 5, 0, 1, 9, 1], np.int32)
SOURCE = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 2], np.int32)


def run(name, k, names=("a", "b", "c"), source=SOURCE, **settings):
    values = {"loss": {"nll": NLL}, "length": {"length": LENGTH}}
    columns = Columns(np.sort(digests(10)), TIES, source, names, values)
    return load(name, settings).select(columns, k)


def test_random_is_the_order_of_the_hash_and_nested():
    assert run("random", 10).rows.tolist() == [9, 3, 7, 1, 8, 4, 6, 2, 5, 0]
    assert run("random", 4).rows.tolist() == [9, 3, 7, 1]


def test_stratified():
    assert sorted(run("stratified", 5).rows.tolist()) == [1, 3, 4, 7, 8]
    equal = run("stratified", 5, by="equal")
    assert sorted(equal.rows.tolist()) == [1, 3, 7, 8, 9]
    assert equal.reason["source"].tolist() == ["a"] * 6 + ["b"] * 3 + ["c"]
    assert any("c" in note for note in equal.notes)


def test_stratified_with_one_source_is_random_with_a_note():
    one = run("stratified", 4, names=("only",), source=np.zeros(10, np.int32))
    assert one.rows.tolist() == run("random", 4).rows.tolist()
    assert "same as --method random" in one.notes[0]


def test_longest_first():
    assert run("length", 5).rows.tolist() == [8, 2, 5, 4, 9]
    assert run("length", 5).reason["length"].tolist() == LENGTH.tolist()


def test_perplexity_top_and_bottom():
    assert run("perplexity", 5, where="top").rows.tolist() == [1, 6, 9, 3, 4]
    assert run("perplexity", 3, where="bottom").rows.tolist() == [2, 8, 5]


def test_perplexity_middle_is_by_rank_not_by_value():
    # in order: 2 8 5 0 7 | 9 3 4 6 1; the two in the middle are 7 and 9, then 0 and 3, then 5 and
    # 4; ties within a pair
    assert run("perplexity", 6).rows.tolist() == [9, 7, 3, 0, 4, 5]
    assert (run("perplexity", 6).reason["nll"] == NLL).all()
