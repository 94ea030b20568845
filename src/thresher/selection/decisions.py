"""What a method measured before it chose rows, recorded in run.yaml, so that repeating the run
decides the same.

winnow measures whether the model can judge the pool and, where training is installed, whether its
selection is worse than random rows. Measured again on another machine, either may come out
differently. The request's `decided` holds the values as `NAME.FIELD: value`, the names of the
columns that the method asked for, and a key: they are used for the same request, rows and models
only. Paths are not part of the key, so a folder may be moved.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thresher.types import Columns, Signal

KEY, COLUMNS = "for", "columns"
Decided = Mapping[str, Mapping[str, Any]]
"""Column -> field -> value; of columns that decide nothing, no fields."""


def decisions_of(signals: Mapping[str, Signal], columns: Columns) -> dict[str, dict[str, Any]]:
    """What the columns decided; {} if none of the signals decides anything.

    Arguments:
        signals: the method's, by name; one with `decides = True` has the same values for all rows.
        columns: theirs.
    """
    if not len(columns) or not any(getattr(s, "decides", False) for s in signals.values()):
        return {}
    return {
        name: {f.name: columns[name][f.name][0].item() for f in signal.fields}
        if getattr(signal, "decides", False)
        else {}
        for name, signal in signals.items()
    }


def to_plain(decided: Decided, key: str) -> dict[str, Any]:
    """The decisions as plain values for run.yaml.

    Arguments:
        decided: column -> field -> value.
        key: identifies request, rows and models.
    """
    values = {
        f"{name}.{field}": value
        for name, fields in decided.items()
        for field, value in fields.items()
    }
    return {KEY: key, COLUMNS: " ".join(decided), **values}


def from_plain(given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The inverse of `to_plain`; values as they are in the file."""
    out: dict[str, dict[str, Any]] = {name: {} for name in str(given.get(COLUMNS, "")).split()}
    for key, value in given.items():
        name, dot, field = key.partition(".")
        if dot:
            out.setdefault(name, {})[field] = value
    return out
