"""Parsing text from users' files: lines, JSON and YAML with limits.

Every reader of a user's JSON or YAML goes through `parse_json` or `parse_yaml`: both reject input
that would crash the process later (deep nesting, exponentially expanding aliases, integers of
thousands of digits) with a readable reason. Pure functions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

MAX_DEPTH = 200  # levels of nesting: Python's own limit is about 1,000 frames, shared with callers
MAX_YAML = 4 << 20  # characters
MAX_YAML_NODES = 1_000_000  # values once all aliases are expanded

_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*(?:"|\Z)|[\[\]{}]', re.DOTALL)
TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep"


class ParseError(ValueError):
    """Invalid JSON or YAML, or input beyond the limits. The message is the reason."""


def split_lines(text: str) -> Iterator[str]:
    r"""The lines of a text file, without their ends: they end at "\n" (or "\r\n") and nowhere else.

    `str.splitlines` also cuts at U+2028, U+0085, "\f" and others, which JSON allows inside a
    string.

    >>> list(split_lines("a\u2028b\r\nc\n"))
    ['a\u2028b', 'c']
    """
    rows = text.split("\n")
    if rows[-1] == "":
        rows.pop()
    return (row.removesuffix("\r") for row in rows)


def parse_json(text: str | bytes) -> Any:
    """Parse JSON; bytes are UTF-8, with lone surrogates for invalid bytes. Raises ParseError.

    >>> parse_json(b'[1, {"a": null}]')
    [1, {'a': None}]
    """
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if too_deep(raw):
        raise ParseError(TOO_DEEP)
    decoded = text if isinstance(text, str) else text.decode("utf-8", "surrogateescape")
    try:
        return json.loads(decoded)
    except RecursionError:
        raise ParseError(TOO_DEEP) from None
    except ValueError as error:
        raise ParseError(json_reason(error)) from error


def json_reason(error: ValueError) -> str:
    """Why `json` rejected a text."""
    if isinstance(error, json.JSONDecodeError):
        if error.lineno > 1:
            return (
                f"{error.msg.removesuffix(' at')} at line {error.lineno}, character "
                f"{error.colno - 1}"
            )
        return f"{error.msg.removesuffix(' at')} at character {error.pos}"
    if "int" in str(error).lower() and "digits" in str(error):  # sys.get_int_max_str_digits
        return "a whole number of more than 4,300 digits"
    return str(error)


def too_deep(raw: bytes) -> bool:
    """Whether a JSON text nests more than `MAX_DEPTH` lists and objects. Linear in its length."""
    if raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:  # nearly every record
        return False
    depth = 0
    for found in _BRACKET.finditer(raw):
        sign = found[0]
        if sign in (b"[", b"{"):
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif sign in (b"]", b"}"):
            depth -= 1
    return False


def too_deep_at(text: str, start: int, stop: int) -> bool:
    """As `too_deep`, for part of a text.

    Arguments:
        text: JSON text.
        start, stop: the part, as for a slice.
    """
    if text.count("[", start, stop) + text.count("{", start, stop) <= MAX_DEPTH:
        return False
    return too_deep(text[start:stop].encode("utf-8", "surrogatepass"))


def closing_bracket(text: str, start: int) -> int:
    """Index one past the bracket that closes the one at `start`; -1 if the text ends first.

    Looks only at brackets and strings, so that invalid or too deep values can be skipped.

    Arguments:
        text: JSON text.
        start: index of an opening bracket.
    """
    depth = 0
    for found in _BRACKET_TEXT.finditer(text, start):
        sign = found[0]
        if sign in "[{":
            depth += 1
        elif sign in "]}":
            depth -= 1
            if depth <= 0:
                return found.end()
    return -1


_BRACKET_TEXT = re.compile(_BRACKET.pattern.decode("ascii"), re.DOTALL)


def parse_yaml(text: str) -> Any:
    """Parse a YAML document.

    Raises ParseError: invalid, too long, too deep, exploding aliases, or a key given twice.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    if len(text) > MAX_YAML:
        raise ParseError(f"{len(text):,} characters of YAML: at most {MAX_YAML:,} are read")
    try:
        _limit(yaml.parse(text, Loader=loader))
        _refuse_repeated_keys(yaml.compose(text, Loader=loader))
        return yaml.load(text, Loader=loader)
    except RecursionError:
        raise ParseError(TOO_DEEP) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark is not None else ""
        raise ParseError(
            where + (error.problem or error.context or "it cannot be parsed")
        ) from error
    except yaml.YAMLError as error:  # characters that YAML does not take
        raise ParseError(" ".join(str(error).split())[:300]) from error
    except ParseError:
        raise
    except ValueError as error:  # a date such as 2024-13-45, a number of thousands of digits
        raise ParseError(json_reason(error)) from error


def _refuse_repeated_keys(root: Any) -> None:
    """Raises ParseError if a mapping has a key twice: YAML would silently take the last."""
    import yaml

    waiting, visited = [root], set()
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in visited or isinstance(node, yaml.ScalarNode):
            continue
        visited.add(id(node))
        if not isinstance(node, yaml.MappingNode):
            waiting += node.value
            continue
        first: dict[tuple[str, str], int] = {}
        for key, value in node.value:
            waiting += [key, value]
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            line, name = key.start_mark.line + 1, (key.tag, key.value)
            if name in first:
                raise ParseError(
                    f"line {line}: the key {key.value!r} is given twice, first in line "
                    f"{first[name]}"
                )
            first[name] = line


def _limit(events: Any) -> None:
    """Raises ParseError for a document too deep, or too large once its aliases are expanded."""
    import yaml

    # each open collection's anchor, and values before
    open_collections: list[tuple[str | None, int]] = []
    sizes: dict[str, int] = {}  # anchor -> number of values
    nodes = 0
    for event in events:
        line = event.start_mark.line + 1
        name: Any = getattr(event, "anchor", None)
        if isinstance(event, yaml.AliasEvent):
            if name not in sizes and any(name == opened for opened, _ in open_collections):
                raise ParseError(f"line {line}: *{name} refers to itself")
            nodes += sizes.get(name, 1)
        elif isinstance(event, yaml.ScalarEvent):
            nodes += 1
            if name:
                sizes[name] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            nodes += 1
            open_collections.append((name, nodes))
            if name:
                sizes.pop(name, None)
            if len(open_collections) > MAX_DEPTH:
                raise ParseError(f"line {line}: {TOO_DEEP}")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_collections.pop()
            if anchor:
                sizes[anchor] = nodes - before + 1
        if nodes > MAX_YAML_NODES:
            raise ParseError(
                f"more than {MAX_YAML_NODES:,} values once its aliases (*name) are expanded"
            )
