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
from typing import Any, Literal, NamedTuple

import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from thresher.backends.hf.number_span import NumberSpan, before_number
from thresher.types import Video


class VideoGrid(NamedTuple):
    """A video in patches, for models with multimodal rotary positions. seconds: between two patches
    along the time axis."""

    time: int
    height: int
    width: int
    seconds: float


Grid = tuple[int, int, int] | VideoGrid
"""(t, h, w) in patches of an image, or a video's."""


@dataclass(slots=True)
class PreparedImage:
    """An image, or a video, before the vision tower.

    inputs: the tensors that the image processor gives, such as `pixel_values`.
    expansion: the token ids that replace its placeholder.
    grid: in patches, for models with multimodal rotary positions.
    multi_image: prepared as in a conversation of several images.
    texts: what the processor writes before and after these tokens. It can merge with the text
        around the image, so it is tokenised with the conversation.
    number: where `expansion` holds the image's number in the conversation; None: nowhere.
    """

    inputs: dict[str, torch.Tensor]
    expansion: list[int]
    grid: Grid | None
    multi_image: bool
    texts: tuple[str, str] = ("", "")
    number: NumberSpan | None = None

    def expansion_at(self, place: int) -> list[int]:
        """The token ids that replace the placeholder of the image at `place`, from 0, among the
        images of a conversation."""
        if self.number is None or place == 0:
            return self.expansion
        before, after = self.expansion[: self.number.start], self.expansion[self.number.end :]
        return [*before, *self.number.ids_of(place), *after]

    @property
    def is_video(self) -> bool:
        """Whether it is an input of the model's `get_video_features`. Some models take the frames
        of a video as images."""
        return VIDEO_INPUT in self.inputs

    @property
    def nbytes(self) -> int:
        return sum(v.nbytes for v in self.inputs.values())

    def pin(self) -> None:
        """Move the tensors into pinned memory, from which a GPU copies them while it computes."""
        self.inputs = {name: value.pin_memory() for name, value in self.inputs.items()}


@dataclass(slots=True)
class ImageFeatures:
    """An image after the vision tower: `main` [tokens, hidden]; `deep` one [tokens, hidden] per
    DeepStack layer. is_video: as of `PreparedImage`. indicators: [kinds, hidden], what the model
    puts at the tokens around an image, the same for every image (Ovis2); else None."""

    main: torch.Tensor
    deep: tuple[torch.Tensor, ...] = ()
    is_video: bool = False
    indicators: torch.Tensor | None = None

    @property
    def nbytes(self) -> int:
        return self.main.nbytes + sum(t.nbytes for t in self.deep)


INDICATORS = "visual_indicator_features"
VIDEO_INPUT = "pixel_values_videos"
_TEXT_KEYS = (
    "input_ids",
    "attention_mask",
    "mm_token_type_ids",
    "token_type_ids",
    "cross_attention_mask",
    "batch_num_images",
    "text_replacement_offsets",
)


Arrangement = Literal["list", "batch", "tensor"]
"""Features as a list of images, one tensor [images, tokens, hidden], or one [tokens, hidden]."""


class ImagePreparer:
    """Runs a model's processor over one image or video at a time.

    Arguments:
        processor: of the model.
        image_token: its image placeholder, as text.
    """

    def __init__(self, processor: Any, image_token: str) -> None:
        self.processor = processor
        self.image_token = image_token
        # what the processor writes before the number of an image; None: it writes no numbers, as
        # far as is known before it has got two images
        self._before_number: str | None = None

    def prepare(self, image: Any, multi_image: bool) -> PreparedImage:
        """Run the image processor.

        Arguments:
            image: RGB `PIL.Image`.
            multi_image: as in a conversation of several images: the processor gets the image twice,
                and the first copy is kept.

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
        ids, texts, number = self._expansion(out, copies)
        grid = inputs.get("image_grid_thw")
        return PreparedImage(
            inputs,
            ids,
            tuple(grid[0].tolist()) if grid is not None else None,
            multi_image,
            texts,
            number,
        )

    def prepare_video(self, video: Video, video_token: str) -> PreparedImage:
        """Run the video processor.

        Arguments:
            video: its sampled frames.
            video_token: the video placeholder, as text.

        Raises ValueError, ZeroDivisionError for a shape that the processor refuses.
        """
        out = self.processor(
            text=[video_token],
            videos=[video.frames],
            video_metadata=[video_metadata(video)],
            do_sample_frames=False,
            return_tensors="pt",
            add_special_tokens=False,
            return_text_replacement_offsets=True,
        )
        inputs = {
            k: v for k, v in out.items() if k not in _TEXT_KEYS and isinstance(v, torch.Tensor)
        }
        ids, texts, _ = self._expansion(out, 1)
        grid = None
        if "video_grid_thw" in inputs:
            # Qwen2.5-VL's positions along the time axis are in seconds
            seconds = inputs.get("second_per_grid_ts", torch.ones(1))
            time, height, width = inputs["video_grid_thw"][0].tolist()
            grid = VideoGrid(time, height, width, float(seconds[0]))
        return PreparedImage(inputs, ids, grid, False, texts)

    def _expansion(
        self, out: Any, copies: int
    ) -> tuple[list[int], tuple[str, str], NumberSpan | None]:
        """The token ids of the first image, the texts before and after them, and where they hold
        its number.

        Tokenizers split a text at their added tokens, so what is between the first and the last one
        is tokenised in the same way wherever the image is.
        """
        tokenizer = self.processor.tokenizer
        replacements = (out.get("text_replacement_offsets") or [[]])[0]
        if not replacements:  # the processor replaces nothing in the text
            # Mllama's processor adds a BOS token after the image
            ids = [i for i in out["input_ids"][0].tolist() if i != tokenizer.bos_token_id]
            return ids[: len(ids) // copies], ("", ""), None
        text: str = replacements[0]["replacement"]
        if copies == 2:
            self._before_number = before_number(text, replacements[1]["replacement"])
        encoding = tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        ids, offsets = encoding["input_ids"], encoding["offset_mapping"]
        added = [k for k, i in enumerate(ids) if i in tokenizer.added_tokens_decoder]
        if not added:
            return ids, ("", ""), None
        first, last = added[0], added[-1]
        number = None
        if self._before_number is not None and text.startswith(self._before_number):
            place = len(self._before_number)
            digits = [k - first for k, (a, b) in enumerate(offsets) if a <= place < b]
            number = NumberSpan(digits[0], digits[-1] + 1, self._number_ids)
        texts = (text[: offsets[first][0]], text[offsets[last][1] :])
        return ids[first : last + 1], texts, number

    def _number_ids(self, number: int) -> list[int]:
        ids: list[int] = self.processor.tokenizer(str(number), add_special_tokens=False)[
            "input_ids"
        ]
        return ids


def video_metadata(video: Video) -> dict[str, Any]:
    """As transformers' processors take it."""
    return {
        "total_num_frames": video.total,
        "fps": video.fps,
        "duration": video.total / video.fps,
        "height": video.frames.shape[1],
        "width": video.frames.shape[2],
        "frames_indices": list(video.indices),
    }


def _first_half(tensor: torch.Tensor) -> torch.Tensor:
    """The first of two copies: along the first axis, or along the second where that holds the
    images of one row."""
    if tensor.shape[0] % 2 == 0:
        return tensor[: tensor.shape[0] // 2]
    return tensor[:, : tensor.shape[1] // 2]


class Vision:
    """Runs `model.get_image_features` over several images and splits the result by image.

    Arguments:
        model: a transformers model in eval mode.
        device, dtype: of its weights; inputs are converted to them.
    """

    def __init__(self, model: Any, device: torch.device, dtype: torch.dtype) -> None:
        self.model = model
        self.device = device
        self.dtype = dtype
        self.together = True  # whether images of equal shapes may run in one call
        # for images and for videos (True): the class of what the model returns, the name of its
        # field with the features, and how it arranges them
        self.output: dict[bool, tuple[type, str, Arrangement]] = {}
        self.owner = vision_owner(model)
        self.accepts = self._accepts("get_image_features")
        self.accepts_video = self._accepts("get_video_features")
        self.takes_batch_num_images = "batch_num_images" in self.accepts

    def _accepts(self, name: str) -> set[str]:
        """Arguments of a method of the owner, and of that of the model inside it, to which it hands
        on what it does not name."""
        methods = [getattr(module, name, None) for module in (self.owner, self.owner_inside)]
        return {a for method in methods if method is not None for a in _accepted(method)}

    @property
    def owner_inside(self) -> Any:
        return getattr(self.owner, "model", None)

    def batches(self, images: Sequence[PreparedImage], pixel_budget: int) -> list[list[int]]:
        """Indices of images that may run together: those of equal shapes.

        Arguments:
            images: of a block of rows.
            pixel_budget: most values of the input tensors in a batch; a larger image is alone.
        """
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
        n, is_video = len(images), images[0].is_video
        inputs: dict[str, Any] = {}
        for name in images[0].inputs:
            if name in (self.accepts_video if is_video else self.accepts):
                # image by image, because joined tensors would no longer be in pinned memory
                moved = [im.inputs[name].to(self.device, non_blocking=True) for im in images]
                value = torch.cat(moved)
                inputs[name] = value.to(self.dtype) if value.is_floating_point() else value
        if self.takes_batch_num_images and not is_video:
            inputs["batch_num_images"] = torch.tensor(
                [max(n, 2)] if images[0].multi_image else [1] * n
            )
        encode = self.owner.get_video_features if is_video else self.owner.get_image_features
        output = encode(**inputs, return_dict=True)
        # Llama 4 projects the features later, and has them where others have the tower's own
        pooled_here = getattr(output, "pooler_output", None) is not None
        field = "pooler_output" if pooled_here else "last_hidden_state"
        pooled = getattr(output, field)
        self.output[is_video] = type(output), field, _arrangement(pooled)
        indicators = getattr(output, INDICATORS, None)
        main = _per_image(pooled, n)  # n of [tokens, hidden]
        layers = getattr(output, "deepstack_features", None) or []
        deep = [_per_image(layer, n) for layer in layers]
        return [
            ImageFeatures(main[i], tuple(layer[i] for layer in deep), is_video, indicators)
            for i in range(n)
        ]

    def as_encoder_output(self, features: Sequence[ImageFeatures]) -> dict[str, Any]:
        """The value of `model(mm_encoder_outputs=…)`: the features of a batch's images, and those
        of its videos, in the order of their placeholders."""
        out: dict[str, Any] = {}
        for is_video, name in ((False, "image"), (True, "video")):
            chosen = [f for f in features if f.is_video == is_video]
            if not chosen:
                continue
            main = [f.main for f in chosen]
            # An instance of the model's own output class: transformers calls its methods
            # (`to_tuple` since 5.24).
            kind, field, arrangement = self.output.get(
                is_video, (BaseModelOutputWithPooling, "pooler_output", "list")
            )
            more: dict[str, Any] = {}
            if chosen[0].indicators is not None:
                more[INDICATORS] = chosen[0].indicators
            if chosen[0].deep:
                more["deepstack_features"] = [
                    [f.deep[k] for f in chosen] for k in range(len(chosen[0].deep))
                ]
            pooled: Any = main
            if arrangement != "list":
                pooled = torch.cat(main)
            if is_video and arrangement == "batch":  # of rows that the model joins itself
                pooled = pooled[None]
            out[name] = kind(**{field: pooled}, **more)
        return out


def _arrangement(pooled: Any) -> Arrangement:
    if not isinstance(pooled, torch.Tensor):
        return "list"
    return "batch" if pooled.dim() == 3 else "tensor"


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
