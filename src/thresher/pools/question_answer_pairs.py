"""Question-answer pairs of the Cauldron and FineVision: `{"images": […], "texts": [{"user": "Q",
"assistant": "A", "source": "…"}]}`. Images come before the first question, as in their own loaders.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thresher.pools import chat


def to_llava(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record in the LLaVA layout; other fields of the first pair (`source`) become the row's
    unless it has them.
    """
    pairs = record.get("texts")
    if not isinstance(pairs, list):
        return {**{k: v for k, v in record.items() if k != "texts"}, "conversations": pairs}
    turns: list[Any] = []
    further: dict[str, Any] = {}
    for pair in pairs:
        if not isinstance(pair, dict):
            turns.append(pair)
            continue
        if pair.get("system"):
            turns.append({"role": "system", "content": pair["system"]})
        turns.append({"role": "user", "content": pair.get("user")})
        turns.append({"role": "assistant", "content": pair.get("assistant")})
        for name, value in pair.items():
            if name not in ("user", "assistant", "system"):
                further.setdefault(name, value)
    rest = {k: v for k, v in record.items() if k != "texts"}
    return chat.to_llava({**further, **rest, "texts": turns}, "texts", system=None)
