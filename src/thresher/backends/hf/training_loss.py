"""The training loss: summed over exactly the answer tokens and the token that ends each answer, as
a graph for gradients.

Rows come encoded as for scoring (`encode.py`: answer positions are exact for any chat template) and
run as for scoring (`forward.py`: features of images, explicit positions, padding at the right), so
that what is trained is what is measured.

The end of a turn is whatever the template writes behind an answer up to its first control token
(`<|im_end|>`). Where a template writes none (LLaVA-1.5), the tokenizer's end token is the target
behind the answer, though it does not stand in the text: the model learns to stop, and the text it
reads stays the template's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from thresher.backends.hf.backend import HFBackend
from thresher.backends.hf.blocks import PIXEL_BUDGET, ImageKey
from thresher.backends.hf.conversation import Conversation, Message
from thresher.backends.hf.encode import Encoder, Text
from thresher.backends.hf.forward import Forward, Row
from thresher.backends.hf.images import Features, Prepared
from thresher.backends.hf.mllama import MllamaForward

CLOSE = 4  # the end token stands at most this many tokens behind the answer's last one


@dataclass(frozen=True)
class Targets:
    """What a row is to learn: after reading `ids[where[i]]` the model should say `token[i]`. Both
    int64 [m], `where` rising."""

    where: np.ndarray
    token: np.ndarray


class EndOfTurn:
    """Finds the targets of encoded rows. `token`: what ends an answer, None where neither template
    nor tokenizer has one;
    `written`: the template writes it."""

    def __init__(self, encoder: Encoder) -> None:
        tokenizer = encoder.tokenizer
        self._image = encoder.image_token_id
        self._control = {i for i, t in tokenizer.added_tokens_decoder.items() if t.special}
        plain = Conversation((Message("user", ("Is it red?",)), Message("assistant", ("Yes",))), ())
        text = encoder.encode([plain])[0]
        behind = text.ids[text.answers[-1] + 1 :] if isinstance(text, Text) else []
        ends = [t for t in behind if t in self._control]
        self.written = bool(ends)
        self.token: int | None = ends[0] if ends else tokenizer.eos_token_id

    def targets(self, row: Row) -> Targets:
        """All answer tokens of the row, each turn's followed by what ends it."""
        ids, answers = row.ids, row.answers
        # the last token of each answer
        last = answers[np.r_[answers[1:] != answers[:-1] + 1, True]]
        where, token = [answers - 1], [ids[answers]]
        for at in last.tolist():
            if self.written:
                end = self._end(ids, at)
                where.append(np.arange(at, end))
                token.append(ids[at + 1 : end + 1])
            elif self.token is not None and (at + 1 == len(ids) or ids[at + 1] != self._image):
                where.append(np.array([at]))
                token.append(np.array([self.token]))
        joined = np.concatenate(where)
        order = np.argsort(joined, kind="stable")
        return Targets(joined[order], np.concatenate(token)[order].astype(np.int64))

    def _end(self, ids: np.ndarray, at: int) -> int:
        """Position of the end token behind the answer that ends at `at`; `at` itself when another
        thing follows."""
        for k in range(at + 1, min(at + 1 + CLOSE, len(ids))):
            if ids[k] in self._control:
                return k if ids[k] == self.token else at
        return at


class Teacher:
    """Loss of encoded rows under a model whose weights may have changed since `backend` was
    loaded."""

    def __init__(self, backend: HFBackend) -> None:
        self.forward: Forward = backend.forward
        self.ends = EndOfTurn(backend.encoder)
        # a text-only row must not pass the cross-attention
        self._apart = isinstance(backend.forward, MllamaForward)

    def loss(
        self,
        model: Any,
        rows: Sequence[Row],
        targets: Sequence[Targets],
        images: dict[ImageKey, Prepared],
    ) -> torch.Tensor:
        """Nats, summed over all targets of the rows: a scalar in float32. `model`: the backend's,
        or its PEFT wrapper."""
        features = self._features(images)
        groups: dict[int, list[int]] = {}
        for i, row in enumerate(rows):
            groups.setdefault(len(row.images) if self._apart else 0, []).append(i)
        parts = [
            self._part(model, [rows[i] for i in group], [targets[i] for i in group], features)
            for _, group in sorted(groups.items())
        ]
        return torch.stack(parts).sum()

    def _part(
        self,
        model: Any,
        rows: list[Row],
        targets: list[Targets],
        features: dict[ImageKey, Features],
    ) -> torch.Tensor:
        forward = self.forward
        width = max(r.shape[1] for r in rows)
        ids = np.full((len(rows), width), forward.pad, np.int64)
        keep = np.zeros((len(rows), width), bool)
        for j, (row, want) in enumerate(zip(rows, targets, strict=True)):
            ids[j, : len(row.ids)] = row.ids
            keep[j, want.where] = True
        logits = model(
            input_ids=torch.from_numpy(ids).to(forward.device),
            position_ids=forward._position_ids(rows, 0, width),
            use_cache=False,
            logits_to_keep=torch.from_numpy(keep).to(forward.device),
            **forward._images(rows, features),
        ).logits
        wanted = torch.from_numpy(np.concatenate([t.token for t in targets])).to(forward.device)
        return cross_entropy(logits.float().reshape(-1, logits.shape[-1]), wanted, reduction="sum")

    def _features(self, images: dict[ImageKey, Prepared]) -> dict[ImageKey, Features]:
        vision = self.forward.vision
        if vision is None or not images:
            return {}
        keys, prepared = list(images), list(images.values())
        out: dict[ImageKey, Features] = {}
        for batch in vision.batches(prepared, PIXEL_BUDGET):
            found = vision.encode([prepared[i] for i in batch])
            out.update({keys[i]: f for i, f in zip(batch, found, strict=True)})
        return out
