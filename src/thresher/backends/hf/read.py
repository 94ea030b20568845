"""Reading rows: one pass over each, teacher-forced, and everything that is wanted of it.

`answer_loss`, `one_shot` and `embed_rows` are readings that ask for a part of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from thresher.backends.hf.answer_ends import Ends
from thresher.backends.hf.conversation import conversation
from thresher.backends.hf.outputs import Loss, Outputs
from thresher.backends.hf.traits import stop_tokens
from thresher.types import Sample, SampleSource, Scored

if TYPE_CHECKING:
    from thresher.backends.hf.blocks import Block, BlockPipeline, ImageKey
    from thresher.backends.hf.images import Features

HAND_ON_SECONDS = 1.0
NOT_A_LOSS = "the loss is not a finite number"


def read(
    pipeline: BlockPipeline,
    samples: Sequence[Sample],
    pool: SampleSource,
    *,
    loss: bool,
    spread: bool,
    states: Sequence[tuple[float, str]],
    among_images: bool,
) -> Iterator[Scored]:
    """See `HFBackend.read`."""
    forward = pipeline.forward
    depths = tuple((forward.layers.at(layer), part) for layer, part in states)
    outputs = Outputs(loss, spread, depths)
    stops = stop_tokens(forward.model, pipeline.encoder) if loss else frozenset()
    for block in pipeline.blocks(samples, conversation, pool, among_images):
        for row in block.rows if stops else ():
            row.ends = Ends.of(row.ids, row.answers, stops)
        yield from score(pipeline, block, pipeline.features(block), outputs)


def score(
    pipeline: BlockPipeline,
    block: Block,
    features: Mapping[ImageKey, Features],
    outputs: Outputs,
) -> Iterator[Scored]:
    """The block's results, about once a second, so that little is lost when the run is killed."""
    ready: dict[int, Loss | str] = dict(block.errors)
    since = time.monotonic()
    for batch, losses in pipeline.forward.losses(block.rows, dict(features), outputs):
        ready.update(zip((block.index[i] for i in batch), losses, strict=True))
        if time.monotonic() - since > HAND_ON_SECONDS:
            yield _scored(pipeline, ready, outputs)
            ready, since = {}, time.monotonic()
    if ready:
        yield _scored(pipeline, ready, outputs)


def finite(piece: Scored) -> Scored:
    """The piece with an error for each row whose loss is not a finite number."""
    odd = ~np.isfinite(piece.values["nll"])
    errors = [e or (NOT_A_LOSS if o else "") for e, o in zip(piece.errors, odd, strict=True)]
    return replace(piece, errors=errors)


def _scored(pipeline: BlockPipeline, found: dict[int, Loss | str], outputs: Outputs) -> Scored:
    index = np.array(sorted(found), dtype=np.int64)
    ordered = [found[i] for i in index.tolist()]
    losses = [Loss(float("nan"), 0, False) if isinstance(x, str) else x for x in ordered]
    values: dict[str, np.ndarray] = {}
    if outputs.loss:
        values["nll"] = np.array([x.nll for x in losses], np.float32)
        values["tokens"] = np.array([x.tokens for x in losses], np.int32)
        values["greedy_match"] = np.array([x.greedy_match for x in losses], bool)
    if outputs.spread:
        values["entropy"] = np.array([x.entropy for x in losses], np.float32)
        values["own_gap"] = np.array([x.own_gap for x in losses], np.float32)
    if outputs.states:
        width = pipeline.forward.layers.width
        blank = np.zeros((len(outputs.states), width), np.float32)
        values["states"] = np.stack([blank if x.states is None else x.states for x in losses])
    return Scored(index, values, [x if isinstance(x, str) else "" for x in ordered])
