"""The tiny models for the tests of this folder."""

from __future__ import annotations

import pytest
import torch

from tests.tiny_models import ARCHITECTURES, Loaded, load


@pytest.fixture(params=ARCHITECTURES)
def tiny(request: pytest.FixtureRequest) -> Loaded:
    """Each of the seven architectures in turn. Shared between tests: do not change it."""
    return load(request.param)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """More threads than free cores make torch many times slower."""
    torch.set_num_threads(1)
