"""The backend compared with the slow reference: same tokens and losses, for every architecture and
shape of row."""

from __future__ import annotations

import functools
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.backends.hf.random_rows import Images, ask, collect, some_rows
from tests.backends.hf.slow_reference import (
    messages_of,
    reference_one_shot,
    reference_rows,
)
from tests.model_families import kinds
from tests.tiny_models import Loaded, build, load, picture
from thresher.backends import resolve
from thresher.backends.hf.answer_ends import AnswerEnds
from thresher.backends.hf.backend import HFBackend
from thresher.backends.hf.conversation import conversation
from thresher.backends.hf.forward import EncodedRow
from thresher.backends.hf.traits import stop_tokens
from thresher.errors import ModelError
from thresher.types import Sample, Turn

each_kind = kinds("tiny")
# ---------------------------------------------------------------------------- against the reference


@functools.cache
def referenced_rows(name: str) -> list[tuple[Sample, dict[str, Any]]]:
    """Rows of every shape and what the slow reference gives for them."""
    tiny, image_source = load(name), Images()

    def reference(row: Sample) -> dict[str, Any]:
        images = [image_source.load_image(ref) for ref in row.images]
        return reference_rows(tiny.processor, tiny.model, messages_of(row), images)

    return [(row, reference(row)) for row in some_rows(28, seed=1)]


def test_answer_loss_matches_reference(tiny: Loaded, backend: HFBackend) -> None:
    known = referenced_rows(tiny.name)
    rows = [row for row, _ in known]
    values, errors = collect(backend.answer_loss(rows, Images()), len(rows))
    assert not errors
    for i, (row, want) in enumerate(known):
        assert values["tokens"][i] == want["tokens"], row
        assert values["nll"][i] == pytest.approx(want["nll"], abs=1e-4), row
        assert values["greedy_match"][i] == (
            want["greedy_match"] and ends_as_said(backend, want)
        ), row


def ends_as_said(backend: HFBackend, want: dict[str, Any]) -> bool:
    """Whether the model would stop directly after each answer."""
    stops = stop_tokens(backend.forward.model, backend.encoder)
    last = [p for p in want["answer_positions"] if p + 1 not in want["answer_positions"]]
    return all(p + 1 < len(want["argmax"]) and want["argmax"][p + 1] in stops for p in last)


@pytest.mark.parametrize("question", ["What is there?", "How many cats are red?"])
def test_prefix_of_a_longer_answer_is_no_greedy_match(
    tiny: Loaded, backend: HFBackend, question: str
) -> None:
    """The model's own next token as the answer: a match only if the token that it would say then
    ends an answer."""
    image_source = Images()
    row = Sample('"a"', (Turn("user", question), Turn("assistant", "x")), ())
    (made,) = backend.prepare([conversation(row)], range(1), image_source, False).rows
    start = int(made.answer_positions[0])
    words = [t for t in range(backend.forward.vocabulary) if t != backend.forward.image_token_id]

    def next_word(ids: np.ndarray) -> int:
        with torch.no_grad():
            logits = tiny.model(input_ids=torch.from_numpy(ids)[None]).logits[0, -1]
        return words[int(logits[words].argmax())]

    def matches(token: int, ends: AnswerEnds | None) -> EncodedRow:
        return EncodedRow(np.append(made.ids[:start], token), np.array([start]), (), ends=ends)

    def matching(rows: list[EncodedRow]) -> list[int]:
        return [
            i
            for batch, part in backend.forward.losses(rows, {})
            for i, x in zip(batch, part, strict=True)
            if x.greedy_match
        ]

    predicted = next_word(made.ids[:start])
    following = next_word(np.append(made.ids[:start], predicted))
    some = [t for t in words[::40] if t not in (predicted, following)]
    assert matching([matches(t, None) for t in (*some, predicted)]) == [len(some)]
    ends = [AnswerEnds(((start,),), frozenset({t})) for t in (*some, following)]
    assert matching([matches(predicted, end) for end in ends]) == [len(some)]
    other = frozenset(words) - {following}
    assert matching(
        [matches(predicted, AnswerEnds(((start,),), stops)) for stops in (other, frozenset(words))]
    ) == [1]


def test_answer_positions_match_reference(tiny: Loaded, backend: HFBackend) -> None:
    image_source = Images()
    for row, want in referenced_rows(tiny.name):
        block = backend.prepare([conversation(row)], range(1), image_source, False)
        assert block.rows[0].ids.tolist() == want["input_ids"]
        assert block.rows[0].answer_positions.tolist() == want["answer_positions"]


@functools.cache
def demonstrated_rows(name: str) -> tuple[list[Sample], list[Sample], list[float]]:
    """Rows, a demonstration for each, and the reference's loss of the row after it."""
    tiny, image_source = load(name), Images()
    queries = some_rows(16, seed=3)
    demos = [some_rows(4, seed=4)[i % 4] for i in range(len(queries))]
    # encodes a single image otherwise: see test_single_image_is_encoded_as_among_several
    if name == "llava_onevision":
        queries = [q for q in queries if len(q.images) != 0]
        demos = [d for d in some_rows(12, seed=4) if d.images][:1] * len(queries)

    def reference(query: Sample, demo: Sample) -> float:
        want = reference_one_shot(
            tiny.processor,
            tiny.model,
            messages_of(demo),
            [image_source.load_image(ref) for ref in demo.images],
            messages_of(query),
            [image_source.load_image(ref) for ref in query.images],
        )
        return float(want["nll"])

    return queries, demos, [reference(q, d) for q, d in zip(queries, demos, strict=True)]


@pytest.mark.parametrize("reuse", [True, False])
def test_one_shot_matches_reference(tiny: Loaded, backend: HFBackend, reuse: bool) -> None:
    if reuse and not backend.reuses_prefix:
        assert tiny.name == "mllama"
        pytest.skip(
            "Llama-3.2-Vision's cross-attention cache cannot be reused exactly: whole sequences "
            "always run"
        )
    backend.forward.reuses_prefix = reuse
    queries, demos, want = demonstrated_rows(tiny.name)
    values, errors = collect(backend.one_shot(queries, demos, Images()), len(queries))
    assert not errors
    np.testing.assert_allclose(values["nll"], want, atol=1e-4, rtol=0)


def test_cached_demonstration_equals_whole_sequence(backend: HFBackend) -> None:
    if not backend.reuses_prefix:
        pytest.skip(
            "Llama-3.2-Vision's cross-attention cache cannot be reused exactly: whole sequences "
            "always run"
        )
    queries, demos = some_rows(20, seed=5), some_rows(5, seed=6) * 4
    before = backend.forward.tokens
    fast, _ = collect(backend.one_shot(queries, demos, Images()), 20)
    reused = backend.forward.tokens - before
    backend.forward.reuses_prefix = False
    slow, _ = collect(backend.one_shot(queries, demos, Images()), 20)
    np.testing.assert_allclose(fast["nll"], slow["nll"], atol=1e-4, rtol=0)
    assert reused < backend.forward.tokens - before - reused, "the demonstrations were not reused"


def test_only_mllama_runs_whole_sequences(tiny: Loaded, backend: HFBackend) -> None:
    assert backend.reuses_prefix == (tiny.name != "mllama")


def test_single_image_is_encoded_as_among_several(tiny: Loaded, backend: HFBackend) -> None:
    """LLaVA-OneVision gives a single image more tokens; zero-shot and one-shot losses must see the
    same ones."""
    row, image_source = ask("What?", "A cat.", "1"), Images()
    alone = backend.prepare([conversation(row)], range(1), image_source, False).rows[0]
    company = backend.prepare([conversation(row)], range(1), image_source, True).rows[0]
    two = backend.prepare(
        [conversation(ask("What?", "A cat.", "1", "1"))], range(1), image_source, False
    ).rows[0]
    count = [int((r.ids == backend.encoder.image_token_id).sum()) for r in (alone, company, two)]
    assert count[2] == 2 * count[1]
    assert (count[0] != count[1]) == (tiny.name == "llava_onevision") == backend.shrinks_images


# -------------------------------------------------------------------- no row depends on its company


def test_results_are_bit_identical_for_any_batch_size_order_and_block(
    backend: HFBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, demos = some_rows(18, seed=7), some_rows(6, seed=8) * 3
    backend.forward.batch_tokens = 4096
    want = collect(backend.answer_loss(rows, Images()), 18)[0]["nll"]
    want_one = collect(backend.one_shot(rows, demos, Images()), 18)[0]["nll"]
    assert len(np.unique(want)) > 14
    order = list(range(18))
    random.Random(0).shuffle(order)
    for tokens, block, pixels in ((512, 7, 2**23), (64, 2048, 1)):
        backend.forward.batch_tokens = tokens
        monkeypatch.setattr("thresher.backends.hf.blocks.BLOCK_ROWS", block)
        monkeypatch.setattr("thresher.backends.hf.blocks.PIXEL_BUDGET", pixels)
        got = collect(backend.answer_loss([rows[i] for i in order], Images()), 18)[0]["nll"]
        assert got.tobytes() == want[order].tobytes()
        got = collect(
            backend.one_shot([rows[i] for i in order], [demos[i] for i in order], Images()),
            18,
        )[0]["nll"]
        assert got.tobytes() == want_one[order].tobytes()


@each_kind
def test_results_are_bit_identical_on_two_cores(backend: HFBackend) -> None:
    rows = some_rows(20, seed=9)
    backend.forward.batch_tokens = 256
    want = collect(backend.answer_loss(rows, Images()), 20)[0]["nll"]
    backend.forward.workers = 2
    assert collect(backend.answer_loss(rows, Images()), 20)[0]["nll"].tobytes() == want.tobytes()


# ------------------------------------------------------------------------ nothing is computed twice


def test_image_is_encoded_once_for_all_its_rows(
    backend: HFBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, image_source = (
        [ask(f"Question {i}?", "Yes.", str(i % 3)) for i in range(30)],
        Images(),
    )
    vision, passed = backend.forward.vision, []
    assert vision is not None
    real = vision.features
    monkeypatch.setattr(vision, "features", lambda images: passed.extend(images) or real(images))
    collect(backend.answer_loss(rows, image_source), 30)
    assert image_source.loads == {"0": 1, "1": 1, "2": 1}
    assert len(passed) == 3


# -------------------------------------------------------------------------------- failures are data


def test_failed_rows_have_a_reason_and_do_not_affect_others(backend: HFBackend) -> None:
    control = backend.encoder.tokenizer.eos_token
    good = ask("What?", "A cat.", "1")
    rows = [
        good,
        ask("What?", "A cat.", "broken"),
        ask("What?", f"A {control} cat.", "1"),
        ask("What?", "", "1"),
        ask("word " * 20000, "Yes."),
        Sample("0", (Turn("user", "<image>\nWhat?"), Turn("assistant", "No.")), ()),
        ask("What\x00?", "No."),
    ]
    values, errors = collect(backend.answer_loss(rows, Images()), len(rows))
    assert sorted(errors) == [1, 2, 3, 4, 5, 6]
    assert "truncated" in errors[1]
    assert control in errors[2]
    assert errors[3].startswith("no-answer: ")
    assert "too long" in errors[4] and "context" in errors[4]
    assert "images" in errors[5]
    alone, _ = collect(backend.answer_loss([good], Images()), 1)
    assert values["nll"][0] == alone["nll"][0]


def test_invalid_demonstration_fails_only_its_queries(backend: HFBackend) -> None:
    queries = [ask("What?", "A cat.", "1"), ask("What?", "A cat.", "2")]
    demos = [ask("Who?", "A dog.", "broken"), ask("Who?", "A dog.", "3")]
    values, errors = collect(backend.one_shot(queries, demos, Images()), 2)
    assert list(errors) == [0] and np.isfinite(values["nll"][1])


@each_kind
def test_out_of_memory_halves_the_batch_and_continues(
    backend: HFBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [ask("What is it?", f"Answer {i}.") for i in range(6)]
    want = collect(backend.answer_loss(rows, Images()), 6)[0]["nll"]
    real, sizes = backend.forward._batch_losses, []

    def small_memory(some: list[EncodedRow], *given: Any) -> Iterator[Any]:
        sizes.append(len(some))
        if len(some) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(some, *given)

    monkeypatch.setattr(backend.forward, "_batch_losses", small_memory)
    values, errors = collect(backend.answer_loss(rows, Images()), 6)
    assert not errors and max(sizes) > 3 and values["nll"].tobytes() == want.tobytes()

    def no_memory(some: list[EncodedRow], *given: Any) -> Iterator[Any]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(backend.forward, "_batch_losses", no_memory)
    _, errors = collect(backend.answer_loss(rows[:3], Images()), 3)
    assert len(errors) == 3 and all("out of memory" in e for e in errors.values())


@each_kind
def test_other_errors_are_not_treated_as_out_of_memory(
    backend: HFBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(some: list[EncodedRow], *given: Any) -> Iterator[Any]:
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(backend.forward, "_batch_losses", fault)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        list(backend.answer_loss([ask("What?", "A cat.")], Images()))


@each_kind
def test_out_of_memory_anywhere_halves_and_continues(
    backend: HFBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the vision tower and while a demonstration is encoded, too."""
    monkeypatch.setattr(Images, "load_image", lambda self, ref: picture(64, 64, int(ref.path)))
    rows = [ask(f"Question {i}?", "Yes.", str(i % 6)) for i in range(12)]
    demos = [rows[0]] * 12
    want = collect(backend.answer_loss(rows, Images()), 12)[0]["nll"]
    want_one = collect(backend.one_shot(rows, demos, Images()), 12)[0]["nll"]
    vision = backend.forward.vision
    assert vision is not None
    real, tried = vision.features, []

    def two_at_most(images: list) -> list:  # type: ignore[type-arg]
        tried.append(len(images))
        if len(images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(images)

    monkeypatch.setattr(vision, "features", two_at_most)
    values, errors = collect(backend.answer_loss(rows, Images()), 12)
    assert not errors and max(tried) > 2 and values["nll"].tobytes() == want.tobytes()
    monkeypatch.setattr(vision, "features", real)

    def never(rows: list, features: dict) -> list:  # type: ignore[type-arg]
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(backend.forward, "prefixes", never)
    backend._demonstrations.encoded.clear()
    # whole sequences instead
    values, errors = collect(backend.one_shot(rows, demos, Images()), 12)
    assert not errors
    np.testing.assert_allclose(values["nll"], want_one, atol=1e-4, rtol=0)


@each_kind
def test_image_too_large_for_memory_fails_only_its_rows(
    backend: HFBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    vision = backend.forward.vision
    assert vision is not None
    rows = [ask("What?", "A cat.", "1"), ask("What?", "A cat."), ask("Which?", "A dog.", "1")]

    def never(images: list) -> list:  # type: ignore[type-arg]
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(vision, "features", never)
    values, errors = collect(backend.answer_loss(rows, Images()), 3)
    assert sorted(errors) == [0, 2] and "image alone" in errors[0] and np.isfinite(values["nll"][1])


@each_kind
def test_out_of_memory_does_not_shrink_later_batches(
    backend: HFBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [ask("What is it?", f"Answer {i % 10}.") for i in range(300)]
    real = backend.forward._batch_losses

    def room_for_16(some: list[EncodedRow], *given: Any) -> Iterator[Any]:
        if len(some) > 16:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(some, *given)

    monkeypatch.setattr(backend.forward, "_batch_losses", room_for_16)
    monkeypatch.setattr("gc.collect", lambda: 0)
    collect(backend.answer_loss(rows, Images()), 300)
    row = backend.prepare([conversation(rows[0])], range(1), Images(), False).rows[0]
    assert backend.forward.batch_tokens >= 8 * sum(row.shape[:2])


@each_kind
def test_demonstration_cache_limit_does_not_change_losses(
    backend: HFBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries, demos = some_rows(30, seed=5), some_rows(6, seed=6) * 5
    want = collect(backend.one_shot(queries, demos, Images()), 30)[0]["nll"]
    monkeypatch.setattr("thresher.backends.hf.backend.PREFIX_BYTES", 1)
    monkeypatch.setattr("thresher.backends.hf.blocks.BLOCK_ROWS", 7)
    got = collect(backend.one_shot(queries, demos, Images()), 30)[0]["nll"]
    np.testing.assert_allclose(got, want, atol=1e-4, rtol=0)


# ----------------------------------------------------------------------------------- damaged models


def test_model_with_missing_weights_is_refused(tmp_path: Path) -> None:
    """transformers would fill them with random numbers and only log it."""
    folder = shutil.copytree(build("llava"), tmp_path / "model")
    file = folder / "model.safetensors"
    tensors = load_file(file)
    missing = next(name for name in tensors if "layers.1" in name and "vision" not in name)
    save_file({k: v for k, v in tensors.items() if k != missing}, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match="lack 1 of the model's tensors"):
        resolve(str(folder)).open()


def test_truncated_weights_file_is_a_clear_error(tmp_path: Path) -> None:
    folder = shutil.copytree(build("llava"), tmp_path / "model")
    with (folder / "model.safetensors").open("r+b") as f:
        f.truncate(1000)
    with pytest.raises(ModelError, match="cannot be loaded"):
        resolve(str(folder)).open()
