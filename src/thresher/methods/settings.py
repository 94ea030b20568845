"""A method's own settings: parsed from `--set key=value`, and listed by `thresher methods`.

A method is a frozen dataclass and its fields are its settings. Types allowed: int, float, bool,
str, Literal of texts, and `X | None` (written `none`). Anything else, and any unknown name, is an
error: settings decide the result, so nothing is guessed.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from thresher.errors import ConfigError, did_you_mean

_hints = functools.cache(typing.get_type_hints)  # evaluates every annotation of the class
_SWITCH = {"true": "on", "false": "off"}  # what YAML makes of an unquoted on and off


def setting(default: Any, help: str, *, role: bool = False) -> Any:
    """A dataclass field that is a setting of a method.

    Arguments:
        default: its value if the user gives none.
        help: a sentence for `thresher methods`.
        role: whether the value names a further model (a folder, a hub id, a server's URL), with the
            field's name as its role; None and "model" mean the model of `--model`.
    """
    return dataclasses.field(default=default, metadata={"help": help, "role": role})


@dataclass(frozen=True)
class Setting:
    """One row of a method's settings table.

    type: "a number", "a whole number", "true or false", "text", or the choices joined by |.
    default: as the user would type it.
    """

    name: str
    type: str
    default: str
    help: str


def settings_of(cls: type) -> tuple[Setting, ...]:
    """The settings of a method class, in the order of its fields."""
    hints = _hints(cls)
    return tuple(
        Setting(
            f.name, _describe(hints[f.name]), as_text(f.default), str(f.metadata.get("help", ""))
        )
        for f in dataclasses.fields(cls)
    )


def parse(cls: type, given: Mapping[str, str], method: str) -> dict[str, Any]:
    """Parse the values of settings.

    Arguments:
        cls: the method's class.
        given: name -> value as the user types it.
        method: the method's name, for messages.

    Returns name -> value of the field's type. Raises ConfigError for an unknown name or a value of
    the wrong type.
    """
    hints = _hints(cls)
    known = [f.name for f in dataclasses.fields(cls)]
    values: dict[str, Any] = {}
    for key, text in given.items():
        if key not in known:
            listed = f"It has: {', '.join(known)}." if known else "It has no settings."
            raise ConfigError(
                f": {method} has no setting {key!r}.{did_you_mean(key, known)} {listed}",
                option=f"settings.{key}",
                value=text,
            )
        try:
            values[key] = _value(hints[key], text.strip())
        except ValueError:
            raise ConfigError(
                f": {key} of {method} must be {_describe(hints[key])}.",
                option=f"settings.{key}",
                value=text,
            ) from None
    return values


def as_text(value: Any) -> str:
    """A value as the user would type it; the inverse of `parse`."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _options(hint: Any) -> tuple[Any, bool]:
    """The type of a field without None, and whether None is allowed."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        rest = [a for a in typing.get_args(hint) if a is not type(None)]
        assert len(rest) == 1, f"a setting has one type, or one and None: {hint}"
        return rest[0], True
    return hint, False


def _value(hint: Any, text: str) -> Any:
    """Raises ValueError if `text` is not a value of the type."""
    kind, optional = _options(hint)
    if optional and text.lower() == "none":
        return None
    if typing.get_origin(kind) is typing.Literal:
        choices = typing.get_args(kind)
        if text in _SWITCH and _SWITCH[text] in choices and text not in choices:
            return _SWITCH[text]
        if text not in choices:
            raise ValueError(text)
        return text
    if kind is bool:
        if text.lower() in ("true", "yes", "1"):
            return True
        if text.lower() in ("false", "no", "0"):
            return False
        raise ValueError(text)
    if kind is int:
        return int(text)
    if kind is float:
        number = float(text)
        if not math.isfinite(number):
            raise ValueError(text)
        return number
    assert kind is str, f"a setting cannot have type {hint}"
    return text


def _describe(hint: Any) -> str:
    kind, optional = _options(hint)
    if typing.get_origin(kind) is typing.Literal:
        text = " | ".join(str(a) for a in typing.get_args(kind))
    else:
        text = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[kind]
    return text + (" | none" if optional else "")
