"""The whole job in memory: pool, method and budget in, the chosen rows and the reasons out.

`select` asks the method for its signals, has them computed (what is stored is loaded), and lets the
method do its
arithmetic: the two halves are in `prepare`. Writes nothing but scores into the store; `folder`
writes the selection.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from thresher.engine import Means, OnMissing
from thresher.mixture import Mixture, resolve_mixture
from thresher.selection.prepare import prepare
from thresher.selection.result import Outcome
from thresher.selection.target import OnLeak
from thresher.storage.columns import Store
from thresher.training.registry import Trainer
from thresher.types import Budget, Method

if TYPE_CHECKING:
    from thresher.backends import ModelHandle
    from thresher.console.progress import Progress
    from thresher.pools import Pool


def select(
    pool: Pool,
    method: Method,
    budget: Budget,
    *,
    seed: int = 0,
    model: ModelHandle | None = None,
    store: Store,
    on_missing: OnMissing = "auto",
    retry_errors: bool = False,
    progress: Progress | None = None,
    trainer: Trainer | None = None,
    usable_only: bool = False,
    roles: Mapping[str, ModelHandle] | None = None,
    target: Pool | None = None,
    on_leak: OnLeak | None = "refuse",
    taken: np.ndarray | None = None,
    mixture: Mixture | None = None,
    force: bool = False,
) -> Outcome:
    """Choose `budget` rows of `pool`. The result depends on the set of records, method, budget,
    seed and model only.

    A share is taken of all rows of the pool. `on_missing`: what to do about rows that cannot be
    scored (auto: leave them out while they are at most 5% of the pool; exclude: always; refuse:
    never). `retry_errors`: score rows again whose failure is stored. `trainer`: how a model is
    trained where a method needs that (None: `training.fit` on the best device). `usable_only`:
    leave out rows that no model can take even if the method asks none. `roles`: the further models
    of the method, by role. `target`: the set that the method aims at; rows of the pool that repeat
    its questions are an error, or leave (`on_leak` drop; None: the caller has looked). `taken`:
    rows that are not to be chosen again.
    `mixture`: quotas, rows that are kept or left out. `force`: go on with scores that mean nothing,
    such as those of a judge that gives no probability to its answers.

    Raises ConfigError, TooManyFailures, StoreError, and what opening the model raises.
    """
    began = time.monotonic()
    resolved = resolve_mixture(mixture, pool, budget, store, seed, progress, model=model)
    prepared = prepare(
        pool,
        method,
        resolved,
        Means(store, seed, model, roles or {}, trainer, on_missing, retry_errors, progress, force),
        usable_only=usable_only,
        target=target,
        on_leak=on_leak,
        taken=taken,
    )
    outcome = prepared.choose(method, budget, resolved)
    arithmetic = time.monotonic() - began - sum(s.seconds for s in outcome.signals)
    models = sum(t.seconds for t in outcome.trainings)
    outcome.cost = max(arithmetic, 0.0) + models + sum(s.cost for s in outcome.signals)
    return outcome
