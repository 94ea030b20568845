"""What a server says, read without trust: JSON of any shape, HTML, streams of events and plain text
as one short line.

Pure. Nothing that a server sends ends in an exception other than `Unreadable`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

SHOWN = 300  # characters of what a server says that are shown
_READ = 20_000  # characters of a text that are looked at
_KEY_PART = 5  # characters of the key that are enough to hide a word
_SAYING = ("error", "errors", "message", "detail", "msg", "error_description", "reason", "title")
_NAMING = ("param", "parameter", "loc", "field")


class Unreadable(ValueError):
    """A body that is no JSON. The text says what it is instead."""


def parse(body: bytes) -> Any:
    """The JSON value in `body`. Raises Unreadable."""
    try:
        return json.loads(body, parse_int=_integer)
    except RecursionError:
        raise Unreadable("JSON that is nested too deeply") from None
    except ValueError:
        raise Unreadable("no whole JSON") from None


def _integer(text: str) -> int | float:
    """An integer of more than 18 digits as a float, which may be infinite: no array holds it
    exactly."""
    return int(text) if len(text) <= 18 else float(text)


def clean(text: str) -> str:
    """A text without lone surrogates, which no file or terminal takes."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def one_line(text: str, most: int = SHOWN) -> str:
    """A text on one line: printable characters only, at most `most` of them."""
    text = clean(text[:_READ])
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= most else text[:most] + " …"


def without_key(text: str, key: str | None) -> str:
    """The text, every word that repeats a part of the key replaced: some servers show its beginning
    or its end."""
    if not key:
        return text
    text = text.replace(key, "[key]")
    parts = [key[i : i + _KEY_PART] for i in range(max(len(key) - _KEY_PART + 1, 0))]
    return re.sub(
        r"\S+", lambda word: "[key]" if any(p in word[0] for p in parts) else word[0], text
    )


def words(body: bytes, key: str | None = None) -> str:
    """What the server says in `body`, on one line, without the key and a final full stop; "" for an
    empty body."""
    try:
        found = parse(body)
    except Unreadable:
        said = _of_text(body.decode("utf-8", "replace")[:_READ])
    else:
        said = said_in(found)
    return one_line(without_key(said, key)).rstrip(". ")


def said_in(found: Any) -> str:
    """The message in a JSON value: of an error object, a list of faults, or the value itself.

    >>> said_in([{"error": {"code": 429, "message": "Quota exceeded"}}])
    'Quota exceeded'
    >>> said_in({"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]})
    'body.seed: Extra inputs are not permitted'
    """
    try:
        return " ".join(_sayings(found)) or json.dumps(found, ensure_ascii=False)
    except RecursionError:
        return "JSON that is nested too deeply"


def _sayings(found: Any) -> Iterator[str]:
    if isinstance(found, str):
        yield from (found,) if found.strip() else ()
    elif isinstance(found, list):
        for entry in found[:5]:
            yield from _sayings(entry)
    elif isinstance(found, dict):
        said: list[str] = []
        for name in _SAYING:
            if not said and found.get(name):
                said = list(_sayings(found[name]))
        loc = found.get("loc")
        if said and isinstance(loc, list):
            said[0] = (
                f"{'.'.join(str(part) for part in loc if isinstance(part, (str, int)))}: {said[0]}"
            )
        yield from said
        upstream = found.get("metadata")  # OpenRouter: what the server behind this one said
        if said and isinstance(upstream, dict) and isinstance(upstream.get("raw"), str):
            yield f"({upstream['raw']})"


def named_parameters(found: Any) -> tuple[str, ...]:
    """The parameters that an error names in a field for that (`param`, `loc`), outermost first:
    ("messages", "content").

    >>> named_parameters({"error": {"message": "no", "param": "temperature"}})
    ('temperature',)
    """
    out: dict[str, None] = {}
    try:
        for value in _named(found):
            for part in value if isinstance(value, list) else re.split(r"[.\[\]]+", value):
                if isinstance(part, str) and part and part != "body" and not part.isdigit():
                    out[part] = None
    except RecursionError:
        return ()
    return tuple(out)


def _named(found: Any) -> Iterator[Any]:
    if isinstance(found, list):
        for entry in found[:5]:
            yield from _named(entry)
    elif isinstance(found, dict):
        for name in _NAMING:
            if isinstance(found.get(name), (str, list)):
                yield found[name]
        for name in (*_SAYING, "message"):
            if isinstance(found.get(name), (dict, list)):
                yield from _named(found[name])


def _of_text(text: str) -> str:
    """Of a page its title or its text, of a stream of events its first one, of anything else
    itself."""
    bare = text.lstrip("\ufeff \r\n\t")
    if bare.startswith("data:") or bare.startswith("event:"):
        return f"a stream of events: {bare}"
    if not bare.startswith("<"):
        return text
    for tag in ("title", "h1"):
        found = re.search(rf"<{tag}\b[^<>]*>([^<]+)", bare, re.IGNORECASE)
        if found and found[1].strip():
            return found[1]
    return re.sub(r"<[^<>]*>", " ", bare)
