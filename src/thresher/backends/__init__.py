"""Models behind small protocols. `resolve` turns the value of `--model` into a handle: a name, an
identity, a way to open it. The identity is known without loading weights, so that a run with
nothing left to score opens no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from thresher.backends.handle import ModelHandle
from thresher.errors import ConfigError, opt
from thresher.request.model_spec import is_url

if TYPE_CHECKING:
    from thresher.backends.openai.options import ServerOptions
    from thresher.request.image_pixels import ImagePixels

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
    image_pixels: ImagePixels | None = None,
    adapter: str | None = None,
    engine: str = "",
    engine_arguments: Sequence[str] = (),
) -> ModelHandle:
    """Resolve a model without loading it.

    Arguments:
        spec: a folder, a hub id such as `Qwen/Qwen2.5-VL-7B-Instruct` (`@revision` pins a commit),
            `demo` (the built-in model), or a server: `http://host:8000/v1#NAME`.
        device: auto, or a torch device.
        dtype: auto, or the name of a torch dtype.
        batch_tokens: padded tokens per batch; None: by device.
        trust_remote_code: whether the model's own Python code may run.
        cache: folder in which the hashes of a model's files are cached.
        server: options for servers; one object for all models of a run, so that its limits hold for
            them together.
        typed: how the user named the model, for messages, such as `opt("settings.judge", PATH)`;
            None: `opt("model", SPEC)`.
        image_pixels: bounds on the pixels of its images; None: as in its own files.
        adapter: module:Class that runs the model (`adapted`); None: thresher itself does.
        engine: vllm: vLLM runs the model, which excludes `adapter` and `image_pixels`; "":
            transformers does.
        engine_arguments: KEY=VALUE each, of vLLM's engine.

    Raises NotAModel, ModelError, ConfigError (`device`, `image_pixels`, `adapter`,
    `vllm`).
    """
    if is_url(spec):
        if image_pixels is not None:
            raise ConfigError(
                f" is for a model whose weights are here. Images that are sent to a server are "
                f"reduced with {opt('image_side')}.",
                option="image_pixels",
                value=str(image_pixels),
            )
        if adapter is not None:
            raise ConfigError(
                " is for a model whose weights are here, and this one is behind a server.",
                option="adapter",
                value=adapter,
            )
        from thresher.backends.openai.options import ServerOptions
        from thresher.backends.openai.resolve import resolve as served

        return served(spec, server or ServerOptions())
    from thresher.extras import check_models

    check_models([(spec, typed or opt("model", spec))], engine or "hf")
    from thresher.backends.identity import find, identify

    if engine:
        from thresher.backends.vllm.resolve import handle as in_vllm

        found = find(spec, trust_remote_code, cache, typed)
        return in_vllm(spec, found, dtype, batch_tokens, trust_remote_code, typed, engine_arguments)
    if adapter is not None:
        from thresher.backends.adapted.resolve import check_spec, handle

        check_spec(adapter)
        if image_pixels is not None:
            raise ConfigError(
                f" and {opt('adapter')} exclude each other: an adapter prepares images itself.",
                option="image_pixels",
                value=str(image_pixels),
            )
        found = find(spec, trust_remote_code, cache, typed, adapted=True)
        return handle(spec, found, adapter, device, dtype)
    return identify(
        spec, device, dtype, batch_tokens, trust_remote_code, cache, typed, image_pixels
    )
