"""The result of a selection: rows, reasons, request, failures. Plain values; touches nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from thresher.engine import SignalRun
from thresher.errors import ConfigError
from thresher.request import RunRequest
from thresher.training.registry import TrainingRun
from thresher.types import Findings, ModelIdentity, Note

LEFT_OUT = "left-out"  # kind of the note on rows that could not be used


@dataclass(frozen=True)
class Failure:
    """A row that was left out, and why."""

    row: int  # in the pool
    id: str  # JSON text, as `Sample.id`
    digest: str  # 64 hexadecimal digits
    signal: str  # the label of the signal that failed; "pool": known from reading the pool
    error: str


@dataclass(frozen=True)
class Recipe:
    """The resolved request: enough to repeat it."""

    method: str
    settings: Mapping[str, Any]  # every setting of the method, defaults included
    budget: str
    request: RunRequest  # seed, mixture options, how failures are treated
    model: str | None
    identity: ModelIdentity | None
    store: str  # its folder or address
    # role -> name, identity
    roles: Mapping[str, tuple[str, ModelIdentity]] = field(default_factory=dict)
    # what opens the validation set again, and its image folder
    validation: tuple[str, str | None] | None = None


@dataclass
class Outcome:
    """A selection and everything that explains it."""

    recipe: Recipe
    rows: np.ndarray  # int64 [k], pool rows, best first
    reason: dict[str, np.ndarray]  # name -> array [k], in the order of `rows`
    signals: list[SignalRun]  # row signals in the order they were computed
    failures: list[Failure]  # by pool row
    notes: list[Note]  # what the user should know
    budget: int  # rows asked for; more than len(rows) only with a note
    excluded: int  # rows that could not be used: len(failures)
    # int64 [c], pool rows the method saw
    considered: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    # name -> array [c]: `reason` of all those
    evidence: dict[str, np.ndarray] = field(default_factory=dict)
    # models that were trained for a signal
    trainings: list[TrainingRun] = field(default_factory=list)
    # label -> distinct rows that were not sent to the model
    unasked: dict[str, int] = field(default_factory=dict)
    # seconds of this selection with an empty store: reused scores and models count, too
    cost: float = 0.0
    findings: Findings | None = None  # of a method that uses a validation set
    # what the method measured before it chose rows: column -> field -> value (`decisions`)
    decided: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    # int64 [c, 2]: rows left out by --dedup, and the row that represents each
    copies: np.ndarray | None = None


def require_rows(outcome: Outcome) -> None:
    """Raise ConfigError if no row was chosen: no trainer accepts an empty subset."""
    if not len(outcome.rows):
        why = ["No row was chosen, so nothing is written.", *(note.text for note in outcome.notes)]
        raise ConfigError(" ".join(why))
