"""Turns for the formats that speak of role and content: sharegpt, LLaMA-Factory, ms-swift, messages."""

from __future__ import annotations

from typing import Any

from thresher.exporters.rows import Row, Rows, clean, encodable
from thresher.pools.llava import in_words

ROLE = {"human": "user", "gpt": "assistant"}


def messages(row: Row, rows: Rows) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """(turns with role and content, what must stand in `extra_json`).

    Turns that do not fit (no object, a role or value that is no text, no Unicode) stand there as they are, and in the
    list as near as text comes to them.
    """
    out: list[dict[str, Any]] = []
    fits = True
    for turn in row.turns:
        if not isinstance(turn, dict):
            fits = False
            out.append({"role": "unknown", "content": clean(in_words(turn))})
            continue
        who, text = turn.get("from"), turn.get("value")
        message = {"role": ROLE.get(who, who) if isinstance(who, str) else "unknown", "content": text}
        odd = who == "developer"  # unknown to LLaVA, another name of system to others
        if odd or not isinstance(who, str) or not isinstance(text, str) or not encodable([who, text]):
            fits = False
            message = {
                "role": clean(str(message["role"])),
                "content": clean(text if isinstance(text, str) else in_words(text)),
            }
        for name, value in turn.items():
            if name in ("from", "value"):
                continue
            if name in ("role", "content") or not isinstance(value, (str, int, float, bool)) or not encodable(value):
                fits = False
            else:
                message[name] = value
        out.append(message)
    return out, {} if fits else {"conversations": row.turns}


def alternates(turns: list[dict[str, Any]]) -> bool:
    """Whether user and assistant take turns, after at most one system turn, as LLaMA-Factory demands."""
    said = [t["role"] for t in turns]
    if said[:1] == ["system"]:
        said = said[1:]
    return bool(said) and len(said) % 2 == 0 and said == ["user", "assistant"] * (len(said) // 2)
