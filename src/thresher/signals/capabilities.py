"""The capabilities that a row may train and the styles in which it may ask: mmSSR's 14 and 9, and
the user's own from a file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from thresher.errors import ConfigError
from thresher.text import ParseError, parse_yaml


@dataclass(frozen=True)
class Capability:
    """A capability of a multimodal LLM. Only `wording` is part of a column's identity: a judge
    reads nothing else."""

    kind: ClassVar[str] = "capability"

    name: str
    """Lower-case letters, digits and underscores, as users type it."""
    definition: str
    """One line for people; for a user's own capability it is part of the wording as well."""
    wording: str = ""
    """Its name in the judge's prompt; "": `name (definition)`, underscores as spaces."""

    not_identity: ClassVar[tuple[str, ...]] = ("name", "definition")

    def __post_init__(self) -> None:
        if not self.wording:
            object.__setattr__(
                self, "wording", f"{self.name.replace('_', ' ')} ({self.definition})"
            )


def _official(wording: str, definition: str) -> Capability:
    return Capability(re.sub(r"[ -]", "_", wording), definition, wording)


CAPABILITIES: tuple[Capability, ...] = (
    _official("object spatial understanding", "where objects are, and how they are arranged"),
    _official("attribute identification", "colour, shape, size, material and state of an object"),
    _official("logical deduction", "conclusions drawn step by step from what is shown or said"),
    _official("scene understanding", "what place or situation the whole picture shows"),
    _official(
        "fine-grained recognition",
        "telling apart things of one kind, such as breeds, models or landmarks",
    ),
    _official("language generation", "fluent, detailed and well-ordered text about the picture"),
    _official(
        "in-context learning", "following examples or instructions given in the conversation"
    ),
    _official(
        "comparative analysis",
        "what several objects, pictures or values have in common and how they differ",
    ),
    _official("activity recognition", "what people or animals are doing"),
    _official("causal reasoning", "why something happened, and what follows from it"),
    _official("humanities", "history, art, literature, law and society"),
    _official("stem knowledge", "science, technology, engineering and mathematics"),
    _official("data understanding", "charts, tables, diagrams and the figures in them"),
    _official("optical character recognition", "reading text in the picture"),
)
"""In mmSSR's order, in which they take turns."""

STYLES: tuple[str, ...] = (
    "multi-choice",
    "coordinate",
    "yes/no",
    "word/short-phrase",
    "short description",
    "detailed description",
    "comparison",
    "chain-of-thought (step-by-step)",
    "specified style",
)
"""Interaction styles, in the words and order of the official query."""

_NAME = re.compile(r"[a-z0-9_]+")


def read_capabilities(file: Path) -> tuple[Capability, ...]:
    """Read the user's own capabilities.

    Arguments:
        file: a YAML map of name to definition, or a list of maps with `name` and `definition`.

    Raises ConfigError for anything else, for a name used twice and for a built-in name.
    """
    try:
        given = parse_yaml(file.read_text(encoding="utf-8-sig"))
    except OSError as e:
        raise ConfigError(f"The capabilities file {file} cannot be read: {e.strerror or e}.") from e
    except (UnicodeDecodeError, ParseError) as e:
        raise ConfigError(f"The capabilities file {file} is not YAML: {e}.") from e
    expected = (
        "Give a map with one line per capability, such as `gauge_reading: reading a value off a "
        "dial`."
    )
    if isinstance(given, Mapping):
        pairs: list[tuple[Any, Any]] = list(given.items())
    elif isinstance(given, list) and all(
        isinstance(x, Mapping) and x.keys() == {"name", "definition"} for x in given
    ):
        pairs = [(x["name"], x["definition"]) for x in given]
    else:
        raise ConfigError(f"The capabilities file {file} has no names with definitions. {expected}")
    found: dict[str, Capability] = {}
    built_in = {c.name for c in CAPABILITIES}
    for name, definition in pairs:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigError(
                f"The capabilities file {file} names {name!r}: lower-case letters, digits and "
                "underscores are expected."
            )
        if not isinstance(definition, str) or not definition.strip() or "\n" in definition.strip():
            raise ConfigError(
                f"The capabilities file {file}: {name} needs a definition of one line. {expected}"
            )
        if name in found or name in built_in:
            twice = "twice" if name in found else "like a built-in one"
            raise ConfigError(
                f"The capabilities file {file} names {name} {twice}. Give each its own name."
            )
        found[name] = Capability(name, definition.strip())
    if not found:
        raise ConfigError(f"The capabilities file {file} is empty. {expected}")
    return tuple(found.values())
