"""Alpaca, LLaMA-Factory's other format: `{"instruction": …, "input": …, "output": …, "system": …,
"history": [[Q, A]], "images": […]}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thresher.pools import chat

COLUMNS = {
    "prompt": "instruction",
    "query": "input",
    "response": "output",
    "history": "history",
    "system": "system",
}


def to_llava(record: Mapping[str, Any], columns: Mapping[str, str] = COLUMNS) -> dict[str, Any]:
    """The record in the LLaVA layout.

    Arguments:
        record: of the layout alpaca.
        columns: role -> field name, as in `dataset_info.json`.
    """
    named = {role: columns.get(role, "") for role in COLUMNS}
    if named["prompt"] not in record and named["response"] not in record:
        # another format's record: no conversation
        return {k: v for k, v in record.items() if k != "conversations"}
    turns: list[Any] = []
    history = record.get(named["history"])
    for pair in history if isinstance(history, list) else []:
        if isinstance(pair, list) and len(pair) == 2:
            turns += [
                {"role": "user", "content": pair[0]},
                {"role": "assistant", "content": pair[1]},
            ]
        else:
            turns.append(pair)
    questions = [record.get(named["prompt"]), record.get(named["query"])]
    question = (
        "\n".join(t for t in questions if isinstance(t, str) and t)
        if any(questions)
        else questions[0]
    )
    turns += [
        {"role": "user", "content": question},
        {"role": "assistant", "content": record.get(named["response"])},
    ]
    system = named["system"]
    rest = {k: v for k, v in record.items() if k == system or k not in named.values()}
    images = columns.get("images")
    return chat.to_llava(
        {**rest, "conversations": turns},
        "conversations",
        images=(images,) if images else ("images", "image"),
        system=system or None,
    )
