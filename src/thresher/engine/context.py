"""The resources of a run: created once, and passed to every layer together with the request."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from thresher.engine.meter import Meter
from thresher.storage.columns import Store
from thresher.training.registry import Trainer
from thresher.types import EMBEDDER

if TYPE_CHECKING:
    from thresher.backends import ModelHandle
    from thresher.console.progress import Progress
    from thresher.engine.workers import Workers


@dataclass(frozen=True)
class RunContext:
    """Where columns are stored, which models may be used, and how progress is reported."""

    store: Store
    model: ModelHandle | None = None
    """The main model; None for a method that uses none."""
    roles: Mapping[str, ModelHandle] = field(default_factory=dict)
    """Further models of the method, by role; the one of `--embedder` as "embedder"."""
    trainer: Trainer | None = None
    """Trains models for signals that need one; None: `training.fit` on the best device."""
    progress: Progress | None = None
    """Receives progress reports."""
    decided: Mapping[str, Mapping[str, Any]] | None = None
    """What an earlier run of the same request decided (`MethodContext.decided`)."""
    processes: int = 1
    """Number of processes that were started to score the same rows, this one included."""
    workers: Workers | None = None
    """Processes that score all rows and train all models, or compute the cells of a comparison,
    while this one waits; None: this process does it."""
    on_stored: Callable[[int], None] | None = None
    """Called with the number of rows whenever this process has stored rows that it scored."""
    meter: Meter = field(default_factory=Meter)
    """Counts what the run takes; the same object in all contexts made from this one."""
    started: int = field(default_factory=time.time_ns)
    """When the command began, `time.time_ns()`; the same for all of its processes. A stored failure
    is tried again only if it is older."""
    new_engine: Callable[..., Any] | None = None
    """Creates the engines of a selection; None: `create_engine`. Another function may return an
    engine that scores nothing, or one that keeps columns in memory."""

    @property
    def embedder(self) -> ModelHandle | None:
        """The model that gives embeddings of rows: that of `--embedder`, else the main one."""
        return self.roles.get(EMBEDDER, self.model)
