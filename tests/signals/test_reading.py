"""Signals of one forward pass, compared with transformers' own pass, alone or together, in any
batch."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.backends.hf.opened_backends import borrowed
from tests.backends.hf.random_rows import Images, ask, some_rows
from tests.backends.hf.slow_reference import images_of, messages_of, reference_rows
from tests.model_families import families, kinds
from tests.text_pools import record, write_pool
from tests.tiny_models import ARCHITECTURES, BOTH_WAYS, Loaded, load
from thresher.backends import ModelHandle
from thresher.backends.fake import IDENTITY, FakeBackend
from thresher.backends.hf.backend import HFBackend
from thresher.backends.hf.conversation import conversation
from thresher.backends.hf.forward import EncodedRow
from thresher.backends.hf.outputs import Outputs, entropy_and_gap
from thresher.engine import RunContext
from thresher.engine.columns import compute_all
from thresher.errors import CapabilityError, ConfigError
from thresher.pools import open_pool
from thresher.request import RunRequest
from thresher.signals import Embedding
from thresher.signals.answer_loss import AnswerLoss
from thresher.signals.embedding import PARTS, Part
from thresher.signals.entropy import Entropy
from thresher.signals.own_answer_gap import OwnAnswerGap
from thresher.signals.vectors import WIDTH, as_bytes, from_bytes, project
from thresher.signals.visual_gain import VisualGain
from thresher.storage.columns import Store
from thresher.types import (
    DIGEST,
    Columns,
    ImageRef,
    ModelIdentity,
    Sample,
    SampleSource,
    Scored,
    Turn,
)

MODEL = ModelIdentity("sha256:0", "tiny", "float32", "pil")


each_kind = kinds("tiny", (*ARCHITECTURES, BOTH_WAYS))


@pytest.fixture(params=families((*ARCHITECTURES, BOTH_WAYS)))
def tiny(request: pytest.FixtureRequest) -> Loaded:
    return load(request.param)


@pytest.fixture
def backend(tiny: Loaded) -> Iterator[HFBackend]:
    with borrowed(tiny.name) as found:
        yield found


def asked(
    signals: Sequence[Any], rows: Sequence[Sample], backend: Any
) -> tuple[list[dict[str, np.ndarray]], list[list[str]]]:
    """Fields [rows] and errors of each signal, asked in one pass."""
    got: list[dict[int, tuple[dict[str, Any], str]]] = [{} for _ in signals]
    for pieces in signals[0].batch_rows(signals, rows, None, backend, Images()):
        assert len(pieces) == len(signals)
        for own, signal, piece in zip(got, signals, pieces, strict=True):
            for j, i in enumerate(piece.index.tolist()):
                assert i not in own
                values = {f.name: piece.values[f.name][j : j + 1] for f in signal.fields}
                own[i] = values, piece.errors[j]
    n = range(len(rows))
    columns = [
        {f.name: np.concatenate([own[i][0][f.name] for i in n]) for f in signal.fields}
        for own, signal in zip(got, signals, strict=True)
    ]
    return columns, [[own[i][1] for i in n] for own in got]


def slow(tiny: Loaded, backend: HFBackend, row: Sample) -> tuple[dict[str, Any], list[Any]]:
    """The official processor and one plain pass: what `reference_rows` needs, and the hidden states
    by depth, [tokens, width] each."""
    known = reference_rows(
        tiny.processor, tiny.model, messages_of(row), images_of(row, Images().load_image)
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
    answers = set(known["own_positions"])
    chosen = []
    for position, token in enumerate(known["input_ids"][: max(answers) + 1]):
        kind = "answer" if position in answers else "image" if token == image_token else "question"
        if part in (kind, "all"):
            chosen.append(states[position].double())
    if not chosen:
        return np.zeros(states.shape[1])
    mean = torch.stack(chosen).mean(0)
    return (mean / mean.norm()).numpy()


def test_embeddings_are_the_means_of_the_models_states(tiny: Loaded, backend: HFBackend) -> None:
    rows = [*some_rows(5, seed=3), ask("what is there here", "three cats")]
    assert {len(row.images) for row in rows} == {0, 1, 2}
    references = [slow(tiny, backend, row) for row in rows]
    for layer in (0, 0.5, 1):
        columns, errors = asked([Embedding(MODEL, layer, part) for part in PARTS], rows, backend)
        assert not any(map(any, errors))
        found = dict(zip(PARTS, map(Embedding.array, columns), strict=True))
        for i, (row, (known, states)) in enumerate(zip(rows, references, strict=True)):
            at = states[int(layer * (len(states) - 1) + 0.5)]
            width = at.shape[1]
            for part in PARTS:
                want = by_hand(known, at, part, backend.forward.soft_token_id)
                assert np.allclose(found[part][i, :width], want, atol=6e-4), (row, part, layer)
                assert not found[part][i, width:].any()


def test_entropy_and_gap_match_the_models_probabilities(tiny: Loaded, backend: HFBackend) -> None:
    rows = [*some_rows(6, seed=4), ask("what is there here", "three cats")]
    (loss, entropy, gap), errors = asked(
        [AnswerLoss(MODEL), Entropy(MODEL), OwnAnswerGap(MODEL)], rows, backend
    )
    assert not any(map(any, errors))
    for i, row in enumerate(rows):
        images = images_of(row, Images().load_image)
        known = reference_rows(tiny.processor, tiny.model, messages_of(row), images)
        with torch.no_grad():
            table = tiny.model(**known["inputs"]).logits[0].double().log_softmax(-1)
        at = np.array(known["answer_positions"]) - 1
        logp = table[at].numpy()
        nll = [-known["logprobs"][p + 1] for p in at.tolist()]
        assert loss["nll"][i] == pytest.approx(np.mean(nll), abs=1e-4)
        assert entropy["entropy"][i] == pytest.approx(
            -(np.exp(logp) * logp).sum(1).mean(), abs=2e-4
        )
        assert gap["gap"][i] == pytest.approx(np.mean(nll + logp.max(1)), abs=1e-4)
    assert (gap["gap"] >= 0).all()


@pytest.mark.parametrize("words", ["What is there?", "How many cats are red?"])
def test_the_models_own_tokens_have_no_gap(backend: HFBackend, words: str) -> None:
    question = ask(words, "x", "1")
    block = backend.prepare([conversation(question)], range(1), Images(), False)
    (row,) = block.rows
    start = int(row.answer_positions[0])

    def answered(token: int) -> EncodedRow:
        return replace(
            row, ids=np.append(row.ids[:start], token), answer_positions=np.array([start])
        )

    displayed = backend.forward.image_token_id
    given = [answered(t) for t in range(8, 200) if t != displayed]
    found = backend.forward.batch_losses(given, backend.features(block), Outputs(spread=True))
    gaps = [of_row.own_gap for of_row in found if not isinstance(of_row, str)]
    assert len(gaps) == len(given)
    assert min(gaps) >= 0 and len(set(gaps)) > 100
    logits = torch.arange(40.0).reshape(4, 10) ** 0.5
    own, other = (
        entropy_and_gap(logits, torch.full((4,), 9))[1],
        entropy_and_gap(logits, torch.zeros(4).long())[1],
    )
    assert own.tolist() == [0] * 4 and (other > 0).all()


def test_the_loss_without_images_is_that_of_a_conversation_without_them(
    tiny: Loaded, backend: HFBackend
) -> None:
    rows = [
        ask("what is there", "red cats", "1"),
        ask("are there many cats here", "yes", "1", "2", system="be brief"),
        Sample(
            "2",
            (
                Turn("user", "what is on <image> and there"),
                Turn("assistant", "a mat"),
                Turn("user", "what colour\n<image>"),
                Turn("assistant", "blue"),
            ),
            (ImageRef(path="3", size=1), ImageRef(path="4", size=1)),
        ),
    ]
    bare = [
        ["what is there"],
        ["are there many cats here"],
        ["what is on and there", "what colour"],
    ]
    signal = AnswerLoss(MODEL, image=False)
    ((column,), (errors,)) = asked([signal], rows, backend)
    (plain, *_), _ = asked([AnswerLoss(MODEL)], rows, backend)
    assert not any(errors)
    for i, (row, questions) in enumerate(zip(rows, bare, strict=True)):
        text = iter(questions)
        turns = tuple(Turn("user", next(text)) if t.role == "user" else t for t in row.turns)
        known = reference_rows(tiny.processor, tiny.model, messages_of(Sample("", turns)), [])
        assert column["nll"][i] == pytest.approx(known["nll"], abs=1e-4), row
        assert column["tokens"][i] == known["tokens"] == plain["tokens"][i]
        assert abs(column["nll"][i] - plain["nll"][i]) > 1e-4, "the image is seen"


@each_kind
def test_rows_whose_images_cannot_be_removed(backend: HFBackend) -> None:
    displayed = (Turn("user", "draw a cat"), Turn("assistant", "here <image>"))
    drawn = Sample("1", displayed, (ImageRef(path="1", size=1),))
    empty = Sample("2", (Turn("user", "<image>\nwhat"), Turn("assistant", "")), drawn.images)
    rows = [ask("what", "red"), drawn, ask("what", "red", "1"), empty]
    pieces = list(AnswerLoss(MODEL, image=False).rows(rows, None, backend, Images()))
    nll, results = np.zeros(4), [""] * 4
    for piece in pieces:
        nll[piece.index] = piece.values["nll"]
        for i, error in zip(piece.index.tolist(), piece.errors, strict=True):
            results[i] = error
    assert np.isnan(nll[0]) and np.isfinite(nll[2]) and results[0] == results[2] == ""
    assert "inside an answer" in results[1] and "no-answer: " in results[3]


@each_kind
def test_results_are_bit_identical_for_any_batch(
    backend: HFBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither other rows of the batch nor other signals of the pass."""
    signals = [
        AnswerLoss(MODEL),
        Embedding(MODEL, 0.5, "question"),
        Embedding(MODEL, 1.0, "answer"),
        Entropy(MODEL),
        OwnAnswerGap(MODEL),
    ]
    rows = some_rows(24, seed=7)
    want, errors = asked(signals, rows, backend)
    assert not any(map(any, errors))
    order = random.Random(0).sample(range(24), 24)
    for tokens, block, cores in ((512, 2048, 1), (4096, 7, 2)):
        backend.forward.batch_tokens, backend.forward.workers = tokens, cores
        monkeypatch.setattr("thresher.backends.hf.blocks.BLOCK_ROWS", block)
        got, _ = asked(signals, [rows[i] for i in order], backend)
        for own, other in zip(want, got, strict=True):
            for name, column in own.items():
                assert column[order].tobytes() == other[name].tobytes(), name
    for signal, together in zip(signals, want, strict=True):
        (alone,), _ = asked([signal], rows, backend)
        for name, column in together.items():
            assert column.tobytes() == alone[name].tobytes(), name


@each_kind
def test_one_forward_pass_per_row(backend: HFBackend) -> None:
    rows = some_rows(6, seed=2)
    asked([AnswerLoss(MODEL)], rows, backend)
    before = backend.forward.passes
    list(AnswerLoss(MODEL).rows(rows, None, backend, Images()))
    one = backend.forward.passes - before
    parts = [Embedding(MODEL, 0.5, part) for part in PARTS]
    asked([AnswerLoss(MODEL), *parts, Entropy(MODEL), OwnAnswerGap(MODEL)], rows, backend)
    assert backend.forward.passes - before == 2 * one


def test_layers_after_the_last_requested_one_do_not_run(tiny: Loaded, backend: HFBackend) -> None:
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


def test_text_only_and_invalid_rows(
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


def test_stored_signals_are_not_recomputed(tmp_path: Path) -> None:
    pool = open_pool(write_pool(tmp_path / "pool.json", [record(i) for i in range(30)]))
    asked_for: list[dict[str, Any]] = []

    class Backend(FakeBackend):
        def read(self, *given: Any, **expected: Any) -> Iterator[Scored]:
            asked_for.append(expected)
            return super().read(*given, **expected)

    backend = Backend()
    handle = ModelHandle("fake", IDENTITY, lambda: backend)
    given = RunRequest(), RunContext(Store(tmp_path / "store"), handle)
    loss, question = AnswerLoss(IDENTITY), Embedding(IDENTITY)
    every = {
        "loss": loss,
        "question": question,
        "answer": Embedding(IDENTITY, part="answer"),
        "entropy": Entropy(IDENTITY),
        "gap": OwnAnswerGap(IDENTITY),
    }
    known = compute_all({"loss": loss}, pool, *given)["loss"].values["nll"]
    assert backend.scored == 30 and not asked_for  # the plain call of a backend
    first = compute_all({"loss": loss, "question": question}, pool, *given)
    assert backend.scored == 60 and not asked_for[-1]["loss"]
    assert asked_for[-1]["states"] == [(0.5, "question")]
    last = compute_all(every, pool, *given)
    assert backend.scored == 90
    required = {k: v for k, v in asked_for[-1].items() if k != "among_images"}
    assert required == {
        "loss": False,
        "spread": True,
        "states": [(0.5, "answer")],
        "light_spans": None,
    }
    assert np.array_equal(last["loss"].values["nll"], known)
    vectors = [Embedding.array(x["question"].values) for x in (first, last)]
    assert np.array_equal(*vectors) and vectors[0].shape == (30, 256)
    compute_all(every, pool, *given)
    assert backend.scored == 90
    anew = RunRequest(), RunContext(Store(tmp_path / "another"), handle)
    again = compute_all(every, pool, *anew)
    assert backend.scored == 120, "one pass gives all five"
    for name, column in again.items():
        for key, values in column.values.items():
            assert values.tobytes() == last[name].values[key].tobytes()


def test_only_signals_of_the_same_tokens_share_a_pass() -> None:
    same = [AnswerLoss(MODEL), Embedding(MODEL, 0.25), Entropy(MODEL), OwnAnswerGap(MODEL)]
    assert len({signal.batch_key() for signal in same}) == 1
    other = replace(MODEL, weights="sha256:1")
    others = [
        AnswerLoss(MODEL, image=False),
        AnswerLoss(MODEL, among_images=True),
        AnswerLoss(other),
        AnswerLoss(MODEL),
    ]
    assert len({signal.batch_key() for signal in others}) == 4


def test_the_gain_of_an_image_is_the_difference_of_two_losses() -> None:
    gain = VisualGain(AnswerLoss(MODEL, among_images=True))
    assert gain.inputs() == {"loss": gain.loss, "without_image": AnswerLoss(MODEL, image=False)}
    nll = {"loss": [1.0, 2.0, 0.5], "without_image": [3.0, 1.5, np.nan]}
    columns = Columns(
        np.zeros(3, DIGEST),
        np.zeros(3, np.uint64),
        np.zeros(3, np.int32),
        ("",),
        {name: {"nll": np.array(x, np.float32)} for name, x in nll.items()},
    )
    assert gain.pool(columns)["gain"].tolist() == pytest.approx([2.0, -0.5, np.nan], nan_ok=True)
    assert gain.pool(columns)["gain"].dtype == np.float32


@pytest.mark.parametrize("rows", [1, 5])
def test_masked_tokens_and_many_logits_have_an_entropy(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = torch.tensor([[0.0, 0.0, -torch.inf, 0.0, 0.0], [50.0, -60.0, 0.0, 1.0, 2.0]])
    want = entropy_and_gap(logits, torch.tensor([0, 1]))
    assert want[0].tolist() == pytest.approx([np.log(4), 0], abs=1e-6)
    assert want[1].tolist() == [0, 110]
    monkeypatch.setattr("thresher.backends.hf.outputs.CHUNK_LOGITS", 5 * rows)
    for column, other in zip(want, entropy_and_gap(logits, torch.tensor([0, 1])), strict=True):
        assert column.tobytes() == other.tobytes()


def test_non_finite_states_are_a_row_error() -> None:
    class Backend:
        def read(self, samples: Sequence[Sample], pool: SampleSource, **_: Any) -> Iterator[Scored]:
            states = np.ones((3, 1, 4), np.float32)
            states[1, 0, 2] = np.inf
            nll = np.array([1, 2, np.nan], np.float32)
            values = {"nll": nll, "tokens": nll > 0, "greedy_match": nll > 0, "states": states}
            yield Scored(np.array([2, 0, 1]), values, ["", "", ""])

    _, errors = asked([Embedding(MODEL), AnswerLoss(MODEL)], [ask("a", "b")] * 3, Backend())
    assert errors[0] == ["not-finite: the model's hidden states are not finite numbers", "", ""]
    assert errors[1] == ["", "not-finite: the loss is not a finite number", ""]


@pytest.mark.parametrize(
    "signals", [[Embedding(MODEL)], [AnswerLoss(MODEL), Embedding(MODEL, part="answer")]]
)
def test_a_server_has_no_hidden_states(signals: list[Any]) -> None:
    with pytest.raises(
        CapabilityError, match=r"embedding: .* neither a server nor vLLM returns.*`model`"
    ):
        asked(signals, [ask("a", "b")], object())


@pytest.mark.parametrize("layer", [-0.1, 1.01, float("nan"), 12])
def test_a_layer_is_a_fraction(layer: float) -> None:
    with pytest.raises(ConfigError, match="from 0 to 1"):
        Embedding(MODEL, layer)


@pytest.mark.parametrize("part", ["images", "", "Answer"])
def test_part_names(part: Part) -> None:
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
