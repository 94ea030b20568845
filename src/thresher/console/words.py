"""Numbers and names as sentences and tables show them."""

from __future__ import annotations

LONGEST_NAME = 60  # characters of a source's name


def counted(n: int, noun: str = "row") -> str:
    """ "1 row", "1,234 rows"."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def duration(seconds: float | None) -> str:
    """
    >>> [duration(s) for s in (None, 0.2, 4.24, 75, 7325)]
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


def share(part: int, whole: int) -> str:
    """`part` of `whole` in percent with one decimal, "-" where there is no whole."""
    return f"{100 * part / whole:.1f}%" if whole else "-"


def short(name: str) -> str:
    """A source's name as charts and sentences show it: some pools have a path or a URL there, of any length.

    >>> short("ocr_vqa"), len(short("x" * 300))
    ('ocr_vqa', 60)
    """
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
