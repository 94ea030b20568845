"""A selection in memory: from a task to the selected rows and their reasons.

`select` asks the method for its signals, computes them (stored ones are loaded), and runs the
method's arithmetic: the two halves are in `prepare`. Writes only scores into the store;
`folder` writes the selection.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from thresher.mixture import resolve_mixture
from thresher.selection.prepare import prepare
from thresher.selection.result import Outcome
from thresher.selection.task import SelectionTask

if TYPE_CHECKING:
    from thresher.engine import RunContext


def select(task: SelectionTask, context: RunContext) -> Outcome:
    """Select rows. The result depends on the set of records, method, budget, seed and model only.

    A share refers to all rows of the pool. Rows of the pool that repeat questions of the target
    are an error, or are left out (`on_leak` of the request). `rounds` is ignored: see `iterate`.

    Arguments:
        task: what to select, and from what.
        context: store and models.

    Raises ConfigError, TooManyFailures, StoreError, and what opening the model raises.
    """
    began = time.monotonic()
    resolved = resolve_mixture(task.pool, task.budget, task.request, context)
    outcome = prepare(task, resolved, context).choose(task.method, task.budget, resolved)
    arithmetic = time.monotonic() - began - sum(s.seconds for s in outcome.signals)
    models = sum(t.seconds for t in outcome.trainings)
    outcome.cost = max(arithmetic, 0.0) + models + sum(s.cost for s in outcome.signals)
    return outcome
