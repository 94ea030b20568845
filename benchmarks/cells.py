"""Finished cells of comparisons in one small file, to continue them on another machine.

    python -m benchmarks.cells restore docs/results/cells/winnow.parquet out/proof
    make proof                                # computes only the missing cells
    python -m benchmarks.cells save docs/results/cells/winnow.parquet out/proof

`save` adds the cells below a folder to the file, and says how many of those that both have are
different: what was computed again must give the same subset and the same answers. A difference is
an error, and the file is left as it was. `restore` writes the cells that a folder does not have.

A row of the file is a cell (or a small JSON file beside cells, with nulls): the answers of its
model to every question, its subset, when it was computed, and with which versions.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from thresher.compare.cell_files import Result, write_finished
from thresher.storage.atomic import write_bytes
from thresher.storage.checksums import FILES, CorruptFile, check_files, unseal

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("torch", "transformers", "peft", "accelerate")
FOLDERS = ("extras",)  # of small JSON files
MEASURED = ("seconds_selection", "seconds_training")  # differ between machines


@dataclass(frozen=True)
class Stored:
    """A finished cell, or a JSON file if `rows` is None.

    folder: relative to the comparisons' folder.
    name: the cell's fingerprint, or the file's name without .json.
    text: JSON, the cell's row of compare.json or the file's content.
    rows: the questions' answers.
    ranks: the subset, in the pool's canonical order.
    day: when it was computed.
    made_with: commit and versions of packages.
    """

    folder: str
    name: str
    text: str
    rows: list[dict[str, Any]] | None
    ranks: list[int] | None
    day: date
    made_with: str

    @property
    def key(self) -> tuple[str, str]:
        return self.folder, self.name

    def same_as(self, other: Stored) -> bool:
        """Whether both have the same subset and answers, whatever the seconds."""
        return (self.ranks, _known(self.rows)) == (other.ranks, _known(other.rows)) and (
            _timeless(self.text) == _timeless(other.text)
        )


def _known(rows: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
    """The rows without nulls: columns of other cells are null in the file."""
    if rows is None:
        return None
    return [{k: v for k, v in row.items() if v is not None} for row in rows]


def _timeless(text: str) -> Any:
    content = json.loads(text)
    for name in MEASURED if isinstance(content, dict) else ():
        content.pop(name, None)
    return content


def cells_below(out: Path, commit: str | None = None) -> Iterator[Stored]:
    """The finished cells and small JSON files below the folder of comparisons. `commit`: that
    computed them; None: that of this checkout."""
    made_with = _made_with(commit or _commit())
    for file in sorted(out.glob("**/cells/*.json")):
        try:
            result = unseal(file.read_bytes())
            check_files(file.parent, result.pop(FILES))
        except CorruptFile as e:
            sys.exit(f"{file} is damaged ({e}). Delete it, and the comparison computes it again.")
        with np.load(file.with_suffix(".npz")) as arrays:
            ranks = arrays["chosen"].tolist()
        rows = pq.read_table(file.with_suffix(".parquet")).to_pylist()
        folder = file.parents[1].relative_to(out).as_posix()
        yield Stored(folder, file.stem, json.dumps(result), rows, ranks, _day(file), made_with)
    for name in FOLDERS:
        for file in sorted((out / name).glob("*.json")):
            yield Stored(name, file.stem, file.read_text(), None, None, _day(file), made_with)


def _day(file: Path) -> date:
    return datetime.fromtimestamp(file.stat().st_mtime, UTC).date()


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return found.stdout.strip() or "?"


def _made_with(commit: str) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return f"thresher at {commit}, {packages}"


def read(file: Path) -> dict[tuple[str, str], Stored]:
    """The cells of a file by folder and name; empty if there is none."""
    if not file.exists():
        return {}
    try:
        stored = [Stored(**row) for row in pq.read_table(file).to_pylist()]
    except (pa.ArrowException, OSError, TypeError):
        sys.exit(f"{file} is not a file of cells. Expected one that `save` wrote.")
    return {cell.key: cell for cell in stored}


def write(file: Path, cells: dict[tuple[str, str], Stored]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist([vars(cells[key]) for key in sorted(cells)])
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", compression_level=19)
    write_bytes(file, sink.getvalue().to_pybytes())


def save(file: Path, out: Path, commit: str | None = None) -> str:
    """Add the cells below `out` to the file. Exits if one differs from the file's."""
    known, again, added = read(file), 0, 0
    different = []
    found = list(cells_below(out, commit))
    if not found:
        sys.exit(f"There are no finished cells below {out}: expected the folder of a comparison.")
    for cell in found:
        if cell.key not in known:
            known[cell.key] = cell
            added += 1
        elif known[cell.key].same_as(cell):
            again += 1
        else:
            different.append("/".join(cell.key))
    if different:
        sys.exit(
            f"{len(different)} cells below {out} differ from those of {file}, such as "
            f"{different[0]}; nothing was written. Delete the file to start anew."
        )
    write(file, known)
    also = f"; {again} that it had were computed again and are the same" if again else ""
    return f"{file}: {len(known)} cells, {added} of them new{also}."


def restore(file: Path, out: Path) -> str:
    """Write the cells of the file that are not below `out`."""
    written = 0
    for cell in read(file).values():
        small = cell.rows is None
        path = out / cell.folder / ("" if small else "cells") / f"{cell.name}.json"
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if cell.rows is None:
            write_bytes(path, cell.text.encode())
        else:
            _restore_cell(path, cell)
        noon = datetime.combine(cell.day, time(12), UTC).timestamp()
        os.utime(path, (noon, noon))
        written += 1
    return f"{written} cells written below {out}."


def _restore_cell(path: Path, cell: Stored) -> None:
    table = pa.Table.from_pylist(cell.rows or [])
    empty = [name for name in table.column_names if table[name].null_count == len(table)]
    result = Result(**json.loads(cell.text))
    ranks = np.asarray(cell.ranks, np.int64)
    write_finished(path.with_suffix(""), result, table.drop_columns(empty), ranks)
    path.with_suffix("").rmdir()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("what", choices=("save", "restore"))
    parser.add_argument("file", type=Path, help="of cells (Parquet)")
    parser.add_argument("out", type=Path, help="the folder of the comparisons")
    parser.add_argument("--commit", help="of save: that computed the cells (default: this one)")
    a = parser.parse_args()
    if a.what == "restore" and not a.file.exists():
        parser.error(f"{a.file} does not exist.")
    print(save(a.file, a.out, a.commit) if a.what == "save" else restore(a.file, a.out))


if __name__ == "__main__":
    main()
