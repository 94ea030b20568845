"""Errors that a user can meet. Each message says what was given, what was expected and what to do.

The command line turns these into one clear paragraph and an exit code (1: the data or the run failed,
2: the command was wrong). Anything else that escapes is a bug of ours and keeps its traceback.
"""

from __future__ import annotations


class ThresherError(Exception):
    """Base of every error that is the input's fault, not ours."""

    exit_code = 1


class ConfigError(ThresherError):
    """The command or a setting is wrong: unknown method, unknown key, impossible budget."""

    exit_code = 2


class PoolError(ThresherError):
    """The pool cannot be read at all: missing, empty, cut off, not a known format, no image folder."""


class ImageError(ThresherError):
    """One image cannot be used. Stored as the failure of its row, never raised to the user.

    `kind`: why, as a kind of finding of `thresher doctor`.
    """

    def __init__(self, message: str, kind: str = "broken-image") -> None:
        super().__init__(message)
        self.kind = kind


class ModelError(ThresherError):
    """A model cannot be used: its files are broken, it does not fit, its fast path is not exact."""


class NotAModel(ModelError):
    """What was given as --model is not a multimodal LLM: no such folder or hub id, no model folder, no images."""

    exit_code = 2


class CapabilityError(ModelError):
    """A model cannot do what a method asks of it, such as giving the loss of a text when it is behind a server."""

    exit_code = 2


class ServerError(ModelError):
    """A model's server refuses or does not answer."""


class CapReached(ThresherError):
    """The run stopped at --max-requests or --max-cost. What came is stored."""


class MissingExtra(ThresherError):
    """An optional package is needed; the message holds the exact install command."""

    exit_code = 2


class StoreError(ThresherError):
    """The store cannot be read or written (disk full, no permission, a damaged part)."""


class TooManyFailures(ThresherError):
    """So many rows failed that a selection from the rest would mislead."""


def nearest(given: str, known: list[str]) -> str:
    """`" Did you mean 'clipper'?"` for the closest known name, or an empty string."""
    import difflib

    hit = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    return f" Did you mean {hit[0]!r}?" if hit else ""
