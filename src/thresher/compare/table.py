"""The result of a comparison: all cells, a line per method and budget, notes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from thresher.compare.cell_files import Result
from thresher.request.spelling import as_flag
from thresher.stats.verdict import Interval, Verdict, name_seeds
from thresher.types import Note


@dataclass(frozen=True)
class Line:
    """One method at one budget over all seeds: a row of the table."""

    method: str
    budget: str
    rows: int
    mean: Interval  # accuracy in points, interval over seeds
    percent_of_full: float | None
    verdict: Verdict | None  # None for random and full
    seconds_selection: float  # mean over seeds
    seconds_training: float
    seconds_saved: float | None  # of training, compared with the full pool; None without it
    random_seeds: tuple[int, ...] = ()  # seeds for which the method selected the rows of random


@dataclass(frozen=True)
class Comparison:
    """All cells and their summary."""

    cells: list[Result]
    lines: list[Line]
    notes: list[Note]  # of the summary; notes of the selections are in the cells
    about: dict[str, Any]

    def selection_notes(self) -> list[str]:
        """The notes of the selections, each once, with the methods, budgets and seeds."""
        cells_by_note: dict[str, list[Result]] = {}
        for cell in self.cells:
            for note in cell.notes:
                cells_by_note.setdefault(note, []).append(cell)
        return [f"{_describe_cells(cells)}: {note}" for note, cells in cells_by_note.items()]

    def to_json(self) -> dict[str, Any]:
        return {
            "cells": [asdict(c) for c in self.cells],
            "verdicts": [
                {
                    "method": x.method,
                    "budget": x.budget,
                    "rows": x.rows,
                    "kind": x.verdict.kind,
                    "verdict": x.verdict.words,
                    "difference": x.verdict.difference.mean,
                    "interval": [x.verdict.difference.low, x.verdict.difference.high],
                    "mean": x.mean.mean,
                    "mean_interval": [x.mean.low, x.mean.high],
                    "random": x.verdict.random.mean,
                    "percent_of_full": x.percent_of_full,
                    "seconds_selection": x.seconds_selection,
                    "seconds_training": x.seconds_training,
                    "seconds_saved": x.seconds_saved,
                    "seeds_with_random_rows": list(x.random_seeds),
                }
                for x in self.lines
                if x.verdict is not None
            ],
            "units": (
                "cells: accuracy and macro from 0 to 1; verdicts: points (0 to 100) and 95% "
                "intervals"
            ),
            "notes": [note.spelled(as_flag) for note in self.notes],
            "selection_notes": self.selection_notes(),
            **self.about,
        }


def _describe_cells(cells: Sequence[Result]) -> str:
    """Methods, budgets and seeds of cells.

    Budgets with the same seeds are named together: "winnow 5%, 10%, seeds 0 and 2".
    """
    seeds: dict[tuple[str, str], list[int]] = {}
    for cell in cells:
        seeds.setdefault((cell.method, cell.budget), []).append(cell.seed)
    budgets: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for (method, budget), found in seeds.items():
        budgets.setdefault((method, tuple(found)), []).append(budget)
    return "; ".join(
        f"{method} {', '.join(named)}, {name_seeds(found)}"
        for (method, found), named in budgets.items()
    )
