"""Greedy answers and candidate likelihoods match the model's own `generate` and an ordinary pass,
batched or single."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from tests.backends.hf.random_rows import Images, ask, collect, some_rows
from tests.backends.hf.slow_answers import official_answer, question_of
from tests.model_families import kinds
from tests.tiny_models import Loaded
from thresher.backends.hf import generate
from thresher.backends.hf.backend import HFBackend
from thresher.backends.hf.conversation import Conversation, conversation, prompt_of
from thresher.backends.hf.traits import skips_padding, stop_tokens
from thresher.types import Sample, Scored, Turn

each_kind = kinds("tiny")
NEW = 6


def generated(
    backend: HFBackend, rows: list[Sample], pool: Any = None
) -> tuple[dict[str, np.ndarray], dict[int, str]]:
    return collect(backend.generate(rows, pool or Images(), NEW), len(rows))


# --------------------------------------------------------------------------------------------- text


def test_generated_text_matches_transformers_generate(tiny: Loaded, backend: HFBackend) -> None:
    """Against transformers' `generate` with the official processor, one row at a time."""
    rows, image_source = some_rows(16, seed=21), Images()
    stops = sorted(stop_tokens(backend.forward.model, backend.encoder))
    values, errors = generated(backend, rows)
    assert not errors
    sure = 0
    for i, row in enumerate(rows):
        want, lead = official_answer(tiny, question_of(row), image_source, stops, NEW)
        if lead < 1e-4:  # rounding may decide: nothing to compare
            continue
        sure += 1
        assert (
            values["text"][i]
            == tiny.processor.tokenizer.decode(want, skip_special_tokens=True).strip()
        ), row
        assert values["tokens"][i] == len(want)
        assert values["finished"][i] == (len(want) < NEW)
    assert sure >= 12
    assert len(set(values["text"].tolist())) >= 8, "the answers depend on the rows"


@each_kind
def test_batched_generation_equals_single(
    backend: HFBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits must be bit-identical too, or a tie could depend on the batch."""
    rows = some_rows(20, seed=22)
    seen: list[bytes] = []
    real = torch.Tensor.argmax

    def spy(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if self.ndim == 2 and self.dtype == torch.float32:
            seen.extend({row.numpy().tobytes() for row in self})
        return real(self, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "argmax", spy)
    backend.forward.workers = 1
    together, _ = generated(backend, rows)
    batched, seen = set(seen), []
    order = list(range(20))
    random.Random(0).shuffle(order)
    for i in order:
        alone, _ = generated(backend, [rows[i]])
        assert {k: v[0] for k, v in alone.items()} == {k: v[i] for k, v in together.items()}, rows[
            i
        ]
    assert set(seen) <= batched


@each_kind
def test_generation_does_not_depend_on_batch_size(
    backend: HFBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = some_rows(18, seed=23)
    want, _ = generated(backend, rows)
    for tokens, block in ((128, 2048), (4096, 7)):
        backend.forward.batch_tokens = tokens
        monkeypatch.setattr("thresher.backends.hf.blocks.BLOCK_ROWS", block)
        got, _ = generated(backend, rows)
        assert all(got[k].tolist() == want[k].tolist() for k in want)


@each_kind
def test_rows_end_at_different_steps(backend: HFBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some token that some rows write first, and some later, becomes the end token: rows leave the
    batch one by one."""
    rows = some_rows(24, seed=24)
    ids = token_ids(backend, rows)

    def lengths(ends: set[int]) -> list[int]:
        return [
            next((at for at, token in enumerate(answer) if token in ends), NEW) for answer in ids
        ]

    tokens = sorted({token for answer in ids for token in answer})
    ends: set[int] = set()
    for _ in range(3):
        ends.add(max(tokens, key=lambda t: len(set(lengths({*ends, t})))))
    assert len(set(lengths(ends))) >= 3
    monkeypatch.setattr(
        "thresher.backends.hf.generate.stop_tokens", lambda model, encoder: frozenset(ends)
    )
    cut, _ = generated(backend, rows)
    assert cut["tokens"].tolist() == lengths(ends)
    assert cut["finished"].tolist() == [n < NEW for n in lengths(ends)]


def token_ids(backend: HFBackend, rows: list[Sample]) -> list[list[int]]:
    """The tokens that each row's text is made of."""
    found: dict[int, list[int]] = {}
    real = generate._scored

    def spy(index: list[int], answers: Any, encoder: Any) -> Scored:
        found.update(zip(index, [a.tokens for a in answers], strict=True))
        return real(index, answers, encoder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generate, "_scored", spy)
        list(backend.generate(rows, Images(), NEW))
    return [found[i] for i in range(len(rows))]


def test_expected_answer_is_not_in_the_prompt(backend: HFBackend) -> None:
    rows = [
        ask("What is it?", answer, "1")
        for answer in ("A cat.", ("Something else entirely, and longer."))
    ]
    values, _ = generated(backend, rows)
    assert values["text"][0] == values["text"][1]


def test_prompt_has_earlier_turns_only(backend: HFBackend) -> None:
    def chat(first: str, last: str, *more: Turn) -> Sample:
        row = ask("What is it?", first, "1")
        return Sample(
            "0", (*row.turns, Turn("user", "Sure?"), Turn("assistant", last), *more), row.images
        )

    rows = [
        chat("A cat.", "Yes."),
        chat("A cat.", "No."),
        chat("A mat, blue things.", "Yes."),
        chat("A cat.", "Yes.", Turn("user", "Really?")),
    ]
    prompts = backend.prompt_encoder.encode([prompt_of(r) for r in rows])
    ids = [p.ids for p in prompts]  # type: ignore[union-attr]
    assert ids[0] == ids[1] == ids[3] != ids[2]


@each_kind
def test_images_are_encoded_once(backend: HFBackend) -> None:
    image_source = Images()
    rows = [ask(f"Question {i}?", "Yes.", str(i % 3)) for i in range(30)]
    generated(backend, rows, image_source)
    assert image_source.loads == {"0": 1, "1": 1, "2": 1}


@each_kind
def test_failures_are_row_errors(backend: HFBackend) -> None:
    good = ask("What?", "A cat.", "1")
    rows = [
        good,
        ask("What?", "A cat.", "broken"),
        ask("word " * 20000, "Yes."),
        ask("What\x00?", "No."),
    ]
    values, errors = generated(backend, rows)
    assert sorted(errors) == [1, 2, 3] and "truncated" in errors[1] and "too long" in errors[2]
    assert values["text"][0] == generated(backend, [good])[0]["text"][0]


@each_kind
def test_out_of_memory_halves_the_batch(
    backend: HFBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [ask("What is it?", "Yes.", str(i % 4)) for i in range(6)]
    want, _ = generated(backend, rows)
    real = type(backend.forward).position_ids

    def small(self: Any, some: Any, start: int, width: int) -> Any:
        if len(some) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, some, start, width)

    monkeypatch.setattr(type(backend.forward), "position_ids", small)
    got, errors = generated(backend, rows)
    assert not errors and got["text"].tolist() == want["text"].tolist()


@each_kind
def test_exact_lengths_give_the_same_text(
    backend: HFBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a model with sliding windows gets: prompts of one exact length, no padding, no mask."""
    rows = some_rows(16, seed=25)
    want, _ = generated(backend, rows)
    monkeypatch.setattr("thresher.backends.hf.generate.skips_padding", lambda config: False)
    got, _ = generated(backend, rows)
    assert (got["text"] == want["text"]).mean() >= 0.9  # rounding may decide a tie


def test_which_layers_skip_padding() -> None:
    class Config:
        def __init__(self, **values: Any) -> None:
            self.__dict__.update(values)

        def get_text_config(self, decoder: bool) -> Config:
            return self

    assert skips_padding(Config())
    assert skips_padding(Config(layer_types=["full_attention"] * 2, sliding_window=4096))
    assert not skips_padding(Config(layer_types=["full_attention", "sliding_attention"]))
    assert not skips_padding(Config(layer_types=["linear_attention"]))
    assert not skips_padding(Config(sliding_window=4096))
    assert skips_padding(Config(sliding_window=4096, use_sliding_window=False))


# --------------------------------------------------------------------------------------- candidates


OPTIONS = ("Yes.", "No.", "A red cat on a mat.", "12")


@torch.inference_mode()
def plain_scores(
    backend: HFBackend, tiny: Loaded, row: Sample, stops: frozenset[int]
) -> list[float]:
    """Each candidate as a separate row in an ordinary pass without cache: the sum over its tokens
    and its end token."""
    out = []
    image_source = Images()
    for text in OPTIONS:
        turns = [*question_of(row).turns, Turn("assistant", text)]

        whole = conversation(Sample("0", tuple(turns), row.images))
        conv = Conversation(whole.messages, whole.images, scored_from=len(turns) - 1)
        block = backend.prepare([conv], range(1), image_source, False)
        encoded = block.rows[0]
        end = int(encoded.answer_positions[-1]) + 1
        if end < len(encoded.ids) and int(encoded.ids[end]) in stops:
            encoded.answer_positions = np.append(encoded.answer_positions, end)
        [(_, [loss])] = list(backend.forward.losses(block.rows, backend.features(block)))
        out.append(-loss.nll * loss.tokens)  # type: ignore[union-attr]
    return out


def test_choice_picks_most_likely_candidate(tiny: Loaded, backend: HFBackend) -> None:
    rows = some_rows(10, seed=26)
    stops = stop_tokens(backend.forward.model, backend.encoder)
    values, errors = collect(backend.choice(rows, [OPTIONS] * 10, Images()), 10)
    assert not errors
    for i, row in enumerate(rows):
        scores = plain_scores(backend, tiny, row, stops)
        best = sorted(scores, reverse=True)
        assert values["margin"][i] == pytest.approx(best[0] - best[1], abs=2e-3)
        assert values["picked"][i] == int(np.argmax(scores)) or best[0] - best[1] < 1e-3
    assert len(np.unique(values["margin"])) == 10, "the likelihoods depend on the rows"


@each_kind
def test_choice_does_not_depend_on_the_batch(
    backend: HFBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = some_rows(14, seed=27)
    want, _ = collect(backend.choice(rows, [OPTIONS] * 14, Images()), 14)
    # 7: candidates of a row fall into different blocks
    for tokens, block in ((96, 2048), (4096, 7)):
        backend.forward.batch_tokens = tokens
        monkeypatch.setattr("thresher.backends.hf.blocks.BLOCK_ROWS", block)
        got, _ = collect(backend.choice(rows, [OPTIONS] * 14, Images()), 14)
        assert got["margin"].tobytes() == want["margin"].tobytes()
        assert got["picked"].tolist() == want["picked"].tolist()


def test_choice_encodes_a_prompt_once(tiny: Loaded, backend: HFBackend) -> None:
    rows = [
        ask("What is it, and what is there on the mat of the red cat?", "Yes.", str(i))
        for i in range(6)
    ]
    before = backend.forward.tokens
    collect(backend.choice(rows, [OPTIONS] * 6, Images()), 6)
    shared = backend.forward.tokens - before
    backend.forward.reuses_prefix = False
    collect(backend.choice(rows, [OPTIONS] * 6, Images()), 6)
    whole = backend.forward.tokens - before - shared
    assert (shared < whole * 0.7) == (tiny.name != "mllama")


@each_kind
def test_choice_failures_are_row_errors(backend: HFBackend) -> None:
    rows = [ask("What?", "A cat.", "1"), ask("What?", "A cat.", "broken"), ask("What?", "Yes.")]
    control = backend.encoder.tokenizer.eos_token
    given = [OPTIONS, OPTIONS, ("Yes.", f"No {control}")]
    values, errors = collect(backend.choice(rows, given, Images()), 3)
    assert sorted(errors) == [1, 2] and "truncated" in errors[1] and control in errors[2]
    assert np.isfinite(values["margin"][0])


def pieces(backend: HFBackend, rows: list[Sample]) -> Iterator[int]:
    yield from (len(p.index) for p in backend.generate(rows, Images(), NEW))


@each_kind
def test_answers_are_yielded_batch_by_batch(backend: HFBackend) -> None:
    """So that a killed run loses little."""
    backend.forward.batch_tokens = 256
    sizes = list(pieces(backend, some_rows(24, seed=28)))
    assert sum(sizes) == 24 and len(sizes) >= 4
