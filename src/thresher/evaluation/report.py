"""What an evaluation found, in numbers: overall, macro, by group, each with its interval; as JSON,
and row by row as parquet.

    FILE.json      {"accuracy", "macro", "n", "interval": [lo, hi], "by": {group: {…}}, …}
    FILE.parquet   a row for every row of the data: expected and given answer, whether right, or why
                   it failed

Aggregation is pure; `write` touches the two files.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from thresher.errors import StoreError
from thresher.stats.intervals import interval, macro_interval
from thresher.storage.atomic import atomic_write
from thresher.storage.lock import folder_lock
from thresher.storage.writable import check_file

INTERVALS = (
    "95%, Wilson, with rows that show the same image as one cluster (design effect, Student's "
    "quantile over clusters)"
)


@dataclass(frozen=True)
class Group:
    """One group's numbers; `accuracy` in [0, 1]."""

    accuracy: float
    n: int
    interval: tuple[float, float]
    anls: float
    relaxed: float
    failed: int


@dataclass(frozen=True)
class Evaluation:
    """`n` rows were answered and are in all numbers; `failed` rows were not and are in none."""

    accuracy: float
    macro: float
    n: int
    interval: tuple[float, float]
    by: dict[str, Group]
    rows: pa.Table
    macro_interval: tuple[float, float]
    anls: float
    relaxed: float
    failed: int
    failures: Counter[str]  # why -> rows
    scored: dict[str, int]  # "choice" and "generate" -> rows answered that way
    cut: int  # generated answers that did not end by themselves
    asked: int  # answers that the model gave now; the others were in the store
    seconds: float
    # what was asked of which model, for the JSON
    about: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "accuracy": self.accuracy,
            "macro": self.macro,
            "n": self.n,
            "interval": list(self.interval),
            "by": {name: {**vars(g), "interval": list(g.interval)} for name, g in self.by.items()},
            "macro_interval": list(self.macro_interval),
            "anls": self.anls,
            "relaxed": self.relaxed,
            "failed": self.failed,
            "failures": dict(self.failures.most_common(20)),
            "scored_by": self.scored,
            "cut": self.cut,
            "intervals": INTERVALS,
            **self.about,
        }


def summarise(
    rows: pa.Table,
    cluster: np.ndarray,
    *,
    cut: int,
    asked: int,
    seconds: float,
    about: dict[str, Any],
) -> Evaluation:
    """`rows`: columns group, scored, error, correct, anls, relaxed (null where error); `cluster`:
    int [n], one a row.

    Groups come by name. Raises StoreError when no row was answered.
    """
    error = np.array(rows["error"].to_pylist(), dtype=object)
    good = np.flatnonzero(error == "")
    failures = Counter(e for e in error.tolist() if e)
    if not len(good):
        raise StoreError(f"No row could be evaluated. {failures.most_common(1)}")
    names, code = np.unique(
        np.array(rows["group"].to_pylist(), dtype=object).astype(str), return_inverse=True
    )
    columns = {
        name: np.array([float(v) for v in rows[name].take(pa.array(good)).to_pylist()])
        for name in ("correct", "anls", "relaxed")
    }
    correct, group, cluster = columns["correct"], code[good], cluster[good]
    by: dict[str, Group] = {}
    for g, name in enumerate(names.tolist()):
        here = np.flatnonzero(group == g)
        failed = int((code == g).sum()) - len(here)
        if len(here):
            by[name] = Group(
                float(correct[here].mean()),
                len(here),
                interval(correct[here], cluster[here]),
                float(columns["anls"][here].mean()),
                float(columns["relaxed"][here].mean()),
                failed,
            )
    how = Counter(rows["scored"].take(pa.array(good)).to_pylist())
    return Evaluation(
        accuracy=float(correct.mean()),
        macro=float(np.mean([g.accuracy for g in by.values()])),
        n=len(good),
        interval=interval(correct, cluster),
        by=by,
        rows=rows,
        macro_interval=macro_interval(correct, group, cluster),
        anls=float(columns["anls"].mean()),
        relaxed=float(columns["relaxed"].mean()),
        failed=int(failures.total()),
        failures=failures,
        scored={name: how[name] for name in ("choice", "generate") if how[name]},
        cut=cut,
        asked=asked,
        seconds=seconds,
        about=about,
    )


def check_out(out: str | Path) -> Path:
    """The JSON file to write, checked before anything is spent. Raises ConfigError."""
    path = Path(out)
    return check_file(path, suffixes=(".json",), beside=(path.with_suffix(".parquet").name,))


def write(content: dict[str, Any], rows: pa.Table | None, out: Path) -> None:
    """The JSON file and, with rows, the parquet beside it. Both are written aside before either is
    replaced.

    Raises StoreError (disk full, no permission).
    """
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    try:
        with (
            folder_lock(out.parent, "writes an evaluation there"),
            contextlib.ExitStack() as renames,
        ):
            # left in reverse order: first the parquet takes its place, then the JSON
            renames.enter_context(atomic_write(out)).write_text(
                text, encoding="utf-8", errors="backslashreplace"
            )
            if rows is not None:
                aside = renames.enter_context(atomic_write(out.with_suffix(".parquet")))
                pq.write_table(rows, aside, compression="zstd")
    except OSError as e:
        raise StoreError(
            f"--out {out} cannot be written: {e.strerror or e}. The answers are stored; run again."
        ) from e
