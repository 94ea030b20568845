"""LLaVA and ShareGPT: `{"conversations" | "messages": […], "image" | "images": …, "system": "…",
"tools": "…"}`.

One set of rules for both, so that a row has the same meaning in either file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thresher.pools import chat


def to_llava(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record in the LLaVA layout (`chat.to_llava`); unchanged if it has that layout already."""
    turns = record.get("conversations")
    if (
        type(record) is dict
        and type(turns) is list
        and turns
        and not record.get("system")
        and _plain(turns)
    ):
        return record
    if type(record) is dict and "conversations" not in record and "messages" not in record:
        return record
    key = "conversations" if turns or "messages" not in record else "messages"
    return chat.to_llava(record, key, role=("from", "role"))


def _plain(turns: list[Any]) -> bool:
    return all(
        type(turn) is not dict or ("from" in turn and type(turn.get("value")) is str)
        for turn in turns
    )
