"""Words and cells of the pages' tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date

import numpy as np

from thresher.stats.verdict import Verdict


def gap(verdict: Verdict | None) -> str:
    """The difference from random with its interval; "" if there is none."""
    if verdict is None:
        return ""
    return f"{verdict.difference.mean:+.1f} ± {verdict.difference.half:.1f}"


def marked(verdict: Verdict | None) -> str:
    """Likewise, bold if the interval excludes 0."""
    text = gap(verdict)
    return f"**{text}**" if verdict is not None and verdict.kind != "no gain" else text


def words(verdict: Verdict | None) -> str:
    if verdict is None:
        return ""
    return {"beats": "**beats random**", "worse": "worse than random"}.get(verdict.kind, "no gain")


def percent(values: np.ndarray) -> str:
    return f"{100 * float(values.mean()):.0f}%"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns except the first, "verdict", "method" and unnamed ones are
    right-aligned."""
    left = ("verdict", "method", "")
    marks = ["---"] + ["---" if h in left else "---:" for h in header[1:]]
    lines = ["| " + " | ".join(header) + " |", "|" + "|".join(marks) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def span(days: Iterable[date]) -> str:
    """The first and the last day, as text.

    >>> span([date(2026, 1, 3), date(2026, 1, 2)]), span([date(2026, 1, 3)])
    ('2026-01-02 to 2026-01-03', '2026-01-03')
    """
    ordered = sorted(days)
    first, last = ordered[0].isoformat(), ordered[-1].isoformat()
    return first if first == last else f"{first} to {last}"
