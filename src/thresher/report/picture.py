"""The method's own picture: what it looked at, for the pool and for the rows it kept. Drawn from its reasons alone.

CLIPPER shows how well the kept rows mirror the pool, beside a random draw; MLLM-Selector what each group of necessity
gives; mmSSR capabilities and styles; error-driven the missing skills (from errors.json); methods by one number show the
cut. Any other column is drawn by its kind.
"""

from __future__ import annotations

from dataclasses import dataclass

from thresher.report import tally
from thresher.report.chart import Figure
from thresher.report.columns import constant, is_number, meaning
from thresher.report.figures import one, tally_of
from thresher.report.folder import Made
from thresher.report.method_pictures import Parts, clipper, error_driven, mllm_selector, mmssr
from thresher.report.tally import Panel


@dataclass(frozen=True)
class Picture:
    """What stands in the section on the method."""

    lead: str
    figures: tuple[Figure, ...]
    panels: tuple[Panel, ...]


def picture(made: Made) -> Picture:
    """The picture of this selection; with neither figures nor panels where the method has no reasons."""
    if made.method == "clipper" and _has(made, "nll", "nll_one_shot", "subset"):
        lead, figures, panels = clipper(made)
    elif made.method == "mllm_selector" and _has(made, "necessity", "group", "seed_row", "held"):
        lead, figures, panels = mllm_selector(made)
    elif made.method == "mmssr" and _has(made, "capability", "style"):
        lead, figures, panels = mmssr(made)
    elif made.method == "error_driven" and _has(made, "search_score", "missing_skill"):
        lead, figures, panels = error_driven(made)
    else:
        lead, figures, panels = _plain(made)
    drawn = {
        "clipper": {"nll", "nll_one_shot", "effect"},
        "mllm_selector": {"necessity", "group"},
        "mmssr": {"capability", "style", *(name for name in made.reasons if name.startswith(("score_", "teacher_")))},
        "error_driven": {"search_score", "missing_skill"},
    }
    skip = drawn.get(made.method, set()) if figures else set()
    more_figures, more_panels = _columns(made, skip)
    return Picture(lead, (*figures, *more_figures), (*panels, *more_panels))


def _has(made: Made, *names: str) -> bool:
    return all(name in made.reasons for name in names)


def _plain(made: Made) -> Parts:
    if made.method == "random":
        return "A random sample: every row had the same chance; no score was computed.", [], []
    if made.method == "stratified":
        return "A random sample of each source; no score was computed.", [], []
    if made.reasons and all(constant(v) for v in made.reasons.values()):
        names = ", ".join(meaning(name, made.settings).title for name in made.reasons)
        return f"{names}: the same in every row, so there is nothing to plot, and the seed decided.", [], []
    return "What the method knew about each row, in the pool and among the kept rows.", [], []


def _columns(made: Made, skip: set[str]) -> tuple[list[Figure], list[Panel]]:
    figures, panels = [], []
    for name, values in made.reasons.items():
        if name in skip or constant(values) or not meaning(name, made.settings).drawn:
            continue
        if is_number(values):
            figures += one(made, name)
        elif not (made.method == "stratified" and name == "source") and not tally.is_free_text(values):
            panels.append(tally_of(made, name))
    return figures, panels
