"""`--image-pixels`: a model's own image processor with other bounds on the pixels of an image.

A processor limits its images in one of a few ways, and the bounds are put into the setting that it
has for that, so that plain transformers reads the same setting from a saved folder:

    by area         Qwen2-VL to Qwen3.5, GLM-4.xV, Ernie 4.5 VL, VideoLLaMA 3, …: `size`
    by tiles        InternVL, Aya Vision, Ovis2, Cohere 2 Vision, …: `min_patches`, `max_patches`
    by grids        LLaVA-NeXT, LLaVA-OneVision: `image_grid_pinpoints`, also the model's
    by a side       SmolVLM, Idefics3 (in whole tiles), Pixtral, Mistral 3: `size`; no minimum
    by tokens       Gemma 4: `max_soft_tokens`; no minimum

The pixels are those of the resized image: of its tiles without the overview that some models add,
and without padding. Every other image costs the same number of tokens, or its processor is unknown
here; both are refused.
"""

from __future__ import annotations

import inspect
import json
import math
import sys
from pathlib import Path
from typing import Any

from thresher.errors import ConfigError
from thresher.request.image_pixels import ImagePixels

GEMMA4_TOKENS = (70, 140, 280, 560, 1120)  # all that Gemma 4 was trained with
# processors try every grid of so many tiles; an image of 100 million pixels has 500 of 448 x 448
MOST_TILES = 512
PROBES = ((64, 64), (1536, 512))  # width, height
GRIDS = "image_grid_pinpoints"
_FILES = (("processor_config.json", "image_processor"), ("preprocessor_config.json", None))


def set_budget(processor: Any, pixels: ImagePixels, name: str) -> dict[str, Any]:
    """Give the image processor of `processor` these bounds.

    Arguments:
        processor: of the model; changed in place.
        pixels: bounds on the pixels of a resized image.
        name: of the model, for messages.

    Returns the settings of the image processor that were changed, as its JSON file has them. Raises
    ConfigError (`image_pixels`) if its images cannot be bounded, or not like this.
    """
    try:
        changes = _changes(processor, pixels)
    except _CannotBound as e:
        raise ConfigError(f": {name}: {e}", option="image_pixels", value=pixels) from None
    images = processor.image_processor
    for key, value in changes.items():
        old = getattr(images, key)
        # `size` is an object of transformers; a dict would not be converted any more
        setattr(images, key, type(old)(**value) if isinstance(value, dict) else value)
    return changes


def set_model_budget(config: Any, processor: Any) -> None:
    """Give the model's config the grids of its processor, which it reads, too.

    Arguments:
        config: of the model; changed in place if it has grids.
        processor: of the model, after `set_budget`.
    """
    if hasattr(config, GRIDS) and hasattr(processor.image_processor, GRIDS):
        config.image_grid_pinpoints = [
            list(g) for g in processor.image_processor.image_grid_pinpoints
        ]


def write_budget(folder: Path, changes: dict[str, Any]) -> None:
    """Write what `set_budget` changed into the processor's files. Raises OSError.

    Arguments:
        folder: of a saved model.
        changes: what `set_budget` returned.
    """
    for name, section in _FILES:
        file = folder / name
        if not file.is_file():
            continue
        content = json.loads(file.read_text("utf-8"))
        part = content.get(section) if section else content
        if not isinstance(part, dict):  # the image processor has a separate file
            continue
        part |= changes
        size = changes.get("size", {})
        for old, new in (("min_pixels", "shortest_edge"), ("max_pixels", "longest_edge")):
            if old in part and new in size:  # they would take precedence
                part[old] = size[new]
        file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")


class _CannotBound(Exception):
    """Why the bounds cannot be used; ends a sentence that begins with the model's name."""


def _changes(processor: Any, pixels: ImagePixels) -> dict[str, Any]:
    images = processor.image_processor
    size = dict(getattr(images, "size", None) or {})
    if hasattr(images, "max_image_tiles"):
        raise _CannotBound(
            "the model learned an embedding for each arrangement of its tiles, so their number "
            "cannot be changed. Leave the option out."
        )
    cost = _costs(processor)
    if len(set(cost)) == 1:
        raise _CannotBound(
            f"its images always cost {cost[0]:,} tokens, whatever their size. Leave the option out."
        )
    if getattr(images, GRIDS, None):
        return _grids(images.image_grid_pinpoints, pixels)
    if hasattr(images, "max_soft_tokens"):
        return _soft_tokens(images, pixels)
    if hasattr(images, "merge_size") and {"shortest_edge", "longest_edge"} <= size.keys():
        return _area(images, size, pixels)
    if hasattr(images, "max_patches") and {"height", "width"} <= size.keys():
        if not hasattr(images, "tile_size"):
            return _tiles(images, size["height"] * size["width"], pixels)
    elif "longest_edge" in size and "shortest_edge" not in size and _unit(processor):
        return _side(processor, size["longest_edge"], pixels)
    raise _CannotBound(
        f"the number of tokens of its images follows a rule of {type(images).__name__} that "
        "thresher does not know. Set the limit in the model's own preprocessor_config.json, and "
        "leave the option out."
    )


def _costs(processor: Any) -> list[int]:
    """Tokens of images of different shapes."""
    from PIL import Image

    from thresher.backends.hf.images import ImagePreparer

    preparer = ImagePreparer(processor, processor.image_token)
    return [len(preparer.prepare(Image.new("RGB", p), False).expansion) for p in PROBES]


def _area(images: Any, size: dict[str, int], pixels: ImagePixels) -> dict[str, Any]:
    """`size` holds areas in pixels."""
    unit = (images.patch_size * images.merge_size) ** 2
    if pixels.most < unit:
        raise _CannotBound(
            f"a token of an image is {unit:,} pixels; give a maximum of at least that."
        )
    # GLM-4.xV counts the pixels of every frame of a video, and an image as the frames of a patch
    resize = getattr(sys.modules[type(images).__module__], "smart_resize", None)
    counts_frames = resize is not None and "num_frames" in inspect.signature(resize).parameters
    frames = images.temporal_patch_size if counts_frames else 1
    most = pixels.most * frames
    least = min(size["shortest_edge"], most) if pixels.least is None else pixels.least * frames
    return {"size": {"shortest_edge": least, "longest_edge": most}}


def _tiles(images: Any, tile: int, pixels: ImagePixels) -> dict[str, Any]:
    """Whole tiles of `tile` pixels."""
    most = pixels.most // tile
    least = min(images.min_patches, most) if hasattr(images, "min_patches") else None
    if pixels.least is not None:
        if least is None:
            raise _CannotBound(f"its images have no minimum of pixels. Give ..{pixels.most} alone.")
        least = math.ceil(pixels.least / tile)
    if most < 1:
        raise _CannotBound(f"one of its tiles is {tile:,} pixels; give a maximum of at least that.")
    if most > MOST_TILES:
        raise _CannotBound(
            f"one of its tiles is {tile:,} pixels, and an image may have {MOST_TILES} of them; "
            f"give a maximum of at most {MOST_TILES * tile:,}."
        )
    if least is not None and least > most:
        raise _CannotBound(
            f"one of its tiles is {tile:,} pixels, and no whole number of them lies between "
            f"{pixels.least:,} and {pixels.most:,}. Give a wider range."
        )
    return {"max_patches": most, **({} if least is None else {"min_patches": least})}


def _grids(grids: list[list[int]], pixels: ImagePixels) -> dict[str, Any]:
    """Those of the model's grids (height, width in pixels) whose area is within the bounds."""
    areas = [height * width for height, width in grids]
    kept = [
        list(g)
        for g, area in zip(grids, areas, strict=True)
        if (pixels.least or 0) <= area <= pixels.most
    ]
    if not kept:
        raise _CannotBound(
            f"its images are resized to one of {len(grids)} grids of {min(areas):,} to "
            f"{max(areas):,} pixels, and none of them is within these bounds."
        )
    return {GRIDS: kept}


def _side(processor: Any, current: int, pixels: ImagePixels) -> dict[str, Any]:
    """The longest side; no image of such sides has more pixels than its square. Never above the
    model's own."""
    if pixels.least is not None:
        raise _CannotBound(
            "its images have a maximum (of the longest side) and no minimum. Give "
            f"..{pixels.most} alone."
        )
    unit = _unit(processor)
    side = min(math.isqrt(pixels.most), current) // unit * unit
    if side == 0:
        raise _CannotBound(
            f"its smallest image is {unit * unit:,} pixels; give a maximum of at least that."
        )
    return {"size": {"longest_edge": side}}


def _unit(processor: Any) -> int:
    """What a side is a multiple of: a tile's side, or that of the patches of one token; 0 if
    unknown."""
    tile = dict(getattr(processor.image_processor, "max_image_size", None) or {})
    if "longest_edge" in tile:
        return int(tile["longest_edge"])
    return int(getattr(processor, "patch_size", 0)) * getattr(processor, "spatial_merge_size", 1)


def _soft_tokens(images: Any, pixels: ImagePixels) -> dict[str, Any]:
    """Gemma 4's number of tokens, of those that it was trained with."""
    token = (images.patch_size * images.pooling_kernel_size) ** 2
    if pixels.least is not None:
        raise _CannotBound(f"its images have no minimum of pixels. Give ..{pixels.most} alone.")
    fitting = [n for n in GEMMA4_TOKENS if n * token <= pixels.most]
    if not fitting:
        raise _CannotBound(
            f"its smallest budget is {GEMMA4_TOKENS[0]} tokens of {token:,} pixels; give a maximum "
            f"of at least {GEMMA4_TOKENS[0] * token:,}."
        )
    return {"max_soft_tokens": fitting[-1]}
