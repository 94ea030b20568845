"""What a text, or a whole row with its pictures, means to a model: its last hidden states, averaged
over tokens, at unit length.

A text stands alone as a user turn of the model's own chat template; the template's words run but
are not averaged. Texts go through one by one in chunks padded to 8 tokens, so a text's vector
depends on nothing but itself (`forward.py`).

A row is a conversation as the losses see it, in batches under the same rules. It gets three
vectors, of its pictures' tokens, of its answers' and of the rest before the last answer (questions,
system turn, the template's words): a picture has hundreds of tokens, so in one average over all a
question would not be heard.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from thresher.backends.hf.conversation import Conversation, Message, conversation
from thresher.backends.hf.encode import Text
from thresher.backends.hf.forward import LEAST_ROWS, Forward, Row, padded
from thresher.types import Sample, SampleSource, Scored

if TYPE_CHECKING:
    from thresher.backends.hf.blocks import BlockPipeline

HAND_ON_SECONDS = 1.0
NOT_FINITE = "the model's hidden states are not finite numbers"
PARTS = ("images", "question", "answer")


def embed(pipeline: BlockPipeline, texts: Sequence[str]) -> list[np.ndarray | str]:
    """A float32 vector of length 1 for each text, or why there is none."""
    forward = pipeline.forward
    # as an assistant's text, because the encoder knows where those stand
    talks = [
        Conversation((Message("user", ("",)), Message("assistant", (t,))), (), 1) for t in texts
    ]
    encoded = pipeline.encoder.encode(talks)
    jobs = [e for e in encoded if isinstance(e, Text) and len(e.ids) <= pipeline.context]
    found = iter(list(forward.run(lambda job: _one(forward, job), jobs)))
    out: list[np.ndarray | str] = []
    for e in encoded:
        if not isinstance(e, Text):
            out.append(e)
        elif len(e.ids) > pipeline.context:
            out.append(
                f"too long: {len(e.ids):,} tokens, and the model's context is {pipeline.context:,}"
            )
        else:
            out.append(next(found))
    return out


def _one(forward: Forward, text: Text) -> np.ndarray | str:
    last = text.answers[-1] + 1
    row = Row(np.array(text.ids[:last], np.int64), np.array(text.answers, np.int64), ())
    return forward.halving(lambda some: [_states(forward, r) for r in some], [row])[0]


@torch.inference_mode()
def _states(forward: Forward, row: Row) -> np.ndarray:
    width = padded(len(row.ids))
    ids = np.full((1, width), forward.pad, np.int64)
    ids[0, : len(row.ids)] = row.ids
    tokens = torch.from_numpy(ids).to(forward.device)
    few = np.zeros((1, width), bool)
    few[0, :LEAST_ROWS] = True  # logits are not wanted
    states = forward.model(
        input_ids=tokens,
        position_ids=forward._position_ids([row], 0, width),
        use_cache=False,
        output_hidden_states=True,
        logits_to_keep=torch.from_numpy(few).to(forward.device),
        **forward._images([row], {}, width),
    ).hidden_states[-1]
    forward._count(tokens)
    mean = states[0, torch.from_numpy(row.answers).to(forward.device)].float().mean(0)
    return (mean / mean.norm().clamp(min=1e-12)).cpu().numpy()


def embed_rows(
    pipeline: BlockPipeline, samples: Sequence[Sample], pool: SampleSource
) -> Iterator[Scored]:
    """Fields images, question, answer: float32 [m, hidden size] of length 1, zeros where a row has
    no such token. Pieces about once a second.
    """
    forward = pipeline.forward
    for block in pipeline.blocks(samples, conversation, pool, False):
        features = pipeline.features(block)
        rows = block.rows
        ready: dict[int, np.ndarray | str] = dict(block.errors)
        since = time.monotonic()
        batches = list(forward.cut(rows, lambda r: r.shape, sum(len(r.answers) for r in rows) + 1))

        def job(
            batch: list[int], rows: list[Row] = rows, features: dict[Any, Any] = features
        ) -> list[Any]:
            return forward.halving(
                lambda some: _parts(forward, some, features), [rows[i] for i in batch]
            )

        for batch, found in zip(batches, forward.run(job, batches), strict=True):
            ready.update(zip((block.index[i] for i in batch), found, strict=True))
            if time.monotonic() - since > HAND_ON_SECONDS:
                yield _scored(ready, pipeline)
                ready, since = {}, time.monotonic()
        if ready:
            yield _scored(ready, pipeline)


@torch.inference_mode()
def _parts(forward: Forward, rows: list[Row], features: dict[Any, Any]) -> list[np.ndarray | str]:
    """float32 [3, hidden size] of each of some rows of one shape, or why there is none."""
    width = rows[0].shape[1]
    ids = np.full((len(rows), width), forward.pad, np.int64)
    for j, row in enumerate(rows):
        ids[j, : len(row.ids)] = row.ids
    tokens = torch.from_numpy(ids).to(forward.device)
    inner = getattr(forward.model, "model", forward.model)  # without the vocabulary's matrix
    states = inner(
        input_ids=tokens,
        position_ids=forward._position_ids(rows, 0, width),
        use_cache=False,
        **forward._images(rows, features),
    ).last_hidden_state
    forward._count(tokens)
    shown = getattr(forward, "soft_token_id", forward.image_token_id)
    out: list[np.ndarray | str] = []
    for j, row in enumerate(rows):
        end = int(row.answers[-1]) + 1
        part = np.where(row.ids[:end] == shown, 0, 1)
        part[row.answers] = 2
        means = []
        for k in range(len(PARTS)):
            at = torch.from_numpy(np.flatnonzero(part == k)).to(forward.device)
            mean = (
                states[j, at].float().mean(0)
                if len(at)
                else torch.zeros(states.shape[-1], device=forward.device)
            )
            means.append(mean / mean.norm().clamp(min=1e-12))
        table = torch.stack(means).cpu().numpy()
        out.append(table if np.isfinite(table).all() else NOT_FINITE)
    return out


def _scored(found: dict[int, np.ndarray | str], pipeline: BlockPipeline) -> Scored:
    index = sorted(found)
    blank = np.zeros(
        (len(PARTS), pipeline.forward.model.config.get_text_config(decoder=True).hidden_size),
        np.float32,
    )
    ordered = [found[i] for i in index]
    table = np.stack([blank if isinstance(x, str) else x for x in ordered])
    errors = [x if isinstance(x, str) else "" for x in ordered]
    return Scored(
        np.array(index, np.int64), {name: table[:, k] for k, name in enumerate(PARTS)}, errors
    )
