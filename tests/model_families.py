"""On which tiny models a test runs: `make test` takes some of them, `make test-models` all.

What holds a model to its reference (tokens, losses, answers) runs on every one of the ten families
that people tune most, and on LLaVA-1.5, which most other tests use. What is about batches, memory
or failures runs on one family of each kind: there the code differs by kind, not by family.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import pytest

from tests.tiny_models import ARCHITECTURES

MOST_USED = (
    "qwen3_vl",
    "qwen2_5_vl",
    "gemma3",
    "internvl",
    "smolvlm",
    "llava_onevision",
    "mllama",
    "llava",
)
TEN = (
    "qwen3_5",
    "qwen3_vl",
    "qwen2_5_vl",
    "gemma3",
    "gemma4",
    "internvl",
    "glm46v",
    "smolvlm",
    "llava_onevision",
    "mllama",
)
"""The ten families that people tune most, of those that need no package beside the tests'."""
ONE_OF_EACH_KIND = (
    "llava",  # image tokens among the text's, positions in one row
    "qwen2_5_vl",  # multimodal positions, images of any size
    "mllama",  # cross-attention: no demonstration can be reused
)


def families(names: Iterable[str], always: Collection[str] = MOST_USED) -> list[object]:
    """A parameter for each name; those that are not in `always` have the marker `models`."""
    return [n if n in always else pytest.param(n, marks=pytest.mark.models) for n in names]


def kinds(fixture: str, names: Iterable[str] = ARCHITECTURES) -> pytest.MarkDecorator:
    """For a test that uses `fixture`, which takes the name of a model: one family of each kind in
    `make test`, all of `names` in `make test-models`."""
    return pytest.mark.parametrize(fixture, families(names, ONE_OF_EACH_KIND), indirect=True)
