"""From a found model to a handle of it in vLLM's engine, and how the engine is started."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from thresher.backends.handle import ModelHandle
from thresher.errors import ModelError, opt
from thresher.types import ModelIdentity

if TYPE_CHECKING:
    from thresher.backends.identity import Found
    from thresher.backends.vllm.backend import VLLMBackend
    from thresher.types import ImageRef, Sample

ENGINE = "vllm"


def handle(
    spec: str,
    found: Found,
    dtype: str,
    batch_tokens: int | None,
    trust_remote_code: bool,
    typed: str | None = None,
    arguments: Sequence[str] = (),
) -> ModelHandle:
    """The handle of a found model that runs in vLLM.

    Arguments:
        spec: how the user named the model.
        found: its files.
        dtype: name of a torch dtype, or auto: bfloat16 or float16 on a GPU, else float32.
        batch_tokens: most tokens of one step of the engine; None: vLLM's default.
        trust_remote_code: whether the model's own Python code may run.
        typed: how the user named the model, for messages; None: `opt("model", SPEC)`.
        arguments: KEY=VALUE each, of vLLM's engine.

    Raises ModelError for LoRA adapters, ConfigError for arguments that vLLM does not take.
    """
    from thresher.backends.hf.image_tokens import image_tokens
    from thresher.backends.hf.load import resolve_device, resolve_dtype
    from thresher.backends.hf.processor import torchvision_works
    from thresher.backends.hf.size import model_size
    from thresher.backends.identity import context_of
    from thresher.backends.vllm.arguments import changing_numbers, parse

    typed = typed or opt("model", spec)
    if found.adapters:
        raise ModelError(
            f"{typed} is a folder of LoRA adapters, which {opt('backend', 'vllm')} does not take. "
            f"Merge them into their base and give that folder, or leave {opt('backend')} out."
        )
    given = parse(arguments)
    dtype = resolve_dtype(dtype, resolve_device("auto"))
    identity = ModelIdentity(
        found.weights,
        str(found.config["model_type"]),
        dtype,
        "torchvision" if torchvision_works() else "pil",
        engine=ENGINE,
        engine_arguments=changing_numbers(arguments),
    )
    return ModelHandle(
        spec,
        identity,
        lambda: _open(found, dtype, batch_tokens, trust_remote_code, typed, given),
        partial(image_tokens, found.where, found.revision, trust_remote_code, None),
        context=context_of(found.config),
        size=partial(model_size, found.where, found.revision, trust_remote_code),
    )


def _open(
    found: Found,
    dtype: str,
    batch_tokens: int | None,
    trust_remote_code: bool,
    typed: str,
    given: Mapping[str, Any],
) -> VLLMBackend:
    """Start the engine. `given`: arguments that replace the ones here.

    Raises ModelError if vLLM cannot run the model, or runs it with other tokens.
    """
    import torch

    from thresher.backends.hf.encode import Encoder, PromptEncoder
    from thresher.backends.hf.processor import load_processor
    from thresher.backends.hf.traits import answer_ends
    from thresher.backends.vllm.backend import VLLMBackend
    from thresher.backends.vllm.engine import Engine

    processor, _ = load_processor(
        found.where, revision=found.revision, trust_remote_code=trust_remote_code
    )
    encoder, prompts = Encoder(processor), PromptEncoder(processor)
    arguments: dict[str, Any] = {
        "revision": found.revision,
        "tokenizer_revision": found.revision,
        "dtype": dtype,
        "trust_remote_code": trust_remote_code,
        "enable_prefix_caching": True,
        "max_model_len": -1,  # as much of the model's context as memory allows
        "limit_mm_per_prompt": {"video": 0},
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        # compiling takes longer than it saves on a CPU
        "enforce_eager": not torch.cuda.is_available(),
    }
    if batch_tokens is not None:
        arguments["max_num_batched_tokens"] = batch_tokens
    limits = {**arguments["limit_mm_per_prompt"], **given.get("limit_mm_per_prompt", {})}
    arguments |= {**given, "limit_mm_per_prompt": limits}
    _free_memory()
    engine = Engine.start(found.where, typed, arguments)
    stop_ids = answer_ends(_generation_config(found, trust_remote_code), encoder)
    backend = VLLMBackend(engine, encoder, prompts, stop_ids)
    _check(backend, typed)
    return backend


def _free_memory() -> None:
    """Give back the memory of models that ran in this process before: PyTorch keeps a device's for
    itself, and the engine's process would not find it."""
    import torch

    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _generation_config(found: Found, trust_remote_code: bool) -> Any:
    from transformers import AutoConfig, GenerationConfig

    try:
        return GenerationConfig.from_pretrained(found.where, revision=found.revision)
    except OSError:  # there is none
        config = AutoConfig.from_pretrained(
            found.where, revision=found.revision, trust_remote_code=trust_remote_code
        )
        return GenerationConfig.from_model_config(config)


def _check(backend: VLLMBackend, typed: str) -> None:
    """Raises ModelError unless a plain question about an image has a loss."""
    from thresher.types import ImageRef, Sample, Turn

    turns = (Turn("user", "<image>\nWhat colour is it?"), Turn("assistant", "Red and blue."))
    row = Sample("probe", turns, (ImageRef("probe", size=1),))
    for piece in backend.answer_loss([row], _OneImage()):
        if piece.errors[0]:
            raise ModelError(
                f"{typed} cannot be used with {opt('backend', 'vllm')}: a plain question about an "
                f"image has no loss ({piece.errors[0]}). Leave {opt('backend')} out, or use "
                "another model."
            )


class _OneImage:
    """A pool of one synthetic image."""

    def load_image(self, ref: ImageRef) -> Any:
        import numpy as np
        from PIL import Image

        values = np.arange(96 * 64 * 3, dtype=np.uint32).reshape(96, 64, 3) * 7919 % 251
        return Image.fromarray(values.astype(np.uint8))

    def by_digest(self, digest: bytes) -> Sample:
        raise KeyError(digest)
