"""Models whose image tokens see each other in both directions (Gemma 3): they must be told which
tokens are images.

Transformers builds their attention mask from `token_type_ids`. Whole sequences run in one-shot
passes (`reuses_prefix` is False): with a cache the model would take the mask for the first tokens
only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from thresher.backends.hf.forward import Forward, Row
from thresher.backends.hf.images import Features, Vision


class TypedForward(Forward):
    reuses_prefix = False

    def __init__(self, model: Any, vision: Vision, image_token_id: int, batch_tokens: int) -> None:
        super().__init__(model, vision, image_token_id, batch_tokens)
        # the placeholder in the text may be another token than those that stand for the image
        config = model.config
        self.soft_token_id: int = (
            getattr(config, "image_token_id", None) or config.image_token_index
        )

    def _images(
        self, rows: Sequence[Row], features: dict[Any, Features], width: int | None = None
    ) -> dict[str, Any]:
        types = np.zeros((len(rows), width or max(r.shape[1] for r in rows)), np.int64)
        for j, r in enumerate(rows):
            types[j, : len(r.ids)] = r.ids == self.soft_token_id
        return {
            **super()._images(rows, features),
            "token_type_ids": torch.from_numpy(types).to(self.device),
        }

    def both_ways(self, row: Row) -> np.ndarray | None:
        """The images' tokens, one number a run of them."""
        shown = row.ids == self.soft_token_id
        begins = shown & ~np.concatenate([[False], shown[:-1]])
        return np.cumsum(begins) * shown

    def _later(self, rows: Sequence[Row], extra: dict[str, Any]) -> dict[str, torch.Tensor]:
        return {"token_type_ids": torch.zeros(len(rows), 1, dtype=torch.long, device=self.device)}
