"""An SVG line chart of means with intervals by budget, one line per method.

Budgets are evenly spaced; methods are offset slightly so that their intervals do not overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from thresher import svg
from thresher.report import chart
from thresher.report.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH


@dataclass(frozen=True)
class Point:
    """One method at one budget. `at`: index of the budget. `low`, `high`: interval or None."""

    at: int
    mean: float
    low: float | None = None
    high: float | None = None
    dots: tuple[float, ...] = ()  # single seeds


@dataclass(frozen=True)
class Curve:
    """The line of one method. `css`: class of its colour, hue0 to hue7."""

    name: str
    css: str
    points: tuple[Point, ...]


def curves(
    curves: Sequence[Curve],
    budgets: Sequence[str],
    title: str,
    alt: str,
    level: float | None = None,
    zero: bool = False,
) -> Markup:
    """Draw the chart.

    Arguments:
        curves: one per method.
        budgets: labels of the budget axis.
        title: title of the value axis, with its unit.
        alt: text alternative.
        level: value of a dashed line, such as the accuracy with the full pool.
        zero: whether to mark 0.
    """
    values = [
        v
        for c in curves
        for p in c.points
        for v in (p.mean, p.low, p.high, *p.dots)
        if v is not None
    ]
    values += [level] if level is not None else []
    values += [0.0] if zero else []
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = max(high - low, 1.0) * 0.08
    y = svg.Linear(low - room, high + room, HEIGHT - BOTTOM, TOP)
    ticks = svg.ticks_between(low - room, high + room, 5)
    out = chart.frame(ticks, y, title, "budget, rows kept")
    slot = (WIDTH - LEFT - RIGHT) / max(len(budgets), 1)
    for i, budget in enumerate(budgets):
        out.append(chart.below_axis(LEFT + slot * (i + 0.5), budget))
    if zero:
        out.append(chart.across(y(0), "zero"))
    if level is not None:
        out.append(chart.across(y(level), "cut"))
        out.append(svg.text(WIDTH - RIGHT, y(level) - 4, "full pool", "end", "cutlabel"))
    step = min(14.0, 0.7 * slot / max(len(curves), 1))
    for j, curve in enumerate(curves):
        left = LEFT + slot / 2 + (j - (len(curves) - 1) / 2) * step
        places = [(left + slot * p.at, p) for p in curve.points]
        out.append(svg.path([(x, y(p.mean)) for x, p in places], f"path hue {curve.css}"))
        for x, p in places:
            if p.low is not None and p.high is not None:
                out.append(svg.line(x, y(p.low), x, y(p.high), f"whisker hue {curve.css}"))
            out += [svg.circle(x, y(dot), 2.2, f"dot hue {curve.css}") for dot in p.dots]
            out.append(svg.circle(x, y(p.mean), 4, f"mean hue {curve.css}"))
    return chart.finish(out, alt)
