"""Models whose image tokens attend to each other in both directions (Gemma 3), and which therefore
need to know which tokens are images.

Transformers builds their attention mask from `token_type_ids`. One-shot rows run as whole sequences
(`reuses_prefix` is False): with a cache, the model would apply the mask to the first tokens only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from thresher.backends.hf.forward import EncodedRow, Forward
from thresher.backends.hf.images import ImageFeatures, Vision


class TokenTypeForward(Forward):
    reuses_prefix = False

    def __init__(self, model: Any, vision: Vision, image_token_id: int, batch_tokens: int) -> None:
        super().__init__(model, vision, image_token_id, batch_tokens)
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
            "token_type_ids": torch.from_numpy(types).to(self.device),
        }

    def bidirectional_groups(self, row: EncodedRow) -> np.ndarray | None:
        """int64 [tokens]: the number of the image (from 1) for image tokens, 0 for the others."""
        is_image = row.ids == self.soft_token_id
        begins = is_image & ~np.concatenate([[False], is_image[:-1]])
        return np.cumsum(begins) * is_image

    def decode_inputs(
        self, rows: Sequence[EncodedRow], prompt_inputs: dict[str, Any]
    ) -> dict[str, torch.Tensor]:
        return {"token_type_ids": torch.zeros(len(rows), 1, dtype=torch.long, device=self.device)}
