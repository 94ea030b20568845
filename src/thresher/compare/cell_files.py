"""The files of a finished cell. Reads and writes the folder `cells` of a comparison, nothing else:

    cells/<fingerprint>.npz      scores float32 [N] of the evaluation rows (NaN: failed), image
                                 int64 [N]; chosen int64 [k], the
                                 subset as places in the pool's canonical order
    cells/<fingerprint>.parquet  what the model said of each evaluation row
    cells/<fingerprint>.json     its row of compare.json; written last
    cells/<fingerprint>/         while it is being made, with its model (kept with `keep_models`)

Where the JSON file stands, all three are complete. It may lack keys that came later (`notes`).
"""

from __future__ import annotations

import os
import zipfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thresher.compare.cells import Cell
from thresher.errors import StoreError
from thresher.storage.atomic import fsync, write_bytes
from thresher.storage.checksums import FILES, CorruptFile, check_files, file_digests, seal, unseal

if TYPE_CHECKING:
    import pyarrow as pa

    from thresher.pools import Pool

# by numpy.load
UNREADABLE = (OSError, EOFError, ValueError, TypeError, KeyError, zipfile.BadZipFile, zlib.error)
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


def keep(
    out: Path, cell: Cell, result: Result, table: pa.Table, chosen: np.ndarray, pool: Pool
) -> None:
    """Write a finished cell. `table`: the evaluation's rows; `chosen`: int64 [k], rows of `pool`,
    best first.

    Raises StoreError (disk full).
    """
    import pyarrow.parquet as pq

    work = work_folder(out, cell)
    work.mkdir(parents=True, exist_ok=True)
    scores = np.array(
        [np.nan if c is None else float(c) for c in table["correct"].to_pylist()], np.float32
    )
    np.savez_compressed(
        work / "rows.npz",
        scores=scores,
        image=np.asarray(table["image"], np.int64),
        chosen=pool.rank[chosen],
    )
    pq.write_table(
        table.drop_columns([c for c in REPEATED if c in table.column_names]), work / "rows.parquet"
    )
    final = work.with_suffix(".json")
    for made in (work / "rows.npz", work / "rows.parquet"):
        fsync(made)
        os.replace(made, final.with_suffix(made.suffix))
    names = [final.with_suffix(suffix).name for suffix in (".npz", ".parquet")]
    write_bytes(final, seal({**asdict(result), FILES: file_digests(final.parent, names)}))


def read_cell(out: Path, cell: Cell) -> tuple[Result, np.ndarray, np.ndarray] | None:
    """(result, scores [N], image [N]) of a finished cell, or None. Raises CorruptFile."""
    path = _checked(out, cell)
    if path is None:
        return None
    try:
        content = unseal(path.read_bytes(), required=False)
        content.pop(FILES, None)
        # the budget is shown as it is written now: 10% and 300 may be the same rows
        now = {"budget": cell.budget, "notes": tuple(content.get("notes", ()))}
        with np.load(path.with_suffix(".npz")) as arrays:
            return Result(**{**content, **now}), arrays["scores"], arrays["image"]
    except UNREADABLE as e:
        raise CorruptFile(f"{path.with_suffix('.npz')}: {e}") from e


def is_made(out: Path, cell: Cell) -> bool:
    """Whether a cell is finished and undamaged."""
    try:
        return read_cell(out, cell) is not None
    except CorruptFile:
        return False


def discard(out: Path, cell: Cell) -> None:
    """Remove the files of a finished cell, so that it is made anew. Raises OSError."""
    path = out / "cells" / f"{cell.fingerprint}.json"
    for suffix in (".json", ".npz", ".parquet"):
        path.with_suffix(suffix).unlink(missing_ok=True)


def _checked(out: Path, cell: Cell) -> Path | None:
    """The JSON file of a finished cell whose files are what was written; None where there is none.
    Raises CorruptFile.

    Cells of earlier versions carry no checksums: their files are found damaged only when they are
    read.
    """
    path = out / "cells" / f"{cell.fingerprint}.json"
    try:
        content = unseal(path.read_bytes(), required=False)
    except FileNotFoundError:
        return None
    except (OSError, CorruptFile) as e:
        raise CorruptFile(f"{path}: {e}") from e
    expected = content.get(FILES) or {}
    try:
        check_files(path.parent, expected)
        with np.load(path.with_suffix(".npz")) as arrays:
            for name in ("scores", "image", "chosen"):
                arrays[name]
    except UNREADABLE as e:
        raise CorruptFile(f"{path.parent}: {e}") from e
    return path


def chosen_rows(out: Path, cell: Cell, pool: Pool) -> np.ndarray:
    """The subset of a finished cell: rows of `pool`, int64 [k], best first."""
    path = out / "cells" / f"{cell.fingerprint}.npz"
    try:
        with np.load(path) as arrays:
            return pool.order[arrays["chosen"]]
    except UNREADABLE as e:
        raise StoreError(
            f"{path} is damaged ({e}). Run the comparison again: the cell is made anew."
        ) from e


def answers_of(out: Path, cell: Cell) -> pa.Table:
    """What the model of a finished cell said: the evaluation's rows, without the columns that
    repeat in every cell."""
    import pyarrow.parquet as pq

    path = out / "cells" / f"{cell.fingerprint}.parquet"
    try:
        return pq.read_table(path)
    except (OSError, ValueError) as e:  # Arrow's errors are of these kinds
        raise StoreError(
            f"{path} is damaged ({e}). Run the comparison again: the cell is made anew."
        ) from e
