"""Errors for users. Each message says what was given, what was expected and what to do.

    ThresherError
    ├── ConfigError         exit code 2
    ├── PoolError
    ├── ImageError
    ├── ModelError
    │   ├── NotAModel       exit code 2
    │   ├── CapabilityError exit code 2
    │   └── ServerError
    ├── CapReached
    ├── MissingExtra        exit code 2
    ├── StoreError
    ├── TrackerError
    └── TooManyFailures

The command line prints the message and exits with code 1 (the data or the run failed) or 2 (the
command was wrong). Any other exception is a bug and keeps its traceback.

Messages name options by `opt("model", "demo")`, never by a flag: the command line writes that as
`--model demo`, Python as `model="demo"`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

Spell = Callable[[str, object], str]  # name and value (None: no value) of an option -> text

SETTING = "settings."  # before the name of a method's setting: opt("settings.keep", 0.3)
_OPEN, _VALUE, _CLOSE = "\ufdd0\ufdd1\ufdd2"  # Unicode noncharacters: they occur in no text
_REFERENCE = re.compile(f"{_OPEN}([^{_VALUE}]*){_VALUE}([^{_CLOSE}]?)([^{_CLOSE}]*){_CLOSE}", re.S)


def opt(name: str, value: object = None) -> str:
    """A reference to an option, for a message; each interface writes it in its own way.

    Arguments:
        name: a field of the request, or another parameter; "settings.keep" is the setting `keep`
            of a method.
        value: what was given or should be given; None for no value, True for a switch.
    """
    kind = {type(None): "", bool: "b", int: "n", float: "n"}.get(type(value), "s")
    text = f"{value:g}" if isinstance(value, float) else "" if value is None else str(value)
    return f"{_OPEN}{name}{_VALUE}{kind}{text}{_CLOSE}"


def spelled(message: str, spell: Spell) -> str:
    """A message with its references to options as `spell` writes them.

    Arguments:
        message: a text with references.
        spell: writes one reference: `in_python`, `as_flag` or `as_yaml`.
    """

    def write(found: re.Match[str]) -> str:
        name, kind, text = found.groups()
        if not kind:
            return spell(name, None)
        return spell(name, text == "True" if kind == "b" else text)

    return _REFERENCE.sub(write, message)


def in_python(name: str, value: object) -> str:
    """An option as a keyword argument, such as `budget="30%"`; a `Spell`.

    Arguments:
        name: as in `opt`.
        value: of the option; None: the name alone.
    """
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        value = f'"{value}"'
    if name.startswith(SETTING):
        return f'settings={{"{name[len(SETTING) :]}": {"…" if value is None else value}}}'
    return f"`{name}`" if value is None else f"{name}={value}"


_NUMBER = re.compile(r"[-+]?\d+(\.\d*)?(e[-+]?\d+)?|nan|[-+]?inf")


class ThresherError(Exception):
    """Base class of all errors caused by the user's input or environment.

    `str` gives the message as a Python user reads it, `spelled` in any other way.

    Arguments:
        message: may contain references to options (`opt`).
        option: the option that is wrong, named as in `opt`; the message then begins with it and
            `message` is what follows.
        value: the value that was given for it.
    """

    exit_code = 1

    def __init__(self, message: str = "", *, option: str = "", value: object = None) -> None:
        self.option, self.value = option, value
        self.message = (opt(option, value) if option else "") + message  # references are marked
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.spelled(in_python)

    def spelled(self, spell: Spell) -> str:
        """The message, with options as `spell` writes them."""
        return spelled(self.message, spell)


class ConfigError(ThresherError):
    """The request is wrong: unknown method, unknown key, impossible budget."""

    exit_code = 2


class PoolError(ThresherError):
    """The pool cannot be read: missing, empty, truncated, unknown format, no image folder."""


class ImageError(ThresherError):
    """An image cannot be used. Stored as its row's failure, not raised to the user.

    Arguments:
        message: what is wrong with the image.
        kind: the reason, as a kind of finding of `thresher doctor`.
    """

    def __init__(self, message: str, kind: str = "broken-image") -> None:
        super().__init__(message)
        self.kind = kind


class ModelError(ThresherError):
    """A model cannot be used: damaged files, not enough memory, its fast path is not exact."""


class NotAModel(ModelError):
    """What was given as the model is not a multimodal LLM: no such folder or hub id, not a model
    folder, text only."""

    exit_code = 2


class CapabilityError(ModelError):
    """A model lacks what a method needs, such as losses of given texts from a server."""

    exit_code = 2


class ServerError(ModelError):
    """A model's server refuses requests or does not respond."""


class CapReached(ThresherError):
    """The run stopped at its limit of requests or of cost. Results so far are stored."""


class MissingExtra(ThresherError):
    """An optional package is missing; the message contains the install command."""

    exit_code = 2


class StoreError(ThresherError):
    """The store cannot be read or written (disk full, no permission, damaged part)."""


class Notice(UserWarning):
    """What a user should know while a command runs; the command line shows it as a note."""


class TrackerError(ThresherError):
    """A tracker of experiments cannot begin a run: no login, no server, no permission."""


class TooManyFailures(ThresherError):
    """Too many rows failed for a selection from the rest to be meaningful."""


def reason_of(error: BaseException) -> str:
    """The first line of an exception's message without its full stop, or the name of its class if
    it has no message.

    Arguments:
        error: that any library raised. A KeyError's message is only the key, so its class is
            named, too.

    >>> [reason_of(e) for e in (ValueError("Too large.\\nSee below."), KeyError("a"), OSError())]
    ['Too large', "KeyError: 'a'", 'OSError']
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0][:300].rstrip(". ") if lines else ""
    if not text:
        return type(error).__name__
    return f"{type(error).__name__}: {text}" if isinstance(error, KeyError) else text


def named_reason(error: BaseException) -> str:
    """The name of an exception's class and its `reason_of`; only the name if it has no message.

    Arguments:
        error: that any library raised.

    >>> named_reason(ValueError("Too large.")), named_reason(StopIteration())
    ('ValueError: Too large', 'StopIteration')
    """
    name, text = type(error).__name__, reason_of(error)
    return text if text == name or isinstance(error, KeyError) else f"{name}: {text}"


def did_you_mean(given: str, known: list[str]) -> str:
    """A hint for a misspelt name: `" Did you mean 'clipper'?"`, or "" if no known name is close.

    Arguments:
        given: the unknown name.
        known: the names that exist.
    """
    import difflib

    hit = difflib.get_close_matches(given, known, n=1, cutoff=0.6)
    return f" Did you mean {hit[0]!r}?" if hit else ""
