"""thresher: pick the subset of an image+text pool that is worth fine-tuning a multimodal LLM on.

    import thresher
    chosen = thresher.select("train.json", "clipper", "30%", images="images",
                             model="Qwen/Qwen2.5-VL-7B-Instruct")
    chosen.write("out/clipper30")

Importing this imports no torch, ray or vllm; each name is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from thresher._version import __version__

if TYPE_CHECKING:
    from thresher.api import select
    from thresher.pools import Pool, open_pool
    from thresher.types import Budget, Selection

__all__ = ["Budget", "Pool", "Selection", "__version__", "open_pool", "select"]

_WHERE = {
    "Budget": "thresher.types",
    "Pool": "thresher.pools",
    "Selection": "thresher.types",
    "open_pool": "thresher.pools",
    "select": "thresher.api",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(
            f"module 'thresher' has no attribute {name!r}; it has {', '.join(__all__)}"
        )
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
