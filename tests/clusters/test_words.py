import numpy as np
import pytest

from thresher.clusters import distinctive_words


def test_weights_by_hand():
    """Cluster 0: a a b; cluster 1: b c. Mean 2.5 words. Weights: a 2·ln(2.25), b ln(2.25),
    c ln(3.5)."""
    assert distinctive_words(["a a b", "b c"], np.array([0, 1]), 3) == [("a", "b"), ("c", "b")]


def test_word_in_all_clusters_has_the_lowest_weight():
    texts = [f"what is the {w}" for w in ("colour", "shape", "digit")] * 5
    found = distinctive_words(texts, np.arange(15) % 3, 1)
    assert found == [("colour",), ("shape",), ("digit",)]


@pytest.mark.parametrize("text", ["Was ist ROT, rot!", "Красный красный цвет", "红色 红"])
def test_words_of_any_script_without_case(text):
    (found,) = distinctive_words([text], np.array([0]), 1)
    assert found[0] in ("rot", "красный", "红")


def test_a_cluster_without_words_or_texts():
    assert distinctive_words(["?!", "a"], np.array([0, 2]), 2) == [(), (), ("a",)]
    assert distinctive_words([], np.zeros(0, int)) == []
