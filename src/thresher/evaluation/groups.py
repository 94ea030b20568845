"""The groups of an evaluation: the pool's sources, or the values of a field of its records."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from thresher.errors import ConfigError, did_you_mean
from thresher.text import parse_json

if TYPE_CHECKING:
    from thresher.pools import Pool

BY_SOURCE = "source"
NO_GROUP = "(none)"


def group_names(pool: Pool, by: str) -> list[str]:
    """The group of each row of the pool.

    `source` is the pool's source (data_source, else source, else the file's name); values other
    than text are written as JSON; records without the field, and unreadable ones, are "(none)".

    Arguments:
        pool: n rows.
        by: a field of the records, or "source".

    Raises ConfigError if no record has the field `by`.
    """
    if by == BY_SOURCE:
        names = np.array([name or NO_GROUP for name in pool.source_names], dtype=object)
        return [str(name) for name in names[pool.source]]
    out: list[str] = []
    keys: dict[str, None] = {}
    for raw in pool.raw(range(len(pool))):
        try:
            record = parse_json(raw)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            out.append(NO_GROUP)
            continue
        keys.update(dict.fromkeys(record))
        value = record.get(by)
        out.append(
            NO_GROUP
            if value is None or value == ""
            else value
            if isinstance(value, str)
            else json.dumps(value)
        )
    if all(name == NO_GROUP for name in out):
        known = [k for k in keys if k not in ("conversations", "image")]
        raise ConfigError(
            f": no record of {pool.path} has this field.{did_you_mean(by, known)} Known: "
            f"source, {', '.join(known)}.",
            option="by",
            value=by,
        )
    return out
