"""Embeddings of texts and of whole rows: the model's last hidden states, averaged over tokens and
scaled to unit length.

A text is a user turn by itself in the model's own chat template; the template's tokens run, but are
not averaged. Texts run one at a time, padded to a multiple of 8 tokens, so a text's vector depends
on nothing else (`forward.py`).

A row is a conversation as for the losses, in batches under the same rules. It gets three vectors:
of its image tokens, of its answers', and of the rest before the last answer (questions, system
turn, the template's tokens). An image has hundreds of tokens, so a question would hardly count in
a single average over all tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from thresher.backends.hf.conversation import Conversation, Message
from thresher.backends.hf.encode import EncodedText
from thresher.backends.hf.forward import EncodedRow, Forward
from thresher.backends.hf.outputs import Outputs
from thresher.backends.hf.read import read
from thresher.types import Sample, SampleSource, Scored

if TYPE_CHECKING:
    from thresher.backends.hf.blocks import BlockPipeline

NOT_FINITE = "not-finite: the model's hidden states are not finite numbers"
PARTS = {"images": "image", "question": "question", "answer": "answer"}  # field -> part


def embed(pipeline: BlockPipeline, texts: Sequence[str]) -> list[np.ndarray | str]:
    """For each text a vector, float32 [hidden size] of length 1, or why there is none.

    Arguments:
        pipeline: of the model.
        texts: texts without images.
    """
    forward = pipeline.forward
    # in the assistant's turn, because the encoder locates the tokens of answers
    conversations = [
        Conversation((Message("user", ("",)), Message("assistant", (t,))), (), 1) for t in texts
    ]
    encoded = pipeline.encoder.encode(conversations)
    jobs = [e for e in encoded if isinstance(e, EncodedText) and len(e.ids) <= pipeline.context]
    vectors = iter(list(forward.parallel_map(lambda job: _embed_text(forward, job), jobs)))
    out: list[np.ndarray | str] = []
    for e in encoded:
        if not isinstance(e, EncodedText):
            out.append(e)
        elif len(e.ids) > pipeline.context:
            out.append(
                f"too long: {len(e.ids):,} tokens, and the model's context is {pipeline.context:,}"
            )
        else:
            out.append(next(vectors))
    return out


def _embed_text(forward: Forward, text: EncodedText) -> np.ndarray | str:
    end = text.answer_positions[-1] + 1
    row = EncodedRow(
        np.array(text.ids[:end], np.int64),
        np.array(text.answer_positions, np.int64),
        (),
        separators=np.array(text.separator_positions, np.int64),
    )
    outputs = Outputs(False, states=((forward.layers.depth, "answer"),))
    (loss,) = forward.batch_losses([row], {}, outputs)
    if isinstance(loss, str):
        return loss
    assert loss.states is not None
    return loss.states[0]


def embed_rows(
    pipeline: BlockPipeline, samples: Sequence[Sample], pool: SampleSource
) -> Iterator[Scored]:
    """Three vectors for each sample.

    Arguments:
        pipeline: of the model.
        samples: n rows.
        pool: where images are loaded from.

    Yields, about once a second, `images`, `question` and `answer`: float32 [m, hidden size] of
    length 1, zeros where a row has no such token.
    """
    states = [(1.0, part) for part in PARTS.values()]
    for scored in read(
        pipeline, samples, pool, loss=False, spread=False, states=states, among_images=False
    ):
        table = scored.values["states"]  # (m, parts, hidden size)
        bad = ~np.isfinite(table).all(axis=(1, 2))
        errors = [e or (NOT_FINITE if b else "") for e, b in zip(scored.errors, bad, strict=True)]
        yield Scored(scored.index, {name: table[:, k] for k, name in enumerate(PARTS)}, errors)
