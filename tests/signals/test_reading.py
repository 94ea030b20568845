"""Signals out of one reading of a row: against transformers' own pass, alone or together, in any
company."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from tests.backends.hf.random_rows import Pictures, ask, some_rows
from tests.backends.hf.slow_reference import images_of, messages_of, reference_rows
from tests.tiny_models import ARCHITECTURES, BOTH_WAYS, Loaded, load
from thresher.backends import resolve
from thresher.backends.hf.backend import HFBackend
from thresher.errors import CapabilityError, ConfigError
from thresher.signals import Embedding
from thresher.signals.answer_loss import AnswerLoss
from thresher.signals.embedding import PARTS, Part
from thresher.signals.vectors import WIDTH, as_bytes, from_bytes, project
from thresher.types import ImageRef, ModelIdentity, Sample, SampleSource, Scored

MODEL = ModelIdentity("sha256:0", "tiny", "float32", "pil")


@pytest.fixture(params=(*ARCHITECTURES, BOTH_WAYS))
def tiny(request: pytest.FixtureRequest) -> Loaded:
    return load(request.param)


@pytest.fixture
def backend(tiny: Loaded) -> HFBackend:
    return resolve(str(tiny.folder)).open()


def asked(
    signals: Sequence[Any], rows: Sequence[Sample], backend: Any
) -> tuple[list[dict[str, np.ndarray]], list[list[str]]]:
    """Fields [rows] and errors of each signal, asked in one pass."""
    got: list[dict[int, tuple[dict[str, Any], str]]] = [{} for _ in signals]
    for pieces in signals[0].batch_rows(signals, rows, None, backend, Pictures()):
        for mine, signal, piece in zip(got, signals, pieces, strict=True):
            for j, i in enumerate(piece.index.tolist()):
                assert i not in mine
                values = {f.name: piece.values[f.name][j : j + 1] for f in signal.fields}
                mine[i] = values, piece.errors[j]
    n = range(len(rows))
    columns = [
        {f.name: np.concatenate([mine[i][0][f.name] for i in n]) for f in signal.fields}
        for mine, signal in zip(got, signals, strict=True)
    ]
    return columns, [[mine[i][1] for i in n] for mine in got]


def slow(tiny: Loaded, backend: HFBackend, row: Sample) -> tuple[dict[str, Any], list[Any]]:
    """The official processor and one plain pass: what `reference_rows` knows, and the hidden states
    by depth, [tokens, width] each."""
    known = reference_rows(
        tiny.processor, tiny.model, messages_of(row), images_of(row, Pictures().load_image)
    )
    with torch.no_grad():
        states = list(tiny.model(**known["inputs"], output_hidden_states=True).hidden_states)
    text = tiny.model.config.get_text_config(decoder=True)
    if tiny.name == "mllama" and not row.images:  # its cross-attention layers did not run
        ran = iter(states[1:])
        whole = states[:1]
        for k in range(text.num_hidden_layers):
            whole.append(whole[-1] if k in text.cross_attention_layers else next(ran))
        states = whole
    assert len(states) == text.num_hidden_layers + 1
    return known, [s[0] for s in states]


def by_hand(known: dict[str, Any], states: torch.Tensor, part: str, image_token: int) -> np.ndarray:
    """The mean of a part's states at unit length, token by token."""
    answers = set(known["answer_positions"])
    chosen = []
    for position, token in enumerate(known["input_ids"][: max(answers) + 1]):
        kind = "answer" if position in answers else "image" if token == image_token else "question"
        if part in (kind, "all"):
            chosen.append(states[position].double())
    if not chosen:
        return np.zeros(states.shape[1])
    mean = torch.stack(chosen).mean(0)
    return (mean / mean.norm()).numpy()


@pytest.mark.parametrize("layer", [0, 0.5, 1])
def test_embeddings_are_the_means_of_the_models_states(
    tiny: Loaded, backend: HFBackend, layer: float
) -> None:
    rows = [*some_rows(5, seed=3), ask("what is there here", "three cats")]
    assert {len(row.images) for row in rows} == {0, 1, 2}
    columns, errors = asked([Embedding(MODEL, layer, part) for part in PARTS], rows, backend)
    assert not any(map(any, errors))
    found = dict(zip(PARTS, map(Embedding.array, columns), strict=True))
    for i, row in enumerate(rows):
        known, states = slow(tiny, backend, row)
        at = states[int(layer * (len(states) - 1) + 0.5)]
        width = at.shape[1]
        for part in PARTS:
            want = by_hand(known, at, part, backend.forward.soft_token_id)
            assert np.allclose(found[part][i, :width], want, atol=6e-4), (row, part)
            assert not found[part][i, width:].any()


def test_company_changes_no_bit(backend: HFBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither other rows of the batch nor other signals of the pass."""
    signals = [
        AnswerLoss(MODEL),
        Embedding(MODEL, 0.5, "question"),
        Embedding(MODEL, 1.0, "answer"),
    ]
    rows = some_rows(24, seed=7)
    want, errors = asked(signals, rows, backend)
    assert not any(map(any, errors))
    order = random.Random(0).sample(range(24), 24)
    for tokens, block, cores in ((512, 2048, 1), (4096, 7, 2)):
        backend.forward.batch_tokens, backend.forward.workers = tokens, cores
        monkeypatch.setattr("thresher.backends.hf.blocks.BLOCK_ROWS", block)
        got, _ = asked(signals, [rows[i] for i in order], backend)
        for mine, other in zip(want, got, strict=True):
            for name, column in mine.items():
                assert column[order].tobytes() == other[name].tobytes(), name
    for signal, together in zip(signals, want, strict=True):
        (alone,), _ = asked([signal], rows, backend)
        for name, column in together.items():
            assert column.tobytes() == alone[name].tobytes(), name


def test_a_row_is_read_once(backend: HFBackend) -> None:
    rows = some_rows(6, seed=2)
    asked([AnswerLoss(MODEL)], rows, backend)
    before = backend.forward.passes
    list(AnswerLoss(MODEL).rows(rows, None, backend, Pictures()))
    one = backend.forward.passes - before
    asked([AnswerLoss(MODEL), *(Embedding(MODEL, 0.5, part) for part in PARTS)], rows, backend)
    assert backend.forward.passes - before == 2 * one


def test_layers_behind_the_last_one_wanted_do_not_run(tiny: Loaded, backend: HFBackend) -> None:
    layers = backend.forward.model.get_decoder().layers
    ran: list[int] = []
    for k, layer in enumerate(layers):
        layer.register_forward_hook(lambda *_, k=k: ran.append(k))
    rows = [ask("what is there", "a red cat", "1")]
    asked([Embedding(MODEL, 0.5)], rows, backend)
    assert ran == list(range(int(0.5 * len(layers) + 0.5)))
    ran.clear()
    asked([Embedding(MODEL, 0.5), AnswerLoss(MODEL)], rows, backend)
    assert ran == list(range(len(layers)))


def test_a_row_without_images_has_no_image_vector_and_a_bad_row_says_why(
    backend: HFBackend,
) -> None:
    bad = Sample("0", ask("what", "red", "1").turns, (ImageRef(path="broken", size=1),))
    rows = [ask("what is there", "red"), bad, ask("what", "", "1"), ask("what", "red", "1")]
    signals = [Embedding(MODEL, part="image"), AnswerLoss(MODEL)]
    (column, _), errors = asked(signals, rows, backend)
    assert errors[0] == errors[1]
    assert errors[0][0] == errors[0][3] == ""
    assert "broken" in errors[0][1] and "answer" in errors[0][2]
    lengths = np.linalg.norm(Embedding.array(column), axis=1)
    assert lengths[0] == 0 and lengths[3] == pytest.approx(1, abs=1e-3)


# ---------------------------------------------------------------- without a model of each family


def test_states_that_are_no_numbers_are_an_error_of_that_row_only() -> None:
    class Backend:
        def read(self, samples: Sequence[Sample], pool: SampleSource, **_: Any) -> Iterator[Scored]:
            states = np.ones((3, 1, 4), np.float32)
            states[1, 0, 2] = np.inf
            nll = np.array([1, 2, np.nan], np.float32)
            values = {"nll": nll, "tokens": nll > 0, "greedy_match": nll > 0, "states": states}
            yield Scored(np.array([2, 0, 1]), values, ["", "", ""])

    _, errors = asked([Embedding(MODEL), AnswerLoss(MODEL)], [ask("a", "b")] * 3, Backend())
    assert errors[0] == ["the model's hidden states are not finite numbers", "", ""]
    assert errors[1] == ["", "the loss is not a finite number", ""]


@pytest.mark.parametrize(
    "signals", [[Embedding(MODEL)], [AnswerLoss(MODEL), Embedding(MODEL, part="answer")]]
)
def test_a_server_has_no_hidden_states(signals: list[Any]) -> None:
    with pytest.raises(CapabilityError, match=r"embedding: .* a server does not give.*--model"):
        asked(signals, [ask("a", "b")], object())


@pytest.mark.parametrize("layer", [-0.1, 1.01, float("nan"), 12])
def test_a_layer_is_a_fraction(layer: float) -> None:
    with pytest.raises(ConfigError, match="from 0 to 1"):
        Embedding(MODEL, layer)


@pytest.mark.parametrize("part", ["images", "", "Answer"])
def test_parts_are_named(part: Part) -> None:
    with pytest.raises(ConfigError, match="question, answer, image, all"):
        Embedding(MODEL, part=part)


@pytest.mark.parametrize("width", [300, 896])
def test_large_states_are_projected_and_means_can_still_be_subtracted(width: int) -> None:
    """The projection is linear: what all rows share vanishes with the pool's mean."""
    rng = np.random.default_rng(0)
    common = rng.normal(size=width)
    own = rng.normal(size=(40, width)) * 0.2
    given = (common + own).astype(np.float32)
    given /= np.linalg.norm(given, axis=1, keepdims=True)
    stored = from_bytes(as_bytes(project(given, WIDTH))).astype(np.float64)

    def cosines(x: np.ndarray) -> np.ndarray:
        x = x - x.mean(axis=0)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        return np.asarray(x @ x.T)

    assert stored.shape == (40, WIDTH)
    assert np.abs(cosines(stored) - cosines(given.astype(np.float64))).max() < 0.3
    assert np.abs(stored @ stored.T - 1).max() < 0.3
