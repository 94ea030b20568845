"""ShareGPT: `{"conversations" | "messages": […], "images": ["a.jpg"], "system": "…", "tools": "…"}`, as LLaMA-Factory reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thresher.pools import chat


def to_llava(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record in the LLaVA form (`chat.to_llava`)."""
    return chat.to_llava(record, "conversations" if "conversations" in record else "messages", role=("from", "role"))
