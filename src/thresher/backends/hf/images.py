"""Images for a multimodal LLM: pixels, the tokens that stand for them, and their vision features,
each computed once an image.

`ImagePreparer` runs on the CPU in background threads; `Vision` runs the vision tower. Images are
batched only with images of the same tensor shapes, so that an image's features do not depend on its
company.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling


@dataclass(slots=True)
class Prepared:
    """One image before the vision tower. `expansion`: the token ids that replace its
    placeholder."""

    inputs: dict[str, torch.Tensor]
    expansion: list[int]
    # (t, h, w) in patches, for models with multimodal rotary positions
    grid: tuple[int, int, int] | None
    among: bool

    @property
    def nbytes(self) -> int:
        return sum(v.nbytes for v in self.inputs.values())


@dataclass(slots=True)
class Features:
    """One image after the vision tower: `main` [tokens, hidden]; `deep` one [tokens, hidden] per
    deep-stacked layer."""

    main: torch.Tensor
    deep: tuple[torch.Tensor, ...] = ()

    @property
    def nbytes(self) -> int:
        return self.main.nbytes + sum(t.nbytes for t in self.deep)


_TEXT_KEYS = (
    "input_ids",
    "attention_mask",
    "mm_token_type_ids",
    "token_type_ids",
    "cross_attention_mask",
    "batch_num_images",
)


class ImagePreparer:
    def __init__(self, processor: Any, image_token: str) -> None:
        self.processor = processor
        self.image_token = image_token

    def prepare(self, image: Any, among: bool) -> Prepared:
        """`among`: as in a conversation of several images (the image is shown twice and the first
        copy is kept)."""
        copies = 2 if among else 1
        out = self.processor(
            text=[self.image_token * copies],
            images=[[image] * copies],
            return_tensors="pt",
            add_special_tokens=False,
        )
        # Mllama's processor insists on one, behind the image
        bos = self.processor.tokenizer.bos_token_id
        ids = [i for i in out["input_ids"][0].tolist() if i != bos]
        inputs = {
            k: v for k, v in out.items() if k not in _TEXT_KEYS and isinstance(v, torch.Tensor)
        }
        if among:
            ids = ids[: len(ids) // 2]
            inputs = {k: _first_half(v) for k, v in inputs.items()}
        grid = inputs.get("image_grid_thw")
        return Prepared(inputs, ids, tuple(grid[0].tolist()) if grid is not None else None, among)


def _first_half(tensor: torch.Tensor) -> torch.Tensor:
    """The first of two copies: along the first axis, or along the second where that holds the
    images of one row."""
    if tensor.shape[0] % 2 == 0:
        return tensor[: tensor.shape[0] // 2]
    return tensor[:, : tensor.shape[1] // 2]


class Vision:
    """Runs `model.get_image_features` over many images at once and takes the result apart again."""

    def __init__(self, model: Any, device: torch.device, dtype: torch.dtype) -> None:
        self.model = model
        self.device = device
        self.dtype = dtype
        # whether the model's own features come as a list of images (else as one tensor)
        self.listed = True
        self.output: type = BaseModelOutputWithPooling  # what the model's own features come in
        wanted = inspect.signature(model.get_image_features).parameters
        self.accepts = {name for name in wanted if name not in ("self", "kwargs")}
        self.takes_batch_num_images = "batch_num_images" in self.accepts

    def batches(self, images: Sequence[Prepared], pixel_budget: int) -> list[list[int]]:
        """Positions of images that go through the tower together: equal shapes, about
        `pixel_budget` input values at most."""
        out: list[list[int]] = []
        groups: dict[Any, list[int]] = {}
        for i, image in enumerate(images):
            key = (image.among, tuple((k, tuple(v.shape)) for k, v in image.inputs.items()))
            groups.setdefault(key, []).append(i)
        for rows in groups.values():
            size = sum(v.numel() for v in images[rows[0]].inputs.values())
            step = max(1, pixel_budget // max(size, 1))
            out += [rows[at : at + step] for at in range(0, len(rows), step)]
        return out

    @torch.inference_mode()
    def features(self, images: Sequence[Prepared]) -> list[Features]:
        """Features of images of equal shapes."""
        return self.encode(images)

    def encode(self, images: Sequence[Prepared]) -> list[Features]:
        """`features` as a part of a graph: gradients reach the weights that want them."""
        n = len(images)
        inputs: dict[str, Any] = {}
        for name in images[0].inputs:
            if name in self.accepts:
                value = torch.cat([im.inputs[name] for im in images]).to(
                    self.device, non_blocking=True
                )
                inputs[name] = value.to(self.dtype) if value.is_floating_point() else value
        if self.takes_batch_num_images:
            inputs["batch_num_images"] = torch.tensor([max(n, 2)] if images[0].among else [1] * n)
        got = self.model.get_image_features(**inputs, return_dict=True)
        pooled = got.pooler_output
        self.output = type(got)
        self.listed = not isinstance(pooled, torch.Tensor)
        main = _per_image(pooled, n)
        deep = [_per_image(layer, n) for layer in getattr(got, "deepstack_features", None) or []]
        return [Features(main[i], tuple(layer[i] for layer in deep)) for i in range(n)]

    def as_encoder_output(self, features: Sequence[Features]) -> dict[str, Any]:
        """What `model(mm_encoder_outputs=…)` takes: the features of a batch's images, in the order
        of their placeholders."""
        main = [f.main for f in features]
        # An instance of the model's own output class: transformers calls its methods (`to_tuple`
        # since 5.24).
        deep = {}
        if features[0].deep:
            deep["deepstack_features"] = [
                [f.deep[k] for f in features] for k in range(len(features[0].deep))
            ]
        return {
            "image": self.output(pooler_output=main if self.listed else torch.cat(main), **deep)
        }


def _per_image(pooled: Any, n: int) -> list[torch.Tensor]:
    parts = list(pooled) if not isinstance(pooled, torch.Tensor) else list(pooled.chunk(n))
    if len(parts) != n:
        parts = list(torch.cat([p.reshape(-1, p.shape[-1]) for p in parts]).chunk(n))
    return [p.reshape(-1, p.shape[-1]) for p in parts]
