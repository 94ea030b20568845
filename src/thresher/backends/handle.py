"""`ModelHandle`: a model with name and identity that is not loaded yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from thresher.backends.model_size import ModelSize
from thresher.types import ModelIdentity


@dataclass(frozen=True)
class ModelHandle:
    """open: loads the model and returns its backend; called only when there are rows to score."""

    name: str
    identity: ModelIdentity
    open: Callable[[], Any]
    image_tokens: Callable[[Sequence[Any]], list[int]] | None = None
    """Tokens of images, by the model's processor alone (`hf.image_tokens`); None: not known before
    a request."""
    video_tokens: Callable[[Sequence[Any]], list[int]] | None = None
    """Tokens of videos (`types.Video`), likewise. Raises CapabilityError for a model that takes
    none."""
    context: int | None = None
    """Most tokens of a row, where the model's config.json says so."""
    size: Callable[[], ModelSize] | None = None
    """Parameters and cost of a token, from the model's config.json; None: not known. Raises
    ModelError."""
    check: Callable[[], None] | None = None
    """Raises ServerError if the model's server does not answer; None: there is no server."""
