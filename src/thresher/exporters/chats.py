"""Turns with role and content, for sharegpt, LLaMA-Factory, ms-swift and messages."""

from __future__ import annotations

from typing import Any

from thresher.exporters.rows import Row, Rows, clean, encodable
from thresher.pools.llava import json_default

ROLE = {"human": "user", "gpt": "assistant"}


def messages(row: Row, rows: Rows) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """(turns with role and content, what must go to `extra_json`).

    Turns that do not fit (not an object, role or value not text, invalid Unicode) go to
    `extra_json` unchanged and to the list as close as text can represent them.

    Arguments:
        row: the row to convert.
        rows: all rows of the export, which count what is lost.
    """
    out: list[dict[str, Any]] = []
    fits = True
    for turn in row.turns:
        if not isinstance(turn, dict):
            fits = False
            out.append({"role": "unknown", "content": clean(json_default(turn))})
            continue
        sender, text = turn.get("from"), turn.get("value")
        message = {
            "role": ROLE.get(sender, sender) if isinstance(sender, str) else "unknown",
            "content": text,
        }
        renamed = sender == "developer"  # unknown to LLaVA; a synonym of system elsewhere
        if (
            renamed
            or not isinstance(sender, str)
            or not isinstance(text, str)
            or not encodable([sender, text])
        ):
            fits = False
            message = {
                "role": clean(str(message["role"])),
                "content": clean(text if isinstance(text, str) else json_default(text)),
            }
        for name, value in turn.items():
            if name in ("from", "value"):
                continue
            if (
                name in ("role", "content")
                or not isinstance(value, (str, int, float, bool))
                or not encodable(value)
            ):
                fits = False
            else:
                message[name] = value
        out.append(message)
    if not encodable(row.turns):
        rows.lost["invalid Unicode in the turns is replaced by ?; extra_json has the original"] += 1
    return out, {} if fits else {"conversations": row.turns}


def alternates(turns: list[dict[str, Any]]) -> bool:
    """Whether user and assistant alternate after at most one system turn, as LLaMA-Factory
    requires.
    """
    roles = [t["role"] for t in turns]
    if roles[:1] == ["system"]:
        roles = roles[1:]
    return (
        bool(roles) and len(roles) % 2 == 0 and roles == ["user", "assistant"] * (len(roles) // 2)
    )
