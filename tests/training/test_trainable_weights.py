"""Which layers get adapters."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from thresher.training.recipe import Recipe
from thresher.training.trainable_weights import lora_config

pytest.importorskip("peft")


class Router(torch.nn.Linear):
    """As Llama 4's: a linear layer that returns its product and scores."""

    def forward(self, states: torch.Tensor) -> Any:
        product = super().forward(states)
        return product.sigmoid(), product


class Decoder(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.router = Router(4, 2)
        self.up_proj = torch.nn.Linear(4, 4)


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.language_model = Decoder()
        self.vision_tower = torch.nn.Linear(4, 4)

    def get_decoder(self) -> Decoder:
        return self.language_model


def test_a_router_with_several_results_gets_no_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen() -> list[str]:
        model = Model()
        pattern = re.compile(lora_config(model, Recipe()).target_modules)
        return [name for name, _ in model.named_modules() if pattern.fullmatch(name)]

    monkeypatch.setattr(Router, "__module__", "transformers.models.llama4.modeling_llama4")
    assert chosen() == ["language_model.up_proj"]
    # a quantised layer of another package, which peft knows
    monkeypatch.setattr(Router, "__module__", "bitsandbytes.nn")
    assert chosen() == ["language_model.router", "language_model.up_proj"]
