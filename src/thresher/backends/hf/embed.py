"""What a text means to a model: its last hidden states, averaged over the text's tokens, at unit length. Text only.

The text stands alone as a user turn of the model's own chat template; the template's words run but are not averaged. Texts
go through one by one in chunks padded to 8 tokens, so a text's vector depends on nothing but itself (`forward.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from thresher.backends.hf.conversation import Conversation, Message
from thresher.backends.hf.encode import Text
from thresher.backends.hf.forward import LEAST_ROWS, Forward, Row, padded

if TYPE_CHECKING:
    from thresher.backends.hf.backend import HFBackend


def embed(backend: HFBackend, texts: Sequence[str]) -> list[np.ndarray | str]:
    """A float32 vector of length 1 for each text, or why there is none."""
    forward = backend.forward
    # as an assistant's text, because the encoder knows where those stand
    talks = [Conversation((Message("user", ("",)), Message("assistant", (t,))), (), 1) for t in texts]
    encoded = backend.encoder.encode(talks)
    jobs = [e for e in encoded if isinstance(e, Text) and len(e.ids) <= backend.context]
    found = iter(list(forward.run(lambda job: _one(forward, job), jobs)))
    out: list[np.ndarray | str] = []
    for e in encoded:
        if not isinstance(e, Text):
            out.append(e)
        elif len(e.ids) > backend.context:
            out.append(f"too long: {len(e.ids):,} tokens, and the model's context is {backend.context:,}")
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
