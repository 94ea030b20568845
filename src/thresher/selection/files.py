"""The files of a selection, written into a new folder: subset, reasons, failures, findings."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from thresher.exporters.llamafactory import INFO, read_dataset_info
from thresher.mixture.row_lists import MARK
from thresher.selection.result import Outcome
from thresher.types import Note

if TYPE_CHECKING:
    from thresher.pools import Pool


def write_subset(
    outcome: Outcome, pool: Pool, folder: Path, out: Path
) -> tuple[list[str], list[Note]]:
    """Write the selected records in the format and order of the pool. Returns the files' names, and
    notes on what the file lacks.

    Arguments:
        outcome: the selection.
        pool: that it was made from.
        folder: where the file is written.
        out: the final folder; the other entries of its dataset_info.json are kept.
    """
    from thresher import exporters

    name = "subset" + exporters.default(pool)[1]
    described = exporters.declared(pool)
    if described and (out / INFO).is_file():  # keep its other entries
        read_dataset_info(out / INFO)  # an error names this file, not the copy
        shutil.copyfile(out / INFO, folder / INFO)
    notes = exporters.export(pool, np.sort(outcome.rows), folder / name)
    return [name, INFO] if described else [name], [Note("subset", f"{name}: {t}") for t in notes]


def write_selection(outcome: Outcome, pool: Pool, folder: Path) -> str:
    """Write selection.parquet: a line for each selected row, best first, with its reasons.

    Arguments:
        outcome: the selection.
        pool: that it was made from.
        folder: where the file is written.
    """
    columns = row_columns(pool, outcome.rows)
    columns["rank"] = pa.array(np.arange(len(outcome.rows), dtype=np.int64))
    for name, values in outcome.reason.items():
        columns[name] = plain_column(values)
    pq.write_table(
        pa.table(columns, metadata=MARK), folder / "selection.parquet", compression="zstd"
    )
    return "selection.parquet"


def write_evidence(outcome: Outcome, folder: Path) -> str:
    """Write row int64, rank int64 (null: dropped), then each reason: what a report or a comparison
    of selections needs later.

    Arguments:
        outcome: the selection.
        folder: where the file is written.
    """
    order = np.argsort(outcome.considered, kind="stable")
    seen = outcome.considered[order]
    rank = np.full(len(seen), -1, np.int64)
    rank[np.searchsorted(seen, outcome.rows)] = np.arange(len(outcome.rows))
    columns = {"row": pa.array(seen), "rank": pa.array(rank, mask=rank < 0)}
    for name, values in outcome.evidence.items():
        columns[name] = plain_column(values[order])
    pq.write_table(
        pa.table(columns, metadata=MARK), folder / "evidence.parquet", compression="zstd"
    )
    return "evidence.parquet"


def write_duplicates(outcome: Outcome, pool: Pool, folder: Path) -> str:
    """Write row, id, digest, duplicate_group: the rows that deduplication left out and the row that
    represents each; sorted by row.

    Arguments:
        outcome: the selection.
        pool: that it was made from.
        folder: where the file is written.
    """
    assert outcome.copies is not None
    columns = row_columns(pool, outcome.copies[:, 0]) | {
        "duplicate_group": pa.array(outcome.copies[:, 1])
    }
    pq.write_table(
        pa.table(columns, metadata=MARK), folder / "duplicates.parquet", compression="zstd"
    )
    return "duplicates.parquet"


def write_failures(outcome: Outcome, folder: Path) -> str:
    """Write failures.jsonl: a line for each row that could not be used.

    Arguments:
        outcome: the selection.
        folder: where the file is written.
    """
    with open(folder / "failures.jsonl", "w", encoding="utf-8", errors="backslashreplace") as f:
        for failure in outcome.failures:
            f.write(json.dumps(asdict(failure), ensure_ascii=False) + "\n")
    return "failures.jsonl"


def write_findings(outcome: Outcome, folder: Path) -> list[str]:
    """The findings in a validation set. A line of errors.jsonl: the record's own fields, its id,
    question and images.

    Arguments:
        outcome: the selection.
        folder: where the files are written.
    """
    from thresher.pools import open_pool
    from thresher.signals.case import plain_question
    from thresher.storage.opening import open_store

    findings, validation = outcome.findings, outcome.recipe.validation
    assert findings is not None and validation is not None
    target = open_pool(*validation, cache=open_store(outcome.recipe.store).root / "pools")
    summary = {"validation": target.spec, "images": target.images_named, **findings.summary}
    (folder / "errors.json").write_text(
        json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    with open(folder / "errors.jsonl", "w", encoding="utf-8", errors="backslashreplace") as f:
        for record in findings.rows:
            sample = target.sample(int(record["row"]))
            where = [image.path for image in sample.images]
            line = {
                **record,
                "id": target.ids([int(record["row"])])[0],
                "question": plain_question(sample),
                "images": where,
            }
            f.write(json.dumps(line, ensure_ascii=False) + "\n")
    return ["errors.json", "errors.jsonl"]


def row_columns(pool: Pool, rows: np.ndarray) -> dict[str, pa.Array]:
    """The columns row, id and digest of some rows.

    Arguments:
        pool: of the rows.
        rows: int64 [k], pool rows.
    """
    raw = np.ascontiguousarray(pool.digest[rows]).tobytes().hex()
    return {
        "row": pa.array(np.asarray(rows, dtype=np.int64)),
        "id": _texts(pool.ids(rows)),
        "digest": pa.array([raw[i : i + 64] for i in range(0, len(raw), 64)], pa.string()),
    }


def _texts(texts: Iterable[str], mask: np.ndarray | None = None) -> pa.Array:
    """A column of texts; null where `mask` (bool [n]) is true."""
    given = list(texts)
    with suppress(UnicodeEncodeError):  # a lone surrogate
        return pa.array(given, pa.string(), mask=mask)
    return pa.array([_storable(text) for text in given], pa.string(), mask=mask)


def _storable(text: str) -> str:
    """Text that UTF-8 can hold: a lone surrogate is escaped, as JSON does it."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def plain_column(values: np.ndarray, known: np.ndarray | None = None) -> pa.Array:
    """An array as a column that any tool reads: bytes become hexadecimal text; null where not
    known.

    Arguments:
        values: [n].
        known: bool [n]; None: all.
    """
    values = np.asarray(values)
    mask = None if known is None else ~known
    if values.dtype.kind == "S":
        width = 2 * values.dtype.itemsize
        raw = np.ascontiguousarray(values).tobytes().hex()
        texts = [raw[i : i + width] for i in range(0, len(raw), width)]
        return pa.array([t if t.strip("0") else "" for t in texts], pa.string(), mask=mask)
    if values.dtype.kind in "OU":
        given = values.tolist()
        return _texts(given if set(map(type, given)) <= {str} else map(str, given), mask)
    return pa.array(values, mask=mask)
