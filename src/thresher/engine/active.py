"""Which rows of a pool are still in: those that fail leave with a reason, and when too many have
left, the work stops.

Arithmetic on positions (the pool's canonical order). Touches no file, store or model.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np

from thresher.errors import ConfigError, TooManyFailures
from thresher.samplers.ordering import inverse_permutation
from thresher.types import seeded_ties

if TYPE_CHECKING:
    from thresher.pools import Pool

OnMissing = Literal["auto", "exclude", "refuse"]
AUTO_LIMIT = 20  # auto: at most one row in 20 may fail


class ActiveRows:
    """`active`: bool [n], canonical order; only ever shrinks. `within`, `aside`: as `begin` says.

    Raises TooManyFailures as soon as more rows have failed than `on_missing` allows: auto 5% of the
    pool, refuse none.
    """

    def __init__(
        self,
        pool: Pool,
        seed: int,
        on_missing: OnMissing,
        within: np.ndarray | None,
        aside: Callable[[str], bool] | None,
    ) -> None:
        if on_missing not in ("auto", "exclude", "refuse"):
            raise ConfigError(
                f"--on-missing {on_missing} is unknown. Give auto, exclude or refuse."
            )
        self.pool, self.on_missing = pool, on_missing
        self.order: np.ndarray = pool.order
        self.digest: np.ndarray = pool.digest[self.order]
        self.source: np.ndarray = pool.source[self.order]
        self.ties = seeded_ties(self.digest, seed)
        self.active = np.ones(len(pool), dtype=bool) if within is None else within[self.order]
        self.rows = int(self.active.sum())  # that were there to begin with
        self.aside = aside or _none
        self.set_aside: list[np.ndarray] = []  # positions
        self.failed: list[tuple[np.ndarray, str, list[str]]] = []  # positions, signal label, errors
        self._reasons: Counter[str] = Counter()

    def exclude(self, positions: np.ndarray, label: str, errors: list[str]) -> None:
        """Take rows out of the active set because of `errors` (one a position). Raises
        TooManyFailures.

        Rows that are not in it stay unmentioned; those whose error is one for `aside` are no
        failures.
        """
        there = self.active[positions]
        mine = np.fromiter((self.aside(e) for e in errors), bool, len(errors))
        self.set_aside.append(positions[there & mine])
        at = np.flatnonzero(there & ~mine)
        self.active[positions] = False
        if not len(at):
            return
        errors = [errors[i] for i in at.tolist()]
        self.failed.append((positions[at], label, errors))
        self._reasons.update(errors)
        self.check()

    def check(self, more: Counter[str] | None = None) -> None:
        """Raise TooManyFailures if the rows that left, and `more` (error -> rows), are more than is
        allowed."""
        reasons = self._reasons + Counter(
            {e: rows for e, rows in (more or Counter()).items() if not self.aside(e)}
        )
        gone, n = reasons.total(), self.rows
        allowed = {"auto": n // AUTO_LIMIT, "refuse": 0, "exclude": n - 1}[self.on_missing]
        if gone <= allowed:
            return
        limit = {
            "auto": "at most 5% may be left out without asking",
            "refuse": "--on-missing refuse allows none",
            "exclude": "no row is left",
        }[self.on_missing]
        scored = bool(more) or any(label != "pool" for _, label, _ in self.failed)
        look = "Look at them with `thresher doctor`"
        look += ", ask again about stored failures with --retry-errors" if scored else ""
        do = (
            ""
            if self.on_missing == "exclude"
            else (", or go on without these rows: --on-missing exclude")
        )
        raise TooManyFailures(
            f"{gone:,} of {n:,} rows cannot be used ({limit}). Commonest reasons: "
            f"{commonest(reasons)}. {look}{do}. What was scored is stored."
        )

    def exclude_known_problems(self, needs_model: bool) -> None:
        """Rows that the pool itself knows to be unusable leave before anything is spent.

        A method that needs no model keeps every row that is a record at all; one that needs a model
        also loses rows with a problem or a missing image. Raises TooManyFailures.
        """
        position = inverse_permutation(self.order)
        problems = self.pool.problems
        rows = sorted(problems) if needs_model else np.flatnonzero(self.pool.unreadable).tolist()
        self.exclude(position[rows], "pool", [problems[r] for r in rows])
        if needs_model:
            gone = np.flatnonzero(self.pool.facts["missing_images"])
            gone = gone[self.active[position[gone]]]
            self.exclude(position[gone], "pool", self.pool.missing_image_reasons(gone))

    def aside_rows(self) -> np.ndarray:
        """Pool rows that were set aside, in the order of `ties`."""
        at = np.concatenate(self.set_aside) if self.set_aside else np.zeros(0, np.int64)
        at = at[np.argsort(self.ties[at], kind="stable")]
        return np.asarray(self.order[at])


def _none(error: str) -> bool:
    return False


def commonest(reasons: Counter[str], most: int = 3) -> str:
    """The commonest, with counts: those that differ in a path or number only are one, shown by an
    example."""
    groups: Counter[str] = Counter()
    example: dict[str, str] = {}
    for reason, rows in reasons.items():
        group = re.sub(r"\S*[/\\.]\S+|\d+", "…", reason)
        groups[group] += rows
        example[group] = min(example.get(group, reason), reason)
    ranked = sorted(groups, key=lambda g: (-groups[g], g))
    more = f"; and {len(ranked) - most} more kinds" if len(ranked) > most else ""
    return "; ".join(f"{groups[g]:,} × {example[g]}" for g in ranked[:most]) + more
