"""A list of suspects as a file: JSON lines, CSV or parquet, by the name's ending.

JSON lines and parquet carry the mark of `mixture.row_lists`, so --drop finds the rows by digest.
"""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow as pa

from thresher.doctor.suspects import Suspect, Suspects
from thresher.mixture.row_lists import MARK, WRITER
from thresher.request.spelling import as_flag
from thresher.storage.atomic import atomic_write

SUFFIXES = (".jsonl", ".csv", ".parquet")
_TYPES = {
    "int": pa.int64(),
    "str": pa.string(),
    "float": pa.float64(),
    "bool": pa.bool_(),
}


def write_suspects(found: Suspects, path: Path) -> None:
    """Write one record per row, the most likely wrong first.

    Arguments:
        found: the list.
        path: ends in one of `SUFFIXES`.
    """
    with atomic_write(path) as aside:
        if path.suffix == ".jsonl":
            with open(aside, "w", encoding="utf-8", newline="\n") as out:
                for row in found.rows:
                    line = {WRITER: "suspects"} | _record(row)
                    out.write(json.dumps(line, ensure_ascii=False) + "\n")
        elif path.suffix == ".csv":
            import pyarrow.csv as csv

            csv.write_csv(suspects_table(found), aside)
        else:
            import pyarrow.parquet as pq

            table = suspects_table(found).replace_schema_metadata(MARK)
            pq.write_table(table, aside, compression="zstd")


def suspects_table(found: Suspects) -> pa.Table:
    """The fields of `Suspect` as columns."""
    records = [_record(row) for row in found.rows]
    return pa.table(
        {
            f.name: pa.array(
                [r[f.name] for r in records], _TYPES[str(f.type).removesuffix(" | None")]
            )
            for f in fields(Suspect)
        }
    )


def to_json(found: Suspects) -> dict[str, Any]:
    """Plain values: what --json prints."""
    return {
        "path": found.path,
        "model": found.model,
        "rows": found.pool_rows,
        "judged": found.judged,
        "skills": found.skills,
        "threshold": found.options.threshold,
        "found": found.found,
        "expected_wrong": round(found.expected_wrong, 1),
        "notes": [note.spelled(as_flag) for note in found.notes],
        "suspects": [_record(row) for row in found.rows],
    }


def _record(row: Suspect) -> dict[str, Any]:
    """Text that UTF-8 cannot hold (lone surrogates) is escaped."""
    values = {f.name: getattr(row, f.name) for f in fields(Suspect)}
    return {
        k: v.encode("utf-8", "backslashreplace").decode() if isinstance(v, str) else v
        for k, v in values.items()
    }
