"""The body of an untrusted response as one short line: JSON of any shape, HTML, event streams,
plain text.

Pure functions. Nothing that a server sends raises an exception other than `NotJSON`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

MAX_SHOWN = 300  # characters of a server's message
_MAX_READ = 20_000  # characters of a text that are read
_KEY_PART_LENGTH = 5  # a word with this many characters of the key in a row is hidden
_MESSAGE_FIELDS = (
    "error",
    "errors",
    "message",
    "detail",
    "msg",
    "error_description",
    "reason",
    "title",
)
_PARAMETER_FIELDS = ("param", "parameter", "loc", "field")


class NotJSON(ValueError):
    """A body that is not JSON. The message says what it is instead.

    Arguments:
        message: a phrase, such as "not complete JSON".
        truncated: whether it may be JSON of which the end is missing.
    """

    def __init__(self, message: str, truncated: bool = False) -> None:
        super().__init__(message)
        self.truncated = truncated


def parse(body: bytes) -> Any:
    """The JSON value in `body`. Raises NotJSON."""
    try:
        return json.loads(body, parse_int=_integer)
    except RecursionError:
        raise NotJSON("JSON that is nested too deeply") from None
    except ValueError:
        raise NotJSON("not complete JSON", truncated=True) from None


def _integer(text: str) -> int | float:
    """An integer of more than 18 digits as a float, which may be infinite: no NumPy integer can
    store it."""
    return int(text) if len(text) <= 18 else float(text)


def replace_surrogates(text: str) -> str:
    """A text with lone surrogates replaced, which cannot be written to a file or terminal."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def one_line(text: str, most: int = MAX_SHOWN) -> str:
    """A text on one line: at most `most` printable characters.

    Arguments:
        text: of any length, with any characters.
        most: maximum number of characters.
    """
    text = replace_surrogates(text[:_MAX_READ])
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= most else text[:most] + " …"


def with_detail(text: str, detail: str) -> str:
    """A text, a colon and a detail on one line; only the text if the detail is blank.

    Arguments:
        text: what happened.
        detail: of any length, such as a server's message.
    """
    detail = one_line(detail)
    return f"{text}: {detail}" if detail else text


def redact_key(text: str, key: str | None) -> str:
    """The text with every word hidden that contains a part of the key: some servers show its
    beginning or its end.

    Arguments:
        text: of a server.
        key: API key; None: nothing is hidden.
    """
    if not key:
        return text
    text = text.replace(key, "[key]")
    parts = [key[i : i + _KEY_PART_LENGTH] for i in range(max(len(key) - _KEY_PART_LENGTH + 1, 0))]
    return re.sub(
        r"\S+", lambda word: "[key]" if any(p in word[0] for p in parts) else word[0], text
    )


def body_message(body: bytes, key: str | None = None) -> str:
    """The message of a response, on one line, without the key and a final full stop.

    Arguments:
        body: of the response; "" is returned for an empty one.
        key: API key to hide.
    """
    try:
        found = parse(body)
    except NotJSON:
        message = _summary(body.decode("utf-8", "replace")[:_MAX_READ])
    else:
        message = message_in(found)
    return one_line(redact_key(message, key)).rstrip(". ")


def message_in(found: Any) -> str:
    """The message in a JSON value: of an error object, a list of faults, or the value itself.

    >>> message_in([{"error": {"code": 429, "message": "Quota exceeded"}}])
    'Quota exceeded'
    >>> message_in({"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]})
    'body.seed: Extra inputs are not permitted'
    """
    try:
        return " ".join(_messages(found)) or json.dumps(found, ensure_ascii=False)
    except RecursionError:
        return "JSON that is nested too deeply"


def _messages(found: Any) -> Iterator[str]:
    if isinstance(found, str):
        yield from (found,) if found.strip() else ()
    elif isinstance(found, list):
        for entry in found[:5]:
            yield from _messages(entry)
    elif isinstance(found, dict):
        message: list[str] = []
        for name in _MESSAGE_FIELDS:
            if not message and found.get(name):
                message = list(_messages(found[name]))
        loc = found.get("loc")
        if message and isinstance(loc, list):
            path = ".".join(str(part) for part in loc if isinstance(part, (str, int)))
            message[0] = f"{path}: {message[0]}"
        yield from message
        upstream = found.get("metadata")  # OpenRouter: the message of the server behind it
        if message and isinstance(upstream, dict) and isinstance(upstream.get("raw"), str):
            yield f"({upstream['raw']})"


def parameters_in(found: Any) -> tuple[str, ...]:
    """The parameters that an error names in a field for that (`param`, `loc`), outermost first:
    ("messages", "content").

    >>> parameters_in({"error": {"message": "no", "param": "temperature"}})
    ('temperature',)
    """
    out: dict[str, None] = {}
    try:
        for value in _parameter_values(found):
            for part in value if isinstance(value, list) else re.split(r"[.\[\]]+", value):
                if isinstance(part, str) and part and part != "body" and not part.isdigit():
                    out[part] = None
    except RecursionError:
        return ()
    return tuple(out)


def _parameter_values(found: Any) -> Iterator[Any]:
    if isinstance(found, list):
        for entry in found[:5]:
            yield from _parameter_values(entry)
    elif isinstance(found, dict):
        for name in _PARAMETER_FIELDS:
            if isinstance(found.get(name), (str, list)):
                yield found[name]
        for name in (*_MESSAGE_FIELDS, "message"):
            if isinstance(found.get(name), (dict, list)):
                yield from _parameter_values(found[name])


def _summary(text: str) -> str:
    """The title or text of an HTML page, the beginning of an event stream, or the text itself."""
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
