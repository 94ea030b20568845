"""The files of a finished cell. Reads and writes the folder `cells` of a comparison, nothing else:

    cells/<fingerprint>.npz      scores float32 [N] of the evaluation rows (NaN: failed), image int64 [N]; chosen int64 [k], the
                                 subset as places in the pool's canonical order
    cells/<fingerprint>.parquet  what the model said of each evaluation row
    cells/<fingerprint>.json     its row of compare.json; written last
    cells/<fingerprint>/         while it is being made, with its model (kept with `keep_models`)

Where the JSON file stands, all three are complete. It may lack keys that came later (`notes`).
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thresher.compare.cells import Cell
from thresher.errors import StoreError
from thresher.publish import publish

if TYPE_CHECKING:
    import pyarrow as pa

    from thresher.pools import Pool

REPEATED = ("id", "digest", "expected")  # columns of an evaluation that say the same in every cell


@dataclass(frozen=True)
class Result:
    """A finished cell: a row of compare.json."""

    method: str
    budget: str
    rows: int  # given by the method
    seed: int
    accuracy: float  # 0 to 1
    macro: float
    seconds_selection: float  # from nothing: scores and models that were reused count in full
    seconds_training: float
    notes: tuple[str, ...] = ()  # of the selection, in words


def work_folder(out: Path, cell: Cell) -> Path:
    """Where a cell is being made."""
    return out / "cells" / cell.fingerprint


def keep(out: Path, cell: Cell, result: Result, table: pa.Table, chosen: np.ndarray, pool: Pool) -> None:
    """Write a finished cell. `table`: the evaluation's rows; `chosen`: int64 [k], rows of `pool`, best first.

    Raises StoreError (disk full).
    """
    import pyarrow.parquet as pq

    work = work_folder(out, cell)
    scores = np.array([np.nan if c is None else float(c) for c in table["correct"].to_pylist()], np.float32)
    np.savez_compressed(
        work / "rows.npz",
        scores=scores,
        image=np.asarray(table["image"], np.int64),
        chosen=_places(pool)[chosen],
    )
    pq.write_table(table.drop_columns([c for c in REPEATED if c in table.column_names]), work / "rows.parquet")
    final = work.with_suffix(".json")
    os.replace(work / "rows.npz", final.with_suffix(".npz"))
    os.replace(work / "rows.parquet", final.with_suffix(".parquet"))
    publish(final, json.dumps(asdict(result)).encode())


def read_cell(out: Path, cell: Cell) -> tuple[Result, np.ndarray, np.ndarray] | None:
    """(result, scores [N], image [N]) of a finished cell, or None."""
    path = out / "cells" / f"{cell.fingerprint}.json"
    try:
        told = json.loads(path.read_bytes())
        with np.load(path.with_suffix(".npz")) as arrays:
            # the budget is shown as it is written now: 10% and 300 may be the same rows
            now = {"budget": cell.budget, "notes": tuple(told.get("notes", ()))}
            return Result(**{**told, **now}), arrays["scores"], arrays["image"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as e:
        raise StoreError(f"{path} is damaged ({e}). Delete it, and the cell is made again.") from e


def chosen_rows(out: Path, cell: Cell, pool: Pool) -> np.ndarray:
    """The subset of a finished cell: rows of `pool`, int64 [k], best first."""
    with np.load(out / "cells" / f"{cell.fingerprint}.npz") as arrays:
        return pool.order[arrays["chosen"]]


def answers_of(out: Path, cell: Cell) -> pa.Table:
    """What the model of a finished cell said: the evaluation's rows, without the columns that repeat in every cell."""
    import pyarrow.parquet as pq

    return pq.read_table(out / "cells" / f"{cell.fingerprint}.parquet")


def _places(pool: Pool) -> np.ndarray:
    """Where each row of the pool stands in its canonical order, int64 [n]: the same for every order of the file."""
    place = np.empty(len(pool), np.int64)
    place[pool.order] = np.arange(len(pool))
    return place
