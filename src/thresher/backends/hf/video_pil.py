"""Frames of a video as a model's input, without torchvision: the video processors of transformers
need it, and these give the same tensors with frames that Pillow resizes.

The two resize a little differently, as the image processors do, so which one runs is part of a
score's identity. Settings are read from the model's own files. Known: the video processors of Qwen2
to Qwen3.5, LLaVA-OneVision, InternVL and SmolVLM2.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.feature_extraction_utils import BatchFeature

_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
MAX_EDGE = 4096  # SmolVLM2: longest edge of a frame before it is made square

Settings = Mapping[str, Any]


def pil_video_processor(name: str, revision: str | None) -> PilVideoProcessor | None:
    """The video processor of a model's files; None if its kind is not known here.

    Arguments:
        name: a model folder or hub id.
        revision: the commit of a hub id.
    """
    settings = _settings(name, revision)
    kind = str(settings.get("video_processor_type", ""))
    if kind not in _KINDS:
        return None
    return PilVideoProcessor(settings, *_KINDS[kind])


class PilVideoProcessor:
    """Stands in for a video processor of transformers in a model's processor.

    Arguments:
        settings: of the model's files.
        defaults: where these have none.
        layout: resizes and arranges frames: (frames uint8 [F, H, W, 3], this) -> tensors.
    """

    valid_kwargs = None
    model_input_names = ("pixel_values_videos",)

    def __init__(
        self,
        settings: Settings,
        defaults: Settings,
        layout: Callable[[np.ndarray, PilVideoProcessor], dict[str, torch.Tensor]],
    ) -> None:
        self.settings: dict[str, Any] = {
            **defaults,
            **{k: v for k, v in settings.items() if v is not None},
        }
        self._layout = layout

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "settings":
            raise AttributeError(name)
        return self.settings.get(name)

    def __call__(self, videos: Sequence[Any], video_metadata: Any = None, **_: Any) -> BatchFeature:
        """videos: one video, uint8 [F, H, W, 3]; its frames are sampled already."""
        from transformers.video_utils import make_batched_metadata

        (frames,) = videos
        tensors: dict[str, Any] = dict(self._layout(np.asarray(frames), self))
        tensors["video_metadata"] = make_batched_metadata(
            videos=videos, video_metadata=video_metadata
        )
        return BatchFeature(tensors)

    def normalized(self, frames: np.ndarray, height: int, width: int) -> torch.Tensor:
        """Resized and normalised frames: float32 [F, 3, height, width].

        Arguments:
            frames: uint8 [F, H, W, 3], RGB.
            height, width: of the result, in pixels.
        """
        resample = Image.Resampling(int(self.settings["resample"]))
        resized = np.stack(
            [
                np.asarray(Image.fromarray(f).resize((width, height), resample), np.float32)
                for f in frames
            ]
        )
        mean, std = (
            np.array(self.settings[key], np.float32) for key in ("image_mean", "image_std")
        )
        values = (resized * np.float32(self.settings["rescale_factor"]) - mean) / std
        return torch.from_numpy(values).permute(0, 3, 1, 2).contiguous()


# ---------------------------------------------------------------------------------------- layouts


def _qwen2(frames: np.ndarray, processor: PilVideoProcessor) -> dict[str, torch.Tensor]:
    """Every frame within a number of pixels."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    settings = processor.settings
    least, most = _pixel_bounds(settings)
    factor = settings["patch_size"] * settings["merge_size"]
    if settings.get("cap_pixels_per_frame"):
        budget = int(settings["max_video_tokens"] * factor * factor * 0.9)
        share = budget * settings["temporal_patch_size"] // len(frames)
        most = max(min(most, share), int(least * 1.05))
    height, width = smart_resize(
        *frames.shape[1:3], factor=factor, min_pixels=least, max_pixels=most
    )
    return _patches(processor.normalized(frames, height, width), settings)


def _qwen3(frames: np.ndarray, processor: PilVideoProcessor) -> dict[str, torch.Tensor]:
    """All frames together within a number of pixels."""
    settings = processor.settings
    least, most = _pixel_bounds(settings)
    factor = settings["patch_size"] * settings["merge_size"]
    count, (height, width) = len(frames), frames.shape[1:3]
    if count < settings["temporal_patch_size"]:
        raise ValueError(f"{count} frame, and at least {settings['temporal_patch_size']} are taken")
    if settings.get("cap_pixels_per_frame"):
        each = min(settings["max_video_tokens"] * factor * factor, most // count)
        most = max(each, int(least * 1.05)) * count
    if min(height, width) < factor:
        scale = factor / min(height, width)
        height, width = int(height * scale), int(width * scale)
    if max(height, width) > 200 * min(height, width):
        raise ValueError(f"a frame of {width} x {height} is more than 200 times as long as wide")
    rows, columns = (round(edge / factor) * factor for edge in (height, width))
    step = settings["temporal_patch_size"]
    pixels = round(count / step) * step * rows * columns
    if pixels > most:
        shrink = math.sqrt(count * height * width / most)
        rows, columns = (
            max(factor, math.floor(edge / shrink / factor) * factor) for edge in (height, width)
        )
    elif pixels < least:
        grow = math.sqrt(least / (count * height * width))
        rows, columns = (math.ceil(edge * grow / factor) * factor for edge in (height, width))
    return _patches(processor.normalized(frames, rows, columns), settings)


def _pixel_bounds(settings: Settings) -> tuple[int, int]:
    """Fewest and most pixels, which older files name differently."""
    size = settings["size"]
    least = settings.get("min_pixels") or size.get("shortest_edge") or size.get("min_pixels")
    most = settings.get("max_pixels") or size.get("longest_edge") or size.get("max_pixels")
    return int(least), int(most)


def _patches(frames: torch.Tensor, settings: Settings) -> dict[str, torch.Tensor]:
    """float32 [F, 3, H, W] -> the patches of pairs of frames, in blocks that are merged later."""
    step, patch, merge = (
        settings[key] for key in ("temporal_patch_size", "patch_size", "merge_size")
    )
    if missing := -len(frames) % step:
        frames = torch.cat([frames, frames[-1:].expand(missing, -1, -1, -1)])
    count, channels, height, width = frames.shape
    grid = (count // step, height // patch, width // patch)
    blocks = frames.reshape(
        *(grid[0], step, channels),
        *(grid[1] // merge, merge, patch),
        *(grid[2] // merge, merge, patch),
    )  # (t, step, C, rows, merge, patch, columns, merge, patch)
    values = blocks.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(math.prod(grid), -1)
    return {"pixel_values_videos": values, "video_grid_thw": torch.tensor([grid])}


def _fixed_size(frames: np.ndarray, processor: PilVideoProcessor) -> dict[str, torch.Tensor]:
    size = processor.settings["size"]
    values = processor.normalized(frames, size["height"], size["width"])
    return {"pixel_values_videos": values[None]}


def _smolvlm(frames: np.ndarray, processor: PilVideoProcessor) -> dict[str, torch.Tensor]:
    """The longest edge to a length, then a square."""
    settings = processor.settings
    size = (settings.get("video_sampling") or {}).get("video_size") or settings["size"]
    longest = min(MAX_EDGE, size["longest_edge"])
    height, width = frames.shape[1:3]
    wide = width >= height
    shorter = int(longest / (width / height)) if wide else int(longest * (width / height))
    shorter = max(shorter + shorter % 2, 1)
    first = (shorter, longest) if wide else (longest, shorter)
    resample = Image.Resampling(int(settings["resample"]))
    between = np.stack(
        [np.asarray(Image.fromarray(f).resize(first[::-1], resample)) for f in frames]
    )
    edge = settings["max_image_size"]["longest_edge"]
    values = processor.normalized(between, edge, edge)
    mask = torch.ones(1, len(frames), edge, edge, dtype=torch.int64)
    return {"pixel_values": values[None], "pixel_attention_mask": mask}


_COMMON = {"rescale_factor": 1 / 255, "resample": Image.Resampling.BICUBIC}
_FIXED = {
    **_COMMON,
    "image_mean": _CLIP[0],
    "image_std": _CLIP[1],
    "size": {"height": 384, "width": 384},
}
_KINDS: dict[str, tuple[Settings, Callable[..., dict[str, torch.Tensor]]]] = {
    "Qwen2VLVideoProcessor": (
        {
            **_FIXED,
            "size": {"shortest_edge": 128 * 28 * 28, "longest_edge": 28 * 28 * 768},
            "patch_size": 14,
            "temporal_patch_size": 2,
            "merge_size": 2,
            "max_video_tokens": 128000,
        },
        _qwen2,
    ),
    "Qwen3VLVideoProcessor": (
        {
            **_COMMON,
            "image_mean": _HALF[0],
            "image_std": _HALF[1],
            "size": {"shortest_edge": 128 * 32 * 32, "longest_edge": 32 * 32 * 768},
            "patch_size": 16,
            "temporal_patch_size": 2,
            "merge_size": 2,
            "max_video_tokens": 768,
        },
        _qwen3,
    ),
    "LlavaOnevisionVideoProcessor": (_FIXED, _fixed_size),
    "InternVLVideoProcessor": (_FIXED, _fixed_size),
    "SmolVLMVideoProcessor": (
        {
            "rescale_factor": 1 / 255,
            "resample": Image.Resampling.LANCZOS,
            "image_mean": _HALF[0],
            "image_std": _HALF[1],
            "size": {"longest_edge": 4 * 364},
            "max_image_size": {"longest_edge": 364},
        },
        _smolvlm,
    ),
}


def _settings(name: str, revision: str | None) -> dict[str, Any]:
    """The settings of a model's video processor, from the file that transformers reads first."""
    from transformers.utils import cached_file

    for file in (
        "processor_config.json",
        "video_preprocessor_config.json",
        "preprocessor_config.json",
    ):
        path = cached_file(
            name, file, revision=revision, _raise_exceptions_for_missing_entries=False
        )
        if path is None:
            continue
        read = json.loads(Path(path).read_text(encoding="utf-8"))
        found = read.get("video_processor") if file == "processor_config.json" else read
        if found:
            return dict(found)
    return {}
