"""The files of a finished cell. Reads and writes the folder `cells` of a comparison:

    cells/<fingerprint>.npz      scores float32 [N] of the evaluation rows (NaN: failed), image
                                 int64 [N]; chosen int64 [k], the subset as ranks in the pool's
                                 canonical order
    cells/<fingerprint>.parquet  the model's answer to each evaluation row
    cells/<fingerprint>.json     its row of compare.json; written last
    cells/<fingerprint>/         while it is being computed, with its model (kept with
        `keep_models`)
    cells/claims/                what processes compute now (`queue`)

If the JSON file exists, all three are complete. Files of earlier versions may lack newer keys
(`notes`).
"""

from __future__ import annotations

import os
import shutil
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

# raised by numpy.load for damaged files
READ_ERRORS = (OSError, EOFError, ValueError, TypeError, KeyError, zipfile.BadZipFile, zlib.error)
SHARED_COLUMNS = (
    "id",
    "digest",
    "expected",
)  # columns of an evaluation that are equal in every cell


@dataclass(frozen=True)
class Result:
    """A finished cell: a row of compare.json."""

    method: str
    budget: str
    rows: int  # given by the method
    seed: int
    accuracy: float  # 0 to 1
    macro: float
    seconds_selection: float  # with an empty store: reused scores and models count in full
    seconds_training: float
    notes: tuple[str, ...] = ()  # of the selection


def work_folder(out: Path, cell: Cell) -> Path:
    """The folder in which a cell is being computed.

    Arguments:
        out: folder of the comparison.
        cell: the cell.
    """
    return out / "cells" / cell.fingerprint


def write_cell(
    out: Path, cell: Cell, result: Result, table: pa.Table, chosen: np.ndarray, pool: Pool
) -> None:
    """Write a finished cell.

    Arguments:
        out: folder of the comparison.
        cell: the finished cell.
        result: its row of compare.json.
        table: the evaluation's rows.
        chosen: int64 [k], rows of `pool`, best first.
        pool: the pool of the comparison.

    Raises StoreError (disk full).
    """
    kept = table.drop_columns([c for c in SHARED_COLUMNS if c in table.column_names])
    write_finished(work_folder(out, cell), result, kept, pool.rank[chosen])


def write_finished(work: Path, result: Result, table: pa.Table, ranks: np.ndarray) -> None:
    """Write the files of a finished cell.

    Arguments:
        work: the folder in which it is computed; its files are written beside it.
        result: its row of compare.json.
        table: the evaluation's rows, without SHARED_COLUMNS.
        ranks: int64 [k], the subset as ranks in the pool's canonical order, best first.

    Raises StoreError (disk full).
    """
    import pyarrow.parquet as pq

    work.mkdir(parents=True, exist_ok=True)
    scores = np.array(
        [np.nan if c is None else float(c) for c in table["correct"].to_pylist()], np.float32
    )
    np.savez_compressed(
        work / "rows.npz",
        scores=scores,
        image=np.asarray(table["image"], np.int64),
        chosen=ranks,
    )
    pq.write_table(table, work / "rows.parquet")
    _publish(work, result)


def copy_cell(
    out: Path, source: Cell, cell: Cell, result: Result, chosen: np.ndarray, pool: Pool
) -> None:
    """Write a finished cell with the scores and answers of the finished cell `source`.

    Arguments:
        out: folder of the comparison.
        source: a finished cell with the same training rows and seed.
        cell: the cell to write.
        result: its row of compare.json.
        chosen: int64 [k], rows of `pool`, best first.
        pool: the pool of the comparison.
    """
    work, finished = work_folder(out, cell), work_folder(out, source)
    work.mkdir(parents=True, exist_ok=True)
    with np.load(finished.with_suffix(".npz")) as arrays:
        np.savez_compressed(
            work / "rows.npz",
            scores=arrays["scores"],
            image=arrays["image"],
            chosen=pool.rank[chosen],
        )
    shutil.copyfile(finished.with_suffix(".parquet"), work / "rows.parquet")
    _publish(work, result)


def _publish(work: Path, result: Result) -> None:
    """Move the files of a cell from its work folder to their place, and write its JSON file."""
    final = work.with_suffix(".json")
    for written in (work / "rows.npz", work / "rows.parquet"):
        fsync(written)
        os.replace(written, final.with_suffix(written.suffix))
    names = [final.with_suffix(suffix).name for suffix in (".npz", ".parquet")]
    write_bytes(final, seal({**asdict(result), FILES: file_digests(final.parent, names)}))


def read_cell(out: Path, cell: Cell) -> tuple[Result, np.ndarray, np.ndarray] | None:
    """(result, scores [N], image [N]) of a finished cell; None if it is not finished.

    Arguments:
        out: folder of the comparison.
        cell: the cell.
    """
    path = _checked_path(out, cell)
    if path is None:
        return None
    try:
        content = unseal(path.read_bytes(), required=False)
        content.pop(FILES, None)
        # the budget as the user wrote it now: 10% and 300 may be the same number of rows
        current = {"budget": cell.budget, "notes": tuple(content.get("notes", ()))}
        with np.load(path.with_suffix(".npz")) as arrays:
            return Result(**{**content, **current}), arrays["scores"], arrays["image"]
    except READ_ERRORS as e:
        raise CorruptFile(f"{path.with_suffix('.npz')}: {e}") from e


def is_finished(out: Path, cell: Cell) -> bool:
    """Whether a cell is finished and undamaged.

    Arguments:
        out: folder of the comparison.
        cell: the cell.
    """
    try:
        return read_cell(out, cell) is not None
    except CorruptFile:
        return False


def is_published(out: Path, cell: Cell) -> bool:
    """Whether a cell was finished, by any process; its files are not read.

    Arguments:
        out: folder of the comparison.
        cell: the cell.
    """
    return work_folder(out, cell).with_suffix(".json").exists()


def delete_cell(out: Path, cell: Cell) -> None:
    """Delete the files of a finished cell, so that it is computed again. Raises OSError.

    Arguments:
        out: folder of the comparison.
        cell: the cell.
    """
    path = out / "cells" / f"{cell.fingerprint}.json"
    for suffix in (".json", ".npz", ".parquet"):
        path.with_suffix(suffix).unlink(missing_ok=True)


def _checked_path(out: Path, cell: Cell) -> Path | None:
    """The JSON file of a finished cell with intact files; None if there is none. Raises
    CorruptFile.

    Cells of earlier versions have no checksums: damage is found only when their files are read.
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
    except READ_ERRORS as e:
        raise CorruptFile(f"{path.parent}: {e}") from e
    return path


def chosen_rows(out: Path, cell: Cell, pool: Pool) -> np.ndarray:
    """The subset of a finished cell: rows of `pool`, int64 [k], best first. Raises StoreError.

    Arguments:
        out: folder of the comparison.
        cell: a finished cell.
        pool: the pool of the comparison.
    """
    path = out / "cells" / f"{cell.fingerprint}.npz"
    try:
        with np.load(path) as arrays:
            return pool.order[arrays["chosen"]]
    except READ_ERRORS as e:
        raise StoreError(
            f"{path} is damaged ({e}). Run the comparison again: the cell is computed again."
        ) from e


def read_answers(out: Path, cell: Cell) -> pa.Table:
    """The answers of a finished cell's model: the evaluation's rows, without the columns that are
    equal in every cell. Raises StoreError.

    Arguments:
        out: folder of the comparison.
        cell: a finished cell.
    """
    import pyarrow.parquet as pq

    path = out / "cells" / f"{cell.fingerprint}.parquet"
    try:
        return pq.read_table(path)
    except (OSError, ValueError) as e:  # Arrow's errors are subclasses
        raise StoreError(
            f"{path} is damaged ({e}). Run the comparison again: the cell is computed again."
        ) from e
