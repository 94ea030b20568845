"""Row vectors: means of the model's last hidden states over three parts, independent of the
batch."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from tests.backends.hf.random_rows import Images, ask, some_rows
from tests.backends.hf.slow_reference import images_of, messages_of, reference_rows
from tests.model_families import kinds
from tests.tiny_models import Loaded
from thresher.backends.hf.backend import HFBackend
from thresher.duplicates.embedding import PARTS
from thresher.types import ImageRef, Sample

each_kind = kinds("tiny")


def vectors(backend: HFBackend, rows: list[Sample]) -> np.ndarray:
    """float32 [rows, 3, hidden size]."""
    out: dict[int, np.ndarray] = {}
    for piece in backend.embed_rows(rows, Images()):
        assert not any(piece.errors)
        for j, i in enumerate(piece.index.tolist()):
            assert i not in out
            out[i] = np.stack([piece.values[name][j] for name in PARTS])
    return np.stack([out[i] for i in range(len(rows))])


def by_hand(tiny: Loaded, backend: HFBackend, row: Sample) -> np.ndarray:
    """The official processor, one plain pass, and the means."""
    image_source = images_of(row, Images().load_image)
    result = reference_rows(tiny.processor, tiny.model, messages_of(row), image_source)
    with torch.no_grad():
        states = tiny.model(**result["inputs"], output_hidden_states=True).hidden_states[-1][0]
    ids, answers = np.array(result["input_ids"]), result["own_positions"]
    part = np.where(ids[: answers[-1] + 1] == backend.forward.image_token_id, 0, 1)
    part[answers] = 2
    means = [
        states[np.flatnonzero(part == k)].mean(0) if (part == k).any() else states[0] * 0
        for k in range(3)
    ]
    return torch.stack([m / m.norm().clamp(min=1e-12) for m in means]).numpy()


def test_embeddings_equal_the_models_states(tiny: Loaded, backend: HFBackend) -> None:
    rows = some_rows(10, seed=3)
    found = vectors(backend, rows)
    for row, table in zip(rows, found, strict=True):
        assert np.allclose(table, by_hand(tiny, backend, row), atol=2e-4), row
        there = np.linalg.norm(table, axis=1)
        assert there.tolist() == pytest.approx([float(bool(row.images)), 1, 1], abs=1e-5)


@each_kind
def test_results_are_bit_identical_for_any_batch_size_order_and_block(
    backend: HFBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = some_rows(30, seed=7)
    want = vectors(backend, rows)
    order = random.Random(0).sample(range(30), 30)
    for tokens, block, cores in ((512, 2048, 1), (4096, 7, 2), (64, 2048, 1)):
        backend.forward.batch_tokens, backend.forward.workers = tokens, cores
        monkeypatch.setattr("thresher.backends.hf.blocks.BLOCK_ROWS", block)
        assert vectors(backend, [rows[i] for i in order]).tobytes() == want[order].tobytes()


def test_each_part_depends_only_on_its_tokens(backend: HFBackend) -> None:
    """Later tokens do not change earlier parts; the image affects all parts."""
    rows = [
        ask("what is there", "red cats", "1"),
        ask("what is there", "blue mat", "1"),
        ask("are there many cats", "red cats", "1"),
        ask("what is there", "red cats", "2"),
    ]
    base, answer, question, image = vectors(backend, rows)
    same = [
        np.allclose(a, b, atol=1e-5)
        for other in (answer, question)
        for a, b in zip(base, other, strict=True)
    ]
    assert same == [True, True, False, True, False, False]
    assert not any(np.allclose(a, b, atol=1e-5) for a, b in zip(base, image, strict=True))


@each_kind
def test_unreadable_row_has_a_reason(backend: HFBackend) -> None:
    bad = Sample("0", ask("what", "red", "1").turns, (ImageRef(path="broken", size=1),))
    rows = [ask("what", "red", "1"), bad, ask("what", "", "1")]
    values = {}
    for piece in backend.embed_rows(rows, Images()):
        values.update(zip(piece.index.tolist(), piece.errors, strict=True))
    assert values[0] == "" and "broken" in values[1] and "answer" in values[2]
