"""`ModelHandle`: a model that is known by name and identity, and not loaded yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from thresher.types import ModelIdentity


@dataclass(frozen=True)
class ModelHandle:
    """`open()` loads the model and gives its backend; it is called only when rows are to be
    scored."""

    name: str
    identity: ModelIdentity
    open: Callable[[], Any]
    image_tokens: Callable[[Sequence[Any]], list[int]] | None = None
    """Tokens that images take, by the model's processor alone (`hf.image_tokens`); None: cannot be
    known without asking."""
