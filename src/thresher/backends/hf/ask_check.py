"""Which way of running several queries about one row is exact for a model (see `ask.py`): measured
once, when the model is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.backends.hf.ask import answer_logprobs
from thresher.backends.hf.ask_encode import AskEncoder
from thresher.backends.hf.conversation import conversation
from thresher.backends.hf.traits import stop_tokens
from thresher.types import Query, Sample, SampleSource

if TYPE_CHECKING:
    from thresher.backends.hf.blocks import BlockPipeline
    from thresher.backends.hf.forward import EncodedRow, QueryMode
    from thresher.backends.hf.images import ImageFeatures

TEST_QUERIES = (
    Query("\nHow good is it, from 0 to 5?", ("0", "5")),
    Query("\nHow hard is it, from 0 to 5?", ("0", "5")),
    Query("\nWhat kind is it?", ("short description", "yes/no"), whole=True, end=False),
    Query("\nIs it so?", ("yes", "no"), whole=True),
)


def fastest_exact_mode(
    pipeline: BlockPipeline,
    row: Sample,
    official_ids: list[int],
    pool: SampleSource,
    tolerance: float,
) -> QueryMode | None:
    """The first of packed, batched and full that gives the numbers of separate full passes.

    Arguments:
        pipeline: of the model.
        row: one user turn with an image.
        official_ids: its token ids by the model's own processor, generation prompt included.
        pool: where the image is loaded from.
        tolerance: largest allowed difference of a log-probability, in nats.

    None if our own prompt does not begin with `official_ids`, or the queries cannot be encoded.
    """
    stop_ids = stop_tokens(pipeline.forward.model, pipeline.encoder)
    empty_query = _encode(pipeline, row, (Query("", ("0", "5")),), pool, stop_ids)
    encoded = _encode(pipeline, row, TEST_QUERIES, pool, stop_ids)
    if empty_query is None or encoded is None:
        return None
    if empty_query[0].ids[: len(official_ids)].tolist() != official_ids:
        return None
    expected = _logprobs(pipeline, *encoded, "full")
    every = pipeline.forward.bidirectional_layers
    # Gemma 4's image tokens attend in both directions in the sliding layers only
    tries: list[tuple[QueryMode, frozenset[str]]] = [
        ("packed", every),
        ("packed", frozenset({"sliding_attention"})),
    ]
    if pipeline.reuses_prefix:
        tries.append(("batched", every))
    for mode, pipeline.forward.bidirectional_layers in tries:
        try:
            found = _logprobs(pipeline, *encoded, mode)
        # whatever this architecture does not support, another mode avoids
        except Exception:  # noqa: BLE001
            continue
        if (
            expected is not None
            and found is not None
            and np.allclose(found, expected, atol=tolerance, rtol=0)
        ):
            return mode
    pipeline.forward.bidirectional_layers = every
    return "full"


def _encode(
    pipeline: BlockPipeline,
    row: Sample,
    queries: tuple[Query, ...],
    pool: SampleSource,
    stop_ids: frozenset[int],
) -> tuple[EncodedRow, dict[Any, ImageFeatures]] | None:
    """The encoded row and its images' features; None if the queries cannot be encoded."""
    encoder = AskEncoder(pipeline.encoder, pipeline.prompt_encoder, queries, stop_ids)
    block = pipeline.prepare([conversation(row)], range(1), pool, False, encoder)
    features = pipeline.features(block)
    return (block.rows[0], features) if block.rows else None


def _logprobs(
    pipeline: BlockPipeline, row: EncodedRow, features: dict[Any, ImageFeatures], mode: QueryMode
) -> np.ndarray | None:
    """float64 [answers], in nats; None if the row does not fit into memory."""
    result = next(answer_logprobs(pipeline.forward, [row], features, mode))[0][1]
    return None if isinstance(result, str) else result
