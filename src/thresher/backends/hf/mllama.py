"""Llama-3.2-Vision: images enter through cross-attention instead of as tokens, so a batch needs
other inputs beside its ids.

Vision states are computed once per image and shared by its rows. A demonstration's cache cannot be
reused exactly (the cross-attention keys of all images are fixed by the first token that runs), so
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

from thresher.backends.hf.forward import EncodedRow, Forward
from thresher.backends.hf.images import ImageFeatures, PreparedImage, Vision


class MllamaVision(Vision):
    """`ImageFeatures.main` is [tiles * patches, hidden], `deep[0]` the number of tiles.

    Arguments:
        model, device, dtype: as for `Vision`.
    """

    def __init__(self, model: Any, device: torch.device, dtype: torch.dtype) -> None:
        self.model = model
        self.device = device
        self.dtype = dtype

    def batches(self, images: Sequence[PreparedImage], pixel_budget: int) -> list[list[int]]:
        values = max((im.inputs["pixel_values"].numel() for im in images), default=1)
        step = max(1, pixel_budget // values)
        return [list(range(i, min(i + step, len(images)))) for i in range(0, len(images), step)]

    @torch.inference_mode()
    def features(self, images: Sequence[PreparedImage]) -> list[ImageFeatures]:
        return self.encode(images)

    def encode(self, images: Sequence[PreparedImage]) -> list[ImageFeatures]:
        """`features` with gradients to the weights that require them."""
        base = self.model.model
        joined = {
            k: torch.cat([im.inputs[k] for im in images]).to(self.device) for k in images[0].inputs
        }
        states = base.vision_model(
            pixel_values=joined["pixel_values"].to(self.dtype),
            aspect_ratio_ids=joined["aspect_ratio_ids"],
            aspect_ratio_mask=joined["aspect_ratio_mask"],
        ).last_hidden_state
        states = base.multi_modal_projector(states)  # (images, 1, tiles, patches, hidden)
        tiles = joined["aspect_ratio_mask"].sum(-1).reshape(-1)  # (images,)
        return [
            ImageFeatures(s.reshape(-1, s.shape[-1]), (tiles[i],)) for i, s in enumerate(states)
        ]


class MllamaForward(Forward):
    """Runs a model whose images enter through cross-attention.

    Arguments:
        model, vision, image_token_id, batch_tokens: as for `Forward`.
    """

    reuses_prefix = False

    def __init__(self, model: Any, vision: Vision, image_token_id: int, batch_tokens: int) -> None:
        super().__init__(model, vision, image_token_id, batch_tokens)
        self.extra_tokens_per_image = (
            model.config.vision_config.max_num_tiles * model.model.vision_model.num_patches
        )

    def image_inputs(
        self,
        rows: Sequence[EncodedRow],
        features: dict[Any, ImageFeatures],
        width: int | None = None,
    ) -> dict[str, Any]:
        # the same number of images in each row: see EncodedRow.shape
        images = [[features[key] for key in r.images] for r in rows]
        if not images[0]:
            return {}
        # (B * images, tiles * patches, hidden)
        states = torch.stack([f.main for row_images in images for f in row_images])
        width = width or max(r.shape[1] for r in rows)
        mask = convert_sparse_cross_attention_mask_to_dense(
            [
                get_cross_attention_token_mask(r.packed_ids.tolist(), self.image_token_id)
                for r in rows
            ],
            num_tiles=[[int(f.deep[0]) for f in row_images] for row_images in images],
            max_num_tiles=self.model.config.vision_config.max_num_tiles,
            length=width,
        )  # (B, width, images, tiles)
        return {
            "cross_attention_states": states.reshape(
                -1, self.model.model.vision_model.num_patches, states.shape[-1]
            ),
            "cross_attention_mask": torch.from_numpy(mask).to(self.device),
        }

    def decode_inputs(
        self, rows: Sequence[EncodedRow], prompt_inputs: dict[str, Any]
    ) -> dict[str, torch.Tensor]:
        """New tokens attend to the same images as the prompt's last token; the images' keys are in
        the cache."""
        if not prompt_inputs:
            return {}
        last = torch.tensor([len(r.ids) - 1 for r in rows], device=self.device)  # (B,)
        mask: torch.Tensor = prompt_inputs["cross_attention_mask"]  # (B, width, images, tiles)
        return {
            "cross_attention_mask": mask[torch.arange(len(rows), device=self.device), last][:, None]
        }
