"""One teacher-forced forward pass per row, and everything that is computed from it.

`answer_loss`, `one_shot` and `embed_rows` use a part of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from thresher.backends.hf.answer_ends import AnswerEnds
from thresher.backends.hf.conversation import conversation
from thresher.backends.hf.encode import LightSpans
from thresher.backends.hf.outputs import Loss, Outputs
from thresher.backends.hf.traits import stop_tokens
from thresher.types import Sample, SampleSource, Scored

if TYPE_CHECKING:
    from thresher.backends.hf.blocks import Block, BlockPipeline, ImageKey
    from thresher.backends.hf.images import ImageFeatures

YIELD_SECONDS = 1.0
NOT_FINITE = "not-finite: the loss is not a finite number"


def read(
    pipeline: BlockPipeline,
    samples: Sequence[Sample],
    pool: SampleSource,
    *,
    loss: bool,
    spread: bool,
    states: Sequence[tuple[float, str]],
    light_spans: LightSpans | None = None,
    among_images: bool,
) -> Iterator[Scored]:
    """See `HFBackend.read`."""
    forward = pipeline.forward
    depths = tuple((forward.layers.depth_of(layer), part) for layer, part in states)
    outputs = Outputs(loss, spread, depths, light_spans is not None)
    encoder = None if light_spans is None else pipeline.encoder.marking(light_spans)
    stop_ids = stop_tokens(forward.model, pipeline.encoder) if loss else frozenset()
    for block in pipeline.blocks(samples, conversation, pool, among_images, encoder):
        for row in block.rows if stop_ids else ():
            row.ends = AnswerEnds.find(row.ids, row.answer_positions, stop_ids)
        yield from score(pipeline, block, pipeline.features(block), outputs)


def score(
    pipeline: BlockPipeline,
    block: Block,
    features: Mapping[ImageKey, ImageFeatures],
    outputs: Outputs,
) -> Iterator[Scored]:
    """The block's results, about once a second, so that little is lost when the run is killed.

    Arguments:
        pipeline: of the model.
        block: rows that were encoded.
        features: of the images.
        outputs: what to compute.
    """
    ready: dict[int, Loss | str] = dict(block.errors)
    since = time.monotonic()
    for batch, losses in pipeline.forward.losses(block.rows, dict(features), outputs):
        ready.update(zip((block.index[i] for i in batch), losses, strict=True))
        if time.monotonic() - since > YIELD_SECONDS:
            yield _scored(pipeline, ready, outputs)
            ready, since = {}, time.monotonic()
    if ready:
        yield _scored(pipeline, ready, outputs)


def require_finite(scored: Scored) -> Scored:
    """`scored` with an error for each row whose loss is not a finite number."""
    bad = ~np.isfinite(scored.values["nll"])
    errors = [e or (NOT_FINITE if b else "") for e, b in zip(scored.errors, bad, strict=True)]
    return replace(scored, errors=errors)


def _scored(pipeline: BlockPipeline, results: dict[int, Loss | str], outputs: Outputs) -> Scored:
    index = np.array(sorted(results), dtype=np.int64)
    ordered = [results[i] for i in index.tolist()]
    losses = [Loss(float("nan"), 0, False) if isinstance(x, str) else x for x in ordered]
    values: dict[str, np.ndarray] = {}
    if outputs.loss:
        values["nll"] = np.array([x.nll for x in losses], np.float32)
        values["tokens"] = np.array([x.tokens for x in losses], np.int32)
        values["greedy_match"] = np.array([x.greedy_match for x in losses], bool)
    if outputs.spread:
        values["entropy"] = np.array([x.entropy for x in losses], np.float32)
        values["own_gap"] = np.array([x.own_gap for x in losses], np.float32)
    if outputs.words:
        found = [x.words or (np.nan, 0, np.nan, 0) for x in losses]
        content, content_tokens, light, light_tokens = zip(*found, strict=True)
        values["content"] = np.array(content, np.float32)
        values["content_tokens"] = np.array(content_tokens, np.int32)
        values["light"] = np.array(light, np.float32)
        values["light_tokens"] = np.array(light_tokens, np.int32)
    if outputs.states:
        width = pipeline.forward.layers.width
        empty = np.zeros((len(outputs.states), width), np.float32)
        values["states"] = np.stack([empty if x.states is None else x.states for x in losses])
    return Scored(index, values, [x if isinstance(x, str) else "" for x in ordered])
