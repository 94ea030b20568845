"""The chart of a comparison as an SVG file: accuracy by budget above, the difference from random
below.

Dots are means over seeds, bars 95% intervals; a bar that crosses the zero line below is no gain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from thresher import svg
from thresher.console.formatting import tick_text

if TYPE_CHECKING:
    from thresher.compare.table import Line

COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#E69F00",
    "#7A5195",
    "#8C564B",
)  # colour-blind safe
GREY, INK = "#888888", "#222222"
DASHED = {"stroke": INK, "stroke-dasharray": "5 4"}
WIDTH, LEFT, RIGHT, TOP = 760, 62, 190, 34
UPPER, LOWER, GAP = 250, 150, 46


def plot(lines: Sequence[Line]) -> str:
    """The SVG text. `lines`: of a `Comparison`, with `random` among the methods."""
    budgets = list(dict.fromkeys(x.budget for x in lines if x.method != "full"))
    methods = list(dict.fromkeys(x.method for x in lines if x.method != "full"))
    colour = {"random": GREY} | {
        m: COLOURS[i % len(COLOURS)] for i, m in enumerate(m for m in methods if m != "random")
    }
    full = next((x for x in lines if x.method == "full"), None)
    judged = [x for x in lines if x.verdict is not None]
    slot = (WIDTH - LEFT - RIGHT) / len(budgets)

    def x_of(line: Line) -> float:
        shift = (methods.index(line.method) - (len(methods) - 1) / 2) * min(
            22.0, 0.8 * slot / len(methods)
        )
        return LEFT + slot * (budgets.index(line.budget) + 0.5) + shift

    height = TOP + UPPER + (GAP + LOWER if judged else 0) + 34
    out = [svg.rect(0, 0, WIDTH, height, {"fill": "white"})]
    bounds = [v for x in lines for v in (x.mean.low, x.mean.high)]
    upper = _Axis(min(bounds), max(bounds), TOP, UPPER)
    out += upper.draw("accuracy, %")
    if full is not None:
        y = upper(full.mean.mean)
        out.append(svg.line(LEFT, y, WIDTH - RIGHT, y, DASHED))
    for x in (x for x in lines if x.method != "full"):
        out += _bar(
            x_of(x), upper(x.mean.low), upper(x.mean.mean), upper(x.mean.high), colour[x.method]
        )
    bottom = TOP + UPPER
    if judged:
        values = [
            v
            for x in judged
            if x.verdict
            for v in (x.verdict.difference.low, x.verdict.difference.high)
        ]
        lower = _Axis(min(values + [0.0]), max(values + [0.0]), TOP + UPPER + GAP, LOWER)
        out += lower.draw("method − random, points")
        zero = {"stroke": GREY, "stroke-width": "1.5"}
        out.append(svg.line(LEFT, lower(0), WIDTH - RIGHT, lower(0), zero))
        for x in judged:
            assert x.verdict is not None
            gap = x.verdict.difference
            out += _bar(x_of(x), lower(gap.low), lower(gap.mean), lower(gap.high), colour[x.method])
        bottom += GAP + LOWER
    for i, budget in enumerate(budgets):
        rows = next(x.rows for x in lines if x.budget == budget and x.method == "random")
        label = budget if not budget.endswith("%") else f"{budget} ({rows:,} rows)"
        out.append(_text(LEFT + slot * (i + 0.5), bottom + 22, label, INK, "middle"))
    for i, method in enumerate(methods):
        y = TOP + 8 + 18 * i
        out.append(svg.circle(WIDTH - RIGHT + 14, y, 4.5, {"fill": colour[method]}))
        out.append(_text(WIDTH - RIGHT + 26, y + 4, method, INK))
    if full is not None:
        y = TOP + 8 + 18 * len(methods)
        out.append(svg.line(WIDTH - RIGHT + 7, y, WIDTH - RIGHT + 21, y, DASHED))
        out.append(_text(WIDTH - RIGHT + 26, y + 4, f"full pool, {full.mean.mean:.1f}", INK))
    look = {
        "xmlns": "http://www.w3.org/2000/svg",
        "width": str(WIDTH),
        "height": str(height),
        "font-family": "system-ui, sans-serif",
        "font-size": "12",
    }
    return svg.document(out, WIDTH, height, look) + "\n"


class _Axis(svg.Linear):
    """A vertical axis with round ticks and some room beyond the values."""

    def __init__(self, low: float, high: float, top: float, height: float) -> None:
        margin = max(high - low, 1.0) * 0.08
        self.low, self.high, self.top = low - margin, high + margin, top
        super().__init__(self.low, self.high, top + height, top)

    def draw(self, title: str) -> list[str]:
        out = [_text(LEFT, self.top - 12, title, INK)]
        for tick in svg.ticks_between(self.low, self.high, 7):
            y = self(tick)
            out.append(svg.line(LEFT, y, WIDTH - RIGHT, y, {"stroke": "#e5e5e5"}))
            out.append(_text(LEFT - 8, y + 4, tick_text(tick), "#555555", "end"))
        return out


def _bar(x: float, low: float, mean: float, high: float, colour: str) -> list[str]:
    look = {"stroke": colour, "stroke-width": "2"}
    return [
        svg.line(x, low, x, high, look),
        svg.line(x - 4, low, x + 4, low, look),
        svg.line(x - 4, high, x + 4, high, look),
        svg.circle(x, mean, 4.5, {"fill": colour}),
    ]


def _text(x: float, y: float, text: str, colour: str, anchor: str = "start") -> str:
    return svg.text(x, y, text, anchor, {"fill": colour})
