"""With what signals are computed, carried as one: where they are stored, who is asked, and what
becomes of rows that fail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from thresher.engine.eligible import OnMissing
from thresher.storage.columns import Store
from thresher.training.registry import Trainer

if TYPE_CHECKING:
    from thresher.backends import ModelHandle
    from thresher.console.progress import Progress


@dataclass(frozen=True)
class Means:
    """`seed`: of ties and draws. `roles`: the further models of a method, by role. `trainer`: how a
    model is trained where a signal needs that (None: `training.fit` on the best device).
    `on_missing`: how many rows may fail (auto: 5% of the pool;
    exclude: any number; refuse: none). `retry_errors`: rows whose failure is stored are scored
    again. `force`: go on with a column that says of itself that it means nothing
    (`types.CheckedSignal`).
    """

    store: Store
    seed: int = 0
    model: ModelHandle | None = None
    roles: Mapping[str, ModelHandle] = field(default_factory=dict)
    trainer: Trainer | None = None
    on_missing: OnMissing = "auto"
    retry_errors: bool = False
    progress: Progress | None = None
    force: bool = False
