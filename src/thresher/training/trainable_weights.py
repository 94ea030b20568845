"""Which weights of a multimodal LLM are trained: low-rank adapters of the language model, or all
but the vision tower.

Changes the model that it is given. Relies on transformers' names for the parts (`get_decoder`,
`get_encoder`).
"""

from __future__ import annotations

import re
from typing import Any

from thresher.errors import ModelError
from thresher.training.recipe import Recipe


def lora_config(model: Any, recipe: Recipe) -> Any:
    """A `peft.LoraConfig` for every linear layer inside the language model (and the vision tower,
    if it is not frozen).

    The layers are named by one regular expression that begins with the part's own path, so that
    layers of the same name elsewhere (a vision tower has a q_proj, too) do not match. The output
    head is left alone: TRL cannot train it.
    """
    from peft import LoraConfig

    parts = [_path(model, model.get_decoder(), "language model")]
    if not recipe.freeze_vision:
        parts.append(_path(model, vision_tower(model), "vision tower"))
    return LoraConfig(
        r=recipe.lora_rank,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=0.0,
        target_modules="|".join(_linears(model, part) for part in parts),
    )


def train_all(model: Any, recipe: Recipe) -> None:
    """Every weight wants a gradient, but for the vision tower's if the recipe freezes it."""
    model.requires_grad_(True)
    if recipe.freeze_vision:
        vision_tower(model).requires_grad_(False)


def vision_tower(model: Any) -> Any:
    """Raises ModelError when transformers does not say which part it is."""
    tower = model.get_encoder(modality="image")
    if tower is model or tower is getattr(model, "model", None):
        raise ModelError(
            f"{type(model).__name__} does not name its vision tower, so it cannot be kept from "
            "training."
        )
    return tower


def _path(model: Any, part: Any, what: str) -> str:
    for name, module in model.named_modules():
        if module is part and name:
            return str(name)
    raise ModelError(
        f"{type(model).__name__} does not name its {what}, so adapters cannot be put on it. Try "
        "--full."
    )


def _linears(model: Any, part: str) -> str:
    """A regular expression for the full names of the linear layers inside `part`."""
    import torch

    inside = part + "."
    names = {
        n[len(inside) :]
        for n, m in model.named_modules()
        if n.startswith(inside) and isinstance(m, torch.nn.Linear)
    }
    last = sorted({n.rsplit(".", 1)[-1] for n in names} - {"lm_head", "embed_out"})
    if not last:
        raise ModelError(
            f"The {part} of {type(model).__name__} has no linear layers for adapters. Try --full."
        )
    return rf"{re.escape(inside)}(?:.*\.)?(?:{'|'.join(map(re.escape, last))})"
