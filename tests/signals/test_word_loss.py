"""The losses of function words and of others: against transformers' own pass, in any company."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from tests.backends.hf.opened_backends import borrowed
from tests.backends.hf.random_rows import Images, ask, some_rows
from tests.backends.hf.slow_reference import (
    answer_positions,
    images_of,
    messages_of,
    reference_rows,
)
from tests.tiny_models import ARCHITECTURES, BOTH_WAYS, Loaded, load
from thresher.backends.fake import FakeBackend
from thresher.backends.hf.backend import HFBackend
from thresher.signals.answer_loss import AnswerLoss
from thresher.signals.embedding import Embedding
from thresher.signals.function_words import function_word_spans, function_words
from thresher.signals.word_loss import WORD_FIELDS, WordLoss, weighted_mean
from thresher.types import ImageRef, ModelIdentity, Sample, SampleSource, Scored, Turn

MODEL = ModelIdentity("sha256:0", "tiny", "float32", "pil")
# those of random_rows.WORDS that are function words, spelled out
LIGHT = {"is", "the", "of", "on", "a", "there", "are", "here"}


@pytest.fixture(params=(*ARCHITECTURES, BOTH_WAYS))
def tiny(request: pytest.FixtureRequest) -> Loaded:
    return load(request.param)


@pytest.fixture
def backend(tiny: Loaded) -> Iterator[HFBackend]:
    with borrowed(tiny.name) as found:
        yield found


def columns_of(
    signal: Any, rows: Sequence[Sample], backend: Any
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The fields [rows] and errors of a signal."""
    values = {f.name: np.zeros(len(rows), f.dtype) for f in signal.fields}
    errors = ["unseen"] * len(rows)
    for piece in signal.rows(rows, None, backend, Images()):
        for name, column in values.items():
            column[piece.index] = piece.values[name]
        for i, error in zip(piece.index.tolist(), piece.errors, strict=True):
            assert errors[i] == "unseen"
            errors[i] = error
    return values, errors


def slow_words(tiny: Loaded, row: Sample) -> tuple[float, int, float, int]:
    """The official processor and one plain pass. Which words a token holds is found byte by byte:
    a token is light if it holds a byte of a function word and none of another word."""
    images = images_of(row, Images().load_image)
    known = reference_rows(tiny.processor, tiny.model, messages_of(row), images)
    light, other = [], []
    for text, is_answer in known["pieces"]:
        for word in re.split(r"(\s+)", text) if is_answer else [text]:
            light.append((word, is_answer and word in LIGHT))
            other.append((word, is_answer and word not in LIGHT and not word.isspace()))
    tokenizer, ids = tiny.processor.tokenizer, known["input_ids"]
    heavy = set(answer_positions(tokenizer, ids, other))
    marked = set(answer_positions(tokenizer, ids, light)) - heavy
    nll = {p: -known["logprobs"][p] for p in known["answer_positions"]}
    content = [x for p, x in nll.items() if p not in marked]
    function = [x for p, x in nll.items() if p in marked]
    return sum(content), len(content), sum(function), len(function)


def test_losses_are_those_of_the_models_probabilities(tiny: Loaded, backend: HFBackend) -> None:
    rows = [
        *some_rows(8, seed=5),
        ask("what", "the cats are on a mat", "1"),
        ask("what", "the", "2"),
        ask("what", "cats", "3"),
        ask("what is on the mat", "three red cats there", "2", system="be brief"),
    ]
    found, errors = columns_of(WordLoss(MODEL), rows, backend)
    plain, _ = columns_of(AnswerLoss(MODEL), rows, backend)
    assert not any(errors)
    for i, row in enumerate(rows):
        content, content_tokens, light, light_tokens = slow_words(tiny, row)
        assert found["content"][i] == pytest.approx(content, abs=2e-4), row
        assert found["light"][i] == pytest.approx(light, abs=2e-4), row
        assert found["content_tokens"][i] == content_tokens
        assert found["light_tokens"][i] == light_tokens
    assert (found["content_tokens"] + found["light_tokens"] == plain["tokens"]).all()
    assert np.allclose(weighted_mean(found, 1.0), plain["nll"], atol=1e-5)
    assert (found["light_tokens"] > 0).any() and (found["content_tokens"] > 0).any()


def test_without_images_they_are_those_of_a_conversation_without_them(
    tiny: Loaded, backend: HFBackend
) -> None:
    shown = (Turn("user", "draw a cat"), Turn("assistant", "here <image>"))
    rows = [
        ask("what is there", "the red cats", "1"),
        ask("what is there", "the red cats"),
        Sample("2", shown, (ImageRef(path="1", size=1),)),
        ask("are there cats", "on the mat", "1", "2"),
    ]
    found, errors = columns_of(WordLoss(MODEL, image=False), rows, backend)
    assert [bool(e) for e in errors] == [False, False, True, False]
    assert "inside an answer" in errors[2]
    assert np.isnan(found["content"]).tolist() == [False, True, True, False]
    assert found["light_tokens"][1] == 0
    for i in (0, 3):
        turns = tuple(Turn(t.role, t.text.replace("<image>\n", "")) for t in rows[i].turns)
        content, _, light, _ = slow_words(tiny, Sample("", turns))
        assert found["content"][i] == pytest.approx(content, abs=2e-4)
        assert found["light"][i] == pytest.approx(light, abs=2e-4)


def test_neither_other_rows_nor_other_signals_change_a_bit(backend: HFBackend) -> None:
    rows = some_rows(12, seed=8)
    alone, _ = columns_of(WordLoss(MODEL), rows, backend)
    back, _ = columns_of(WordLoss(MODEL), rows[::-1], backend)
    signals = [Embedding(MODEL), WordLoss(MODEL), AnswerLoss(MODEL)]
    loss, _ = columns_of(AnswerLoss(MODEL), rows, backend)
    for name, column in alone.items():
        assert column.tobytes() == back[name][::-1].tobytes()
    for _, words, losses in signals[0].batch_rows(signals, rows, None, backend, Images()):
        for name, column in alone.items():
            assert words.values[name].tobytes() == column[words.index].tobytes()
        assert losses.values["nll"].tobytes() == loss["nll"][losses.index].tobytes()


# ---------------------------------------------------------------- without a model of each family


def test_what_is_read_together() -> None:
    assert WordLoss(MODEL).batch_key() == AnswerLoss(MODEL).batch_key()
    bare = [WordLoss(MODEL, image=False), AnswerLoss(MODEL, image=False), WordLoss(MODEL)]
    assert len({signal.batch_key() for signal in bare}) == 3


def test_a_loss_that_is_no_number_is_an_error_of_that_row_only() -> None:
    class Backend(FakeBackend):
        def read(self, samples: Sequence[Sample], pool: SampleSource, **_: Any) -> Iterator[Scored]:
            content = np.array([1, np.inf, 2], np.float32)
            light, tokens = np.array([1, 1, np.nan], np.float32), np.ones(3, np.int32)
            values = dict(
                zip([f.name for f in WORD_FIELDS], [content, tokens, light, tokens], strict=True)
            )
            yield Scored(np.arange(3), values, ["", "", "truncated image"])

    _, errors = columns_of(WordLoss(MODEL), [ask("a", "b")] * 3, Backend())
    assert errors == ["", "not-finite: the loss is not a finite number", "truncated image"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The cat is on it.", ["The", "is", "on", "it"]),
        ("no, 2 of 3", ["of"]),
        ("Above all: IT\u2019S red; it's the a-b", ["IT\u2019S", "it's", "the", "a"]),
        ("theatre isles", []),
        ("\u00e9t\u00e9 \u65e5\u672c the", ["the"]),
        ("", []),
    ],
)
def test_function_words_in_a_text(text: str, found: list[str]) -> None:
    assert [text[a:b] for a, b in function_word_spans(text)] == found


def test_words_that_may_be_the_answer_are_no_function_words() -> None:
    words = function_words()
    assert not words & {"no", "not", "yes", "what", "above", "left", "all", "more", "one", "none"}
    assert words >= LIGHT and all(w == w.lower() and w.strip() for w in words)


def test_weights() -> None:
    column = {
        "content": np.array([4.0, 0.0, 6.0, np.nan]),
        "content_tokens": np.array([2, 0, 3, 0]),
        "light": np.array([10.0, 3.0, 0.0, np.nan]),
        "light_tokens": np.array([10, 2, 0, 0]),
    }
    assert weighted_mean(column, 0.1).tolist() == pytest.approx(
        [5 / 3, 1.5, 2.0, np.nan], nan_ok=True
    )
