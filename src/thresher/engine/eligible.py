"""The rows of a pool that can still be selected: rows that fail are excluded with a reason, and the
run stops if there are too many.

Arithmetic on positions (see `numbering`). No I/O.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from thresher.engine.numbering import RowNumbering
from thresher.errors import ConfigError, TooManyFailures, opt

if TYPE_CHECKING:
    from thresher.pools.view import PoolView
    from thresher.request import OnMissing

AUTO_LIMIT = 20  # auto: at most one row in 20 may fail


@dataclass(frozen=True)
class FailedRows:
    """f rows that were excluded for the same signal."""

    positions: np.ndarray  # int64 [f]
    label: str  # of the signal, or "pool" for problems found when the pool was read
    errors: list[str]  # f texts


class FailureLimit(Protocol):
    """How many rows may fail."""

    def check(self, reasons: Counter[str], scored: bool) -> None:
        """Raise TooManyFailures if too many rows failed.

        Arguments:
            reasons: error -> rows that failed with it.
            scored: whether some of them failed when they were scored, not when they were read.
        """


class EligibleRows:
    """The rows that can be selected. Rows are excluded, and never added again.

    Arguments:
        numbering: of the pool's n rows.
        on_missing: how many rows may fail: "auto": 5% of those considered; "exclude": all but one;
            "refuse": none.
        within: bool [n], pool order: the rows that are considered; None: all.
        is_aside: whether a row with this error is set aside instead of counted as a failure.
        limit: replaces that of `on_missing`.
    """

    def __init__(
        self,
        numbering: RowNumbering,
        on_missing: OnMissing = "auto",
        within: np.ndarray | None = None,
        is_aside: Callable[[str], bool] | None = None,
        limit: FailureLimit | None = None,
    ) -> None:
        n = len(numbering)
        self.numbering = numbering
        # [n] bool, by position
        self.mask = np.ones(n, bool) if within is None else within[numbering.pool_rows]
        self.considered = int(self.mask.sum())  # rows that were eligible at the start
        self.failed: list[FailedRows] = []
        self.set_aside: list[np.ndarray] = []  # positions, int64 [s] each
        self._removed = np.zeros(n, bool)  # by position
        self._is_aside = is_aside or (lambda error: False)
        self._limit = limit or PoolLimit(on_missing, self.considered)
        self._reasons: Counter[str] = Counter()

    @property
    def pool_rows(self) -> np.ndarray:
        """int64 [e]: the pool rows that are eligible, in canonical order."""
        rows: np.ndarray = self.numbering.pool_rows[self.mask]
        return rows

    @property
    def pool_rows_aside(self) -> np.ndarray:
        """int64 [s]: the pool rows that were set aside and not removed, in the order of `ties`."""
        positions = np.concatenate([np.zeros(0, np.int64), *self.set_aside])  # [s] int64
        positions = positions[~self._removed[positions]]
        order = np.argsort(self.numbering.ties[positions], kind="stable")  # [s] int64
        return np.asarray(self.numbering.pool_rows[positions[order]])

    def remove(self, pool_rows: np.ndarray) -> None:
        """Exclude pool rows (int64 [r]) that did not fail, also ones that are set aside."""
        positions = self.numbering.positions[pool_rows]
        self.mask[positions] = False
        self._removed[positions] = True

    def exclude(self, positions: np.ndarray, label: str, errors: list[str]) -> None:
        """Exclude failed rows; those that are excluded already are not counted again.

        Raises TooManyFailures.

        Arguments:
            positions: int64 [f].
            label: of the signal that they failed for.
            errors: one for each position.
        """
        eligible = self.mask[positions]  # [f] bool
        aside = np.fromiter(map(self._is_aside, errors), bool, len(errors))  # [f] bool
        self.set_aside.append(positions[eligible & aside])
        new = np.flatnonzero(eligible & ~aside)  # [new] int64, into `positions`
        self.mask[positions] = False
        if not len(new):
            return
        errors = [errors[i] for i in new.tolist()]
        self.failed.append(FailedRows(positions[new], label, errors))
        self._reasons.update(errors)
        self.check()

    def exclude_known_problems(self, pool: PoolView, needs_model: bool) -> None:
        """Exclude the rows that are known to be unusable since the pool was read.

        Raises TooManyFailures.

        Arguments:
            pool: the pool.
            needs_model: also exclude rows with a problem or a missing image, not only lines that
                are not records.
        """
        position, problems = self.numbering.positions, pool.problems
        rows = sorted(problems) if needs_model else np.flatnonzero(pool.unreadable).tolist()
        self.exclude(position[rows], "pool", [problems[r] for r in rows])
        if needs_model:
            missing = np.flatnonzero(pool.facts["missing_images"])  # [i] int64, pool rows
            missing = missing[self.mask[position[missing]]]
            self.exclude(position[missing], "pool", pool.missing_image_reasons(missing))

    def check(self, more: Counter[str] | None = None) -> None:
        """Raise TooManyFailures if too many rows failed.

        Arguments:
            more: error -> number of rows, failures that are not excluded yet.
        """
        new = {e: rows for e, rows in (more or {}).items() if not self._is_aside(e)}
        scored = bool(more) or any(failed.label != "pool" for failed in self.failed)
        self._limit.check(self._reasons + Counter(new), scored)


class PoolLimit:
    """The limit that the option `on_missing` sets for a pool.

    Arguments:
        on_missing: "auto", "exclude" or "refuse".
        rows: number of rows that are considered.
    """

    def __init__(self, on_missing: OnMissing, rows: int) -> None:
        if on_missing not in ("auto", "exclude", "refuse"):
            raise ConfigError(
                " is unknown. Give auto, exclude or refuse.", option="on_missing", value=on_missing
            )
        self.on_missing, self.rows = on_missing, rows

    def check(self, reasons: Counter[str], scored: bool) -> None:
        failed, n = reasons.total(), self.rows
        allowed = {"auto": n // AUTO_LIMIT, "refuse": 0, "exclude": n - 1}[self.on_missing]
        if failed <= allowed:
            return
        limit = {
            "auto": "at most 5% may be left out by default",
            "refuse": f"{opt('on_missing', 'refuse')} allows none",
            "exclude": "no row is left",
        }[self.on_missing]
        look = "Look at them with `thresher doctor`"
        if scored:
            look += f", try stored failures again with {opt('retry_errors', True)}"
        do = (
            ""
            if self.on_missing == "exclude"
            else f", or continue without these rows: {opt('on_missing', 'exclude')}"
        )
        raise TooManyFailures(
            f"{failed:,} of {n:,} rows cannot be used ({limit}). Most common reasons: "
            f"{commonest(reasons)}. {look}{do}. What was scored is stored."
        )


def without_names(reason: str) -> str:
    """The reason with paths and numbers replaced by "…": equal for reasons that differ only in
    these."""
    return re.sub(r"\S*[/\\.]\S+|\d+", "…", reason)


def commonest(reasons: Counter[str], most: int = 3) -> str:
    """The most common reasons with their counts, as text for a message.

    Reasons that differ only in a path or a number count as one; an example is printed.

    Arguments:
        reasons: reason -> number of rows.
        most: maximum number of reasons.
    """
    groups: Counter[str] = Counter()
    example: dict[str, str] = {}
    for reason, rows in reasons.items():
        group = without_names(reason)
        groups[group] += rows
        example[group] = min(example.get(group, reason), reason)
    ranked = sorted(groups, key=lambda g: (-groups[g], g))
    more = f"; and {len(ranked) - most} more kinds" if len(ranked) > most else ""
    return "; ".join(f"{groups[g]:,} × {example[g]}" for g in ranked[:most]) + more
