"""The size of a model from its config.json: its modules are created without weights ("meta"
tensors), so this takes neither the weights nor their memory."""

from __future__ import annotations

from typing import Any

from thresher.backends.model_size import ModelSize
from thresher.errors import ModelError, reason_of


def model_size(where: str, revision: str | None, trust_remote_code: bool) -> ModelSize:
    """The size of a model.

    Arguments:
        where: a folder or hub id.
        revision: the commit of a hub id.
        trust_remote_code: whether the model's own Python code may run.

    Raises ModelError if its modules cannot be created.
    """
    import torch
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(
            where, revision=revision, trust_remote_code=trust_remote_code
        )
        with torch.device("meta"):
            model = transformers.AutoModelForImageTextToText.from_config(
                config, trust_remote_code=trust_remote_code
            )
        decoder, tower = model.get_decoder(), model.get_encoder(modality="image")
    except Exception as e:  # whatever an architecture's own code raises
        raise ModelError(f"The size of {where} is not known: {reason_of(e)}.") from e
    text = config.get_text_config(decoder=True)
    embedding = model.get_input_embeddings().weight
    chosen = _share_of_experts(text)
    language = sum(
        p.numel() * (chosen if ".experts." in f".{name}" else 1.0)
        for name, p in decoder.named_parameters()
        if p is not embedding
    )
    linear = [m for m in decoder.modules() if isinstance(m, torch.nn.Linear)]
    experts = getattr(text, "num_experts_per_tok", None)
    width = _integer(text, "intermediate_size") or 4 * text.hidden_size
    if experts and (each := _integer(text, "moe_intermediate_size")):
        width = experts * each
    return ModelSize(
        parameters=sum(p.numel() for p in model.parameters()),
        language=round(language),
        vision=sum(p.numel() for p in tower.parameters()),
        patches_per_token=patches_per_token(config),
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        intermediate=width,
        vision_hidden=_vision(config, "embed_dim", "hidden_size"),
        vision_intermediate=_vision(config, "intermediate_size"),
        vocabulary=text.vocab_size,
        adapter_parameters=sum(m.in_features + m.out_features for m in linear),
    )


def patches_per_token(config: Any) -> float:
    """Patches of the vision tower for each image token of the prompt; 1 where the configuration
    names no merging of patches.

    Arguments:
        config: of the model.
    """
    vision = getattr(config, "vision_config", None)
    for part in (vision, config):
        if merge := _number(part, "spatial_merge_size"):  # Qwen, GLM, Mistral
            return merge**2
        if ratio := _number(part, "downsample_ratio", "pixel_shuffle_ratio"):  # InternVL, Llama 4
            return ratio**-2
    if factor := _number(config, "scale_factor"):  # Idefics 3, SmolVLM
        return factor**2
    tokens = _number(config, "mm_tokens_per_image")  # Gemma 3
    size, patch = _number(vision, "image_size"), _number(vision, "patch_size")
    if tokens and size and patch:
        return (size // patch) ** 2 / tokens
    return 1.0


def _share_of_experts(text: Any) -> float:
    """Part of the experts that a token uses; 1.0 for a model without experts."""
    used = _number(text, "num_experts_per_tok")
    every = _number(text, "num_experts", "num_local_experts", "n_routed_experts")
    return used / every if used and every else 1.0


def _vision(config: Any, *names: str) -> int:
    return int(_number(getattr(config, "vision_config", None), *names) or 0)


def _integer(part: Any, name: str) -> int:
    return int(_number(part, name) or 0)


def _number(part: Any, *names: str) -> float | None:
    """The first of these fields that is a number."""
    for name in names:
        value = getattr(part, name, None)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
            return float(value)
    return None
