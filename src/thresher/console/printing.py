"""Results on standard output: lines, wrapped on a terminal only, and tables."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

NARROW = 72  # columns of a terminal below which tables omit optional columns
MOST_COLUMNS = 110  # of a paragraph: longer lines are hard to read
_COMMANDS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def stdout() -> Console:
    """A console for results. Lines written to a pipe or file are not wrapped."""
    import sys

    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else 140)


def say(console: Console, text: str, *, markup: bool = True) -> None:
    """Print a line of a result, wrapped between words on a terminal only.

    A word that is longer than the terminal, such as a path, is left to the terminal.

    Arguments:
        console: where it is printed.
        text: the line.
        markup: whether `text` contains rich's markup.
    """
    import textwrap

    from rich.text import Text

    text = plain(text)
    whole = Text.from_markup(text) if markup else Text(text)
    cuts: list[int] = []
    if console.file.isatty():
        width, at = min(console.width, MOST_COLUMNS), 0
        for line in textwrap.wrap(
            whole.plain,
            width,
            break_long_words=False,
            break_on_hyphens=False,
            replace_whitespace=False,
        ):
            cuts.append(whole.plain.index(line, at))
            at = cuts[-1] + len(line)
    for piece in whole.divide(cuts[1:]):
        piece.rstrip()
        console.print(piece, soft_wrap=True)


def plain(text: str) -> str:
    """Text that is safe for a terminal: control characters other than line ends, and bidi
    overrides, become �.

    >>> plain("red\x1b[31m\u202e")
    'red�[31m�'
    """
    return _COMMANDS.sub("\ufffd", text)


def table(*columns: str, numbers: bool = True) -> Table:
    """A plain table; with `numbers`, all columns but the first are aligned to the right.

    Arguments:
        numbers: whether all columns but the first are aligned to the right.
        columns: the headers.
    """
    from rich import box
    from rich.table import Table

    out = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), header_style="bold")
    for i, name in enumerate(columns):
        out.add_column(name, justify="right" if numbers and i else "left", overflow="fold")
    return out
