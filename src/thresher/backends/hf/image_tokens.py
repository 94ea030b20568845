"""How many tokens images and videos take in a model's prompt, by its own processor. Loads no
weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from thresher.backends.hf.images import ImagePreparer
from thresher.backends.hf.processor import load_processor
from thresher.backends.hf.videos import KIND, missing_support
from thresher.errors import CapabilityError
from thresher.request.image_pixels import ImagePixels
from thresher.types import RowError, Video


def image_tokens(
    name: str,
    revision: str | None,
    trust_remote_code: bool,
    image_pixels: ImagePixels | None,
    images: Sequence[Any],
) -> list[int]:
    """Tokens of each image.

    Arguments:
        name, revision: the model's folder or hub id, and the commit of the latter.
        trust_remote_code: whether the model's own Python code may run.
        image_pixels: bounds on the pixels of an image; None: the model's own.
        images: RGB `PIL.Image`; those that the processor refuses are left out.

    Empty for a model whose images are not tokens of the prompt (Llama-3.2-Vision). Raises
    ModelError, MissingExtra.
    """
    processor, _ = load_processor(
        name, revision=revision, trust_remote_code=trust_remote_code, image_pixels=image_pixels
    )
    preparer = ImagePreparer(processor, processor.image_token)
    out = []
    for image in images:
        try:
            out.append(len(preparer.prepare(image, False).expansion))
        except (ValueError, ZeroDivisionError):  # a shape that the processor refuses
            continue
    return out if any(n > 1 for n in out) else []


def video_tokens(
    name: str,
    revision: str | None,
    trust_remote_code: bool,
    architecture: str,
    videos: Sequence[Video],
) -> list[int]:
    """Tokens of each video, with timestamps and frame headings.

    Arguments:
        name, revision: the model's folder or hub id, and the commit of the latter.
        trust_remote_code: whether the model's own Python code may run.
        architecture: its `model_type`, for messages.
        videos: sampled frames; those that the processor refuses are left out.

    Raises CapabilityError if the model takes no videos, with the error that its rows get;
    ModelError, MissingExtra.
    """
    processor, _ = load_processor(name, revision=revision, trust_remote_code=trust_remote_code)
    if reason := missing_support(processor, architecture):
        raise CapabilityError(str(RowError(KIND, reason)))
    preparer = ImagePreparer(processor, processor.image_token)
    out = []
    for video in videos:
        try:
            out.append(len(preparer.prepare_video(video, processor.video_token).expansion))
        except (ValueError, ZeroDivisionError):  # a shape that the processor refuses
            continue
    return out
