"""The method's own picture: what it looked at, for the pool and for the rows it kept. Drawn from
its reasons alone.

A method that explains itself says what is drawn first; any other column is drawn by its kind.
"""

from __future__ import annotations

from dataclasses import dataclass

from thresher.report import tally
from thresher.report.chart import Figure
from thresher.report.columns import constant, is_number, meaning
from thresher.report.drawings import draw
from thresher.report.figures import one, tally_of
from thresher.report.folder import Made
from thresher.report.tally import Panel
from thresher.report.words import explanation


@dataclass(frozen=True)
class Picture:
    """What stands in the section on the method."""

    lead: str
    figures: tuple[Figure, ...]
    panels: tuple[Panel, ...]


def picture(made: Made) -> Picture:
    """The picture of this selection; with neither figures nor panels where the method has no
    reasons."""
    told = explanation(made)
    drawn = [shape for drawing in told.drawings for shape in draw(made, drawing)]
    figures = [shape for shape in drawn if isinstance(shape, Figure)]
    panels = [shape for shape in drawn if isinstance(shape, Panel)]
    more_figures, more_panels = _columns(
        made, told.hidden | (told.drawn if figures else frozenset())
    )
    return Picture(told.lead or _lead(made), (*figures, *more_figures), (*panels, *more_panels))


def _lead(made: Made) -> str:
    if made.reasons and all(constant(v) for v in made.reasons.values()):
        names = ", ".join(meaning(name, made.settings).title for name in made.reasons)
        return f"{names}: the same in every row, so there is nothing to plot, and the seed decided."
    return "What the method knew about each row, in the pool and among the kept rows."


def _columns(made: Made, skip: frozenset[str]) -> tuple[list[Figure], list[Panel]]:
    figures, panels = [], []
    for name, values in made.reasons.items():
        if name in skip or constant(values) or not meaning(name, made.settings).drawn:
            continue
        if is_number(values):
            figures += one(made, name)
        elif not tally.is_free_text(values):
            panels.append(tally_of(made, name))
    return figures, panels
