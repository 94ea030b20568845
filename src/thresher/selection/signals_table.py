"""All columns that a selection used, as one table of all rows of the pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from thresher._version import __version__
from thresher.engine import RunContext
from thresher.engine.columns import compute_all
from thresher.engine.graph import memo_key, signals_of, walk, with_inputs
from thresher.errors import PoolError, StoreError
from thresher.fingerprint import fingerprint
from thresher.mixture import resolve_mixture
from thresher.selection.config import stored_request
from thresher.selection.decisions import from_plain
from thresher.selection.files import plain_column, row_columns
from thresher.selection.folder import read
from thresher.signals.named import named_field
from thresher.signals.recorded import Recorded
from thresher.storage.columns import Store
from thresher.storage.opening import open_store
from thresher.training.registry import Trainer
from thresher.types import (
    Budget,
    ModelIdentity,
    RowSignal,
    Signal,
    StoredPoolSignal,
    model_inputs,
)


def signals_table(out: str | Path) -> pa.Table:
    """Every column that the selection in `out` used, for all rows of the pool, in pool order.

    Columns: row, id, digest, then `<signal>.<field>` (null where the row failed) and
    `<signal>.error` ("" = fine). What the run decided is taken from its run.yaml, with the columns
    behind it if the run measured them itself. Opens no model. Raises ConfigError (not a selection),
    PoolError (the pool changed) or StoreError (scores are missing).
    """
    from thresher import methods
    from thresher.backends import ModelHandle
    from thresher.methods.settings import as_text
    from thresher.pools import open_pool

    run = read(out)
    store = open_store(run["store"])
    recorded = run["pool"]
    cache, trust = store.root / "pools", recorded.get("trust_paths", False)
    pool = open_pool(
        recorded["path"],
        recorded["images"],
        cache=cache,
        format=recorded.get("read_as"),
        trust_paths=trust,
    )
    if len(pool) != recorded["rows"] or pool.total_bytes != recorded["bytes"]:
        raise PoolError(
            f"{pool.path} has changed since the selection in {out} was made "
            f"({run['pool']['rows']:,} rows then, {len(pool):,} now). Select again, or put the "
            "old file back."
        )
    if recorded.get("video_frames") is not None:
        pool.score_videos(recorded["video_frames"])
    settings = {k: as_text(v) for k, v in run["method"]["settings"].items()}
    method = methods.load(run["method"]["name"], settings)

    def handle(noted: dict[str, Any]) -> ModelHandle:
        return ModelHandle(
            noted["name"],
            ModelIdentity(**noted["identity"]),
            open=lambda: _scores_missing(store, out),
        )

    model = None if run["model"] is None else handle(run["model"])
    roles = {role: handle(noted) for role, noted in run.get("roles", {}).items()}
    asked = stored_request(run["config"])
    request = replace(asked, seed=run["method"]["seed"], on_missing="exclude", retry_errors=False)
    no_trainer = Trainer(
        fit=lambda *a, **k: _scores_missing(store, out),
        open=lambda folder: _scores_missing(store, out),
    )
    decided = from_plain(asked.decided) if asked.decided else None
    context = RunContext(store, model, roles, no_trainer, decided=decided)
    resolved = resolve_mixture(pool, Budget.parse(request.budget), request, context)
    used = signals_of(method, context, request.seed, resolved.budget)
    signals = with_inputs(_with_measured(used, [s["label"] for s in run["signals"]]))
    then = {s["fingerprint"] for s in run["signals"]}
    kept = [s.inputs() for s in signals.values() if isinstance(s, StoredPoolSignal)]
    # inputs of a stored column are read only if that column is not stored yet
    then |= {fingerprint(s) for given in kept for s in walk(given) if isinstance(s, RowSignal)}
    for name, signal in signals.items():
        if (
            isinstance(signal, RowSignal)
            and not _of_a_trained_model(signal)
            and fingerprint(signal) not in then
        ):
            raise StoreError(
                f"This version of thresher ({__version__}) computes {name} in another way than "
                f"the one that made {out} ({run['thresher']}). Select again."
            )
    columns = compute_all(signals, pool, request, context, resolved.within)
    table = row_columns(pool, np.arange(len(pool)))
    for name, column in columns.items():
        for field, values in column.values.items():
            table[f"{name}.{field}"] = plain_column(values, column.known)
        table[f"{name}.error"] = pa.array(column.errors.tolist(), pa.string())
    if resolved.scores is not None:  # what filters and quotas asked for, also of rows that left
        for typed, found in resolved.scores.columns.items():
            named = named_field(typed)
            assert named is not None, "options name signals only"
            table.setdefault(named.full_name, plain_column(found.values, found.known))
    return pa.table(table)


def _with_measured(signals: Mapping[str, Signal], labels: Sequence[str]) -> dict[str, Signal]:
    """The signals, and the inputs of each recorded one that the run measured.

    Arguments:
        signals: by name.
        labels: names of the columns that the run scored.
    """
    out: dict[str, Signal] = {}
    for name, signal in signals.items():
        if isinstance(signal, Recorded) and any(s.startswith(f"{name}.") for s in labels):
            known = {memo_key(s) for s in signals.values()}
            for inner_name, inner in signal.signal.inputs().items():
                if memo_key(inner) not in known:
                    out[f"{name}.{inner_name}"] = inner
        out[name] = signal
    return out


def _of_a_trained_model(signal: RowSignal) -> bool:
    """Whether the signal's identity contains the rows that its model was trained on, which are not
    known before they are drawn."""
    return any(model_inputs(value) for value in vars(signal).values())


def _scores_missing(store: Store, out: str | Path) -> Any:
    raise StoreError(
        f"Scores that the selection in {out} used are no longer in the store {store.address}. "
        "Select again."
    )
