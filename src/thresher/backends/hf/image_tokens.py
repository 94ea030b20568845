"""How many tokens pictures take of a model's prompt, by its own processor. Loads no weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from thresher.backends.hf.images import ImagePreparer
from thresher.backends.hf.processor import load_processor


def image_tokens(
    where: str, revision: str | None, trust_remote_code: bool, images: Sequence[Any]
) -> list[int]:
    """Tokens of each picture (RGB `PIL.Image`); those that the processor refuses are left out.

    Empty for a model whose pictures are no tokens of the prompt (Llama-3.2-Vision). Raises
    ModelError, MissingExtra.
    """
    processor, _ = load_processor(where, revision=revision, trust_remote_code=trust_remote_code)
    preparer = ImagePreparer(processor, processor.image_token)
    out = []
    for image in images:
        try:
            out.append(len(preparer.prepare(image, False).expansion))
        except (ValueError, ZeroDivisionError):  # a shape that the processor refuses
            continue
    return [n for n in out if n > 1]
