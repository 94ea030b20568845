"""The results of an evaluation: overall, macro, by group, each with its confidence interval; as
JSON, and per row as parquet.

    FILE.json      {"accuracy", "macro", "n", "interval": [lo, hi], "by": {group: {…}}, …}
    FILE.parquet   one row per row of the data: expected and given answer, whether it is correct, or
                   why it failed

Aggregation is pure; `write_evaluation` writes the two files.
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
    """The results of one group; accuracies and ANLS in [0, 1]."""

    accuracy: float
    n: int
    interval: tuple[float, float]
    anls: float
    relaxed: float
    failed: int


@dataclass(frozen=True)
class Evaluation:
    """The results. All numbers are over the `n` answered rows; the `failed` rows are in none of
    them.
    """

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
    failures: Counter[str]  # reason -> rows
    scored: dict[str, int]  # "choice" and "generate" -> rows scored that way
    cut: int  # generated answers that reached the token limit
    asked: int  # answers that the model gave in this run; the others were stored
    seconds: float
    # metadata for the JSON: model, data, options
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
    """Aggregate the rows' scores.

    Arguments:
        rows: columns group, scored, error, correct, anls, relaxed (null for rows with an error).
        cluster: int [n], equal for rows with the same images.
        cut: generated answers that reached the token limit.
        asked: answers that the model gave in this run.
        seconds: duration.
        about: metadata for the JSON.

    Groups are sorted by name. Raises StoreError if no row was answered.
    """
    error = np.array(rows["error"].to_pylist(), dtype=object)
    answered = np.flatnonzero(error == "")
    failures = Counter(e for e in error.tolist() if e)
    if not len(answered):
        raise StoreError(f"No row could be evaluated. {failures.most_common(1)}")
    names, code = np.unique(
        np.array(rows["group"].to_pylist(), dtype=object).astype(str), return_inverse=True
    )
    columns = {
        name: np.array([float(v) for v in rows[name].take(pa.array(answered)).to_pylist()])
        for name in ("correct", "anls", "relaxed")
    }
    correct, group, cluster = columns["correct"], code[answered], cluster[answered]
    by: dict[str, Group] = {}
    for g, name in enumerate(names.tolist()):
        members = np.flatnonzero(group == g)
        failed = int((code == g).sum()) - len(members)
        if len(members):
            by[name] = Group(
                float(correct[members].mean()),
                len(members),
                interval(correct[members], cluster[members]),
                float(columns["anls"][members].mean()),
                float(columns["relaxed"][members].mean()),
                failed,
            )
    scored_by = Counter(rows["scored"].take(pa.array(answered)).to_pylist())
    return Evaluation(
        accuracy=float(correct.mean()),
        macro=float(np.mean([g.accuracy for g in by.values()])),
        n=len(answered),
        interval=interval(correct, cluster),
        by=by,
        rows=rows,
        macro_interval=macro_interval(correct, group, cluster),
        anls=float(columns["anls"].mean()),
        relaxed=float(columns["relaxed"].mean()),
        failed=int(failures.total()),
        failures=failures,
        scored={name: scored_by[name] for name in ("choice", "generate") if scored_by[name]},
        cut=cut,
        asked=asked,
        seconds=seconds,
        about=about,
    )


def check_output(out: str | Path) -> Path:
    """The JSON file to write, checked before any work is done. Raises ConfigError."""
    path = Path(out)
    return check_file(path, suffixes=(".json",), beside=(path.with_suffix(".parquet").name,))


def write_evaluation(content: dict[str, Any], rows: pa.Table | None, out: Path) -> None:
    """Write the JSON file and, with `rows`, the parquet file beside it; neither is replaced before
    both are complete.

    Arguments:
        content: of the JSON file.
        rows: a table with one line per row; None: no parquet file.
        out: path of the JSON file.

    Raises StoreError (disk full, no permission).
    """
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    try:
        with (
            folder_lock(out.parent, "writes an evaluation there"),
            contextlib.ExitStack() as renames,
        ):
            # renamed in reverse order: the parquet file first, then the JSON
            renames.enter_context(atomic_write(out)).write_text(
                text, encoding="utf-8", errors="backslashreplace"
            )
            if rows is not None:
                temporary = renames.enter_context(atomic_write(out.with_suffix(".parquet")))
                pq.write_table(rows, temporary, compression="zstd")
    except OSError as e:
        raise StoreError(
            f" cannot be written: {e.strerror or e}. The answers are stored; run again.",
            option="out",
            value=out,
        ) from e
