"""Traits of a model, derived from its class and config."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from thresher.backends.hf.traits import cache_argument


class Renamed:
    def forward(self, input_ids: object, cache: object = None) -> None: ...


class Older:
    def forward(self, input_ids: object, past_key_values: object = None) -> None: ...


class TakesAnything:
    def forward(self, **kwargs: object) -> None: ...


@pytest.mark.parametrize(
    ("model", "name"),
    [(Renamed(), "cache"), (Older(), "past_key_values"), (TakesAnything(), "past_key_values")],
)
def test_cache_argument_uses_the_models_name(model: object, name: str) -> None:
    assert cache_argument(model) == name
    assert cache_argument(SimpleNamespace(get_base_model=lambda: model, forward=None)) == name
