"""Rows of a selection in groups: by answer length, source, skill; failures by reason."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from thresher.selection.result import Failure

LENGTHS = (
    (1, "at most 1 word"),
    (5, "2-5 words"),
    (20, "6-20 words"),
    (100, "21-100 words"),
    (2**31, "over 100 words"),
)
MOST_SOURCES = 12


def lengths(words: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Answer lengths [n] in words -> (name, mask [n]) of the classes that occur, shortest first."""
    out, low = [], 0
    for high, name in LENGTHS:
        mask = (words >= low) & (words <= high)
        if mask.any():
            out.append((name, mask))
        low = high + 1
    return out


def by_source(
    source: np.ndarray,
    names: tuple[str, ...],
    most: int = MOST_SOURCES,
    others: str = "smaller sources",
) -> list[tuple[str, np.ndarray]]:
    """(name, mask [n]) of each source, largest first. Beyond `most`, the small ones are combined
    and named by their number and `others`.

    Arguments:
        source: int32 [n], index into `names`.
        names: of the sources.
        most: maximum number of sources that are named.
        others: the noun for the rest.
    """
    counts = np.bincount(source, minlength=len(names))
    ranked = [i for i in np.lexsort((np.arange(len(names)), -counts)).tolist() if counts[i]]
    listed = ranked if len(ranked) <= most else ranked[: most - 1]
    out = [(names[i] or "(none)", source == i) for i in listed]
    if len(listed) < len(ranked):
        out.append((f"{len(ranked) - len(listed):,} {others}", ~np.isin(source, listed)))
    return out


def failure_kinds(failures: list[Failure]) -> list[list[Failure]]:
    """Failures that differ in a path or number only, together; most frequent first, each in pool
    order."""
    from thresher.engine.eligible import without_names

    kinds: dict[tuple[str, str], list[Failure]] = defaultdict(list)
    for failure in failures:
        kinds[failure.signal, without_names(failure.error)].append(failure)
    return [kinds[k] for k in sorted(kinds, key=lambda k: (-len(kinds[k]), k))]


def skill_labels(reasons: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """The skill of each row in words, [n] texts; None if the reasons hold none."""
    for name in ("skill", "skill_words"):
        values = reasons.get(name)
        if values is not None and values.dtype.kind in "OU":
            return values
    return None
