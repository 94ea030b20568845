"""random, stratified, length, perplexity: ten rows by hand."""

import numpy as np
import pytest

from tests.methods.planted_columns import digests
from thresher.errors import ConfigError, spelled
from thresher.methods import load
from thresher.methods.needs import needs
from thresher.request.spelling import as_flag
from thresher.types import Capability, Columns, MethodContext

#                0    1    2    3    4    5    6    7    8    9
NLL = np.array([0.5, 9.0, 0.1, 2.0, 2.0, 0.3, 7.0, 1.0, 0.2, 2.0], np.float32)
TIES = np.array([9, 3, 7, 1, 5, 8, 6, 2, 4, 0], np.uint64)
LENGTH = np.array([1, 1, 5, 1, 2, 5, 0, 1, 9, 1], np.int32)
SOURCE = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 2], np.int32)


#                0  1  2  3  4  5  6  7  8  9
SKILL = np.array([4, 4, 4, 4, 4, 4, 4, 2, 2, 0], np.int32)


def run(name, k, names=("a", "b", "c"), source=SOURCE, skill=SKILL, **settings):
    values = {
        "loss": {"nll": NLL},
        "length": {"length": LENGTH},
        "skills": {"leaf": skill},
        "skill": {
            "label": np.array([f"words {s}" for s in skill], object),
            "group": np.array([f"group {s // 4}" for s in skill], object),
        },
    }
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
    assert "same as --method random" in spelled(one.notes[0], as_flag)


def test_stratified_by_skill():
    equal = run("stratified", 6, by="skill")
    assert sorted(equal.rows.tolist()) == [1, 3, 4, 7, 8, 9]
    assert equal.reason["skill"].tolist() == [*["words 4"] * 7, *["words 2"] * 2, "words 0"]
    assert equal.reason["skill_group"].tolist() == [*["group 1"] * 7, *["group 0"] * 3]
    (note,) = equal.notes
    assert note.endswith("fewer rows than an equal part: words 0, words 2.")
    share = run("stratified", 4, by="skill_proportional")
    assert sorted(share.rows.tolist()) == [1, 3, 4, 7]
    one = run("stratified", 4, by="skill", skill=np.full(10, 3, np.int32))
    assert one.rows.tolist() == run("random", 4).rows.tolist()
    assert "All rows are of one skill" in one.notes[0]


def test_stratified_needs_a_model_for_skills_only():
    nothing = load("stratified", {"by": "equal"}).signals(MethodContext(None))
    assert dict(nothing) == {} and needs(load("stratified", {"by": "equal"})) == ()
    with pytest.raises(ConfigError, match="needs a model"):
        load("stratified", {"by": "skill"}).signals(MethodContext(None))
    assert needs(load("stratified", {"by": "skill"})) == (Capability.EMBED,)


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
