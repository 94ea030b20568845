"""JSON that holds records in another shape than a list or lines: what it is, and how to turn it into one.

Pure functions over the beginning of a file (all of it where it is small).
"""

from __future__ import annotations

import json
import re
from typing import Any

from thresher.pools.paths import shown
from thresher.text import ParseError, parse_json

CONVERSATIONS = ("conversations", "messages", "texts", "instruction")  # fields that make an object a record
_LIST = re.compile(rb'\{\s*"([^"\\]{1,60})"\s*:\s*\[\s*\{')
_REPR = re.compile(rb"\[?\s*\{\s*'")


def of_text(text: bytes, whole: bool) -> str:
    """What a text that is no list and no lines of records is, and the way out; "" where that is not known.

    `text`: without a byte order mark; `whole`: whether it is all of the file.
    """
    if is_repr(text):
        return (
            "holds Python's own notation of dicts (single quotes), which is not JSON. Read each line with ast.literal_eval "
            "and write it with json.dumps"
        )
    if text.lstrip()[:1] != b"{":
        return ""
    if b"\n" not in text and text.count(b"\r") > 1:
        return r"ends its lines with CR alone, as old Macs did. Convert it: tr '\r' '\n' < IN > OUT.jsonl"
    if whole:
        try:
            return of_object(parse_json(text))
        except ParseError:
            pass
    if _several(text):
        return "holds JSON objects one after another, over several lines each. Put each on one line: jq -c . IN > OUT.jsonl"
    found = _LIST.match(text.lstrip())
    key = found[1].decode("utf-8", "replace") if found else ""
    if key and key not in CONVERSATIONS and not whole:
        return _in_key(key)
    return ""


def of_object(value: Any) -> str:
    """As `of_text`, of a decoded object that is no record."""
    if not isinstance(value, dict) or any(key in value for key in CONVERSATIONS):
        return ""
    for key, inner in value.items():
        if isinstance(inner, list) and inner and all(isinstance(one, dict) for one in inner[:20]):
            return _in_key(key, len(inner))
    rows = [v for v in value.values() if isinstance(v, dict) and any(key in v for key in CONVERSATIONS)]
    if rows and len(rows) == len(value):
        return f"is one top-level object that holds {len(rows):,} records by name. Save them as a list: jq '[.[]]' IN > OUT.json"
    return ""


def is_repr(text: bytes) -> bool:
    """Whether a text begins as Python prints a dict, or a list of them."""
    return _REPR.match(text.lstrip()) is not None


def _in_key(key: str, many: int = 0) -> str:
    held = f"a list of {many:,} objects" if many else "a list of objects"
    path = f".{key}" if re.fullmatch(r"[A-Za-z_]\w*", key, re.ASCII) else f".[{json.dumps(key)}]"
    return f"is one top-level object whose key {shown(key)!r} holds {held}. Save that list alone: jq '{path}' IN > OUT.json"


def _several(text: bytes) -> bool:
    """Whether a second object follows the first one, which goes over several lines."""
    said = text.decode("utf-8", "replace").lstrip()
    try:
        _, stop = json.JSONDecoder(strict=False, parse_int=str).raw_decode(said)
    except (ValueError, RecursionError):
        return False
    return "\n" in said[:stop] and said[stop:].lstrip()[:1] == "{"
