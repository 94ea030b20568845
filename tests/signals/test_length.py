import numpy as np

from thresher.signals.length import Length
from thresher.types import FactSignal

FACTS = {
    "answer_words": np.array([1, 5, 0], np.int32),
    "answer_chars": np.array([9, 20, 0], np.int32),
    "turns": np.array([2, 2, 2], np.int32),
    "images": np.array([1, 0, 2], np.int32),
}


def test_words_and_characters():
    assert Length().facts(FACTS)["length"].tolist() == [1, 5, 0]
    assert Length("chars").facts(FACTS)["length"].tolist() == [9, 20, 0]


def test_is_a_fact_signal_with_the_fields_it_states():
    assert isinstance(Length(), FactSignal)
    assert {f.name: np.dtype(f.dtype) for f in Length.fields} == {
        name: array.dtype for name, array in Length().facts(FACTS).items()
    }
