"""Which way of asking several queries of one row is exact for a model: tried once, when it is
opened (see `ask.py`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.backends.hf.ask import Way, answers
from thresher.backends.hf.ask_encode import AskEncoder
from thresher.backends.hf.conversation import conversation
from thresher.backends.hf.traits import stop_tokens
from thresher.types import Query, Sample, SampleSource

if TYPE_CHECKING:
    from thresher.backends.hf.blocks import BlockPipeline

QUERIES = (
    Query("\nHow good is it, from 0 to 5?", ("0", "5")),
    Query("\nHow hard is it, from 0 to 5?", ("0", "5")),
    Query("\nWhat kind is it?", ("short description", "yes/no"), whole=True, end=False),
    Query("\nIs it so?", ("yes", "no"), whole=True),
)


def best_way(
    pipeline: BlockPipeline, row: Sample, official: list[int], pool: SampleSource, tolerance: float
) -> Way | None:
    """The first of packed, batched and full that gives what separate full passes give, within
    `tolerance` nats.

    `row`: one user turn with an image; `official`: its ids by the model's own processor, the
    invitation to answer included. None where our own prompt does not begin with those, or the
    queries cannot be written.
    """
    stops = stop_tokens(pipeline.forward.model, pipeline.encoder)
    alone = Sample(row.id, row.turns[:1], row.images)
    found = _asked(pipeline, alone, (Query("", ("0", "5")),), pool, stops)
    prepared = _asked(pipeline, alone, QUERIES, pool, stops)
    if found is None or prepared is None or found[0].ids[: len(official)].tolist() != official:
        return None
    asked, features = prepared
    want = _tried(pipeline, asked, features, "full")
    for way in _ways(pipeline):
        try:
            got = _tried(pipeline, asked, features, way)
        # whatever this architecture does not take, another way does without
        except Exception:  # noqa: BLE001
            continue
        if want is not None and got is not None and np.allclose(got, want, atol=tolerance, rtol=0):
            return way
    return "full"


def _ways(pipeline: BlockPipeline) -> tuple[Way, ...]:
    return ("packed", "batched") if pipeline.reuses_prefix else ("packed",)


def _asked(
    pipeline: BlockPipeline,
    row: Sample,
    queries: tuple[Query, ...],
    pool: SampleSource,
    stops: frozenset[int],
) -> tuple[Any, dict[Any, Any]] | None:
    """The encoded row and its images' features; None where the queries cannot be written for this
    model."""
    encoder = AskEncoder(pipeline.encoder, pipeline.prompt_encoder, queries, stops)
    block = pipeline.prepare([conversation(row)], range(1), pool, False, encoder)
    features = pipeline.features(block)
    return (block.rows[0], features) if block.rows else None


def _tried(
    pipeline: BlockPipeline, row: Any, features: dict[Any, Any], way: Way
) -> np.ndarray | None:
    got = next(answers(pipeline.forward, [row], features, way))[0][1]
    return None if isinstance(got, str) else got
