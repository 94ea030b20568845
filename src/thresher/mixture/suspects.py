"""`--drop-suspects`: before scoring, leaves out rows whose answers are likely wrong.

Computes (or loads) the columns of `signals.suspicion` of all rows that are considered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from thresher.console.formatting import pluralize
from thresher.engine import RunContext, create_engine
from thresher.engine.columns import compute_all
from thresher.engine.graph import with_inputs
from thresher.errors import ConfigError
from thresher.request import RunRequest
from thresher.signals.suspicion import suspicion_signals
from thresher.types import RowSignal, Signal

if TYPE_CHECKING:
    from thresher.pools import Pool


def signals_for(context: RunContext) -> dict[str, Signal]:
    """The columns that are needed. Raises ConfigError without a model, CapabilityError for one
    behind a server."""
    if context.model is None:
        raise ConfigError("--drop-suspects needs a model. Give --model demo, a folder or a hub id.")
    return suspicion_signals(context.model.identity)


def suspected_rows(
    pool: Pool,
    droppable: np.ndarray,
    within: np.ndarray,
    request: RunRequest,
    context: RunContext,
    score: bool,
) -> tuple[np.ndarray, str]:
    """Rows to leave out, bool [n], and a note. A row that cannot be scored is never suspected.

    Arguments:
        pool: the pool.
        droppable: bool [n], rows that may be left out.
        within: bool [n], rows that are judged, each beside the others of its skill.
        request: `drop_suspects`, the least suspicion of a row that is left out.
        context: the model and the store.
        score: whether the model may be run; if not, and some rows are not scored yet, no row is
            suspected.

    Raises ConfigError, CapabilityError, TooManyFailures (no row can be scored), StoreError.
    """
    signals, least = signals_for(context), request.drop_suspects
    assert least is not None, "asked only with --drop-suspects"
    label = f"--drop-suspects {least:g}"
    scoring = RunRequest(seed=request.seed, on_missing="exclude")
    if not score:
        engine = create_engine(pool, signals, scoring, context, within=within)
        missing = max(
            int(engine.scoring_request(signal, name).missing.sum())
            for name, signal in with_inputs(signals).items()
            if isinstance(signal, RowSignal)
        )
        if missing:
            return np.zeros(len(pool), bool), (
                f"{label}: which rows are suspected is known only after the model has processed "
                f"{pluralize(missing)}; no row is left out yet."
            )
    found = compute_all(signals, pool, scoring, context, within)["suspicion"]
    suspected = found.known & (found.values["suspicion"] >= np.float32(least)) & droppable
    unknown = int((within & ~found.known).sum())
    also = f" ({pluralize(unknown)} could not be judged)" if unknown else ""
    return suspected, f"{pluralize(int(suspected.sum()))} left out by {label}{also}."
