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

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from thresher.backends.hf.conversation import Conversation, Message
from thresher.backends.hf.encode import Text
from thresher.backends.hf.forward import Forward, Row
from thresher.backends.hf.outputs import Outputs
from thresher.backends.hf.read import read
from thresher.types import Sample, SampleSource, Scored

if TYPE_CHECKING:
    from thresher.backends.hf.blocks import BlockPipeline

NOT_FINITE = "the model's hidden states are not finite numbers"
PARTS = {"images": "image", "question": "question", "answer": "answer"}  # field -> part


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
    (found,) = forward.batch([row], {}, Outputs(False, states=((forward.layers.depth, "answer"),)))
    if isinstance(found, str):
        return found
    assert found.states is not None
    return found.states[0]


def embed_rows(
    pipeline: BlockPipeline, samples: Sequence[Sample], pool: SampleSource
) -> Iterator[Scored]:
    """Fields images, question, answer: float32 [m, hidden size] of length 1, zeros where a row has
    no such token. Pieces about once a second.
    """
    wanted = [(1.0, part) for part in PARTS.values()]
    for piece in read(
        pipeline, samples, pool, loss=False, spread=False, states=wanted, among_images=False
    ):
        table = piece.values["states"]
        odd = ~np.isfinite(table).all(axis=(1, 2))
        errors = [e or (NOT_FINITE if o else "") for e, o in zip(piece.errors, odd, strict=True)]
        yield Scored(piece.index, {name: table[:, k] for k, name in enumerate(PARTS)}, errors)
