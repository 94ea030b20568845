"""Images for a multimodal LLM: pixels, the placeholder tokens in the prompt, and vision features,
each computed once per image.

`ImagePreparer` runs on the CPU in background threads; `Vision` runs the vision tower. Images are
batched only with images of the same tensor shapes, so that an image's features do not depend on the
other images of its batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling


@dataclass(slots=True)
class PreparedImage:
    """An image before the vision tower.

    inputs: the tensors that the image processor gives, such as `pixel_values`.
    expansion: the token ids that replace its placeholder.
    grid: (t, h, w) in patches, for models with multimodal rotary positions.
    multi_image: prepared as in a conversation of several images.
    texts: what the processor writes before and after these tokens. It can merge with the text
        around the image, so it is tokenised with the conversation.
    """

    inputs: dict[str, torch.Tensor]
    expansion: list[int]
    grid: tuple[int, int, int] | None
    multi_image: bool
    texts: tuple[str, str] = ("", "")

    @property
    def nbytes(self) -> int:
        return sum(v.nbytes for v in self.inputs.values())


@dataclass(slots=True)
class ImageFeatures:
    """An image after the vision tower: `main` [tokens, hidden]; `deep` one [tokens, hidden] per
    DeepStack layer."""

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
    "text_replacement_offsets",
)


class ImagePreparer:
    """processor: of the model. image_token: its image placeholder, as text."""

    def __init__(self, processor: Any, image_token: str) -> None:
        self.processor = processor
        self.image_token = image_token

    def prepare(self, image: Any, multi_image: bool) -> PreparedImage:
        """Run the image processor.

        image: RGB `PIL.Image`.
        multi_image: as in a conversation of several images: the processor gets the image twice, and
            the first copy is kept.

        Raises ValueError, ZeroDivisionError for a shape that the processor refuses.
        """
        copies = 2 if multi_image else 1
        out = self.processor(
            text=[self.image_token * copies],
            images=[[image] * copies],
            return_tensors="pt",
            add_special_tokens=False,
            return_text_replacement_offsets=True,
        )
        inputs = {
            k: v for k, v in out.items() if k not in _TEXT_KEYS and isinstance(v, torch.Tensor)
        }
        if multi_image:
            inputs = {k: _first_half(v) for k, v in inputs.items()}
        ids, texts = self._expansion(out, copies)
        grid = inputs.get("image_grid_thw")
        return PreparedImage(
            inputs, ids, tuple(grid[0].tolist()) if grid is not None else None, multi_image, texts
        )

    def _expansion(self, out: Any, copies: int) -> tuple[list[int], tuple[str, str]]:
        """The token ids of the first image, and the texts before and after them.

        Tokenizers split a text at their added tokens, so what is between the first and the last one
        is tokenised in the same way wherever the image is.
        """
        tokenizer = self.processor.tokenizer
        replacements = (out.get("text_replacement_offsets") or [[]])[0]
        if not replacements:  # the processor replaces nothing in the text
            # Mllama's processor adds a BOS token after the image
            ids = [i for i in out["input_ids"][0].tolist() if i != tokenizer.bos_token_id]
            return ids[: len(ids) // copies], ("", "")
        text: str = replacements[0]["replacement"]
        encoding = tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        ids, offsets = encoding["input_ids"], encoding["offset_mapping"]
        added = [k for k, i in enumerate(ids) if i in tokenizer.added_tokens_decoder]
        if not added:
            return ids, ("", "")
        first, last = added[0], added[-1]
        return ids[first : last + 1], (text[: offsets[first][0]], text[offsets[last][1] :])


def _first_half(tensor: torch.Tensor) -> torch.Tensor:
    """The first of two copies: along the first axis, or along the second where that holds the
    images of one row."""
    if tensor.shape[0] % 2 == 0:
        return tensor[: tensor.shape[0] // 2]
    return tensor[:, : tensor.shape[1] // 2]


class Vision:
    """Runs `model.get_image_features` over several images and splits the result by image."""

    def __init__(self, model: Any, device: torch.device, dtype: torch.dtype) -> None:
        self.model = model
        self.device = device
        self.dtype = dtype
        # whether the model returns its features as a list of images (else as one tensor)
        self.listed = True
        self.together = True  # whether images of equal shapes may run in one call
        self.output: type = BaseModelOutputWithPooling  # the class of what the model returns
        self.owner = vision_owner(model)
        self.accepts = _accepted(self.owner.get_image_features)
        inner = getattr(getattr(self.owner, "model", None), "get_image_features", None)
        if inner is not None:  # to which the owner's hands on what it does not name
            self.accepts |= _accepted(inner)
        self.takes_batch_num_images = "batch_num_images" in self.accepts

    def batches(self, images: Sequence[PreparedImage], pixel_budget: int) -> list[list[int]]:
        """Indices of images that may run together: equal shapes, about `pixel_budget` input values
        at most."""
        out: list[list[int]] = []
        groups: dict[Any, list[int]] = {}
        for i, image in enumerate(images):
            key = (image.multi_image, tuple((k, tuple(v.shape)) for k, v in image.inputs.items()))
            groups.setdefault(key, []).append(i)
        for group in groups.values():
            values = sum(v.numel() for v in images[group[0]].inputs.values())
            step = max(1, pixel_budget // max(values, 1)) if self.together else 1
            out += [group[i : i + step] for i in range(0, len(group), step)]
        return out

    @torch.inference_mode()
    def features(self, images: Sequence[PreparedImage]) -> list[ImageFeatures]:
        """Features of images of equal shapes, without gradients."""
        return self.encode(images)

    def encode(self, images: Sequence[PreparedImage]) -> list[ImageFeatures]:
        """`features` with gradients to the weights that require them."""
        n = len(images)
        inputs: dict[str, Any] = {}
        for name in images[0].inputs:
            if name in self.accepts:
                value = torch.cat([im.inputs[name] for im in images]).to(
                    self.device, non_blocking=True
                )
                inputs[name] = value.to(self.dtype) if value.is_floating_point() else value
        if self.takes_batch_num_images:
            inputs["batch_num_images"] = torch.tensor(
                [max(n, 2)] if images[0].multi_image else [1] * n
            )
        output = self.owner.get_image_features(**inputs, return_dict=True)
        pooled = output.pooler_output
        self.output = type(output)
        self.listed = not isinstance(pooled, torch.Tensor)
        main = _per_image(pooled, n)  # n of [tokens, hidden]
        layers = getattr(output, "deepstack_features", None) or []
        deep = [_per_image(layer, n) for layer in layers]
        return [ImageFeatures(main[i], tuple(layer[i] for layer in deep)) for i in range(n)]

    def as_encoder_output(self, features: Sequence[ImageFeatures]) -> dict[str, Any]:
        """The value of `model(mm_encoder_outputs=…)`: the features of a batch's images, in the
        order of their placeholders."""
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


def vision_owner(model: Any) -> Any:
    """The module that has `get_image_features`: the model, or the one inside it (Janus)."""
    return model if hasattr(model, "get_image_features") else getattr(model, "model", model)


def _accepted(function: Any) -> set[str]:
    return set(inspect.signature(function).parameters) - {"self", "kwargs"}


def _per_image(pooled: Any, n: int) -> list[torch.Tensor]:
    """[tokens, hidden] of each of `n` images, from a list or from one tensor."""
    parts = list(pooled) if not isinstance(pooled, torch.Tensor) else list(pooled.chunk(n))
    if len(parts) != n:
        parts = list(torch.cat([p.reshape(-1, p.shape[-1]) for p in parts]).chunk(n))
    return [p.reshape(-1, p.shape[-1]) for p in parts]
