"""The method section of a report: the method's reasons in the pool and among the kept rows.

The drawings of the method's own `explain` come first; any other reason is plotted by its type.
"""

from __future__ import annotations

from dataclasses import dataclass

from thresher.report import breakdown
from thresher.report.breakdown import Panel
from thresher.report.chart import Figure
from thresher.report.columns import constant, is_number, meaning
from thresher.report.drawings import draw
from thresher.report.figures import column_breakdown, histogram
from thresher.report.folder import LoadedSelection
from thresher.selection.groups import skill_labels


@dataclass(frozen=True)
class MethodSection:
    """The content of the method section: lead sentence, charts and bar panels."""

    lead: str
    figures: tuple[Figure, ...]
    panels: tuple[Panel, ...]


def method_section(selection: LoadedSelection) -> MethodSection:
    """The section on the selection's method; no figures and no panels if it has no reasons."""
    explained = selection.explanation
    drawn = [shape for drawing in explained.drawings for shape in draw(selection, drawing)]
    figures = [shape for shape in drawn if isinstance(shape, Figure)]
    panels = [shape for shape in drawn if isinstance(shape, Panel)]
    more_figures, more_panels = _columns(
        selection, explained.hidden | (explained.drawn if figures else frozenset())
    )
    return MethodSection(
        explained.lead or _lead(selection), (*figures, *more_figures), (*panels, *more_panels)
    )


def _lead(selection: LoadedSelection) -> str:
    if selection.reasons and all(constant(v) for v in selection.reasons.values()):
        names = ", ".join(meaning(name, selection.settings).title for name in selection.reasons)
        return f"{names}: the same in every row, so there is nothing to plot, and the seed decided."
    return "The method's values for each row, in the pool and among the kept rows."


def _columns(selection: LoadedSelection, skip: frozenset[str]) -> tuple[list[Figure], list[Panel]]:
    figures, panels = [], []
    if skill_labels(selection.reasons) is not None:
        skip |= {"skill", "skill_words"}  # shown with the sources: `breakdown.panels`
    for name, values in selection.reasons.items():
        if name in skip or constant(values) or not meaning(name, selection.settings).drawn:
            continue
        if is_number(values):
            figures += histogram(selection, name)
        elif not breakdown.is_free_text(values):
            panels.append(column_breakdown(selection, name))
    return figures, panels
