"""Models behind small capabilities. `resolve` turns what a user types after `--model` into a handle: a name, an identity, a way
to open it. The identity is known without loading weights, so that a run with nothing left to score opens nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thresher.types import ModelIdentity


@dataclass(frozen=True)
class ModelHandle:
    """`open()` loads the model and gives its backend; it is called only when rows are to be scored."""

    name: str
    identity: ModelIdentity
    open: Callable[[], Any]


def resolve(
    spec: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    batch_tokens: int | None = None,
    trust_remote_code: bool = False,
    cache: Path | None = None,
) -> ModelHandle:
    """A folder, a hub id such as `Qwen/Qwen2.5-VL-7B-Instruct` (`@revision` pins one), or `demo`, the built-in model.

    `cache`: a folder that may remember the hash of a model folder's files. Raises NotAModel, ModelError, ConfigError (`device`).
    """
    from thresher.backends.identity import identify

    return identify(spec, device, dtype, batch_tokens, trust_remote_code, cache)
