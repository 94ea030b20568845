"""The section on the method: what it considered, for the pool and for the kept rows. Only the
columns of its reasons are read.

The drawings of a method's own explanation come first; any other column is drawn by its type.
"""

from __future__ import annotations

from dataclasses import dataclass

from thresher.report import breakdown
from thresher.report.breakdown import Panel
from thresher.report.chart import Figure
from thresher.report.columns import constant, is_number, meaning
from thresher.report.drawings import draw
from thresher.report.figures import column_breakdown, one
from thresher.report.folder import LoadedSelection
from thresher.report.words import explanation


@dataclass(frozen=True)
class MethodSection:
    """The content of the section on the method."""

    lead: str
    figures: tuple[Figure, ...]
    panels: tuple[Panel, ...]


def method_section(made: LoadedSelection) -> MethodSection:
    """The section on the selection's method; no figures and no panels if it has no reasons."""
    told = explanation(made)
    drawn = [shape for drawing in told.drawings for shape in draw(made, drawing)]
    figures = [shape for shape in drawn if isinstance(shape, Figure)]
    panels = [shape for shape in drawn if isinstance(shape, Panel)]
    more_figures, more_panels = _columns(
        made, told.hidden | (told.drawn if figures else frozenset())
    )
    return MethodSection(
        told.lead or _lead(made), (*figures, *more_figures), (*panels, *more_panels)
    )


def _lead(made: LoadedSelection) -> str:
    if made.reasons and all(constant(v) for v in made.reasons.values()):
        names = ", ".join(meaning(name, made.settings).title for name in made.reasons)
        return f"{names}: the same in every row, so there is nothing to plot, and the seed decided."
    return "What the method knew about each row, in the pool and among the kept rows."


def _columns(made: LoadedSelection, skip: frozenset[str]) -> tuple[list[Figure], list[Panel]]:
    figures, panels = [], []
    for name, values in made.reasons.items():
        if name in skip or constant(values) or not meaning(name, made.settings).drawn:
            continue
        if is_number(values):
            figures += one(made, name)
        elif not breakdown.is_free_text(values):
            panels.append(column_breakdown(made, name))
    return figures, panels
