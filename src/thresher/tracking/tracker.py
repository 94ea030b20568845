"""What a tracker of experiments receives: settings, numbers over time, tables and texts of a run.

One module for each tracker implements `Tracker`; none is imported before it is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

Value = str | int | float | bool | None
"""A cell of a table, or a setting."""


@dataclass(frozen=True)
class Table:
    """A small table: one tuple of values for each row, in the order of `columns`."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]

    def to_markdown(self) -> str:
        """The table in Markdown; None becomes an empty cell.

        >>> print(Table(("method", "rows"), (("a|b", 3), ("c", None))).to_markdown())
        | method | rows |
        |---|---|
        | a\\|b | 3 |
        | c |  |
        """
        lines = [self.columns, *self.rows]
        cells = [["" if v is None else _cell(v) for v in line] for line in lines]
        rule = "|" + "---|" * len(self.columns)
        first, *rest = ["| " + " | ".join(line) + " |" for line in cells]
        return "\n".join([first, rule, *rest])


def _cell(value: Value) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return " ".join(text.split()).replace("|", "\\|")


class Tracker(Protocol):
    """One run in a tracker. Any method may raise what the tracker's package raises."""

    def settings(self, values: Mapping[str, Value]) -> None:
        """What the run was asked for, once, at its start. `values`: by name, without None."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Numbers at one point of the run.

        Arguments:
            values: by name; the part before the last `/` groups numbers with a common x axis.
            step: position on that axis, not decreasing within a group.
        """

    def summary(self, values: Mapping[str, float]) -> None:
        """Numbers of the whole run. `values`: by name."""

    def table(self, name: str, table: Table) -> None:
        """A table of the whole run.

        Arguments:
            name: of the table.
            table: its content.
        """

    def text(self, name: str, text: str) -> None:
        """A text about the whole run.

        Arguments:
            name: of the text.
            text: Markdown.
        """

    def close(self, failed: bool) -> None:
        """The run ended. `failed`: by an error or an interruption."""
