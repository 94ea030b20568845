"""Which weights of a multimodal LLM are trained: low-rank adapters of the language model, or all
weights except the vision tower's.

Changes the given model. Relies on transformers' accessors (`get_decoder`, `get_encoder`).
"""

from __future__ import annotations

import re
from typing import Any

from thresher.errors import ModelError, opt
from thresher.training.recipe import Recipe


def lora_config(model: Any, recipe: Recipe) -> Any:
    """A `peft.LoraConfig` for every linear layer of the language model (and of the vision tower
    unless it is frozen).

    The layers are matched by a regular expression that begins with the module's own path, so that
    layers of the same name elsewhere (a vision tower has a q_proj, too) do not match. The output
    head is excluded: TRL cannot train it.

    Arguments:
        model: a transformers model.
        recipe: rank and alpha, and whether the vision tower is frozen.
    """
    from peft import LoraConfig

    module_paths = [_module_path(model, model.get_decoder(), "language model")]
    if not recipe.freeze_vision:
        module_paths.append(_module_path(model, vision_tower(model), "vision tower"))
    return LoraConfig(
        r=recipe.lora_rank,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=0.0,
        target_modules="|".join(
            _linear_layers_pattern(model, module_path) for module_path in module_paths
        ),
    )


def train_all(model: Any, recipe: Recipe) -> None:
    """Enable gradients for all weights, except the vision tower's if the recipe freezes it.

    Arguments:
        model: a transformers model, changed in place.
        recipe: whether the vision tower is frozen.
    """
    model.requires_grad_(True)
    if recipe.freeze_vision:
        vision_tower(model).requires_grad_(False)


def vision_tower(model: Any) -> Any:
    """The vision tower. Raises ModelError if transformers cannot tell which module it is."""
    tower = model.get_encoder(modality="image")
    if tower is model or tower is getattr(model, "model", None):
        raise ModelError(
            f"{type(model).__name__} does not name its vision tower, so it cannot be kept from "
            "training."
        )
    return tower


def _module_path(model: Any, part: Any, description: str) -> str:
    for name, module in model.named_modules():
        if module is part and name:
            return str(name)
    raise ModelError(
        f"{type(model).__name__} does not name its {description}, so adapters cannot be put on "
        f"it. Try "
        f"{opt('full', True)}."
    )


def _linear_layers_pattern(model: Any, module_path: str) -> str:
    """A regular expression for the full names of the linear layers below `module_path`."""
    import torch

    prefix = module_path + "."
    names = {
        n[len(prefix) :]
        for n, m in model.named_modules()
        if n.startswith(prefix) and isinstance(m, torch.nn.Linear) and not _has_own_results(m)
    }
    layer_names = sorted({n.rsplit(".", 1)[-1] for n in names} - {"lm_head", "embed_out"})
    if not layer_names:
        raise ModelError(
            f"The {module_path} of {type(model).__name__} has no linear layers for adapters. Try "
            f"{opt('full', True)}."
        )
    return rf"{re.escape(prefix)}(?:.*\.)?(?:{'|'.join(map(re.escape, layer_names))})"


def _has_own_results(layer: Any) -> bool:
    """Whether a linear layer of transformers returns something else than its product, so that peft
    cannot add to it: a router of experts (Llama 4)."""
    import torch

    own = type(layer).forward is not torch.nn.Linear.forward
    return own and type(layer).__module__.startswith("transformers.models.")
