"""Layouts: which fields of a record hold the conversation. One table; the layout of a file is
detected from its first records.

A layout converts a record to the LLaVA layout; containers (JSON, parquet, tar) are independent of
it (`readers.py`). A record's meaning depends on that record only: all chat layouts are read by the
same rules, so that a `system`, `messages` or role that first appears late in a file is read as it
would be at its beginning. Pure functions over decoded values.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from thresher.pools import alpaca, chat, llava, messages, question_answer_pairs, sharegpt, swift
from thresher.text import parse_json

Convert = Callable[[Mapping[str, Any]], dict[str, Any]]

_CONVERSATION_KEYS = ("conversations", "messages", "texts")  # fields with a conversation
# a JSON object of the fields that had no column (what our parquet exports write)
EXTRA = "extra_json"

# name -> what it looks like, conversion (None: declared in a file)
LAYOUTS: dict[str, tuple[str, Convert | None]] = {
    "llava": ('"conversations": [{"from", "value"}], "image"', sharegpt.to_llava),
    "sharegpt": ('"conversations" or "messages", "images", "system"', sharegpt.to_llava),
    "swift": ('"messages": [{"role", "content"}], "images" (JSONL)', swift.to_llava),
    "messages": ('"messages": [{"role", "content": text or parts}]', messages.to_llava),
    "texts": ('"texts": [{"user", "assistant"}], "images"', question_answer_pairs.to_llava),
    "alpaca": ('"instruction", "input", "output"', alpaca.to_llava),
    "llamafactory": ("the columns and tags of a dataset_info.json", None),
}


def recognise_layouts(record: Any, kind: str) -> tuple[str, ...]:
    """The layouts that a record could have; () if there is none.

    Arguments:
        record: decoded JSON.
        kind: "json", "jsonl" or another container.

    >>> turns = [{"role": "user", "content": "Q"}]
    >>> recognise_layouts({"messages": turns, "images": ["a.png"]}, "jsonl")
    ('swift',)
    """
    if not isinstance(record, dict):
        return ()
    found: list[str] = []
    turns = record.get("conversations")
    if isinstance(turns, (list, dict)) and turns:
        if EXTRA in record:
            return ("llava",)  # an export of thresher's
        first = turns[0] if isinstance(turns, list) else turns
        has_role_key = isinstance(first, dict) and "role" in first and "from" not in first
        has_system = any(isinstance(record.get(k), str) and record[k] for k in ("system", "tools"))
        found.append(
            "sharegpt" if has_role_key or has_system or isinstance(turns, dict) else "llava"
        )
    turns = record.get("messages")
    if isinstance(turns, (list, dict)) and turns:
        listed = turns if isinstance(turns, list) else []
        if any(isinstance(t, dict) and isinstance(t.get("content"), list) for t in listed):
            found.append("messages")
        elif (
            any(isinstance(t, dict) and "from" in t for t in listed)
            or record.get("system")
            or record.get("tools")
        ):
            found.append("sharegpt")
        elif any(
            k in record for k in ("images", "videos", "objects", "rejected_response", "audios")
        ):
            found.append("swift" if kind == "jsonl" else "sharegpt")
        else:
            found.append("messages")
    turns = record.get("texts")
    if (
        isinstance(turns, (list, dict))
        and turns
        and (isinstance(turns, dict) or isinstance(turns[0], dict))
    ):
        found.append("texts")
    if not found and "instruction" in record and "output" in record:
        found.append("alpaca")
    return tuple(found)


def make_converter(layout: str, columns: str = "", chosen: bool = False) -> Convert | None:
    """The function that converts a record to the LLaVA layout; None if the layout needs none.

    Arguments:
        layout: a name of `LAYOUTS`.
        columns: for "llamafactory", JSON of the entry of dataset_info.json.
        chosen: the user named the layout. Otherwise a record with two conversations is unreadable:
            which of them counts must not depend on the other records of its file.
    """
    if layout == "llamafactory":
        return _restoring_extra_fields(_declared_converter(json.loads(columns)))
    convert = LAYOUTS[layout][1]
    if convert is None:
        return None
    return _restoring_extra_fields(
        convert if chosen else partial(_convert_single_conversation, convert, layout)
    )


def restore_extra_fields(record: dict[str, Any]) -> dict[str, Any]:
    """The record with the fields of `extra_json` restored; columns without a value become absent
    fields.
    """
    text = record.get(EXTRA)
    if not isinstance(text, str):
        return record
    try:
        extra = parse_json(text) if text else {}
    except ValueError:
        return record
    if not isinstance(extra, dict):
        return record
    out = {k: v for k, v in record.items() if k != EXTRA and v is not None}
    if "conversations" in extra:
        out.pop("messages", None)
    return out | extra


def describe_layouts() -> str:
    """The layouts as text for a message."""
    return "; ".join(
        f"{name}: {example}" for name, (example, _) in LAYOUTS.items() if name != "llamafactory"
    )


def _restoring_extra_fields(convert: Convert) -> Convert:
    def restored(record: Mapping[str, Any]) -> dict[str, Any]:
        if EXTRA in record:
            full_record = restore_extra_fields(dict(record))
            if (
                "conversations" in full_record
                and "messages" in record
                and "messages" not in full_record
            ):  # the turns that did not fit the columns
                turns = full_record.pop("conversations")
                return {
                    **convert({**full_record, "messages": record["messages"]}),
                    "conversations": turns,
                }
            return convert(full_record)
        return convert(record)

    return restored


def _convert_single_conversation(
    convert: Convert, layout: str, record: Mapping[str, Any]
) -> dict[str, Any]:
    """The record converted by `convert`, if it holds exactly one conversation."""
    if "messages" in record or "texts" in record or layout == "alpaca":
        present = [
            key
            for key in _CONVERSATION_KEYS
            if isinstance(record.get(key), (list, dict)) and record[key]
        ]
        if len(present) > 1 and len(names := recognise_layouts(record, "")) > 1:
            keys = " and ".join(f"`{key}`" for key in present)
            unclear = llava.AmbiguousTurns(
                f"a conversation in each of {keys}; say which with --format {' or '.join(names)}"
            )
            return {**record, "conversations": unclear}
        if present and layout == "alpaca":
            return sharegpt.to_llava(record)  # as in a file with only such records
    return convert(record)


def _declared_converter(entry: Mapping[str, Any]) -> Convert:
    """The conversion that an entry of dataset_info.json declares, with LLaMA-Factory's defaults."""
    columns = entry.get("columns") or {}
    if entry.get("formatting", "alpaca") == "alpaca":
        return partial(alpaca.to_llava, columns=columns or alpaca.COLUMNS)
    tags = entry.get("tags") or {}
    role_names = {
        tags.get("user_tag", "human"): "human",
        tags.get("assistant_tag", "gpt"): "gpt",
        tags.get("system_tag", "system"): "system",
    }
    convert = partial(
        chat.to_llava,
        key=columns.get("messages", "conversations"),
        images=(columns["images"],) if columns.get("images") else ("images",),
        system=columns.get("system"),
        role=(tags.get("role_tag", "from"),),
        content=(tags.get("content_tag", "value"),),
        role_names=role_names,
    )
    renamed_media = {
        kind: columns[kind] for kind in ("videos", "audios") if columns.get(kind, kind) != kind
    }
    if not renamed_media:
        return convert

    def with_media(record: Mapping[str, Any]) -> dict[str, Any]:
        out = convert(record)
        for kind, column in renamed_media.items():
            if out.get(column):
                out[kind] = out.pop(column)
        return out

    return with_media


def common_layout(found: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """The one layout that can read several records of a file; () if there is none."""
    distinct: dict[str, None] = {}
    for names in found:
        if len(names) > 1:
            return names
        distinct.update(dict.fromkeys(names))
    if len(distinct) <= 1:
        return tuple(distinct)
    chats = [name for name in distinct if name in ("llava", "sharegpt", "swift", "messages")]
    if not chats:
        return tuple(distinct)[:1]
    return (
        ("swift",) if set(chats) == {"swift", "messages"} else ("sharegpt",)
    )  # which takes conversations and messages
