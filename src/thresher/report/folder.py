"""Loads a selection folder for a report: run.yaml, evidence.parquet, failures.jsonl and the pool.

`of_outcome` does the same for a selection in memory. The pool must be unchanged, since rows are
looked up by number.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from thresher.errors import ConfigError, PoolError
from thresher.methods import method_class
from thresher.methods.explanation import Evidence, Explanation
from thresher.request.spelling import as_flag
from thresher.selection import folder as output
from thresher.selection.result import Failure
from thresher.storage.arrow_values import column_array
from thresher.text import ParseError, parse_json, split_lines
from thresher.types import Note, seeded_ties

if TYPE_CHECKING:
    from thresher.pools import Pool
    from thresher.selection.result import Outcome


@dataclass(frozen=True)
class LoadedSelection:
    """A selection with its pool and reasons; `c` is the number of rows that the method saw."""

    folder: Path
    run: dict[str, Any]  # run.yaml
    pool: Pool
    rows: np.ndarray  # int64 [c], pool rows, ascending
    rank: np.ndarray  # int64 [c], 0 = best; -1 = not kept
    reasons: dict[str, np.ndarray]  # name -> [c]; float, int, bool, or object holding str
    failures: list[Failure]
    # uint64 [pool rows]: a seeded hash of each row; the smallest keys form a random sample
    sampling_keys: np.ndarray

    @cached_property
    def kept(self) -> np.ndarray:
        """bool [c]."""
        return self.rank >= 0

    @cached_property
    def kept_rows(self) -> np.ndarray:
        """int64 [k], pool rows, best first."""
        at = np.flatnonzero(self.kept)
        return self.rows[at[np.argsort(self.rank[at], kind="stable")]]

    @cached_property
    def in_pool(self) -> np.ndarray:
        """bool [pool rows]: kept."""
        out = np.zeros(len(self.pool), bool)
        out[self.rows[self.kept]] = True
        return out

    @property
    def method(self) -> str:
        return str(self.run["method"]["name"])

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self.run["method"].get("settings") or {})

    @property
    def seed(self) -> int:
        return int(self.run["method"]["seed"])

    @cached_property
    def explanation(self) -> Explanation:
        """Of the method; empty if it has no `explain`, or is no longer installed."""
        try:
            cls = method_class(self.method)
        except ConfigError:
            return Explanation()
        if not hasattr(cls, "explain"):
            return Explanation()
        found: Explanation = cls.explain(
            Evidence(self.reasons, self.kept, self.settings, self._findings())
        )
        return found

    def _findings(self) -> dict[str, Any]:
        if "findings" in self.run:  # of a selection that was not written yet
            return dict(self.run["findings"])
        try:
            findings = json.loads((self.folder / "errors.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return findings if isinstance(findings, dict) else {}

    @property
    def notes(self) -> list[Note]:
        """Of kind "" if an earlier version, or somebody else, wrote them."""
        texts, kinds = self.run.get("notes") or [], self.run.get("note_kinds") or []
        if len(kinds) != len(texts):
            kinds = [""] * len(texts)
        return [Note(str(kind), str(text)) for kind, text in zip(kinds, texts, strict=True)]


def load(folder: str | Path, pool: Pool | None = None) -> LoadedSelection:
    """Load the selection in `folder`.

    Arguments:
        folder: an output folder of `select`.
        pool: its pool; None: opened from the path in run.yaml.

    Raises ConfigError (not a selection, or no evidence) and PoolError (the pool has changed).
    """
    folder = Path(folder)
    run = output.read(folder)
    table = _parquet(folder / "evidence.parquet")
    if pool is None:
        pool = open_pool_of(run)
    rows = column_array(table["row"])
    rank = column_array(table["rank"].fill_null(-1))
    _check_same(folder, pool, rows)
    names = [name for name in table.column_names if name not in ("row", "rank")]
    reasons = {name: column_array(table[name]) for name in names}
    return LoadedSelection(
        folder,
        run,
        pool,
        rows,
        rank,
        reasons,
        read_failures(folder),
        sampling_keys(pool, int(run["method"]["seed"])),
    )


def of_outcome(outcome: Outcome, pool: Pool) -> LoadedSelection:
    """A LoadedSelection of a selection in memory: without a folder, and `run` has only the method
    and the notes.

    Arguments:
        outcome: the selection.
        pool: that it was made from.
    """
    recipe, seed = outcome.recipe, outcome.recipe.request.seed
    order = np.argsort(outcome.considered, kind="stable")
    rows = outcome.considered[order]
    rank = np.full(len(rows), -1, np.int64)
    rank[np.searchsorted(rows, outcome.rows)] = np.arange(len(outcome.rows))
    settings = {name: "none" if value is None else value for name, value in recipe.settings.items()}
    run = {
        "method": {"name": recipe.method, "seed": seed, "settings": settings},
        "notes": [note.spelled(as_flag) for note in outcome.notes],
        "note_kinds": [note.kind for note in outcome.notes],
    }
    reasons = {name: _words(np.asarray(values)[order]) for name, values in outcome.evidence.items()}
    keys = sampling_keys(pool, seed)
    return LoadedSelection(Path(), run, pool, rows, rank, reasons, outcome.failures, keys)


def sampling_keys(pool: Pool, seed: int) -> np.ndarray:
    """Seeded hashes of the rows, uint64 [n], independent of the file order; the rows with the
    smallest hashes are a random sample.

    Arguments:
        pool: of n rows.
        seed: of the selection.
    """
    return seeded_ties(pool.digest[pool.order], seed)[pool.rank]


def _words(values: np.ndarray) -> np.ndarray:
    """Converts texts to object arrays of str, as loaded from a file; other arrays are unchanged."""
    return np.array([str(v) for v in values], object) if values.dtype.kind in "OU" else values


def open_pool_of(run: dict[str, Any]) -> Pool:
    """Open the pool that a run.yaml names, using the cache beside its store if there is one.

    Raises PoolError.
    """
    from thresher.pools import open_pool
    from thresher.storage.opening import pool_cache

    cache = pool_cache(run["store"])
    recorded = run["pool"]
    pool = open_pool(
        recorded["path"],
        recorded["images"],
        cache=cache if cache is not None and cache.is_dir() else None,
        format=recorded.get("read_as"),
        trust_paths=recorded.get("trust_paths", False),
    )
    if recorded.get("video_frames") is not None:
        pool.score_videos(recorded["video_frames"])
    return pool


def read_failures(folder: Path) -> list[Failure]:
    """The failures in failures.jsonl; [] if there is no such file."""
    try:
        text = (folder / "failures.jsonl").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    found = []
    for number, line in enumerate(split_lines(text), start=1):
        if not line.strip():
            continue
        try:
            found.append(Failure(**parse_json(line)))
        except (ParseError, TypeError) as error:
            raise PoolError(
                f"{folder / 'failures.jsonl'}, line {number} is not in thresher's format: {error}. "
                "Run the selection again, or delete the line."
            ) from None
    return found


def _parquet(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except FileNotFoundError:
        raise ConfigError(
            f"{path} does not exist: the selection was made by an older thresher. Select again; "
            "stored scores are reused."
        ) from None
    except (OSError, pa.ArrowInvalid) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from error


def _check_same(folder: Path, pool: Pool, rows: np.ndarray) -> None:
    chosen = pq.read_table(folder / "selection.parquet", columns=["row", "digest"])
    kept, digests = column_array(chosen["row"]), chosen["digest"].to_pylist()
    there = rows.max(initial=-1) < len(pool) and kept.max(initial=-1) < len(pool)
    if not there or pool.digest[kept].tobytes().hex() != "".join(map(str, digests)):
        raise PoolError(
            f"{pool.path} is no longer the pool that {folder} was selected from: its rows or "
            "images have changed, or an older version of thresher, which identified images by "
            "path and size, made the selection. Put the old files back, or select again."
        )
