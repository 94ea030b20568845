"""The one-shot loss: a pair that is too long has no loss and is no failure of the row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from thresher.backends import resolve
from thresher.backends.fake import IDENTITY
from thresher.signals.answer_loss import AnswerLoss
from thresher.signals.demonstrations import Demonstrations
from thresher.signals.knowledge import Knowledge
from thresher.signals.one_shot import OneShot
from thresher.types import Columns, ImageRef, Sample, SampleSource, Scored, Turn, digests_to_array

SIGNAL = OneShot(IDENTITY, Demonstrations(Knowledge(AnswerLoss(IDENTITY)), "P", 0))


def ask(question: str, answer: str) -> Sample:
    return Sample(question, (Turn("user", question), Turn("assistant", answer)))


class Texts:
    """A pool of the rows that demonstrate."""

    def __init__(self, *samples: Sample) -> None:
        self.samples = {s.digest: s for s in samples}

    def by_digest(self, digest: bytes) -> Sample:
        return self.samples[digest]

    def load_image(self, ref: ImageRef) -> None:
        raise AssertionError("no row has an image")


def scored(
    rows: Sequence[Sample], displayed: Sequence[Sample | None], backend: object
) -> tuple[np.ndarray, list[str]]:
    digest = digests_to_array([s.digest for s in rows])
    named = digests_to_array([bytes(32) if s is None else s.digest for s in displayed])
    values = {"demonstration": {"digest": named, "half": np.zeros(len(rows), np.int32)}}
    columns = Columns(
        digest, np.zeros(len(rows), np.uint64), np.zeros(len(rows), np.int32), ("",), values
    )
    nll, errors = np.zeros(len(rows), np.float32), ["never"] * len(rows)
    pool = Texts(*(s for s in displayed if s is not None))
    for piece in SIGNAL.rows(rows, columns, backend, pool):  # type: ignore[arg-type]
        nll[piece.index] = piece.values["nll"]
        for i, error in zip(piece.index.tolist(), piece.errors, strict=True):
            errors[i] = error
    return nll, errors


def test_too_long_pair_has_no_loss_and_other_errors_stay() -> None:
    class Backend:
        def one_shot(
            self, samples: Sequence[Sample], displayed: Sequence[Sample], pool: SampleSource
        ) -> Iterator[Scored]:
            texts = [
                "",
                "too long: 9,000 tokens, and the model's context is 4,096",
                "a.png: broken image",
            ]
            yield Scored(np.array([2, 0, 1]), {"nll": np.array([1, 2, 3], np.float32)}, texts)

    rows = [ask(f"{i}?", "A.") for i in range(4)]
    nll, errors = scored(rows, [rows[3], rows[3], rows[3], None], Backend())
    assert np.isnan(nll[[0, 3]]).all() and nll[2] == 1
    assert errors == ["", "a.png: broken image", "", ""]


def test_a_long_demonstration_excludes_no_row_that_fits_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The signal recognises the error of the real backend for a row that does not fit."""
    backend = resolve("demo", device="cpu").open()
    short, long = ask("What is it?", "A cat."), ask("What is it?", "a cat and " * 60)
    rows, displayed = [short, short], [short, long]
    monkeypatch.setattr(backend, "context", 150)
    (alone,) = backend.answer_loss([short], Texts())  # type: ignore[arg-type]
    assert alone.errors == [""]
    nll, errors = scored(rows, displayed, backend)
    assert np.isfinite(nll[0]) and np.isnan(nll[1]) and errors == ["", ""]
    _, errors = scored([long], [short], backend)
    assert errors == [""]  # that it is too long alone, too, is the zero-shot loss's finding
