"""Fixtures: the tiny models and their backends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.backends.hf.opened_backends import borrowed
from tests.model_families import families
from tests.tiny_models import ARCHITECTURES, Loaded, load
from thresher.backends.hf.backend import HFBackend


@pytest.fixture(params=families(ARCHITECTURES))
def tiny(request: pytest.FixtureRequest) -> Loaded:
    """Each architecture in turn. Shared between tests: do not change it."""
    return load(request.param)


@pytest.fixture
def backend(tiny: Loaded) -> Iterator[HFBackend]:
    """The backend of each architecture in turn; a test may set its attributes."""
    with borrowed(tiny.name) as found:
        yield found


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """More threads than free cores make torch many times slower."""
    torch.set_num_threads(1)
