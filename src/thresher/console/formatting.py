"""Numbers and names as text for messages and tables."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

LONGEST_NAME = 60  # characters of a source name


def pluralize(n: int, noun: str = "row") -> str:
    """A count with its noun: "1 row", "1,234 rows".

    Arguments:
        n: the count.
        noun: in the singular.
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def format_duration(seconds: float | None) -> str:
    """Seconds as text with at most two units; "?" for None.

    >>> [format_duration(s) for s in (None, 0.2, 4.24, 75, 7325)]
    ['?', '0.2 s', '4 s', '1 min 15 s', '2 h 2 min']
    """
    if seconds is None:
        return "?"
    if seconds < 1:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def format_bytes(size: int) -> str:
    """A size on disk, in units of 1,000.

    >>> [format_bytes(n) for n in (0, 999, 1000, 1_250_000, 38_400_000_000)]
    ['0 B', '999 B', '1.0 kB', '1.2 MB', '38.4 GB']
    """
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"


def percent_below(share: float, digits: int = 1) -> str:
    """A share that is below a limit, in percent, rounded down, so that it does not read as the
    limit.

    Arguments:
        share: 0 … 1.
        digits: after the point.

    >>> percent_below(0.00998, 2), percent_below(0.4999)
    ('0.99%', '49.9%')
    """
    factor = 10 ** (digits + 2)
    whole = math.floor(share * factor + 1e-4)  # 0.3 as float32 is below 0.3
    return f"{whole / factor:.{digits}%}"


def format_percent(part: int, whole: int) -> str:
    """`part` of `whole` as a percentage with one decimal; "-" if `whole` is 0.

    Arguments:
        part: a count.
        whole: a count, at least `part`.
    """
    return f"{100 * part / whole:.1f}%" if whole else "-"


def truncate(name: str) -> str:
    """A source name shortened for charts and messages: some pools have long paths or URLs as names.

    >>> truncate("ocr_vqa"), len(truncate("x" * 300))
    ('ocr_vqa', 60)
    """
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def tick_text(value: float) -> str:
    """
    >>> [tick_text(v) for v in (0.0, 0.25, 3.0, 1500.0, 2e6, -0.5)]
    ['0', '0.25', '3', '1,500', '2e+06', '−0.5']
    """
    text = f"{value:.4g}" if abs(value) < 1000 or abs(value) >= 1e6 else f"{value:,.0f}"
    return text.replace("-", "−", 1) if text.startswith("-") else text


def number_text(value: Any, unit: str = "") -> str:
    """One value as people read it.

    Arguments:
        value: a number, text or bool.
        unit: appended to a number.

    >>> [number_text(v) for v in (True, 3, 0.12345, "W_q", float("nan"))]
    ['yes', '3', '0.1235', 'W_q', 'none']
    """
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (int, float, np.integer, np.floating)):
        if np.isnan(value):
            return "none"
        if float(value) == 1 and unit in ("words", "characters"):
            unit = unit[:-1]
        return tick_text(float(value)) + (f" {unit}" if unit else "")
    return str(value) or "none"
