"""JSON files whose records are not in a list or in lines: what they are, and how to convert them.

Pure functions over the beginning of a file (all of a small one).
"""

from __future__ import annotations

import json
import re
from typing import Any

from thresher.pools.paths import printable
from thresher.text import ParseError, parse_json

# fields that make an object a record
CONVERSATION_KEYS = ("conversations", "messages", "texts", "instruction")
_LIST = re.compile(rb'\{\s*"([^"\\]{1,60})"\s*:\s*\[\s*\{')
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_REPR = re.compile(rb"\[?\s*\{\s*'")


def describe_text(text: bytes, is_complete: bool) -> str:
    """What a text that is neither a list nor lines of records is, and how to fix it; "" if unknown.

    Arguments:
        text: the beginning of the file, without a byte order mark.
        is_complete: whether it is the whole file.
    """
    if is_repr(text):
        return (
            "contains Python dict literals (single quotes), which are not JSON. Read each "
            "line with ast.literal_eval and write it with json.dumps"
        )
    if text.startswith(LFS_POINTER):
        return "is a Git LFS pointer in place of the file. Fetch it: git lfs pull"
    if text[:200].lower().lstrip().startswith((b"<!doctype html", b"<html")):
        return "is an HTML page, as a failed download leaves it. Download the file again"
    if text.lstrip()[:1] != b"{":
        return ""
    if b"\n" not in text and text.count(b"\r") > 1:
        return (
            r"has CR line endings (classic Mac OS). Convert it: tr '\r' '\n' < IN > "
            r"OUT.jsonl"
        )
    if is_complete:
        try:
            return describe_object(parse_json(text))
        except ParseError:
            pass
    if _is_concatenated(text):
        return (
            "has concatenated JSON objects, not one per line. Put each on one line: jq -c . "
            "IN > OUT.jsonl"
        )
    found = _LIST.match(text.lstrip())
    key = found[1].decode("utf-8", "replace") if found else ""
    if key and key not in CONVERSATION_KEYS and not is_complete:
        return _describe_nested_list(key)
    return ""


def describe_object(value: Any) -> str:
    """As `describe_text`, for a decoded object that is not a record."""
    if not isinstance(value, dict):
        return ""
    if columns := _describe_table_by_columns(value):
        return columns
    if any(key in value for key in CONVERSATION_KEYS):
        return ""
    for key, inner in value.items():
        if isinstance(inner, list) and inner and all(isinstance(one, dict) for one in inner[:20]):
            return _describe_nested_list(key, len(inner))
    rows = [
        v
        for v in value.values()
        if isinstance(v, dict) and any(key in v for key in CONVERSATION_KEYS)
    ]
    if rows and len(rows) == len(value):
        return (
            f"is one top-level object that holds {len(rows):,} records by name. Save them as a "
            "list: jq '[.[]]' IN > OUT.json"
        )
    for key, inner in value.items():
        for below, held in inner.items() if isinstance(inner, dict) else ():
            if isinstance(held, list) and held and all(isinstance(one, dict) for one in held[:20]):
                return _describe_nested_list(key, len(held), below)
    return ""


def is_repr(text: bytes) -> bool:
    """Whether a text begins like Python's repr of a dict or of a list of dicts."""
    return _REPR.match(text.lstrip()) is not None


def _describe_table_by_columns(value: dict[str, Any]) -> str:
    """How to fix a table by columns, as pandas writes it; "" if the value is none.

    {"conversations": [[…], […]]} or {"conversations": {"0": […]}}
    """
    turns = next((value[key] for key in CONVERSATION_KEYS[:2] if key in value), None)
    if not isinstance(turns, (list, dict)):
        return ""
    many = len(turns)
    numbered = isinstance(turns, dict) and "0" in turns and all(key.isdigit() for key in turns)
    listed = isinstance(turns, list) and many > 0 and all(isinstance(one, list) for one in turns)
    if not (numbered or listed) or not all(
        type(v) is type(turns) and len(v) == many for v in value.values()
    ):
        return ""
    return (
        f"is a table of {many:,} rows by columns, as pandas writes it. Write it by rows: "
        'df.to_json("OUT.jsonl", orient="records", lines=True)'
    )


def _describe_nested_list(key: str, many: int = 0, below: str = "") -> str:
    content = f"a list of {many:,} objects" if many else "a list of objects"
    keys = [key, below] if below else [key]
    path = "".join(
        f".{k}" if re.fullmatch(r"[A-Za-z_]\w*", k, re.ASCII) else f".[{json.dumps(k)}]"
        for k in keys
    )
    return (
        f"is one top-level object whose key {printable('.'.join(keys))!r} holds {content}. Save "
        f"that "
        f"list only: jq '{path}' IN > OUT.json"
    )


def _is_concatenated(text: bytes) -> bool:
    """Whether a second object follows the first one, which spans several lines."""
    decoded = text.decode("utf-8", "replace").lstrip()
    try:
        _, stop = json.JSONDecoder(strict=False, parse_int=str).raw_decode(decoded)
    except (ValueError, RecursionError):
        return False
    complete = (
        "\n" in decoded[:stop] or "\n" not in decoded.strip()
    )  # not one invalid line of several
    return complete and decoded[stop:].lstrip(" \t\r\n,")[:1] == "{"
