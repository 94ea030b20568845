"""When the rows of a part were written: the metadata of its schema.

    written   time of the part, time.time_ns(); parts without it count as oldest
    failed    only in a part merged from several: the times of its rows with an error, as JSON:
              {"times": [ns, …], "of": [index into times, for each such row]}

A newer error replaces an older one, and a row whose error is newer than a command has been tried
by that command. Reads and writes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from thresher.storage.arrow_values import encoded_texts

WRITTEN = b"written"
FAILED = b"failed"


def metadata(written: int, failed_at: np.ndarray | None = None) -> dict[bytes, bytes]:
    """The metadata of a part.

    Arguments:
        written: time of the part, ns.
        failed_at: int64 [f], times of its rows with an error, in their order; None: all `written`.
    """
    out = {WRITTEN: str(written).encode()}
    if failed_at is not None and (failed_at != written).any():
        times, of = np.unique(failed_at, return_inverse=True)
        out[FAILED] = json.dumps({"times": times.tolist(), "of": of.tolist()}).encode()
    return out


def write_time(table: pa.Table) -> int:
    """Time at which the part was written, ns; 0 if unknown.

    Arguments:
        table: with the part's metadata.
    """
    return int((table.schema.metadata or {}).get(WRITTEN, b"0"))


def row_times(tables: Sequence[pa.Table]) -> np.ndarray:
    """Write time of each row of the concatenated tables, ns, int64 [n]. A row without an error in a
    merged part has the part's time.

    Arguments:
        tables: of the parts, at least their column `error`.
    """
    return np.concatenate([np.zeros(0, np.int64), *(_times_of(t) for t in tables)])


def _times_of(table: pa.Table) -> np.ndarray:
    out = np.full(table.num_rows, write_time(table), np.int64)
    found = (table.schema.metadata or {}).get(FAILED)
    if found is not None:
        texts, codes = encoded_texts(table["error"])
        entry = json.loads(found)
        out[(texts != "")[codes]] = np.array(entry["times"], np.int64)[entry["of"]]
    return out
