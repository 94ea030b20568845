"""Incremental queries about a growing text: same results as from scratch, at linear cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.backends.hf.opened_backends import opened
from thresher.backends import resolve
from thresher.backends.hf.backend import HFBackend
from thresher.signals.query import Query
from thresher.types import Sample, Turn

QUERY = Query("\nWhich is right? Answer with its letter.", ("A", "B", "C"))
STEP = "\n{}. The red cat sits on the blue mat near two green circles."


def row(text: str) -> Sample:
    return Sample(text, (Turn("user", text),))


def growing(
    backend: HFBackend, samples: list[Sample], pieces: list[list[str]]
) -> dict[int, np.ndarray]:
    out: dict[int, np.ndarray] = {}
    for piece in backend.ask_incrementally(samples, pieces, QUERY, None):  # type: ignore[arg-type]
        assert not any(piece.errors)
        for i, table in zip(piece.index.tolist(), piece.values["logprob"], strict=True):
            out[i] = table[: len(pieces[i]) + 1]
    return out


def anew(backend: HFBackend, sample: Sample, pieces: list[str]) -> np.ndarray:
    texts = [row(sample.turns[0].text + "".join(pieces[:t])) for t in range(len(pieces) + 1)]
    table = np.empty((len(texts), 3))
    for piece in backend.ask(texts, [QUERY], None):  # type: ignore[arg-type]
        table[piece.index] = piece.values["logprob"]
    return table


@pytest.fixture(scope="module", params=["llava", "qwen2_5_vl", "demo"])
def backend(request: pytest.FixtureRequest) -> HFBackend:
    name = request.param
    return resolve("demo").open() if name == "demo" else opened(name)  # type: ignore[no-any-return]


def test_incremental_equals_asking_from_scratch(backend: HFBackend) -> None:
    assert backend.can_ask_incrementally
    samples = [
        row("What is it?\nOptions:\n(A) a cat\n(B) a dog\n(C) a bird"),
        row("How many?\n(A) 1\n(B) 2\n(C) 3"),
    ]
    pieces = [[STEP.format(k) for k in (1, 2, 3)], ["\n1. No", ".\n2. It", "\n3. is\n\n"]]
    found = growing(backend, samples, pieces)
    for i in (0, 1):
        assert np.allclose(found[i], anew(backend, samples[i], pieces[i]), atol=2e-4)
    assert len(np.unique(found[0][:, 0])) == 4  # the pieces matter


def test_results_do_not_depend_on_the_batch(backend: HFBackend) -> None:
    samples = [row(f"What is number {i}?" + " Look." * i) for i in range(5)]
    pieces = [[STEP.format(k) for k in range(i)] for i in range(5)]
    together = growing(backend, samples, pieces)
    for i in range(5):
        assert np.array_equal(growing(backend, [samples[i]], [pieces[i]])[0], together[i])


def test_cost_is_linear_in_text_length(backend: HFBackend) -> None:
    def cost(steps: int, way: Any) -> int:
        before = backend.forward.tokens
        way([STEP.format(k) for k in range(10, 10 + steps)])
        return backend.forward.tokens - before

    sample = row("What is it?\n(A) a cat\n(B) a dog\n(C) a bird")
    grown = [cost(n, lambda p: growing(backend, [sample], [p])) for n in (0, 4, 8, 16)]
    fresh = [cost(n, lambda p: anew(backend, sample, p)) for n in (0, 4, 8, 16)]
    each = (grown[1] - grown[0]) / 4
    assert grown[2] - grown[1] <= 4 * each * 1.25  # as much for the second four as for the first
    assert grown[3] - grown[2] <= 8 * each * 1.25
    # asking from scratch must not be linear, or this test is meaningless
    assert fresh[3] - fresh[2] > 1.5 * (fresh[2] - fresh[0])
    assert grown[3] < fresh[3] / 3


def test_image_or_text_too_long_is_a_row_error(backend: HFBackend) -> None:
    long = row("word " * 9000)
    kept, backend.context = backend.context, 500
    try:
        piece = next(
            iter(backend.ask_incrementally([row("short"), long], [["\na"], ["\nb"]], QUERY, None))
        )  # type: ignore[arg-type]
    finally:
        backend.context = kept
    assert piece.errors[0] == "" and piece.errors[1].startswith("too long")


def test_text_vectors_have_unit_length_and_do_not_depend_on_the_batch(backend: HFBackend) -> None:
    texts = ["counting objects", "reading digits in a picture", "counting objects", "x"]
    found = backend.embed(texts)
    assert all(isinstance(v, np.ndarray) and abs(np.linalg.norm(v) - 1) < 1e-5 for v in found)
    assert np.array_equal(found[0], found[2]) and not np.allclose(found[0], found[1])
    assert np.array_equal(backend.embed(texts[1:2])[0], found[1])
