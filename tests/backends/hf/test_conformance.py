"""Every family of tiny models is as close to the slow reference as docs/models.md says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backends.hf.conformance import measure
from tests.model_families import families
from tests.tiny_families import FAMILIES
from tests.tiny_models import MODELS, NotBuilt

NAMES = [name for name, model in {**MODELS, **FAMILIES}.items() if model.images]


@pytest.mark.parametrize("name", families(NAMES, always=()))
def test_family(name: str, tmp_path: Path) -> None:
    try:
        got = measure(name, tmp_path)
    except NotBuilt as e:
        pytest.skip(f"{name}: {e}")
    assert got.passes, got
