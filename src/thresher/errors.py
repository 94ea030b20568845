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
    └── TooManyFailures

The command line prints the message and exits with code 1 (the data or the run failed) or 2 (the
command was wrong). Any other exception is a bug and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Callable


class ThresherError(Exception):
    """Base class of all errors caused by the user's input or environment."""

    exit_code = 1


class ConfigError(ThresherError):
    """The request is wrong: unknown method, unknown key, impossible budget.

    With `option`, a field of the request, and the `value` that was given, the message is what
    follows both. The command line writes them as `--budget 0`, Python code as `budget=0`.
    """

    exit_code = 2

    def __init__(self, message: str, *, option: str = "", value: object = "") -> None:
        super().__init__(message)
        self.message, self.option, self.value = message, option, value

    def __str__(self) -> str:
        return self.spelled(lambda option, value: f"{option}={value}")

    def spelled(self, spell: Callable[[str, object], str]) -> str:
        """The message, with option and value as `spell` writes them."""
        return (spell(self.option, self.value) if self.option else "") + self.message


class PoolError(ThresherError):
    """The pool cannot be read: missing, empty, truncated, unknown format, no image folder."""


class ImageError(ThresherError):
    """An image cannot be used. Stored as its row's failure, not raised to the user.

    `kind`: the reason, as a kind of finding of `thresher doctor`.
    """

    def __init__(self, message: str, kind: str = "broken-image") -> None:
        super().__init__(message)
        self.kind = kind


class ModelError(ThresherError):
    """A model cannot be used: damaged files, not enough memory, its fast path is not exact."""


class NotAModel(ModelError):
    """--model is not a multimodal LLM: no such folder or hub id, not a model folder, text only."""

    exit_code = 2


class CapabilityError(ModelError):
    """A model lacks what a method needs, such as losses of given texts from a server."""

    exit_code = 2


class ServerError(ModelError):
    """A model's server refuses requests or does not respond."""


class CapReached(ThresherError):
    """The run stopped at --max-requests or --max-cost. Results so far are stored."""


class MissingExtra(ThresherError):
    """An optional package is missing; the message contains the install command."""

    exit_code = 2


class StoreError(ThresherError):
    """The store cannot be read or written (disk full, no permission, damaged part)."""


class TooManyFailures(ThresherError):
    """Too many rows failed for a selection from the rest to be meaningful."""


def did_you_mean(given: str, known: list[str]) -> str:
    """A hint for a misspelt name: `" Did you mean 'clipper'?"`, or "" if no known name is close."""
    import difflib

    hit = difflib.get_close_matches(given, known, n=1, cutoff=0.6)
    return f" Did you mean {hit[0]!r}?" if hit else ""
