"""The rows of a column's parts: which one counts where parts share a key, and their types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from thresher.errors import StoreError, opt
from thresher.storage.arrow_values import arrow_type
from thresher.types import Field


def deduplicate(
    keys: np.ndarray,
    error: tuple[np.ndarray, np.ndarray],
    columns: Mapping[str, np.ndarray],
    written: np.ndarray,
) -> np.ndarray:
    """Row numbers of one row per distinct key, sorted by key.

    A success is preferred to an error, a newer error to an older one (the reason may have changed);
    remaining ties are broken by content, not by file.

    Arguments:
        keys: DIGEST [n].
        error: (texts, codes int [n]), "" for a success (`encoded_texts`).
        columns: field name -> array [n].
        written: int64 [n], time at which each row was written, ns.
    """
    order = sorted_order(keys)
    ordered = keys[order]
    new = np.r_[True, ordered[1:] != ordered[:-1]]
    if new.all():
        return order
    slots = np.flatnonzero(~new | np.r_[~new[1:], False])  # repeated keys: usually few
    rows = order[slots]
    distinct, codes = error
    texts = _ranks(distinct)[codes[rows]]
    bad = (distinct != "")[codes[rows]]
    contents = [_ranks(c[rows]) if c.dtype == object else c[rows] for c in columns.values()]
    newest = np.where(bad, -written[rows], 0)  # successes are chosen by content alone
    order[slots] = rows[np.lexsort((*contents, texts, newest, bad, keys[rows]))]
    return order[new]


def _ranks(texts: np.ndarray) -> np.ndarray:
    """Texts as integers with the same order, int64 [n]."""
    return np.unique(texts, return_inverse=True)[1]


def sorted_order(keys: np.ndarray) -> np.ndarray:
    """Row numbers that sort keys, int64 [n]: `np.argsort(keys, kind="stable")`, but several times
    faster, since digests rarely agree in their first eight bytes, which are sorted as a number.

    Arguments:
        keys: DIGEST [n].
    """
    head = np.ascontiguousarray(keys).view(">u8")[::4].astype(np.uint64)
    order = np.argsort(head, kind="stable")
    ordered, first = keys[order], head[order]
    same = first[1:] == first[:-1]
    if (ordered[1:][same] != ordered[:-1][same]).any():
        return np.argsort(keys, kind="stable")
    return order


def ascends(keys: np.ndarray) -> bool:
    """Whether keys are in ascending order without repeats. `keys`: DIGEST [n]."""
    return bool((keys[1:] > keys[:-1]).all())


def repeats(kind: pa.DataType) -> bool:
    """Whether values of this type are often equal, unlike keys, vectors and losses."""
    return not (pa.types.is_fixed_size_binary(kind) or pa.types.is_floating(kind))


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type of a column's values, dictionary-encoded or not."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def check_columns(path: Path, table: pa.Table, fields: Sequence[Field]) -> None:
    """Raises StoreError if a part has other columns than the fields of its signal.

    Arguments:
        path: of the part, for the message.
        table: its rows.
        fields: of the signal.
    """
    expected = {"key": pa.binary(32), "error": pa.string()} | {
        f.name: arrow_type(f) for f in fields
    }
    given = {f.name: plain_type(f.type) for f in table.schema}
    if given == expected:
        return
    differ = sorted(n for n in given.keys() | expected.keys() if given.get(n) != expected.get(n))
    what = ", ".join(
        (f"{n}: {given.get(n, 'absent')} in the file, {expected.get(n, 'absent')} expected")
        for n in differ
    )
    raise StoreError(
        f"Column conflict in the store's part {path}: {what}. It was written by another version "
        "of this signal. Delete the folder it is in to score those rows again, or give another "
        f"{opt('store')}."
    )
