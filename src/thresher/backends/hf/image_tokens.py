"""How many tokens images take in a model's prompt, by its own processor. Loads no weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from thresher.backends.hf.images import ImagePreparer
from thresher.backends.hf.processor import load_processor
from thresher.request.image_pixels import ImagePixels


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
