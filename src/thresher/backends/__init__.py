"""Models behind small capabilities. `resolve` turns what a user types after `--model` into a
handle: a name, an identity, a way to open it. The identity is known without loading weights, so
that a run with nothing left to score opens nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from thresher.backends.handle import ModelHandle

if TYPE_CHECKING:
    from thresher.backends.openai.options import ServerOptions

__all__ = ["ModelHandle", "resolve"]


def resolve(
    spec: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    batch_tokens: int | None = None,
    trust_remote_code: bool = False,
    cache: Path | None = None,
    server: ServerOptions | None = None,
    typed: str | None = None,
) -> ModelHandle:
    """A folder, a hub id such as `Qwen/Qwen2.5-VL-7B-Instruct` (`@revision` pins one), `demo`, the
    built-in model, or a
    server: `http://host:8000/v1#NAME`.

    `cache`: a folder that may remember the hash of a model folder's files. `server`: how a server
    is asked; one object for all models of a run, so that its caps hold for them together. `typed`:
    what the user typed, for messages, such as `--set judge=PATH`; None: `--model SPEC`. Raises
    NotAModel, ModelError, ConfigError (`device`).
    """
    if spec.lower().startswith(("http://", "https://")):
        from thresher.backends.openai.options import ServerOptions
        from thresher.backends.openai.resolve import resolve as served

        return served(spec, server or ServerOptions())
    from thresher.extras import check_models

    check_models([(spec, typed or f"--model {spec}")])
    from thresher.backends.identity import identify

    return identify(spec, device, dtype, batch_tokens, trust_remote_code, cache, typed)
