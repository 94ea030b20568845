"""Models whose image tokens attend to each other in both directions (Gemma 3, some of Gemma 4), and
which therefore need to know which tokens are images.

Transformers builds their attention mask from `token_type_ids` or `mm_token_type_ids`, which other
models take without using them; `token_type_argument` measures it. One-shot rows run as whole
sequences (`reuses_prefix` is False): with a cache, the model would apply the mask to the first
tokens only.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from thresher.backends.hf.forward import EncodedRow, Forward
from thresher.backends.hf.images import ImageFeatures, Vision

PROBE_TOKENS = 16


@torch.inference_mode()
def token_type_argument(forward: Forward, ids: Sequence[int]) -> str | None:
    """Name of the argument of the model that says which tokens are of images, if attention depends
    on it; else None.

    Arguments:
        forward: of the model.
        ids: token ids of a text.
    """
    named = inspect.signature(forward.model.forward).parameters
    row = EncodedRow(np.resize(np.array(ids, np.int64), PROBE_TOKENS), np.zeros(0, np.int64), ())
    tokens = torch.from_numpy(row.ids)[None].to(forward.device)  # (1, PROBE_TOKENS)
    types = torch.zeros_like(tokens)
    some = types.clone()
    some[:, 4:9] = 1
    for name in ("token_type_ids", "mm_token_type_ids"):
        if name in named:
            positions = forward.position_ids([row], 0, PROBE_TOKENS)
            plain, changed = (
                forward.model(input_ids=tokens, position_ids=positions, **{name: t}).logits.float()
                for t in (types, some)
            )
            if not torch.allclose(plain, changed, atol=1e-3, rtol=1e-3):
                return name
    return None


class TokenTypeForward(Forward):
    """Runs a model whose attention depends on which tokens are of images.

    Arguments:
        model, vision, image_token_id, batch_tokens: as for `Forward`.
        argument: from `token_type_argument`.
    """

    reuses_prefix = False

    def __init__(
        self, model: Any, vision: Vision, image_token_id: int, batch_tokens: int, argument: str
    ) -> None:
        super().__init__(model, vision, image_token_id, batch_tokens)
        self.argument = argument
        # the placeholder in the text may be another token than the image's own tokens
        config = model.config
        self.soft_token_id = getattr(config, "image_token_id", None) or config.image_token_index

    def image_inputs(
        self,
        rows: Sequence[EncodedRow],
        features: dict[Any, ImageFeatures],
        width: int | None = None,
    ) -> dict[str, Any]:
        types = np.zeros((len(rows), width or max(r.shape[1] for r in rows)), np.int64)  # (B, T)
        for j, r in enumerate(rows):
            types[j, : len(r.ids)] = r.ids == self.soft_token_id
        return {
            **super().image_inputs(rows, features),
            self.argument: torch.from_numpy(types).to(self.device),
        }

    def bidirectional_groups(self, row: EncodedRow) -> np.ndarray | None:
        """int64 [tokens]: the number of the image (from 1) for image tokens, 0 for the others."""
        is_image = row.ids == self.soft_token_id
        begins = is_image & ~np.concatenate([[False], is_image[:-1]])
        return np.cumsum(begins) * is_image

    def decode_inputs(
        self, rows: Sequence[EncodedRow], prompt_inputs: dict[str, Any]
    ) -> dict[str, torch.Tensor]:
        return {self.argument: torch.zeros(len(rows), 1, dtype=torch.long, device=self.device)}
