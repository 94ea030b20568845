"""The training loss: summed over the answer tokens and the token that ends each answer, with
gradients.

Rows are encoded as for scoring (`encode.py`: exact answer positions for any chat template) and run
as for scoring (`forward.py`: image features, explicit positions, padding on the right), so what is
trained is what is measured.

The end of a turn is what the template writes after an answer up to its first control token
(`<|im_end|>`). Where a template writes none (LLaVA-1.5), the tokenizer's EOS token is the target
after the answer, although it is not in the text: the model learns to stop, and the text that it
reads stays the template's.

Shapes in comments: B rows of the batch, T padded tokens, V vocabulary.
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
from thresher.backends.hf.encode import EncodedText, Encoder
from thresher.backends.hf.forward import EncodedRow, Forward, kept_logits
from thresher.backends.hf.images import ImageFeatures, PreparedImage
from thresher.backends.hf.mllama import MllamaForward

MAX_GAP = 4  # tokens between an answer and the token that ends its turn


@dataclass(frozen=True)
class Targets:
    """What a row is trained to predict: `token[i]` after `ids[position[i]]`. Both int64 [m],
    `position` ascending."""

    position: np.ndarray
    token: np.ndarray


class EndOfTurn:
    """Finds the targets of encoded rows.

    token: id of the token that ends an answer; None if neither template nor tokenizer has one.
    in_template: whether the template writes it.
    """

    def __init__(self, encoder: Encoder) -> None:
        tokenizer = encoder.tokenizer
        self._image = encoder.image_token_id
        self._control = {i for i, t in tokenizer.added_tokens_decoder.items() if t.special}
        example = Conversation(
            (Message("user", ("Is it red?",)), Message("assistant", ("Yes",))), ()
        )
        text = encoder.encode([example])[0]
        following = (
            text.ids[text.answer_positions[-1] + 1 :] if isinstance(text, EncodedText) else []
        )
        ends = [t for t in following if t in self._control]
        self.in_template = bool(ends)
        self.token: int | None = ends[0] if ends else tokenizer.eos_token_id

    def targets(self, row: EncodedRow) -> Targets:
        """All answer tokens of the row, each turn's followed by the token that ends it."""
        ids, answers = row.ids, row.answer_positions
        # the last token of each answer
        last = answers[np.r_[answers[1:] != answers[:-1] + 1, True]]
        positions, tokens = [answers - 1], [ids[answers]]
        for p in last.tolist():
            if self.in_template:
                end = self._end(ids, p)
                positions.append(np.arange(p, end))
                tokens.append(ids[p + 1 : end + 1])
            elif self.token is not None and (p + 1 == len(ids) or ids[p + 1] != self._image):
                positions.append(np.array([p]))
                tokens.append(np.array([self.token]))
        joined = np.concatenate(positions)
        order = np.argsort(joined, kind="stable")
        return Targets(joined[order], np.concatenate(tokens)[order].astype(np.int64))

    def _end(self, ids: np.ndarray, last: int) -> int:
        """Position of the token that ends the answer whose last token is at `last`; `last` itself
        if something else follows."""
        for k in range(last + 1, min(last + 1 + MAX_GAP, len(ids))):
            if ids[k] in self._control:
                return k if ids[k] == self.token else last
        return last


class AnswerLossFn:
    """Loss of encoded rows under a model whose weights may have changed since `backend` was
    loaded."""

    def __init__(self, backend: HFBackend) -> None:
        self.forward: Forward = backend.forward
        self.ends = EndOfTurn(backend.encoder)
        # a text-only row must not go through the cross-attention
        self._split_by_images = isinstance(backend.forward, MllamaForward)

    def loss(
        self,
        model: Any,
        rows: Sequence[EncodedRow],
        targets: Sequence[Targets],
        images: dict[ImageKey, PreparedImage],
    ) -> torch.Tensor:
        """Summed negative log-likelihood of all targets of the rows.

        Arguments:
            model: the backend's, or its PEFT wrapper.
            rows, targets: equally many.
            images: the rows' images.

        Returns a float32 scalar, in nats.
        """
        features = self._features(images)
        groups: dict[int, list[int]] = {}
        for i, row in enumerate(rows):
            groups.setdefault(len(row.images) if self._split_by_images else 0, []).append(i)
        losses = [
            self._batch_loss(model, [rows[i] for i in group], [targets[i] for i in group], features)
            for _, group in sorted(groups.items())
        ]
        return torch.stack(losses).sum()

    def _batch_loss(
        self,
        model: Any,
        rows: list[EncodedRow],
        targets: list[Targets],
        features: dict[ImageKey, ImageFeatures],
    ) -> torch.Tensor:
        forward = self.forward
        width = max(r.shape[1] for r in rows)  # T
        ids = np.full((len(rows), width), forward.pad, np.int64)  # (B, T)
        predicts = np.zeros((len(rows), width), bool)  # (B, T)
        for j, (row, row_targets) in enumerate(zip(rows, targets, strict=True)):
            ids[j, : len(row.ids)] = row.ids
            predicts[j, row_targets.position] = True
        keep = torch.from_numpy(predicts).to(forward.device)  # (B, T)
        output = model(
            input_ids=torch.from_numpy(ids).to(forward.device),
            position_ids=forward.position_ids(rows, 0, width),
            use_cache=False,
            logits_to_keep=keep,
            **forward.image_inputs(rows, features),
        )
        logits = kept_logits(output.logits, keep)  # (targets of all rows, V)
        tokens = torch.from_numpy(np.concatenate([t.token for t in targets])).to(forward.device)
        return cross_entropy(logits.float().reshape(-1, logits.shape[-1]), tokens, reduction="sum")

    def _features(self, images: dict[ImageKey, PreparedImage]) -> dict[ImageKey, ImageFeatures]:
        vision = self.forward.vision
        if vision is None or not images:
            return {}
        keys, prepared = list(images), list(images.values())
        out: dict[ImageKey, ImageFeatures] = {}
        for batch in vision.batches(prepared, PIXEL_BUDGET):
            features = vision.encode([prepared[i] for i in batch])
            out.update({keys[i]: f for i, f in zip(batch, features, strict=True)})
        return out
