"""Llama-3.2-Vision: images enter through cross-attention, not as tokens, so what a batch needs
beside its ids differs.

Vision states are computed once an image and shared by its rows. A demonstration's cache cannot be
reused exactly (the cross-attention keys of all images are fixed when the first token runs), so
one-shot rows run as whole sequences: `reuses_prefix` is False.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.models.mllama.processing_mllama import (
    convert_sparse_cross_attention_mask_to_dense,
    get_cross_attention_token_mask,
)

from thresher.backends.hf.forward import Forward, Row
from thresher.backends.hf.images import Features, Prepared, Vision


class MllamaVision(Vision):
    """`Features.main` is [tiles * patches, hidden], `deep[0]` the tile count."""

    def __init__(self, model: Any, device: torch.device, dtype: torch.dtype) -> None:
        self.model = model
        self.device = device
        self.dtype = dtype

    def batches(self, images: Sequence[Prepared], pixel_budget: int) -> list[list[int]]:
        step = max(
            1, pixel_budget // max((im.inputs["pixel_values"].numel() for im in images), default=1)
        )
        return [list(range(at, min(at + step, len(images)))) for at in range(0, len(images), step)]

    @torch.inference_mode()
    def features(self, images: Sequence[Prepared]) -> list[Features]:
        return self.encode(images)

    def encode(self, images: Sequence[Prepared]) -> list[Features]:
        """`features` as a part of a graph: gradients reach the weights that want them."""
        base = self.model.model
        joined = {
            k: torch.cat([im.inputs[k] for im in images]).to(self.device) for k in images[0].inputs
        }
        states = base.vision_model(
            pixel_values=joined["pixel_values"].to(self.dtype),
            aspect_ratio_ids=joined["aspect_ratio_ids"],
            aspect_ratio_mask=joined["aspect_ratio_mask"],
        ).last_hidden_state
        states = base.multi_modal_projector(states)  # [images, 1, tiles, patches, hidden]
        tiles = joined["aspect_ratio_mask"].sum(-1).reshape(-1)
        return [Features(s.reshape(-1, s.shape[-1]), (tiles[i],)) for i, s in enumerate(states)]


class MllamaForward(Forward):
    reuses_prefix = False

    def __init__(self, model: Any, vision: Vision, image_token_id: int, batch_tokens: int) -> None:
        super().__init__(model, vision, image_token_id, batch_tokens)
        self.tokens_apart = (
            model.config.vision_config.max_num_tiles * model.model.vision_model.num_patches
        )

    def _images(
        self, rows: Sequence[Row], features: dict[Any, Features], width: int | None = None
    ) -> dict[str, Any]:
        # as many images in each row: see Row.shape
        shown = [[features[key] for key in r.images] for r in rows]
        if not shown[0]:
            return {}
        states = torch.stack([f.main for s in shown for f in s])
        width = width or max(r.shape[1] for r in rows)
        mask = convert_sparse_cross_attention_mask_to_dense(
            [get_cross_attention_token_mask(r.packed.tolist(), self.image_token_id) for r in rows],
            num_tiles=[[int(f.deep[0]) for f in s] for s in shown],
            max_num_tiles=self.model.config.vision_config.max_num_tiles,
            length=width,
        )
        return {
            "cross_attention_states": states.reshape(
                -1, self.model.model.vision_model.num_patches, states.shape[-1]
            ),
            "cross_attention_mask": torch.from_numpy(mask).to(self.device),
        }

    def _later(self, rows: Sequence[Row], extra: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Every new token looks at the images that the prompt's last token looks at; their keys are
        in the cache."""
        if not extra:
            return {}
        last = torch.tensor([len(r.ids) - 1 for r in rows], device=self.device)
        mask: torch.Tensor = extra["cross_attention_mask"]
        return {
            "cross_attention_mask": mask[torch.arange(len(rows), device=self.device), last][:, None]
        }
